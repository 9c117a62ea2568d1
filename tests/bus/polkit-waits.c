/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* polkit takes its time: who is served meanwhile, what the daemon keeps, and what a late answer is worth.
 * polkitd is stopped for as long as a test wants. Calls that allow interaction may take minutes, others
 * some seconds. */

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#define QUESTIONS_MAX 16 /* of one uid */

/* A connection of that user. The credentials at the time of the connect count. */
static sd_bus *connect_as(uid_t uid)
{
        sd_bus *b;

        ck_assert(setgroups(0, NULL) == 0 && setegid(uid) == 0 && seteuid(uid) == 0);
        b = connect_bus();
        ck_assert(seteuid(0) == 0 && setegid(0) == 0);
        return b;
}

struct pending {
        bool answered;
        char error[128];
};

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const sd_bus_error *e = sd_bus_message_get_error(m);
        struct pending *p = userdata;

        p->answered = true;
        snprintf(p->error, sizeof p->error, "%s", e ? e->name : "");
        return 0;
}

static void begin(struct pending *p, sd_bus *b, bool interactive, const char *member, const char *types, ...)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        va_list ap;

        *p = (struct pending){};
        va_start(ap, types);
        m = new_callv(b, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member, types, ap);
        va_end(ap);
        ck_assert_int_ge(sd_bus_message_set_allow_interactive_authorization(m, interactive), 0);
        ck_assert_int_ge(sd_bus_call_async(b, NULL, m, on_answer, p, UINT64_MAX), 0);
}

/* The daemon has handled all that was sent on this connection, and the answers have been read. */
static void sync_with_daemon(sd_bus *b)
{
        OK(b, "Err", "s", "/");
        while (sd_bus_process(b, NULL) > 0)
                ;
}

static void await(sd_bus *b, const struct pending *p, const char *error)
{
        uint64_t end = now_boottime_usec() +
                       3 * WIDE_SEC * UINT64_C(1000000); /* also where polkit's time has to be up */

        while (!p->answered && now_boottime_usec() < end) {
                int r = sd_bus_process(b, NULL);

                ck_assert_int_ge(r, 0);
                if (r == 0)
                        sd_bus_wait(b, 100000);
        }
        ck_assert(p->answered);
        ck_assert_str_eq(p->error, error);
}

START_TEST(others_are_served_while_polkit_thinks)
{
        _cleanup_bus_ sd_bus *alice = connect_as(ALICE), *bob = connect_as(BOB);
        struct pending cancels, looks;
        int fd;

        create(bus, "secret");
        create(bus, "roots");
        create(bob, "~/bobs");
        fd = done_handle(bus, "roots");
        polkit_thinks();
        begin(&cancels, alice, true, "Cancel", "ss", "secret", "polkit said so");
        begin(&looks, alice, true, "Err", "s", "secret");
        sync_with_daemon(alice);

        ck_assert(cancel(bob, "~/bobs", ""));
        ck_assert(cancel(bus, "roots", ""));
        ck_assert(is_readable(fd));
        sync_with_daemon(alice);
        ck_assert(!cancels.answered && !looks.answered);
        EXPECT_ACTIVE(bus, "secret");

        polkit_answers();
        await(alice, &cancels, "");
        await(alice, &looks, "");
        EXPECT_ERR(bus, "secret", "context canceled", ECANCELED, ECANCELED, "polkit said so");
        close(fd);
}
END_TEST

/* A context that does not exist in the caller's own tree is reported as missing. polkit is not asked. */
START_TEST(nobody_is_asked_about_ones_own)
{
        static const char *const missing[] = {"~", "~/x", "user-1002/x/y", "user-1002/mine/x", "~/mine#1",
                        "shared/x", "shared/x#7"};
        _cleanup_bus_ sd_bus *b = connect_as(BOB);
        struct pending p;

        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0777);
        polkit_thinks();
        for (size_t i = 0; i < ELEMENTSOF(missing); i++) {
                if (i == 2)
                        create(b, "~/mine");
                begin(&p, b, true, "Cancel", "ss", missing[i], "");
                await(b, &p, CTXD_ERROR_NO_SUCH_CONTEXT);
                begin(&p, b, true, "Err", "s", missing[i]);
                await(b, &p, CTXD_ERROR_NO_SUCH_CONTEXT);
        }
        OK(b, "Subscribe", "s", "roots");
        ck_assert_uint_eq(count_listed(b, "/"), 3);
        polkit_answers();
}
END_TEST

