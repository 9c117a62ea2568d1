/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/pid-list.h"
#include "util/proc.h"
#include "tests/world/world.h"

/* The descendants of an attached process, where the kernel does not know them: no probe is started here, and
 * nobody has a control group of its own. */

static const struct policy quiet = {.signal = 0, .kill_after_usec = CTXD_USEC_INFINITY};
static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};
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

/* Its child has a child. That child in between goes when it is told to. */
static void body_three(int in, int out)
{
        char byte;

        (void) signal(SIGTERM, SIG_IGN);
        if (fork() > 0)
                child_sleep(-1, out);
        if (fork() == 0)
                child_count(-1, out);
        child_ready(out);
        _exit(read(in, &byte, 1) == 1 ? 0 : 1);
}

static struct child *start_three(void)
{
        struct child *child = child_start(body_three);

        for (int i = 0; i < 2; i++)
                ck_assert_int_eq(child_say(child), '!');
        return child;
}

static size_t list(struct context *c, struct member_process *ret, size_t max)
{
        struct member_process *processes;
        size_t n;

        ck_assert_int_eq(engine_processes(world.engine, c, true, &processes, &n), 0);
        for (size_t i = 0; i < n && i < max; i++)
                ret[i] = processes[i];
        free(processes);
        return n;
}

/* Cancels it, and signals all. Returns how many. */
static uint32_t cancel_all(struct context *c)
{
        uint32_t n = cancel(c), more = 0;
        struct signal_pass *p = engine_take_signals(world.engine);

        while (p && engine_signals_go(world.engine, p, 10, &more) == 0) {
        }
        engine_signals_let_go(world.engine, p);
        return n + more;
}

static int take_one(void *userdata, pid_t child)
{
        *(pid_t *) userdata = child;
        return 1;
}

/* The child that is not the first of the two. */
static int take_other(void *userdata, pid_t child)
{
        pid_t *pids = userdata;

        if (child == pids[0])
                return 0;
        pids[1] = child;
        return 1;
}

static pid_t parent_of(pid_t pid)
{
        struct proc_stat stat;

        return proc_stat_read(pid, &stat) < 0 ? 0 : stat.ppid;
}

static pid_t only_child_of(pid_t pid)
{
        pid_t child = 0;

        (void) proc_each_child(pid, take_one, &child);
        ck_assert_int_ne(child, 0);
        return child;
}

static bool is_its_parents(void *userdata)
{
        return parent_of(*(pid_t *) userdata) != getpid();
}

/* The child in between goes, and its child becomes ours. */
static void orphan(struct child *child, pid_t last)
{
        child_tell(child, 'x');
        run_while(is_its_parents, &last);
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
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, other, engine_process_pidfd(p), &quiet,
                                         &refused),
                        -EACCES);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, below, engine_process_pidfd(p), &quiet,
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

static bool is_zombie(uint32_t pid)
{
        struct proc_stat stat;

        return proc_stat_read((pid_t) pid, &stat) < 0 || proc_is_dead(&stat);
}

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
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, below, engine_process_pidfd(p), &quiet,
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
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, below, engine_process_pidfd(p), &quiet,
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
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, other, engine_process_pidfd(p), &quiet,
                                         &refused),
                        -EACCES);
        engine_process_close(p);
}
END_TEST

/* Its child is told what to breed. */
static void body_breeder_below(int in, int out)
{
        if (fork() > 0)
                child_sleep(-1, out);
        child_breed(in, out);
}

