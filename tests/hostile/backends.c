/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The attacks on members where the kernel does not know them: with control groups, by pidfds alone, with a
 * probe that looks into /proc; where /proc hides the processes of others; where no more processes may be
 * made; and by many uids, as somebody has who may use subordinate ones. */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/hostile/members.h"
#include "tests/world/group.h"

#define READY_USEC 200000 /* by then groups have emptied */
/* A crowd that forks, or stays, is looked at in parts, each of which takes as long as some of Bob's calls.
 * That is 3 to 6 times his time on a machine at rest, too near to the limit of all attacks for a busy one. */
#define WITHOUT_BPF 30

static void start_direct(void)
{
        start_with("Probe=off\nRetainSec=1s\n");
}

static void start_proc(void)
{
        start_with("Probe=proc\nLeakGraceSec=10ms\nRetainSec=1s\n");
}

/* A control group for Alice alone. */
static const char *group, *no_groups;

static void enter_group(pid_t pid)
{
        group_enter(group, pid);
}

static void withstand_in_group(const struct attack *a)
{
        if (no_groups) {
                printf("# %s: skipped: %s\n", a->name, no_groups);
                return;
        }
        group_remove_left(); /* by a test that has failed */
        group = group_new(NULL);
        withstand(a);
        group_remove_left();
}

/* Alice's group is one that she finds when she is attached, so each process of hers is a member by it. */
START_TEST(cgroup_slots)
{
        withstand_in_group(&(struct attack){
                        "cgroup: attach without end", take_slots, .place = enter_group, .with_member = true});
}
END_TEST

START_TEST(cgroup_come_and_go)
{
        withstand_in_group(&(struct attack){
                        "cgroup: attach and detach", come_and_go, .place = enter_group, .with_member = true});
}
END_TEST

START_TEST(cgroup_forks)
{
        withstand_in_group(&(struct attack){"cgroup: forks", fork_crowds, .place = enter_group,
                        .with_member = true, .max = WITHOUT_BPF});
}
END_TEST

/* Groups of Alice's, in each of which a member of hers is, and another process of hers that takes these
 * members out and puts them back without a pause: the kernel tells the daemon of each group that empties. */
#define STORM_GROUPS 16

static const char *storm[STORM_GROUPS];
static pid_t inhabitants[STORM_GROUPS];
static int inhabitant_fds[STORM_GROUPS];

static void give_to_alice(const char *directory)
{
        char path[440];

        snprintf(path, sizeof path, "%s/cgroup.procs", directory);
        ck_assert(chown(directory, ALICE, ALICE) == 0 && chown(path, ALICE, ALICE) == 0);
}

static sd_bus_message *next_storm(sd_bus *b, unsigned n)
{
        char path[32];

        snprintf(path, sizeof path, "~/storm/%u", n / 2 % STORM_GROUPS);
        if (n % 2)
                return call_of(b, "Release", "s", path);
        return call_of(b, "Create", "sa{sv}", path, 3, "parents", "b", 1, "open", "b", 1, "attach", "h",
                        inhabitant_fds[n / 2 % STORM_GROUPS]);
}

static void fill_and_empty(void)
{
        for (int i = 0; i < STORM_GROUPS; i++)
                if ((inhabitants[i] = fork_tied()) == 0)
                        for (;;)
                                pause();
        for (int i = 0; i < STORM_GROUPS; i++) {
                inhabitant_fds[i] = open_pidfd(inhabitants[i]);
                group_enter(storm[i], inhabitants[i]);
        }
        if (fork_tied() == 0)
                for (int i = 0;; i = (i + 1) % STORM_GROUPS) {
                        group_enter(group, inhabitants[i]);
                        group_enter(storm[i], inhabitants[i]);
                }
        call_for_ever(1, READY_USEC, next_storm);
}

START_TEST(cgroup_events)
{
        if (no_groups) {
                printf("# cgroup: events: skipped: %s\n", no_groups);
                return;
        }
        group_remove_left();
        group = group_new(NULL);
        give_to_alice(group);
        for (int i = 0; i < STORM_GROUPS; i++)
                give_to_alice(storm[i] = group_new(group));
        withstand(&(struct attack){
                        "cgroup: events", fill_and_empty, .place = enter_group, .with_member = true});
        group_remove_left();
}
END_TEST

/* A control group may have no more processes than it has, but for a few. */
static void enter_full_group(pid_t pid)
{
        char most[16];

        /* Those of the round before are still counted while they end. */
        ck_assert(HAPPENS(group_read(group, "pids.current", NULL) == 0));
        snprintf(most, sizeof most, "%d", CROWD_PROCESSES + 3);
        ck_assert(group_write(group, "pids.max", most));
        group_enter(group, pid);
}

START_TEST(full_group_forks)
{
        group = no_groups ? NULL : group_controlled("pids");
        if (!group) {
                printf("# pids.max reached: forks: skipped: %s\n",
                                no_groups ? no_groups : "no control group can have pids.max");
                return;
        }
        withstand(&(struct attack){"pids.max reached: forks", fork_crowds, .place = enter_full_group,
                        .with_member = true, .max = WITHOUT_BPF});
        ck_assert_uint_gt(group_read(group, "pids.events", "max "), 0); /* it was reached */
        group_remove_left();
}
END_TEST

