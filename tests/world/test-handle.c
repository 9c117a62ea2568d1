/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/world/anchor.h"
#include "util/clock.h"
#include "tests/world/world.h"

static struct process *self(void)
{
        struct process *p;

        ck_assert_int_eq(engine_process_open_pid(world.engine, getpid(), &p), 0);
        return p;
}

static int get(struct process *p, struct context *c)
{
        struct refused refused = {};
        int fd;

        ck_assert_int_ge(engine_handle(world.engine, p, 0, c, HANDLE_DONE, &fd, &refused), 0);
        return fd;
}

START_TEST(law_5_all_below_are_readable)
{
        struct process *p = self();
        struct context *c[3] = {make("a"), make("a/b"), make("a/b/c")};
        struct context *other = make("b");
        int fds[3], other_fd;

        world_drain(NULL);
        for (unsigned i = 0; i < 3; i++) {
                fds[i] = dup(get(p, c[i]));
                ck_assert(!is_readable(fds[i]));
        }
        other_fd = get(p, other);
        ck_assert_int_eq(get(p, other), other_fd); /* asking again gives the same */
        cancel(c[0]);
        for (unsigned i = 0; i < 3; i++) {
                ck_assert(is_readable(fds[i]));
                close(fds[i]);
        }
        ck_assert(!is_readable(other_fd));
        ck_assert_uint_eq(world.n_done, 1);
        ck_assert_uint_eq(world.last_done_id, c[0]->id);
        engine_process_close(p);
}
END_TEST

START_TEST(law_27_reading_does_not_drain)
{
        struct process *p = self();
        struct context *c = make("a");
        uint64_t value;
        int fd;

        fd = dup(get(p, c));
        cancel(c);
        for (unsigned i = 0; i < 1000; i++) {
                ck_assert_int_eq(read(fd, &value, sizeof value), sizeof value);
                ck_assert_uint_eq(value, 1);
        }
        ck_assert(is_readable(fd));
        close(fd);
        engine_process_close(p);
}
END_TEST

START_TEST(born_signalled)
{
        struct process *p = self();
        struct context *c = make("a");
        int fd;

        cancel(c);
        fd = get(p, c);
        ck_assert(is_readable(fd));
        ck_assert(fcntl(fd, F_GETFD) >= 0);
        ck_assert_int_eq(engine_handle_drop(world.engine, p, getuid(), c, HANDLE_DONE), 0);
        world_drain(NULL);
        ck_assert(fcntl(fd, F_GETFD) < 0); /* ours is closed */
        engine_process_close(p);
}
END_TEST

START_TEST(ours_is_closed_once_written)
{
        struct process *p = self();
        struct context *c = make("a");
        int fd = get(p, c);

        ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
        cancel(c);
        while (!LIST_EMPTY(&c->anchor->handles)) /* after the reply, when there is time */
                ck_assert_int_gt(sd_event_run(world.event, UINT64_MAX), 0);
        ck_assert_int_lt(fcntl(fd, F_GETFD), 0);
        engine_process_close(p);
}
END_TEST

START_TEST(dropped_by_hand_and_by_exit)
{
        struct child *child = child_start(child_sleep);
        struct process *p = self(), *other;
        struct context *c = make("a");
        struct user *user;
        int r;

        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &other), 0);
        user = user_ref(&world.tree->users, getuid());
        ck_assert_int_eq(engine_handle_drop(world.engine, p, getuid(), c, HANDLE_DONE), -ENOENT);
        r = get(p, c);
        ck_assert_int_ne(r, get(other, c));
        ck_assert_uint_eq(user->used[RESOURCE_HANDLES], 2);
        ck_assert_int_eq(engine_handle_drop(world.engine, p, getuid(), c, HANDLE_DONE), 0);
        ck_assert_int_eq(engine_handle_drop(world.engine, p, getuid(), c, HANDLE_DONE), -ENOENT);
        ck_assert_uint_eq(user->used[RESOURCE_HANDLES], 1);
        engine_process_close(other); /* the handle holds it */
        kill(child->pid, SIGKILL);
        run_until(&world.n_drained, 1);
        ck_assert_uint_eq(user->used[RESOURCE_HANDLES], 0);
        ck_assert(LIST_EMPTY(&c->anchor->handles));
        user_unref(&world.tree->users, user);
        engine_process_close(p);
}
END_TEST

START_TEST(quota)
{
        struct process *p = self();
        struct context *a = make("a"), *b = make("b");
        struct refused refused = {};
        int fd;

        world.tree->users.limit[RESOURCE_HANDLES] = 1;
        (void) get(p, a);
        ck_assert_int_eq(engine_handle(world.engine, p, 0, b, HANDLE_DONE, &fd, &refused), -EDQUOT);
        ck_assert_int_eq(refused.reason, REFUSED_LIMIT);
        ck_assert_uint_eq(refused.used, 1);
        ck_assert_uint_eq(refused.allowed, 1);
        (void) get(p, a); /* the one it has is no new one */
        cancel(a);
        (void) get(p, b); /* and is given back when it was signalled */
        engine_process_close(p);
}
END_TEST

