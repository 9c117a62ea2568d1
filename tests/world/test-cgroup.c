/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/world/process.h"
#include "util/clock.h"
#include "util/proc.h"
#include "tests/world/group.h"
#include "tests/world/world.h"

/* Members that are known by a control group of their own: real groups, made and removed by each test, and no
 * probe. */

static const struct policy quiet = {.signal = 0, .kill_after_usec = CTXD_USEC_INFINITY};
static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};
static const struct policy kill_soon = {.signal = SIGTERM, .kill_after_usec = 50000};

static void stop(void)
{
        world_stop();
        group_remove_all();
}

static size_t processes(struct context *c, struct member_process *ret, size_t max)
{
        struct member_process *list;
        size_t n;

        ck_assert_int_eq(engine_processes(world.engine, c, true, &list, &n), 0);
        for (size_t i = 0; i < n && i < max; i++)
                ret[i] = list[i];
        free(list);
        return n;
}

START_TEST(law_30_all_in_the_group_are_members)
{
        struct child *child = child_start(child_breed), *stranger = child_start(child_count);
        const char *group = group_new(NULL), *below = group_new(group);
        struct member_process list[8];
        struct context *c = make("a");
        size_t n;

        ck_assert_str_eq(engine_membership_backend(world.engine), "direct");
        group_enter(group, child->pid);
        attach(c, child, &term);
        ck_assert_str_eq(engine_membership_backend(world.engine), "cgroup");
        breed(child, "fddt");
        n = processes(c, list, 8);
        ck_assert_uint_eq(n, 4); /* itself, its child, two whose parents are gone */
        for (size_t i = 0; i < n; i++) {
                struct process *p;

                ck_assert_int_eq(engine_open_member(world.engine, &list[i], &p), 0);
                ck_assert_ptr_eq(context_of(p), c);
                engine_process_close(p);
                if (list[i].pid != (uint32_t) child->pid)
                        group_enter(below, (pid_t) list[i].pid);
        }
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 4);
        breed(child, "c");
        ck_assert_uint_eq(cancel(c), 4);
        for (unsigned i = 0; i < 4; i++)
                ck_assert_int_eq(child_say(child), 'T');
        run_for(60000);
        ck_assert(child_silent(child)); /* law 32: once each */
        ck_assert(child_silent(stranger));
        ck_assert(c->busy);
}
END_TEST

START_TEST(law_31_drained_when_the_group_has_emptied)
{
        struct child *child = child_start(child_breed);
        struct member_process list[4];
        struct context *c = make("a");

        group_enter(group_new(NULL), child->pid);
        attach(c, child, &quiet);
        breed(child, "dd");
        ck_assert_uint_eq(cancel(c), 3);
        kill(child->pid, SIGKILL);
        (void) child_wait(child);
        ck_assert_uint_eq(processes(c, list, 4), 2);
        ck_assert(c->busy); /* the one that was attached is gone, two that it has left behind are not */
        ck_assert_uint_eq(c->drained_usec, 0);
        kill((pid_t) list[0].pid, SIGKILL);
        run_for(50000);
        ck_assert(c->busy);
        kill((pid_t) list[1].pid, SIGKILL);
        run_while(is_busy, c);
        ck_assert_uint_ne(c->drained_usec, 0);
        ck_assert_str_eq(engine_membership_backend(world.engine), "direct");
}
END_TEST

static bool has_slots(void *userdata)
{
        return ((struct context *) userdata)->user->used[RESOURCE_SLOTS] > 0;
}

/* The same for one that is active: it gives its place among those with members back. */
START_TEST(a_slot_is_given_back_when_the_group_has_emptied)
{
        struct child *child = child_start(child_breed);
        struct context *c = make_for(1001, "~/a");
        struct member_process list[4];

        group_enter(group_new(NULL), child->pid);
        attach(c, child, &quiet);
        breed(child, "d");
        kill(child->pid, SIGKILL);
        (void) child_wait(child);
        run_for(20000);
        ck_assert_uint_eq(c->user->used[RESOURCE_SLOTS], 1);
        ck_assert_uint_eq(c->user->used[RESOURCE_MEMBERS], 1);
        ck_assert_uint_eq(c->user->used[RESOURCE_DESCRIPTORS], 2);
        ck_assert_uint_eq(processes(c, list, 4), 1);
        kill((pid_t) list[0].pid, SIGKILL);
        run_while(has_slots, c);
        ck_assert_uint_eq(c->user->used[RESOURCE_MEMBERS], 0);
        ck_assert_uint_eq(c->user->used[RESOURCE_DESCRIPTORS], 0);
        ck_assert(!c->busy);
}
END_TEST

