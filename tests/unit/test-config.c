/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config-value.h"
#include "tests/harness/suite.h"
#include "util/utf8.h"

static char path[] = "/tmp/ctxd-test-config-XXXXXX";
static char said[8192];
static unsigned n_said, last_line;

static void on_warn(void *userdata, const char *file, unsigned line, const char *message)
{
        ck_assert_str_eq(file, path);
        snprintf(said + strlen(said), sizeof said - strlen(said), "%u:%s\n", line, message);
        last_line = line;
        n_said++;
}

static struct config load(const void *text, size_t length)
{
        struct config c;
        FILE *f = fopen(path, "w");

        said[0] = '\0';
        n_said = 0;
        ck_assert(f && fwrite(text, 1, length, f) == length);
        fclose(f);
        ck_assert_int_eq(config_load(path, on_warn, NULL, &c), 0);
        return c;
}

static struct config load_text(const char *text)
{
        return load(text, strlen(text));
}

static void setup(void)
{
        close(mkstemp(path));
}

static void teardown(void)
{
        unlink(path);
        strcpy(path + strlen(path) - 6, "XXXXXX");
}

START_TEST(keys_are_read)
{
        struct config c = load_text("# a comment\n"
                                    "; another one\n"
                                    "[Daemon]\n"
                                    "LeakGraceSec=2s\n"
                                    "RetainSec = 1min 30s\n"
                                    "KillAfterSec=infinity\n"
                                    "Probe=proc\n"
                                    "MaxContexts=17\n"
                                    "MaxValueBytes=64K\n");

        ck_assert_str_eq(said, "");
        ck_assert_uint_eq(c.leak_grace_usec, 2000000);
        ck_assert_uint_eq(c.retain_usec, 90000000);
        ck_assert_uint_eq(c.kill_after_usec, UINT64_MAX);
        ck_assert_int_eq(c.probe, PROBE_MODE_PROC);
        ck_assert_uint_eq(c.max_contexts, 17);
        ck_assert_uint_eq(c.max_value_bytes, 65536);
}
END_TEST

START_TEST(last_one_wins)
{
        struct config c = load_text("[Daemon]\nMaxContexts=1\nMaxContexts=2\n[Daemon]\nMaxContexts=3\n");

        ck_assert_uint_eq(c.max_contexts, 3);
}
END_TEST

START_TEST(unknown_key_warns_with_its_line)
{
        struct config d, c = load_text("[Daemon]\n\nLeekGraceSec=2s\n");

        config_defaults(&d);
        ck_assert_uint_eq(n_said, 1);
        ck_assert_uint_eq(last_line, 3);
        ck_assert_ptr_nonnull(strstr(said, "LeekGraceSec"));
        /* There are unnamed bytes behind the probe's mode. */
        ck_assert_int_eq(c.probe, PROBE_MODE_AUTO);
        ck_assert_mem_eq(&c, &d, offsetof(struct config, probe));
        ck_assert_mem_eq(&c.max_contexts, &d.max_contexts, sizeof c - offsetof(struct config, max_contexts));
}
END_TEST

START_TEST(bad_value_keeps_the_default)
{
        struct config c = load_text("[Daemon]\nLeakGraceSec=soon\nMaxContexts=0\nProbe=maybe\nRetainSec=7\n");

        ck_assert_uint_eq(n_said, 3);
        ck_assert_ptr_nonnull(strstr(said, "2:LeakGraceSec=soon"));
        ck_assert_ptr_nonnull(strstr(said, "3:MaxContexts=0"));
        ck_assert_ptr_nonnull(strstr(said, "4:Probe=maybe"));
        ck_assert_uint_eq(c.leak_grace_usec, 5000000);
        ck_assert_uint_eq(c.retain_usec, 7000000);
}
END_TEST