static void attach_only_child(struct context *c, const struct child *child)
{
        struct caller root = {.pid = getpid()};
        struct refused refused = {};
        struct process *p;

        ck_assert_int_eq(engine_process_open_pid(world.engine, only_child_of(child->pid), &p), 0);
        ck_assert_int_eq(engine_attach(world.engine, &root, c, engine_process_pidfd(p), &term, &refused), 0);
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

/* What happens at a certain moment of a look: before a list of children is opened, when a child was read from
 * it, but not looked at, and before one process is looked at. */
static void (*before_open)(pid_t parent), (*after_read)(pid_t child), (*before_stat)(pid_t pid);
static bool (*fake_stat)(pid_t pid, struct proc_stat *ret); /* it was not read, but made up */

int __real_child_list_open(struct child_list *l, pid_t parent, bool is_single);
int __wrap_child_list_open(struct child_list *l, pid_t parent, bool is_single);
int __real_child_list_next(struct child_list *l, pid_t *ret);
int __wrap_child_list_next(struct child_list *l, pid_t *ret);
int __real_proc_stat_read(pid_t pid, struct proc_stat *ret);
int __wrap_proc_stat_read(pid_t pid, struct proc_stat *ret);

int __wrap_child_list_open(struct child_list *l, pid_t parent, bool is_single)
{
        if (before_open)
                before_open(parent);
        return __real_child_list_open(l, parent, is_single);
}

int __wrap_child_list_next(struct child_list *l, pid_t *ret)
{
        int r = __real_child_list_next(l, ret);

        if (r > 0 && after_read)
                after_read(*ret);
        return r;
}

int __wrap_proc_stat_read(pid_t pid, struct proc_stat *ret)
{
        if (before_stat)
                before_stat(pid);
        if (fake_stat && fake_stat(pid, ret))
                return 0;
        return __real_proc_stat_read(pid, ret);
}

static void wait_told(int in)
{
        char byte;

        if (read(in, &byte, 1) != 1)
                _exit(1);
}

/* Each time that it is told, it hands over to its child. */
static void body_heirs(int in, int out)
{
        (void) signal(SIGTERM, SIG_IGN);
        for (;;) {
                child_ready(out);
                wait_told(in);
                if (fork() > 0)
                        _exit(0);
        }
}

static struct child *heirs;

static void die_as_a_zombie(pid_t pid)
{
        child_tell(heirs, 'x');
        ck_assert_int_eq(child_say(heirs), '!');
        while (!is_zombie((uint32_t) pid))
                usleep(1000);
}

/* The second one hands over to a third. The first one is reaped, and so the third has its place in the list,
 * which was read already. */
static void hand_over_again(pid_t pid)
{
        if (pid == heirs->pid)
                return;
        after_read = NULL;
        die_as_a_zombie(pid);
        ck_assert_int_eq(waitpid(heirs->pid, NULL, 0), heirs->pid);
        heirs->pid = 0;
}

static bool has_not_handed_over(void *userdata)
{
        return after_read;
}

START_TEST(law_45_who_dies_while_orphans_are_listed_has_left_one)
{
        struct context *c = make("a");
        struct member_process seen[2];

        heirs = child_start(body_heirs);
        attach_to_reap(c, heirs, &quiet);
        after_read = hand_over_again;
        die_as_a_zombie(heirs->pid);
        run_while(has_not_handed_over, NULL);
        run_for(20000);
        ck_assert(c->busy);
        ck_assert_uint_eq(list(c, seen, 2), 1);
        kill((pid_t) seen[0].pid, SIGKILL);
        run_while(is_busy, c);
}
END_TEST

static unsigned n_opened;

static void count_open(pid_t parent)
{
        n_opened++;
}

/* A zombie that nobody reaps is met by each look, and is no reason for another one. */
START_TEST(a_zombie_that_stays_makes_no_unrest)
{
        struct context *c = make("a");
        unsigned n;

        heirs = child_start(body_heirs);
        attach_to_reap(c, heirs, &term);
        die_as_a_zombie(heirs->pid);
        run_for(20000);
        before_open = count_open;
        ck_assert_uint_eq(cancel_all(c), 1);
        run_for(100000);
        n = n_opened;
        ck_assert_uint_gt(n, 0);
        run_for(100000);
        ck_assert_uint_eq(n_opened, n);
        ck_assert(c->busy);
}
END_TEST

/* Its child counts signals once it was told to fork it, and then it is gone. */
static void body_late(int in, int out)
{
        (void) signal(SIGTERM, SIG_IGN);
        if (fork() > 0)
                child_sleep(-1, out);
        child_ready(out);
        wait_told(in);
        if (fork() == 0)
                child_count(-1, out);
        _exit(0);
}

static pid_t middle;

static void leave_one_behind(pid_t parent)
{
        if (parent == middle && ++n_opened == 2)
                die_as_a_zombie(parent);
}

static bool says_nothing(void *child)
{
        return !is_readable(((struct child *) child)->out);
}

static bool has_looked_once(void *userdata)
{
        return n_opened < 2;
}

/* In the second pass, which finds nobody else who has not got the signal. */
START_TEST(law_32_who_dies_while_its_children_are_listed_has_left_one)
{
        struct context *c = make("a");

        heirs = child_start(body_late);
        ck_assert_int_eq(child_say(heirs), '!');
        middle = only_child_of(heirs->pid);
        attach_to_reap(c, heirs, &term);
        before_open = leave_one_behind;
        (void) cancel_all(c);
        run_while(has_looked_once, NULL);
        run_while(says_nothing, heirs);
        ck_assert_int_eq(child_say(heirs), 'T');
}
END_TEST

static void body_unreaped(int in, int out)
{
        (void) signal(SIGCHLD, SIG_IGN);
        if (fork() > 0)
                child_sleep(-1, out);
        child_ready(out);
        wait_told(in);
        if (fork() == 0)
                child_sleep(-1, out);
        wait_told(in);
        _exit(0);
}

static void lose_middle(pid_t pid)
{
        if (pid != middle)
                return;
        before_stat = NULL;
        child_tell(heirs, 'x');
        while (kill(middle, 0) == 0)
                usleep(1000);
}

/* When it is looked up nobody has seen it, nor its parent, which goes meanwhile. */
START_TEST(law_30_whose_parent_goes_while_it_is_looked_up)
{
        struct context *c = make("a");
        struct process *p;

        heirs = child_start(body_unreaped);
        ck_assert_int_eq(child_say(heirs), '!');
        attach_to_reap(c, heirs, &quiet);
        breed(heirs, "x");
        middle = only_child_of(heirs->pid);
        ck_assert_int_eq(engine_process_open_pid(world.engine, only_child_of(middle), &p), 0);
        before_stat = lose_middle;
        ck_assert_ptr_eq(context_of(p), c);
        ck_assert_ptr_null(before_stat);
        engine_process_close(p);
}
END_TEST

static void body_sibling(int in, int out)
{
        struct clone_args args = {.flags = CLONE_PARENT};

        child_ready(out);
        wait_told(in);
        if (syscall(SYS_clone3, &args, sizeof args) < 0)
                _exit(1);
        child_count(in, out);
}

/* clone(CLONE_PARENT) makes a sibling, which is the subreaper's child from its birth. */
START_TEST(law_45_a_child_beside_it)
{
        struct child *child = child_start(body_sibling);
        struct context *c = make("a");
        pid_t pids[2] = {child->pid};

        attach_to_reap(c, child, &term);
        breed(child, "x");
        ck_assert_int_eq(child_say(child), '!');
        ck_assert_uint_eq(cancel_all(c), 2);
        for (int i = 0; i < 2; i++)
                ck_assert_int_eq(child_say(child), 'T');
        (void) proc_each_child(getpid(), take_other, pids);
        kill(pids[1], SIGKILL);
        ck_assert_int_eq(waitpid(pids[1], NULL, __WALL), pids[1]);
}
END_TEST

static pid_t same_time;
static uint64_t same_ticks;

static bool fake_start(pid_t pid, struct proc_stat *ret)
{
        if (pid != same_time || __real_proc_stat_read(pid, ret) < 0)
                return false;
        ret->start_ticks = same_ticks;
        return true;
}

/* A child of the subreaper that was there before is no orphan, though as far as its start time tells it may
 * have been born after the attach. */
START_TEST(law_32_who_has_started_in_the_same_instant)
{
        struct child *stranger = child_start(child_count), *child = child_start(child_breed);
        struct context *c = make("a");

        same_time = stranger->pid;
        same_ticks = proc_nsec_to_ticks(now_boottime_usec() * 1000) + 1;
        fake_stat = fake_start;
        attach_to_reap(c, child, &term);
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 1);
        usleep(30000);
        breed(child, "d");
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 2);
}
END_TEST

