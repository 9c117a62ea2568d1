/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The model alone, under a clock that the input moves. After each verb the tree is checked, and the laws are
 * held against what was seen before: what is done stays as it is, a refusal has changed nothing, each effect
 * comes once. */

#include <errno.h>
#include <string.h>

#include "proto/path.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/seen.h"

#define STEPS_MAX 256

/* Handles belong to the world. The model knows only whether there is one. */

static const struct caller *pick_caller(struct input *in)
{
        static const gid_t groups[] = {7, 1000};
        static const struct caller callers[] = {
                        {.uid = 0, .pid = 1, .comm = "root"},
                        {.uid = 1000, .pid = 2, .comm = "first", .gid = 1000},
                        {.uid = 1001, .pid = 3, .comm = "second", .gid = 7, .gids = groups, .n_gids = 2},
                        {.uid = 33, .pid = 4, .comm = "system", .gid = 33},
                        {.uid = 1002,
                                        .pid = 5,
                                        .comm = "trusted",
                                        .gid = 1002,
                                        .privileges = PRIVILEGE_MANAGE},
        };

        return &callers[input_choice(in, sizeof callers / sizeof callers[0])];
}

static struct context *pick_context(struct input *in)
{
        unsigned n = input_byte(in);
        struct context *c = forest.tree->background, *next;

        if (n == 255)
                return c;
        for (n = forest.tree->n_contexts > 0 ? n % forest.tree->n_contexts + 1 : 0; n > 0; n--) {
                next = context_next(c, forest.tree->background);
                if (!next)
                        break;
                c = next;
        }
        return c;
}

/* A name: below some context that is there, or of labels, or anything. */
static char *pick_name(struct input *in, char *ret, size_t size)
{
        static const char *const labels[] = {"a", "b", "c", "user-1000", "user-1001", "~", "7", ""};
        unsigned how = input_byte(in);
        char path[CTXD_PATH_MAX + 1];
        size_t n = 0;

        if (how == 255)
                return input_text(in, ret, size, false);
        ret[0] = '\0';
        if (how & 0x80) {
                context_path(pick_context(in), path);
                n = (size_t) snprintf(ret, size, "%s", strcmp(path, "/") == 0 ? "" : path);
                how &= 0x7f;
        }
        for (unsigned i = 0; i < 1 + how % 3; i++)
                n += (size_t) snprintf(
                                ret + n, size - n, "%s%s", n > 0 ? "/" : "", labels[input_choice(in, 8)]);
        if (how & 0x40)
                snprintf(ret + n, size - n, "#%u", input_byte(in));
        return ret;
}

static uint64_t pick_time(struct input *in)
{
        unsigned how = input_byte(in);

        if (how < 64)
                return UINT64_MAX;
        if (how < 192)
                return forest.now_usec + (how - 64) * 10;
        return input_number(in);
}

