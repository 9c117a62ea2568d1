/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/world/process.h"
#include "util/clock.h"
#include "util/proc.h"
#include "tests/world/kin.h"

/* The descendants of an attached process, where the kernel does not know them: no probe is started here, and
 * nobody has a control group of its own. */

static const struct policy kill_soon = {.signal = SIGTERM, .kill_after_usec = 50000};

#define GENERATIONS 5

/* Each has a child, down to the last one. All count their signals. */
static void body_generations(int in, int out)
{
        for (int i = 1; i < GENERATIONS; i++)
                if (fork() > 0)
                        break;
        child_count(in, out);
}

static struct child *start_generations(void)
{
        struct child *child = child_start(body_generations);

        for (int i = 1; i < GENERATIONS; i++)
                ck_assert_int_eq(child_say(child), '!');
        return child;
}

START_TEST(law_45_all_descendants_are_members)
{
        struct child *child = start_generations();
        struct context *c = make("a");

        attach(c, child, &term);
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), GENERATIONS);
        ck_assert_uint_eq(list(c, NULL, 0), GENERATIONS);
        ck_assert_uint_eq(cancel_all(c), GENERATIONS);
        for (int i = 0; i < GENERATIONS; i++)
                ck_assert_int_eq(child_say(child), 'T');
        run_for(60000);
        ck_assert(child_silent(child)); /* law 32: once each */
}
END_TEST

/* Whoever was not looked at yet is one, too. */
START_TEST(law_30_a_grandchild_does_not_leave)
{
        struct child *child = start_three();
        struct context *a = make("a"), *below = make("a/b"), *other = make("c");
        pid_t last = only_child_of(only_child_of(child->pid));
        struct refused refused = {};
        struct process *p;

        attach(a, child, &quiet);
        ck_assert_int_eq(engine_process_open_pid(world.engine, last, &p), 0);
        ck_assert_ptr_eq(context_of(p), a);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, other, process_pidfd(p), &quiet,
                                         &refused),
                        -EACCES);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, below, process_pidfd(p), &quiet,
                                         &refused),
                        0);
        ck_assert_ptr_eq(context_of(p), below);
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 2);
        ck_assert_uint_eq(engine_count_members(world.engine, below, false), 1);
        engine_process_close(p);
}
END_TEST

/* Its parent goes, then the one that was attached. */
START_TEST(law_45_who_was_seen_stays_known)
{
        struct child *child = start_three();
        struct context *c = make("a");
        struct member_process seen[3];
        struct process *p;
        pid_t last;

        attach(c, child, &term);
        ck_assert_uint_eq(list(c, seen, 3), 3);
        last = only_child_of(only_child_of(child->pid));
        orphan(child, last);
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 2);
        kill(child->pid, SIGKILL);
        (void) child_wait(child);
        ck_assert(c->busy);
        ck_assert_uint_eq(list(c, seen, 3), 1);
        ck_assert_int_eq((pid_t) seen[0].pid, last);
        ck_assert_int_eq(engine_process_open_pid(world.engine, last, &p), 0);
        ck_assert_ptr_eq(context_of(p), c);
        engine_process_close(p);
        ck_assert_uint_eq(cancel_all(c), 1);
        ck_assert_int_eq(child_say(child), 'T');
        run_for(50000);
        ck_assert(c->busy);
        ck_assert_uint_eq(c->drained_usec, 0);
        kill(last, SIGKILL);
        run_while(is_busy, c);
        ck_assert_uint_ne(c->drained_usec, 0);
}
END_TEST

/* A child that has this pid, which is free. */
static pid_t fork_as(pid_t pid)
{
        struct clone_args args = {
                        .exit_signal = SIGCHLD, .set_tid = (uint64_t) (uintptr_t) &pid, .set_tid_size = 1};
        pid_t child = (pid_t) syscall(SYS_clone3, &args, sizeof args);

        if (child == 0) {
                (void) signal(SIGTERM, SIG_DFL);
                (void) alarm(120);
                for (;;)
                        pause();
        }
        return child;
}