/* The process is made to look as if so many generations were between it and the attached one: to fork them
 * takes minutes on a busy machine. No process has such a pid. */
#define PID_OF_NOBODY 5000000

static unsigned generations;
static pid_t deep;

static bool fake_ancestors(pid_t pid, struct proc_stat *ret)
{
        if (pid != deep && pid < PID_OF_NOBODY)
                return false;
        if (__real_proc_stat_read(deep, ret) < 0)
                return false;
        if (pid == deep)
                ret->ppid = PID_OF_NOBODY;
        else
                ret->ppid = (unsigned) (pid - PID_OF_NOBODY) < generations ? pid + 1 : heirs->pid;
        return true;
}

static struct process *start_deep(struct context *c)
{
        struct process *p;

        heirs = child_start(body_breeder_below);
        ck_assert_int_eq(child_say(heirs), '!');
        attach(c, heirs, &quiet);
        deep = only_child_of(heirs->pid);
        ck_assert_int_eq(engine_process_open_pid(world.engine, deep, &p), 0);
        fake_stat = fake_ancestors;
        return p;
}

START_TEST(law_30_a_deep_descendant)
{
        struct context *c = make("a");
        struct process *p = start_deep(c);

        generations = 1000;
        ck_assert_ptr_eq(context_of(p), c);
        engine_process_close(p);
}
END_TEST