/* Whoever ignores SIGTERM, and has left its parent long ago. */
START_TEST(law_32_killed_after)
{
        struct child *child = child_start(child_breed);
        struct context *c = make("a");

        group_enter(group_new(NULL), child->pid);
        attach(c, child, &kill_soon);
        breed(child, "fdd");
        breed(child, "c");
        ck_assert_uint_eq(cancel(c), 4);
        run_while(is_busy, c);
        ck_assert_uint_ge(c->drained_usec - c->done_usec, 50000);
        ck_assert_uint_eq(processes(c, NULL, 0), 0);
}
END_TEST

#define TOGETHER 40
#define TURNS_MAX 10

START_TEST(law_48_groups_that_empty_together)
{
        int other = eventfd(0, EFD_CLOEXEC);
        struct child *children[TOGETHER];
        sd_event_source *source;

        for (int i = 0; i < TOGETHER; i++) {
                char path[16];

                snprintf(path, sizeof path, "a/%d", i);
                children[i] = child_start(child_sleep);
                group_enter(group_new(NULL), children[i]->pid);
                attach(make(path), children[i], &quiet);
        }
        run_for(1000);
        ck_assert_int_ge(sd_event_add_io(world.event, &source, other, EPOLLIN, serve_another, NULL), 0);
        for (int i = 0; i < TOGETHER; i++)
                kill(children[i]->pid, SIGKILL);
        for (int i = 0; i < TOGETHER; i++)
                ck_assert_int_eq(waitid(P_PIDFD, (id_t) children[i]->pidfd, NULL, WEXITED | WNOWAIT), 0);
        ck_assert_int_ge(sd_event_run(world.event, 0), 0);
        ck_assert_int_eq(eventfd_write(other, 1), 0);
        for (unsigned turns = 0; n_served == 0; turns++) {
                ck_assert_uint_le(turns, TURNS_MAX);
                ck_assert_int_ge(sd_event_run(world.event, 1000000), 0);
        }
        for (int i = 0; i < TOGETHER; i++)
                (void) child_wait(children[i]);
        run_for(20000);
        sd_event_source_disable_unref(source);
        close(other);
}
END_TEST

START_TEST(a_group_with_others_in_it_is_not_its_own)
{
        struct child *child = child_start(child_breed), *other = child_start(child_count);
        const char *group = group_new(NULL), *below = group_new(group);
        struct context *c = make("a"), *d = make("d");

        group_enter(group, child->pid);
        group_enter(below, other->pid);
        attach(c, child, &term);
        ck_assert_str_eq(engine_membership_backend(world.engine), "direct");
        attach(d, other, &quiet); /* which has one */
        ck_assert_str_eq(engine_membership_backend(world.engine), "cgroup");
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 1);
        breed(child, "c");
        ck_assert_uint_eq(cancel(c), 1);
        ck_assert_int_eq(child_say(child), 'T');
        run_for(50000);
        ck_assert(child_silent(other));
}
END_TEST

START_TEST(law_30_nobody_in_it_leaves)
{
        struct child *child = child_start(child_breed);
        const char *group = group_new(NULL), *other = group_new(NULL);
        struct context *a = make("a"), *below = make("a/b"), *elsewhere = make("e");
        struct member_process list[4];
        struct refused refused = {};
        struct process *p;
        size_t n;

        group_enter(group, child->pid);
        attach(a, child, &quiet);
        breed(child, "df");
        n = processes(a, list, 4);
        ck_assert_uint_eq(n, 3);
        for (size_t i = 0; i < n; i++) {
                ck_assert_int_eq(engine_open_member(world.engine, &list[i], &p), 0);
                ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, elsewhere, process_pidfd(p),
                                                 &quiet, &refused),
                                -EACCES);
                engine_process_close(p);
        }
        /* Its child in a group of its own, as the one whom `ctxctl run --scope` is about to start. */
        for (size_t i = 0; i < n; i++) {
                if (list[i].pid == (uint32_t) child->pid)
                        continue;
                ck_assert_int_eq(engine_open_member(world.engine, &list[i], &p), 0);
                group_enter(other, (pid_t) list[i].pid);
                if (context_of(p)) { /* not the daemon, whom nobody knows there */
                        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, elsewhere,
                                                         process_pidfd(p), &quiet, &refused),
                                        -EACCES);
                        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, below, process_pidfd(p),
                                                         &quiet, &refused),
                                        0);
                        ck_assert_uint_eq(engine_count_members(world.engine, below, false), 1);
                }
                group_enter(group, (pid_t) list[i].pid);
                engine_process_close(p);
        }
        ck_assert_uint_eq(engine_count_members(world.engine, below, false), 1); /* wherever it is */
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 2);
}
END_TEST

