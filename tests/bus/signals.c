/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The five signals, for those who subscribed. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

/* The signals that a connection got, one line each. */
struct heard {
        sd_bus *bus;
        sd_bus_slot *slot;
        char text[8192];
};

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct heard *h = userdata;
        const char *path, *err = "", *cause = "", *member = sd_bus_message_get_member(m);
        size_t n = strlen(h->text);
        uint64_t id;
        uint8_t type;

        ck_assert_int_ge(sd_bus_message_get_type(m, &type), 0);
        if (type != SD_BUS_MESSAGE_SIGNAL ||
                        strcmp(sd_bus_message_get_interface(m), CTXD_MANAGER_INTERFACE) != 0)
                return 0;
        ck_assert_str_eq(sd_bus_message_get_path(m), CTXD_OBJECT);
        ck_assert_ptr_nonnull(sd_bus_message_get_destination(m)); /* unicast */
        READ(m, "st", &path, &id);
        ck_assert_uint_gt(id, 0);
        if (strcmp(member, "ContextDone") == 0)
                READ(m, "ss", &err, &cause);
        if (strncmp(member, "Leak", 4) == 0) {
                const char *name, *type_of;
                char t;

                ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "{sv}"), 1);
                while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                        READ(m, "s", &name);
                        ck_assert_int_gt(sd_bus_message_peek_type(m, &t, &type_of), 0);
                        if (strcmp(name, "CTXD_SYSCALL") == 0)
                                READ(m, "v", "s", &err);
                        else if (strcmp(name, "CTXD_WHY") == 0)
                                READ(m, "v", "s", &cause);
                        else
                                ck_assert_int_ge(sd_bus_message_skip(m, "v"), 0);
                        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
                }
        }
        snprintf(h->text + n, sizeof h->text - n, "%s %s%s%s%s%s\n", member, path, *err ? " " : "", err,
                        *cause ? ": " : "", cause);
        return 0;
}

static void hear(struct heard *h)
{
        *h = (struct heard){.bus = connect_bus()};
        ck_assert_int_ge(sd_bus_add_filter(h->bus, &h->slot, on_message, h), 0);
}

static void deaf(struct heard *h)
{
        sd_bus_slot_unref(h->slot);
        sd_bus_flush_close_unref(h->bus);
}

/* Returns all signals that were sent before now: they arrive before the answer to a call. */
static const char *news(struct heard *h)
{
        h->text[0] = '\0';
        OK(h->bus, "Err", "s", "/");
        while (sd_bus_process(h->bus, NULL) > 0)
                ;
        return h->text;
}

static const char *wait_for_news(struct heard *h, const char *wanted)
{
        static char all[8192];

        all[0] = '\0';
        for (int i = 0; i < WIDE_SEC * 50 && !strstr(all, wanted); i++) {
                strncat(all, news(h), sizeof all - strlen(all) - 1);
                usleep(20000);
        }
        ck_assert_msg(strstr(all, wanted) != NULL, "\"%s\" did not come, but:\n%s", wanted, all);
        return all;
}

START_TEST(new_and_done_are_told)
{
        struct heard h, silent;

        hear(&h);
        hear(&silent);
        OK(h.bus, "Subscribe", "s", "/");
        create(bus, "s");
        create(bus, "s/a");
        create(bus, "s/a/b");
        ck_assert_str_eq(news(&h), "ContextNew s\nContextNew s/a\nContextNew s/a/b\n");
        cancel(bus, "s/a", "why");
        /* One signal stands for all contexts below. */
        ck_assert_str_eq(news(&h), "ContextDone s/a context canceled: why\n");
        cancel(bus, "s/a/b", "again");
        cancel(bus, "s/a", "again");
        ck_assert_str_eq(news(&h), "");
        cancel(bus, "s", "");
        ck_assert_str_eq(news(&h), "ContextDone s context canceled: context canceled\n");
        OK(bus, "Create", "sa{sv}", "late", 2, "timeout-usec", "t", UINT64_C(0), "cause", "(is)", 5,
                        "no time");
        ck_assert_str_eq(news(&h), "ContextNew late\nContextDone late context deadline exceeded: no time\n");
        ck_assert_str_eq(news(&silent), "");

        OK(h.bus, "Unsubscribe", "s", "/");
        create(bus, "t");
        ck_assert_str_eq(news(&h), "");
        deaf(&h);
        deaf(&silent);
}
END_TEST

