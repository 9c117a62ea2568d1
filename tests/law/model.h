/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/tree.h"
#include "tests/harness/suite.h"

/* What the laws of the model share: a tree, its time, and short words for its verbs. Each test begins with an
 * empty tree at 1,000 µs; after it the tree is checked, ended and freed. */

static struct tree *t;
static uint64_t now;
static struct refused refused; /* of the last verb that was refused */

static const struct caller root = {.uid = 0, .gid = 0, .pid = 1, .comm = "root"};
static const struct caller alice = {.uid = 1000, .gid = 1000, .pid = 1001, .comm = "alice"};
static const struct caller bob = {.uid = 2000, .gid = 2000, .pid = 2001, .comm = "bob"};

static const struct create_options plain = {
                .deadline_usec = UINT64_MAX, .mode = CONTEXT_MODE_INHERIT, .parents = true};

static inline void setup(void)
{
        now = 1000;
        ck_assert_int_eq(tree_new(&t), 0);
}

/* Drains the effects, as the engine does after each event. Returns how many contexts had some. */
static inline unsigned drain(void)
{
        unsigned n = 0, effects;

        while (effect_take(t, &effects))
                n++;
        (void) tree_collect(t, UINT32_MAX);
        return n;
}

static inline void teardown(void)
{
        tree_check(t);
        (void) drain();
        ck_assert(STAILQ_EMPTY(&t->effects));
        tree_check(t);
        t = tree_free(t);
}

static inline int create_as(const struct caller *caller, const char *path,
                const struct create_options *options, struct context **ret)
{
        int r = tree_create(t, now, caller, path, options, ret, &refused);

        tree_check(t);
        return r;
}

static inline struct context *make_with(const char *path, const struct create_options *options)
{
        struct context *c = NULL;

        ck_assert_int_eq(create_as(&root, path, options, &c), 1);
        return c;
}

static inline struct context *make(const char *path)
{
        return make_with(path, &plain);
}

static inline struct context *make_until(const char *path, uint64_t deadline_usec)
{
        struct create_options o = plain;

        o.deadline_usec = deadline_usec;
        return make_with(path, &o);
}

static inline struct context *make_because(
                const char *path, uint64_t deadline_usec, int error, const char *message)
{
        struct create_options o = plain;

        o.deadline_usec = deadline_usec;
        o.has_cause = true;
        o.cause_error = error;
        o.cause_message = message;
        return make_with(path, &o);
}

static inline int cancel_because(struct context *c, int error, const char *message, uint32_t *ret_n)
{
        int r = tree_cancel(t, now, &root, c, cause_new(error, message, 7, 77, "canceller"), ret_n, &refused);

        tree_check(t);
        return r;
}

static inline int cancel(struct context *c)
{
        return cancel_because(c, 0, "", NULL);
}

/* The index of a kind of attach that the model finds or adds, of whoever the policy says. */
static inline int policy_of(struct context *c, const struct policy *policy)
{
        struct attachment a = {.wanted = *policy};
        int r = tree_attach(t, now, &caller_daemon, c, &a, &refused);

        return r < 0 ? r : (int) a.policy;
}

static inline struct context *find_as(const struct caller *caller, const char *text)
{
        struct context *c = NULL;
        int r = tree_find(t, caller, text, &c, &refused);

        ck_assert(r == 0 || (r == -ENOENT && refused.reason == REFUSED_NO_SUCH));
        return c;
}

static inline struct context *find(const char *text)
{
        return find_as(&root, text);
}

static inline void at(uint64_t usec)
{
        now = usec;
        tree_settle(t, now);
        tree_check(t);
}

#define assert_active(c)                                      \
        do {                                                  \
                ck_assert_int_eq((c)->state, CONTEXT_ACTIVE); \
                ck_assert_int_eq(context_err_code(c), 0);     \
                ck_assert_str_eq(context_err(c), "");         \
                ck_assert_ptr_null(context_origin(c));        \
                ck_assert_ptr_null(context_canceled_by(c));   \
        } while (0)

#define assert_done(c, expected_state, expected_origin, expected_error, expected_message) \
        do {                                                                              \
                int error_ = -1;                                                          \
                ck_assert_int_eq((c)->state, expected_state);                             \
                ck_assert_ptr_eq(context_origin(c), expected_origin);                     \
                ck_assert_str_eq(context_cause(c, &error_), expected_message);            \
                ck_assert_int_eq(error_, expected_error);                                 \
        } while (0)

static inline int run_laws(const char *name, const TTest *const *tests)
{
        Suite *suite = suite_create(name);

        tcase_add_checked_fixture(add_case(suite, "model", tests), setup, teardown);
        return run_suite(suite);
}