START_TEST(a_uid_has_so_many_questions)
{
        _cleanup_bus_ sd_bus *alice = connect_as(ALICE), *again = connect_as(ALICE), *bob = connect_as(BOB);
        struct pending kept[QUESTIONS_MAX], more, others;

        create(bus, "secret");
        polkit_thinks();
        for (int i = 0; i < QUESTIONS_MAX; i++)
                begin(&kept[i], alice, true, i % 2 ? "Err" : "Values", "s", "secret");
        begin(&more, alice, true, "Err", "s", "secret");
        await(alice, &more, CTXD_ERROR_LIMITS_EXCEEDED);
        begin(&more, again, true, "Cancel", "ss", "nowhere", "");
        await(again, &more, CTXD_ERROR_LIMITS_EXCEEDED);
        begin(&others, bob, true, "Err", "s", "secret");
        sync_with_daemon(bob);
        ck_assert(!others.answered);
        OK(alice, "Create", "sa{sv}", "~/own", 0); /* which asks nothing */

        polkit_answers();
        for (int i = 0; i < QUESTIONS_MAX; i++)
                await(alice, &kept[i], "");
        await(bob, &others, CTXD_ERROR_NO_SUCH_CONTEXT);
        begin(&more, alice, true, "Err", "s", "secret");
        await(alice, &more, "");
}
END_TEST

START_TEST(a_caller_that_goes_takes_its_questions_along)
{
        sd_bus *alice = connect_as(ALICE);
        _cleanup_bus_ sd_bus *again = connect_as(ALICE);
        struct pending kept[QUESTIONS_MAX], more = {.error = CTXD_ERROR_LIMITS_EXCEEDED};

        create(bus, "secret");
        polkit_thinks();
        for (int i = 0; i < QUESTIONS_MAX; i++)
                begin(&kept[i], alice, i % 2, "Cancel", "ss", "secret", "");
        sync_with_daemon(alice);
        sd_bus_flush_close_unref(alice);
        /* There is room again when the daemon has noticed. */
        for (int i = 0; i < WIDE_SEC * 100 && strcmp(more.error, CTXD_ERROR_LIMITS_EXCEEDED) == 0; i++) {
                usleep(10000);
                begin(&more, again, true, "Err", "s", "secret");
                sync_with_daemon(again);
        }
        ck_assert(!more.answered);
        polkit_answers();
        await(again, &more, "");
        EXPECT_ACTIVE(bus, "secret"); /* polkit has answered all that came before */
}
END_TEST

START_TEST(the_answer_finds_what_is_there_then)
{
        _cleanup_bus_ sd_bus *alice = connect_as(ALICE);
        struct pending by_name, by_id, by_other, looks;
        char reference[64];

        create(bus, "once");
        create(bus, "gone");
        create(bus, "shown");
        snprintf(reference, sizeof reference, "once#%ju", (uintmax_t) property_u64(bus, "once", "Id"));
        polkit_thinks();
        begin(&by_id, alice, true, "Cancel", "ss", reference, "late");
        begin(&by_name, alice, true, "Release", "s", "gone");
        begin(&by_other, alice, true, "Cancel", "ss", "twice", "late");
        begin(&looks, alice, true, "Err", "s", "shown");
        sync_with_daemon(alice);
        OK(bus, "Release", "s", "once");
        OK(bus, "Release", "s", "gone");
        OK(bus, "Release", "s", "shown");
        create(bus, "once");  /* another one, which was not meant */
        create(bus, "twice"); /* which was, by its name */
        OK(bus, "Create", "sa{sv}", "shown", 1, "mode", "u", 0744);
        polkit_answers();
        await(alice, &by_id, ""); /* that very one: it can be read for a while, and is done */
        await(alice, &by_name, CTXD_ERROR_NO_SUCH_CONTEXT);
        await(alice, &by_other, "");
        await(alice, &looks, "");
        EXPECT_ACTIVE(bus, "once");
        EXPECT_ERR(bus, "twice", "context canceled", ECANCELED, ECANCELED, "late");
}
END_TEST

/* A caller that does not allow interaction does not wait for a person. */
START_TEST(a_polkit_that_does_not_answer)
{
        _cleanup_bus_ sd_bus *alice = connect_as(ALICE);
        struct pending hidden, missing, denied, first;

        create(bus, "secret");
        OK(bus, "Create", "sa{sv}", "public", 1, "mode", "u", 0744);
        polkit_thinks();
        begin(&hidden, alice, false, "Cancel", "ss", "secret", "");
        begin(&missing, alice, false, "Cancel", "ss", "nowhere", "");
        begin(&denied, alice, false, "Cancel", "ss", "public", "");
        begin(&first, alice, false, "Create", "sa{sv}", "first", 0);
        sync_with_daemon(alice);
        await(alice, &hidden, CTXD_ERROR_NO_SUCH_CONTEXT);
        await(alice, &missing, CTXD_ERROR_NO_SUCH_CONTEXT);
        await(alice, &denied, CTXD_ERROR_ACCESS_DENIED);
        await(alice, &first, CTXD_ERROR_ACCESS_DENIED);
        EXPECT_ACTIVE(bus, "secret");
        EXPECT_ACTIVE(bus, "public");
        polkit_answers();
        ck_assert(cancel(alice, "secret", ""));
}
END_TEST