/* Another process gets the pid of one that was known, while nobody looks. */
START_TEST(law_28_a_pid_that_was_used_again)
{
        struct child *child = start_three();
        struct context *c = make("a");
        struct process *p;
        pid_t last, pid;

        attach(c, child, &term);
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 3);
        last = only_child_of(only_child_of(child->pid));
        orphan(child, last);
        kill(last, SIGKILL);
        ck_assert_int_eq(waitpid(last, NULL, 0), last);
        usleep(20000); /* a start time has steps of 10 ms */
        pid = fork_as(last);
        if (pid < 0) {
                printf("# a pid that was used again: skipped: %m\n");
                return;
        }
        ck_assert_int_eq(pid, last);
        ck_assert_int_eq(engine_process_open_pid(world.engine, pid, &p), 0);
        ck_assert_ptr_null(context_of(p));
        engine_process_close(p);
        if (_i == 1) /* and nobody takes the place of the one that was attached */
                kill(child->pid, SIGKILL);
        else
                ck_assert_uint_eq(engine_count_members(world.engine, c, false), 1);
        (void) cancel_all(c);
        kill(child->pid, SIGKILL);
        run_while(is_busy, c);
        ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
}
END_TEST

static bool says_nothing(void *child)
{
        return !is_readable(((struct child *) child)->out);
}

/* It is born, or found, when those that were there have all got their signals. */
START_TEST(law_32_who_is_found_after_the_cancel)
{
        struct child *child = child_start(child_breed);
        struct context *c = make("a");

        attach_to_reap(c, child, &term);
        ck_assert_uint_eq(cancel_all(c), 1);
        run_for(60000);
        breed(child, _i == 0 ? "f" : "d");
        if (_i < 2)
                ck_assert_uint_eq(list(c, NULL, 0), 2);
        else
                kill(child->pid, SIGKILL); /* and it takes the place of this one */
        run_while(says_nothing, child);
        ck_assert_int_eq(child_say(child), 'T');
        run_for(60000);
        ck_assert(child_silent(child));
}
END_TEST

START_TEST(law_45_drained_with_the_last_of_them)
{
        struct child *child = start_generations();
        struct member_process members[GENERATIONS];
        struct context *c = make("a");

        attach(c, child, &quiet);
        ck_assert_uint_eq(cancel_all(c), GENERATIONS);
        ck_assert_uint_eq(list(c, members, GENERATIONS), GENERATIONS);
        /* From the top, and from the bottom. */
        for (int i = 0; i < GENERATIONS; i++) {
                ck_assert(c->busy);
                ck_assert_uint_eq(engine_count_members(world.engine, c, false), (unsigned) (GENERATIONS - i));
                kill((pid_t) members[_i ? GENERATIONS - 1 - i : i].pid, SIGKILL);
                if (i < GENERATIONS - 1)
                        run_for(20000);
        }
        run_while(is_busy, c);
        ck_assert_uint_ne(c->drained_usec, 0);
        ck_assert_uint_eq(c->user->used[RESOURCE_MEMBERS], 0);
        ck_assert_uint_eq(c->user->used[RESOURCE_DESCRIPTORS], 0);
}
END_TEST

/* They are as many as the user pays for. */
START_TEST(law_48_they_are_charged)
{
        struct child *child = start_generations(), *other = child_start(child_sleep);
        struct context *c = make_for(1001, "~/a");
        struct refused refused = {};

        attach(c, child, &quiet);
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), GENERATIONS);
        ck_assert_uint_eq(c->user->used[RESOURCE_MEMBERS], GENERATIONS);
        world.tree->users.limit[RESOURCE_MEMBERS] = GENERATIONS;
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, c, other->pidfd, &quiet, &refused),
                        -EDQUOT);
}
END_TEST

#define FAMILY 270 /* more than are asked at a time whether they have exited */
#define EXITED 4

