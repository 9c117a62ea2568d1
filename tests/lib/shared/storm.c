/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/ctxclient.h"
#include "tests/harness/daemon.h"

/* Laws 22 and 44 for shared contexts: threads take and give up references on contexts that become done
 * just then, by a cancel, a deadline, a release, or in the daemon alone, while the library's own threads
 * find them by their handles, lists and timers. Several clients, several objects for one context, and
 * clients that go while their contexts stay. Run under ThreadSanitizer and AddressSanitizer; by itself it
 * looks for crashes and hangs, and counts callbacks.
 *
 *     storm [SECONDS] */

#define SLOTS 12
#define THREADS 4

static struct {
        pthread_mutex_t lock;
        struct ctx *ctx;
} slots[SLOTS];

static struct daemon the_daemon;
static _Atomic(struct ctx_client *) clients[2];
static pthread_mutex_t clients_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned long made, registered, ran, stopped;
static _Atomic bool over;

#define CHECK(condition)                                                              \
        do {                                                                          \
                if (!(condition)) {                                                   \
                        fprintf(stderr, "%d: %s: %s\n", __LINE__, #condition, why()); \
                        abort();                                                      \
                }                                                                     \
        } while (0)

static const char *why(void)
{
        return ctx_client_error(NULL);
}

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

static struct ctx *create(unsigned *seed, uint64_t timeout_usec)
{
        static const char *const values[] = {"org.example.storm=1", NULL};
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx *ctx;

        options.timeout_usec = timeout_usec;
        options.values = values;
        pthread_mutex_lock(&clients_lock);
        ctx = ctx_create(clients[next_random(seed) % 2], "storm/", &options);
        pthread_mutex_unlock(&clients_lock);
        CHECK(ctx);
        atomic_fetch_add(&made, 1);
        return ctx;
}

/* Another object for the same context. NULL: the daemon has forgotten it. */
static struct ctx *open_again(struct ctx *ctx, unsigned *seed)
{
        struct ctx *same;

        pthread_mutex_lock(&clients_lock);
        same = ctx_open(clients[next_random(seed) % 2], ctx_path(ctx));
        pthread_mutex_unlock(&clients_lock);
        CHECK(same || errno == ENOENT);
        return same;
}

static void callback(void *userdata)
{
        atomic_fetch_add(&ran, 1);
}

/* The daemon may have forgotten a context that is done; and a call under a deadline does not wait for
 * longer. */
static bool has_fd(struct ctx *ctx)
{
        int fd = ctx_done_fd(ctx);

        CHECK(fd >= 0 || fd == -ENOENT || fd == -ETIMEDOUT);
        return fd >= 0;
}

static void poll_both(struct ctx *a, struct ctx *b, unsigned *seed)
{
        struct pollfd fds[] = {
                        {.fd = ctx_done_fd(a), .events = POLLIN}, {.fd = ctx_done_fd(b), .events = POLLIN}};

        poll(fds, 2, (int) (next_random(seed) % 3));
}

/* Made, derived from, looked at and given up as its deadline passes. */
static void make_one_that_passes(unsigned *seed)
{
        struct ctx *ctx = create(seed, 200 + next_random(seed) % 600), *local = ctx_with_cancel(ctx);
        bool child_first = next_random(seed) % 2;

        CHECK(local);
        poll_both(ctx, local, seed);
        ctx_unref(child_first ? local : ctx);
        if (next_random(seed) % 4 == 0)
                usleep(next_random(seed) % 400);
        ctx_unref(child_first ? ctx : local);
}

static void derive_from_one(struct ctx *ctx, unsigned *seed)
{
        struct ctx *local = next_random(seed) % 2 ? ctx_with_cancel(ctx)
                                                  : ctx_with_timeout(ctx, next_random(seed) % 1000);
        struct ctx *view = ctx_readonly(local);
        struct ctx_after *after = NULL;

        CHECK(local && view);
        if (next_random(seed) % 2 && has_fd(ctx))
                (void) has_fd(local);
        if (next_random(seed) % 2)
                after = ctx_after_func(next_random(seed) % 2 ? ctx : view, callback, NULL);
        if (after)
                atomic_fetch_add(&registered, 1);
        if (next_random(seed) % 2)
                ctx_cancel(local);
        ctx_unref(local);
        if (after && next_random(seed) % 2)
                atomic_fetch_add(&stopped, ctx_after_stop(after) == 1);
        ctx_after_unref(after);
        ctx_unref(view);
}

static void merge_two(struct ctx *a, struct ctx *b, unsigned *seed)
{
        struct ctx *merged = ctx_merge(a, &b, 1);
        int r;

        CHECK(merged);
        if (next_random(seed) % 2)
                (void) has_fd(merged);
        r = ctx_wait(merged, next_random(seed) % 300);
        CHECK(r == 0 || r == ctx_err(merged));
        ctx_unref(merged);
}

static void look_at(struct ctx *ctx, unsigned *seed)
{
        int r = ctx_wait(ctx, next_random(seed) % 300), error;
        const char *message;

        CHECK(r == 0 || r == ctx_err(ctx));
        if (ctx_cause(ctx, &error, &message) == 1)
                CHECK(strlen(message) > 0);
        (void) ctx_value_string(ctx, "org.example.storm");
        CHECK(ctx_enter(ctx) == 0);
        (void) ctx_deadline(ctx, NULL);
        ctx_leave(ctx);
}

static void end_one(struct ctx *ctx, unsigned *seed)
{
        int r = next_random(seed) % 2 ? ctx_cancel(ctx) : ctx_release(ctx);

        CHECK(r >= 0 || r == -ENOENT);
        CHECK(ctx_err(ctx) < 0);
}

/* Contexts keep their client. */
static void replace_client(unsigned *seed)
{
        struct ctx_client *client = ctx_client_new(the_daemon.address), *old;
        unsigned i = next_random(seed) % 2;

        CHECK(client);
        pthread_mutex_lock(&clients_lock);
        old = atomic_exchange(&clients[i], client);
        pthread_mutex_unlock(&clients_lock);
        ctx_client_unref(old);
}

static void step(unsigned *seed)
{
        unsigned i = next_random(seed) % SLOTS, what = next_random(seed) % 16;
        struct ctx *ctx, *other;

        if (what < 4) {
                make_one_that_passes(seed);
                return;
        }
        if (what == 4) {
                put(i, create(seed, next_random(seed) % 2 ? UINT64_MAX : next_random(seed) % 5000));
                return;
        }
        if (what == 5 && next_random(seed) % 16 == 0) {
                replace_client(seed);
                return;
        }
        ctx = take(i);
        if (what < 9) {
                derive_from_one(ctx, seed);
        } else if (what < 11) {
                end_one(ctx, seed);
        } else if (what < 13) {
                other = take(next_random(seed) % SLOTS);
                merge_two(ctx, other, seed);
                ctx_unref(other);
        } else if (what < 15) {
                other = open_again(ctx, seed);
                if (other)
                        derive_from_one(other, seed);
                ctx_unref(other);
        } else {
                look_at(ctx, seed);
        }
        ctx_unref(ctx);
}

static void *run(void *userdata)
{
        unsigned seed = (unsigned) (uintptr_t) userdata * 2654435761u + 1;

        while (!over)
                step(&seed);
        return NULL;
}

int main(int argc, char *argv[])
{
        unsigned seed = 7, seconds = argc > 1 ? (unsigned) atoi(argv[1]) : 4;
        pthread_t threads[THREADS];
        struct ctx *root;

        daemon_start(&the_daemon, "[Daemon]\nRetainSec=50ms\nProbe=off\n");
        for (int i = 0; i < 2; i++) {
                clients[i] = ctx_client_new(the_daemon.address);
                CHECK(clients[i] != NULL);
        }
        root = ctx_create(clients[0], "storm", NULL);
        CHECK(root);
        for (unsigned i = 0; i < SLOTS; i++) {
                pthread_mutex_init(&slots[i].lock, NULL);
                slots[i].ctx = create(&seed, UINT64_MAX);
        }
        for (uintptr_t n = 0; n < THREADS; n++)
                CHECK(pthread_create(&threads[n], NULL, run, (void *) (n + 1)) == 0);
        sleep(seconds);
        over = true;
        for (int n = 0; n < THREADS; n++)
                pthread_join(threads[n], NULL);

        /* All are below it. */
        CHECK(ctx_release(root) == 0);
        for (unsigned i = 0; i < SLOTS; i++) {
                CHECK(ctx_err(slots[i].ctx) < 0);
                ctx_unref(slots[i].ctx);
        }
        ctx_unref(root);
        for (int i = 0; i < 2; i++)
                ctx_client_unref(clients[i]);
        for (int i = 0; i < 60000 && ran + stopped < registered; i++)
                usleep(1000);
        printf("made %lu, callbacks: registered %lu, ran %lu, stopped %lu\n", made, registered, ran, stopped);
        CHECK(ran + stopped == registered);
        CHECK(daemon_stop(&the_daemon) == 0);
        return 0;
}
