/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/world/process.h"
#include "util//clock.h"
#include "util/pid-list.h"
#include "util/proc.h"
#include "tests/world/kin.h"

/* The descendants of an attached process, at moments that are rare: somebody exits in the middle of a look,
 * or cannot be read. */

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
int __real_proc_read(pid_t pid, struct proc_stat *ret_stat, struct proc_status *ret_status);
int __wrap_proc_read(pid_t pid, struct proc_stat *ret_stat, struct proc_status *ret_status);

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

int __wrap_proc_read(pid_t pid, struct proc_stat *ret_stat, struct proc_status *ret_status)
{
        int r = ret_stat ? __wrap_proc_stat_read(pid, ret_stat) : 0;

        return r >= 0 && ret_status ? __real_proc_read(pid, NULL, ret_status) : r;
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

/* When it is told to, it forks one, which leaves another behind when told to. That one counts signals. */
static void body_brief(int in, int out)
{
        (void) signal(SIGTERM, SIG_IGN);
        child_ready(out);
        wait_told(in);
        if (fork() > 0)
                child_sleep(-1, open("/dev/null", O_WRONLY | O_CLOEXEC));
        child_ready(out);
        wait_told(in);
        if (fork() == 0)
                child_count(-1, out);
        _exit(0);
}

static void have_a_child(pid_t parent)
{
        if (parent == getpid() && ++n_opened == 2)
                breed(heirs, "x");
}

/* It was alive when it was read, and is dead by now. */
static bool fake_alive(pid_t pid, struct proc_stat *ret)
{
        if (__real_proc_stat_read(pid, ret) < 0 || ret->ppid != heirs->pid || proc_is_dead(ret))
                return false;
        fake_stat = NULL;
        die_as_a_zombie(pid);
        return true;
}

/* In the second pass, which finds nobody else, when the children of the subreaper were listed. */
START_TEST(law_32_who_dies_when_it_was_found_has_left_one)
{
        struct context *c = make("a");

        heirs = child_start(body_brief);
        attach_to_reap(c, heirs, &term);
        before_open = have_a_child;
        fake_stat = fake_alive;
        (void) cancel_all(c);
        run_while(has_looked_once, NULL);
        run_while(says_nothing, heirs);
        ck_assert_ptr_null(fake_stat);
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
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, other, process_pidfd(p), &quiet,
                                         &refused),
                        -ELOOP);
        fake_stat = NULL;
        /* Now it is seen. */
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 2);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, other, process_pidfd(p), &quiet,
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
        r = engine_attach(world.engine, &caller_daemon, other, process_pidfd(p), &quiet, &refused);
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
        for (unsigned i = 0; i < 100; i++) {
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
        Suite *s = suite_create("kin-moments");
        TCase *c = tcase_create("moments");

        tcase_add_checked_fixture(c, world_start, world_stop);
        tcase_set_timeout(c, 60);
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
        tcase_add_test(c, law_32_who_dies_when_it_was_found_has_left_one);
        suite_add_tcase(s, c);
        return run_suite(s);
}
