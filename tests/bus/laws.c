/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The laws of state with the real daemon and several processes. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "harness.h"

#define RACERS 4

static void expect_end(sd_bus *b, const char *path, const char *cause)
{
        EXPECT_ERR(b, path, CTXD_ERR_CANCELED, ECANCELED, ECANCELED, cause);
}

START_TEST(law01_background_is_never_done)
{
        _cleanup_message_ sd_bus_message *values = CALL(bus, "Values", "s", "/");

        EXPECT_ACTIVE(bus, "/");
        ck_assert_int_eq(sd_bus_message_enter_container(values, 'a', "{ss}"), 1);
        ck_assert_int_eq(sd_bus_message_at_end(values, false), 1);
        ck_assert_uint_eq(property_u64(bus, "/", "DeadlineUSec"), CTXD_USEC_INFINITY);

        REFUSED(bus, CTXD_ERROR_NOT_CANCELABLE, "Cancel", "ss", "/", "");
        REFUSED(bus, CTXD_ERROR_NOT_CANCELABLE, "CancelCause", "sis", "/", 5, "");
        REFUSED(bus, CTXD_ERROR_NOT_CANCELABLE, "Release", "s", "/");
        REFUSED(bus, CTXD_ERROR_NOT_CANCELABLE, "Extend", "st", "/", UINT64_C(1));
        REFUSED(bus, CTXD_ERROR_NOT_CANCELABLE, "Done", "s", "/");
        REFUSED(bus, CTXD_ERROR_NOT_CANCELABLE, "Page", "s", "/");
        REFUSED_ON(bus, "/org/ctxd1/context", CTXD_ERROR_NOT_CANCELABLE, "Cancel", "s", "");
        REFUSED_ON(bus, "/org/ctxd1/context", CTXD_ERROR_NOT_CANCELABLE, "Release", NULL);
        EXPECT_ACTIVE(bus, "/");
}
END_TEST

static char *describe(sd_bus *b, const char *path)
{
        _cleanup_free_ char *object = object_of(path);
        _cleanup_message_ sd_bus_message *by = NULL;
        const char *comm;
        uint32_t uid, pid;
        char *text;

        ck_assert_int_ge(sd_bus_get_property(b, CTXD_BUS_NAME, object, CTXD_CONTEXT_INTERFACE, "CanceledBy",
                                         NULL, &by, "(uus)"),
                        0);
        READ(by, "(uus)", &uid, &pid, &comm);
        _cleanup_free_ char *state = property_string(b, path, "State"),
                            *err = property_string(b, path, "Err"),
                            *cause = property_string(b, path, "Cause"),
                            *cause_path = property_string(b, path, "CausePath");
        ck_assert_int_gt(asprintf(&text, "%s, %s, %s from %s, at %ju by %u %u %s", state, err, cause,
                                         cause_path, (uintmax_t) property_u64(b, path, "DoneUSec"), uid, pid,
                                         comm),
                        0);
        return text;
}

START_TEST(law02_done_at_most_once)
{
        create(bus, "a");
        create(bus, "a/b");
        ck_assert(cancel(bus, "a", "the first"));
        _cleanup_free_ char *a = describe(bus, "a"), *b = describe(bus, "a/b");
        ck_assert_ptr_nonnull(strstr(a, "canceled, context canceled, the first from a#"));

        ck_assert(!cancel(bus, "a", "the second"));
        ck_assert(!cancel(bus, "a/b", "the second"));
        OK(bus, "CancelCause", "sis", "a", EIO, "the third");
        FAILS(bus, CTXD_ERROR_ALREADY_DONE, "Extend", "st", "a", UINT64_C(1));
        _cleanup_free_ char *a2 = describe(bus, "a"), *b2 = describe(bus, "a/b");
        ck_assert_str_eq(a, a2);
        ck_assert_str_eq(b, b2);
}
END_TEST

/* Several processes cancel the same contexts. Exactly one is told that it was the first, and its reason
 * stays. */
struct race {
        int winner[64];
        unsigned wins[64];
};

struct racer {
        struct race *race;
        int number;
};

static void cancel_all(void *userdata)
{
        const struct racer *r = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();

        for (unsigned i = 0; i < ELEMENTSOF(r->race->winner); i++) {
                char path[32], reason[16];

                snprintf(path, sizeof path, "race/%u", i);
                snprintf(reason, sizeof reason, "racer %d", r->number);
                if (cancel(b, path, reason)) {
                        __atomic_store_n(&r->race->winner[i], r->number, __ATOMIC_SEQ_CST);
                        __atomic_add_fetch(&r->race->wins[i], 1, __ATOMIC_SEQ_CST);
                }
                ck_assert_int_eq(code_of(b, path), ECANCELED);
        }
}

