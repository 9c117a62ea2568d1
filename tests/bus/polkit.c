/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What polkit allows and what it does not: every method on another user's context, over the bus and over
 * the direct socket. "secret" is root's alone. Everybody may read "public", but only root may write it. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"

#define PROPERTIES "org.freedesktop.DBus.Properties"
#define INTERACTIVE SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED

enum kind { READS, WRITES, MAKES, OWNERS };

static const struct attempt {
        const char *interface, *member;
        enum kind kind;
} attempts[] = {
                {CTXD_MANAGER_INTERFACE, "Err", READS},
                {CTXD_MANAGER_INTERFACE, "Done", READS},
                {CTXD_MANAGER_INTERFACE, "Undone", READS},
                {CTXD_MANAGER_INTERFACE, "Drained", READS},
                {CTXD_MANAGER_INTERFACE, "Values", READS},
                {CTXD_MANAGER_INTERFACE, "List", READS},
                {CTXD_MANAGER_INTERFACE, "Members", READS},
                {CTXD_MANAGER_INTERFACE, "Process", READS},
                {CTXD_MANAGER_INTERFACE, "Processes", READS},
                {CTXD_MANAGER_INTERFACE, "Endings", READS},
                {CTXD_MANAGER_INTERFACE, "Preview", READS},
                {CTXD_MANAGER_INTERFACE, "Leaks", READS},
                {CTXD_MANAGER_INTERFACE, "Open", READS},
                {CTXD_MANAGER_INTERFACE, "Page", OWNERS},
                {CTXD_MANAGER_INTERFACE, "Create", MAKES},
                {CTXD_MANAGER_INTERFACE, "CreateAndOpen", MAKES},
                {CTXD_MANAGER_INTERFACE, "Attach", WRITES},
                {CTXD_MANAGER_INTERFACE, "Lifeline", WRITES},
                {CTXD_MANAGER_INTERFACE, "Threads", WRITES},
                {CTXD_MANAGER_INTERFACE, "Extend", WRITES},
                {CTXD_MANAGER_INTERFACE, "Cancel", WRITES},
                {CTXD_MANAGER_INTERFACE, "CancelCause", WRITES},
                {CTXD_MANAGER_INTERFACE, "Release", WRITES},
                {PROPERTIES, "Get", READS},
                {PROPERTIES, "GetAll", READS},
                {CTXD_CONTEXT_INTERFACE, "Err", READS},
                {CTXD_CONTEXT_INTERFACE, "Done", READS},
                {CTXD_CONTEXT_INTERFACE, "Undone", READS},
                {CTXD_CONTEXT_INTERFACE, "Drained", READS},
                {CTXD_CONTEXT_INTERFACE, "Derive", WRITES},
                {CTXD_CONTEXT_INTERFACE, "Attach", WRITES},
                {CTXD_CONTEXT_INTERFACE, "Lifeline", WRITES},
                {CTXD_CONTEXT_INTERFACE, "Extend", WRITES},
                {CTXD_CONTEXT_INTERFACE, "Cancel", WRITES},
                {CTXD_CONTEXT_INTERFACE, "CancelCause", WRITES},
                {CTXD_CONTEXT_INTERFACE, "Release", WRITES},
};

/* What attempts are made with. */
struct about {
        const char *path;
        uint64_t id;  /* 0: named by the path alone */
        pid_t member; /* of it, if it is there */
        size_t i;
        bool direct;
        const char *expected; /* the error; "": none */
};

static bool on_manager(const struct attempt *a)
{
        return strcmp(a->interface, CTXD_MANAGER_INTERFACE) == 0;
}

static void append_arguments(sd_bus_message *m, const struct attempt *a, const struct about *about)
{
        char path[64], child[64];
        int self;

        if (about->id != 0)
                snprintf(path, sizeof path, "%s#%ju", about->path, (uintmax_t) about->id);
        else
                snprintf(path, sizeof path, "%s", about->path);
        snprintf(child, sizeof child, "%.50s/child", path);
        if (on_manager(a))
                ck_assert_int_ge(sd_bus_message_append(m, "s", a->kind == MAKES ? child : path), 0);
        if (strcmp(a->member, "Create") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "a{sv}", 0), 0);
        else if (strcmp(a->member, "CreateAndOpen") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "a{sv}b", 0, 1), 0);
        else if (strcmp(a->member, "Open") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "b", 1), 0);
        else if (strcmp(a->member, "Derive") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "sa{sv}", "child", 0), 0);
        else if (strcmp(a->member, "Cancel") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "s", "polkit said so"), 0);
        else if (strcmp(a->member, "CancelCause") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "is", EPIPE, "polkit said so"), 0);
        else if (strcmp(a->member, "Extend") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "t", UINT64_MAX - 1), 0);
        else if (strcmp(a->member, "List") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "su", "", 0), 0);
        else if (strcmp(a->member, "Members") == 0 || strcmp(a->member, "Preview") == 0 ||
                        strcmp(a->member, "Leaks") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "u", 0), 0);
        else if (strcmp(a->member, "Process") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "u", about->member), 0);
        else if (strcmp(a->member, "Processes") == 0 || strcmp(a->member, "Endings") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "bu", 1, 0), 0);
        else if (strcmp(a->member, "Get") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "ss", CTXD_CONTEXT_INTERFACE, "Values"), 0);
        else if (strcmp(a->member, "GetAll") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "s", CTXD_CONTEXT_INTERFACE), 0);
        else if (strcmp(a->member, "Attach") == 0) {
                self = open_pidfd(getpid());
                ck_assert_int_ge(sd_bus_message_append(m, "ha{sv}", self, 0), 0);
                close(self);
        }
}

