/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Callers of several uids: what one makes does not exist for another (law 36). */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

/* What alice has made, by its full path, and something else that is nowhere: bob must not see a difference.
 */
static const char *const secret = "user-1001/secret";
static const char *const nowhere = "user-1001/nowhere";

static void alice_makes(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "~/secret", 1, "values", "a{ss}", 1, "org.example.password", "1234");
        OK(b, "Create", "sa{sv}", "~/secret/child", 0);
        EXPECT_ACTIVE(b, secret);
        ck_assert_uint_eq(count_listed(b, "/"), 3);
}

/* The same refusal for both, to the letter but for the name. */
static void same_refusal(sd_bus *b, const char *member, const char *types, void (*append)(sd_bus_message *m))
{
        sd_bus_error errors[2] = {};
        const char *const paths[] = {secret, nowhere};

        for (int i = 0; i < 2; i++) {
                _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;

                ck_assert_int_ge(sd_bus_message_new_method_call(b, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 CTXD_MANAGER_INTERFACE, member),
                                0);
                ck_assert_int_ge(sd_bus_message_append(m, "s", paths[i]), 0);
                if (append)
                        append(m);
                reply = send_call(b, m, &errors[i]);
                ck_assert_msg(!reply, "%s of another user's context was not refused", member);
        }
        ck_assert_str_eq(errors[0].name, errors[1].name);
        /* What differs is the name alone, which the caller has said itself. */
        char *found = strstr(errors[0].message, "secret"), *other = strstr(errors[1].message, "nowhere");
        if (found && other)
                ck_assert_str_eq(found + strlen("secret"), other + strlen("nowhere"));
        else
                ck_assert_str_eq(errors[0].message, errors[1].message);
        sd_bus_error_free(&errors[0]);
        sd_bus_error_free(&errors[1]);
}

static void with_text(sd_bus_message *m)
{
        ck_assert_int_ge(sd_bus_message_append(m, "s", ""), 0);
}

static void with_cause(sd_bus_message *m)
{
        ck_assert_int_ge(sd_bus_message_append(m, "is", 1, ""), 0);
}

static void with_time(sd_bus_message *m)
{
        ck_assert_int_ge(sd_bus_message_append(m, "t", UINT64_C(1)), 0);
}

static void with_number(sd_bus_message *m)
{
        ck_assert_int_ge(sd_bus_message_append(m, "u", 0), 0);
}

static void with_page(sd_bus_message *m)
{
        ck_assert_int_ge(sd_bus_message_append(m, "su", "", 0), 0);
}

static void with_flag(sd_bus_message *m)
{
        ck_assert_int_ge(sd_bus_message_append(m, "bu", 1, 0), 0);
}

static void with_self(sd_bus_message *m)
{
        int self = open_pidfd(getpid());

        ck_assert_int_ge(sd_bus_message_append(m, "ha{sv}", self, 0), 0);
        close(self);
}

static void with_options(sd_bus_message *m)
{
        ck_assert_int_ge(sd_bus_message_append(m, "a{sv}", 0), 0);
}

static void with_open(sd_bus_message *m)
{
        ck_assert_int_ge(sd_bus_message_append(m, "a{sv}", 2, "open", "b", 1, "parents", "b", 1), 0);
}

static void with_boolean(sd_bus_message *m)
{
        ck_assert_int_ge(sd_bus_message_append(m, "b", 1), 0);
}

static void with_options_and_boolean(sd_bus_message *m)
{
        with_open(m);
        with_boolean(m);
}

static void expect_unknown(sd_bus *b, const char *object, const char *interface, const char *member)
{
        call_fails(HERE, false, b, SD_BUS_ERROR_UNKNOWN_OBJECT, object, interface, member, NULL);
}

struct secret {
        uint64_t id;
        pid_t member;
};

