/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "tests/world/world.h"

/* Members as the direct backend knows them: no probe is started here. */

static const struct policy quiet = {.signal = 0, .kill_after_usec = CTXD_USEC_INFINITY};
static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};

static void body_family(int in, int out)
{
        pid_t pid = fork();

        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                child_count(in, out);
        }
        /* Each of the two says when it is ready. */
        child_count(in, out);
}

START_TEST(backend_is_direct)
{
        ck_assert_str_eq(engine_membership_backend(world.engine), "direct");
        ck_assert_str_eq(engine_probe_backend(world.engine), "off");
        ck_assert_str_ne(engine_probe_reason(world.engine), "");
}
END_TEST

START_TEST(drained_when_the_attached_have_left)
{
        struct child *a = child_start(child_sleep), *b = child_start(child_sleep);
        struct context *root = make("r"), *c = make("r/c");

        attach(c, a, &quiet);
        attach(c, b, &quiet);
        ck_assert(c->busy);
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 2);
        ck_assert_uint_eq(engine_count_members(world.engine, root, false), 0);
        ck_assert_uint_eq(engine_count_members(world.engine, root, true), 2);
        ck_assert_uint_eq(cancel(root), 2);
        ck_assert_uint_eq(root->drained_usec, 0);
        kill(a->pid, SIGKILL);
        run_until(&world.n_drained, 1);
        ck_assert(c->busy);
        kill(b->pid, SIGKILL);
        run_while(is_busy, c);
        ck_assert_uint_ne(c->drained_usec, 0);
        ck_assert_uint_ne(root->drained_usec, 0);
}
END_TEST

START_TEST(attach_is_refused)
{
        struct child *child = child_start(child_sleep), *gone = child_start(child_sleep);
        struct context *c = make("a");
        struct refused refused = {};

        kill(gone->pid, SIGKILL);
        (void) child_wait(gone);
        ck_assert_int_eq(attach_by(c, gone, &quiet), -ESRCH);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, c, 0, &quiet, &refused), -EINVAL);
        cancel(c);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, c, child->pidfd, &quiet, &refused),
                        -EALREADY);
        ck_assert_int_eq(refused.reason, REFUSED_DONE);
}
END_TEST

START_TEST(law_30_nobody_leaves_by_attaching_elsewhere)
{
        struct child *child = child_start(child_sleep);
        struct context *a = make("a"), *below = make("a/b"), *other = make("c");
        struct refused refused = {};
        struct process *p;
        const struct caller root = {.uid = 0};

        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        attach(a, child, &quiet);
        ck_assert_ptr_eq(context_of(p), a);
        ck_assert_int_eq(attach_by(other, child, &quiet), -EACCES);
        ck_assert_ptr_eq(context_of(p), a);
        attach(below, child, &quiet);
        ck_assert_ptr_eq(context_of(p), below);
        ck_assert_int_eq(attach_by(a, child, &quiet), -EACCES);
        ck_assert_int_eq(engine_attach(world.engine, &root, other, child->pidfd, &quiet, &refused), 0);
        ck_assert_ptr_eq(context_of(p), other);
        ck_assert_uint_eq(cancel(a), 0);
        engine_process_close(p);
}
END_TEST

START_TEST(law_32_one_signal_each)
{
        struct child *child = child_start(body_family), *stranger = child_start(child_count);
        struct member_process *list;
        struct context *c = make("a");
        size_t n;

        ck_assert_int_eq(child_say(child), '!'); /* both are ready: until then a signal is none's to count */
        attach(c, child, &term);
        ck_assert_int_eq(engine_processes(world.engine, c, true, &list, &n), 0);
        ck_assert_uint_eq(n, 2); /* itself and its child */
        ck_assert_uint_lt(list[0].pid, list[1].pid);
        ck_assert_ptr_eq(list[0].context, c);
        free(list);
        ck_assert_uint_eq(cancel(c), 2);
        ck_assert_int_eq(child_say(child), 'T');
        ck_assert_int_eq(child_say(child), 'T');
        run_for(100000);
        ck_assert(child_silent(child));
        ck_assert(child_silent(stranger));
}
END_TEST

