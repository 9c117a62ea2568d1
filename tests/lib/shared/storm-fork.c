/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/ctxclient.h"
#include "tests/harness/daemon.h"

/* A thread that forks all the time, beside threads that do everything else: trees, callbacks, moved
 * deadlines, descriptors, hang-ups, groups, child processes, channels, shared contexts. Each child uses the
 * library as if it had been started just then: nothing hangs, what it cancels is done with all below, what it
 * starts runs.
 *
 *     storm-fork [SECONDS] */

#define SLOTS 8

static struct {
        pthread_mutex_t lock;
        struct ctx *parent, *kid; /* neither has a deadline, unless a thread moves one */
} slots[SLOTS];

static struct daemon the_daemon;
static struct ctx_client *client;
static struct ctx *root;
static struct ctx_chan *storm_chans[2];
static _Atomic bool over;
static _Atomic unsigned long forks, callbacks;

/* The allocators of the sanitizers are not made for fork(): the child may wait for a lock of theirs for ever.
 * So it does only what needs no memory there, and starts no thread. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CHILD_IS_WHOLE false
#else
#define CHILD_IS_WHOLE true
#endif

#define CHECK(condition)                                                                             \
        do {                                                                                         \
                if (!(condition)) {                                                                  \
                        fprintf(stderr, "%d, process %d: %s (errno %d)\n", __LINE__, (int) getpid(), \
                                        #condition, errno);                                          \
                        abort();                                                                     \
                }                                                                                    \
        } while (0)

static unsigned next_random(unsigned *seed)
{
        *seed = *seed * 1664525 + 1013904223;
        return *seed >> 8;
}

static void take(unsigned i, struct ctx **ret_parent, struct ctx **ret_kid)
{
        pthread_mutex_lock(&slots[i].lock);
        *ret_parent = ctx_ref(slots[i].parent);
        *ret_kid = ctx_ref(slots[i].kid);
        pthread_mutex_unlock(&slots[i].lock);
}

/* Gives up what is there. */
static void fill(unsigned i, unsigned random)
{
        struct ctx *parent = ctx_with_cancel(random % 2 ? root : ctx_background());
        struct ctx *kid = random % 3 ? ctx_with_cancel(parent) : ctx_merge(parent, &root, 1);
        struct ctx *old_parent, *old_kid;

        CHECK(parent && kid);
        pthread_mutex_lock(&slots[i].lock);
        old_parent = slots[i].parent;
        old_kid = slots[i].kid;
        slots[i].parent = parent;
        slots[i].kid = kid;
        pthread_mutex_unlock(&slots[i].lock);
        ctx_unref(old_parent);
        ctx_unref(old_kid);
}

static void callback(void *userdata)
{
        atomic_fetch_add(&callbacks, 1);
}

static uint64_t soon(unsigned usec)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000 + usec;
}

static void derive(struct ctx *parent, unsigned *seed)
{
        struct ctx *many[20];
        struct ctx_after *after = NULL;

        for (unsigned i = 0; i < 20; i++) {
                many[i] = i % 2 ? ctx_with_timeout(i % 5 ? parent : many[i - 1], next_random(seed) % 3000)
                                : ctx_with_cancel(i % 4 ? parent : root);
                CHECK(many[i]);
                if (i % 7 == 0)
                        CHECK(ctx_done_fd(many[i]) >= 0);
                if (i % 6 == 1)
                        CHECK((after = ctx_after_func(many[i], callback, NULL)));
                if (i % 6 == 4)
                        after = (ctx_after_stop(after), ctx_after_unref(after));
                if (i % 6 == 1 && next_random(seed) % 2)
                        ctx_extend(many[i], soon(next_random(seed) % 3000));
        }
        if (after)
                ctx_after_stop_wait(after);
        ctx_after_unref(after);
        for (unsigned i = 0; i < 20; i++) {
                if (i % 3 == 0)
                        ctx_cancel_cause(many[i], EPIPE, "storm");
                ctx_unref(many[i]);
        }
}

static void *work_on_trees(void *userdata)
{
        unsigned seed = (unsigned) (uintptr_t) userdata;

        while (!over) {
                unsigned i = next_random(&seed) % SLOTS;
                struct ctx *parent, *kid;

                take(i, &parent, &kid);
                switch (next_random(&seed) % 6) {
                case 0:
                        CHECK(ctx_cancel(parent) >= 0);
                        CHECK(ctx_err(kid) == -ECANCELED);
                        break;
                case 1:
                        fill(i, next_random(&seed));
                        break;
                case 2:
                        CHECK(ctx_done_fd(next_random(&seed) % 2 ? kid : parent) >= 0);
                        break;
                case 3:
                        (void) !ctx_wait(kid, next_random(&seed) % 500);
                        break;
                default:
                        derive(kid, &seed);
                        break;
                }
                ctx_unref(parent);
                ctx_unref(kid);
        }
        return NULL;
}