START_TEST(law03_first_cancel_wins)
{
        struct race *race =
                        mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct racer racers[RACERS];
        pid_t pids[RACERS];
        char path[32], reason[16];

        create(bus, "race");
        for (unsigned i = 0; i < ELEMENTSOF(race->winner); i++) {
                snprintf(path, sizeof path, "race/%u", i);
                create(bus, path);
        }
        for (int i = 0; i < RACERS; i++) {
                racers[i] = (struct racer){race, i + 1};
                pids[i] = spawn(cancel_all, &racers[i]);
        }
        for (int i = 0; i < RACERS; i++)
                wait_for(pids[i]);
        for (unsigned i = 0; i < ELEMENTSOF(race->winner); i++) {
                snprintf(path, sizeof path, "race/%u", i);
                snprintf(reason, sizeof reason, "racer %d", race->winner[i]);
                ck_assert_uint_eq(race->wins[i], 1);
                expect_end(bus, path, reason);
        }
        EXPECT_ACTIVE(bus, "race");
        munmap(race, sizeof *race);
}
END_TEST

START_TEST(law04_err_before_and_after)
{
        create(bus, "a");
        create(bus, "b");
        create(bus, "c");
        OK(bus, "Create", "sa{sv}", "d", 1, "timeout-usec", "t", UINT64_C(0));
        EXPECT_ACTIVE(bus, "a");
        OK(bus, "Cancel", "ss", "a", "");
        OK(bus, "Cancel", "ss", "b", "not needed any more");
        OK(bus, "CancelCause", "sis", "c", EPIPE, "the client went away");
        EXPECT_ERR(bus, "a", "context canceled", ECANCELED, ECANCELED, "context canceled");
        EXPECT_ERR(bus, "b", "context canceled", ECANCELED, ECANCELED, "not needed any more");
        EXPECT_ERR(bus, "c", "context canceled", ECANCELED, EPIPE, "the client went away");
        EXPECT_ERR(bus, "d", "context deadline exceeded", ETIMEDOUT, ETIMEDOUT, "context deadline exceeded");

        _cleanup_free_ char *object = object_of("c");
        _cleanup_message_ sd_bus_message *m = CALL_ON(bus, object, "Err", NULL);
        const char *err, *cause;
        int code, error;
        READ(m, "siis", &err, &code, &error, &cause);
        ck_assert_str_eq(err, "context canceled");
        ck_assert_int_eq(code, ECANCELED);
        ck_assert_int_eq(error, EPIPE);
        ck_assert_str_eq(cause, "the client went away");
}
END_TEST

/* When a Cancel returns, whether it was the first or not, all contexts below are done and all handles are
 * readable. */
static const char *const subtree[] = {"top", "top/a", "top/a/x", "top/a/x/y", "top/b", "top/b/z"};

static void cancel_and_look(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        int handles[ELEMENTSOF(subtree)];

        for (size_t i = 0; i < ELEMENTSOF(subtree); i++)
                handles[i] = done_handle(b, subtree[i]);
        cancel(b, "top", "");
        for (size_t i = 0; i < ELEMENTSOF(subtree); i++) {
                ck_assert_msg(is_readable(handles[i]), "the handle of %s is not readable", subtree[i]);
                ck_assert_int_eq(code_of(b, subtree[i]), ECANCELED);
                close(handles[i]);
        }
}

START_TEST(law05_cancel_returns_when_all_is_done)
{
        for (int round = 0; round < 10; round++) {
                int handles[ELEMENTSOF(subtree)];
                pid_t pids[RACERS];

                for (size_t i = 0; i < ELEMENTSOF(subtree); i++) {
                        create(bus, subtree[i]);
                        handles[i] = done_handle(bus, subtree[i]);
                        ck_assert(!is_readable(handles[i]));
                }
                for (int i = 0; i < RACERS; i++)
                        pids[i] = spawn(cancel_and_look, NULL);
                cancel(bus, "top", "");
                for (size_t i = 0; i < ELEMENTSOF(subtree); i++) {
                        ck_assert(is_readable(handles[i]));
                        ck_assert_int_eq(code_of(bus, subtree[i]), ECANCELED);
                        close(handles[i]);
                }
                for (int i = 0; i < RACERS; i++)
                        wait_for(pids[i]);
                OK(bus, "Release", "s", "top");
        }
}
END_TEST