static sd_bus *connect_direct(void)
{
        sd_bus *b;

        ck_assert_int_ge(sd_bus_new(&b), 0);
        ck_assert_int_ge(sd_bus_set_address(b, "unix:path=" CTXD_SYSTEM_SOCKET), 0);
        ck_assert_int_ge(sd_bus_set_bus_client(b, 1), 0);
        ck_assert_int_ge(sd_bus_start(b), 0);
        return b;
}

static void attempt_it(void *userdata)
{
        const struct about *about = userdata;
        const struct attempt *a = &attempts[about->i];
        _cleanup_bus_ sd_bus *b = about->direct ? connect_direct() : connect_bus();
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_free_ char *object = object_of(about->path);

        ck_assert_int_ge(sd_bus_message_new_method_call(b, &m, CTXD_BUS_NAME,
                                         on_manager(a) ? CTXD_OBJECT : object, a->interface, a->member),
                        0);
        append_arguments(m, a, about);
        reply = send_call(b, m, &error);
        ck_assert_msg(strcmp(error.name ?: "", about->expected) == 0, "%s.%s of %s by %d: %s (%s), not %s",
                        a->interface, a->member, about->path, getuid(), error.name ?: "no error",
                        error.message ?: "", about->expected);
        if (error.name)
                ck_assert_uint_ge(strlen(error.message), 10);
}

static pid_t make(const char *path, unsigned mode)
{
        int pidfd;
        pid_t member = sleeper(&pidfd);

        OK(bus, "Create", "sa{sv}", path, 2, "mode", "u", mode, "values", "a{ss}", 1, "org.example.password",
                        "1234");
        OK(bus, "Attach", "sha{sv}", path, pidfd, 0);
        close(pidfd);
        return member;
}

static void expect_changed(const struct attempt *a, const char *path)
{
        if (strcmp(a->member, "Cancel") == 0 || strcmp(a->member, "CancelCause") == 0)
                EXPECT_ERR(bus, path, "context canceled", ECANCELED,
                                strcmp(a->member, "Cancel") == 0 ? ECANCELED : EPIPE, "polkit said so");
        else if (strcmp(a->member, "Release") == 0)
                OK(bus, "Create", "sa{sv}", path, 0); /* its name is free, though it has a member */
        else if (strcmp(a->member, "Extend") == 0)
                ck_assert_uint_eq(property_u64(bus, path, "DeadlineUSec"), UINT64_MAX - 1);
        else if (a->kind == MAKES || strcmp(a->member, "Derive") == 0)
                ck_assert_uint_eq(count_listed(bus, path), 2);
        else if (strcmp(a->member, "Lifeline") == 0)
                return; /* whose closing it races with */
        else
                EXPECT_ACTIVE(bus, path);
}

static void alice_may(const char *path, unsigned mode, bool by_id)
{
        for (size_t i = 0; i < ELEMENTSOF(attempts); i++) {
                pid_t member = make(path, mode);
                bool refused = attempts[i].kind == OWNERS;

                run_as(ALICE, attempt_it,
                                &(struct about){path, by_id ? property_u64(bus, path, "Id") : 0, member, i,
                                                false, refused ? CTXD_ERROR_ACCESS_DENIED : ""});
                expect_changed(&attempts[i], path);
                end_process(member);
                release_all();
        }
}

START_TEST(whom_polkit_allows_may_all)
{
        alice_may("secret", 0700, false);
        alice_may("secret", 0700, true);
        alice_may("public", 0744, false);
}
END_TEST

/* Makes all attempts on it as that user, and checks how each ends. */
static void nobody_may(uid_t uid, const char *path, pid_t member, bool direct,
                const char *(*expected)(const struct attempt *a))
{
        for (size_t i = 0; i < ELEMENTSOF(attempts); i++) {
                _cleanup_free_ char *before = snapshot(bus), *after = NULL;

                run_as(uid, attempt_it, &(struct about){path, 0, member, i, direct, expected(&attempts[i])});
                after = snapshot(bus);
                ck_assert_str_eq(before, after);
        }
}

