/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What tells that the daemon has ended: whatever one client does with his own, another one can close his. */

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"
#include "held-set.h"

static int alive_of(sd_bus *b)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Alive", "");
        int fd;

        READ(m, "h", &fd);
        ck_assert_int_ge(fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), 0);
        return fd;
}

struct honest {
        pid_t pid;
        int said[2], go[2];
};

static void hear_of_the_end(void *userdata)
{
        const struct honest *c = userdata;
        sd_bus *b = connect_bus();
        int fd = alive_of(b);
        char byte;

        ck_assert(!is_readable(fd));
        sd_bus_flush_close_unref(b);
        ck_assert_int_eq(write(c->said[1], "", 1), 1);
        ck_assert_int_eq(read(c->go[0], &byte, 1), 1);
        ck_assert(becomes_readable(fd));
        close(fd);
        ck_assert_int_eq(write(c->said[1], "", 1), 1);
}

static void hear_in_pid_namespace(void *userdata)
{
        pid_t pid;

        ck_assert_int_eq(unshare(CLONE_NEWPID), 0);
        ck_assert_int_ge(pid = fork(), 0);
        if (pid == 0) {
                hear_of_the_end(userdata);
                _exit(0);
        }
        wait_for(pid);
}

static void honest_start(struct honest *c, uid_t uid, void (*hear)(void *))
{
        char byte;

        ck_assert_int_eq(pipe(c->said), 0);
        ck_assert_int_eq(pipe(c->go), 0);
        c->pid = spawn_as(uid, hear, c);
        ck_assert_int_eq(read(c->said[0], &byte, 1), 1);
}

static void honest_hears(struct honest *c)
{
        ck_assert_int_eq(write(c->go[1], "", 1), 1);
        ck_assert(becomes_readable(c->said[0]));
        wait_for(c->pid);
        for (int i = 0; i < 2; i++) {
                close(c->said[i]);
                close(c->go[i]);
        }
}

/* As Alice. */
static int alive_of_alice(sd_bus **ret)
{
        ck_assert_int_eq(syscall(SYS_setresuid, ALICE, ALICE, 0), 0);
        *ret = connect_bus();
        ck_assert_int_eq(syscall(SYS_setresuid, 0, 0, 0), 0);
        return alive_of(*ret);
}

struct own_daemon {
        struct daemon daemon, shared;
        pid_t heir;
};

static void own_start(struct own_daemon *o)
{
        o->shared = world.daemon;
        o->daemon = (struct daemon){.prepare = world.daemon.prepare};
        daemon_start(&o->daemon, "[Daemon]\nProbe=off\n");
        world.daemon = o->daemon;
        ck_assert_int_gt(o->heir = child_with_name(o->daemon.pid, "ctxd-heir"), 0);
}

/* All that was the daemon's is closed then, and a last close is a client's. */
static void own_kill(struct own_daemon *o)
{
        daemon_kill(&o->daemon);
        ck_assert_happens(kill(o->heir, 0) < 0 || task_state(o->heir, o->heir) == 'Z');
        nap(200000);
}

static void own_end(struct own_daemon *o)
{
        directory_remove(o->daemon.directory);
        world.daemon = o->shared;
}

START_TEST(what_says_that_the_daemon_has_ended_is_one_s_own)
{
        struct honest bob = {};
        struct own_daemon own;
        struct held_set h = {};
        sd_bus *b;
        int fd;

        if (!held_start(&h))
                return;
        own_start(&own);
        honest_start(&bob, BOB, hear_of_the_end);
        held_add(&h, fd = alive_of_alice(&b));
        held_lock(&h);
        close(fd);
        own_kill(&own);
        sd_bus_flush_close_unref(b);
        honest_hears(&bob);
        held_end(&h);
        own_end(&own);
}
END_TEST

/* Who copies from a pipe into another one locks both, that with the lower address in the kernel first. So of
 * so many other ones some make him hold the first and wait for the second, of which a write has the lock. */
#define OTHERS 16

struct splicer {
        const struct missing *missing;
        int from, pipe[2];
        pthread_t writer, thread;
};

static void *write_page(void *userdata)
{
        const struct splicer *s = userdata;

        (void) !write(s->pipe[1], s->missing->page, 4096);
        return NULL;
}

static void *splice_into_other(void *userdata)
{
        const struct splicer *s = userdata;

        (void) splice(s->from, NULL, s->pipe[1], NULL, 1, 0);
        return NULL;
}

static void splicer_start(struct splicer *s, int from, const struct missing *missing)
{
        s->missing = missing;
        s->from = from;
        ck_assert_int_eq(pipe(s->pipe), 0);
        ck_assert_int_eq(pthread_create(&s->writer, NULL, write_page, s), 0);
        missing_is_touched(missing);
        ck_assert_int_eq(pthread_create(&s->thread, NULL, splice_into_other, s), 0);
}

static void splicer_end(struct splicer *s)
{
        ck_assert_int_eq(pthread_join(s->writer, NULL), 0);
        ck_assert_int_eq(pthread_join(s->thread, NULL), 0);
        close(s->pipe[0]);
        close(s->pipe[1]);
}

START_TEST(nobody_locks_what_says_that_the_daemon_has_ended)
{
        struct splicer splicers[OTHERS];
        struct missing missing = {};
        struct honest bob = {};
        struct own_daemon own;
        sd_bus *b;
        int fd;

        if (!missing_start(&missing))
                return;
        own_start(&own);
        honest_start(&bob, BOB, hear_of_the_end);
        fd = alive_of_alice(&b);
        own_kill(&own);
        sd_bus_flush_close_unref(b);
        for (int i = 0; i < OTHERS; i++)
                splicer_start(&splicers[i], fd, &missing);
        nap(200000);
        honest_hears(&bob);
        missing_end(&missing);
        for (int i = 0; i < OTHERS; i++)
                splicer_end(&splicers[i]);
        close(fd);
        own_end(&own);
}
END_TEST

START_TEST(the_end_is_heard_in_another_pid_namespace)
{
        struct honest guest = {};
        struct own_daemon own;

        own_start(&own);
        honest_start(&guest, 0, hear_in_pid_namespace);
        own_kill(&own);
        honest_hears(&guest);
        own_end(&own);
}
END_TEST

static void start_alone(void)
{
        world_start(NULL, NULL);
}

void add_held_alive(Suite *s)
{
        ADD_TESTS(s, "locked-alive", start_alone, what_says_that_the_daemon_has_ended_is_one_s_own,
                        nobody_locks_what_says_that_the_daemon_has_ended,
                        the_end_is_heard_in_another_pid_namespace);
}
