/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* List and its pages, and the Manager's properties. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

struct page {
        char paths[64][64];
        char references[64][96];
        size_t n;
        bool truncated;
};

static void list(const char *prefix, const char *after, uint32_t limit, struct page *p)
{
        _cleanup_message_ sd_bus_message *m = CALL(bus, "List", "ssu", prefix, after, limit);
        const char *path, *state, *cause;
        uint64_t id, deadline, created;
        int truncated;

        p->n = 0;
        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "(ststts)"), 1);
        while (sd_bus_message_read(m, "(ststts)", &path, &id, &state, &deadline, &created, &cause) > 0) {
                ck_assert_uint_lt(p->n, ELEMENTSOF(p->paths));
                snprintf(p->paths[p->n], sizeof p->paths[0], "%s", path);
                snprintf(p->references[p->n], sizeof p->references[0], "%s#%ju", path, (uintmax_t) id);
                p->n++;
        }
        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        READ(m, "b", &truncated);
        p->truncated = truncated;
}

START_TEST(list_shows_what_is_there)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        const char *path, *state, *cause;
        uint64_t id, found, deadline, created, before = now_boottime_usec();
        int truncated;

        id = create(bus, "l");
        OK(bus, "CancelCause", "sis", "l", 5, "why not");
        m = CALL(bus, "List", "ssu", "/", "", 0);
        READ(m, "a(ststts)b", 1, &path, &found, &state, &deadline, &created, &cause, &truncated);
        ck_assert_str_eq(path, "l");
        ck_assert_uint_eq(found, id);
        ck_assert_str_eq(state, "canceled");
        ck_assert_uint_eq(deadline, UINT64_MAX);
        ck_assert_uint_ge(created, before);
        ck_assert_uint_le(created, now_boottime_usec());
        ck_assert_str_eq(cause, "why not");
        ck_assert(!truncated);

        OK(bus, "Create", "sa{sv}", "d", 1, "timeout-usec", "t", UINT64_C(0));
        create(bus, "a");
        _cleanup_free_ char *text = snapshot(bus);
        ck_assert_ptr_nonnull(strstr(text, " deadline-exceeded "));
        ck_assert_ptr_nonnull(strstr(text, " active "));
}
END_TEST

START_TEST(parents_come_before_their_children)
{
        struct page p;
        char list_of[][16] = {"l", "l/b", "l/b/c", "l/a", "l/b/d"};

        for (size_t i = 0; i < ELEMENTSOF(list_of); i++)
                create(bus, list_of[i]);
        create(bus, "lx"); /* begins alike, and is not below */
        list("l", "", 0, &p);
        ck_assert_uint_eq(p.n, ELEMENTSOF(list_of));
        for (size_t i = 0; i < p.n; i++) {
                char *slash = strrchr(p.paths[i], '/');
                bool found = !slash;

                for (size_t j = 0; j < i; j++)
                        found |= slash && strlen(p.paths[j]) == (size_t) (slash - p.paths[i]) &&
                                 strncmp(p.paths[j], p.paths[i], strlen(p.paths[j])) == 0;
                ck_assert_msg(found, "%s comes before its parent", p.paths[i]);
        }
        list("l/b/c", "", 0, &p);
        ck_assert_uint_eq(p.n, 1);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "List", "ssu", "nowhere", "", 0);
}
END_TEST