static int member(struct ctx *ctx, void *userdata)
{
        return ctx_wait(ctx, 200) == 0 ? 0 : -EIO;
}

static void *work_with_calls(void *userdata)
{
        unsigned seed = (unsigned) (uintptr_t) userdata;

        while (!over) {
                struct ctx *ctx = ctx_with_timeout(ctx_background(), next_random(&seed) % 4000), *hangup;
                struct ctx_group *group = ctx_group_new(ctx);
                struct ctx_task *task = ctx_spawn(ctx, (char *[]){"/bin/true", NULL}, NULL);
                int pair[2], status;

                CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
                hangup = ctx_with_hangup(ctx, pair[0]);
                CHECK(hangup && group);
                (void) !ctx_group_go(group, member, NULL);
                (void) !ctx_group_go(group, member, NULL);
                shutdown(pair[1], SHUT_WR);
                if (task)
                        CHECK(ctx_task_wait(task, &status) == 0);
                CHECK(ctx_wait(hangup, UINT64_MAX) < 0);
                (void) !ctx_group_wait(group);
                ctx_task_unref(task);
                ctx_group_unref(group);
                ctx_unref(hangup);
                ctx_unref(ctx);
                close(pair[0]);
                close(pair[1]);
        }
        return NULL;
}

static void make_chans(struct ctx_chan **chans)
{
        for (int i = 0; i < 2; i++)
                CHECK((chans[i] = ctx_chan_new(sizeof(int), (size_t) i)));
}

static void drop_chans(struct ctx_chan *const *chans)
{
        for (int i = 0; i < 2; i++)
                ctx_chan_unref(chans[i]);
}

static void select_once(struct ctx_chan *const *chans, unsigned usec)
{
        struct ctx *ctx = ctx_with_timeout(ctx_background(), usec);
        int sent = 7, got = 7;
        struct ctx_chan_case cases[] = {
                        {.chan = chans[0], .op = CTX_CHAN_SEND, .send_item = &sent},
                        {.chan = chans[1], .op = CTX_CHAN_RECV, .ret_item = &got},
                        {.chan = chans[1], .op = CTX_CHAN_SEND, .send_item = &sent},
                        {.chan = chans[0], .op = CTX_CHAN_RECV, .ret_item = &got},
        };

        CHECK(ctx);
        (void) !ctx_chan_select(ctx, cases, 4);
        CHECK(got == 7);
        ctx_unref(ctx);
}

static void *work_on_channels(void *userdata)
{
        unsigned seed = (unsigned) (uintptr_t) userdata;

        while (!over)
                select_once(storm_chans, next_random(&seed) % 2000);
        return NULL;
}

static void *work_with_daemon(void *userdata)
{
        unsigned seed = (unsigned) (uintptr_t) userdata;

        while (!over) {
                struct ctx *ctx = ctx_create(client, "fork/", NULL), *kid;
                struct ctx_after *after;

                CHECK(ctx);
                kid = ctx_with_cancel(ctx);
                after = ctx_after_func(kid, callback, NULL);
                CHECK(kid && after && ctx_enter(ctx) == 0);
                if (next_random(&seed) % 2)
                        CHECK(ctx_done_fd(next_random(&seed) % 2 ? ctx : kid) >= 0);
                derive(kid, &seed);
                ctx_leave(ctx);
                CHECK((next_random(&seed) % 2 ? ctx_cancel(ctx) : ctx_release(ctx)) >= 0);
                CHECK(ctx_wait(kid, UINT64_MAX) == -ECANCELED);
                ctx_after_stop_wait(after);
                ctx_after_unref(after);
                ctx_unref(kid);
                ctx_unref(ctx);
        }
        return NULL;
}

static void is_done(struct ctx *ctx)
{
        struct pollfd pollfd = {.events = POLLIN};

        CHECK(ctx_err(ctx) < 0 && ctx_wait(ctx, UINT64_MAX) == ctx_err(ctx));
        if (CHILD_IS_WHOLE) {
                pollfd.fd = ctx_done_fd(ctx);
                CHECK(poll(&pollfd, 1, -1) == 1);
        }
}

