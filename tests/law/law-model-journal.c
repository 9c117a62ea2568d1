/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/law/journal.h"
#include "tests/law/random.h"

/* Law 33: random verbs on a tree whose decisions go into a journal. At any moment, also in the middle of an
 * end, of an extension or of a compaction, a tree is made from the journal, and has to be equal to the one
 * that is alive, and to stay so when the same is done to both.
 *
 *     law-model-journal [SEED [OPERATIONS]]
 *
 * Without arguments: some fixed seeds, and a new one. A failure names its seed and operation. With every
 * second seed ends come in slices. With two of four contexts are forgotten, and have a quota. When they are
 * forgotten is not kept, so that with the others the trees go on side by side. */

#define FILE_SIZE (4U << 20)
#define CONTEXTS_MAX 60

enum verb_kind { CREATE, DISCARD, CANCEL, RELEASE, EXTEND, POLICY, MEMBER, LEAVE, HANDLE, UNHANDLE, KINDS };

struct operation {
        enum verb_kind kind;
        uint64_t id; /* of the context */
        char path[1200];
        struct create_options options;
        struct value values[2];
        uint64_t deadline_usec;
        int error;
        uint32_t budget;
        bool by_alice, by_daemon, undo;
        struct policy policy;
};

static struct tree *t;
static struct journal journal;
static struct journal_buffer files[2];
static uint64_t now, seed, number;
static bool sliced, forgets;
static uint64_t counts[KINDS], replays, compactions, continued;

static _Noreturn void fail(const char *what)
{
        printf("# %s\nBail out! seed %" PRIu64 ", operation %" PRIu64 "\n", what, seed, number);
        fflush(stdout);
        abort();
}

static const struct context *any_context(void)
{
        const struct context *c = t->background;

        for (unsigned n = t->n_contexts > 0 ? 1 + random_below(t->n_contexts) : 0; n > 0; n--)
                c = context_next(c, t->background);
        return c == t->background ? NULL : c;
}

static void random_create(struct operation *o, const struct context *below)
{
        static const char *const labels[] = {"a", "b", "c", "9", "user-1000", "user-1000/x"};
        static const char *const texts[] = {"", "1", "a longer text"};
        size_t n = 0;

        if (below && chance(70)) {
                context_path(below, o->path);
                n = strlen(o->path);
        }
        if (n == 0 || n > 100 || chance(80)) {
                n = n > 100 ? 0 : n;
                sprintf(o->path + n, "%s%s", n > 0 ? "/" : "", chance(10) ? "" : labels[random_below(6)]);
        }
        o->by_alice = strncmp(o->path, "user-1000", 9) == 0 && chance(70);
        o->options = (struct create_options){.deadline_usec = UINT64_MAX, .mode = CONTEXT_MODE_INHERIT};
        o->options.parents = chance(70);
        o->options.open = chance(20);
        o->options.replace = chance(50);
        if (chance(40))
                o->options.deadline_usec = chance(5) ? 0 : now - 3 + random_below(60);
        if (chance(30))
                o->options.mode = random_below(0777);
        if (chance(20))
                o->options.grace_usec = chance(50) ? UINT64_MAX : 1 + random_below(1000);
        if (chance(20)) {
                o->options.has_gid = true;
                o->options.gid = o->by_alice ? 1000 : random_below(100);
        }
        if (chance(20))
                o->options.description = "what it is for";
        if (chance(50)) {
                o->options.has_cause = true;
                o->options.cause_error = (int) random_below(100);
                o->options.cause_message = texts[random_below(3)];
        }
        o->options.n_values = random_below(3);
        for (size_t i = 0; i < o->options.n_values; i++) {
                o->values[i].key = (char *) (i == 0 ? "org.example.a" : "org.example.b");
                o->values[i].value = (char *) texts[random_below(3)];
        }
}

static void random_operation(struct operation *o)
{
        const struct context *c = any_context();
        unsigned what = random_below(100);

        *o = (struct operation){.id = c ? c->id : 0, .error = 1 + (int) random_below(100)};
        o->kind = !c || what < 35 ? CREATE
                  : what < 38     ? DISCARD
                  : what < 48     ? CANCEL
                  : what < 56     ? RELEASE
                  : what < 65     ? EXTEND
                  : what < 72     ? POLICY
                  : what < 79     ? MEMBER
                  : what < 90     ? LEAVE
                  : what < 95     ? HANDLE
                                  : UNHANDLE;
        if (t->n_contexts > CONTEXTS_MAX && o->kind == CREATE)
                o->kind = CANCEL;
        if (o->kind == CREATE || o->kind == DISCARD)
                random_create(o, c);
        o->by_daemon = chance(20);
        o->undo = chance(20);
        o->budget = chance(50) ? UINT32_MAX : 1 + random_below(3);
        o->deadline_usec = chance(20) ? UINT64_MAX : now - 2 + random_below(80);
        o->policy = (struct policy){(int) random_below(3), chance(30) ? UINT64_MAX : random_below(20), 0};
        counts[o->kind]++;
}