static void pages_of(uint32_t limit, bool by_reference, bool release)
{
        struct page all, p;
        char after[96] = "";
        size_t n = 0;

        for (int i = 0; i < 5; i++) {
                char path[32];

                snprintf(path, sizeof path, "l%d", i);
                create(bus, path);
                for (int j = 0; j < 4; j++) {
                        snprintf(path, sizeof path, "l%d/%d", i, j);
                        create(bus, path);
                }
        }
        list("/", "", 0, &all);
        ck_assert_uint_eq(all.n, 25);
        do {
                list("/", after, limit, &p);
                ck_assert_uint_gt(p.n, 0);
                ck_assert_uint_le(p.n, limit);
                ck_assert(p.truncated == (n + p.n < all.n));
                for (size_t i = 0; i < p.n; i++) {
                        ck_assert_uint_lt(n, all.n);
                        ck_assert_str_eq(p.references[i], all.references[n]);
                        n++;
                }
                strcpy(after, by_reference ? p.references[p.n - 1] : p.paths[p.n - 1]);
                /* A leaf that was the last of its page goes away before the next page is asked for. */
                if (release && strchr(p.paths[p.n - 1], '/'))
                        OK(bus, "Release", "s", after);
        } while (p.truncated);
        ck_assert_uint_eq(n, all.n);
        release_all();
}

START_TEST(pages_join_without_gap_or_repetition)
{
        for (uint32_t limit = 1; limit < 27; limit++)
                pages_of(limit, limit % 2, false);
}
END_TEST

START_TEST(pages_go_on_where_one_was_released)
{
        for (uint32_t limit = 1; limit < 27; limit++)
                pages_of(limit, true, true);
}
END_TEST

START_TEST(pages_go_on_where_all_was_released)
{
        struct page all, p;

        OK(bus, "Create", "sa{sv}", "one/x/y", 1, "parents", "b", 1);
        OK(bus, "Create", "sa{sv}", "two/x/y", 1, "parents", "b", 1);
        list("/", "", 0, &all);
        ck_assert_uint_eq(all.n, 6);
        list("/", "", 3, &p);
        ck_assert_str_eq(p.paths[0], "two");
        OK(bus, "Release", "s", "two");
        list("/", p.references[2], 0, &p);
        ck_assert_uint_eq(p.n, 3);
        ck_assert_str_eq(p.references[0], all.references[3]);
}
END_TEST

START_TEST(pages_go_on_where_one_was_forgotten)
{
        struct page all, p;
        char last[96];

        create(bus, "f");
        for (int i = 0; i < 6; i++) {
                char path[16];

                snprintf(path, sizeof path, "f/%d", i);
                create(bus, path);
        }
        list("f", "", 0, &all);
        ck_assert_uint_eq(all.n, 7);
        list("f", "", 3, &p);
        strcpy(last, p.references[2]);
        OK(bus, "Release", "s", last);
        /* Not even its id finds it. */
        ck_assert_happens(sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Err",
                                          NULL, NULL, "s", last) < 0);
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", last);
        list("f", last, 0, &p);
        ck_assert_uint_eq(p.n, 4);
        for (size_t i = 0; i < p.n; i++)
                ck_assert_str_eq(p.references[i], all.references[3 + i]);
}
END_TEST

START_TEST(pages_of_elsewhere_are_refused)
{
        create(bus, "l");
        create(bus, "l/a");
        create(bus, "m");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "List", "ssu", "l", "m", 0);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "List", "ssu", "l", "l/gone", 0);
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "List", "ssu", "l", "l//a", 0);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "List", "ssu", "l", "gone/x#1", 0);
}
END_TEST

START_TEST(a_long_list_comes_in_pages)
{
        struct {
                uint64_t id;
                char last[64];
        } after;
        _cleanup_message_ sd_bus_message *first = NULL, *second = NULL;
        unsigned n = 0;
        int truncated;
        const char *path;

        create(bus, "l");
        for (int i = 0; i < 10005; i++)
                OK(bus, "Create", "sa{sv}", "l/", 0);
        first = CALL(bus, "List", "ssu", "l", "", UINT32_MAX);
        ck_assert_int_eq(sd_bus_message_enter_container(first, 'a', "(ststts)"), 1);
        while (sd_bus_message_read(first, "(ststts)", &path, &after.id, NULL, NULL, NULL, NULL) > 0) {
                snprintf(after.last, sizeof after.last, "%s", path);
                n++;
        }
        ck_assert_uint_eq(n, 10000);
        ck_assert_int_ge(sd_bus_message_exit_container(first), 0);
        READ(first, "b", &truncated);
        ck_assert(truncated);
        second = CALL(bus, "List", "ssu", "l", after.last, 0);
        ck_assert_int_eq(sd_bus_message_enter_container(second, 'a', "(ststts)"), 1);
        while (sd_bus_message_read(second, "(ststts)", &path, NULL, NULL, NULL, NULL, NULL) > 0)
                n++;
        ck_assert_uint_eq(n, 10006);
        OK(bus, "Release", "s", "l");
}
END_TEST

