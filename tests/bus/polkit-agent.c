/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* polkit asks a person. The agent that would show the dialog is carol's, and runs in the process that
 * calls. Root tells polkit that the password was right, as the helper of a real agent does. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#define AUTHORITY                                                              \
        "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", \
                        "org.freedesktop.PolicyKit1.Authority"

struct agent {
        sd_bus *bus;
        sd_bus_message *asked; /* BeginAuthentication, to be answered when the dialog is over */
        char action[128], text[256], cookie[256];
        bool called_off;
};

/* Sends cookies to root. Root answers with a byte when polkit has been told. */
struct pipes {
        int cookie[2], told[2];
};

static int begin_authentication(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *action, *text, *cookie;
        struct agent *a = userdata;

        READ(m, "sss", &action, &text, NULL);
        ck_assert_int_ge(sd_bus_message_skip(m, "a{ss}"), 0);
        READ(m, "s", &cookie);
        snprintf(a->action, sizeof a->action, "%s", action);
        snprintf(a->text, sizeof a->text, "%s", text);
        snprintf(a->cookie, sizeof a->cookie, "%s", cookie);
        a->asked = sd_bus_message_ref(m);
        return 1;
}

static int cancel_authentication(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct agent *a = userdata;

        a->called_off = true;
        return sd_bus_reply_method_return(m, NULL);
}

static const sd_bus_vtable agent_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD("BeginAuthentication", "sssa{ss}sa(sa{sv})", NULL, begin_authentication,
                                SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD("CancelAuthentication", "s", NULL, cancel_authentication,
                                SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_VTABLE_END,
};

static uint64_t start_time(void)
{
        char line[1024], *p;
        FILE *f = fopen("/proc/self/stat", "re");

        ck_assert(f && fgets(line, sizeof line, f));
        fclose(f);
        p = strrchr(line, ')') + 1;
        for (int field = 2; field < 21; field++)
                p = strchr(p + 1, ' ');
        return strtoull(p, NULL, 10);
}

static void agent_register(struct agent *a)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        *a = (struct agent){.bus = connect_bus()};
        ck_assert_int_ge(sd_bus_add_object_vtable(a->bus, NULL, "/agent",
                                         "org.freedesktop.PolicyKit1.AuthenticationAgent", agent_vtable, a),
                        0);
        r = sd_bus_call_method(a->bus, AUTHORITY, "RegisterAuthenticationAgent", &error, NULL, "(sa{sv})ss",
                        "unix-process", 3, "pid", "u", getpid(), "start-time", "t", start_time(), "uid", "i",
                        getuid(), "C.UTF-8", "/agent");
        ck_assert_msg(r >= 0, "%s", error.message);
}

static void agent_end(struct agent *a)
{
        sd_bus_message_unref(a->asked);
        sd_bus_flush_close_unref(a->bus);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const sd_bus_error *e = sd_bus_message_get_error(m);
        char *text = userdata;

        snprintf(text, 128, "%s", e ? e->name : "allowed");
        return 0;
}

/* answer: 128 bytes, empty until there is one. */
static void begin(sd_bus *b, char *answer, const char *member, const char *types, ...)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        va_list ap;

        answer[0] = '\0';
        va_start(ap, types);
        m = new_callv(b, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member, types, ap);
        va_end(ap);
        ck_assert_int_ge(sd_bus_message_set_allow_interactive_authorization(m, true), 0);
        ck_assert_int_ge(sd_bus_call_async(b, NULL, m, on_answer, answer, UINT64_MAX), 0);
        ck_assert_int_ge(sd_bus_flush(b), 0);
}

static bool pass_time(sd_bus *b)
{
        int r = sd_bus_process(b, NULL);

        ck_assert_int_ge(r, 0);
        if (r == 0)
                sd_bus_wait(b, 10000);
        return true;
}