START_TEST(other_section_and_garbage_warn)
{
        struct config c = load_text(
                        "[Manager]\nMaxContexts=5\n[Daemon]\nthis is no assignment\nMaxContexts=6\n");

        ck_assert_ptr_nonnull(strstr(said, "2:There is no section [Manager]"));
        ck_assert_ptr_nonnull(strstr(said, "4:This is neither"));
        ck_assert_uint_eq(c.max_contexts, 6);
}
END_TEST

START_TEST(odd_files)
{
        struct config c;
        char *big = malloc(200000);

        load_text("");
        load_text("\n\n\n");
        c = load_text("\xef\xbb\xbf[Daemon]\nMaxContexts=9\n"); /* with a byte order mark */
        ck_assert_uint_eq(c.max_contexts, 9);
        c = load_text("[Daemon]\r\nMaxContexts=9"); /* without a last newline */
        ck_assert_uint_eq(c.max_contexts, 9);
        memset(big, 'x', 200000);
        memcpy(big, "[Daemon]\n", 9);
        load(big, 200000);
        ck_assert_uint_ge(n_said, 1);
        free(big);
        ck_assert_int_eq(config_load("/nonexistent/ctxd.conf", NULL, NULL, &c), -ENOENT);
        ck_assert_int_eq(config_load("/", NULL, NULL, &c), -EISDIR);
        ck_assert_int_eq(config_load("/dev/zero", NULL, NULL, &c), -EFBIG);
}
END_TEST

START_TEST(hostile_bytes)
{
        unsigned seed = 1;

        for (int i = 0; i < 2000; i++) {
                unsigned char bytes[256];
                struct config c;
                size_t n = (size_t) (rand_r(&seed) % (int) sizeof bytes);
                FILE *f = fopen(path, "w");

                for (size_t k = 0; k < n; k++) {
                        static const char likely[] = "[]=\n \t#;DaemonMax0123456789\"\\/*\r";

                        bytes[k] = (unsigned char) (rand_r(&seed) % 4 ? likely[rand_r(&seed) %
                                                                                        (int) (sizeof likely -
                                                                                                        1)]
                                                                      : rand_r(&seed));
                }
                ck_assert(fwrite(bytes, 1, n, f) == n);
                fclose(f);
                config_load(path, NULL, NULL, &c);
        }
}
END_TEST

START_TEST(stray_bytes_cost_their_line_alone)
{
        struct config c = load_text("# caf\xe9\nMaxContexts=9\n[Daemon]\nMaxContexts=5\nProbe=\xff\n# \xe0");

        ck_assert_uint_eq(c.max_contexts, 5);
        ck_assert_int_eq(c.probe, PROBE_MODE_AUTO);
        ck_assert(strstr(said, "1:There are bytes"));
        ck_assert(strstr(said, "5:There are bytes"));
        ck_assert(strstr(said, "6:There are bytes"));
}
END_TEST

START_TEST(utf8_is_told_from_other_bytes)
{
        static const struct {
                const char *text, *mended;
        } texts[] = {
                        {"", ""},
                        {"plain", "plain"},
                        {"\xc2\xb5s \xe2\x82\xac \xf0\x9f\x90\xa7",
                                        "\xc2\xb5s \xe2\x82\xac \xf0\x9f\x90\xa7"},
                        {"a\xff\xfe"
                         "b",
                                        "a??b"},
                        {"\xc0\x80", "??"},
                        {"\xe2\x82", "??"},
                        {"\xed\xa0\x80", "???"},
                        {"\xef\xbf\xbe", "???"},
                        {"\xf4\x90\x80\x80", "????"},
                        {"\x80", "?"},
                        {"\xc2x", "?x"},
        };

        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
                char text[32];

                strcpy(text, texts[i].text);
                ck_assert_int_eq(utf8_mend(text), strcmp(texts[i].text, texts[i].mended) != 0);
                ck_assert_str_eq(text, texts[i].mended);
        }
}
END_TEST