static void watch_then_ask(void *userdata)
{
        const int *go = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();

        for (int i = 0; i < 50; i++) {
                char path[32];
                int fd;

                snprintf(path, sizeof path, "watched/%d", i);
                fd = done_handle(b, path);
                ck_assert_int_eq(write(*go, "", 1), 1);
                ck_assert(becomes_readable(fd));
                ck_assert_int_ne(code_of(b, path), 0);
                close(fd);
        }
}

START_TEST(law06_readable_means_done)
{
        int go[2];
        pid_t watcher;

        ck_assert_int_eq(pipe(go), 0);
        create(bus, "watched");
        for (int i = 0; i < 50; i++) {
                char path[32];

                snprintf(path, sizeof path, "watched/%d", i);
                create(bus, path);
        }
        watcher = spawn(watch_then_ask, &go[1]);
        for (int i = 0; i < 50; i++) {
                char path[32], byte;

                snprintf(path, sizeof path, "watched/%d", i);
                ck_assert_int_eq(read(go[0], &byte, 1), 1);
                cancel(bus, path, "");
        }
        wait_for(watcher);
        close(go[0]);
        close(go[1]);
}
END_TEST

START_TEST(law07_parent_and_siblings_stay)
{
        create(bus, "p");
        create(bus, "p/one");
        create(bus, "p/two");
        create(bus, "p/one/x");
        cancel(bus, "p/one", "");
        EXPECT_ACTIVE(bus, "p");
        EXPECT_ACTIVE(bus, "p/two");
        ck_assert_int_eq(code_of(bus, "p/one/x"), ECANCELED);
        create(bus, "p/three");
        EXPECT_ACTIVE(bus, "p/three");
}
END_TEST

START_TEST(law08_child_of_a_done_parent_is_born_done)
{
        static const char *const paths[] = {"p/plain", "p/late", "p/overdue", "p/plain/deep"};
        int fd;

        create(bus, "p");
        OK(bus, "CancelCause", "sis", "p", EPIPE, "gone");
        create(bus, paths[0]);
        OK(bus, "Create", "sa{sv}", paths[1], 1, "timeout-usec", "t", UINT64_C(3600000000));
        OK(bus, "Create", "sa{sv}", paths[2], 2, "timeout-usec", "t", UINT64_C(0), "cause", "(is)", EIO,
                        "too late");
        create(bus, paths[3]);
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                _cleanup_free_ char *origin = property_string(bus, paths[i], "CausePath");

                EXPECT_ERR(bus, paths[i], CTXD_ERR_CANCELED, ECANCELED, EPIPE, "gone");
                ck_assert_int_eq(strncmp(origin, "p#", 2), 0);
                fd = done_handle(bus, paths[i]);
                ck_assert(is_readable(fd));
                close(fd);
        }

        OK(bus, "Create", "sa{sv}", "q", 1, "timeout-usec", "t", UINT64_C(0));
        create(bus, "q/child");
        EXPECT_ERR(bus, "q/child", CTXD_ERR_DEADLINE, ETIMEDOUT, ETIMEDOUT, CTXD_ERR_DEADLINE);
}
END_TEST

START_TEST(law09_cause_is_the_ancestors)
{
        uint64_t id;
        char expected[64];

        create(bus, "p");
        id = create(bus, "p/a");
        create(bus, "p/a/b");
        create(bus, "p/a/b/c");
        create(bus, "p/a/before");
        cancel(bus, "p/a/before", "its own");
        OK(bus, "CancelCause", "sis", "p/a", ENETDOWN, "no network");
        snprintf(expected, sizeof expected, "p/a#%ju", (uintmax_t) id);
        EXPECT_ERR(bus, "p/a/b/c", CTXD_ERR_CANCELED, ECANCELED, ENETDOWN, "no network");
        expect_end(bus, "p/a/before", "its own");
        cancel(bus, "p", "later");

        _cleanup_free_ char *self = property_string(bus, "p/a", "CausePath"),
                            *below = property_string(bus, "p/a/b/c", "CausePath"),
                            *before = property_string(bus, "p/a/before", "CausePath"),
                            *top = property_string(bus, "p", "CausePath");
        ck_assert_str_eq(self, expected);
        ck_assert_str_eq(below, expected);
        ck_assert_int_eq(strncmp(before, "p/a/before#", 11), 0);
        ck_assert_int_eq(strncmp(top, "p#", 2), 0);
}
END_TEST