START_TEST(a_prefix_is_all_that_is_heard)
{
        struct heard h;

        hear(&h);
        OK(h.bus, "Subscribe", "s", "web/req"); /* it need not be there yet */
        create(bus, "web");
        create(bus, "webb");
        create(bus, "web/request");
        create(bus, "web/req");
        create(bus, "web/req/1");
        ck_assert_str_eq(news(&h), "ContextNew web/req\nContextNew web/req/1\n");
        cancel(bus, "web/request", "");
        ck_assert_str_eq(news(&h), "");
        cancel(bus, "web", "all of it"); /* the root stands for what was subscribed to */
        ck_assert_str_eq(news(&h), "ContextDone web context canceled: all of it\n");
        deaf(&h);
}
END_TEST

START_TEST(once_for_each_connection)
{
        struct heard h, other;

        hear(&h);
        hear(&other);
        OK(h.bus, "Subscribe", "s", "a");
        OK(h.bus, "Subscribe", "s", "/");
        OK(h.bus, "Subscribe", "s", "");
        OK(h.bus, "Subscribe", "s", "a/b");
        OK(h.bus, "Subscribe", "s", "a"); /* a second time is no second subscription */
        OK(other.bus, "Subscribe", "s", "a");
        create(bus, "a");
        create(bus, "a/b");
        ck_assert_str_eq(news(&h), "ContextNew a\nContextNew a/b\n");
        ck_assert_str_eq(news(&other), "ContextNew a\nContextNew a/b\n");
        OK(h.bus, "Unsubscribe", "s", "/");
        OK(h.bus, "Unsubscribe", "s", "a");
        FAILS(h.bus, SD_BUS_ERROR_INVALID_ARGS, "Unsubscribe", "s", "a");
        create(bus, "a/c");
        create(bus, "a/b/c");
        ck_assert_str_eq(news(&h), "ContextNew a/b/c\n");
        ck_assert_str_eq(news(&other), "ContextNew a/c\nContextNew a/b/c\n");
        deaf(&h);
        create(bus, "a/d");
        ck_assert_str_eq(news(&other), "ContextNew a/d\n");
        deaf(&other);
}
END_TEST

START_TEST(forgotten_contexts_are_told)
{
        struct heard h;
        char reference[64];
        uint64_t id;

        hear(&h);
        OK(h.bus, "Subscribe", "s", "released");
        OK(h.bus, "Subscribe", "s", "done");
        create(bus, "released");
        create(bus, "released/a");
        OK(bus, "Release", "s", "released");
        const char *all = wait_for_news(&h, "ContextRemoved released\n");
        ck_assert_ptr_nonnull(strstr(all, "ContextRemoved released/a\n"));
        id = create(bus, "done");
        cancel(bus, "done", "");
        wait_for_news(&h, "ContextRemoved done\n"); /* one that nobody released goes, too */
        snprintf(reference, sizeof reference, "done#%ju", (uintmax_t) id);
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", reference);
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "done");
        deaf(&h);
}
END_TEST

