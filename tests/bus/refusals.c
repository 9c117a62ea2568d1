/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Bad arguments, to every method: an error by name, with a sentence, and nothing has changed (law 35). */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "harness.h"

/* Every method that takes a path, and what follows the path. */
struct method {
        const char *name, *types;
};

static const struct method on_path[] = {
                {"Create", "a{sv}"},
                {"Cancel", "s"},
                {"CancelCause", "is"},
                {"Extend", "t"},
                {"Release", ""},
                {"Done", ""},
                {"Undone", ""},
                {"Attach", "ha{sv}"},
                {"Processes", "bu"},
                {"Process", "u"},
                {"Members", "u"},
                {"Values", ""},
                {"Err", ""},
                {"List", "su"},
                {"Preview", "u"},
                {"Leaks", "u"},
                {"Page", ""},
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
                if (strstr(on_path[i].name, "ubscribe") || strcmp(on_path[i].name, "Create") == 0)
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
        static const char *const options[] = {"timeout-usec", "deadline-usec", "cause", "values", "mode",
                        "group", "bind", "owner", "attach", "signal", "kill-after-usec", "grace-usec",
                        "parents", "open", "description"};
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
                REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a", 1, options[i], "y", 1);
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
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "a", STDIN_FILENO, 1, "signal", "u", 15);
}
END_TEST

START_TEST(values_out_of_their_range)
{
        char long_text[CTXD_REASON_MAX + 2];
        int self = open_pidfd(getpid());

        memset(long_text, 'x', sizeof long_text - 1);
        long_text[sizeof long_text - 1] = '\0';
        create(bus, "a");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "CancelCause", "sis", "a", -1, "negative");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "CancelCause", "sis", "a", INT32_MIN, "negative");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Cancel", "ss", "a", long_text);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "CancelCause", "sis", "a", 1, long_text);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "b", 1, "description", "s", long_text);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "b", 2, "timeout-usec", "t",
                        UINT64_C(1000000000), "cause", "(is)", 1, long_text);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "b", 2, "timeout-usec", "t",
                        UINT64_C(1000000000), "cause", "(is)", -5, "negative");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "b", 2, "attach", "h", self, "signal",
                        "i", -1);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "b", 2, "attach", "h", self, "signal",
                        "i", SIGRTMAX + 1);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "a", self, 1, "signal", "i", 12345);

        /* What is just inside. */
        long_text[CTXD_REASON_MAX] = '\0';
        OK(bus, "Create", "sa{sv}", "b", 1, "description", "s", long_text);
        OK(bus, "CancelCause", "sis", "b", INT32_MAX, long_text);
        EXPECT_ERR(bus, "b", CTXD_ERR_CANCELED, ECANCELED, INT32_MAX, long_text);
        close(self);
}
END_TEST

/* Appends a values option with n keys of that many bytes in each value. */
static void refuse_values(const char *error_name, unsigned n, size_t bytes)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_free_ char *before = snapshot(bus), *after = NULL, *text = malloc(bytes + 1);

        memset(text, 'v', bytes);
        text[bytes] = '\0';
        ck_assert_int_ge(sd_bus_message_new_method_call(bus, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                         CTXD_MANAGER_INTERFACE, "Create"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", "huge"), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'a', "{sv}"), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'e', "sv"), 0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", "values"), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'v', "a{ss}"), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'a', "{ss}"), 0);
        for (unsigned i = 0; i < n; i++) {
                char key[32];

                snprintf(key, sizeof key, "org.key-%u", i);
                ck_assert_int_ge(sd_bus_message_append(m, "{ss}", key, text), 0);
        }
        for (int i = 0; i < 4; i++)
                ck_assert_int_ge(sd_bus_message_close_container(m), 0);
        reply = send_call(bus, m, &error);
        if (!error_name) {
                ck_assert_msg(reply != NULL, "%u values were refused: %s", n, error.message);
                OK(bus, "Release", "s", "huge");
                return;
        }
        ck_assert_ptr_null(reply);
        ck_assert_str_eq(error.name, error_name);
        after = snapshot(bus);
        ck_assert_str_eq(before, after);
}