START_TEST(law16_values_are_found_upward)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        const char *key, *value;
        unsigned found = 0;

        OK(bus, "Create", "sa{sv}", "v", 1, "values", "a{ss}", 3, "org.example.user", "ada",
                        "org.example.trace", "t1", "org.example.empty", "");
        OK(bus, "Create", "sa{sv}", "v/w", 1, "values", "a{ss}", 2, "org.example.user", "grace",
                        "org.example.own", "x");
        create(bus, "v/w/x");
        m = CALL(bus, "Values", "s", "v/w/x");
        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "{ss}"), 1);
        while (sd_bus_message_read(m, "{ss}", &key, &value) > 0) {
                const char *expected = strcmp(key, "org.example.user") == 0    ? "grace"
                                       : strcmp(key, "org.example.trace") == 0 ? "t1"
                                       : strcmp(key, "org.example.empty") == 0 ? ""
                                       : strcmp(key, "org.example.own") == 0   ? "x"
                                                                               : NULL;
                ck_assert_msg(expected != NULL, "nobody set %s", key);
                ck_assert_str_eq(value, expected);
                found++;
        }
        ck_assert_uint_eq(found, 4);
        cancel(bus, "v", ""); /* law 18: they stay */
        _cleanup_message_ sd_bus_message *after = CALL(bus, "Values", "s", "v");
        READ(after, "a{ss}", 3, &key, &value, &key, &value, &key, &value);
}
END_TEST

START_TEST(law17_keys_are_reverse_domain)
{
        static const char *const bad[] = {
                        "", "user", ".user", "org.", "org..user", "org.ex ample", "org.exämple", "a/b.c"};
        char longest[CTXD_KEY_MAX + 2];

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                REFUSED(bus, CTXD_ERROR_INVALID_KEY, "Create", "sa{sv}", "v", 1, "values", "a{ss}", 1, bad[i],
                                "x");
        memset(longest, 'k', sizeof longest - 1);
        longest[sizeof longest - 1] = '\0';
        longest[3] = '.';
        REFUSED(bus, CTXD_ERROR_INVALID_KEY, "Create", "sa{sv}", "v", 1, "values", "a{ss}", 1, longest, "x");
        REFUSED(bus, CTXD_ERROR_INVALID_KEY, "Create", "sa{sv}", "v", 1, "values", "a{ss}", 2, "org.k", "1",
                        "org.k", "2");
        longest[CTXD_KEY_MAX] = '\0';
        OK(bus, "Create", "sa{sv}", "v", 1, "values", "a{ss}", 1, longest, "x");
}
END_TEST

START_TEST(law34_an_id_is_never_used_twice)
{
        uint64_t first, second;
        char old[64], new[64];

        first = create(bus, "a");
        cancel(bus, "a", "the old one");
        OK(bus, "Release", "s", "a");
        second = create(bus, "a");
        ck_assert_uint_gt(second, first);
        snprintf(old, sizeof old, "a#%ju", (uintmax_t) first);
        snprintf(new, sizeof new, "a#%ju", (uintmax_t) second);
        expect_end(bus, old, "the old one");
        EXPECT_ACTIVE(bus, new);
        EXPECT_ACTIVE(bus, "a");

        /* A late cancel of the old one does not touch the new one, nor does any other verb. */
        ck_assert(!cancel(bus, old, "late"));
        OK(bus, "Release", "s", old);
        OK(bus, "Undone", "s", old);
        FAILS(bus, CTXD_ERROR_ALREADY_DONE, "Extend", "st", old, UINT64_MAX);
        EXPECT_ACTIVE(bus, "a");
        ck_assert(cancel(bus, new, "by its id"));
        expect_end(bus, "a", "by its id");
}
END_TEST

START_TEST(law34_wrong_ids_name_nothing)
{
        uint64_t id = create(bus, "a");
        char reference[64];

        create(bus, "b");
        snprintf(reference, sizeof reference, "a#%ju", (uintmax_t) id + 1); /* that is b */
        REFUSED(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", reference);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Cancel", "ss", reference, "");
        snprintf(reference, sizeof reference, "b#%ju", (uintmax_t) id);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Release", "s", reference);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "a#18446744073709551615");
        static const char *const bad[] = {"a#", "a#0", "a#01", "a#x", "a#-1", "a#1 ",
                        "a#18446744073709551616", "a#1#1", "#1", "/#1"};
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Err", "s", bad[i]);
}
END_TEST

#define MANY 50

/* What is made now, by an ended daemon or this one. */
struct made {
        char epoch[17], references[MANY][64];
};