START_TEST(no_signal_without_one)
{
        struct child *child = child_start(child_count);
        struct context *c = make("a");

        attach(c, child, &quiet);
        ck_assert_uint_eq(cancel(c), 1);
        run_for(50000);
        ck_assert(child_silent(child));
}
END_TEST

START_TEST(killed_after)
{
        static const struct policy policy = {.signal = SIGTERM, .kill_after_usec = 50000};
        struct child *child = child_start(child_count);
        struct context *c = make("a");
        uint64_t done;
        int status;

        attach(c, child, &policy);
        cancel(c);
        done = c->done_usec;
        ck_assert_int_eq(child_say(child), 'T');
        run_while(is_busy, c);
        ck_assert_uint_ge(now_boottime_usec() - done, 50000);
        status = child_wait(child);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
END_TEST

START_TEST(a_stopped_one_is_continued)
{
        struct child *child = child_start(child_count);
        struct context *c = make("a");
        int status;

        attach(c, child, &term);
        kill(child->pid, SIGSTOP);
        ck_assert_int_eq(waitpid(child->pid, &status, WUNTRACED), child->pid);
        cancel(c);
        ck_assert_int_eq(child_say(child), 'T');
}
END_TEST

static void body_other_uid(int in, int out)
{
        if (setresuid(65534, 65534, 65534) < 0)
                _exit(1);
        child_count(in, out);
}

/* As a setuid program is: its real uid is the user's, its effective one is not. */
static void body_setuid(int in, int out)
{
        if (setresuid(65534, 0, 0) < 0)
                _exit(1);
        child_count(in, out);
}

START_TEST(only_whom_the_one_who_attached_might_signal)
{
        static const struct policy by_user = {.signal = SIGTERM, .kill_after_usec = 30000, .uid = 65534};
        struct child *root, *same, *changed;
        struct context *c = make("a");

        if (getuid() != 0)
                return; /* needs processes of several uids */
        root = child_start(child_count);
        same = child_start(body_other_uid);
        changed = child_start(body_setuid);
        attach(c, root, &by_user);
        attach(c, same, &by_user);
        attach(c, changed, &by_user);
        ck_assert_uint_eq(cancel(c), 3);
        ck_assert_int_eq(child_say(same), 'T');
        (void) child_wait(same); /* killed */
        run_for(100000);
        ck_assert(child_silent(root));
        ck_assert(child_silent(changed));
        ck_assert(c->busy);
}
END_TEST

START_TEST(quota_of_members)
{
        struct child *child[3] = {
                        child_start(child_sleep), child_start(child_sleep), child_start(child_sleep)};
        struct context *c = make("a");
        struct refused refused = {};

        world.tree->users.limit[RESOURCE_MEMBERS] = 2;
        attach(c, child[0], &quiet);
        attach(c, child[1], &quiet);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, c, child[2]->pidfd, &quiet, &refused),
                        -EDQUOT);
        ck_assert_int_eq(refused.reason, REFUSED_LIMIT);
        kill(child[0]->pid, SIGKILL);
        run_until(&world.n_drained, 1);
        attach(c, child[2], &quiet);
}
END_TEST

START_TEST(slots_are_given_back)
{
        struct context *c;
        char path[32];
        unsigned slot = 0;

        world.tree->retain_usec = 0;
        for (unsigned i = 0; i < 20; i++) {
                struct child *child = child_start(child_sleep);

                snprintf(path, sizeof path, "a%u", i);
                c = make(path);
                attach(c, child, &term);
                if (i > 0)
                        ck_assert_uint_eq(membership_number(c), slot);
                slot = membership_number(c);
                cancel(c);
                run_until(&world.n_removed, i + 1);
        }
}
END_TEST

START_TEST(a_cancel_counts_its_own)
{
        struct child *a = child_start(child_sleep), *b = child_start(child_sleep);
        struct context *late = make("late"), *c = make("c");
        struct refused refused = {};

        attach(late, a, &quiet);
        attach(c, b, &quiet);
        ck_assert_int_eq(tree_extend(world.tree, now_boottime_usec(), &(struct caller){}, late,
                                         now_boottime_usec() + 1000, &refused),
                        0);
        while (now_boottime_usec() <= late->deadline_usec) {
        }
        ck_assert_uint_eq(cancel(c), 1);
        ck_assert(context_is_done(late));
}
END_TEST

