/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/law/local.h"

/* Law 42: a thread that is cancelled (pthread_cancel) in a call that waits. The calls that are like a
 * cancellation point of the C library end with the thread, and leave nothing behind; no byte and no child is
 * lost. */

static struct ctx *ctx;
static int pair[2], listener;
static pid_t child;
static struct ctx_task *task;

static void open_listener(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, sizeof(sa_family_t)), 0);
        ck_assert_int_eq(listen(listener, 1), 0);
}

static void setup(void)
{
        char *const command[] = {(char *) "sleep", (char *) "1000", NULL};

        ctx = ctx_with_cancel(ctx_background());
        ck_assert_int_ge(ctx_done_fd(ctx), 0);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        open_listener();
        child = fork_tied();
        if (child == 0)
                for (;;)
                        pause();
        task = ctx_spawn(ctx_background(), command, NULL);
        ck_assert_ptr_nonnull(task);
}

static void teardown(void)
{
        kill(child, SIGKILL);
        ck_assert_int_eq(ctx_waitpid(ctx, child, NULL), child);
        ck_assert_int_eq(ctx_task_kill(task, SIGKILL), 0);
        ck_assert_int_eq(ctx_task_wait(task, NULL), 0);
        ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
        ctx_task_unref(task);
        close(listener);
        close(pair[0]);
        close(pair[1]);
        ctx_unref(ctx);
}

static void read_it(void)
{
        char byte;

        (void) ctx_read(ctx, pair[0], &byte, 1);
}

static void receive_it(void)
{
        char byte;

        (void) ctx_recv(ctx, pair[0], &byte, 1, 0);
}

static void poll_many(void)
{
        struct pollfd fds[40];

        for (int i = 0; i < 40; i++)
                fds[i] = (struct pollfd){.fd = pair[0], .events = POLLIN};
        (void) ctx_poll(ctx, fds, 40, UINT64_MAX);
}

static void accept_it(void)
{
        (void) ctx_accept(ctx, listener, NULL, NULL);
}

static void wait_for_child(void)
{
        (void) ctx_waitpid(ctx, child, NULL);
}

static void wait_for_task(void)
{
        (void) ctx_task_wait(task, NULL);
}

static void wait_for_task_with_ctx(void)
{
        (void) !ctx_task_wait_for(ctx, task, NULL);
}

static void (*const calls[])(void) = {
                read_it,
                receive_it,
                poll_many,
                accept_it,
                wait_for_child,
                wait_for_task,
                wait_for_task_with_ctx,
};

static _Atomic pid_t tid;

static void *call(void *userdata)
{
        atomic_store(&tid, gettid());
        calls[(intptr_t) userdata]();
        return NULL;
}

START_TEST(in_a_call_that_waits)
{
        pthread_t thread;
        void *result;
        char byte = 0;

        /* Also before the call, and at any moment while it begins. */
        for (int i = 0; i < 30; i++) {
                atomic_store(&tid, 0);
                ck_assert_int_eq(pthread_create(&thread, NULL, call, (void *) (intptr_t) _i), 0);
                if (i < 10)
                        ck_assert_happens(atomic_load(&tid) != 0 && sleeps(tid));
                else
                        for (int spin = 0; spin < i * 1000; spin++)
                                (void) atomic_load(&tid);
                ck_assert_int_eq(pthread_cancel(thread), 0);
                ck_assert_int_eq(pthread_join(thread, &result), 0);
                ck_assert_ptr_eq(result, PTHREAD_CANCELED);
        }
        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_int_eq(write(pair[1], "x", 1), 1);
        ck_assert_int_eq(ctx_read(ctx, pair[0], &byte, 1), 1);
        ck_assert_int_eq(byte, 'x');
}
END_TEST

int main(void)
{
        const TTest *const none[] = {NULL};
        Suite *suite = suite_create("cancelled threads");
        TCase *tcase = add_case(suite, "calls", none);

        tcase_add_loop_test(tcase, in_a_call_that_waits, 0, sizeof(calls) / sizeof(calls[0]));
        tcase_add_checked_fixture(tcase, fds_before, fds_after);
        tcase_add_checked_fixture(tcase, setup, teardown);
        return run_suite(suite);
}