static void bob_sees_nothing(void *userdata)
{
        static const char *const objects[] = {"/org/ctxd1/context/user_2d1001",
                        "/org/ctxd1/context/user_2d1001/secret", "/org/ctxd1/context/user_2d1001/nowhere"};
        const struct secret *alices = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        char reference[64];

        ck_assert_uint_eq(count_listed(b, "/"), 0);
        same_refusal(b, "Err", "s", NULL);
        same_refusal(b, "Cancel", "ss", with_text);
        same_refusal(b, "CancelCause", "sis", with_cause);
        same_refusal(b, "Extend", "st", with_time);
        same_refusal(b, "Release", "s", NULL);
        same_refusal(b, "Done", "s", NULL);
        same_refusal(b, "Undone", "s", NULL);
        same_refusal(b, "Page", "s", NULL);
        same_refusal(b, "Open", "sb", with_boolean);
        same_refusal(b, "Values", "s", NULL);
        same_refusal(b, "List", "ssu", with_page);
        same_refusal(b, "Members", "su", with_number);
        same_refusal(b, "Process", "su", with_number);
        same_refusal(b, "Processes", "sbu", with_flag);
        same_refusal(b, "Endings", "sbu", with_flag);
        same_refusal(b, "Preview", "su", with_number);
        same_refusal(b, "Leaks", "su", with_number);
        same_refusal(b, "Attach", "sha{sv}", with_self);
        same_refusal(b, "Create", "sa{sv}", with_options);
        same_refusal(b, "Create", "sa{sv}", with_open);
        same_refusal(b, "CreateAndOpen", "sa{sv}b", with_options_and_boolean);
        FAILS(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", secret);
        FAILS(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "user-1001");
        snprintf(reference, sizeof reference, "%s#%ju", secret,
                        (uintmax_t) alices->id); /* not even who knows its id */
        FAILS(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Cancel", "ss", reference, "");
        FAILS(b, CTXD_ERROR_NO_SUCH_CONTEXT, "List", "ssu", "/", reference, 0);

        for (size_t i = 0; i < ELEMENTSOF(objects); i++) {
                expect_unknown(b, objects[i], "org.freedesktop.DBus.Introspectable", "Introspect");
                expect_unknown(b, objects[i], CTXD_CONTEXT_INTERFACE, "Err");
                call_fails(HERE, false, b, SD_BUS_ERROR_UNKNOWN_OBJECT, objects[i],
                                "org.freedesktop.DBus.Properties", "GetAll", "s", CTXD_CONTEXT_INTERFACE);
                call_fails(HERE, false, b, SD_BUS_ERROR_UNKNOWN_OBJECT, objects[i],
                                "org.freedesktop.DBus.Properties", "Get", "ss", CTXD_CONTEXT_INTERFACE,
                                "Values");
        }
        _cleanup_message_ sd_bus_message *m = call(HERE, b, "/org/ctxd1/context",
                        "org.freedesktop.DBus.Introspectable", "Introspect", NULL);
        const char *xml;
        READ(m, "s", &xml);
        ck_assert_ptr_null(strstr(xml, "<node name=\"user"));

        /* Counts are of what may be read. */
        uint32_t contexts;
        ck_assert_int_ge(sd_bus_get_property_trivial(b, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "Contexts", NULL, 'u', &contexts),
                        0);
        ck_assert_uint_eq(contexts, 0);
        ck_assert_int_ge(sd_bus_get_property_trivial(b, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "Members", NULL, 'u', &contexts),
                        0);
        ck_assert_uint_eq(contexts, 0);
        _cleanup_message_ sd_bus_message *preview = CALL(b, "Preview", "su", "/", 0);
        READ(preview, "u", &contexts);
        ck_assert_uint_eq(contexts, 0);
        expect_no_members(b, "/", alices->member);
}

START_TEST(law36_what_one_makes_is_not_there_for_another)
{
        struct secret alices;
        int pidfd;

        run_as(ALICE, alice_makes, NULL);
        EXPECT_ACTIVE(bus, secret); /* root may all */
        alices.id = property_u64(bus, secret, "Id");
        alices.member = sleeper(&pidfd);
        OK(bus, "Attach", "sha{sv}", secret, pidfd, 0);
        _cleanup_free_ char *before = snapshot(bus);
        run_as(BOB, bob_sees_nothing, &alices);
        _cleanup_free_ char *after = snapshot(bus);
        ck_assert_str_eq(before, after);
        ck_assert(cancel(bus, secret, "root may"));
        end_process(alices.member);
        close(pidfd);
}
END_TEST

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        unsigned *n = userdata;

        *n += sd_bus_message_is_signal(m, CTXD_MANAGER_INTERFACE, NULL) > 0;
        return 0;
}

static void bob_hears_nothing(void *userdata)
{
        const int *pipes = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        unsigned n = 0;
        char byte;

        ck_assert_int_ge(sd_bus_add_filter(b, NULL, on_signal, &n), 0);
        OK(b, "Subscribe", "s", "/");
        OK(b, "Subscribe", "s", "user-1001/secret");
        OK(b, "Subscribe", "s", "user-1001/secret/child/deep");
        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(read(pipes[2], &byte, 1), 1);
        OK(b, "Err", "s", "/");
        while (sd_bus_process(b, NULL) > 0)
                ;
        ck_assert_uint_eq(n, 0);
        create(b, "~/own");
        OK(b, "Err", "s", "/");
        while (sd_bus_process(b, NULL) > 0)
                ;
        ck_assert_uint_eq(n, 2); /* of its own tree, and of what it has made in it */
}

static void be_bob(void *userdata)
{
        run_as(BOB, bob_hears_nothing, userdata);
}

START_TEST(law36_signals_are_not_heard)
{
        struct {
                int fds[4];
        } pipes;
        pid_t bob;
        char byte;

        ck_assert(pipe(pipes.fds) == 0 && pipe(pipes.fds + 2) == 0);
        bob = spawn(be_bob, pipes.fds);
        ck_assert_int_eq(read(pipes.fds[0], &byte, 1), 1);
        run_as(ALICE, alice_makes, NULL);
        cancel(bus, secret, "");
        OK(bus, "Release", "s", "user-1001");
        ck_assert_int_eq(write(pipes.fds[3], "", 1), 1);
        wait_for(bob);
        for (int i = 0; i < 4; i++)
                close(pipes.fds[i]);
}
END_TEST

static int note_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        char *text = userdata;
        const char *path, *err = "";

        if (sd_bus_message_is_signal(m, CTXD_MANAGER_INTERFACE, NULL) <= 0)
                return 0;
        READ(m, "st", &path, NULL);
        if (sd_bus_message_is_signal(m, CTXD_MANAGER_INTERFACE, "ContextDone") > 0)
                READ(m, "s", &err);
        sprintf(text + strlen(text), "%s %s %s\n", sd_bus_message_get_member(m), path, err);
        return 0;
}

