/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whoever may use one uid of a block may use all of them: together they leave something of each pool to
 * others. Here those of what waits for a client, or for polkit. (Of what is kept: quotas.c.) */

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "harness.h"
#include "raw.h"

#define FIRST 100000 /* of a block of 65,536 */

static void be(uid_t uid)
{
        ck_assert_int_eq(setresuid(uid, uid, 0), 0);
}

static sd_bus *connect_as(uid_t uid)
{
        sd_bus *b;

        be(uid);
        b = connect_bus();
        be(0);
        return b;
}

static int raw_connect_as(uid_t uid)
{
        int fd;

        be(uid);
        fd = raw_connect();
        be(0);
        ck_assert_int_ge(fd, 0);
        return fd;
}

/* A call with one text. */
static void raw_call(int fd, const char *member, const char *text)
{
        static struct raw m;

        raw_begin(&m, 1, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member, "s");
        raw_text(&m, text);
        raw_end(&m);
        raw_write(fd, m.bytes, m.n);
}

/* It has handled all that was sent, and has seen who has gone. */
static void daemon_rests(void)
{
        ck_assert_happens(process_sleeps(world.daemon.pid, 0));
}

static void make_shared(void)
{
        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0744);
}

/* -- Bytes of replies ------------------------------------------------------------------------------------ */

#define LAZY 20
#define VALUE_BYTES (900 << 10)
#define KEPT_MAX (4 + 4) /* until the pool is tight, and replies that have been begun before (TURNS_WALKS) */

static void start_few_unread_bytes(void)
{
        world_start("MaxUnreadBytes=4M\nMaxValueBytes=1M\nRetainSec=10min\n", NULL);
}

static bool has_hung_up(int fd)
{
        struct pollfd pollfd = {.fd = fd, .events = POLLRDHUP};

        return poll(&pollfd, 1, 0) > 0;
}

/* A reply waits for its reader, and the daemon keeps the rest. Who takes too long is closed, which may have
 * happened on a slow machine. Then it keeps nothing. */
static bool is_kept(int fd)
{
        return is_readable(fd) && !has_hung_up(fd);
}

START_TEST(subordinate_uids_leave_bytes_of_replies)
{
        _cleanup_bus_ sd_bus *bob = connect_as(BOB), *again = NULL;
        _cleanup_free_ char *text = malloc(VALUE_BYTES + 1);
        int fds[LAZY], n_kept = 0;

        memset(text, 'x', VALUE_BYTES);
        text[VALUE_BYTES] = '\0';
        OK(bus, "Create", "sa{sv}", "shared", 2, "mode", "u", 0744, "values", "a{ss}", 1, "org.example.x",
                        text);
        for (int i = 0; i < LAZY; i++) {
                fds[i] = raw_connect_as(FIRST + (uid_t) i);
                raw_call(fds[i], "Values", "shared");
        }
        daemon_rests();
        OK(bob, "Values", "s", "shared");
        for (int i = 0; i < LAZY; i++)
                n_kept += is_kept(fds[i]);
        ck_assert_int_le(n_kept, KEPT_MAX);
        ck_assert_uint_ge(logged("bytes of unread replies of all users"), 1);
        for (int i = 0; i < LAZY; i++)
                close(fds[i]);
        again = connect_as(FIRST);
        OK(again, "Values", "s", "shared");
}
END_TEST

/* -- Messages -------------------------------------------------------------------------------------------- */

/* Each of the block leaves fewer messages than a connection may, and all together more than the pool has. */
#define DEAF 22
#define SIGNALS 7000
#define SIGNALS_OF_BOB 1000 /* more than a socket takes */

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        *(unsigned *) userdata += sd_bus_message_is_signal(m, CTXD_MANAGER_INTERFACE, "ContextNew") > 0;
        return 0;
}

static sd_bus *subscribe_as(uid_t uid, const char *prefix, unsigned *n_heard)
{
        sd_bus *b = connect_as(uid);

        ck_assert_int_ge(sd_bus_add_filter(b, NULL, on_signal, n_heard), 0);
        OK(b, "Subscribe", "s", prefix);
        return b;
}

/* Who has subscribed is told of each. */
static void make_below(const char *path, unsigned n)
{
        char below[64];

        for (unsigned i = 0; i < n; i++) {
                snprintf(below, sizeof below, "%s/%u", path, i);
                create(bus, below);
        }
        daemon_rests();
}

static void hears(sd_bus *b, const unsigned *n_heard, unsigned n)
{
        while (*n_heard < n) {
                int r = sd_bus_process(b, NULL);

                ck_assert_int_ge(r, 0);
                if (r == 0)
                        ck_assert_int_gt(sd_bus_wait(b, WIDE_SEC * UINT64_C(1000000)), 0);
        }
}

START_TEST(subordinate_uids_leave_messages)
{
        unsigned n_closed = 0, n_heard = 0, n_bob = 0, n_again = 0;
        _cleanup_bus_ sd_bus *bob = NULL, *again = NULL;
        sd_bus *deaf[DEAF];

        make_shared();
        create(bus, "shared/many");
        create(bus, "shared/few");
        bob = subscribe_as(BOB, "shared/few", &n_bob);
        for (int i = 0; i < DEAF; i++)
                deaf[i] = subscribe_as(FIRST + (uid_t) i, "shared/many", &n_heard);
        make_below("shared/many", SIGNALS);
        for (int i = 0; i < DEAF; i++)
                n_closed += has_hung_up(sd_bus_get_fd(deaf[i]));
        ck_assert_uint_gt(n_closed, 0);
        ck_assert_uint_lt(n_closed, DEAF / 2);
        make_below("shared/few", SIGNALS_OF_BOB);
        hears(bob, &n_bob, SIGNALS_OF_BOB);
        for (int i = 0; i < DEAF; i++)
                sd_bus_close_unref(deaf[i]);
        daemon_rests();
        create(bus, "shared/few/again");
        again = subscribe_as(FIRST, "shared/few/again", &n_again);
        make_below("shared/few/again", SIGNALS_OF_BOB);
        hears(again, &n_again, SIGNALS_OF_BOB);
}
END_TEST

