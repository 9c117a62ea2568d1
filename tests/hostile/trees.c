/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calls whose cost grows with a tree. */

#include <stdio.h>
#include <string.h>

#include "tests/hostile/attack.h"

#define TREE 200000
#define CANCELLED 20000 /* in each tree that is cancelled in turn */
#define LINES 8
#define LEVELS 63
#define KEYS 64
#define VALUE_BYTES 1000 /* of a large one */
#define HOUR_USEC UINT64_C(3600000000)

/* Contexts below each other: label, label/label and so on; each has 64 keys of its own. */
static void grow_values(sd_bus *b, char label, const char *value)
{
        char path[256] = "~";
        size_t length = 1;

        for (int level = 0; level < LEVELS; level++) {
                _cleanup_message_ sd_bus_message *m = NULL;

                length += (size_t) snprintf(path + length, sizeof path - length, "/%c", label);
                m = call_of(b, "Create", "s", path);
                ck_assert_int_ge(sd_bus_message_open_container(m, 'a', "{sv}"), 0);
                ck_assert_int_ge(sd_bus_message_open_container(m, 'e', "sv"), 0);
                ck_assert_int_ge(sd_bus_message_append(m, "s", "values"), 0);
                ck_assert_int_ge(sd_bus_message_open_container(m, 'v', "a{ss}"), 0);
                ck_assert_int_ge(sd_bus_message_open_container(m, 'a', "{ss}"), 0);
                for (int key = 0; key < KEYS; key++) {
                        char name[32];

                        snprintf(name, sizeof name, "l%d.k%d", level, key);
                        ck_assert_int_ge(sd_bus_message_append(m, "{ss}", name, value), 0);
                }
                for (int depth = 0; depth < 4; depth++)
                        ck_assert_int_ge(sd_bus_message_close_container(m), 0);
                sd_bus_message_unref(send_call(b, m, NULL));
        }
}

static void grow_all(void *userdata)
{
        char value[VALUE_BYTES + 1] = "";
        sd_bus *b;

        grow("~/big", HOUR_USEC, "", TREE);
        b = connect_bus();
        grow_values(b, 'v', "x");
        memset(value, 'x', VALUE_BYTES);
        grow_values(b, 'w', value);
        sd_bus_flush_close_unref(b);
}

/* The first test makes them for all. */
static void withstand_with_trees(const char *name, void (*run)(void))
{
        if (sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Err", NULL, NULL,
                            "s", "user-1001/big") < 0)
                run_as(ALICE, grow_all, NULL);
        withstand(&(struct attack){name, run, .keeps = true});
}

static sd_bus_message *next_extend(sd_bus *b, unsigned n)
{
        return call_of(b, "Extend", "st", "~/big", now_boottime_usec() + (n % 2 + 1) * HOUR_USEC);
}

static sd_bus_message *next_preview(sd_bus *b, unsigned n)
{
        return call_of(b, "Preview", "su", "~/big", 1);
}

static sd_bus_message *next_list(sd_bus *b, unsigned n)
{
        char after[32];

        snprintf(after, sizeof after, "~/big/%06u", n * 7919 % TREE);
        return call_of(b, "List", "ssu", "/", after, n % 8 ? 100 : 5000);
}

static sd_bus_message *next_property(sd_bus *b, unsigned n)
{
        sd_bus_message *m;

        ck_assert_int_ge(sd_bus_message_new_method_call(b, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                         "org.freedesktop.DBus.Properties", "Get"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "ss", CTXD_MANAGER_INTERFACE, "Contexts"), 0);
        return m;
}

static sd_bus_message *next_values(sd_bus *b, unsigned n)
{
        char path[256] = "~";

        for (size_t i = 0; i < LEVELS; i++)
                memcpy(path + 1 + 2 * i, "/v", 3);
        return call_of(b, "Values", "s", path);
}

static sd_bus_message *next_values_property(sd_bus *b, unsigned n)
{
        char object[256] = CTXD_CONTEXT_OBJECT "/user_2d1001";
        sd_bus_message *m;

        for (size_t i = 0; i < LEVELS; i++)
                strcat(object, "/w");
        ck_assert_int_ge(sd_bus_message_new_method_call(b, &m, CTXD_BUS_NAME, object,
                                         "org.freedesktop.DBus.Properties", n % 2 ? "Get" : "GetAll"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", CTXD_CONTEXT_INTERFACE), 0);
        if (n % 2)
                ck_assert_int_ge(sd_bus_message_append(m, "s", "Values"), 0);
        return m;
}

static void extend(void)
{
        call_for_ever(LINES, 0, next_extend);
}

static void preview(void)
{
        call_for_ever(LINES, 0, next_preview);
}

static void list(void)
{
        call_for_ever(LINES, 0, next_list);
}

static void property(void)
{
        call_for_ever(LINES, 0, next_property);
}

static void values(void)
{
        call_for_ever(LINES, 0, next_values);
}

static void values_property(void)
{
        call_for_ever(LINES, 0, next_values_property);
}

#define SOON_USEC UINT64_C(8000000) /* by then they are made */

/* All these deadlines pass at one moment, while Bob works. */
static void deadlines(void)
{
        uint64_t soon = now_boottime_usec() + SOON_USEC;

        grow_until("~/soon", HOUR_USEC, "", TREE, soon);
        ck_assert_uint_lt(now_boottime_usec(), soon);
        nap(soon - now_boottime_usec());
        attack_did(TREE);
        attack_ready();
        for (;;)
                pause();
}

/* In a later round it may be gone. */
static void end(sd_bus *b, const char *member, const char *types, const char *path)
{
        (void) sd_bus_call_method(b, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member, NULL, NULL,
                        types, path, "");
}

/* The large one, and then smaller ones for ever. */
static void cancel_trees(void)
{
        sd_bus *b = connect_bus();

        end(b, "Release", "s", "~/next");
        grow("~/next", HOUR_USEC, "", CANCELLED);
        attack_ready();
        end(b, "Cancel", "ss", "~/big");
        for (;;) {
                attack_did(1);
                end(b, "Cancel", "ss", "~/next");
                end(b, "Release", "s", "~/next");
                grow("~/next", HOUR_USEC, "", CANCELLED);
        }
}

START_TEST(extend_a_large_tree)
{
        withstand_with_trees("trees: Extend", extend);
}
END_TEST

START_TEST(preview_a_large_tree)
{
        withstand_with_trees("trees: Preview", preview);
}
END_TEST

START_TEST(list_a_large_tree)
{
        withstand_with_trees("trees: List", list);
}
END_TEST

START_TEST(count_a_large_tree)
{
        withstand_with_trees("trees: the property Contexts", property);
}
END_TEST

START_TEST(values_of_many_levels)
{
        withstand_with_trees("trees: Values over 63 levels of 64 keys", values);
}
END_TEST

START_TEST(the_property_values)
{
        withstand_with_trees("trees: the property Values, of 4 MB", values_property);
}
END_TEST

START_TEST(deadlines_at_one_moment)
{
        withstand(&(struct attack){"trees: 200,000 deadlines at one moment", deadlines});
}
END_TEST

START_TEST(cancel_large_trees)
{
        withstand_with_trees("trees: Cancel", cancel_trees);
}
END_TEST

void add_trees(Suite *s)
{
        add_attacks(s, "trees", start_attacked,
                        (const TTest *const[]){extend_a_large_tree, preview_a_large_tree, list_a_large_tree,
                                        count_a_large_tree, values_of_many_levels, the_property_values,
                                        cancel_large_trees, NULL});
        ATTACK(s, "deadlines", start_attacked, deadlines_at_one_moment);
}