static void make_many(struct made *ret)
{
        sd_bus *b = connect_bus();
        char *epoch, path[16];

        ck_assert_int_ge(sd_bus_get_property_string(b, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "Epoch", NULL, &epoch),
                        0);
        ck_assert_uint_eq(strlen(epoch), 16);
        ck_assert_uint_eq(strspn(epoch, "0123456789abcdef"), 16);
        strcpy(ret->epoch, epoch);
        free(epoch);
        for (unsigned i = 0; i < MANY; i++) {
                snprintf(path, sizeof path, "c%u", i);
                snprintf(ret->references[i], sizeof ret->references[i], "%s#%ju", path,
                                (uintmax_t) create(b, path));
                EXPECT_ACTIVE(b, ret->references[i]);
        }
        sd_bus_flush_close_unref(b);
}

/* Who has kept the reference has no context of the next daemon, though that has one of the same path. */
START_TEST(law34_an_id_of_another_daemon_names_nothing)
{
        struct daemon own = {}, shared = world.daemon;
        struct made old, new;
        sd_bus *b;

        daemon_start(&own, "[Daemon]\nProbe=off\n");
        world.daemon = own;
        make_many(&old);
        daemon_restart(&own);
        make_many(&new);
        ck_assert_str_ne(old.epoch, new.epoch);
        b = connect_bus();
        for (unsigned i = 0; i < MANY; i++)
                REFUSED(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", old.references[i]);
        sd_bus_flush_close_unref(b);
        ck_assert_int_eq(daemon_stop(&own), 0);
        world.daemon = shared;
}
END_TEST

START_TEST(law34_no_second_context_of_that_path)
{
        char old[32];

        create(bus, "a");
        REFUSED(bus, CTXD_ERROR_EXISTS, "Create", "sa{sv}", "a", 0);
        REFUSED(bus, CTXD_ERROR_EXISTS, "Create", "sa{sv}", "a", 1, "replace", "b", 1);
        snprintf(old, sizeof old, "a#%ju", (uintmax_t) property_u64(bus, "a", "Id"));
        cancel(bus, "a", "no longer");
        create(bus, "a");
        EXPECT_ACTIVE(bus, "a");
        EXPECT_ERR(bus, old, "context canceled", ECANCELED, ECANCELED, "no longer");
        OK(bus, "Release", "s", "a");
        create(bus, "a");
}
END_TEST

/* A call may be refused after it was read in part, or after other checks have passed. Nothing has changed
 * then either. */
START_TEST(law35_a_refused_call_changes_nothing)
{
        int self = open_pidfd(getpid()), gone;
        pid_t pid = sleeper(&gone);

        end_process(pid);
        create(bus, "a");
        REFUSED(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Create", "sa{sv}", "a/b/c", 0);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "a/b/c", 2, "parents", "b", 1, "wrong",
                        "s", "x");
        REFUSED(bus, CTXD_ERROR_NO_SUCH_PROCESS, "Create", "sa{sv}", "a/b/c", 2, "parents", "b", 1, "owner",
                        "h", gone);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_PROCESS, "Create", "sa{sv}", "a/b/c", 2, "parents", "b", 1, "attach",
                        "h", gone);
        REFUSED(bus, CTXD_ERROR_INVALID_KEY, "Create", "sa{sv}", "a/b/c", 2, "parents", "b", 1, "values",
                        "a{ss}", 2, "org.good", "x", "bad", "x");
        /* Its deadline has passed, so it is done at birth: nothing can be attached, and it does not stay. */
        REFUSED(bus, CTXD_ERROR_ALREADY_DONE, "Create", "sa{sv}", "a/b/c", 3, "parents", "b", 1,
                        "timeout-usec", "t", UINT64_C(0), "attach", "h", self);
        cancel(bus, "a", "");
        REFUSED(bus, CTXD_ERROR_ALREADY_DONE, "Create", "sa{sv}", "a/new", 1, "attach", "h", self);
        REFUSED(bus, CTXD_ERROR_ALREADY_DONE, "Attach", "sha{sv}", "a", self, 0);
        close(self);
        close(gone);
}
END_TEST

Suite *suite_laws(void)
{
        Suite *s = suite_create("laws");

        ADD_TESTS(s, "laws", start_retaining, law01_background_is_never_done, law02_done_at_most_once,
                        law03_first_cancel_wins, law04_err_before_and_after,
                        law05_cancel_returns_when_all_is_done, law06_readable_means_done,
                        law07_parent_and_siblings_stay, law08_child_of_a_done_parent_is_born_done,
                        law09_cause_is_the_ancestors, law16_values_are_found_upward,
                        law17_keys_are_reverse_domain, law34_an_id_is_never_used_twice,
                        law34_an_id_of_another_daemon_names_nothing, law34_wrong_ids_name_nothing,
                        law34_no_second_context_of_that_path, law35_a_refused_call_changes_nothing);
        return s;
}