static void use_inherited(unsigned i)
{
        struct ctx *parent = slots[i].parent, *kid = slots[i].kid,
                   *fresh = CHILD_IS_WHOLE ? ctx_with_cancel(kid) : ctx_ref(kid);
        unsigned long before = atomic_load(&callbacks);
        struct ctx_after *after = CHILD_IS_WHOLE ? ctx_after_func(fresh, callback, NULL) : NULL;

        CHECK(fresh && (after || !CHILD_IS_WHOLE));
        /* Whoever cancels a context cancels what is below. */
        if (ctx_err(parent) != 0)
                CHECK(ctx_err(kid) != 0 && ctx_err(fresh) != 0);
        if (CHILD_IS_WHOLE)
                ctx_extend(kid, soon(1000000));
        CHECK(ctx_cancel(parent) >= 0);
        is_done(parent);
        is_done(kid);
        is_done(fresh);
        while (after && atomic_load(&callbacks) == before)
                usleep(100);
        CHECK(!after || ctx_after_stop_wait(after) == 0);
        ctx_after_unref(after);
        ctx_unref(fresh);
        if (CHILD_IS_WHOLE) {
                ctx_unref(kid);
                ctx_unref(parent);
        }
}

static void be_child(unsigned n)
{
        unsigned seed = n;
        struct ctx *ctx;
        struct ctx_task *task;
        struct ctx_group *group;
        struct ctx_chan *chans[2];
        int status;

        alarm(60);
        for (unsigned i = 0; i < SLOTS; i++)
                use_inherited(i);
        CHECK(ctx_err(root) == 0);
        if (!CHILD_IS_WHOLE)
                _exit(0);
        CHECK(ctx_cancel(root) == -ECHILD);
        derive(root, &seed);
        make_chans(chans);
        select_once(chans, 500);
        select_once(chans, 500);
        drop_chans(chans);
        drop_chans(storm_chans);
        CHECK((ctx = ctx_with_cancel(ctx_background())));
        if (n % 4 == 0) {
                CHECK((task = ctx_spawn(ctx, (char *[]){"/bin/true", NULL}, NULL)));
                CHECK(ctx_task_wait(task, &status) == 0 && status == 0);
                ctx_task_unref(task);
                CHECK((group = ctx_group_new(ctx)));
                CHECK(ctx_group_go(group, member, NULL) == 0 && ctx_group_wait(group) == 0);
                ctx_group_unref(group);
        }
        ctx_unref(ctx);
        ctx_unref(root);
        ctx_client_unref(client);
        _exit(0);
}

static void *fork_all_the_time(void *unused)
{
        while (!over) {
                int status;
                pid_t pid;

                /* The program's own locks. */
                for (unsigned i = 0; i < SLOTS; i++)
                        pthread_mutex_lock(&slots[i].lock);
                pid = fork();
                if (pid == 0)
                        be_child((unsigned) forks);
                for (unsigned i = 0; i < SLOTS; i++)
                        pthread_mutex_unlock(&slots[i].lock);
                CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
                if (status != 0) {
                        fprintf(stderr, "child %lu: status 0x%x\n", forks, status);
                        abort();
                }
                atomic_fetch_add(&forks, 1);
        }
        return NULL;
}

int main(int argc, char *argv[])
{
        void *(*const work[])(void *) = {fork_all_the_time, work_on_trees, work_on_trees, work_with_calls,
                        work_on_channels, work_on_channels, work_with_daemon};
        enum { N = sizeof work / sizeof work[0] };
        pthread_t threads[N];

        daemon_start(&the_daemon, "[Daemon]\nRetainSec=50ms\nProbe=off\n");
        CHECK((client = ctx_client_new(the_daemon.address)));
        CHECK((root = ctx_create(client, "fork", NULL)));
        CHECK(ctx_done_fd(root) >= 0); /* a child of a fork cannot ask for it */
        make_chans(storm_chans);
        for (unsigned i = 0; i < SLOTS; i++) {
                pthread_mutex_init(&slots[i].lock, NULL);
                fill(i, i);
        }
        for (uintptr_t i = 0; i < N; i++)
                CHECK(pthread_create(&threads[i], NULL, work[i], (void *) (i + 1)) == 0);
        sleep(argc > 1 ? (unsigned) atoi(argv[1]) : 4);
        over = true;
        for (int i = 0; i < N; i++)
                pthread_join(threads[i], NULL);

        for (unsigned i = 0; i < SLOTS; i++) {
                ctx_unref(slots[i].parent);
                ctx_unref(slots[i].kid);
        }
        drop_chans(storm_chans);
        CHECK(ctx_release(root) == 0);
        ctx_unref(root);
        ctx_client_unref(client);
        printf("%lu forks, %lu callbacks\n", forks, callbacks);
        CHECK(daemon_stop(&the_daemon) == 0);
        return 0;
}