/* It may be a member, so it does not go elsewhere. */
START_TEST(law_30_too_deep_to_be_known)
{
        struct context *c = make("a"), *other = make("b");
        struct process *p = start_deep(c);
        struct refused refused = {};

        generations = UINT_MAX;
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, other, engine_process_pidfd(p), &quiet,
                                         &refused),
                        -ELOOP);
        fake_stat = NULL;
        /* Now it is seen. */
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 2);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, other, engine_process_pidfd(p), &quiet,
                                         &refused),
                        -EACCES);
        engine_process_close(p);
}
END_TEST

static struct rlimit descriptors;
static pid_t looked_up;
static unsigned n_looks;

static void take_descriptors(void)
{
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &descriptors), 0);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, descriptors.rlim_max}), 0);
}

static void give_descriptors(void)
{
        before_stat = NULL;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
}

static void take_descriptors_at(pid_t pid)
{
        if (pid == looked_up && n_looks-- == 0)
                take_descriptors();
}

/* Nobody can be looked at. */
START_TEST(law_30_a_descendant_without_descriptors)
{
        struct child *child = start_three();
        struct context *c = make("a"), *other = make("b");
        pid_t last = only_child_of(only_child_of(child->pid));
        struct refused refused = {};
        struct process *p;
        int r;

        attach(c, child, &quiet);
        ck_assert_int_eq(engine_process_open_pid(world.engine, last, &p), 0);
        looked_up = last;
        n_looks = 1; /* to open it */
        before_stat = take_descriptors_at;
        r = engine_attach(world.engine, &caller_daemon, other, engine_process_pidfd(p), &quiet, &refused);
        give_descriptors();
        ck_assert_int_eq(r, -EMFILE);
        engine_process_close(p);
}
END_TEST

