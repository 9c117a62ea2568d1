/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Clients that do not read their replies, or read slowly. */

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "daemon/bus/connection-internal.h"
#include "inside.h"
#include "proto/path.h"

static uint64_t unread_bytes(void)
{
        struct user *user = user_ref(&tree->users, getuid());
        uint64_t n = user->used[RESOURCE_UNREAD];

        user_unref(&tree->users, user);
        return n;
}

/* Few rows, since they are what takes time: who has not read for UNREAD_USEC is closed. */
#define LISTED 4400
#define LISTED_BYTES (LISTED * 340)
#define LONG_LABEL "of-which-a-list-is-so-long-that-no-socket-takes-it-whole"
#define LONG_PATH "large/" LONG_LABEL "-" LONG_LABEL "/" LONG_LABEL "-" LONG_LABEL

/* Who has many calls in its socket, and reads slowly, does not make the daemon keep ever more replies. */
START_TEST(who_reads_slowly_gets_few_replies)
{
        static char bytes[100000];
        struct client *c = client_new();
        int fd = sd_bus_get_fd(c->bus);

        make_many(LONG_PATH, LISTED);
        run();
        for (int i = 0; i < 50; i++)
                SEND(c, "List", "ssu", "large", "", 0);
        for (int i = 0; i < 100; i++) {
                run_deaf();
                ck_assert_uint_le(unread_bytes(), TURNS_WALKS * LISTED_BYTES);
                ck_assert_int_gt(recv(fd, bytes, sizeof bytes, 0), 0);
        }
}
END_TEST

#define MANY_SIGNALS 20000

/* It is closed, and nobody is told that memory is short. */
START_TEST(who_does_not_read_is_no_want_of_memory)
{
        struct client *c = client_new();

        SEND(c, "Subscribe", "s", "/");
        run();
        make_many("told", MANY_SIGNALS);
        run_deaf();
        ck_assert_uint_eq(service.n_connections, 0);
        ck_assert(!service.reserve.is_short);
}
END_TEST

/* A connection is held since another one does not read, and gets the reply to an earlier call, which is not
 * read, either. Then the daemon ends. */
START_TEST(an_end_with_a_held_connection)
{
        struct client *lazy = client_new(), *held = client_new();

        make_many(LONG_PATH, LISTED);
        run();
        tree->users.limit[RESOURCE_UNREAD] = 100000;
        SEND(held, "List", "ssu", "large", "", 0);
        SEND(lazy, "List", "ssu", "large", "", LISTED / 2);
        while (unread_bytes() == 0)
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
        ck_assert_uint_lt(unread_bytes(), LISTED_BYTES / 2);
        SEND(held, "Err", "s", "large");
        run_deaf();
        ck_assert_uint_gt(unread_bytes(), LISTED_BYTES / 2);
        ck_assert_uint_eq(service.n_connections, 2);
}
END_TEST

/* What its socket takes at once is sent in turns, and the daemon ends between them. */
START_TEST(an_end_with_a_reply_that_is_sent_in_parts)
{
        struct client *c = client_new();

        make_many(LONG_PATH, 700);
        make_many("told", 1);
        run();
        SEND(c, "Subscribe", "s", "told");
        run();
        SEND(c, "List", "ssu", "large", "", 0);
        while (unread_bytes() == 0)
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
        make("told/1");
        c->n_answers = c->n_errors = 0;
        service_finish(&service);
        ck_assert_uint_gt(n_heard(), 1);
        ck_assert_uint_eq(c->n_answers - c->n_errors, 1);
}
END_TEST