/* Nobody walks through the context. The places of those who have gone are found all the same. */
START_TEST(law_48_places_of_the_youngest_are_given_back)
{
        struct child *child = child_start(child_breed), *other = child_start(child_sleep);
        struct context *c = make_for(1001, "~/a");
        struct member_process *list;
        struct refused refused = {};
        unsigned tries = 0;
        size_t n;

        attach(c, child, &quiet);
        for (unsigned i = 0; i < FAMILY; i++)
                breed(child, "f");
        ck_assert_int_eq(engine_processes(world.engine, c, true, &list, &n), 0);
        ck_assert_uint_eq(n, FAMILY + 1);
        world.tree->users.limit[RESOURCE_MEMBERS] = FAMILY + 1;
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, c, other->pidfd, &quiet, &refused),
                        -EDQUOT);
        for (size_t i = n - EXITED; i < n; i++) {
                kill((pid_t) list[i].pid, SIGKILL);
                while (!is_zombie(list[i].pid))
                        usleep(1000);
        }
        free(list);
        while (engine_attach(world.engine, &caller_daemon, c, other->pidfd, &quiet, &refused) == -EDQUOT)
                ck_assert_uint_lt(tries++, 4);
        kill(child->pid, SIGKILL);
}
END_TEST

START_TEST(law_32_killed_after)
{
        struct child *child = start_generations();
        struct context *c = make("a");

        attach(c, child, &kill_soon);
        ck_assert_uint_eq(cancel_all(c), GENERATIONS);
        run_while(is_busy, c);
        ck_assert_uint_eq(list(c, NULL, 0), 0);
        for (int i = 0; i < GENERATIONS; i++)
                ck_assert_int_eq(child_say(child), 'T');
        ck_assert_int_eq(child_say(child), 0); /* all of them have closed it */
}
END_TEST

/* One that is attached itself takes those along that are below it, also if they were seen before. */
START_TEST(who_is_attached_below_takes_its_own_along)
{
        struct context *a = make("a"), *below = make("a/b");
        struct child *child = start_three();
        pid_t middle, last;
        struct refused refused = {};
        struct process *p;

        middle = only_child_of(child->pid);
        last = only_child_of(middle);
        attach(a, child, &quiet);
        if (_i == 1)
                ck_assert_uint_eq(engine_count_members(world.engine, a, false), 3);
        ck_assert_int_eq(engine_process_open_pid(world.engine, middle, &p), 0);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, below, process_pidfd(p), &quiet,
                                         &refused),
                        0);
        engine_process_close(p);
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 1);
        ck_assert_uint_eq(engine_count_members(world.engine, below, false), 2);
        ck_assert_uint_eq(engine_count_members(world.engine, a, true), 3);
        orphan(child, last);
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 1);
        ck_assert_uint_eq(engine_count_members(world.engine, below, false), 1);
        ck_assert(below->busy);
        kill(last, SIGKILL);
        run_while(is_busy, below);
        ck_assert(a->busy);
}
END_TEST

/* It is attached elsewhere as one of those that were left behind. */
START_TEST(who_was_left_behind_is_attached_elsewhere)
{
        struct context *a = make("a"), *below = make("a/b");
        struct child *child = start_three();
        pid_t last = only_child_of(only_child_of(child->pid));
        struct refused refused = {};
        struct process *p;

        attach(a, child, &quiet);
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 3);
        orphan(child, last);
        kill(child->pid, SIGKILL);
        (void) child_wait(child);
        ck_assert(a->busy);
        ck_assert_int_eq(engine_process_open_pid(world.engine, last, &p), 0);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, below, process_pidfd(p), &quiet,
                                         &refused),
                        0);
        engine_process_close(p);
        run_while(is_busy, a);
        ck_assert(below->busy);
        ck_assert_uint_eq(engine_count_members(world.engine, a, true), 1);
        kill(last, SIGKILL);
        run_while(is_busy, below);
}
END_TEST

#define CROWD 300

static void body_crowd(int in, int out)
{
        (void) setpgid(0, 0);
        if (fork() == 0)
                for (int i = 0; i < CROWD; i++)
                        if (fork() == 0)
                                break;
        child_sleep(in, out);
}

/* Most have gone before one of them was watched. */
START_TEST(a_crowd_that_goes_at_once)
{
        struct child *child = child_start(body_crowd);
        struct context *c = make("a");

        for (int i = 0; i < CROWD + 1; i++)
                ck_assert_int_eq(child_say(child), '!');
        attach(c, child, &quiet);
        (void) cancel_all(c);
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), CROWD + 2);
        kill(-child->pid, SIGKILL);
        run_while(is_busy, c);
        ck_assert_uint_eq(c->user->used[RESOURCE_MEMBERS], 0);
}
END_TEST