START_TEST(law_45_who_was_seen_stays_known_without_descriptors)
{
        struct child *child = start_three();
        struct context *c = make("a");
        struct member_process *list;
        size_t n;
        int r;

        attach(c, child, &quiet);
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 3);
        looked_up = only_child_of(only_child_of(child->pid));
        orphan(child, looked_up);
        before_stat = take_descriptors_at;
        r = engine_processes(world.engine, c, true, &list, &n);
        give_descriptors();
        ck_assert_int_eq(r, -EMFILE);
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 2);
}
END_TEST

#define TURNS_MAX 100

/* One of its kin takes its place, as soon as a descriptor is to be had. Until then that is tried now and
 * then. */
START_TEST(law_45_succession_without_descriptors)
{
        struct child *child = _i == 0 ? start_three() : child_start(child_breed);
        struct context *c = make("a");
        struct member_process seen[3];
        uint64_t end_usec;
        unsigned n;

        attach_to_reap(c, child, &quiet);
        if (_i == 0)
                ck_assert_uint_eq(list(c, seen, 3), 3);
        else
                breed(child, "dd");
        kill(child->pid, SIGKILL);
        while (!is_zombie((uint32_t) child->pid))
                usleep(1000);
        take_descriptors();
        end_usec = now_boottime_usec() + 200000;
        for (n = 0; n < TURNS_MAX && now_boottime_usec() < end_usec; n++)
                ck_assert_int_ge(sd_event_run(world.event, 10000), 0);
        give_descriptors();
        ck_assert_uint_lt(n, TURNS_MAX);
        run_for(50000);
        ck_assert(c->busy);
        ck_assert_uint_eq(list(c, seen, 3), 2);
        kill((pid_t) seen[0].pid, SIGKILL);
        kill((pid_t) seen[1].pid, SIGKILL);
        run_while(is_busy, c);
}
END_TEST

static void body_breed_unreaped(int in, int out)
{
        (void) signal(SIGCHLD, SIG_IGN);
        child_breed(in, out);
}

/* Each of them asks, and exits. Nobody walks through the context. */
START_TEST(law_48_who_has_asked_and_gone_is_forgotten)
{
        struct child *child = child_start(body_breed_unreaped);
        struct context *c = make("a");

        attach(c, child, &quiet);
        for (unsigned i = 0; i < FAMILY; i++) {
                struct process *p;
                pid_t pid;

                breed(child, "f");
                pid = only_child_of(child->pid);
                ck_assert_int_eq(engine_process_open_pid(world.engine, pid, &p), 0);
                ck_assert_ptr_eq(context_of(p), c);
                engine_process_close(p);
                kill(pid, SIGKILL);
                while (kill(pid, 0) == 0)
                        usleep(1000);
        }
        ck_assert_uint_le(c->user->used[RESOURCE_MEMBERS], 4);
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
        tcase_add_test(c, an_orphan_of_one_attached_below_belongs_above);
        tcase_add_loop_test(c, law_45_an_orphan_of_one_of_two_in_one_context, 0, 2);
        tcase_add_test(c, law_45_who_dies_while_orphans_are_listed_has_left_one);
        tcase_add_test(c, a_zombie_that_stays_makes_no_unrest);
        tcase_add_test(c, law_30_whose_parent_goes_while_it_is_looked_up);
        tcase_add_test(c, law_45_a_child_beside_it);
        tcase_add_test(c, law_32_who_has_started_in_the_same_instant);
        tcase_add_test(c, law_30_a_deep_descendant);
        tcase_add_test(c, law_30_too_deep_to_be_known);
        tcase_add_test(c, law_30_a_descendant_without_descriptors);
        tcase_add_test(c, law_45_who_was_seen_stays_known_without_descriptors);
        tcase_add_loop_test(c, law_45_succession_without_descriptors, 0, 2);
        tcase_add_test(c, law_48_who_has_asked_and_gone_is_forgotten);
        tcase_add_test(c, law_32_who_dies_while_its_children_are_listed_has_left_one);
        suite_add_tcase(s, c);
        return run_suite(s);
}