/* Three generations below it, in its group. */
static void body_of_four(int in, int out)
{
        char byte;

        (void) signal(SIGTERM, SIG_IGN);
        child_ready(out);
        if (read(in, &byte, 1) != 1)
                _exit(1);
        for (int i = 0; i < 3; i++)
                if (fork() > 0)
                        break;
        child_count(in, out);
}

static int take_child(void *userdata, pid_t pid)
{
        *(pid_t *) userdata = pid;
        return 1;
}

/* The first of them is attached elsewhere, and takes the others along. */
START_TEST(law_32_who_descends_from_one_attached_elsewhere)
{
        struct context *a = make("a"), *other = make("b");
        struct child *child = child_start(body_of_four);
        struct caller root = {.pid = getpid()};
        struct refused refused = {};
        struct process *p;
        pid_t pid = 0;

        group_enter(group_new(NULL), child->pid);
        attach(a, child, &term);
        ck_assert_str_eq(engine_membership_backend(world.engine), "cgroup");
        child_tell(child, 'x');
        for (int i = 0; i < 4; i++)
                ck_assert_int_eq(child_say(child), '!');
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 4);
        ck_assert_int_eq(proc_each_child(child->pid, take_child, &pid), 1);
        ck_assert_int_eq(engine_process_open_pid(world.engine, pid, &p), 0);
        ck_assert_int_eq(engine_attach(world.engine, &root, other, process_pidfd(p), &quiet, &refused), 0);
        engine_process_close(p);
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 1);
        ck_assert_uint_eq(engine_count_members(world.engine, other, false), 3);
        ck_assert_uint_eq(cancel(a), 1);
        ck_assert_int_eq(child_say(child), 'T');
        run_for(50000);
        ck_assert(child_silent(child));
}
END_TEST

static void body_breeder_below(int in, int out)
{
        if (fork() > 0)
                child_sleep(-1, out);
        child_breed(in, out);
}

/* It is in the group, but may descend from the one that was attached elsewhere. */
START_TEST(law_32_an_orphan_in_the_group_that_is_nobodys)
{
        struct child *child = child_start(body_breeder_below);
        struct context *a = make("a"), *other = make("b");
        struct caller root = {.pid = getpid()};
        struct refused refused = {};
        const char *group = group_new(NULL);
        struct process *p;
        pid_t pid = 0;

        ck_assert_int_eq(child_say(child), '!');
        ck_assert_int_eq(proc_each_child(child->pid, take_child, &pid), 1);
        group_enter(group, child->pid);
        group_enter(group, pid);
        attach_to_reap(a, child, &term);
        ck_assert_str_eq(engine_membership_backend(world.engine), "cgroup");
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 2);
        ck_assert_int_eq(engine_process_open_pid(world.engine, pid, &p), 0);
        ck_assert_int_eq(engine_attach(world.engine, &root, other, process_pidfd(p), &quiet, &refused), 0);
        engine_process_close(p);
        breed(child, "d");
        ck_assert_uint_eq(engine_count_members(world.engine, other, false), 1);
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 1);
        kill(pid, SIGKILL);
        run_while(is_busy, other);
        ck_assert_uint_eq(cancel(a), 1);
        run_for(50000);
        ck_assert(child_silent(child));
}
END_TEST

/* Out of its group: it stays the member that it is by its pidfd, and so do its children. */
START_TEST(who_is_moved_out_is_known_as_before)
{
        struct child *child = child_start(child_breed);
        struct context *c = make("a");

        group_enter(group_new(NULL), child->pid);
        attach(c, child, &term);
        breed(child, "f");
        group_enter(NULL, child->pid);
        breed(child, "f");
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 3); /* itself, one here, one there */
        breed(child, "c");
        cancel(c);
        ck_assert_int_eq(child_say(child), 'T');
        kill(child->pid, SIGKILL);
        (void) child_wait(child);
        ck_assert(c->busy); /* one is in the group */
}
END_TEST

static void body_setuid(int in, int out)
{
        if (setresuid(65534, 0, 0) < 0)
                _exit(1);
        child_breed(in, out);
}

START_TEST(law_32_only_whom_the_one_who_attached_might_signal)
{
        static const struct policy by_user = {.signal = SIGTERM, .kill_after_usec = 30000, .uid = 65534};
        struct child *changed = child_start(body_setuid);
        struct context *c = make("a");

        group_enter(group_new(NULL), changed->pid);
        attach(c, changed, &by_user);
        breed(changed, "fd");
        breed(changed, "c");
        ck_assert_uint_eq(cancel(c), 3);
        run_for(150000);
        ck_assert(child_silent(changed));
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 3);
        ck_assert(c->busy);
}
END_TEST

#define SUBORDINATE 3000000 /* of 65534, by a file that only this process sees */