/* Nobody has looked before its parent had gone. */
START_TEST(law_45_an_orphan_of_a_subreaper)
{
        struct child *stranger = child_start(child_breed), *child;
        struct member_process seen[4];
        struct context *c = make("a");

        usleep(20000); /* a start time has steps of 10 ms */
        child = child_start(child_breed);
        attach_to_reap(c, child, &term);
        ck_assert_uint_eq(c->user->used[RESOURCE_DESCRIPTORS], 3); /* its own, its group's, its reaper's */
        breed(stranger, "f");
        breed(child, "dd");
        if (_i == 1)
                ck_assert_uint_eq(engine_count_members(world.engine, c, false), 3);
        kill(child->pid, SIGKILL);
        (void) child_wait(child);
        ck_assert(c->busy);
        ck_assert_uint_eq(list(c, seen, 4), 2);
        ck_assert_uint_eq(cancel_all(c), 2);
        for (int i = 0; i < 2; i++)
                ck_assert_int_eq(child_say(child), 'T');
        for (int i = 0; i < 2; i++) {
                ck_assert(c->busy);
                kill((pid_t) seen[i].pid, SIGKILL);
                run_for(20000);
        }
        run_while(is_busy, c);
        ck_assert(child_silent(stranger));
        ck_assert_uint_eq(c->user->used[RESOURCE_DESCRIPTORS], 0);
}
END_TEST

/* It asks, or is attached, before anybody has looked. */
START_TEST(law_30_an_orphan_does_not_leave)
{
        struct child *child = child_start(child_breed);
        struct context *a = make("a"), *other = make("c");
        struct refused refused = {};
        struct process *p;
        pid_t pids[2] = {child->pid};

        attach_to_reap(a, child, &quiet);
        breed(child, "d");
        (void) proc_each_child(getpid(), take_other, pids);
        ck_assert_int_ne(pids[1], 0);
        ck_assert_int_eq(engine_process_open_pid(world.engine, pids[1], &p), 0);
        ck_assert_ptr_eq(context_of(p), a);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, other, process_pidfd(p), &quiet,
                                         &refused),
                        -EACCES);
        engine_process_close(p);
}
END_TEST

static void attach_self(struct context *c)
{
        struct refused refused = {};
        struct process *p;

        ck_assert_int_eq(engine_process_open_pid(world.engine, getpid(), &p), 0);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, c, process_pidfd(p), &quiet, &refused),
                        0);
        engine_process_close(p);
}

static void expect_nobodys(pid_t pid)
{
        struct process *p;

        ck_assert_int_eq(engine_process_open_pid(world.engine, pid, &p), 0);
        ck_assert_ptr_null(context_of(p));
        engine_process_close(p);
}

/* The other child of this process: the one whose pid is not that of the first one, nor its child's. */
static pid_t orphan_beside(const struct child *child)
{
        pid_t pids[2] = {child->pid};

        (void) proc_each_child(getpid(), take_other, pids);
        ck_assert_int_ne(pids[1], 0);
        return pids[1];
}

static void attach_only_child(struct context *c, const struct child *child)
{
        struct caller root = {.pid = getpid()};
        struct refused refused = {};
        struct process *p;

        ck_assert_int_eq(engine_process_open_pid(world.engine, only_child_of(child->pid), &p), 0);
        ck_assert_int_eq(engine_attach(world.engine, &root, c, process_pidfd(p), &term, &refused), 0);
        engine_process_close(p);
}

/* Nobody has seen it before its parent had gone. It may be a descendant of either. */
START_TEST(law_32_an_orphan_of_one_attached_elsewhere_is_nobodys)
{
        struct child *child = child_start(body_breeder_below);
        struct context *a = make("a"), *other = make("c");

        ck_assert_int_eq(child_say(child), '!');
        attach_to_reap(a, child, &term);
        attach_only_child(other, child);
        breed(child, "d");
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 1);
        ck_assert_uint_eq(engine_count_members(world.engine, other, false), 1);
        ck_assert_uint_eq(cancel_all(a), 1);
        run_while(is_busy, a);
        ck_assert(child_silent(child));
        kill(only_child_of(getpid()), SIGKILL);
}
END_TEST