/* -- Descriptors on their way ---------------------------------------------------------------------------- */

#define TABLE 1024
#define OWN ((TABLE - 128) / 16) /* of one uid: a sixteenth of what the daemon leaves to users */
#define FULL 14                  /* so many uids take all but the last eighth */

static void start_small_table(void)
{
        world.table = TABLE;
        world_start("RetainSec=10min\n", NULL);
}

START_TEST(subordinate_uids_leave_descriptors_on_their_way)
{
        _cleanup_bus_ sd_bus *bob = connect_as(BOB), *last = connect_as(FIRST + FULL);
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int fds[FULL], of_bob = raw_connect_as(BOB);
        char name[128];

        make_shared();
        ck_assert(cancel(bus, "shared", "")); /* the daemon keeps no handle of what is done */
        for (int i = 0; i < FULL; i++) {
                fds[i] = raw_connect_as(FIRST + (uid_t) i);
                for (int k = 0; k < OWN; k++)
                        raw_call(fds[i], "Done", "shared");
        }
        daemon_rests();
        ck_assert_int_lt(sd_bus_call_method(last, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Done",
                                         &error, NULL, "s", "shared"),
                        0);
        ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
        ck_assert_msg(strstr(error.message, "descriptors of all users that were not received yet") &&
                                        strstr(error.message, "LimitNOFILE"),
                        "%s", error.message);
        for (int k = 0; k < OWN; k++)
                raw_call(of_bob, "Done", "shared");
        for (int k = 0; k < OWN; k++)
                ck_assert_int_eq(raw_read(of_bob, name), 2);
        close(done_handle(bob, "shared"));
        for (int i = 0; i < FULL; i++) {
                ck_assert_int_eq(raw_read(fds[i], name), 2);
                close(fds[i]);
        }
        close(of_bob);
        daemon_rests();
        close(done_handle(last, "shared"));
}
END_TEST

/* -- Questions to polkit --------------------------------------------------------------------------------- */

#define QUESTIONS 16 /* of one uid */

struct question {
        bool is_answered;
        char error[256];
};

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const sd_bus_error *e = sd_bus_message_get_error(m);
        struct question *q = userdata;

        q->is_answered = true;
        snprintf(q->error, sizeof q->error, "%s: %s", e ? e->name : "", e ? e->message : "");
        return 0;
}

/* Asks for what needs an authorization, until the daemon has that call. */
static void ask(sd_bus *b, struct question *q)
{
        _cleanup_message_ sd_bus_message *m = NULL;

        *q = (struct question){};
        ck_assert_int_ge(sd_bus_message_new_method_call(
                                         b, &m, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Err"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", "secret"), 0);
        ck_assert_int_ge(sd_bus_message_set_allow_interactive_authorization(m, true), 0);
        ck_assert_int_ge(sd_bus_call_async(b, NULL, m, on_answer, q, UINT64_MAX), 0);
        OK(b, "Err", "s", "/");
        while (sd_bus_process(b, NULL) > 0)
                ;
}

START_TEST(subordinate_uids_leave_questions)
{
        static struct question kept[FULL][QUESTIONS], own[QUESTIONS], more;
        _cleanup_bus_ sd_bus *bob = connect_as(BOB), *last = connect_as(FIRST + FULL);
        sd_bus *block[FULL];

        create(bus, "secret");
        polkit_thinks();
        for (int i = 0; i < FULL; i++) {
                block[i] = connect_as(FIRST + (uid_t) i);
                for (int k = 0; k < QUESTIONS; k++) {
                        ask(block[i], &kept[i][k]);
                        ck_assert(!kept[i][k].is_answered);
                }
        }
        ask(last, &more);
        ck_assert_msg(strstr(more.error, CTXD_ERROR_LIMITS_EXCEEDED) &&
                                        strstr(more.error, "questions to polkit of all users"),
                        "the answer is \"%s\"", more.error);
        for (int k = 0; k < QUESTIONS; k++) {
                ask(bob, &own[k]);
                ck_assert_msg(!own[k].is_answered, "%s", own[k].error);
        }
        for (int i = 0; i < FULL; i++)
                sd_bus_flush_close_unref(block[i]);
        ck_assert_happens((ask(last, &more), !more.is_answered));
        polkit_answers();
}
END_TEST

Suite *suite_pools(void)
{
        Suite *s = suite_create("pools");

        if (world.transport != TRANSPORT_DIRECT) /* what waits for a client of a bus is the bus's */
                return s;
        ADD_TESTS(s, "bytes", start_few_unread_bytes, subordinate_uids_leave_bytes_of_replies);
        ADD_TESTS(s, "messages", start_retaining, subordinate_uids_leave_messages);
        ADD_TESTS(s, "descriptors", start_small_table, subordinate_uids_leave_descriptors_on_their_way);
        return s;
}

Suite *suite_pools_of_polkit(void)
{
        Suite *s = suite_create("pools");

        if (world.transport == TRANSPORT_DBUS_BROKER) /* dbus-daemon does not know these uids */
                ADD_TESTS(s, "questions", start_polkit, subordinate_uids_leave_questions);
        return s;
}
