/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/ctxclient.h"
#include "tests/bench/local/floor.h"

/* libctxclient in one process. Each line: what, and nanoseconds for one. The floors are measured in the same
 * run. */

static double now(void)
{
        struct timespec ts;

        /* The thread's own time, so that a busy machine does not count. */
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}

static double wall(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}

#define MEASURE(name, n, ...)                                               \
        do {                                                                \
                double start_ = now();                                      \
                for (long i_ = 0; i_ < (long) (n); i_++) {                  \
                        __VA_ARGS__;                                        \
                }                                                           \
                printf("%s %.3f\n", name, (now() - start_) / (double) (n)); \
        } while (0)

static const struct ctx_key key = CTX_KEY("key");
static struct ctx *parent;
static volatile long sink;

static void nothing(void *userdata) {}

static void check(void)
{
        struct ctx *timed = ctx_with_timeout(parent, UINT64_C(3600000000)), *deep = ctx_ref(parent);
        _Atomic uint32_t word = 0;

        for (int i = 0; i < 1000; i++) {
                struct ctx *child = ctx_with_cancel(deep);

                ctx_unref(deep);
                deep = child;
        }
        MEASURE("floor-check", 50000000, sink += floor_load(&word));
        MEASURE("check", 50000000, sink += ctx_err(parent));
        MEASURE("check-deep", 50000000, sink += ctx_err(deep));
        MEASURE("floor-check-deadline", 10000000, sink += floor_load_and_clock(&word));
        MEASURE("check-deadline", 10000000, sink += ctx_err(timed));
        ctx_unref(deep);
        ctx_unref(timed);
}

static void derive(void)
{
        struct ctx_after *after;

        MEASURE("floor-derive", 10000000, void *p = malloc(88); __asm__ volatile(""
                                                                                 :
                                                                                 : "r"(p)
                                                                                 : "memory");
                        free(p));
        MEASURE("derive", 5000000, struct ctx *ctx = ctx_with_cancel(parent); ctx_cancel(ctx);
                        ctx_unref(ctx));
        MEASURE("derive-timeout", 3000000, struct ctx *ctx = ctx_with_timeout(parent, 1000000000);
                        ctx_cancel(ctx); ctx_unref(ctx));
        after = ctx_after_func(parent, nothing, NULL);
        MEASURE("callback", 3000000, struct ctx_after *a = ctx_after_func(parent, nothing, NULL);
                        ctx_after_stop(a); ctx_after_unref(a));
        ctx_after_stop(after);
        ctx_after_unref(after);
}

/* The floor and ours in turns, since system calls take a different time in each moment. */
static void descriptors(void)
{
        for (int turn = 0; turn < 20; turn++) {
                MEASURE("floor-done-fd", 10000, int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); close(fd));
                MEASURE("done-fd", 10000, struct ctx *ctx = ctx_with_cancel(parent); sink += ctx_done_fd(ctx);
                                ctx_unref(ctx));
        }
}

/* Calls that find what they want at once, each with a context of its own, and the same without one. */
static void calls(void)
{
        int fds[2];
        char byte;

        if (pipe(fds) < 0)
                abort();
        for (int turn = 0; turn < 20; turn++) {
                MEASURE("floor-poll", 10000, struct pollfd fd = {.fd = fds[1], .events = POLLOUT};
                                sink += poll(&fd, 1, -1));
                MEASURE("poll", 10000, struct ctx *ctx = ctx_with_cancel(parent);
                                struct pollfd fd = {.fd = fds[1], .events = POLLOUT};
                                sink += ctx_poll(ctx, &fd, 1, UINT64_MAX); ctx_cancel(ctx); ctx_unref(ctx));
                MEASURE("poll-timeout", 10000, struct ctx *ctx = ctx_with_timeout(parent, 1000000000);
                                struct pollfd fd = {.fd = fds[1], .events = POLLOUT};
                                sink += ctx_poll(ctx, &fd, 1, UINT64_MAX); ctx_cancel(ctx); ctx_unref(ctx));
                MEASURE("floor-read-write", 10000, sink += write(fds[1], "x", 1) + read(fds[0], &byte, 1));
                MEASURE("read-write", 10000, struct ctx *ctx = ctx_with_cancel(parent);
                                sink += ctx_write(ctx, fds[1], "x", 1) + ctx_read(ctx, fds[0], &byte, 1);
                                ctx_cancel(ctx); ctx_unref(ctx));
        }
        close(fds[0]);
        close(fds[1]);
}

