/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who is told what of a leak. All may read the context. But what its member is stuck in is told to those
 * alone who can see it in /proc (law 49): its user and root, and the kernel stack to root. */

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static void start_fake_probe(void)
{
        world_start("RetainSec=60s\n", getenv("FAKE_PROBE"));
}

/* The texts of one report. */
struct told {
        bool has_come;
        uint32_t pid;
        uint64_t count;
        char kind[32];
        char call[32], waits_on[32], why[32], stack[32], kernel_stack[32];
};

static void read_report(sd_bus_message *m, struct told *ret)
{
        const struct {
                const char *name;
                char *text;
        } texts[] = {
                        {"CTXD_LEAK", ret->kind},
                        {"CTXD_SYSCALL", ret->call},
                        {"CTXD_WAITS_ON", ret->waits_on},
                        {"CTXD_WHY", ret->why},
                        {"CTXD_STACK", ret->stack},
                        {"CTXD_KERNEL_STACK", ret->kernel_stack},
        };
        const char *name, *text;

        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "{sv}"), 1);
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                bool is_read = false;

                READ(m, "s", &name);
                for (size_t i = 0; i < ELEMENTSOF(texts) && !is_read; i++) {
                        is_read = strcmp(name, texts[i].name) == 0;
                        if (is_read) {
                                READ(m, "v", "s", &text);
                                strncpy(texts[i].text, text, sizeof ret->call - 1);
                        }
                }
                if (strcmp(name, "OBJECT_PID") == 0)
                        READ(m, "v", "u", &ret->pid);
                else if (strcmp(name, "CTXD_COUNT") == 0)
                        READ(m, "v", "t", &ret->count);
                else if (!is_read)
                        ck_assert_int_ge(sd_bus_message_skip(m, "v"), 0);
                ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        }
        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        ret->has_come = true;
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        if (sd_bus_message_is_signal(m, CTXD_MANAGER_INTERFACE, "LeakFound") > 0) {
                ck_assert_int_ge(sd_bus_message_skip(m, "st"), 0);
                read_report(m, userdata);
        }
        return 0;
}

struct recipient {
        uid_t uid;
        bool sees, sees_kernel;
        int ready; /* it has subscribed */
};

static void expect_told(const struct told *told, const struct recipient *r)
{
        ck_assert_uint_gt(told->pid, 0); /* that it is there */
        ck_assert_str_eq(told->call, r->sees ? "read(7)" : "");
        ck_assert_str_eq(told->waits_on, r->sees ? "pipe:[1]" : "");
        ck_assert_str_eq(told->why, r->sees ? "nobody told it" : "");
        ck_assert_str_eq(told->stack, r->sees ? "main" : "");
        ck_assert_str_eq(told->kernel_stack, r->sees_kernel ? "pipe_read+0x1" : "");
}

static void listen(void *userdata)
{
        const struct recipient *r = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        struct told signalled = {}, listed = {};

        ck_assert_int_ge(sd_bus_add_filter(b, NULL, on_message, &signalled), 0);
        OK(b, "Subscribe", "s", "/");
        ck_assert_int_eq(write(r->ready, "", 1), 1);
        ck_assert(HAPPENS(({
                OK(b, "Err", "s", "/");
                while (sd_bus_process(b, NULL) > 0)
                        ;
                signalled.has_come;
        })));
        expect_told(&signalled, r);

        _cleanup_message_ sd_bus_message *m = CALL(b, "Leaks", "su", "/", 0);
        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "(sta{sv})"), 1);
        ck_assert_int_eq(sd_bus_message_enter_container(m, 'r', "sta{sv}"), 1);
        ck_assert_int_ge(sd_bus_message_skip(m, "st"), 0);
        read_report(m, &listed);
        expect_told(&listed, r);
}

static void stay(void *userdata)
{
        ck_assert_int_eq(write(*(int *) userdata, "", 1), 1);
        pause();
}