/* As if something had been counted for this call: it is answered in the next turn. */
static void put_back_call(struct endpoint *e)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        ck_assert_int_ge(sd_bus_message_new_method_call(e->bus, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                         CTXD_MANAGER_INTERFACE, "Err"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", "told"), 0);
        ck_assert_int_ge(sd_bus_message_seal(m, 1000, 0), 0);
        ck_assert_int_ge(e->again(e, m), 0);
}

/* Signals have filled the socket before that turn. Then the client reads, and the daemon ends. */
START_TEST(an_end_with_a_call_that_was_put_back)
{
        struct client *c = client_new();
        struct connection *of_client = TAILQ_FIRST(&service.connections);
        unsigned n_told;

        make_many("told", 1);
        run();
        SEND(c, "Subscribe", "s", "told");
        run();
        put_back_call(&of_client->endpoint);
        for (unsigned i = 1; connection_unread(of_client) < 3; i++) {
                char path[32];

                snprintf(path, sizeof path, "told/%u", i);
                make(path);
                service_drain(&service, NULL);
        }
        while (sd_bus_process(c->bus, NULL) > 0)
                ;
        ck_assert_uint_ge(connection_unread(of_client), 3);
        n_told = c->n_signals;
        service_finish(&service);
        n_heard();
        ck_assert_uint_ge(c->n_signals, n_told + 3);
}
END_TEST

/* One that is held, and leaves, has called all the same. */
START_TEST(who_is_held_and_leaves)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        struct client *lazy = client_new(), *held = client_new();
        struct context *c = make("c");

        make_many(LONG_PATH, LISTED);
        run();
        tree->users.limit[RESOURCE_UNREAD] = 100000;
        SEND(lazy, "List", "ssu", "large", "", 0);
        run_deaf();
        ck_assert_uint_gt(unread_bytes(), 0);
        ck_assert_int_ge(sd_bus_message_new_method_call(held->bus, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                         CTXD_MANAGER_INTERFACE, "Cancel"),
                        0);
        ck_assert_int_ge(sd_bus_message_set_expect_reply(m, false), 0);
        ck_assert_int_ge(sd_bus_message_append(m, "ss", "c", ""), 0);
        ck_assert_int_ge(sd_bus_send(held->bus, m, NULL), 0);
        run_deaf();
        ck_assert(!context_is_done(c));
        m = sd_bus_message_unref(m);
        held->bus = sd_bus_close_unref(held->bus);
        run_deaf();
        ck_assert(context_is_done(c));
}
END_TEST

#define UIDS 40

static struct client *client_of(uid_t uid)
{
        struct client *c;

        ck_assert_int_eq(seteuid(uid), 0);
        c = client_new();
        ck_assert_int_eq(seteuid(0), 0);
        return c;
}

/* Each uid of a block has read all before its first call. Together they are one, which waits. */
START_TEST(law_48_subordinate_uids_wait_for_each_other)
{
        struct pool *pool = &tree->users.pools[POOL_UNREAD];
        struct client *c[UIDS], *other;
        char path[CTXD_PATH_MAX + 1];

        if (geteuid() != 0) /* it takes other uids */
                return;
        for (unsigned i = 0; i < LISTED; i++) {
                struct context *made;

                snprintf(path, sizeof path, LONG_PATH "/%u", i);
                for (made = make(path); !context_is_background(made); made = made->parent)
                        made->mode = 0777;
        }
        pool->limit = 4 * LISTED_BYTES;
        for (size_t i = 0; i < UIDS; i++)
                c[i] = client_of(100000 + (uid_t) i);
        other = client_of(1002);
        run();
        for (size_t i = 0; i < UIDS; i++)
                SEND(c[i], "List", "ssu", "large", "", 0);
        run_deaf();
        ck_assert_uint_gt(pool->used, LISTED_BYTES);
        ck_assert_uint_le(pool->used, pool->limit + TURNS_WALKS * LISTED_BYTES);
        SEND(other, "Err", "s", "large");
        run_deaf();
        sd_bus_process(other->bus, NULL);
        ck_assert_uint_eq(other->n_answers, 1);
        for (int i = 0; i < 10; i++)
                run();
        for (size_t i = 0; i < UIDS; i++)
                ck_assert_uint_eq(c[i]->n_answers - c[i]->n_errors, 1);
        ck_assert_uint_eq(pool->used, 0);
}
END_TEST

#define READERS 40
#define VALUE_BYTES 100000

static void make_long(const char *path)
{
        static char text[VALUE_BYTES];
        const struct value value = {(char *) "org.example.key", memset(text, 'x', sizeof text - 1)};
        const struct create_options options = {.deadline_usec = CTXD_USEC_INFINITY,
                        .mode = CONTEXT_MODE_INHERIT,
                        .values = &value,
                        .n_values = 1};
        struct refused refused = {};
        struct context *c;

        ck_assert_int_eq(tree_create(tree, now_boottime_usec(), &caller_daemon, path, &options, &c, &refused),
                        1);
}

