/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Uids take turns (law 48). */

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "harness.h"
#include "raw.h"

/* Many calls in a row that want no reply. */
static struct raw many;

static void add_call(struct raw *call)
{
        ck_assert_uint_lt(many.n + call->n, sizeof many.bytes);
        memcpy(many.bytes + many.n, call->bytes, call->n);
        many.n += call->n;
}

static void no_reply(struct raw *call, uint32_t serial, const char *member, const char *signature)
{
        raw_begin(call, serial, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member, signature);
        call->bytes[2] = 1;
}

#define CROWD 200
#define CROWD_OVER_BUS 50        /* all that they say fits into the daemon's socket */
#define CALLS 2                  /* of each */
#define FIRST_SUBORDINATE 200000 /* of a block of 65,536 */
#define DEPTH 60                 /* each call makes so many contexts, so that it takes a turn */
#define ROUNDS 3

static sd_bus *connect_as(uid_t uid)
{
        sd_bus *b;

        ck_assert_int_eq(setresuid(uid, uid, 0), 0);
        b = connect_bus();
        OK(b, "Create", "sa{sv}", "~", 1, "open", "b", 1);
        ck_assert_int_eq(setresuid(0, 0, 0), 0);
        return b;
}

/* A call of Create that takes a turn. */
static sd_bus_message *deep(sd_bus *b, int number)
{
        sd_bus_message *m = NULL;
        char path[32 + 2 * DEPTH];
        int n = snprintf(path, sizeof path, "~/%d", number);

        for (int i = 1; i < DEPTH; i++)
                n += snprintf(path + n, sizeof path - (size_t) n, "/x");
        ck_assert_int_ge(sd_bus_message_new_method_call(
                                         b, &m, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Create"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "sa{sv}", path, 1, "parents", "b", 1), 0);
        return m;
}

/* All that was sent to the daemon is in its socket then. */
static void has_been_sent(sd_bus *b)
{
        ck_assert_int_ge(sd_bus_flush(b), 0);
        if (world.transport != TRANSPORT_DIRECT)
                ck_assert_int_ge(sd_bus_call_method(b, "org.freedesktop.DBus", "/", "org.freedesktop.DBus",
                                                 "GetId", NULL, NULL, NULL),
                                0);
}

static int on_id(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        READ(m, "st", NULL, userdata);
        return 0;
}

static void await_id(sd_bus *b, const uint64_t *id)
{
        while (*id == 0)
                ck_assert(sd_bus_process(b, NULL) > 0 || sd_bus_wait(b, UINT64_MAX) >= 0);
}

static void stop_idle_daemon(void)
{
        ck_assert_happens(process_sleeps(world.daemon.pid, 0)); /* else it would count the stop for Bob */
        stop_daemon();
}

/* How many of the others' calls are handled before one of Bob's that comes behind all of them. Before that
 * he has had a turn, so that others without one would all come before him. */
static uint64_t calls_before_bobs(sd_bus *bobs, sd_bus *crowd[], int n, int number)
{
        _cleanup_message_ sd_bus_message *turn = deep(bobs, number), *reply = NULL, *m = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        uint64_t before, id = 0;

        ck_assert_happens(process_sleeps(world.daemon.pid, 0)); /* it has handled all of the round before */
        reply = send_call(bobs, turn, &error);
        ck_assert_msg(reply, "%s", error.message);
        READ(reply, "st", NULL, &before);
        stop_idle_daemon();
        for (int i = 0; i < n; i++) {
                for (int k = 0; k < CALLS; k++) {
                        _cleanup_message_ sd_bus_message *call = deep(crowd[i], (number * n + i) * CALLS + k);

                        ck_assert_int_ge(sd_bus_message_set_expect_reply(call, false), 0);
                        ck_assert_int_ge(sd_bus_send(crowd[i], call, NULL), 0);
                }
                has_been_sent(crowd[i]);
        }
        m = deep(bobs, number + ROUNDS);
        ck_assert_int_ge(sd_bus_call_async(bobs, NULL, m, on_id, &id, WIDE_SEC * UINT64_C(1000000)), 0);
        has_been_sent(bobs);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        await_id(bobs, &id);
        return (id - before) / DEPTH - 1;
}

/* What has been handled is counted, and not the time, which another program on the machine can take. The best
 * of several: on a busy machine a turn may seem to have been long. */
static void expect_fair(uid_t uid, uid_t step)
{
        const int n = world.transport == TRANSPORT_DIRECT ? CROWD : CROWD_OVER_BUS;
        sd_bus *crowd[CROWD], *bobs = connect_as(BOB);
        uint64_t least = UINT64_MAX;

        for (int i = 0; i < n; i++)
                crowd[i] = connect_as(uid + (uid_t) i * step);
        for (int round = 0; round < ROUNDS; round++) {
                uint64_t before = calls_before_bobs(bobs, crowd, n, round);

                if (before < least)
                        least = before;
        }
        for (int i = 0; i < n; i++)
                sd_bus_flush_close_unref(crowd[i]);
        sd_bus_flush_close_unref(bobs);
        ck_assert_msg(least < (uint64_t) n * 3 / 4, "%ju calls of %d came first", (uintmax_t) least,
                        n * CALLS);
}

START_TEST(law48_a_crowd_of_another_uid)
{
        expect_fair(ALICE, 0);
}
END_TEST

/* Whoever may use one uid of a block may use all of them, and has one share with all of them together. */
START_TEST(law48_a_crowd_of_subordinate_uids)
{
        expect_fair(FIRST_SUBORDINATE, 1);
}
END_TEST

#define QUEUED 1000

/* Sends calls while the daemon is stopped, and leaves. */
static void queue_and_leave(void *userdata)
{
        static struct raw call;
        char path[16];
        int fd = raw_connect();

        ck_assert_int_ge(fd, 0);
        many.n = 0;
        for (uint32_t i = 0; i < QUEUED; i++) {
                no_reply(&call, i + 1, "Create", "sa{sv}");
                snprintf(path, sizeof path, "left/%u", i);
                raw_text(&call, path);
                raw_u32(&call, 0);
                raw_align(&call, 8);
                raw_end(&call);
                add_call(&call);
        }
        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        ck_assert_happens(task_state(world.daemon.pid, world.daemon.pid) == 'T');
        raw_write(fd, many.bytes, many.n);
        close(fd);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
}

/* It gets one turn, so that a call of which no reply is wanted is not lost. */
START_TEST(who_has_left_costs_one_turn)
{
        create(bus, "left");
        queue_and_leave(NULL);
        work(bus, 5);
        ck_assert_happens(count_listed(bus, "left") > 1);
        ck_assert_uint_lt(count_listed(bus, "left"), QUEUED / 2);
}
END_TEST

/* Calls of one client are carried out in their order, however many turns they take. */
START_TEST(the_order_stays)
{
        char path[32];

        create(bus, "order");
        for (int i = 0; i < 2000; i++) {
                _cleanup_message_ sd_bus_message *m = NULL;

                snprintf(path, sizeof path, i % 2 ? "order/%d/below" : "order/%d", i / 2);
                ck_assert_int_ge(sd_bus_message_new_method_call(bus, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 CTXD_MANAGER_INTERFACE, "Create"),
                                0);
                ck_assert_int_ge(sd_bus_message_set_expect_reply(m, false), 0);
                ck_assert_int_ge(sd_bus_message_append(m, "sa{sv}", path, 0), 0);
                ck_assert_int_ge(sd_bus_send(bus, m, NULL), 0);
        }
        /* Each child was asked for after its parent. In another order it would have been refused. */
        ck_assert_uint_eq(count_listed(bus, "order"), 2001);
}
END_TEST

#define SIGNAL_BYTES (12 << 20) /* three of them are more than one uid may leave waiting */

static void send_large_signal(sd_bus *b)
{
        static uint8_t bytes[SIGNAL_BYTES];
        _cleanup_message_ sd_bus_message *m = NULL;

        ck_assert_int_ge(sd_bus_message_new_signal(b, &m, "/", "org.example.X", "Large"), 0);
        ck_assert_int_ge(sd_bus_message_set_destination(m, CTXD_BUS_NAME), 0);
        ck_assert_int_ge(sd_bus_message_append_array(m, 'y', bytes, sizeof bytes), 0);
        ck_assert_int_ge(sd_bus_send(b, m, NULL), 0);
        ck_assert_int_ge(sd_bus_flush(b), 0);
}

/* What others send to the daemon is not counted for who calls next (law 48). */
START_TEST(law48_signals_of_others)
{
        _cleanup_bus_ sd_bus *other = connect_bus();

        create(bus, "known");
        for (int i = 0; i < 3; i++)
                send_large_signal(other);
        /* The bus has all of them when it answers. */
        ck_assert_int_ge(sd_bus_call_method(other, "org.freedesktop.DBus", "/", "org.freedesktop.DBus",
                                         "GetId", NULL, NULL, NULL),
                        0);
        OK(bus, "Err", "s", "known");
}
END_TEST

static void bob_works(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        for (int i = 0; i < 20; i++)
                OK(b, "Create", "sa{sv}", "~/", 0);
        ck_assert_uint_eq(count_listed(b, "~"), 21);
}

static void start_with_little_unread(void)
{
        world_start("MaxUnreadBytesPerUser=64K\nRetainSec=10min\n", NULL);
}

#define LONG_LIST 10000

static void alice_makes_many(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        for (int i = 0; i < LONG_LIST; i++)
                OK(b, "Create", "sa{sv}", "~/", 0);
}

/* Until long after the time for which the others have to wait. */
#define CALLS_BEHIND 20
#define SIGNAL_EVERY_USEC UINT64_C(4000000)

/* One that is told something every few seconds. */
static void subscribe(int fd)
{
        static struct raw subscribe;
        _cleanup_bus_ sd_bus *b = connect_bus();
        char name[128];

        for (uint64_t i = 1; i < 2 * WIDE_SEC * UINT64_C(1000000) / SIGNAL_EVERY_USEC; i++)
                OK(b, "Create", "sa{sv}", "~/", 1, "timeout-usec", "t", i * SIGNAL_EVERY_USEC);
        raw_begin(&subscribe, 1, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Subscribe", "s");
        raw_text(&subscribe, "~");
        raw_end(&subscribe);
        raw_write(fd, subscribe.bytes, subscribe.n);
        ck_assert_int_eq(raw_read(fd, name), 2);
}

/* What one uid does not read is no other's concern. */
static void alice_does_not_read(void *userdata)
{
        static struct raw list, err;
        int lazy = raw_connect(), other = raw_connect();
        char name[128];

        raw_begin(&list, 1, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "List", "ssu");
        raw_text(&list, "~");
        raw_text(&list, "");
        raw_u32(&list, 0);
        raw_end(&list);
        raw_begin(&err, 1, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Err", "s");
        raw_text(&err, "~");
        raw_end(&err);
        raw_write(lazy, list.bytes, list.n);
        ck_assert(becomes_readable(lazy));
        ck_assert_happens(process_sleeps(world.daemon.pid, 0));
        raw_write(other, err.bytes, err.n);
        ck_assert_happens(process_sleeps(world.daemon.pid, 0));
        ck_assert(!is_readable(other));
        *(bool *) userdata = true;
        ck_assert_happens(!*(bool *) userdata);
        ck_assert(!is_readable(other));
        ck_assert_int_eq(raw_read(lazy, name), 2);
        ck_assert_int_eq(raw_read(other, name), 2);
        /* Also when the one that does not read goes, or has not read for some time, whatever it has asked for
         * and is told meanwhile. */
        for (int i = 0; i < 2; i++) {
                if (i == 1)
                        subscribe(lazy);
                raw_write(lazy, list.bytes, list.n);
                for (int k = 0; k < CALLS_BEHIND; k++)
                        raw_write(lazy, err.bytes, err.n);
                ck_assert(becomes_readable(lazy));
                ck_assert_happens(process_sleeps(world.daemon.pid, 0));
                raw_write(other, err.bytes, err.n);
                if (i == 0)
                        close(lazy);
                ck_assert_int_eq(raw_read(other, name), 2);
                if (i == 0)
                        lazy = raw_connect();
        }
        ck_assert(raw_is_closed(lazy));
        close(lazy);
        close(other);
}

START_TEST(unread_replies_have_a_limit)
{
        _cleanup_free_ char *log = NULL;
        bool *waits = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pid_t alice;

        ck_assert_ptr_ne(waits, MAP_FAILED);
        run_as(ALICE, alice_makes_many, NULL);
        alice = spawn_as(ALICE, alice_does_not_read, waits);
        ck_assert_happens(*waits);
        run_as(BOB, bob_works, NULL);
        *waits = false;
        wait_for(alice);
        log = daemon_log();
        ck_assert_ptr_nonnull(strstr(log, "Uid 1001 reached the limit on bytes of unread replies"));
        ck_assert_ptr_nonnull(strstr(log, "MaxUnreadBytesPerUser="));
        munmap(waits, 4096);
}
END_TEST

Suite *suite_turns(void)
{
        Suite *s = suite_create("turns");

        ADD_TESTS(s, "turns", start_retaining, the_order_stays);
        if (world.transport == TRANSPORT_DIRECT)
                ADD_TESTS(s, "turns", start_retaining, who_has_left_costs_one_turn);
        else
                ADD_TESTS(s, "turns", start_retaining, law48_signals_of_others);
        return s;
}

Suite *suite_turns_of_uids(void)
{
        Suite *s = suite_create("turns of uids");

        ADD_TESTS(s, "turns", start_retaining, law48_a_crowd_of_another_uid);
        /* Such users are not known to dbus-daemon. */
        if (world.transport != TRANSPORT_DBUS_DAEMON)
                ADD_TESTS(s, "turns", start_retaining, law48_a_crowd_of_subordinate_uids);
        if (world.transport == TRANSPORT_DIRECT)
                ADD_TESTS(s, "unread", start_with_little_unread, unread_replies_have_a_limit);
        return s;
}