static void write_down(void)
{
        if (journal_write(&journal, t, &t->effects) < 0)
                fail("the journal is full");
}

/* In slices only where nothing ends meanwhile: that may come back otherwise (journal.h). */
static void extend(struct tree *tree, struct context *c, const struct operation *o)
{
        struct refused refused;
        struct cursor cursor;

        while (tree_settle(tree, now) > 0) {
        }
        if (o->deadline_usec <= now) {
                (void) tree_extend(tree, now, &caller_daemon, c, o->deadline_usec, &refused);
                return;
        }
        tree_set_cursor(tree, &cursor, c, c);
        if (tree_extend_begin(tree, now, &caller_daemon, c, o->deadline_usec, &cursor, &refused) >= 0)
                while (tree_extend_some(tree, now, &cursor, o->budget))
                        if (tree == t)
                                write_down();
        tree_unset_cursor(&cursor);
}

static void set_policy(struct tree *tree, struct context *c, const struct operation *o)
{
        struct attachment a = {.wanted = o->policy};
        struct refused refused;

        if (tree_attach(tree, now, &caller_daemon, c, &a, &refused) < 0 || !o->undo)
                return;
        if (tree == t && o->budget == UINT32_MAX)
                write_down();
        tree_attach_undo(tree, c, &a);
}

/* Does it to the tree, and returns what came of it, as far as it has to be the same for both. */
static uint64_t carry_out(struct tree *tree, const struct operation *o)
{
        static const struct caller root = {.comm = "root", .pid = 1},
                                   alice = {.uid = 1000, .gid = 1000, .pid = 1001, .comm = "alice"};
        struct create_options options = o->options;
        struct context *c = context_of(tree, o->id), *made = NULL;
        struct refused refused;
        int r = 0;

        options.values = o->values;
        if (!c && o->kind != CREATE)
                return 0;
        switch (o->kind) {
        case CREATE:
        case DISCARD:
                r = tree_create(tree, now, o->by_alice ? &alice : &root, o->path, &options, &made, &refused);
                if (o->kind == DISCARD && r == 1)
                        tree_discard(tree, made);
                return r == 1 ? made->id : (uint64_t) -r;
        case CANCEL:
                return (uint64_t) tree_cancel(tree, now, o->by_daemon ? &caller_daemon : &root, c,
                                o->undo ? NULL : cause_new(o->error, "because", 7, 8, "who"), NULL, &refused);
        case RELEASE:
                return (uint64_t) tree_release(tree, now, &root, c, &refused);
        case EXTEND:
                extend(tree, c, o);
                break;
        case POLICY:
                set_policy(tree, c, o);
                break;
        case MEMBER:
                tree_attached(tree, c);
                break;
        case LEAVE:
                tree_left(tree, now, c);
                break;
        case HANDLE:
                tree_handles_given(tree, c);
                break;
        default:
                if (c->has_handles)
                        tree_handles_closed(tree, now, c);
        }
        return 0;
}

static void take_effects(struct tree *tree)
{
        unsigned effects;
        struct ending *e;

        while (effect_take(tree, &effects)) {
        }
        (void) tree_collect(tree, UINT32_MAX);
        while ((e = tree_take_ended(tree)))
                free(e);
}

/* As the engine does it: in between the world finds that some have no member any more. */
static void drain(void)
{
        write_down();
        if (chance(30)) {
                const struct context *c = any_context();

                if (c && context_is_done(c))
                        tree_left(t, now, (struct context *) c);
                write_down();
        }
        take_effects(t);
}

/* The tree that comes back has to be the one that is alive. */
static struct tree *restored(const struct journal_buffer *f)
{
        char *is, *should;
        struct tree *back;

        if (restore_from(f->bytes, f->used, f->used, t, &back) != 0)
                fail("the journal cannot be read");
        replays++;
        if (back->last_id < t->last_id)
                fail("an id could be used again");
        back->last_id = t->last_id;
        is = tree_text(back);
        should = tree_text(t);
        if (!text_is_same(is, should))
                fail("the trees are not equal");
        tree_check(back);
        tree_check(t);
        free(is);
        free(should);
        return back;
}