START_TEST(deadline_signals)
{
        struct process *p = self();
        struct context *c = make_with_deadline("a", now_boottime_usec() + 20000);
        int fd;

        world_drain(NULL);
        fd = dup(get(p, c));
        run_until(&world.n_done, 1);
        ck_assert(is_readable(fd));
        ck_assert_uint_ge(now_boottime_usec(), c->deadline_usec); /* law 12: never early */
        ck_assert_int_eq(c->state, CONTEXT_DEADLINE_EXCEEDED);
        close(fd);
        engine_process_close(p);
}
END_TEST

/* A client that shares the description: fills the counter, and makes writes sleep. */
static void fill(int fd)
{
        uint64_t most = UINT64_MAX - 1;

        ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0);
        ck_assert_int_eq(write(fd, &most, sizeof most), sizeof most);
}

static bool any_handle(void *userdata)
{
        struct user *user = user_ref(&world.tree->users, getuid());
        bool any = user->used[RESOURCE_HANDLES] > 0;

        user_unref(&world.tree->users, user);
        return any;
}

static bool is_unreadable(void *userdata)
{
        return !is_readable(*(int *) userdata);
}

/* -- A write that takes long. The linker leads the writer's calls here (--wrap). ------------------------- */

static uint64_t interrupt_nsec;