static void bob_hears_of_his_own(void *userdata)
{
        const int *pipes = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        char text[1024] = "", byte;

        ck_assert_int_ge(sd_bus_add_filter(b, NULL, note_signal, text), 0);
        OK(b, "Subscribe", "s", "private/open");
        OK(b, "Subscribe", "s", "private/done-before");
        OK(b, "Subscribe", "s", "private/hidden/none");
        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(read(pipes[2], &byte, 1), 1);
        OK(b, "Err", "s", "/");
        while (sd_bus_process(b, NULL) > 0)
                ;
        ck_assert_str_eq(text, "ContextDone private/open context canceled\n");
}

static void be_bob_who_hears(void *userdata)
{
        run_as(BOB, bob_hears_of_his_own, userdata);
}

/* The same from above: of the topmost ones that he may read, and of nothing else. */
static void bob_hears_from_above(void *userdata)
{
        const int *pipes = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        char text[1024] = "", byte;

        ck_assert_int_ge(sd_bus_add_filter(b, NULL, note_signal, text), 0);
        OK(b, "Subscribe", "s", "/");
        OK(b, "Subscribe", "s", "private");
        OK(b, "Subscribe", "s", "private/hidden/deep/below/nowhere");
        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(read(pipes[2], &byte, 1), 1);
        OK(b, "Err", "s", "/");
        while (sd_bus_process(b, NULL) > 0)
                ;
        ck_assert_ptr_nonnull(strstr(text, "ContextDone private/open context canceled\n"));
        ck_assert_ptr_nonnull(strstr(text, "ContextDone private/hidden/deep context canceled\n"));
        ck_assert_uint_eq(strlen(text), strlen("ContextDone private/open context canceled\n"
                                               "ContextDone private/hidden/deep context canceled\n"));
}

static void be_bob_above(void *userdata)
{
        run_as(BOB, bob_hears_from_above, userdata);
}

static void end_hidden_parent(void (*bob_hears)(void *userdata), int more_children)
{
        int pipes[4];
        pid_t bob;
        char byte;

        ck_assert(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
        OK(bus, "Create", "sa{sv}", "private", 1, "mode", "u", 0740);
        for (int i = 0; i < more_children; i++)
                OK(bus, "Create", "sa{sv}", "private/", 0);
        create(bus, "private/hidden");
        OK(bus, "Create", "sa{sv}", "private/open", 1, "mode", "u", 0744);
        OK(bus, "Create", "sa{sv}", "private/done-before", 1, "mode", "u", 0744);
        OK(bus, "Create", "sa{sv}", "private/hidden/deep", 1, "mode", "u", 0744);
        create(bus, "private/hidden/deep/below");
        OK(bus, "Create", "sa{sv}", "private/open/shut", 1, "mode", "u", 0740);
        OK(bus, "Create", "sa{sv}", "private/open/shut/ajar", 1, "mode", "u", 0744);
        cancel(bus, "private/done-before", "");
        bob = spawn(bob_hears, pipes);
        ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
        cancel(bus, "private", "");
        ck_assert_int_eq(write(pipes[3], "", 1), 1);
        wait_for(bob);
        for (int i = 0; i < 4; i++)
                close(pipes[i]);
}

START_TEST(the_end_of_a_hidden_parent_is_told_below)
{
        end_hidden_parent(be_bob_who_hears, 0);
}
END_TEST

START_TEST(the_end_of_a_hidden_parent_is_told_above)
{
        end_hidden_parent(be_bob_above, 0);
}
END_TEST

/* Its end comes in slices. Who may read it hears of all with its last one, however many others may not. */
START_TEST(the_end_of_a_large_hidden_parent_is_told_once)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        char text[1024] = "";

        ck_assert_int_ge(sd_bus_add_filter(b, NULL, note_signal, text), 0);
        OK(b, "Subscribe", "s", "private/none");
        end_hidden_parent(be_bob_who_hears, 3000);
        OK(b, "Err", "s", "/");
        while (sd_bus_process(b, NULL) > 0)
                ;
        ck_assert_str_eq(text, "ContextDone private context canceled\n");
}
END_TEST

Suite *suite_uids(void)
{
        Suite *s = suite_create("uids");

        ADD_TESTS(s, "uids", start_retaining, law36_what_one_makes_is_not_there_for_another,
                        law36_signals_are_not_heard, the_end_of_a_hidden_parent_is_told_below,
                        the_end_of_a_hidden_parent_is_told_above,
                        the_end_of_a_large_hidden_parent_is_told_once);
        return s;
}