/* In place of /etc/subuid. Who may make control groups may mount, too. */
static void grant(const char *text)
{
        char path[] = "/tmp/ctxd-test-subuid-XXXXXX";
        int fd = mkstemp(path);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t) strlen(text));
        close(fd);
        ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
        ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        ck_assert_int_eq(mount(path, "/etc/subuid", NULL, MS_BIND, NULL), 0);
        unlink(path);
}

static void body_subordinate(int in, int out)
{
        if (setresuid(65534, SUBORDINATE, SUBORDINATE) < 0)
                _exit(1);
        child_count(in, out);
}

static void body_one_too_many(int in, int out)
{
        if (setresuid(SUBORDINATE + 2, SUBORDINATE, SUBORDINATE) < 0)
                _exit(1);
        child_count(in, out);
}

START_TEST(law_32_subordinate_uids_are_the_users)
{
        static const struct policy by_user = {
                        .signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY, .uid = 65534};
        struct child *own = child_start(body_subordinate), *other = child_start(body_one_too_many);
        struct context *c = make("a");

        /* By number and by name; and what is another user's. */
        grant(_i == 0 ? "root:3000002:1\n65534:3000000:2\n" : "nobody:3000000:2\n");
        attach(c, own, &by_user);
        attach(c, other, &by_user);
        cancel(c);
        ck_assert_int_eq(child_say(own), 'T');
        run_for(50000);
        ck_assert(child_silent(other));
}
END_TEST

static void *outlive(void *userdata)
{
        (void) signal(SIGTERM, SIG_IGN);
        child_ready(*(int *) userdata);
        for (;;)
                pause();
        return NULL;
}

/* Its leader exits, a thread goes on: the process is there, and is what /proc calls a zombie. */
static void body_headless(int in, int out)
{
        pthread_t thread;
        char byte;

        child_ready(out);
        if (read(in, &byte, 1) != 1 || pthread_create(&thread, NULL, outlive, &out) != 0)
                _exit(1);
        pthread_exit(NULL);
}

static bool has_leader(void *userdata)
{
        char path[64], text[64] = {};
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/stat", (int) ((struct child *) userdata)->pid);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        ck_assert_uint_gt(fread(text, 1, sizeof text - 1, f), 0);
        fclose(f);
        return !strstr(text, ") Z ");
}

START_TEST(law_32_a_process_whose_leader_has_exited_is_killed)
{
        struct child *child = child_start(body_headless);
        struct context *c = make("a");
        int status;

        if (_i == 1)
                group_enter(group_new(NULL), child->pid);
        attach(c, child, &kill_soon);
        child_tell(child, 'g');
        ck_assert_int_eq(child_say(child), '!');
        run_while(has_leader, child);
        ck_assert(c->busy);
        ck_assert_uint_eq(cancel(c), 1);
        status = child_wait(child);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        run_while(is_busy, c);
}
END_TEST

START_TEST(law_32_relays_are_ended)
{
        struct child *child = child_start(child_relay);
        struct context *c = make("a");

        group_enter(group_new(NULL), child->pid);
        attach(c, child, &kill_soon);
        breed(child, "x");
        (void) child_wait(child);
        ck_assert(c->busy);
        cancel(c);
        run_while(is_busy, c);
        ck_assert_uint_eq(processes(c, NULL, 0), 0);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("cgroup");
        TCase *c = tcase_create("cgroup");
        const char *reason = group_missing();
        int r;

        if (reason) {
                printf("1..0 # SKIP %s\n", reason);
                return EXIT_SUCCESS;
        }
        tcase_add_checked_fixture(c, world_start, stop);
        tcase_set_timeout(c, 60);
        tcase_add_test(c, law_30_all_in_the_group_are_members);
        tcase_add_test(c, law_31_drained_when_the_group_has_emptied);
        tcase_add_test(c, a_slot_is_given_back_when_the_group_has_emptied);
        tcase_add_test(c, law_32_killed_after);
        tcase_add_test(c, a_group_with_others_in_it_is_not_its_own);
        tcase_add_test(c, law_48_groups_that_empty_together);
        tcase_add_test(c, law_30_nobody_in_it_leaves);
        tcase_add_test(c, law_32_who_descends_from_one_attached_elsewhere);
        tcase_add_test(c, law_32_an_orphan_in_the_group_that_is_nobodys);
        tcase_add_test(c, who_is_moved_out_is_known_as_before);
        tcase_add_test(c, law_32_only_whom_the_one_who_attached_might_signal);
        tcase_add_loop_test(c, law_32_subordinate_uids_are_the_users, 0, 2);
        tcase_add_loop_test(c, law_32_a_process_whose_leader_has_exited_is_killed, 0, 2);
        tcase_add_test(c, law_32_relays_are_ended);
        suite_add_tcase(s, c);
        r = run_suite(s);
        group_remove_left();
        return r;
}
