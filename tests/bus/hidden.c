/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A context that all may read, below one that is hidden: nothing of the hidden one is told through it
 * (law 36). Root is shown the same answers, with all that is in them, so that there is something to hide. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "harness.h"
#include "proto/state-page.h"

#define SECRET "secret"
#define LOW "top/mid/low"
#define BOBS LOW "/bobs"
#define DUE "top/due/low" /* its end is the deadline of its parent */
#define PAGE_BYTES 65536

enum { ERR, VALUES, LIST, LEAKS, PREVIEW, PROCESSES, MEMBERS, PROPERTIES, ANSWERS };

/* Which answers have something of the hidden parent for those who may read it. */
static const bool tells[ANSWERS] = {
                [ERR] = true, [VALUES] = true, [LIST] = true, [LEAKS] = true, [PROPERTIES] = true};

static void start_fake_probe(void)
{
        world_start("RetainSec=60s\n", getenv("FAKE_PROBE"));
}

static char *as_text(sd_bus_message *m)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        ck_assert_ptr_nonnull(f);
        ck_assert_int_ge(sd_bus_message_rewind(m, true), 0);
        ck_assert_int_ge(sd_bus_message_dump(m, f, 0), 0);
        fclose(f);
        return text;
}

static sd_bus_message *ask(sd_bus *b, unsigned what, const char *path)
{
        _cleanup_free_ char *object = object_of(path);

        switch (what) {
        case ERR:
                return CALL(b, "Err", "s", path);
        case VALUES:
                return CALL(b, "Values", "s", path);
        case LIST:
                return CALL(b, "List", "ssu", path, "", 0);
        case LEAKS:
                return CALL(b, "Leaks", "su", path, 0);
        case PREVIEW:
                return CALL(b, "Preview", "su", path, 0);
        case PROCESSES:
                return CALL(b, "Processes", "sbu", path, 1, 0);
        case MEMBERS:
                return CALL(b, "Members", "su", path, 0);
        default:
                return call(HERE, b, object, "org.freedesktop.DBus.Properties", "GetAll", "s",
                                CTXD_CONTEXT_INTERFACE);
        }
}

/* Nobody but its readers knows what the hidden one says, which id it has, and who has ended it. */
static bool has_secret(const char *text)
{
        return strstr(text, SECRET) || strstr(text, "top/mid#") || strstr(text, "top/due#");
}

static void expect_hidden(sd_bus *b, const char *path)
{
        for (unsigned i = 0; i < ANSWERS; i++) {
                _cleanup_message_ sd_bus_message *m = ask(b, i, path);
                _cleanup_free_ char *text = as_text(m);

                ck_assert_msg(!has_secret(text), "answer %u about %s: %s", i, path, text);
        }
}

/* What is said of an end that came from a hidden context. */
static void expect_bare_end(sd_bus *b, const char *path, const char *err, int code)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        _cleanup_free_ char *object = object_of(path), *cause = property_string(b, path, "Cause"),
                            *from = property_string(b, path, "CausePath");
        uint32_t uid, pid;
        const char *comm;
        int error;

        EXPECT_ERR(b, path, err, code, code, err);
        ck_assert_str_eq(cause, err);
        ck_assert_str_eq(from, "");
        ck_assert_int_ge(sd_bus_get_property_trivial(b, CTXD_BUS_NAME, object, CTXD_CONTEXT_INTERFACE,
                                         "CauseError", NULL, 'i', &error),
                        0);
        ck_assert_int_eq(error, code);
        ck_assert_int_ge(sd_bus_get_property(b, CTXD_BUS_NAME, object, CTXD_CONTEXT_INTERFACE, "CanceledBy",
                                         NULL, &m, "(uus)"),
                        0);
        READ(m, "(uus)", &uid, &pid, &comm);
        ck_assert(uid == UINT32_MAX && pid == 0 && comm[0] == '\0');
}

static void expect_values(sd_bus *b, const char *path, const char *const *expected)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Values", "s", path);
        const char *key, *value;

        ck_assert_int_gt(sd_bus_message_enter_container(m, 'a', "{ss}"), 0);
        for (; *expected; expected++) {
                READ(m, "{ss}", &key, &value);
                ck_assert_str_eq(key, *expected);
                ck_assert_str_eq(value, "seen");
        }
        ck_assert_int_eq(sd_bus_message_at_end(m, false), 1);
}