static uint32_t manager_u32(const char *name)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        uint32_t value;

        ck_assert_msg(sd_bus_get_property_trivial(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                      name, &error, 'u', &value) >= 0,
                        "%s: %s", name, error.message);
        return value;
}

static uint64_t manager_u64(const char *name)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        uint64_t value;

        ck_assert_msg(sd_bus_get_property_trivial(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                      name, &error, 't', &value) >= 0,
                        "%s: %s", name, error.message);
        return value;
}

static char *manager_string(const char *name)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        char *value;

        ck_assert_msg(sd_bus_get_property_string(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                      name, &error, &value) >= 0,
                        "%s: %s", name, error.message);
        return value;
}

START_TEST(the_managers_properties)
{
        _cleanup_free_ char *version = manager_string("Version"),
                            *membership = manager_string("MembershipBackend"),
                            *probe = manager_string("ProbeBackend"), *reason = manager_string("ProbeReason");
        int pidfd;
        pid_t pid = sleeper(&pidfd);

        ck_assert_str_eq(version, CTXD_VERSION);
        ck_assert_str_eq(membership, "direct");
        ck_assert_str_eq(probe, "off");
        ck_assert_str_ne(reason, "");
        ck_assert_uint_eq(manager_u64("LeaksFound"), 0);
        ck_assert_uint_eq(manager_u64("LastSweepUSec"), 0);
        ck_assert_uint_eq(manager_u32("Contexts"), 0);
        ck_assert_uint_eq(manager_u32("Members"), 0);
        OK(bus, "Create", "sa{sv}", "a/b", 1, "parents", "b", 1);
        OK(bus, "Attach", "sha{sv}", "a/b", pidfd, 0);
        cancel(bus, "a/b", "");
        ck_assert_uint_eq(manager_u32("Contexts"), 2);
        ck_assert_uint_eq(manager_u32("Members"), 1);
        OK(bus, "Release", "s", "a/b");
        ck_assert_uint_eq(manager_u32("Contexts"), 2); /* it has a member */
        end_process(pid);
        close(pidfd);
}
END_TEST

START_TEST(properties_cannot_be_set)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        ck_assert_int_lt(sd_bus_set_property(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "Version", &error, "s", "2"),
                        0);
        ck_assert_str_eq(error.name, SD_BUS_ERROR_PROPERTY_READ_ONLY);
}
END_TEST

START_TEST(leaks_of_nobody)
{
        _cleanup_message_ sd_bus_message *m = CALL(bus, "Leaks", "su", "/", 0);
        int truncated;

        ck_assert_int_ge(sd_bus_message_skip(m, "a(sta{sv})"), 0);
        READ(m, "b", &truncated);
        ck_assert(!truncated);
}
END_TEST

Suite *suite_query(void)
{
        Suite *s = suite_create("query");

        ADD_TESTS(s, "query", start_retaining, list_shows_what_is_there, parents_come_before_their_children,
                        pages_join_without_gap_or_repetition, pages_go_on_where_one_was_released,
                        pages_go_on_where_all_was_released, pages_of_elsewhere_are_refused,
                        a_long_list_comes_in_pages, the_managers_properties, properties_cannot_be_set,
                        leaks_of_nobody);
        ADD_TESTS(s, "forgotten", start_plain, pages_go_on_where_one_was_forgotten);
        return s;
}