/* They read all that they are sent. That it is sent in parts is not their fault. */
START_TEST(many_who_read_a_long_reply)
{
        make_long("long");
        tree->users.limit[RESOURCE_STALLED] = READERS / 2;
        for (unsigned i = 0; i < READERS; i++)
                client_new();
        run();
        for (unsigned i = 0; i < READERS; i++)
                SEND(&clients[i], "Values", "s", "long");
        run();
        for (unsigned i = 0; i < READERS; i++)
                ck_assert_uint_eq(clients[i].n_answers - clients[i].n_errors, 1);
        ck_assert_uint_eq(service.n_connections, READERS);
}
END_TEST

/* It has read all that it was sent. Then the daemon was stopped for long. */
START_TEST(who_reads_all_before_the_daemon_is_stopped)
{
        static char bytes[1000000];
        struct client *c = client_new();

        make_many(LONG_PATH, LISTED);
        SEND(c, "Subscribe", "s", "told");
        run();
        tree->users.limit[RESOURCE_UNREAD] = 100000;
        SEND(c, "List", "ssu", "large", "", 0);
        while (unread_bytes() == 0)
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
        ck_assert_int_gt(recv(sd_bus_get_fd(c->bus), bytes, sizeof bytes, 0), 0);
        make_many("told", 1);
        TAILQ_FIRST(&service.connections)->read_usec -= UNREAD_USEC;
        ck_assert_int_gt(sd_event_run(event, SECOND), 0);
        ck_assert_uint_eq(service.n_connections, 1);
}
END_TEST

static unsigned n_looks;

int __real_ioctl(int fd, unsigned long request, int *waiting);
int __wrap_ioctl(int fd, unsigned long request, int *waiting);
int __wrap_ioctl(int fd, unsigned long request, int *waiting)
{
        n_looks += request == SIOCOUTQ;
        return __real_ioctl(fd, request, waiting);
}

#define CROWD 500
#define LOOKS_MAX 40

/* A crowd has not read its replies, in each of which a descriptor is. */
static void leave_unread(void)
{
        struct refused refused = {};
        struct connection *c;

        for (unsigned i = 0; i < CROWD; i++)
                client_new();
        run();
        tree->users.limit[RESOURCE_FLIGHT] = CROWD;
        for (unsigned i = 0; i < CROWD; i++)
                SEND(&clients[i], "Err", "s", "none");
        run_deaf();
        TAILQ_FOREACH (c, &service.connections, connections)
                ck_assert_int_eq(connection_send_fds(&c->endpoint, 1, &refused), 0);
        n_looks = 0;
}

static void read_all(struct client *client)
{
        while (sd_bus_process(client->bus, NULL) > 0)
                ;
}

/* Each more is refused, and that takes a few looks. Once one of them has read, it is seen, though others are
 * looked at first. */
START_TEST(law_48_descriptors_that_nobody_has_read)
{
        struct refused refused = {};
        struct connection *c;
        unsigned n = 0;
        int r;

        leave_unread();
        c = TAILQ_FIRST(&service.connections);
        ck_assert_int_eq(connection_send_fds(&c->endpoint, 1, &refused), -EDQUOT);
        ck_assert_uint_le(n_looks, LOOKS_MAX);
        read_all(&clients[CROWD / 2]);
        do
                r = connection_send_fds(&c->endpoint, 1, &refused);
        while (r == -EDQUOT && ++n < CROWD);
        ck_assert_int_eq(r, 0);
}
END_TEST

/* Who has read all itself need not wait for the others. */
START_TEST(law_48_descriptors_that_others_have_not_read)
{
        struct refused refused = {};
        struct connection *last;

        leave_unread();
        last = TAILQ_LAST(&service.flying, flying);
        read_all(&clients[CROWD - 1]);
        ck_assert_int_eq(connection_send_fds(&last->endpoint, 1, &refused), 0);
        ck_assert_uint_le(n_looks, LOOKS_MAX);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("unread");
        TCase *c = add_case(s, "unread",
                        (const TTest *const[]){who_reads_slowly_gets_few_replies,
                                        who_does_not_read_is_no_want_of_memory, an_end_with_a_held_connection,
                                        an_end_with_a_reply_that_is_sent_in_parts,
                                        an_end_with_a_call_that_was_put_back, who_is_held_and_leaves,
                                        many_who_read_a_long_reply,
                                        who_reads_all_before_the_daemon_is_stopped,
                                        law_48_subordinate_uids_wait_for_each_other,
                                        law_48_descriptors_that_nobody_has_read,
                                        law_48_descriptors_that_others_have_not_read, NULL});

        tcase_add_checked_fixture(c, inside_setup, inside_teardown);
        return run_suite(s);
}