static uint64_t thread_nsec(void)
{
        struct timespec t;

        ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
        return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

int __real_eventfd_fill(int fd);
int __wrap_eventfd_fill(int fd);
int __wrap_eventfd_fill(int fd)
{
        uint64_t began = thread_nsec();
        int r = __real_eventfd_fill(fd);

        while (thread_nsec() - began < interrupt_nsec)
                ;
        interrupt_nsec = 0;
        return r;
}

/* Has a handle written, and an interrupt come meanwhile, which takes so long. Whether the next one is written
 * at once. */
static bool next_is_written_at_once(uint64_t nsec)
{
        struct context *first = make("first"), *next;
        struct process *p = self();
        bool at_once;
        int fd;

        world_drain(NULL);
        (void) get(p, first);
        interrupt_nsec = nsec;
        cancel(first);
        ck_assert_uint_eq(interrupt_nsec, 0);
        next = make("next");
        world_drain(NULL);
        fd = dup(get(p, next));
        cancel(next);
        at_once = is_readable(fd);
        run_while(is_unreadable, &fd);
        run_while(any_handle, NULL);
        close(fd);
        engine_process_close(p);
        return at_once;
}

/* That is nobody's fault: so nobody's handles are left to others for it. */
START_TEST(an_interrupt_while_a_handle_is_written)
{
        ck_assert(next_is_written_at_once(2000000));
}
END_TEST

/* Where so many wait for it that the write has taken that long, they are not woken once more. */
START_TEST(a_write_that_takes_very_long)
{
        ck_assert(!next_is_written_at_once(20000000));
}
END_TEST

#define HOSTILE_HANDLES 100

START_TEST(a_full_blocking_handle_does_not_hang_us)
{
        struct process *p = self();
        struct context *root = make("a"), *c[HOSTILE_HANDLES], *good;
        int fds[HOSTILE_HANDLES], good_fd;
        unsigned n_left = 0;
        char path[32];

        for (unsigned i = 0; i < HOSTILE_HANDLES; i++) {
                snprintf(path, sizeof path, "a/%u", i);
                c[i] = make(path);
        }
        good = make("a/good");
        world_drain(NULL);
        for (unsigned i = 0; i < HOSTILE_HANDLES; i++) {
                fds[i] = dup(get(p, c[i]));
                fill(fds[i]);
        }
        good_fd = dup(get(p, good));

        cancel(root);
        /* One write that had to be interrupted, however many such handles there are. */
        for (unsigned i = 0; i < HOSTILE_HANDLES; i++)
                n_left += !LIST_EMPTY(&c[i]->anchor->handles);
        ck_assert_uint_ge(n_left, HOSTILE_HANDLES - 1);
        for (unsigned i = 0; i < HOSTILE_HANDLES; i++)
                ck_assert(is_readable(fds[i]));
        /* The rest of that uid's is written between other events. */
        run_while(is_unreadable, &good_fd);
        run_while(any_handle, NULL);
        for (unsigned i = 0; i < HOSTILE_HANDLES; i++)
                close(fds[i]);
        close(good_fd);

        /* It is not forgotten as soon as that is done: the next cancel does not wait for the same once
         * more. */
        good = make("a2");
        world_drain(NULL);
        good_fd = dup(get(p, good));
        cancel(good);
        ck_assert(!is_readable(good_fd));
        run_while(is_unreadable, &good_fd);
        close(good_fd);
        engine_process_close(p);
}
END_TEST

START_TEST(a_handle_that_was_written_to_outlives_its_readers)
{
        struct process *p = self();
        struct context *c = make("a");
        uint64_t value = 1;
        int fd = dup(get(p, c));

        ck_assert_int_eq(write(fd, &value, sizeof value), sizeof value);
        cancel(c);
        for (unsigned i = 0; i < 100; i++)
                ck_assert_int_eq(read(fd, &value, sizeof value), sizeof value);
        ck_assert(is_readable(fd));
        close(fd);
        engine_process_close(p);
}
END_TEST

/* Keeps refilling a handle while it is written: what is deferred still ends. */
static int hammered;

static void hammer(int in, int out)
{
        uint64_t most = UINT64_MAX - 1, one;

        child_ready(out);
        for (;;) {
                (void) fcntl(hammered, F_SETFL, O_NONBLOCK);
                if (write(hammered, &most, sizeof most) < 0 && read(hammered, &one, sizeof one) < 0)
                        continue;
                (void) fcntl(hammered, F_SETFL, 0);
        }
}

START_TEST(a_hammered_handle_does_not_hang_us)
{
        struct process *p = self();
        struct context *c;
        char path[32];

        for (unsigned i = 0; i < 50; i++) {
                snprintf(path, sizeof path, "h%u", i);
                c = make(path);
                world_drain(NULL);
                if (i == 0) {
                        hammered = dup(get(p, c));
                        (void) child_start(hammer);
                } else
                        (void) get(p, c);
                cancel(c);
        }
        close(hammered);
        engine_process_close(p);
}
END_TEST

START_TEST(removed_after_retention)
{
        struct process *p = self();
        struct context *c;

        world.tree->retain_usec = 1000;
        c = make("a");
        (void) get(p, c);
        cancel(c);
        ck_assert_uint_eq(world.n_new, 1);
        run_until(&world.n_removed, 1);
        ck_assert_uint_eq(world.tree->n_contexts, 0);
        engine_process_close(p);
}
END_TEST

static void body_owner(int in, int out)
{
        char byte;

        child_ready(out);
        (void) !read(in, &byte, 1);
}

START_TEST(law_28_exit_of_the_owner)
{
        struct child *child = child_start(body_owner);
        struct context *a = make("a"), *b = make("a/b"), *other = make("b");
        const struct cause *by;
        struct process *p;
        int error;

        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        ck_assert_int_eq(engine_bind_owner(world.engine, a, p), 0);
        ck_assert_int_eq(engine_bind_owner(world.engine, a, p), -EBUSY);
        ck_assert_int_eq(engine_bind_owner(world.engine, b, p), 0);
        engine_process_close(p);
        world_drain(NULL);
        child_tell(child, 'x');
        run_until(&world.n_done, 1);
        ck_assert(context_is_done(a) && context_is_done(b) && !context_is_done(other));
        ck_assert_str_eq(context_cause(a, &error), "owner exited");
        ck_assert_int_eq(error, ECANCELED);
        by = context_canceled_by(a);
        ck_assert_ptr_nonnull(by);
        ck_assert_int_eq(by->pid, child->pid);
        ck_assert_str_ne(by->comm, "");
}
END_TEST

START_TEST(an_owner_that_has_exited_before)
{
        struct child *child = child_start(body_owner);
        struct context *c = make("a");
        struct process *p;

        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        child_tell(child, 'x');
        (void) child_wait(child);
        ck_assert_int_eq(engine_bind_owner(world.engine, c, p), 0);
        engine_process_close(p);
        run_until(&world.n_done, 1);
        ck_assert(context_is_done(c));
}
END_TEST

START_TEST(a_done_context_forgets_its_owner)
{
        struct child *child = child_start(body_owner);
        struct context *c = make("a");
        struct process *p;

        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        ck_assert_int_eq(engine_bind_owner(world.engine, c, p), 0);
        engine_process_close(p);
        cancel(c);
        ck_assert_ptr_null(c->anchor->owner);
        child_tell(child, 'x');
        (void) child_wait(child);
        run_for(20000);
        ck_assert_uint_eq(world.n_done, 1);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("handle");
        TCase *c = tcase_create("handle");

        tcase_add_checked_fixture(c, world_start, world_stop);
        tcase_set_timeout(c, 60);
        tcase_add_test(c, law_5_all_below_are_readable);
        tcase_add_test(c, law_27_reading_does_not_drain);
        tcase_add_test(c, born_signalled);
        tcase_add_test(c, ours_is_closed_once_written);
        tcase_add_test(c, dropped_by_hand_and_by_exit);
        tcase_add_test(c, quota);
        tcase_add_test(c, deadline_signals);
        tcase_add_test(c, an_interrupt_while_a_handle_is_written);
        tcase_add_test(c, a_write_that_takes_very_long);
        tcase_add_test(c, a_full_blocking_handle_does_not_hang_us);
        tcase_add_test(c, a_handle_that_was_written_to_outlives_its_readers);
        tcase_add_test(c, a_hammered_handle_does_not_hang_us);
        tcase_add_test(c, removed_after_retention);
        tcase_add_test(c, law_28_exit_of_the_owner);
        tcase_add_test(c, an_owner_that_has_exited_before);
        tcase_add_test(c, a_done_context_forgets_its_owner);
        suite_add_tcase(s, c);
        return run_suite(s);
}