START_TEST(a_deadline_is_told_while_nobody_asks)
{
        struct heard h;

        hear(&h);
        OK(h.bus, "Subscribe", "s", "/");
        OK(bus, "Create", "sa{sv}", "d", 1, "timeout-usec", "t", UINT64_C(200000));
        /* Without a call in between: the daemon sends the signal on its own. */
        for (int i = 0; i < WIDE_SEC && !strstr(h.text, "ContextDone d context deadline exceeded"); i++) {
                while (sd_bus_process(h.bus, NULL) > 0)
                        ;
                sd_bus_wait(h.bus, 1000000);
        }
        ck_assert_ptr_nonnull(strstr(h.text, "ContextDone d context deadline exceeded"));
        deaf(&h);
}
END_TEST

START_TEST(prefixes_are_checked)
{
        create(bus, "a");
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Subscribe", "s", "a//b");
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Subscribe", "s", "a/");
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Unsubscribe", "s", "..");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Subscribe", "s", "a#1");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Unsubscribe", "s", "b");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Unsubscribe", "s", "/");
}
END_TEST

START_TEST(subscriptions_have_a_limit)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        char prefix[16];

        for (int i = 0; i < 256; i++) {
                snprintf(prefix, sizeof prefix, "p%d", i);
                OK(b, "Subscribe", "s", prefix);
        }
        FAILS(b, CTXD_ERROR_LIMITS_EXCEEDED, "Subscribe", "s", "one-more");
        OK(b, "Subscribe", "s", "p0");
        OK(b, "Unsubscribe", "s", "p0");
        OK(b, "Subscribe", "s", "one-more");
        OK(bus, "Subscribe", "s", "others"); /* are not concerned */
}
END_TEST

static void start_fake_probe(void)
{
        world_start("RetainSec=1s\n", getenv("FAKE_PROBE"));
}

/* The test's own probe reports a leak for each context with members, and then says that it is over. */
START_TEST(leaks_are_told)
{
        struct heard h;
        int pidfd;
        pid_t pid = sleeper(&pidfd);

        hear(&h);
        OK(h.bus, "Subscribe", "s", "stuck");
        create(bus, "stuck");
        create(bus, "fine");
        OK(bus, "Attach", "sha{sv}", "stuck", pidfd, 0);
        cancel(bus, "stuck", "client went away");
        cancel(bus, "fine", "");
        const char *all = wait_for_news(&h, "LeakResolved stuck");
        ck_assert_ptr_nonnull(strstr(all, "ContextDone stuck"));
        ck_assert_ptr_nonnull(strstr(all, "LeakFound stuck read(7): nobody told it"));
        ck_assert(strstr(all, "LeakFound stuck") < strstr(all, "LeakResolved stuck"));
        ck_assert_ptr_null(strstr(all, "fine"));

        _cleanup_message_ sd_bus_message *m = CALL(bus, "Leaks", "su", "/", 0);
        const char *path;
        uint64_t id;
        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "(sta{sv})"), 1);
        ck_assert_int_eq(sd_bus_message_enter_container(m, 'r', "sta{sv}"), 1);
        READ(m, "st", &path, &id);
        ck_assert_str_eq(path, "stuck");
        ck_assert_int_ge(sd_bus_message_skip(m, "a{sv}"), 0);
        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        ck_assert_int_eq(sd_bus_message_at_end(m, false), 1);

        uint64_t found;
        ck_assert_int_ge(sd_bus_get_property_trivial(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "LeaksFound", NULL, 't', &found),
                        0);
        ck_assert_uint_eq(found, 1);
        end_process(pid);
        close(pidfd);
        deaf(&h);
}
END_TEST

Suite *suite_signals(void)
{
        Suite *s = suite_create("signals");

        ADD_TESTS(s, "signals", start_retaining, new_and_done_are_told, a_prefix_is_all_that_is_heard,
                        once_for_each_connection, a_deadline_is_told_while_nobody_asks, prefixes_are_checked,
                        subscriptions_have_a_limit);
        ADD_TESTS(s, "forgotten", start_plain, forgotten_contexts_are_told);
        ADD_TESTS(s, "leaks", start_fake_probe, leaks_are_told);
        return s;
}
