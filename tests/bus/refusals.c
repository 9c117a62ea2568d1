/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Bad arguments to every method: an error with a name and a sentence, and nothing has changed (law 35). */

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness.h"
#include "raw.h"

/* Every method that takes a path, and what follows the path. */
struct method {
        const char *name, *types;
};

static const struct method on_path[] = {
                {"Create", "a{sv}"},
                {"CreateAndOpen", "a{sv}b"},
                {"Cancel", "s"},
                {"CancelCause", "is"},
                {"Extend", "t"},
                {"Release", ""},
                {"Done", ""},
                {"Undone", ""},
                {"Attach", "ha{sv}"},
                {"Processes", "bu"},
                {"Endings", "bu"},
                {"Process", "u"},
                {"Members", "u"},
                {"Values", ""},
                {"Err", ""},
                {"List", "su"},
                {"Preview", "u"},
                {"Leaks", "u"},
                {"Page", ""},
                {"Open", "b"},
                {"Subscribe", ""},
                {"Unsubscribe", ""},
};

/* Appends something harmless of these types. */
static void append_harmless(sd_bus_message *m, const char *types)
{
        for (const char *t = types; *t; t++) {
                int r = 0;

                switch (*t) {
                case 's':
                        r = sd_bus_message_append(m, "s", "");
                        break;
                case 'i':
                case 'u':
                case 'b':
                        r = sd_bus_message_append(m, (char[]){*t, '\0'}, 0);
                        break;
                case 't':
                        r = sd_bus_message_append(m, "t", UINT64_C(0));
                        break;
                case 'h':
                        r = sd_bus_message_append(m, "h", STDIN_FILENO);
                        break;
                case 'a':
                        r = sd_bus_message_append(m, "a{sv}", 0);
                        t += 4;
                        break;
                default:
                        ck_abort_msg("no such type %c", *t);
                }
                ck_assert_int_ge(r, 0);
        }
}