START_TEST(timespans)
{
        static const struct {
                const char *text;
                uint64_t usec;
        } good[] = {
                        {"0", 0},
                        {"5", 5000000},
                        {"5s", 5000000},
                        {"5 s", 5000000},
                        {"500ms", 500000},
                        {"1min 30s", 90000000},
                        {"1h", UINT64_C(3600000000)},
                        {"1.5s", 1500000},
                        {".5s", 500000},
                        {"1.", 1000000},
                        {"2weeks 1day", UINT64_C(1296000000000)},
                        {"2d", UINT64_C(172800000000)},
                        {"7us", 7},
                        {"infinity", UINT64_MAX},
                        {" 3s ", 3000000},
        };
        static const char *const bad[] = {"", " ", "s", "-1", "5x", "5 5 x", "18446744073709551615s",
                        "99999999999999999999", "infinity s", "5s,", ".", ".s", "1..5"};
        uint64_t usec;

        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                ck_assert_msg(parse_timespan(good[i].text, &usec) == 0, "%s", good[i].text);
                ck_assert_msg(usec == good[i].usec, "%s", good[i].text);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                ck_assert_msg(parse_timespan(bad[i], &usec) < 0, "%s", bad[i]);
        ck_assert_int_eq(parse_size("16777216T", &usec), -ERANGE);
        ck_assert_int_eq(parse_size("1X", &usec), -EINVAL);
        ck_assert_int_eq(parse_number("1x", &usec), -EINVAL);
}
END_TEST

/* What is commented out in the file that is installed shows the default: it changes nothing when it is let
 * in. */
START_TEST(shipped_file_shows_the_defaults)
{
        struct config c, defaults;
        char text[16384], *end = text;
        FILE *f = fopen(SHIPPED_FILE, "r");
        char line[512];
        unsigned n = 0;

        ck_assert_ptr_nonnull(f);
        while (fgets(line, sizeof line, f)) {
                bool assigns = line[0] == '#' && line[1] >= 'A' && line[1] <= 'Z' && strchr(line, '=');

                n += assigns;
                ck_assert(end + strlen(line) < text + sizeof text);
                end = stpcpy(end, line + assigns);
        }
        fclose(f);
        config_defaults(&defaults);
        c = load_text(text);
        ck_assert_str_eq(said, "");
        ck_assert_uint_gt(n, 0);
        ck_assert_uint_eq(c.leak_grace_usec, defaults.leak_grace_usec);
        ck_assert_uint_eq(c.retain_usec, defaults.retain_usec);
        ck_assert_uint_eq(c.kill_after_usec, defaults.kill_after_usec);
        ck_assert_int_eq(c.probe, defaults.probe);
        ck_assert_uint_eq(c.max_contexts, defaults.max_contexts);
        ck_assert_uint_eq(c.max_contexts_per_user, defaults.max_contexts_per_user);
        ck_assert_uint_eq(c.max_handles_per_user, defaults.max_handles_per_user);
        ck_assert_uint_eq(c.max_members_per_user, defaults.max_members_per_user);
        ck_assert_uint_eq(c.max_members, defaults.max_members);
        ck_assert_uint_eq(c.max_subscriptions, defaults.max_subscriptions);
        ck_assert_uint_eq(c.max_bytes, defaults.max_bytes);
        ck_assert_uint_eq(c.max_unread_bytes, defaults.max_unread_bytes);
        ck_assert_uint_eq(c.max_connections_per_user, defaults.max_connections_per_user);
        ck_assert_uint_eq(c.max_subscriptions_per_user, defaults.max_subscriptions_per_user);
        ck_assert_uint_eq(c.max_bytes_per_user, defaults.max_bytes_per_user);
        ck_assert_uint_eq(c.max_unread_bytes_per_user, defaults.max_unread_bytes_per_user);
        ck_assert_uint_eq(c.max_value_bytes, defaults.max_value_bytes);
}
END_TEST

static void on_any_warn(void *userdata, const char *file, unsigned line, const char *message)
{
        snprintf(said + strlen(said), sizeof said - strlen(said), "%s:%u:%s\n", strrchr(file, '/') + 1, line,
                        message);
}

