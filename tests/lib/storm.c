/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/ctxclient.h"

/* Law 22 from many threads: all that can be done to a context, at random, to contexts that all threads share.
 * Each slot holds a reference under a lock; a thread takes one of its own, and works without the lock. Run
 * under ThreadSanitizer and AddressSanitizer; by itself it looks for crashes, hangs and a cause that changes.
 */

#define SLOTS 24
#define PAIRS 8
#define THREADS 4

static struct {
        pthread_mutex_t lock;
        struct ctx *ctx;
} slots[SLOTS];

static const struct ctx_key key = CTX_KEY("storm");
static _Atomic unsigned long values, destroyed, registered, ran, stopped;
static unsigned rounds = 300000;

static unsigned next_random(unsigned *seed)
{
        *seed = *seed * 1664525 + 1013904223;
        return *seed >> 8;
}

static struct ctx *take(unsigned i)
{
        struct ctx *ctx;

        pthread_mutex_lock(&slots[i].lock);
        ctx = ctx_ref(slots[i].ctx);
        pthread_mutex_unlock(&slots[i].lock);
        return ctx;
}

static void put(unsigned i, struct ctx *ctx)
{
        struct ctx *old;

        pthread_mutex_lock(&slots[i].lock);
        old = slots[i].ctx;
        slots[i].ctx = ctx;
        pthread_mutex_unlock(&slots[i].lock);
        ctx_unref(old);
}

static void destroy(void *value)
{
        atomic_fetch_add(&destroyed, 1);
}

static void nothing(int s) {}

static void callback(void *userdata)
{
        atomic_fetch_add(&ran, 1);
}

/* Peers that hang up, while their descriptors' numbers are used again. */
static struct {
        pthread_mutex_t lock;
        int fds[2];
} pairs[PAIRS];

static void hang_up(unsigned i)
{
        pthread_mutex_lock(&pairs[i].lock);
        close(pairs[i].fds[1]);
        close(pairs[i].fds[0]);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i].fds) < 0)
                abort();
        pthread_mutex_unlock(&pairs[i].lock);
}

static struct ctx *derive_with_hangup(struct ctx *parent, unsigned i)
{
        struct ctx *ctx;

        pthread_mutex_lock(&pairs[i].lock);
        ctx = ctx_with_hangup(parent, pairs[i].fds[0]);
        if (i % 2)
                shutdown(pairs[i].fds[1], SHUT_WR);
        pthread_mutex_unlock(&pairs[i].lock);
        return ctx;
}

static struct ctx *derive(struct ctx *parent, unsigned *seed)
{
        struct ctx *others[2], *ctx;

        switch (next_random(seed) % 11) {
        case 0:
                return ctx_with_timeout(parent, next_random(seed) % 2000);
        case 1:
                return ctx_with_timeout_cause(parent, next_random(seed) % 4000, EPIPE, "storm");
        case 2:
                atomic_fetch_add(&values, 1);
                return ctx_with_value(parent, &key, &values, destroy);
        case 3:
                return next_random(seed) % 8 ? ctx_with_cancel(parent) : ctx_without_cancel(parent);
        case 4:
                return ctx_readonly(parent);
        case 5:
                others[0] = take(next_random(seed) % SLOTS);
                others[1] = take(next_random(seed) % SLOTS);
                ctx = ctx_merge(parent, others, 2);
                ctx_unref(others[0]);
                ctx_unref(others[1]);
                return ctx;
        case 6:
                hang_up(next_random(seed) % PAIRS);
                return derive_with_hangup(parent, next_random(seed) % PAIRS);
        case 7:
                return ctx_with_signals(parent, (int[]){SIGUSR1, SIGUSR2}, 1 + next_random(seed) % 2);
        default:
                return ctx_with_cancel(parent);
        }
}

static void look(struct ctx *ctx)
{
        int error, again, r = ctx_err(ctx);
        const char *message, *second;

        if (r == 0)
                return;
        if (ctx_cause(ctx, &error, &message) != 1 || error <= 0 || !message[0])
                abort();
        if (ctx_cause(ctx, &again, &second) != 1 || again != error || second != message || ctx_err(ctx) != r)
                abort();
}