/* What the signals say that have come. */
struct heard {
        bool done, leak, secret;
};

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct heard *h = userdata;

        if (sd_bus_message_is_signal(m, CTXD_MANAGER_INTERFACE, NULL) > 0) {
                _cleanup_free_ char *text = as_text(m);

                h->done = h->done || sd_bus_message_is_signal(m, NULL, "ContextDone") > 0;
                h->leak = h->leak || sd_bus_message_is_signal(m, NULL, "LeakFound") > 0;
                h->secret = h->secret || strstr(text, SECRET);
        }
        return 0;
}

static void listen_for(sd_bus *b, struct heard *h)
{
        ck_assert_int_ge(sd_bus_add_filter(b, NULL, on_signal, h), 0);
        OK(b, "Subscribe", "s", "/");
}

static void await_signals(sd_bus *b, struct heard *h)
{
        ck_assert(HAPPENS(({
                OK(b, "Err", "s", "/");
                while (sd_bus_process(b, NULL) > 0)
                        ;
                h->done && h->leak;
        })));
}

static void bob_is_shown_nothing(void *userdata)
{
        const int *pipes = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        _cleanup_message_ sd_bus_message *late = NULL;
        struct heard heard = {};
        char byte;

        listen_for(b, &heard);
        OK(b, "Create", "sa{sv}", BOBS, 1, "values", "a{ss}", 1, "org.example.bobs", "seen");
        expect_hidden(b, LOW);
        expect_hidden(b, BOBS);
        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(read(pipes[2], &byte, 1), 1);

        await_signals(b, &heard);
        ck_assert(!heard.secret);
        late = CALL(b, "Create", "sa{sv}", LOW "/late", 0); /* which is done when it is made */
        OK(b, "Values", "s", "top"); /* that one may be read, and so may what it gives to those below */
        expect_hidden(b, LOW);
        expect_hidden(b, BOBS);
        expect_hidden(b, LOW "/late");
        expect_hidden(b, DUE);
        expect_bare_end(b, LOW, "context canceled", ECANCELED);
        expect_bare_end(b, BOBS, "context canceled", ECANCELED);
        expect_bare_end(b, LOW "/late", "context canceled", ECANCELED);
        expect_bare_end(b, DUE, "context deadline exceeded", ETIMEDOUT);
        /* The hidden one gives another value for org.example.over; to show that of the top would be a lie. */
        expect_values(b, LOW, (const char *[]){"org.example.low", "org.example.top", NULL});
        expect_values(b, BOBS,
                        (const char *[]){"org.example.bobs", "org.example.low", "org.example.top", NULL});
}

static void make_family(void)
{
        OK(bus, "Create", "sa{sv}", "top", 2, "mode", "u", 0755, "values", "a{ss}", 2, "org.example.top",
                        "seen", "org.example.over", "seen");
        OK(bus, "Create", "sa{sv}", "top/mid", 2, "mode", "u", 0700, "values", "a{ss}", 2, "org.example.mid",
                        SECRET " value", "org.example.over", SECRET " too");
        OK(bus, "Create", "sa{sv}", LOW, 2, "mode", "u", 0777, "values", "a{ss}", 1, "org.example.low",
                        "seen");
        OK(bus, "Create", "sa{sv}", "top/due", 3, "mode", "u", 0700, "timeout-usec", "t", UINT64_C(0),
                        "cause", "(is)", EIO, SECRET " deadline");
        OK(bus, "Create", "sa{sv}", DUE, 1, "mode", "u", 0755);
}

