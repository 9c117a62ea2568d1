/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "lib/local/shared.h"

/* Laws 2, 22 and 44 for shared contexts, without a daemon: threads take and give up references, derive,
 * merge, register callbacks and wait, while another thread ends the contexts as the daemon does, and as the
 * library's watcher does revives what it finds in a list. Run under ThreadSanitizer and AddressSanitizer; by
 * itself it looks for crashes, hangs and a cause that changes. */

#define THREADS 3
#define PARTS 3

struct fake {
        struct ctx_shared shared;
        TAILQ_ENTRY(fake) entry;
        _Atomic uint64_t word, deadline;
        int fd;
};

static TAILQ_HEAD(, fake) fakes = TAILQ_HEAD_INITIALIZER(fakes);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned long made, freed, registered, ran, stopped;
static _Atomic int working = THREADS;
static unsigned rounds = 20000;

static int fake_settle(struct ctx_shared *shared, uint64_t word)
{
        return word / 4 == shared->given / 4 ? (int) (word & 3) : STATE_WORD_CANCELED;
}

static int fake_cause(struct ctx_shared *shared, int *ret_error, const char **ret_message)
{
        *ret_error = EPIPE;
        *ret_message = (const char *) shared; /* by its address one sees whose it is */
        return 1;
}

static int fake_done_fd(struct ctx_shared *shared, uint64_t *ret_usec)
{
        return ((struct fake *) shared)->fd;
}

static int fake_watch(struct ctx_shared *shared)
{
        return 0;
}

static int fake_cancel(struct ctx_shared *shared, int error, const char *message)
{
        struct fake *fake = (struct fake *) shared;
        uint64_t active = shared->given;
        bool first = atomic_compare_exchange_strong(&fake->word, &active, active | STATE_WORD_CANCELED);

        eventfd_write(fake->fd, 1);
        ctx_finish(&shared->wide.ctx, ctx_state(&shared->wide.ctx), CAUSE_SHARED);
        return first;
}

static void fake_free(struct ctx_shared *shared)
{
        struct fake *fake = (struct fake *) shared;

        pthread_mutex_lock(&lock);
        TAILQ_REMOVE(&fakes, fake, entry);
        pthread_mutex_unlock(&lock);
        close(fake->fd);
        free(fake);
        atomic_fetch_add(&freed, 1);
}

static const struct ctx_shared_ops ops = {
                .settle = fake_settle,
                .cause = fake_cause,
                .done_fd = fake_done_fd,
                .watch = fake_watch,
                .cancel = fake_cancel,
                .free = fake_free,
};

/* Not inline: gcc would see a calloc() that ctx_unref() frees. */
__attribute__((noinline)) static struct ctx *fake_new(unsigned random)
{
        struct fake *fake = calloc(1, sizeof(struct fake));

        ctx_shared_init(&fake->shared, &ops);
        fake->shared.given = 7 * 4;
        fake->word = fake->shared.given;
        fake->deadline = random % 4 ? UINT64_MAX : now_boottime_usec() + random % 500;
        fake->shared.word = &fake->word;
        fake->shared.deadline_usec = &fake->deadline;
        fake->fd = eventfd(0, EFD_CLOEXEC);
        pthread_mutex_lock(&lock);
        TAILQ_INSERT_TAIL(&fakes, fake, entry);
        pthread_mutex_unlock(&lock);
        atomic_fetch_add(&made, 1);
        return &fake->shared.wide.ctx;
}

/* The daemon and the watcher in one. */
static void *end_them(void *unused)
{
        while (atomic_load(&working) > 0 || atomic_load(&freed) < atomic_load(&made)) {
                struct fake *fake;
                unsigned n = 0;

                pthread_mutex_lock(&lock);
                TAILQ_FOREACH (fake, &fakes, entry)
                        if (n++ % 2 == 0 && ctx_ref_if_alive(&fake->shared.wide.ctx))
                                break;
                pthread_mutex_unlock(&lock);
                if (!fake)
                        continue;
                fake_cancel(&fake->shared, 0, NULL);
                ctx_unref(&fake->shared.wide.ctx);
        }
        return NULL;
}

static unsigned next_random(unsigned *seed)
{
        *seed = *seed * 1664525 + 1013904223;
        return *seed >> 8;
}

static void callback(void *userdata)
{
        atomic_fetch_add(&ran, 1);
}

static void look(struct ctx *ctx)
{
        int error, again, r = ctx_err(ctx);
        const char *whose, *second;

        if (r == 0)
                return;
        if (ctx_cause(ctx, &error, &whose) != 1 || ctx_cause(ctx, &again, &second) != 1)
                abort();
        sched_yield();
        if (ctx_err(ctx) != r || again != error || second != whose || ctx_cause(ctx, &again, &second) != 1 ||
                        again != error || second != whose)
                abort();
}

static void *storm(void *userdata)
{
        unsigned seed = (unsigned) (uintptr_t) userdata;

        for (unsigned i = 0; i < rounds; i++) {
                struct ctx *parts[PARTS], *merge, *child;
                struct ctx_after *after;
                struct pollfd fds[2];

                for (int j = 0; j < PARTS; j++)
                        parts[j] = fake_new(next_random(&seed));
                merge = ctx_merge(parts[0], parts + 1, PARTS - 1);
                child = next_random(&seed) % 2 ? ctx_with_cancel(merge)
                                               : ctx_with_timeout(merge, next_random(&seed) % 500);
                after = ctx_after_func(child, callback, NULL);
                if (!after)
                        abort();
                atomic_fetch_add(&registered, 1);
                fds[0] = (struct pollfd){.fd = ctx_done_fd(parts[0]), .events = POLLIN};
                fds[1] = (struct pollfd){.fd = ctx_done_fd(child), .events = POLLIN};
                if (next_random(&seed) % 8 == 0)
                        poll(fds, 2, 100);
                look(child);
                look(merge);
                if (next_random(&seed) % 3 == 0 && ctx_after_stop(after) == 1)
                        atomic_fetch_add(&stopped, 1);
                if (next_random(&seed) % 2)
                        ctx_cancel(next_random(&seed) % 2 ? merge : parts[next_random(&seed) % PARTS]);
                for (int j = 0; j < PARTS; j++)
                        ctx_unref(parts[j]);
                look(child);
                look(merge);
                ctx_unref(merge);
                ctx_unref(child);
                ctx_after_unref(after);
        }
        atomic_fetch_sub(&working, 1);
        return NULL;
}

int main(int argc, char **argv)
{
        pthread_t threads[THREADS], ender;

        if (argc > 1)
                rounds = (unsigned) atoi(argv[1]);
        if (pthread_create(&ender, NULL, end_them, NULL) != 0)
                abort();
        for (unsigned i = 0; i < THREADS; i++)
                if (pthread_create(&threads[i], NULL, storm, (void *) (uintptr_t) (i + 1)) != 0)
                        abort();
        for (unsigned i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        pthread_join(ender, NULL);
        for (int i = 0; i < 6000 && ran + stopped < registered; i++)
                usleep(10000);
        printf("%lu made, %lu freed; %lu callbacks, %lu ran, %lu stopped\n", made, freed, registered, ran,
                        stopped);
        return freed != made || ran + stopped != registered;
}