/* The same is done to both. */
static void go_on_with(struct tree *back)
{
        for (unsigned n = 1 + random_below(10); n > 0; n--) {
                struct operation o;

                now += random_below(10);
                random_operation(&o);
                if (carry_out(t, &o) != carry_out(back, &o))
                        fail("the two have not answered the same");
                while (tree_settle(back, now) > 0) {
                }
                while (tree_settle(t, now) > 0) {
                }
        }
        write_down();
        continued++;
}

static void try_to_restore(void)
{
        struct tree *back;
        char *is, *should;

        write_down();
        tree_free(restored(journal.file)); /* this has brought the one that is alive up to date */
        write_down();
        back = restored(journal.file);
        if (!forgets) {
                go_on_with(back);
                is = tree_text(back);
                should = tree_text(t);
                if (!text_is_same(is, should))
                        fail("the trees do not stay equal");
                free(is);
                free(should);
                tree_check(back);
        }
        tree_free(back);
}

static void compact(void)
{
        struct journal_buffer *other = journal.file == &files[0] ? &files[1] : &files[0];

        if (!journal.next && (chance(3) || journal.file->used > FILE_SIZE / 2)) {
                other->used = 0;
                drain();
                if (journal_compact_begin(&journal, t, other) < 0)
                        fail("a journal cannot begin");
        }
        if (journal.next && chance(40)) {
                drain();
                if (journal_compact(&journal, t, 1 + random_below(5)) == 0)
                        compactions++;
        }
}

static void step(void)
{
        struct operation o;

        if (chance(30))
                now += random_below(chance(5) ? 100 : 6);
        if (chance(30))
                (void) tree_settle(t, now);
        if (sliced && chance(30))
                (void) tree_advance(t, now);
        random_operation(&o);
        (void) carry_out(t, &o);
        if (chance(50))
                drain();
        compact();
        if (chance(20))
                try_to_restore();
        tree_check(t);
}

static void simulate(uint64_t with_seed, uint64_t operations)
{
        seed = state = with_seed;
        now = 1000;
        sliced = seed % 2 == 0;
        forgets = seed % 4 < 2;
        for (number = 0; number < operations; number++) {
                if (number % (forgets ? 20000 : 300) == 0) {
                        if (t) {
                                journal_compact_stop(&journal);
                                t = tree_free(t);
                        }
                        assert(tree_new(&t) == 0);
                        t->retain_usec = forgets ? 40 : UINT64_MAX;
                        t->users.limit[RESOURCE_CONTEXTS] = forgets ? 5 + random_below(30) : UINT64_MAX;
                        t->slice = sliced ? 1 + random_below(4) : UINT32_MAX;
                        t->last_id = random_below(1000000);
                        files[0].used = files[1].used = 0;
                        if (journal_begin(&journal, t, &files[0]) < 0)
                                fail("no journal");
                }
                step();
        }
        journal_compact_stop(&journal);
        t = tree_free(t);
}

int main(int argc, char **argv)
{
        static const char *const names[KINDS] = {"create", "discard", "cancel", "release", "extend", "policy",
                        "member", "leave", "handle", "unhandle"};
        uint64_t seeds[] = {0, 1, 2, 3, 4, 5, 6, 7, 0};
        size_t n = sizeof seeds / sizeof *seeds;
        uint64_t operations = argc > 2 ? strtoull(argv[2], NULL, 10) : 20000;

        file_init(&files[0], FILE_SIZE);
        file_init(&files[1], FILE_SIZE);
        seeds[n - 1] = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t) getpid() * UINT64_C(2654435761);
        for (size_t i = argc > 1 ? n - 1 : 0; i < n; i++) {
                printf("# seed %" PRIu64 "\n", seeds[i]);
                fflush(stdout);
                simulate(seeds[i], operations);
                printf("ok %zu - law_33_random_verbs_come_back_from_the_journal: %" PRIu64 " operations\n",
                                argc > 1 ? 1 : i + 1, operations);
        }
        for (size_t i = 0; i < KINDS; i++)
                printf("# %s: %" PRIu64 "\n", names[i], counts[i]);
        printf("# restored %" PRIu64 " times, compacted %" PRIu64 ", gone on %" PRIu64 "\n", replays,
                        compactions, continued);
        printf("1..%zu\n", argc > 1 ? 1 : n);
        file_deinit(&files[0]);
        file_deinit(&files[1]);
        return 0;
}