static const char *hidden(const struct attempt *a)
{
        if (!on_manager(a))
                return SD_BUS_ERROR_UNKNOWN_OBJECT;
        return a->kind == MAKES ? CTXD_ERROR_ACCESS_DENIED : CTXD_ERROR_NO_SUCH_CONTEXT;
}

static const char *readable(const struct attempt *a)
{
        return a->kind == READS ? "" : CTXD_ERROR_ACCESS_DENIED;
}

static const char *readable_but_ask(const struct attempt *a)
{
        return a->kind == READS ? "" : a->kind == OWNERS ? CTXD_ERROR_ACCESS_DENIED : INTERACTIVE;
}

static const char *ask(const struct attempt *a)
{
        return INTERACTIVE;
}

START_TEST(whom_polkit_refuses_may_nothing)
{
        pid_t secret = make("secret", 0700), public = make("public", 0744);

        nobody_may(BOB, "secret", secret, false, hidden);
        nobody_may(BOB, "nowhere", secret, false, hidden);
        nobody_may(BOB, "public", public, false, readable);
        end_process(secret);
        end_process(public);
}
END_TEST

START_TEST(a_challenge_is_said_to_who_does_not_allow_interaction)
{
        pid_t secret = make("secret", 0700), public = make("public", 0744);

        nobody_may(CAROL, "secret", secret, false, ask);
        nobody_may(CAROL, "nowhere", secret, false, ask);
        nobody_may(CAROL, "public", public, false, readable_but_ask);
        end_process(secret);
        end_process(public);
}
END_TEST

/* The same, whatever polkit would answer. */
START_TEST(on_a_direct_connection_nobody_is_asked)
{
        pid_t secret = make("secret", 0700), public = make("public", 0744);

        for (uid_t uid = ALICE; uid <= CAROL; uid++) {
                nobody_may(uid, "secret", secret, true, ask);
                nobody_may(uid, "nowhere", secret, true, ask);
                nobody_may(uid, "public", public, true, readable_but_ask);
        }
        end_process(secret);
        end_process(public);
}
END_TEST

START_TEST(where_there_is_no_polkit_all_is_refused)
{
        pid_t secret = make("secret", 0700), public = make("public", 0744);

        for (int direct = 0; direct < 2; direct++) {
                nobody_may(ALICE, "secret", secret, direct, hidden);
                nobody_may(ALICE, "nowhere", secret, direct, hidden);
                nobody_may(ALICE, "public", public, direct, readable);
        }
        end_process(secret);
        end_process(public);
}
END_TEST

static const char *reading_only(const struct attempt *a)
{
        return a->kind == READS ? "" : hidden(a);
}

static void dave_looks(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        ck_assert_uint_eq(count_listed(b, "secret"), 1);
        ck_assert_uint_eq(count_listed(b, "/"), 0); /* nobody is asked what may be left out */
        FAILS(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "nowhere");
        FAILS(b, CTXD_ERROR_NO_SUCH_CONTEXT, "List", "ssu", "/", "secret", 0);
}

START_TEST(reading_is_an_action_of_its_own)
{
        pid_t member = make("secret", 0700);

        for (size_t i = 0; i < ELEMENTSOF(attempts); i++) {
                const struct attempt *a = &attempts[i];

                run_as(DAVE, attempt_it,
                                &(struct about){"secret", 0, member, i, false,
                                                a->kind == OWNERS ? CTXD_ERROR_ACCESS_DENIED
                                                                  : reading_only(a)});
        }
        EXPECT_ACTIVE(bus, "secret");
        run_as(DAVE, dave_looks, NULL);
        end_process(member);
}
END_TEST

static void make_page(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "CreateAndOpen", "sa{sv}b", "~/warm", 0, 0);
        OK(b, "Release", "s", "~");
}

/* The daemon keeps a state page for who makes a context. */
static void start_with_pages(void)
{
        start_polkit();
        run_as(ALICE, make_page, NULL);
        world.fds = settled_fds();
}

Suite *suite_polkit(void)
{
        Suite *s = suite_create("polkit");

        ADD_TESTS(s, "polkit", start_with_pages, whom_polkit_allows_may_all, whom_polkit_refuses_may_nothing,
                        a_challenge_is_said_to_who_does_not_allow_interaction,
                        on_a_direct_connection_nobody_is_asked, reading_is_an_action_of_its_own);
        ADD_TESTS(s, "no polkit", start_without_polkit, where_there_is_no_polkit_all_is_refused);
        return s;
}
