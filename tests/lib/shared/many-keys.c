/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "lib/local/inside.h"
#include "tests/lib/shared/daemon.h"

/* Law 42 in a program that has keys of its own (pthread_key_create(3)), more than the C library has room for
 * without calloc(), and code that it has made itself (__register_frame()): nothing that ctx_cancel() and
 * ctx_err() do in a signal handler calls malloc(), for it may have been interrupted. */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);
void __register_frame(void *begin);

/* The C library finds them, too. */
#define EXPORTED __attribute__((visibility("default")))

static __thread bool in_handler;
static _Atomic int n_allocations;

EXPORTED void *malloc(size_t size)
{
        n_allocations += in_handler;
        return __libc_malloc(size);
}

EXPORTED void *calloc(size_t n, size_t size)
{
        n_allocations += in_handler;
        return __libc_calloc(n, size);
}

EXPORTED void *realloc(void *p, size_t size)
{
        n_allocations += in_handler;
        return __libc_realloc(p, size);
}

EXPORTED void free(void *p)
{
        n_allocations += in_handler;
        __libc_free(p);
}

/* Before those of the library. */
__attribute__((constructor(101))) static void make_keys(void)
{
        pthread_key_t key;

        for (int i = 0; i < 40; i++)
                pthread_key_create(&key, NULL);
}

static struct ctx *target;
static int result, err;

static void handler(int signal)
{
        in_handler = true;
        result = ctx_cancel(target);
        err = ctx_err(target);
        in_handler = false;
}

/* Its first use of the library is in a handler. */
static void *be_interrupted(void *unused)
{
        raise(SIGUSR1);
        return NULL;
}

static void cancel_in_another_thread(struct ctx *ctx)
{
        pthread_t thread;

        target = ctx;
        signal(SIGUSR1, handler);
        ck_assert_int_eq(pthread_create(&thread, NULL, be_interrupted, NULL), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert_int_eq(err, -ECANCELED);
        ck_assert_int_eq(n_allocations, 0);
}

START_TEST(law_42_a_local_context)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background()), *child = ctx_with_cancel(ctx);

        cancel_in_another_thread(ctx);
        ck_assert_int_eq(result, 1);
        ctx_unref(child);
        ctx_unref(ctx);
}
END_TEST

START_TEST(law_42_with_a_text_for_the_error)
{
        struct daemon mine = {};
        struct ctx_client *client;
        struct ctx *ctx, *other;

        daemon_start(&mine, NULL);
        client = new_client();
        ctx = make(client, fresh_path());
        daemon_restart(&mine);
        other = make(client, fresh_path());
        cancel_in_another_thread(ctx);
        ctx_unref(other);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&mine);
}
END_TEST

/* Code that the program has made, with a description for the unwinder, which sorts these when it first needs
 * one. */
static void make_code(void)
{
#ifdef __x86_64__
        _Alignas(8) static uint32_t frames[] = {
                        20, 0, 0x78010001, 0x08070c10, 0x190, 0, 24, 28, 0, 0, 16, 0, 0, 0};
        uintptr_t code = (uintptr_t) frames;

        memcpy(frames + 8, &code, sizeof code);
        __register_frame(frames);
#endif
}

START_TEST(law_42_without_a_daemon)
{
        struct daemon mine = {};
        struct ctx_client *client;
        struct ctx *ctx;

        make_code();
        daemon_start(&mine, NULL);
        client = new_client();
        ctx = make(client, fresh_path());
        daemon_kill(&mine);
        cancel_in_another_thread(ctx);
        ck_assert_int_eq(result, 1);
        daemon_again(&mine);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&mine);
}
END_TEST

static void *use_and_end(void *unused)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background());

        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ctx_unref(ctx);
        return inside_me();
}

/* What a thread has of the library's, another one has after it. */
START_TEST(threads_that_have_ended_leave_nothing)
{
        void *first[64], *place;
        unsigned n = 0, i;
        pthread_t thread;

        for (unsigned k = 0; k < 1000; k++) {
                ck_assert_int_eq(pthread_create(&thread, NULL, use_and_end, NULL), 0);
                ck_assert_int_eq(pthread_join(thread, &place), 0);
                for (i = 0; i < n && first[i] != place; i++)
                        ;
                if (i < n)
                        continue;
                ck_assert_uint_lt(n, 64);
                first[n++] = place;
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {law_42_a_local_context, law_42_with_a_text_for_the_error,
                        law_42_without_a_daemon, threads_that_have_ended_leave_nothing, NULL};

        return run_tests_with_daemon("lib-many-keys", tests);
}