START_TEST(direct_slots)
{
        withstand(&(struct attack){"direct: attach without end", take_slots, .with_member = true});
}
END_TEST

START_TEST(direct_come_and_go)
{
        withstand(&(struct attack){"direct: attach and detach", come_and_go, .with_member = true});
}
END_TEST

START_TEST(direct_forks)
{
        withstand(&(struct attack){"direct: forks", fork_crowds, .with_member = true, .max = WITHOUT_BPF});
}
END_TEST

START_TEST(proc_forks)
{
        withstand(&(struct attack){"/proc: forks", fork_crowds, .with_member = true, .max = WITHOUT_BPF});
}
END_TEST

START_TEST(proc_stay)
{
        withstand(&(struct attack){
                        "/proc: stay after the end", stay, .with_member = true, .max = WITHOUT_BPF});
}
END_TEST

/* The daemon is not root, and in the group that may see all. */
static void become_daemon(const struct daemon *d)
{
        char options[48];

        snprintf(options, sizeof options, "hidepid=2,gid=%d", DAEMON);
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                        mount("proc", "/proc", "proc", 0, options) < 0)
                _exit(77);
        if (setresgid(DAEMON, DAEMON, DAEMON) < 0 || setresuid(DAEMON, DAEMON, DAEMON) < 0)
                _exit(1);
        tie_to_parent(getppid());
}

static const char *no_hidepid;

static bool may_hide(void)
{
        pid_t pid = fork_tied();
        int status;

        if (pid == 0) {
                if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                                mount("proc", "/proc", "proc", 0, "hidepid=2") < 0)
                        _exit(1);
                _exit(0);
        }
        return waitpid(pid, &status, 0) == pid && status == 0;
}

static void start_hidden(void)
{
        world_prepare("RetainSec=1s\n", NULL);
        if (may_hide()) {
                ck_assert_int_eq(chown(world.daemon.directory, DAEMON, DAEMON), 0);
                world.daemon.prepare = become_daemon;
        } else {
                no_hidepid = "no /proc can be mounted";
        }
        daemon_again(&world.daemon);
}

static void withstand_hidden(const struct attack *a)
{
        if (no_hidepid)
                printf("# %s: skipped: %s\n", a->name, no_hidepid);
        else
                withstand(a);
}

START_TEST(hidden_come_and_go)
{
        withstand_hidden(&(struct attack){"hidepid: attach and detach", come_and_go, .with_member = true});
}
END_TEST

START_TEST(hidden_forks)
{
        withstand_hidden(&(struct attack){
                        "hidepid: forks", fork_crowds, .with_member = true, .max = WITHOUT_BPF});
}
END_TEST

/* A user may have no more processes than it has, but for a few. It is one of this test alone: what others run
 * would count. */
static void fill_pids(void)
{
        const struct rlimit limit = {CROWD_PROCESSES + 3, CROWD_PROCESSES + 3};

        become_user(61000 + (uid_t) getpid() % 4000);
        tie_to_parent(getppid());
        ck_assert_int_eq(setrlimit(RLIMIT_NPROC, &limit), 0);
        fork_crowds();
}

START_TEST(pids_forks)
{
        withstand(&(struct attack){"no more processes: forks", fill_pids, .as_root = true,
                        .with_member = true, .max = WITHOUT_BPF});
}
END_TEST

/* Many uids, each with a process and a line. */
#define FIRST_UID 100000
#define UIDS 64

static void many_uids(void (*run)(void))
{
        for (uid_t i = 0; i < UIDS; i++)
                if (fork_tied() == 0) {
                        become_user(FIRST_UID + i);
                        tie_to_parent(getppid());
                        run();
                }
        for (;;)
                pause();
}

static void slots_of_uids(void)
{
        many_uids(take_slots);
}

static void uids_come_and_go(void)
{
        many_uids(come_and_go);
}

START_TEST(subordinate_slots)
{
        withstand(&(struct attack){
                        "64 uids: attach without end", slots_of_uids, .as_root = true, .with_member = true});
}
END_TEST

START_TEST(subordinate_come_and_go)
{
        withstand(&(struct attack){"64 uids: attach and detach", uids_come_and_go, .as_root = true,
                        .with_member = true});
}
END_TEST

void add_backends(Suite *s)
{
        no_groups = group_missing();
        ATTACK(s, "backends", start_direct, cgroup_slots);
        ATTACK(s, "backends", start_direct, cgroup_come_and_go);
        ATTACK(s, "backends", start_direct, cgroup_forks);
        ATTACK(s, "groups", start_direct, cgroup_events);
        ATTACK(s, "groups", start_direct, full_group_forks);
        ATTACK(s, "backends", start_direct, direct_slots);
        ATTACK(s, "backends", start_direct, direct_come_and_go);
        ATTACK(s, "backends", start_direct, direct_forks);
        ATTACK(s, "backends", start_proc, proc_forks);
        ATTACK(s, "backends", start_proc, proc_stay);
        ATTACK(s, "backends", start_hidden, hidden_come_and_go);
        ATTACK(s, "backends", start_hidden, hidden_forks);
        ATTACK(s, "backends", start_direct, pids_forks);
        ATTACK(s, "backends", start_direct, subordinate_slots);
        ATTACK(s, "backends", start_direct, subordinate_come_and_go);
}