static void put(const char *directory, const char *name, const char *text)
{
        char file[256];
        FILE *f;

        snprintf(file, sizeof file, "%s/%s", directory, name);
        f = fopen(file, "w");
        ck_assert(f && fputs(text, f) >= 0);
        fclose(f);
}

START_TEST(dropins_change_what_was_said)
{
        static const char *const names[] = {"ctxd.conf", "ctxd.conf.d/20-b.conf", "ctxd.conf.d/10-a.conf",
                        "ctxd.conf.d/30.conf~", "ctxd.conf.d/.40.conf", "ctxd.conf.d/.conf"};
        char directory[] = "/tmp/ctxd-test-config-XXXXXX", dropins[64], file[128];
        struct config c, defaults;

        config_defaults(&defaults);
        ck_assert(mkdtemp(directory));
        said[0] = '\0';
        ck_assert_int_eq(config_load_directory(directory, on_any_warn, NULL, &c), 0);
        ck_assert_uint_eq(c.max_contexts, defaults.max_contexts);
        ck_assert_str_eq(said, "");

        snprintf(dropins, sizeof dropins, "%s/ctxd.conf.d", directory);
        ck_assert_int_eq(mkdir(dropins, 0755), 0);
        put(directory, names[0], "[Daemon]\nMaxContexts=1\nRetainSec=1s\nLeakGraceSec=1s\n");
        put(directory, names[1], "[Daemon]\nMaxContexts=20\nNoSuchKey=1\n");
        put(directory, names[2], "[Daemon]\nMaxContexts=10\nRetainSec=10s\n");
        for (size_t i = 3; i < 6; i++)
                put(directory, names[i], "[Daemon]\nLeakGraceSec=9s\n");
        ck_assert_int_eq(config_load_directory(directory, on_any_warn, NULL, &c), 0);
        ck_assert_uint_eq(c.max_contexts, 20);
        ck_assert_uint_eq(c.retain_usec, 10000000);
        ck_assert_uint_eq(c.leak_grace_usec, 1000000);
        ck_assert_str_eq(said, "20-b.conf:3:There is no key NoSuchKey: it is ignored\n");

        /* One that cannot be read does not cost the others. */
        said[0] = '\0';
        snprintf(file, sizeof file, "%s/15.conf", dropins);
        ck_assert_int_eq(mkdir(file, 0755), 0);
        ck_assert_int_eq(config_load_directory(directory, on_any_warn, NULL, &c), 0);
        ck_assert_uint_eq(c.max_contexts, 20);
        ck_assert(strncmp(said, "15.conf:0:The file cannot be read", 33) == 0);
        ck_assert_int_eq(rmdir(file), 0);

        for (size_t i = 0; i < 6; i++) {
                snprintf(file, sizeof file, "%s/%s", directory, names[i]);
                ck_assert_int_eq(unlink(file), 0);
        }
        ck_assert_int_eq(rmdir(dropins), 0);

        /* Nor does a directory that is none. */
        said[0] = '\0';
        put(directory, "ctxd.conf.d", "");
        ck_assert_int_eq(config_load_directory(directory, on_any_warn, NULL, &c), 0);
        ck_assert_uint_eq(c.max_contexts, defaults.max_contexts);
        ck_assert(strncmp(said, "ctxd.conf.d:0:The directory cannot be read", 42) == 0);
        ck_assert_int_eq(unlink(dropins), 0);
        ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        keys_are_read,
                        last_one_wins,
                        unknown_key_warns_with_its_line,
                        bad_value_keeps_the_default,
                        other_section_and_garbage_warn,
                        shipped_file_shows_the_defaults,
                        dropins_change_what_was_said,
                        odd_files,
                        hostile_bytes,
                        stray_bytes_cost_their_line_alone,
                        utf8_is_told_from_other_bytes,
                        timespans,
                        NULL,
        };
        Suite *s = suite_create("config");

        tcase_add_checked_fixture(add_case(s, "config", tests), setup, teardown);
        return run_suite(s);
}