static void create(struct input *in)
{
        static char long_text[CTXD_DESCRIPTION_MAX + 2];
        static const char *const keys[] = {"org.example.a", "org.example.b", "nodot", "org.example.c"};
        const struct caller *caller = pick_caller(in);
        char name[CTXD_PATH_MAX + 256], values[3][300], description[300];
        struct value list[3];
        struct create_options o = {.deadline_usec = UINT64_MAX, .mode = CONTEXT_MODE_INHERIT, .values = list};
        unsigned flags, more;
        struct refused why = {};
        struct figures before;
        struct context *c = NULL;
        int r;

        /* One after the other, as in all of this: an initialiser reads the input in any order. */
        flags = input_byte(in);
        more = input_byte(in);
        o.parents = flags & 2;
        o.open = flags & 4;
        o.n_values = more & 3;
        if (flags & 1)
                o.deadline_usec = pick_time(in);
        if (flags & 8)
                o.mode = (uint32_t) input_raw(in, 2) & 0777;
        if (flags & 16) {
                o.has_gid = true;
                o.gid = input_byte(in);
        }
        if (flags & 32) {
                o.has_cause = true;
                o.cause_error = input_byte(in);
                o.cause_message = "too late";
        }
        if (flags & 64)
                o.grace_usec = input_number(in);
        for (size_t i = 0; i < o.n_values; i++) {
                list[i].key = (char *) keys[input_choice(in, 4)];
                list[i].value = input_text(in, values[i], sizeof values[i], true);
        }
        if (more & 4)
                o.description = input_text(in, description, sizeof description, true);
        if (more & 8) {
                memset(long_text, 'x', sizeof long_text - 1);
                o.cause_message = o.description = long_text;
        }
        pick_name(in, name, sizeof name);
        if (forest.tree->last_id + CTXD_LABELS_MAX >= CONTEXTS_MAX)
                return;

        settle();
        before = measure();
        r = tree_create(forest.tree, forest.now_usec, caller, name, &o, &c, &why);
        refused(&before, r, &why);
        if (r < 0)
                return;
        REQUIRE(c && (r == 1 || (o.open && !context_is_done(c))));
        if (r == 1) {
                REQUIRE(context_is_done(c) ==
                                (context_is_done(c->parent) || c->deadline_usec <= forest.now_usec));
                if ((flags & 128) && (more & 16)) {
                        tree_check(forest.tree);
                        tree_discard(forest.tree, c);
                }
        }
}

static void cancel(struct input *in)
{
        struct context *c = pick_context(in);
        unsigned how = input_byte(in);
        const struct caller *caller = how & 128 ? pick_caller(in) : &caller_daemon;
        bool may = tree_allows(forest.tree, caller, c, VERB_CANCEL);
        struct cause *cause =
                        how & 1 ? cause_new(how >> 1 & 63, how & 2 ? "for a reason" : NULL, 1, 2, "somebody")
                                : NULL;
        struct refused why = {};
        struct figures before;
        uint32_t n = 12345;
        bool was_done;
        int r;

        settle();
        if (c->forgotten) {
                free(cause);
                return;
        }
        before = measure();
        was_done = context_is_done(c);
        r = tree_cancel(forest.tree, forest.now_usec, caller, c, cause, &n, &why);
        refused(&before, r, &why);
        REQUIRE((r < 0) == !may);
        REQUIRE(r < 0 || r == !was_done);
        if (r >= 0)
                REQUIRE(context_is_done(c) && n == measure().done - before.done);
}

static void extend(struct input *in)
{
        const struct caller *caller = pick_caller(in);
        struct context *c = pick_context(in);
        uint64_t deadline_usec = pick_time(in);
        struct refused why = {};
        struct figures before;
        int r;

        settle();
        if (c->forgotten)
                return;
        before = measure();
        r = tree_extend(forest.tree, forest.now_usec, caller, c, deadline_usec, &why);
        refused(&before, r, &why);
        if (r >= 0)
                REQUIRE(c->deadline_usec <= c->parent->deadline_usec &&
                                context_is_done(c) == (deadline_usec <= forest.now_usec));
}

static void release(struct input *in)
{
        const struct caller *caller = input_byte(in) & 1 ? pick_caller(in) : &caller_daemon;
        struct context *c = pick_context(in);
        struct refused why = {};
        struct figures before;
        int r;

        settle();
        if (c->forgotten)
                return;
        before = measure();
        r = tree_release(forest.tree, forest.now_usec, caller, c, &why);
        refused(&before, r, &why);
        if (r >= 0)
                REQUIRE(c->released && context_is_done(c));
}

static void find(struct input *in)
{
        const struct caller *caller = pick_caller(in);
        char name[CTXD_PATH_MAX + 256], back[CTXD_PATH_ID_MAX + 1];
        struct context *c = NULL, *again = NULL;
        struct refused why = {};
        int r;

        pick_name(in, name, sizeof name);
        r = tree_find(forest.tree, caller, name, &c, &why);
        if (r < 0) {
                REQUIRE(why.reason == REFUSED_NAME || why.reason == REFUSED_NO_SUCH);
                return;
        }
        REQUIRE(c && tree_allows(forest.tree, caller, c, VERB_LOOK));
        REQUIRE(tree_find(forest.tree, caller, context_reference(c, back), &again, &why) >= 0 && again == c);
}