/* On a child that is surely cancelled, since a callback that waits keeps its context for ever. Its deadline
 * may pass while the callback is stopped and the context is given up. */
static void call_back(struct ctx *parent, unsigned *seed)
{
        struct ctx *ctx = next_random(seed) % 2 ? ctx_with_cancel(parent)
                                                : ctx_with_timeout(parent, next_random(seed) % 100);
        struct ctx_after *after = ctx_after_func(ctx, callback, NULL);

        if (!after)
                abort();
        atomic_fetch_add(&registered, 1);
        if (next_random(seed) % 3 == 0 && ctx_after_stop(after) == 1)
                atomic_fetch_add(&stopped, 1);
        ctx_cancel(ctx);
        ctx_unref(ctx);
        if (next_random(seed) % 2 && ctx_after_stop_wait(after) == 1)
                atomic_fetch_add(&stopped, 1);
        ctx_after_unref(after);
}

static void extend(struct ctx *ctx, unsigned *seed)
{
        struct timespec ts;
        uint64_t usec;
        int r;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        usec = (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000 + next_random(seed) % 4000;
        r = ctx_extend(ctx, next_random(seed) % 4 ? usec : UINT64_MAX);
        if (r != 0 && r != -EALREADY && r != -EINVAL && r != -EPERM)
                abort();
}

static void *storm(void *userdata)
{
        unsigned seed = (unsigned) (uintptr_t) userdata;

        for (unsigned i = 0; i < rounds; i++) {
                unsigned slot = next_random(&seed) % SLOTS;
                struct ctx *ctx = take(slot), *child;

                switch (next_random(&seed) % 13) {
                case 0:
                case 1:
                case 2:
                case 3:
                        child = derive(ctx, &seed);
                        if (!child)
                                abort();
                        put(next_random(&seed) % SLOTS, child);
                        break;
                case 4:
                        ctx_cancel_cause(ctx, EIO, "by the storm");
                        break;
                case 5:
                        ctx_cancel(ctx);
                        break;
                case 6:
                        if (ctx_wait(ctx, next_random(&seed) % 200) == -EINVAL)
                                abort();
                        break;
                case 7:
                        call_back(ctx, &seed);
                        break;
                case 8:
                        if (next_random(&seed) % 4 == 0 && ctx_done_fd(ctx) == -EINVAL)
                                abort();
                        break;
                case 9:
                        put(slot, ctx_with_cancel(ctx_background()));
                        if (i % 8 == 0)
                                kill(getpid(), SIGUSR1);
                        break;
                case 10:
                        extend(ctx, &seed);
                        break;
                default:
                        look(ctx);
                        if (ctx_value(ctx, &key) && ctx_value(ctx, &key) != &values)
                                abort();
                        break;
                }
                ctx_unref(ctx);
        }
        return NULL;
}

int main(int argc, char **argv)
{
        pthread_t threads[THREADS];

        signal(SIGUSR1, nothing); /* when no context awaits it */
        if (argc > 1)
                rounds = (unsigned) atoi(argv[1]);
        for (unsigned i = 0; i < SLOTS; i++) {
                pthread_mutex_init(&slots[i].lock, NULL);
                slots[i].ctx = ctx_with_cancel(ctx_background());
        }
        for (unsigned i = 0; i < PAIRS; i++) {
                pthread_mutex_init(&pairs[i].lock, NULL);
                if (socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i].fds) < 0)
                        abort();
        }
        for (unsigned i = 0; i < THREADS; i++)
                if (pthread_create(&threads[i], NULL, storm, (void *) (uintptr_t) (i + 1)) != 0)
                        abort();
        for (unsigned i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);

        /* What is left: cancelled, so that each callback has run or was stopped, and each value was
         * destroyed. */
        for (unsigned i = 0; i < SLOTS; i++) {
                ctx_cancel(slots[i].ctx);
                ctx_unref(slots[i].ctx);
        }
        for (int i = 0; i < 6000 && (destroyed < values || ran + stopped < registered); i++)
                usleep(10000);
        printf("%lu values, %lu destroyed; %lu callbacks, %lu ran, %lu stopped\n", values, destroyed,
                        registered, ran, stopped);
        return ran + stopped != registered || destroyed != values;
}
