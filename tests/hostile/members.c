/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Members: as many as may be, those that come and go, and those that fork. Bob has members, too. */

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/hostile/members.h"

#define LINES 4
#define FORKERS 4
#define CROWD (CROWD_PROCESSES - 1 - FORKERS)
#define READY_USEC 500000 /* in which slots are taken before it is measured */

static int self;

/* A context of its own for each call: with that many slots, she is a member of the last one alone. */
static sd_bus_message *next_slot(sd_bus *b, unsigned n)
{
        return call_of(b, "Create", "sa{sv}", "~/slots/", 2, "parents", "b", 1, "attach", "h", self);
}

void take_slots(void)
{
        self = open_pidfd(getpid());
        call_for_ever(LINES, READY_USEC, next_slot);
}

/* She comes, and what she came to is released. */
static sd_bus_message *next_coming(sd_bus *b, unsigned n)
{
        char path[32];

        snprintf(path, sizeof path, "~/at/%u", n / 2 % 64);
        if (n % 2)
                return call_of(b, "Release", "s", path);
        return call_of(b, "Create", "sa{sv}", path, 3, "parents", "b", 1, "open", "b", 1, "attach", "h",
                        self);
}

void come_and_go(void)
{
        self = open_pidfd(getpid());
        call_for_ever(1, 0, next_coming);
}

/* Members fork without a pause, there are a hundred more, and she asks who they are, and cancels. */
static sd_bus_message *next_question(sd_bus *b, unsigned n)
{
        switch (n % 5) {
        case 0:
                return call_of(b, "Create", "sa{sv}", "~/forks/", 0);
        case 1:
                return call_of(b, "Members", "su", "~/forks", 0);
        case 2:
                return call_of(b, "Preview", "su", "~/forks", 0);
        case 3:
                return call_of(b, "Processes", "sbu", "~/forks", 1, 0);
        default:
                return call_of(b, "CancelCause", "sis", "~/forks/none", 1, "");
        }
}

static void fork_for_ever(void)
{
        for (;;) {
                pid_t pid = fork();

                if (pid == 0)
                        _exit(0);
                if (pid > 0)
                        (void) waitpid(pid, NULL, 0);
        }
}

void fork_crowds(void)
{
        sd_bus *b = connect_bus();

        self = open_pidfd(getpid());
        OK(b, "Create", "sa{sv}", "~/forks", 2, "parents", "b", 1, "attach", "h", self);
        for (int i = 0; i < CROWD + FORKERS; i++)
                if (fork_tied() == 0) {
                        if (i >= CROWD)
                                fork_for_ever();
                        for (;;)
                                pause();
                }
        call_for_ever(LINES, 0, next_question);
}

/* Members that stay when their contexts end: they get a signal, which they ignore, and are looked for. */
static sd_bus_message *next_end(sd_bus *b, unsigned n)
{
        char path[32];

        snprintf(path, sizeof path, "~/stay/%u", n / 2);
        if (n % 2)
                return call_of(b, "Cancel", "ss", path, "");
        return call_of(b, "Create", "sa{sv}", path, 4, "parents", "b", 1, "attach", "h", self, "signal", "i",
                        SIGTERM, "grace-usec", "t", UINT64_C(1000));
}

void stay(void)
{
        (void) signal(SIGTERM, SIG_IGN);
        self = open_pidfd(getpid());
        for (int i = 0; i < CROWD; i++)
                if (fork_tied() == 0)
                        for (;;)
                                pause();
        call_for_ever(1, 0, next_end);
}

/* Threads that do nothing, and belong to no context. */
#define IDLE_THREADS 10000

static void *idle(void *userdata)
{
        for (;;)
                pause();
        return NULL;
}

static void many_threads(void)
{
        pthread_attr_t attr;
        pthread_t thread;
        unsigned n = 0;

        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN);
        while (n < IDLE_THREADS && pthread_create(&thread, &attr, idle, NULL) == 0)
                n++;
        attack_did(n);
        attack_ready();
        for (;;)
                pause();
}

START_TEST(many_idle_threads)
{
        withstand(&(struct attack){"members: 10,000 idle threads", many_threads, .with_member = true});
}
END_TEST

static void start_with_probe(void)
{
        start_with("Probe=auto\nLeakGraceSec=10ms\nRetainSec=1s\n");
}

START_TEST(slots_are_taken)
{
        withstand(&(struct attack){"members: attach without end", take_slots, .with_member = true});
}
END_TEST

START_TEST(members_come_and_go)
{
        withstand(&(struct attack){"members: attach and detach", come_and_go, .with_member = true});
}
END_TEST

START_TEST(members_fork)
{
        withstand(&(struct attack){"members: forks", fork_crowds, .with_member = true});
}
END_TEST

START_TEST(members_stay)
{
        withstand(&(struct attack){"members: stay after the end", stay, .with_member = true});
}
END_TEST

void add_members(Suite *s)
{
        ATTACK(s, "members", start_with_probe, slots_are_taken);
        ATTACK(s, "members", start_with_probe, members_come_and_go);
        ATTACK(s, "members", start_with_probe, members_fork);
        ATTACK(s, "members", start_with_probe, members_stay);
        ATTACK(s, "members", start_with_probe, many_idle_threads);
}