/* A Create with an attach or an owner that fails at the end: the context is taken back with all that hangs on
 * it. */
START_TEST(law_35_taken_back_with_its_member)
{
        static const struct caller root = {.uid = 0};
        static const struct create_options o = {
                        .deadline_usec = UINT64_MAX, .mode = CONTEXT_MODE_INHERIT, .parents = true};
        struct child *child = child_start(child_sleep);
        uint64_t limit = world.tree->users.limit[RESOURCE_MEMBERS];
        struct process *owner;
        struct refused refused;
        struct context *c;

        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &owner), 0);
        for (int whole = 0; whole < 2; whole++) {
                world.tree->users.limit[RESOURCE_MEMBERS] = whole ? limit : 0; /* not for its slot */
                ck_assert_int_eq(tree_create(world.tree, now_boottime_usec(), &root, "a/b", &o, &c, &refused),
                                1);
                ck_assert_int_eq(attach_by(c, child, &term), whole ? 0 : -EDQUOT);
                ck_assert(c->busy || !whole);
                ck_assert_int_eq(engine_bind_owner(world.engine, c, owner), 0);
                tree_discard(world.tree, c);
                world_drain(NULL);
                tree_check(world.tree);
        }
        ck_assert_uint_eq(world.n_new, 0);
        ck_assert_uint_eq(world.n_removed, 0);
        ck_assert_uint_eq(world.tree->n_contexts, 0);
        c = make("c");
        attach(c, child, &quiet); /* nothing of it is left on the process */
        engine_process_close(owner);
        kill(child->pid, SIGKILL);
        cancel(c);
        run_while(is_busy, c);
}
END_TEST

/* A process may not have a thread page of its own, or not enter the context: the context gets no slot that
 * its owner pays for, and the process no page. */
START_TEST(law_35_a_refused_thread_page)
{
        static const enum resource limited[] = {RESOURCE_HANDLES, RESOURCE_MEMBERS};
        struct process *p = NULL;
        struct context *c = make("c");

        ck_assert_int_eq(engine_process_open_pid(world.engine, getpid(), &p), 0);
        for (size_t i = 0; i < ELEMENTSOF(limited); i++) {
                uint64_t limit = world.tree->users.limit[limited[i]];
                struct refused refused = {};
                int page, kick;

                world.tree->users.limit[limited[i]] = 0;
                ck_assert_int_eq(engine_threads(world.engine, p, c, &page, &kick, &refused), -EDQUOT);
                world.tree->users.limit[limited[i]] = limit;
                ck_assert(!c->busy);
                ck_assert_uint_eq(c->user->used[RESOURCE_HANDLES], 0);
                ck_assert_uint_eq(c->user->used[RESOURCE_MEMBERS], 0);
                ck_assert_uint_eq(c->user->used[RESOURCE_SLOTS], 0);
                ck_assert_uint_eq(c->user->used[RESOURCE_DESCRIPTORS], 0);
        }
        engine_process_close(p);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("member");
        TCase *c = tcase_create("member");

        tcase_add_checked_fixture(c, world_start, world_stop);
        tcase_set_timeout(c, 60);
        tcase_add_test(c, backend_is_direct);
        tcase_add_test(c, drained_when_the_attached_have_left);
        tcase_add_test(c, attach_is_refused);
        tcase_add_test(c, law_30_nobody_leaves_by_attaching_elsewhere);
        tcase_add_test(c, law_32_one_signal_each);
        tcase_add_test(c, no_signal_without_one);
        tcase_add_test(c, killed_after);
        tcase_add_test(c, a_stopped_one_is_continued);
        tcase_add_test(c, only_whom_the_one_who_attached_might_signal);
        tcase_add_test(c, quota_of_members);
        tcase_add_test(c, slots_are_given_back);
        tcase_add_test(c, a_cancel_counts_its_own);
        tcase_add_test(c, law_35_taken_back_with_its_member);
        tcase_add_test(c, law_35_a_refused_thread_page);
        suite_add_tcase(s, c);
        return run_suite(s);
}
