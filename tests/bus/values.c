/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Values, texts and descriptors that are out of their range, or too many, or none (law 35). */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "util/proc.h"
#include "harness.h"

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
        /* With sanitizers each read of sd-bus copies what it has of a message: 20 MB took half a minute. */
        refuse_values(CTXD_ERROR_LIMITS_EXCEEDED, 1, 5 << 20);

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

/* It is there where this is not a container. */
#define KERNEL_THREAD 2

START_TEST(processes_that_cannot_be_members)
{
        _cleanup_close_ int first = open_pidfd(1), thread = -1;
        struct proc_stat stat;

        create(bus, "a");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "a", first, 0);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "b", 1, "attach", "h", first);
        OK(bus, "Create", "sa{sv}", "b", 1, "owner", "h", first);
        if (proc_stat_read(KERNEL_THREAD, &stat) < 0 || stat.ppid != 0)
                return;
        ck_assert(stat.is_kernel);
        thread = open_pidfd(KERNEL_THREAD);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "a", thread, 0);
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
        int daemon = open_pidfd(world.daemon.pid), twice;
        pid = sleeper(&twice);
        OK(bus, "Create", "sa{sv}", "c", 2, "owner", "h", twice, "attach", "h", twice);
        OK(bus, "Create", "sa{sv}", "d", 1, "owner", "h", daemon);
        EXPECT_ACTIVE(bus, "d");
        end_process(pid);
        close(daemon);
        close(twice);
}
END_TEST

#define LEVELS 40
#define KEYS 64

static void append_level(sd_bus_message *m, int level)
{
        char key[32], value[16];

        ck_assert_int_ge(sd_bus_message_open_container(m, 'a', "{sv}"), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'e', "sv"), 0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", "values"), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'v', "a{ss}"), 0);
        ck_assert_int_ge(sd_bus_message_open_container(m, 'a', "{ss}"), 0);
        for (int i = 0; i < KEYS; i++) {
                /* The first is that of all levels, the second that of every other one. */
                snprintf(key, sizeof key, "org.example.%d.k%d", i == 0 ? 0 : i == 1 ? level % 2 : level, i);
                snprintf(value, sizeof value, "%d", level);
                ck_assert_int_ge(sd_bus_message_append(m, "{ss}", key, value), 0);
        }
        for (int i = 0; i < 4; i++)
                ck_assert_int_ge(sd_bus_message_close_container(m), 0);
}

/* Of each key the nearest value, once, however many there are. */
START_TEST(values_of_many_levels)
{
        _cleanup_message_ sd_bus_message *values = NULL;
        char path[4 * LEVELS] = "", what[64];
        const char *key, *value;
        unsigned n = 0;

        for (int level = 0; level < LEVELS; level++) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
                _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;

                sprintf(path + strlen(path), level ? "/v%d" : "v%d", level);
                ck_assert_int_ge(sd_bus_message_new_method_call(bus, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 CTXD_MANAGER_INTERFACE, "Create"),
                                0);
                ck_assert_int_ge(sd_bus_message_append(m, "s", path), 0);
                append_level(m, level);
                reply = send_call(bus, m, &error);
                ck_assert_msg(reply, "%s", error.message);
        }
        values = CALL(bus, "Values", "s", path);
        ck_assert_int_gt(sd_bus_message_enter_container(values, 'a', "{ss}"), 0);
        while (sd_bus_message_read(values, "{ss}", &key, &value) > 0) {
                int level, i;

                n++;
                ck_assert_int_eq(sscanf(key, "org.example.%d.k%d", &level, &i), 2);
                if (i == 0)
                        level = LEVELS - 1;
                if (i == 1)
                        level += LEVELS - 2;
                snprintf(what, sizeof what, "%d", level);
                ck_assert_str_eq(value, what);
        }
        ck_assert_uint_eq(n, 1 + 2 + LEVELS * (KEYS - 2));
}
END_TEST

Suite *suite_values(void)
{
        Suite *s = suite_create("values");

        ADD_TESTS(s, "values", start_retaining, values_out_of_their_range, huge_dictionaries,
                        values_of_many_levels, hostile_descriptors, processes_that_cannot_be_members);
        return s;
}