START_TEST(law36_nothing_of_a_hidden_parent_through_its_child)
{
        struct heard heard = {};
        int pipes[4], pidfd;
        pid_t bob, member;
        char byte;

        ck_assert(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
        make_family();
        listen_for(bus, &heard);
        member = sleeper(&pidfd);
        OK(bus, "Attach", "sha{sv}", LOW, pidfd, 0);
        bob = spawn_as(BOB, bob_is_shown_nothing, pipes);
        ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
        OK(bus, "CancelCause", "sis", "top/mid", EIO, SECRET " cause");
        await_signals(bus, &heard);
        ck_assert(heard.secret);
        ck_assert_int_eq(write(pipes[3], "", 1), 1);
        wait_for(bob);
        for (unsigned i = 0; i < ANSWERS; i++) {
                _cleanup_message_ sd_bus_message *m = ask(bus, i, LOW);
                _cleanup_free_ char *text = as_text(m);

                ck_assert_msg(has_secret(text) == tells[i], "answer %u to root: %s", i, text);
        }
        EXPECT_ERR(bus, DUE, "context deadline exceeded", ETIMEDOUT, EIO, SECRET " deadline");
        end_process(member);
        close(pidfd);
        for (int i = 0; i < 4; i++)
                close(pipes[i]);
}
END_TEST

static void bobs_page(void *userdata)
{
        const int *pipes = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        _cleanup_message_ sd_bus_message *m = NULL, *opened = NULL;
        _cleanup_free_ char *text = NULL;
        uint64_t offset, word;
        char *map, byte;
        int fd;

        create(b, BOBS);
        m = CALL(b, "Page", "s", BOBS);
        READ(m, "htt", &fd, &offset, &word);
        map = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
        ck_assert_ptr_ne(map, MAP_FAILED);
        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(read(pipes[2], &byte, 1), 1);
        memcpy(&word, map + offset, sizeof word);
        ck_assert_uint_ne(word & STATE_WORD_MASK, STATE_WORD_ACTIVE);
        ck_assert_ptr_null(memmem(map, PAGE_BYTES, SECRET, strlen(SECRET)));
        opened = CALL(b, "Open", "sb", BOBS, 1);
        text = as_text(opened);
        ck_assert_msg(!has_secret(text), "%s", text);
}

START_TEST(law36_nor_on_the_page)
{
        int pipes[4];
        pid_t bob;
        char byte;

        ck_assert(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
        make_family();
        bob = spawn_as(BOB, bobs_page, pipes);
        ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
        cancel(bus, "top/mid", SECRET);
        ck_assert_int_eq(write(pipes[3], "", 1), 1);
        wait_for(bob);
        for (int i = 0; i < 4; i++)
                close(pipes[i]);
}
END_TEST

/* The mode of what one owns is no lock without a key. */
static void of_her_own(void *userdata)
{
        const unsigned modes[] = {0000, 0400, 0200, 0077};
        _cleanup_bus_ sd_bus *b = connect_bus();

        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                _cleanup_free_ char *object = object_of("user-1001/own");
                _cleanup_message_ sd_bus_message *lifeline = NULL;

                OK(b, "Create", "sa{sv}", "~/own", 1, "mode", "u", modes[i]);
                EXPECT_ACTIVE(b, "~/own");
                OK(b, "Create", "sa{sv}", "~/own", 1, "open", "b", 1);
                ck_assert_uint_eq(count_listed(b, "~/own"), 1);
                close(done_handle(b, "~/own"));
                OK(b, "Undone", "s", "~/own");
                OK(b, "Page", "s", "~/own");
                OK(b, "Extend", "st", "~/own", UINT64_MAX);
                lifeline = CALL(b, "Lifeline", "s", "~/own");
                if (!(modes[i] & 0200))
                        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "~/own/below", 0);
                ck_assert(cancel(b, "~/own", "she may"));
                EXPECT_ERR(b, "~/own", "context canceled", ECANCELED, ECANCELED, "she may");
                OK_ON(b, object, "Release", NULL);
        }
}

START_TEST(the_owner_may_always_look_and_end)
{
        run_as(ALICE, of_her_own, NULL);
}
END_TEST

Suite *suite_hidden(void)
{
        Suite *s = suite_create("hidden");

        ADD_TESTS(s, "hidden", start_fake_probe, law36_nothing_of_a_hidden_parent_through_its_child);
        ADD_TESTS(s, "pages", start_plain, law36_nor_on_the_page, the_owner_may_always_look_and_end);
        return s;
}