/* A member of alice's, in a context that all may read. */
START_TEST(law49_each_is_told_what_it_may_see)
{
        struct recipient recipients[] = {{0, true, true}, {ALICE, true, false}, {BOB, false, false}};
        pid_t pids[ELEMENTSOF(recipients)], member;
        int ready[2], pidfd;
        char byte;

        ck_assert_int_eq(pipe(ready), 0);
        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0755);
        member = spawn_as(ALICE, stay, &ready[1]);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        pidfd = open_pidfd(member);
        OK(bus, "Attach", "sha{sv}", "shared", pidfd, 0);
        for (size_t i = 0; i < ELEMENTSOF(recipients); i++) {
                recipients[i].ready = ready[1];
                pids[i] = spawn_as(recipients[i].uid, listen, &recipients[i]);
                ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        }
        ck_assert(cancel(bus, "shared", "all hear it"));
        for (size_t i = 0; i < ELEMENTSOF(recipients); i++)
                wait_for(pids[i]);
        end_process(member);
        close(pidfd);
        close(ready[0]);
        close(ready[1]);
}
END_TEST

/* Of threads beyond a user's share it is told how many they are. They come before what is resolved. */
START_TEST(threads_that_are_only_counted)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        struct told told = {};
        int pidfd;
        pid_t pid = sleeper(&pidfd);

        create(bus, "crowded");
        OK(bus, "Attach", "sha{sv}", "crowded", pidfd, 0);
        cancel(bus, "crowded", "");
        ck_assert(HAPPENS(({
                m = sd_bus_message_unref(m);
                m = CALL(bus, "Leaks", "su", "/", 0);
                ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "(sta{sv})"), 1);
                told = (struct told){};
                if (sd_bus_message_enter_container(m, 'r', "sta{sv}") > 0) {
                        ck_assert_int_ge(sd_bus_message_skip(m, "st"), 0);
                        read_report(m, &told);
                }
                strcmp(told.kind, "more") == 0;
        })));
        ck_assert_uint_eq(told.count, 4224);
        ck_assert_uint_eq(told.pid, 0);
        ck_assert_str_eq(told.call, "");
        end_process(pid);
        close(pidfd);
}
END_TEST

#define PINGS 300

static int count_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        ck_assert(!sd_bus_message_is_method_error(m, NULL));
        (*(unsigned *) userdata)++;
        return 1;
}

static void process(sd_bus *b, const unsigned *answers, unsigned n)
{
        while (*answers < n)
                if (sd_bus_process(b, NULL) == 0)
                        ck_assert_int_gt(sd_bus_wait(b, WIDE_SEC * UINT64_C(1000000)), 0);
}

/* Asks for leaks while another client pings: many pongs come before the answer. */
static void list_beside(sd_bus *b, sd_bus *other)
{
        struct pollfd answer = {.fd = sd_bus_get_fd(b), .events = POLLIN};
        unsigned lists = 0, pongs = 0;

        stop_daemon();
        ck_assert_int_ge(sd_bus_call_method_async(b, NULL, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "Leaks", count_answer, &lists, "su", "/", 0),
                        0);
        for (unsigned i = 0; i < PINGS; i++)
                ck_assert_int_ge(sd_bus_call_method_async(other, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 "org.freedesktop.DBus.Peer", "Ping", count_answer, &pongs,
                                                 NULL),
                                0);
        ck_assert_int_ge(sd_bus_flush(b), 0);
        ck_assert_int_ge(sd_bus_flush(other), 0);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        ck_assert_int_eq(poll(&answer, 1, WIDE_SEC * 1000), 1);
        stop_daemon();
        while (sd_bus_process(other, NULL) > 0)
                ;
        ck_assert_uint_ge(pongs, PINGS / 6);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        process(b, &lists, 1);
        process(other, &pongs, PINGS);
}

START_TEST(law48_others_are_served_between_leaks)
{
        _cleanup_bus_ sd_bus *other = NULL;
        int pidfd;
        pid_t pid;

        if (world.transport != TRANSPORT_DIRECT)
                return;
        other = connect_bus();
        pid = sleeper(&pidfd);
        create(bus, "many");
        OK(bus, "Attach", "sha{sv}", "many", pidfd, 0);
        cancel(bus, "many", "");
        ck_assert(HAPPENS(({
                _cleanup_message_ sd_bus_message *m = CALL(bus, "Leaks", "su", "/", 0);

                length_of(m, "(sta{sv})") > 500;
        })));
        OK(other, "Err", "s", "many");
        /* Twice, since the daemon looks at one of the two first. */
        list_beside(bus, other);
        list_beside(other, bus);
        end_process(pid);
        close(pidfd);
}
END_TEST

Suite *suite_leaks(void)
{
        Suite *s = suite_create("leaks");

        ADD_TESTS(s, "leaks", start_fake_probe, law49_each_is_told_what_it_may_see,
                        threads_that_are_only_counted, law48_others_are_served_between_leaks);
        return s;
}