static void member(struct input *in)
{
        struct context *c = pick_context(in);
        struct attachment a = {.wanted.kill_after_usec = UINT64_MAX};
        unsigned how = input_byte(in), n_policies;
        const struct caller *caller = &caller_daemon;
        struct refused why = {};
        struct figures before;
        int r;

        a.wanted.signal = how >> 2 & 3;
        a.wanted.uid = how >> 4 & 3;
        if (how & 1)
                a.wanted.kill_after_usec = input_number(in);
        if (how & 64) {
                caller = pick_caller(in);
                for (int i = 0; i < 3; i++)
                        a.uids[i] = pick_caller(in)->uid;
        }
        if (how & 128)
                a.from = pick_context(in);
        settle();
        if (c->forgotten || (a.from && a.from->forgotten))
                return;
        if (c->busy && (how & 2)) {
                tree_left(forest.tree, forest.now_usec, c);
                return;
        }
        before = measure();
        n_policies = c->n_policies;
        r = tree_attach(forest.tree, forest.now_usec, caller, c, &a, &why);
        refused(&before, r, &why);
        if (r < 0) {
                REQUIRE(c->n_policies == n_policies);
        } else {
                REQUIRE(tree_allows(forest.tree, caller, c, VERB_ATTACH) && a.policy < c->n_policies);
                REQUIRE(a.from || c->policies[a.policy].uid == (how & 64 ? caller->uid : a.wanted.uid));
                if (how & 32) { /* the kernel has refused */
                        tree_attach_undo(forest.tree, c, &a);
                        REQUIRE(c->n_policies == n_policies);
                        return;
                }
        }
        /* One that is done gets members only by the birth of a child of one that it had. */
        if (r >= 0 || (c->busy && context_is_done(c)))
                tree_attached(forest.tree, c);
}

static void handle(struct input *in)
{
        struct context *c = pick_context(in);

        settle();
        if (c->forgotten || context_is_background(c))
                return;
        if (c->has_handles)
                tree_handles_closed(forest.tree, forest.now_usec, c);
        else if (!context_is_done(c))
                tree_handles_given(forest.tree, c);
}

static void configure(struct input *in)
{
        struct users *users = &forest.tree->users;

        switch (input_choice(in, 5)) {
        case 0:
                users->limit[RESOURCE_CONTEXTS] = input_byte(in) & 31;
                break;
        case 1:
                users->limit[RESOURCE_BYTES] = (uint64_t) input_byte(in) * 4;
                break;
        case 2:
                users->pools[POOL_CONTEXTS].limit = input_byte(in) & 63;
                break;
        case 3:
                forest.tree->max_value_bytes = input_byte(in);
                break;
        default:
                forest.tree->retain_usec = input_number(in);
        }
}

static void step(struct input *in)
{
        switch (input_choice(in, 12)) {
        case 0:
        case 1:
        case 2:
                create(in);
                break;
        case 3:
                cancel(in);
                break;
        case 4:
                extend(in);
                break;
        case 5:
                release(in);
                break;
        case 6:
                find(in);
                break;
        case 7:
                member(in);
                break;
        case 8:
                handle(in);
                break;
        case 9:
                forest.now_usec += input_raw(in, 2);
                break;
        case 10:
                drain(input_byte(in) & 1);
                break;
        default:
                configure(in);
        }
        settle();
        check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {data, data + size};

        memset(&forest, 0, sizeof forest);
        forest.now_usec = 1000000;
        REQUIRE(tree_new(&forest.tree) == 0);
        forest.tree->retain_usec = 1000;
        for (unsigned i = 0; i < STEPS_MAX && !input_is_empty(&in); i++)
                step(&in);
        /* At the end either everything goes, or it is taken down as it stands. */
        if (size & 1) {
                drain(false);
                check();
        } else {
                while (effect_take(forest.tree, &(unsigned){0}))
                        ;
        }
        forest.tree = tree_free(forest.tree);
        return 0;
}