/* What the daemon keeps is limited in size. A call that makes sense is well below that limit. */
START_TEST(a_large_message_is_not_kept)
{
        _cleanup_bus_ sd_bus *alice = connect_as(ALICE);
        _cleanup_message_ sd_bus_message *m = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *text = malloc(300001);
        struct pending p;

        create(bus, "secret");
        memset(text, 'x', 300000);
        text[300000] = '\0';
        begin(&p, alice, true, "Cancel", "ss", "secret", text);
        await(alice, &p, CTXD_ERROR_LIMITS_EXCEEDED);
        text[200000] = '\0';
        begin(&p, alice, true, "Cancel", "ss", "secret", text);
        await(alice, &p, SD_BUS_ERROR_INVALID_ARGS); /* a reason is shorter */
        ck_assert_int_ge(sd_bus_message_new_method_call(alice, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                         CTXD_MANAGER_INTERFACE, "Create"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", "first"), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'a', "{sv}"), 0);
        for (int i = 0; i < 20000; i++)
                ck_assert_int_ge(sd_bus_message_append(m, "{sv}", "mode", "u", 0700), 0);
        ck_assert_int_ge(sd_bus_message_close_container(m), 0);
        ck_assert_ptr_null(send_call(alice, m, &error));
        ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
        EXPECT_ACTIVE(bus, "secret");
}
END_TEST

/* Attach has an option that is not read before polkit has been asked: many bytes, or many empty texts, in
 * nested variants. */
static const char *answer_to_junk(sd_bus *b, const char *type, size_t n)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        static const uint8_t bytes[300000];
        static char name[128];
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int self = open_pidfd(getpid());

        ck_assert_int_ge(sd_bus_message_new_method_call(
                                         b, &m, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Attach"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "sh", "secret", self), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'a', "{sv}"), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'e', "sv"), 0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", "junk"), 0);
        for (int i = 0; i < 20; i++)
                ck_assert_int_ge(sd_bus_message_open_container(m, 'v', i < 19 ? "v" : type), 0);
        if (strcmp(type, "ay") == 0) {
                ck_assert_int_ge(sd_bus_message_append_array(m, 'y', bytes, n), 0);
        } else {
                ck_assert_int_ge(sd_bus_message_open_container(m, 'a', "(s)"), 0);
                for (size_t i = 0; i < n; i++)
                        ck_assert_int_ge(sd_bus_message_append(m, "(s)", ""), 0);
                ck_assert_int_ge(sd_bus_message_close_container(m), 0);
        }
        for (int i = 0; i < 20 + 2; i++)
                ck_assert_int_ge(sd_bus_message_close_container(m), 0);
        ck_assert_ptr_null(send_call(b, m, &error));
        snprintf(name, sizeof name, "%s", error.name);
        sd_bus_error_free(&error);
        close(self);
        return name;
}

START_TEST(whatever_its_form)
{
        _cleanup_bus_ sd_bus *alice = connect_as(ALICE);

        create(bus, "secret");
        ck_assert_str_eq(answer_to_junk(alice, "ay", 0), SD_BUS_ERROR_INVALID_ARGS);
        ck_assert_str_eq(answer_to_junk(alice, "ay", 200000), SD_BUS_ERROR_INVALID_ARGS);
        ck_assert_str_eq(answer_to_junk(alice, "ay", 300000), CTXD_ERROR_LIMITS_EXCEEDED);
        ck_assert_str_eq(answer_to_junk(alice, "a(s)", 0), SD_BUS_ERROR_INVALID_ARGS);
        ck_assert_str_eq(answer_to_junk(alice, "a(s)", 10000), SD_BUS_ERROR_INVALID_ARGS);
        ck_assert_str_eq(answer_to_junk(alice, "a(s)", 20000), CTXD_ERROR_LIMITS_EXCEEDED);
        EXPECT_ACTIVE(bus, "secret");
}
END_TEST

START_TEST(polkit_comes_and_goes)
{
        _cleanup_bus_ sd_bus *alice = connect_as(ALICE);
        struct pending p;

        create(bus, "secret");
        FAILS(alice, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "secret");
        for (int i = 0; i < 2; i++) {
                polkitd_start();
                OK(alice, "Err", "s", "secret");
                polkit_thinks();
                begin(&p, alice, true, "Cancel", "ss", "secret", "");
                sync_with_daemon(alice);
                ck_assert(!p.answered);
                polkitd_stop();
                await(alice, &p, CTXD_ERROR_NO_SUCH_CONTEXT);
                FAILS(alice, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "secret");
        }
        EXPECT_ACTIVE(bus, "secret");
}
END_TEST

Suite *suite_polkit_waits(void)
{
        Suite *s = suite_create("polkit that thinks");

        ADD_TESTS(s, "polkit that thinks", start_polkit, others_are_served_while_polkit_thinks,
                        nobody_is_asked_about_ones_own, a_uid_has_so_many_questions,
                        a_caller_that_goes_takes_its_questions_along, the_answer_finds_what_is_there_then,
                        a_polkit_that_does_not_answer, a_large_message_is_not_kept, whatever_its_form);
        ADD_TESTS(s, "polkit that comes", start_without_polkit, polkit_comes_and_goes);
        return s;
}