static void expect_refusal(const char *member, const char *path, const char *types, const char *const *names)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *before = snapshot(bus), *after = NULL;
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;

        ck_assert_int_ge(sd_bus_message_new_method_call(
                                         bus, &m, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", path), 0);
        append_harmless(m, types);
        reply = send_call(bus, m, &error);
        ck_assert_msg(!reply, "%s(\"%.40s\") was not refused", member, path);
        for (; *names && strcmp(*names, error.name) != 0; names++)
                ;
        ck_assert_msg(*names != NULL, "%s(\"%.40s\") was refused with %s: %s", member, path, error.name,
                        error.message);
        ck_assert_msg(error.message && strlen(error.message) > 10, "%s: %s says nothing", member, error.name);
        ck_assert_msg(strlen(error.message) < 2048, "%s: %s says %zu bytes", member, error.name,
                        strlen(error.message));
        after = snapshot(bus);
        ck_assert_str_eq(before, after);
}

START_TEST(names_that_are_none)
{
        static const char *const invalid[] = {CTXD_ERROR_INVALID_NAME, NULL};
        static const char *const bad[] = {"a//b", "a/./b", "..", ".", "a/../b", "a b", "a\tb", "a\nb", "ä",
                        "a\\b", "a*", "a?", "%s%n", "//", "///", "a/#1", "\x7f", "a\x01", "a#b#c",
                        "a\xe2\x80\xae", "'; drop", "~~", "a/~"};
        char huge[200000];

        create(bus, "a");
        for (size_t i = 0; i < ELEMENTSOF(on_path); i++)
                for (size_t j = 0; j < ELEMENTSOF(bad); j++)
                        expect_refusal(on_path[i].name, bad[j], on_path[i].types, invalid);
        memset(huge, 'x', sizeof huge - 1);
        huge[sizeof huge - 1] = '\0';
        for (size_t i = 0; i < ELEMENTSOF(on_path); i++)
                expect_refusal(on_path[i].name, huge, on_path[i].types, invalid);
        for (size_t i = 0; i < sizeof huge - 1; i++)
                huge[i] = i % 2 ? '/' : 'x';
        for (size_t i = 0; i < ELEMENTSOF(on_path); i++)
                expect_refusal(on_path[i].name, huge, on_path[i].types, invalid);
}
END_TEST

START_TEST(an_empty_name_is_none)
{
        static const char *const invalid[] = {CTXD_ERROR_INVALID_NAME, NULL};

        for (size_t i = 0; i < ELEMENTSOF(on_path); i++) {
                /* As a prefix it is everything. */
                if (strstr(on_path[i].name, "ubscribe") || strcmp(on_path[i].name, "List") == 0 ||
                                strcmp(on_path[i].name, "Leaks") == 0)
                        continue;
                expect_refusal(on_path[i].name, "", on_path[i].types, invalid);
        }
}
END_TEST

START_TEST(names_of_nobody)
{
        static const char *const nobody[] = {CTXD_ERROR_NO_SUCH_CONTEXT, NULL};

        create(bus, "a");
        for (size_t i = 0; i < ELEMENTSOF(on_path); i++) {
                if (strstr(on_path[i].name, "ubscribe") ||
                                strncmp(on_path[i].name, "Create", strlen("Create")) == 0)
                        continue;
                expect_refusal(on_path[i].name, "nobody", on_path[i].types, nobody);
                expect_refusal(on_path[i].name, "a/nobody", on_path[i].types, nobody);
                expect_refusal(on_path[i].name, "a#99999999", on_path[i].types, nobody);
                expect_refusal(on_path[i].name, "~", on_path[i].types, nobody);
        }
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Create", "sa{sv}", "a#7", 0);
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Create", "sa{sv}", "b#7", 0);
}
END_TEST

/* Each method with no argument, with other types, and with one too many. */
START_TEST(wrong_types)
{
        static const char *const wrong[] = {
                        "", "i", "as", "v", "ai", "(s)", "o", "g", "d", "ss", "sssss", "a{sv}", "sv"};

        create(bus, "a");
        for (size_t i = 0; i < ELEMENTSOF(on_path) + 1; i++) {
                bool current = i == ELEMENTSOF(on_path);
                const char *name = current ? "Current" : on_path[i].name;
                char right[16];

                snprintf(right, sizeof right, "%s%s", current ? "" : "s", current ? "" : on_path[i].types);
                for (size_t j = 0; j < ELEMENTSOF(wrong) + 1; j++) {
                        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
                        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;
                        _cleanup_free_ char *before = snapshot(bus), *after = NULL;
                        const char *types = j < ELEMENTSOF(wrong) ? wrong[j] : "sssssss";
                        int r = 0;

                        if (strcmp(types, right) == 0)
                                continue;
                        ck_assert_int_ge(sd_bus_message_new_method_call(bus, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                                         CTXD_MANAGER_INTERFACE, name),
                                        0);
                        if (strcmp(types, "as") == 0 || strcmp(types, "ai") == 0 ||
                                        strcmp(types, "a{sv}") == 0)
                                r = sd_bus_message_append(m, types, 0);
                        else if (strcmp(types, "v") == 0)
                                r = sd_bus_message_append(m, "v", "s", "a");
                        else if (strcmp(types, "sv") == 0)
                                r = sd_bus_message_append(m, "sv", "a", "s", "a");
                        else if (strcmp(types, "(s)") == 0)
                                r = sd_bus_message_append(m, types, "a");
                        else if (strcmp(types, "d") == 0)
                                r = sd_bus_message_append(m, types, 0.5);
                        else if (strcmp(types, "i") == 0)
                                r = sd_bus_message_append(m, types, 1);
                        else if (strcmp(types, "o") == 0)
                                r = sd_bus_message_append(m, types, "/a");
                        else if (strcmp(types, "g") == 0)
                                r = sd_bus_message_append(m, types, "s");
                        else
                                append_harmless(m, types);
                        ck_assert_int_ge(r, 0);
                        reply = send_call(bus, m, &error);
                        ck_assert_msg(!reply, "%s was not refused with %s", name, types);
                        ck_assert_msg(strcmp(error.name, SD_BUS_ERROR_INVALID_ARGS) == 0, "%s(%s): %s", name,
                                        types, error.name);
                        after = snapshot(bus);
                        ck_assert_str_eq(before, after);
                }
        }
}
END_TEST

START_TEST(options_that_are_none)
{
        /* The first ones are no integers. */
        static const char *const options[] = {"cause", "values", "bind", "owner", "attach", "parents", "open",
                        "description", "timeout-usec", "deadline-usec", "mode", "group", "signal",
                        "kill-after-usec", "grace-usec"};
        char huge[100000];

        memset(huge, 'x', sizeof huge - 1);
        huge[sizeof huge - 1] = '\0';
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, "", "b", 1);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, "timeout", "t", UINT64_C(1));
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, "Timeout-usec", "t", UINT64_C(1));
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, "%s%n%s", "b", 1);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, huge, "b", 1);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 2, "open", "b", 1, "unknown", "b",
                        1);
        /* Each with a type that is nobody's. */
        for (size_t i = 0; i < ELEMENTSOF(options); i++) {
                if (i < 8)
                        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, options[i], "y",
                                        1);
                else
                        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, options[i], "i",
                                        -1);
                REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, options[i], "d", 1.0);
                REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, options[i], "as", 1, "x");
                REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, options[i], "a{sv}", 0);
                REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, options[i], "(si)", "x",
                                1);
                REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, options[i], "v", "t",
                                UINT64_C(1));
        }
        create(bus, "a");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "a", STDIN_FILENO, 1, "timeout-usec",
                        "t", UINT64_C(1));
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "a", STDIN_FILENO, 1, "signal", "s",
                        "SIGTERM");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "a", STDIN_FILENO, 1, "signal", "x",
                        INT64_C(-15));
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "a", STDIN_FILENO, 1, "signal", "u", 65);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "b", 1, "group", "t", UINT64_C(1) << 32);
}
END_TEST