#define AWAIT(condition, b)                                                                                 \
        for (uint64_t end_ = now_boottime_usec() + WIDE_SEC * UINT64_C(1000000);                            \
                        !(condition) && (now_boottime_usec() < end_ || (ck_abort_msg(#condition), false));) \
        pass_time(b)

/* Ends the dialog: with the right password, or by closing it. */
static void agent_answer(struct agent *a, const struct pipes *pipes, bool right)
{
        char byte;

        if (right) {
                ck_assert_int_eq(write(pipes->cookie[1], a->cookie, sizeof a->cookie), sizeof a->cookie);
                ck_assert_int_eq(read(pipes->told[0], &byte, 1), 1);
        }
        ck_assert_int_ge(right ? sd_bus_reply_method_return(a->asked, NULL)
                               : sd_bus_reply_method_errorf(a->asked,
                                                 "org.freedesktop.PolicyKit1.Error.Cancelled", "closed"),
                        0);
        a->asked = sd_bus_message_unref(a->asked);
}

static void carol_authenticates(void *userdata)
{
        const struct pipes *pipes = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        struct agent agent;
        char answer[128];

        agent_register(&agent);
        begin(b, answer, "Cancel", "ss", "secret", "carol");
        AWAIT(agent.asked, agent.bus);
        ck_assert_str_eq(agent.action, "org.ctxd1.manage");
        ck_assert_str_eq(agent.text, "Authentication is required to manage context 'secret'.");
        FAILS(b, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, "Err", "s", "secret"); /* meanwhile */
        ck_assert_str_eq(answer, "");
        agent_answer(&agent, pipes, true);
        AWAIT(answer[0], b);
        ck_assert_str_eq(answer, "allowed");

        begin(b, answer, "Create", "sa{sv}", "carols", 0);
        AWAIT(agent.asked, agent.bus);
        ck_assert_str_eq(agent.action, "org.ctxd1.create-first-label");
        ck_assert_str_eq(agent.text, "Authentication is required to create context 'carols'.");
        agent_answer(&agent, pipes, true);
        AWAIT(answer[0], b);
        ck_assert_str_eq(answer, "allowed");
        EXPECT_ACTIVE(b, "carols");
        agent_end(&agent);
}

static void carol_does_not(void *userdata)
{
        const struct pipes *pipes = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        struct agent agent;
        char answer[128];

        agent_register(&agent);
        begin(b, answer, "Values", "s", "secret");
        AWAIT(agent.asked, agent.bus);
        ck_assert_str_eq(agent.action, "org.ctxd1.read");
        ck_assert_str_eq(agent.text, "Authentication is required to look at context 'secret'.");
        agent_answer(&agent, pipes, false);
        AWAIT(answer[0], b);
        ck_assert_str_eq(answer, CTXD_ERROR_NO_SUCH_CONTEXT);

        begin(b, answer, "Release", "s", "nowhere"); /* she is asked all the same */
        AWAIT(agent.asked, agent.bus);
        ck_assert_str_eq(agent.text, "Authentication is required to manage context 'nowhere'.");
        agent_answer(&agent, pipes, true);
        AWAIT(answer[0], b);
        ck_assert_str_eq(answer, CTXD_ERROR_NO_SUCH_CONTEXT);
        agent_end(&agent);
}

static void carol_goes(void *userdata)
{
        sd_bus *b = connect_bus();
        struct agent agent;
        char answer[128];

        agent_register(&agent);
        begin(b, answer, "Cancel", "ss", "secret", "carol");
        AWAIT(agent.asked, agent.bus);
        ck_assert(!agent.called_off);
        sd_bus_close_unref(b);
        AWAIT(agent.called_off, agent.bus);
        agent_end(&agent);
}

struct scene {
        void (*fn)(void *userdata);
        struct pipes pipes;
};

static void be_carol(void *userdata)
{
        struct scene *s = userdata;

        run_as(CAROL, s->fn, &s->pipes);
}

/* Tells polkit, for each dialog that ends so, that carol gave root's password. */
static void play(void (*fn)(void *userdata), int right)
{
        struct scene s = {.fn = fn};
        char cookie[256];
        pid_t carol;

        ck_assert(pipe(s.pipes.cookie) == 0 && pipe(s.pipes.told) == 0);
        carol = spawn(be_carol, &s);
        close(s.pipes.cookie[1]);
        for (int i = 0; i < right; i++) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
                int r;

                ck_assert_int_eq(read(s.pipes.cookie[0], cookie, sizeof cookie), sizeof cookie);
                r = sd_bus_call_method(bus, AUTHORITY, "AuthenticationAgentResponse2", &error, NULL,
                                "us(sa{sv})", CAROL, cookie, "unix-user", 1, "uid", "u", 0);
                ck_assert_msg(r >= 0, "%s", error.message);
                ck_assert_int_eq(write(s.pipes.told[1], "", 1), 1);
        }
        wait_for(carol);
        close(s.pipes.cookie[0]);
        close(s.pipes.told[0]);
        close(s.pipes.told[1]);
}

START_TEST(who_authenticates_may)
{
        create(bus, "secret");
        play(carol_authenticates, 2);
        EXPECT_ERR(bus, "secret", "context canceled", ECANCELED, ECANCELED, "carol");
}
END_TEST

START_TEST(who_does_not_may_not)
{
        create(bus, "secret");
        play(carol_does_not, 1);
        EXPECT_ACTIVE(bus, "secret");
}
END_TEST

START_TEST(the_dialog_goes_with_the_caller)
{
        create(bus, "secret");
        play(carol_goes, 0);
        EXPECT_ACTIVE(bus, "secret");
}
END_TEST

Suite *suite_polkit_agent(void)
{
        Suite *s = suite_create("polkit that asks");

        ADD_TESTS(s, "polkit that asks", start_polkit, who_authenticates_may, who_does_not_may_not,
                        the_dialog_goes_with_the_caller);
        return s;
}