START_TEST(huge_dictionaries)
{
        refuse_values(NULL, CTXD_VALUES_MAX, 8);
        refuse_values(SD_BUS_ERROR_INVALID_ARGS, CTXD_VALUES_MAX + 1, 8);
        refuse_values(SD_BUS_ERROR_INVALID_ARGS, 100000, 8);
        refuse_values(NULL, 1, 60 << 10);
        refuse_values(CTXD_ERROR_LIMITS_EXCEEDED, 2, 40 << 10); /* the default of MaxValueBytes is 64 KiB */
        refuse_values(CTXD_ERROR_LIMITS_EXCEEDED, 1, 20 << 20);

        /* One option, many times over: no more than once is looked at as well. */
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;
        ck_assert_int_ge(sd_bus_message_new_method_call(bus, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                         CTXD_MANAGER_INTERFACE, "Create"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", "many"), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'a', "{sv}"), 0);
        for (int i = 0; i < 20000; i++)
                ck_assert_int_ge(sd_bus_message_append(m, "{sv}", "bind", "s", i % 2 ? "none" : "caller"), 0);
        ck_assert_int_ge(sd_bus_message_close_container(m), 0);
        reply = send_call(bus, m, &error);
        EXPECT_ACTIVE(bus, "/");
        ck_assert_msg(reply || strcmp(error.name, SD_BUS_ERROR_INVALID_ARGS) == 0, "%s", error.name);
}
END_TEST

START_TEST(hostile_descriptors)
{
        int fds[8], pipes[2], gone;
        pid_t pid = sleeper(&gone);

        end_process(pid);
        ck_assert_int_eq(pipe(pipes), 0);
        close(pipes[1]);
        fds[0] = open("/", O_RDONLY | O_DIRECTORY);
        fds[1] = pipes[0]; /* a pipe whose other end is closed */
        fds[2] = open("/dev/null", O_RDWR);
        fds[3] = open("/dev/zero", O_RDONLY);
        fds[4] = eventfd(0, EFD_CLOEXEC);
        fds[5] = open("/proc/self", O_RDONLY | O_DIRECTORY); /* what older interfaces took for a process */
        fds[6] = open("/proc/1/status", O_RDONLY);
        fds[7] = open("/", O_PATH);
        create(bus, "a");
        for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                ck_assert_int_ge(fds[i], 0);
                REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "a", fds[i], 0);
                REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "b", 1, "owner", "h", fds[i]);
                REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "b", 1, "attach", "h", fds[i]);
                close(fds[i]);
        }
        REFUSED(bus, CTXD_ERROR_NO_SUCH_PROCESS, "Attach", "sha{sv}", "a", gone, 0);
        close(gone);

        /* The same one in several places, and the daemon's own process. */
        int daemon = open_pidfd(world.daemon), twice;
        pid = sleeper(&twice);
        OK(bus, "Create", "sa{sv}", "c", 2, "owner", "h", twice, "attach", "h", twice);
        OK(bus, "Create", "sa{sv}", "d", 1, "owner", "h", daemon);
        EXPECT_ACTIVE(bus, "d");
        end_process(pid);
        close(daemon);
        close(twice);
}
END_TEST

START_TEST(quotas_say_which)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        create(bus, "q");
        for (int i = 0; i < 9; i++) {
                char path[16];

                snprintf(path, sizeof path, "q/%d", i);
                create(bus, path);
        }
        ck_assert_int_lt(sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Create",
                                         &error, NULL, "sa{sv}", "q/one-more", 0),
                        0);
        ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
        ck_assert_ptr_nonnull(strstr(error.message, "10 of 10"));
        ck_assert_ptr_nonnull(strstr(error.message, "MaxContextsPerUser"));
        REFUSED(bus, CTXD_ERROR_LIMITS_EXCEEDED, "Create", "sa{sv}", "x/y/z", 1, "parents", "b", 1);
        OK(bus, "Release", "s", "q/3");
        create(bus, "q/again");

        int fds[4];
        for (int i = 0; i < 4; i++) {
                char path[16];

                snprintf(path, sizeof path, "q/%d", i + 4);
                fds[i] = done_handle(bus, path);
        }
        REFUSED(bus, CTXD_ERROR_LIMITS_EXCEEDED, "Done", "s", "q");
        OK(bus, "Undone", "s", "q/4");
        close(done_handle(bus, "q"));
        for (int i = 0; i < 4; i++)
                close(fds[i]);
}
END_TEST

static void start_small(void)
{
        world_start("MaxContextsPerUser=10\nMaxHandlesPerUser=4\nRetainSec=1s\n", NULL);
}

Suite *suite_refusals(void)
{
        Suite *s = suite_create("refusals");

        ADD_TESTS(s, "refusals", start_retaining, names_that_are_none, an_empty_name_is_none, names_of_nobody,
                        wrong_types, options_that_are_none, values_out_of_their_range, huge_dictionaries,
                        hostile_descriptors);
        ADD_TESTS(s, "quotas", start_small, quotas_say_which);
        return s;
}