/* The subreaper is a member itself, and so it is asked whether the orphan is its own child. */
START_TEST(law_32_what_is_nobodys_is_not_the_subreapers)
{
        struct child *child = child_start(body_breeder_below);
        struct context *above = make("a"), *below = make("a/b"), *other = make("c");
        pid_t pid;

        ck_assert_int_eq(child_say(child), '!');
        attach_self(above);
        attach_to_reap(below, child, &term);
        attach_only_child(other, child);
        breed(child, "d");
        pid = orphan_beside(child);
        if (_i == 1)
                expect_nobodys(pid);
        ck_assert_uint_eq(engine_count_members(world.engine, above, false), 1);
        ck_assert_uint_eq(engine_count_members(world.engine, below, false), 1);
        expect_nobodys(pid);
        /* Nor when nobody is left of whom it may be. */
        kill(child->pid, SIGKILL);
        (void) child_wait(child);
        run_while(is_busy, below);
        ck_assert_uint_eq(engine_count_members(world.engine, above, false), 1);
        kill(pid, SIGKILL);
}
END_TEST

/* It was attached before the subreaper says whose its orphans are: beside the one of which it does, or
 * below. */
START_TEST(law_32_who_was_attached_elsewhere_before)
{
        struct child *child = child_start(_i == 0 ? child_breed : body_breeder_below), *other = child;
        struct context *a = make("a"), *c = make("c");
        pid_t pid;

        if (_i == 0)
                other = child_start(child_breed);
        else
                ck_assert_int_eq(child_say(child), '!');
        usleep(20000); /* a start time has steps of 10 ms */
        if (_i == 0)
                attach(c, other, &quiet);
        else
                attach_only_child(c, child);
        attach_to_reap(a, child, &term);
        breed(other, "d");
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 1);
        ck_assert_uint_eq(cancel_all(a), 1);
        run_for(60000);
        ck_assert(child_silent(other));
        if (_i == 0)
                return;
        pid = orphan_beside(child);
        kill(pid, SIGKILL);
}
END_TEST

/* What was attached before below the context is no reason for doubt. */
START_TEST(an_orphan_of_one_attached_below_before)
{
        struct child *child = child_start(body_breeder_below);
        struct context *a = make("a"), *below = make("a/b");

        ck_assert_int_eq(child_say(child), '!');
        attach_only_child(below, child);
        attach_to_reap(a, child, &term);
        breed(child, "d");
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 2);
        ck_assert_uint_eq(cancel_all(a), 3);
        ck_assert_int_eq(child_say(child), 'T');
}
END_TEST

/* What is below is cancelled with it. */
START_TEST(an_orphan_of_one_attached_below_belongs_above)
{
        struct child *child = child_start(body_breeder_below);
        struct context *a = make("a"), *below = make("a/b");

        ck_assert_int_eq(child_say(child), '!');
        attach_to_reap(a, child, &term);
        attach_only_child(below, child);
        breed(child, "d");
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 2);
        ck_assert_uint_eq(cancel_all(a), 3);
        ck_assert_int_eq(child_say(child), 'T');
}
END_TEST

/* Both are in the same context. */
START_TEST(law_45_an_orphan_of_one_of_two_in_one_context)
{
        struct child *one = child_start(child_breed), *two = child_start(child_breed);
        struct context *c = make("a");

        usleep(20000);
        attach_to_reap(c, one, &term);
        attach_to_reap(c, two, &term);
        breed(one, "d");
        breed(two, "d");
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 4);
        kill(_i ? two->pid : one->pid, SIGKILL);
        (void) child_wait(_i ? two : one);
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 3);
        ck_assert_uint_eq(cancel_all(c), 3);
        ck_assert_int_eq(child_say(one), 'T');
        ck_assert_int_eq(child_say(two), 'T');
}
END_TEST