/* Languages differ in the type that they give an integer. */
START_TEST(integers_of_any_type)
{
        uint32_t mode;

        OK(bus, "Create", "sa{sv}", "y", 2, "mode", "y", 0377, "timeout-usec", "y", 255);
        OK(bus, "Create", "sa{sv}", "n", 2, "mode", "n", 0700, "grace-usec", "n", 0700);
        OK(bus, "Create", "sa{sv}", "q", 2, "mode", "q", 0700, "timeout-usec", "q", 0700);
        OK(bus, "Create", "sa{sv}", "i", 2, "mode", "i", 0700, "group", "i", getgid());
        OK(bus, "Create", "sa{sv}", "u", 2, "mode", "u", 0700, "timeout-usec", "u", UINT32_MAX);
        OK(bus, "Create", "sa{sv}", "x", 2, "mode", "x", INT64_C(0700), "timeout-usec", "x", INT64_MAX);
        OK(bus, "Create", "sa{sv}", "t", 2, "mode", "t", UINT64_C(0750), "deadline-usec", "t", UINT64_MAX);
        ck_assert_int_ge(sd_bus_get_property_trivial(bus, CTXD_BUS_NAME, CTXD_CONTEXT_OBJECT "/y",
                                         CTXD_CONTEXT_INTERFACE, "Mode", NULL, 'u', &mode),
                        0);
        ck_assert_uint_eq(mode, 0377);
}
END_TEST

/* The peers of a direct connection agree on descriptors when it begins. The daemon sees that a reply cannot
 * be sent before it does what the call asks for. */