/* With a daemon: $CTXD_ADDRESS. It comes last, since system calls take longer with a second thread. */
static void shared(void)
{
        struct ctx_client *client = getenv("CTXD_ADDRESS") ? ctx_client_new(getenv("CTXD_ADDRESS")) : NULL;
        struct ctx *top = client ? ctx_create(client, "/bench", NULL) : NULL,
                   *below = top ? ctx_with_cancel(top) : NULL;

        if (below) {
                MEASURE("check-shared", 50000000, sink += ctx_err(top));
                MEASURE("check-below-shared", 50000000, sink += ctx_err(below));
        }
        ctx_unref(below);
        ctx_unref(top);
        ctx_client_unref(client);
}

static void values(void)
{
        struct ctx_key other[10];
        struct ctx *top = ctx_with_value(parent, &key, parent, NULL), *ctx = ctx_ref(top);

        for (int i = 0; i < 10; i++) {
                struct ctx *child = ctx_with_value(ctx, &other[i], NULL, NULL);

                ctx_unref(ctx);
                ctx = child;
        }
        MEASURE("value", 20000000, sink += ctx_value(ctx, &key) != NULL);
        ctx_unref(ctx);
        ctx_unref(top);
}

static void wide(const char *name, size_t n)
{
        struct ctx **all = malloc(n * sizeof(struct ctx *)), *top = ctx_with_cancel(parent);
        size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
        double start;

        for (size_t i = 0; i < n; i++)
                all[i] = ctx_with_cancel(top);
        if (n >= 1000000)
                printf("bytes %.1f\n",
                                (double) (mallinfo2().uordblks + mallinfo2().hblkhd - before) / (double) n);
        start = now();
        ctx_cancel(top);
        printf("%s %.3f\n", name, (now() - start) / (double) n);
        for (size_t i = 0; i < n; i++)
                ctx_unref(all[i]);
        ctx_unref(top);
        free(all);
}

static void deadlines(void)
{
        size_t n = 1000000, before;
        struct ctx **all = malloc(n * sizeof(struct ctx *));
        double start;

        before = mallinfo2().uordblks + mallinfo2().hblkhd;
        start = now();
        for (size_t i = 0; i < n; i++)
                all[i] = ctx_with_timeout(parent, 1000000000 + i);
        printf("deadlines %.3f\n", (now() - start) / (double) n);
        printf("deadline-bytes %.1f\n",
                        (double) (mallinfo2().uordblks + mallinfo2().hblkhd - before) / (double) n);
        for (size_t i = 0; i < n; i++)
                ctx_unref(all[i]);
        free(all);
}

#define THREAD_ROUNDS 3000000

static pthread_barrier_t barrier;

static void *derive_thread(void *userdata)
{
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < THREAD_ROUNDS; i++) {
                struct ctx *ctx = ctx_with_cancel(parent);

                ctx_cancel(ctx);
                ctx_unref(ctx);
        }
        return NULL;
}

static void threads(void)
{
        pthread_t thread[2];
        double start;

        pthread_barrier_init(&barrier, NULL, 3);
        for (int i = 0; i < 2; i++)
                if (pthread_create(&thread[i], NULL, derive_thread, NULL) != 0)
                        abort();
        start = wall();
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < 2; i++)
                pthread_join(thread[i], NULL);
        printf("two-threads %.3f\n", 2.0 * THREAD_ROUNDS / (wall() - start) * 1e3); /* millions a second */
}

int main(void)
{
        parent = ctx_with_cancel(ctx_background());
        check();
        derive();
        descriptors();
        calls();
        values();
        wide("cancel-1000", 1000);
        wide("cancel-100000", 100000);
        wide("cancel-1000000", 1000000);
        deadlines();
        threads();
        shared();
        ctx_unref(parent);
        return 0;
}