/* Whose it is cannot be known. */
START_TEST(an_orphan_of_one_of_two_is_nobodys)
{
        struct child *one = child_start(child_breed), *two = child_start(child_breed);
        struct context *a = make("a"), *b = make("b");

        usleep(20000);
        attach_to_reap(a, one, &term);
        attach_to_reap(b, two, &term);
        breed(one, "d");
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 1);
        ck_assert_uint_eq(engine_count_members(world.engine, b, false), 1);
        kill(two->pid, SIGKILL);
        (void) child_wait(two);
        run_while(is_busy, b);
        /* It may still be a descendant of the one that has gone. */
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 1);
}
END_TEST

/* The subreaper has no other child any more. */
START_TEST(whose_the_orphans_are_is_known_again)
{
        struct child *one = child_start(child_breed), *two = child_start(child_breed), *three;
        struct context *a = make("a"), *b = make("b"), *c = make("c");
        struct process *self;

        ck_assert_int_eq(
                        engine_process_open_pid(world.engine, getpid(), &self), 0); /* as a connection does */
        usleep(20000); /* a start time has steps of 10 ms */
        attach_to_reap(a, one, &term);
        attach_to_reap(b, two, &term);
        kill(one->pid, SIGKILL);
        kill(two->pid, SIGKILL);
        (void) child_wait(one);
        (void) child_wait(two);
        run_while(is_busy, a);
        run_while(is_busy, b);
        three = child_start(child_breed);
        attach_to_reap(c, three, &term);
        breed(three, "d");
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 2);
        engine_process_close(self);
}
END_TEST

START_TEST(law_32_relays_are_ended)
{
        struct child *child = child_start(child_relay);
        struct context *c = make("a");

        attach_to_reap(c, child, &kill_soon);
        breed(child, "x");
        (void) child_wait(child);
        ck_assert(c->busy);
        (void) cancel_all(c);
        run_while(is_busy, c);
        ck_assert_uint_eq(list(c, NULL, 0), 0);
        ck_assert_int_eq(child_say(child), 0); /* nobody holds it open */
}
END_TEST

int main(void)
{
        Suite *s = suite_create("kin");
        TCase *c = tcase_create("kin");

        tcase_add_checked_fixture(c, world_start, world_stop);
        tcase_set_timeout(c, 60);
        tcase_add_test(c, law_45_all_descendants_are_members);
        tcase_add_test(c, law_30_a_grandchild_does_not_leave);
        tcase_add_test(c, law_45_who_was_seen_stays_known);
        tcase_add_loop_test(c, law_28_a_pid_that_was_used_again, 0, 2);
        tcase_add_loop_test(c, law_32_who_is_found_after_the_cancel, 0, 3);
        tcase_add_loop_test(c, law_45_drained_with_the_last_of_them, 0, 2);
        tcase_add_test(c, law_48_they_are_charged);
        tcase_add_test(c, law_48_places_of_the_youngest_are_given_back);
        tcase_add_test(c, law_32_killed_after);
        tcase_add_loop_test(c, who_is_attached_below_takes_its_own_along, 0, 2);
        tcase_add_test(c, who_was_left_behind_is_attached_elsewhere);
        tcase_add_test(c, a_crowd_that_goes_at_once);
        tcase_add_loop_test(c, law_45_an_orphan_of_a_subreaper, 0, 2);
        tcase_add_test(c, law_30_an_orphan_does_not_leave);
        tcase_add_test(c, law_32_relays_are_ended);
        tcase_add_test(c, an_orphan_of_one_of_two_is_nobodys);
        tcase_add_test(c, whose_the_orphans_are_is_known_again);
        tcase_add_test(c, law_32_an_orphan_of_one_attached_elsewhere_is_nobodys);
        tcase_add_loop_test(c, law_32_what_is_nobodys_is_not_the_subreapers, 0, 2);
        tcase_add_loop_test(c, law_32_who_was_attached_elsewhere_before, 0, 2);
        tcase_add_test(c, an_orphan_of_one_attached_below_before);
        tcase_add_test(c, an_orphan_of_one_attached_below_belongs_above);
        tcase_add_loop_test(c, law_45_an_orphan_of_one_of_two_in_one_context, 0, 2);
        suite_add_tcase(s, c);
        return run_suite(s);
}