START_TEST(law_35_a_client_that_takes_no_descriptors)
{
        sd_bus *b;

        ck_assert_int_ge(sd_bus_new(&b), 0);
        ck_assert_int_ge(sd_bus_set_address(b, world.daemon.address), 0);
        ck_assert_int_ge(sd_bus_negotiate_fds(b, 0), 0);
        ck_assert_int_ge(sd_bus_start(b), 0);
        create(b, "a");
        REFUSED(b, SD_BUS_ERROR_NOT_SUPPORTED, "Lifeline", "s", "a");
        REFUSED(b, SD_BUS_ERROR_NOT_SUPPORTED, "Done", "s", "a");
        REFUSED(b, SD_BUS_ERROR_NOT_SUPPORTED, "Drained", "s", "a");
        REFUSED(b, SD_BUS_ERROR_NOT_SUPPORTED, "Threads", "s", "a");
        REFUSED(b, SD_BUS_ERROR_NOT_SUPPORTED, "Page", "s", "a");
        REFUSED(b, SD_BUS_ERROR_NOT_SUPPORTED, "Open", "sb", "a", 1);
        REFUSED(b, SD_BUS_ERROR_NOT_SUPPORTED, "CreateAndOpen", "sa{sv}b", "b", 0, 1);
        (void) settled_fds();
        EXPECT_ACTIVE(b, "a"); /* the lifeline that was not given out would have ended it */
        OK(b, "CreateAndOpen", "sa{sv}b", "b", 0, 0);
        sd_bus_flush_close_unref(b);
}
END_TEST

static void limit_table(uint64_t n)
{
        struct rlimit limit;

        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, NULL, &limit), 0);
        limit.rlim_cur = n > 0 ? n : limit.rlim_max;
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &limit, NULL), 0);
}

/* The kernel also compares the size of the table with how many descriptors root has on their way, in all
 * programs on the machine. So the table is large. */
#define OTHERS 2000

/* The daemon's table has room for what is made, but not for the copy that is sent. */
START_TEST(law_35_no_descriptor_for_the_reply)
{
        unsigned n_given = 0, n_refused = 0, before;
        char lifeline[16], new[16];
        int others[OTHERS];

        ck_assert(may_open(2 * OTHERS));
        for (unsigned i = 0; i < OTHERS; i++)
                ck_assert_int_ge(others[i] = raw_connect(), 0);
        before = settled_fds();
        for (unsigned i = 0; i < 16; i++) {
                _cleanup_message_ sd_bus_message *m = NULL;
                int r;

                snprintf(lifeline, sizeof lifeline, "l%u", i);
                snprintf(new, sizeof new, "n%u", i);
                create(bus, lifeline);
                limit_table(before + i);
                r = sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                "CreateAndOpen", NULL, NULL, "sa{sv}b", new, 0, 1);
                ck_assert_int_eq(count_listed(bus, "/") - (unsigned) (r >= 0), 1);
                n_given += r >= 0;
                r = sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Lifeline",
                                NULL, &m, "s", lifeline);
                n_refused += r < 0;
                limit_table(0);
                (void) settled_fds();
                EXPECT_ACTIVE(bus, lifeline);
                release_all();
                ck_assert(HAPPENS(count_listed(bus, "/") == 0));
        }
        ck_assert_uint_gt(n_given, 0);
        ck_assert_uint_gt(n_refused, 0);
        for (unsigned i = 0; i < OTHERS; i++)
                close(others[i]);
}
END_TEST

Suite *suite_refusals(void)
{
        Suite *s = suite_create("refusals");

        ADD_TESTS(s, "refusals", start_retaining, names_that_are_none, an_empty_name_is_none, names_of_nobody,
                        wrong_types, options_that_are_none, integers_of_any_type);
        if (world.transport == TRANSPORT_DIRECT)
                ADD_TESTS(s, "replies", start_plain, law_35_a_client_that_takes_no_descriptors,
                                law_35_no_descriptor_for_the_reply);
        return s;
}
