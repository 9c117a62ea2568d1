/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Descriptors that the kernel does not send. It counts together what all processes of a user have sent and
 * nobody has received, and a user's own daemon may not send any more when that is as much as it may open. */

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "raw.h"

#define TABLE 1024
#define MANAGER CTXD_OBJECT, CTXD_MANAGER_INTERFACE

static void start_of_user(void)
{
        world.uid = ALICE;
        world.table = TABLE;
        start_retaining();
}

/* As alice: sends more descriptors than the daemon may have in flight. */
static void send_many(void *userdata)
{
        const int *to = userdata;
        struct rlimit limit;
        int fds[200];

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = limit.rlim_max;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                fds[i] = STDERR_FILENO;
        for (unsigned i = 0; i < 2 * TABLE / ELEMENTSOF(fds); i++)
                ck_assert(raw_send(*to, "", 1, fds, ELEMENTSOF(fds)));
}

/* They are in flight until the caller closes this. */
static int fill_flight(void)
{
        int pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        run_as(ALICE, send_many, &pair[0]);
        close(pair[0]);
        return pair[1];
}

#define UNSENT(...) REFUSED(bus, CTXD_ERROR_LIMITS_EXCEEDED, __VA_ARGS__)

START_TEST(law35_a_descriptor_that_cannot_be_sent_was_not_given)
{
        unsigned before;
        pid_t member;
        int pidfd, kept, unread;

        create(bus, "a");
        create(bus, "b");
        member = sleeper(&pidfd);
        OK(bus, "Attach", "sha{sv}", "a", pidfd, 0);
        kept = done_handle(bus, "b");
        before = settled_fds();
        unread = fill_flight();
        UNSENT("Done", "s", "a");
        UNSENT("Done", "s", "b");
        UNSENT("Drained", "s", "a");
        UNSENT("Lifeline", "s", "a");
        UNSENT("Threads", "s", "a");
        UNSENT("Page", "s", "a");
        UNSENT("Process", "su", "a", (uint32_t) member);
        UNSENT("Alive", NULL);
        expect_fds(before);
        EXPECT_ACTIVE(bus, "a"); /* although the only copy of its lifeline was closed */
        close(unread);
        close(done_handle(bus, "a"));
        ck_assert(cancel(bus, "b", ""));
        ck_assert(becomes_readable(kept)); /* it was given before */
        close(kept);
        end_process(member);
        close(pidfd);
}
END_TEST

/* Who lacks the page asks for it. */
START_TEST(law35_a_context_is_made_also_where_its_page_cannot_be_sent)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        int unread = fill_flight(), made;
        uint64_t number;

        m = CALL(bus, "CreateAndOpen", "sa{sv}b", "a", 0, 1);
        READ(m, "stbut", NULL, NULL, &made, NULL, NULL);
        ck_assert(made);
        ck_assert_uint_eq(length_of(m, "h"), 0);
        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        READ(m, "t", &number);
        ck_assert_uint_gt(number, 0);
        UNSENT("Page", "s", "a");
        close(unread);
        OK(bus, "Page", "s", "a");
}
END_TEST

/* -- Over a bus all that is sent is in one queue. */

#define VALUE_BYTES 30000 /* a reply that waits for no other */
#define ANSWERS 60        /* more than a socket takes */

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        unsigned *answers = userdata;

        ck_assert(!sd_bus_message_is_method_error(m, NULL));
        ++*answers;
        return 1;
}

static int on_refusal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        ck_assert_str_eq(sd_bus_message_get_error(m)->name, CTXD_ERROR_LIMITS_EXCEEDED);
        *(bool *) userdata = true;
        return 1;
}

static void ask(const char *member, const char *path, sd_bus_message_handler_t handler, void *userdata)
{
        ck_assert_int_ge(sd_bus_call_method_async(bus, NULL, CTXD_BUS_NAME, MANAGER, member, handler,
                                         userdata, "s", path),
                        0);
}

static void create_long(const char *path)
{
        char value[VALUE_BYTES + 1];

        memset(value, 'x', VALUE_BYTES);
        value[VALUE_BYTES] = '\0';
        OK(bus, "Create", "sa{sv}", path, 1, "values", "a{ss}", 1, "org.example.key", value);
}

/* The kernel would refuse it when its turn comes, and the connection would be lost to all. */
START_TEST(a_descriptor_behind_what_the_bus_has_not_taken)
{
        unsigned answers = 0;
        bool refused = false;
        int unread;

        create_long("long");
        create(bus, "a");
        unread = fill_flight();
        stop_daemon();
        for (unsigned i = 0; i < ANSWERS; i++)
                ask("Values", "long", on_answer, &answers);
        ask("Done", "a", on_refusal, &refused);
        /* The answer says that the bus has got all before this. */
        ck_assert_int_ge(sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                         "org.freedesktop.DBus", "GetId", NULL, NULL, NULL),
                        0);
        ck_assert_int_eq(kill(world.bus.pid, SIGSTOP), 0);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        ck_assert_happens(process_sleeps(world.daemon.pid, 0));
        ck_assert_int_eq(kill(world.bus.pid, SIGCONT), 0);
        while (answers < ANSWERS || !refused)
                if (sd_bus_process(bus, NULL) == 0)
                        ck_assert_int_gt(sd_bus_wait(bus, WIDE_SEC * UINT64_C(1000000)), 0);
        close(unread);
        close(done_handle(bus, "a"));
}
END_TEST

void add_unsent(Suite *s)
{
        ADD_TESTS(s, "unsent", start_of_user, law35_a_descriptor_that_cannot_be_sent_was_not_given,
                        law35_a_context_is_made_also_where_its_page_cannot_be_sent);
        if (world.transport != TRANSPORT_DIRECT)
                ADD_TESTS(s, "unsent-by-a-bus", start_of_user,
                                a_descriptor_behind_what_the_bus_has_not_taken);
}
