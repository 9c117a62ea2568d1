/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/law/random.h"
#include "tests/law/reference.h"

/* Random verbs on the model and on its naive reference, compared after each: all the laws at once, in orders
 * that nobody has thought of. With every second seed ends come in slices of a few contexts, and the verbs and
 * comparisons fall between them: what is looked at has to be as if there were no slices.
 *
 *     law-model-random [SEED [OPERATIONS]]
 *
 * Without arguments: some fixed seeds, and a new one. A failure names its seed and operation. */

#define KEY "org.example.key"

static struct tree *t;
static struct reference_model *m;
static uint64_t now, seed, operation;
static struct refused refused;
static uint64_t counts[18];
static bool sliced;
static unsigned hidden; /* effects that come later with slices, when there is no more to be done below */
static struct {
        uint64_t id; /* of the root; 0: not counted */
        unsigned contexts;
} expected[NODES_MAX]; /* of cancels that are under way */

static const struct caller root = {.uid = 0, .pid = 1, .comm = "root"};
static const struct caller alice = {.uid = 1000, .gid = 1000, .pid = 1001, .comm = "alice"};

#define SAME(a, b)                                                                                        \
        do {                                                                                              \
                uint64_t a_ = (uint64_t) (a), b_ = (uint64_t) (b);                                        \
                if (a_ != b_) {                                                                           \
                        printf("# %s:%d: %s is %" PRIu64 ", %s is %" PRIu64 "\n", __FILE__, __LINE__, #a, \
                                        a_, #b, b_);                                                      \
                        give_up();                                                                        \
                }                                                                                         \
        } while (0)

static _Noreturn void give_up(void)
{
        printf("Bail out! seed %" PRIu64 ", operation %" PRIu64 "\n", seed, operation);
        fflush(stdout);
        abort();
}

static struct node *any_node(void)
{
        for (int tries = 0; tries < 64; tries++) {
                struct node *n = &m->nodes[random_below(64)];

                if (n->used && !n->forgotten)
                        return n;
        }
        return NULL;
}

static void compare_node(struct node *n)
{
        const struct context *c = n->c;
        const struct node *p = n;
        const char *value;
        int error;

        SAME(c->id, n->id);
        SAME(c->state, n->state);
        SAME(c->uid, n->uid);
        SAME(c->parent->id, n->parent ? n->parent->id : 0);
        if (TAILQ_EMPTY(&t->endings))
                SAME(c->released, n->released);
        SAME(c->deadline_usec, node_effective(n));
        SAME(c->done_usec, n->done_usec);
        SAME(c->drained_usec, n->drained_usec);
        SAME(c->busy, n->busy);
        SAME(c->pending & ~hidden, n->effects & ~hidden);
        context_cause(c, &error);
        if (n->state != CONTEXT_ACTIVE) {
                int code = n->state == CONTEXT_CANCELED ? ECANCELED : ETIMEDOUT;

                SAME(context_origin(c)->id, n->origin->id);
                SAME(error, n->origin->cause ? n->origin->cause : code);
                SAME(context_err_code(c), code);
        } else {
                SAME(error, 0);
        }
        while (p && p->value == 0)
                p = p->parent;
        value = context_value(c, KEY);
        SAME(value ? atoi(value) : 0, p ? p->value : 0);
}

static bool is_busy_below(const struct node *a)
{
        for (const struct node *n = m->nodes; n < m->nodes + NODES_MAX; n++)
                if (n->used && !n->forgotten && n->busy && node_is_below(n, a))
                        return true;
        return false;
}

/* Whom a path means: who has it, else the newest that was released and still has members. */
static const struct node *named(const char *path)
{
        const struct node *newest = NULL;
        char buffer[2100];

        for (const struct node *n = m->nodes; n < m->nodes + NODES_MAX; n++) {
                if (!n->used || n->forgotten || (n->released && !is_busy_below(n)))
                        continue;
                node_path(n, buffer, sizeof buffer);
                if (strcmp(buffer, path) != 0)
                        continue;
                if (!n->released)
                        return n;
                if (!newest || n->id > newest->id)
                        newest = n;
        }
        return newest;
}

static void compare_names(struct node *n)
{
        char path[2100], text[2200];
        struct context *c = NULL;
        int r;

        if (!n)
                return;
        node_path(n, path, sizeof path);
        snprintf(text, sizeof text, "%s#%" PRIu64, path, n->id);
        SAME(tree_find(t, &root, text, &c, &refused), 0);
        SAME(c->id, n->id);
        SAME(c->state, n->state);
        snprintf(text, sizeof text, "%s#%" PRIu64, path, n->id + 1 + random_below(5));
        r = tree_find(t, &root, text, &c, &refused);
        SAME(r == 0 && c->id == n->id, false);
        r = tree_find(t, &root, path, &c, &refused);
        n = (struct node *) named(path);
        SAME(r == 0 ? c->id : 0, n ? n->id : 0);
}

static bool any_release(void)
{
        struct ending *e;

        TAILQ_FOREACH (e, &t->endings, endings)
                if (e->is_release)
                        return true;
        return false;
}

static void reach_all(void)
{
        for (struct node *n = m->nodes; sliced && n < m->nodes + NODES_MAX; n++)
                if (n->used && !n->forgotten)
                        tree_reach(t, n->c);
        while (sliced && tree_next_usec(t) <= now)
                tree_settle(t, now);
        if (sliced)
                reference_settle(m, now);
}

static void take_ended(void)
{
        struct ending *e;

        while ((e = tree_take_ended(t))) {
                for (int i = 0; i < NODES_MAX; i++)
                        if (!e->is_release && m->nodes[i].c == e->root && expected[i].id != 0 &&
                                        expected[i].id == m->nodes[i].id) {
                                counts[15]++;
                                SAME(e->contexts, expected[i].contexts);
                                expected[i].id = 0;
                        }
                free(e);
        }
}

static void compare(void)
{
        unsigned live = 0;

        tree_check(t);
        compare_names(any_node());
        while (sliced && chance(50) && tree_advance(t, now)) {
        }
        reach_all();
        tree_check(t);
        for (struct node *n = m->nodes; n < m->nodes + NODES_MAX; n++) {
                if (n->used && !n->forgotten) {
                        compare_node(n);
                        live++;
                } else if (n->used) {
                        SAME(n->c->forgotten, true);
                        SAME(n->c->pending & ~hidden, n->effects & ~hidden);
                }
        }
        SAME(t->n_contexts, live);
        if (!any_release())
                SAME(tree_next_usec(t), reference_next(m));
}

static void drain(void)
{
        unsigned effects;

        reach_all();
        while (effect_take(t, &effects)) {
        }
        take_ended();
        (void) tree_collect(t, UINT32_MAX);
        for (struct node *n = m->nodes; n < m->nodes + NODES_MAX; n++) {
                n->effects = 0;
                if (n->forgotten)
                        n->used = n->forgotten = false;
        }
}

static uint64_t used_by(uid_t uid)
{
        uint64_t used = 0;

        for (struct node *n = m->nodes; n < m->nodes + NODES_MAX; n++)
                used += n->used && !n->forgotten && n->uid == uid;
        return used;
}

static bool could_go(const struct node *n, uid_t uid)
{
        return n->used && !n->forgotten && n->uid == uid && n->released && !node_is_held(n) &&
               !node_has_children(m, n);
}

/* The model chose which released contexts had to go: as many as were needed, and none before an older
 * one that could have gone. */
static void follow_evictions(uid_t uid, uint64_t needed, const bool could[NODES_MAX])
{
        uint64_t newest = 0, gone = 0;

        for (struct node *n = m->nodes; n < m->nodes + NODES_MAX; n++)
                if (n->used && !n->forgotten && n->c->forgotten && node_waits(m, n)) {
                        SAME(n->released && !node_is_held(n) && n->uid == uid, true);
                        n->forgotten = true;
                        n->effects |= EFFECT_REMOVED;
                        gone++;
                        if (n->unheld_usec > newest)
                                newest = n->unheld_usec;
                }
        SAME(gone, needed);
        for (struct node *n = m->nodes; n < m->nodes + NODES_MAX; n++)
                if (could[n - m->nodes] && !n->forgotten)
                        SAME(n->unheld_usec >= newest, true);
}

/* A path that is there, or nearly: the labels, the last one empty where it is to be made up. */
static size_t random_path(bool hers, char labels[16][32])
{
        static const char *const alphabet[] = {"a", "b", "c", "9", "x.y", "user-1000"};
        const struct node *n = chance(80) ? any_node() : NULL;
        size_t depth = 0;

        for (const struct node *p = n; p; p = p->parent)
                depth++;
        if (depth > 6)
                depth = 0;
        for (size_t i = depth; i > 0; i--, n = n->parent)
                strcpy(labels[i - 1], n->label);
        if (hers && (depth == 0 || strcmp(labels[0], "user-1000") != 0)) {
                strcpy(labels[0], "user-1000");
                depth = 1;
        }
        for (unsigned more = 1 + (chance(20) ? random_below(3) : 0); more > 0; more--, depth++)
                strcpy(labels[depth], alphabet[random_below(depth > 0 ? 5 : 6)]);
        if (chance(8))
                labels[depth - 1][0] = '\0';
        return depth;
}

static void random_options(struct create_options *o, struct value *value, char text[16])
{
        *o = (struct create_options){.deadline_usec = UINT64_MAX, .mode = CONTEXT_MODE_INHERIT};
        o->parents = chance(60);
        o->open = chance(20);
        o->replace = chance(30);
        if (chance(40))
                o->deadline_usec = chance(5) ? 0 : now - 3 + random_below(60);
        if (chance(30)) {
                snprintf(text, 16, "%u", 1 + random_below(1000));
                *value = (struct value){(char *) KEY, text};
                o->values = value;
                o->n_values = 1;
        }
        if (chance(50)) {
                o->has_cause = true;
                o->cause_error = 1 + (int) random_below(100);
                o->cause_message = "of the deadline";
        }
}

/* Those that were made, from the last one up to what was there. */
static struct node *follow_creation(struct context *c, struct node *base, size_t missing, uid_t uid,
                const struct create_options *o)
{
        struct context *chain[16], *p = c;
        struct node *n = NULL;

        for (size_t i = missing; i > 0; i--, p = p->parent)
                chain[i - 1] = p;
        SAME(p->id, base ? base->id : 0);
        for (size_t i = 0; i < missing; i++) {
                n = node_new(m, base, chain[i]->label);
                n->c = chain[i];
                n->id = chain[i]->id;
                n->uid = !base && strcmp(n->label, "user-1000") == 0 ? 1000 : uid;
                n->implied = i + 1 < missing;
                if (!n->implied) {
                        n->own = o->deadline_usec;
                        n->cause = o->has_cause ? o->cause_error : 0;
                        n->value = o->n_values ? atoi(o->values->value) : 0;
                }
                reference_born(m, now, n);
                base = n;
        }
        return n;
}

static void do_discard(struct node *n)
{
        counts[14]++;
        tree_discard(t, n->c);
        do {
                n->forgotten = true;
                n->effects = EFFECT_REMOVED | EFFECT_SILENT;
                n = n->parent;
        } while (n && n->implied && (n->effects & EFFECT_NEW) && !node_has_children(m, n) &&
                        !node_is_held(n));
}

static void do_create(void)
{
        const struct caller *caller = chance(25) ? &alice : &root;
        struct node *base = NULL, *existing = NULL, *child;
        char labels[16][32], path[600] = "", text[16];
        uint64_t needed, used, room = 0, evict;
        bool could[NODES_MAX], own_tree;
        struct context *c = NULL;
        struct create_options o;
        size_t n, there = 0;
        struct value value;
        uid_t payer;
        int r;

        while (sliced && tree_advance(t, now)) /* what was not come to yet makes no room */
                take_ended();
        random_options(&o, &value, text);
        n = random_path(caller == &alice, labels);
        for (size_t i = 0; i < n; i++)
                sprintf(path + strlen(path), "%s%s", i > 0 || !labels[i][0] ? "/" : "", labels[i]);

        reference_settle(m, now); /* the verb will */
        while (there < n && labels[there][0] && (child = node_child(m, base, labels[there]))) {
                if (++there == n)
                        existing = child;
                else
                        base = child;
                if (caller == &alice && child->uid != 1000) { /* what she may not is law 36 */
                        tree_settle(t, now);
                        return;
                }
        }
        needed = n - there + (existing != NULL);
        own_tree = needed == n && strcmp(labels[0], "user-1000") == 0;
        payer = own_tree && needed == 1 ? 1000 : caller->uid;
        for (int i = 0; i < NODES_MAX; i++)
                room += could[i] = could_go(&m->nodes[i], payer);

        r = tree_create(t, now, caller, path, &o, &c, &refused);

        if (existing && o.open && existing->state == CONTEXT_ACTIVE) {
                counts[10]++;
                SAME(r, 0);
                SAME(c->id, existing->id);
                return;
        }
        if (existing && existing->state == CONTEXT_ACTIVE) {
                counts[11]++;
                SAME(r, -EEXIST);
                return;
        }
        if (existing && o.open && !o.replace) { /* all that is done here was cancelled, or is overdue */
                counts[16]++;
                SAME(r, -EALREADY);
                return;
        }
        if (existing)
                there--;
        if (needed > (own_tree ? 2 : 1) && !o.parents) {
                SAME(r, -ENOENT);
                return;
        }
        if (own_tree && payer != 1000) { /* root makes something in her tree, which is hers */
                if (used_by(1000) >= m->limit) {
                        SAME(r, -EDQUOT);
                        return;
                }
                needed--;
        }
        used = used_by(payer) + needed;
        evict = used > m->limit ? used - m->limit : 0;
        if (evict > room) {
                counts[12]++;
                SAME(r, -EDQUOT);
                return;
        }
        SAME(r, 1);
        if (evict > 0) {
                counts[13]++;
                follow_evictions(payer, evict, could);
        }
        if (existing) {
                counts[17]++;
                reference_release(m, now, existing);
        }
        child = follow_creation(c, base, n - there, caller->uid, &o);
        if (chance(5))
                do_discard(child);
        reference_forget(m, now); /* those whose last child had to go */
}

static void do_cancel(struct node *n)
{
        int error = 1 + (int) random_below(100);
        uint32_t contexts = 77;
        int r = tree_cancel(
                        t, now, &root, n->c, cause_new(error, "because", 0, 1, "root"), &contexts, &refused);

        reference_settle(m, now);
        SAME(r, n->state == CONTEXT_ACTIVE);
        if (n->state == CONTEXT_ACTIVE) {
                n->cause = error;
                unsigned all = reference_end(m, now, n, CONTEXT_CANCELED);

                if (tree_own_ending(t, n->c) == 0) {
                        SAME(contexts, all);
                } else {
                        SAME(contexts <= all, true);
                        expected[n - m->nodes].id = n->id;
                        expected[n - m->nodes].contexts = all;
                }
        } else {
                SAME(contexts, 0);
        }
}

static void do_release(struct node *n)
{
        SAME(tree_release(t, now, &root, n->c, &refused), 0);
        reference_settle(m, now);
        if (n->forgotten)
                return;
        if (n->state == CONTEXT_ACTIVE) {
                n->cause = 0;
                reference_end(m, now, n, CONTEXT_CANCELED);
        }
        reference_release(m, now, n);
}

static void do_extend(struct node *n)
{
        uint64_t deadline = chance(20) ? UINT64_MAX : now - 2 + random_below(80);
        int r = tree_extend(t, now, &root, n->c, deadline, &refused);

        reference_settle(m, now);
        if (n->state != CONTEXT_ACTIVE)
                SAME(r, -EALREADY);
        else if (deadline > node_effective(n->parent))
                SAME(r, -EINVAL);
        else {
                SAME(r, 0);
                reference_extend(m, now, n, deadline);
        }
}

static void do_policy(struct node *n)
{
        uint64_t kill = chance(20) ? UINT64_MAX : random_below(30);
        struct attachment a = {.wanted = {15, kill, 0}};
        int r;

        if (n->n_kills == KILLS_MAX)
                return;
        r = tree_attach(t, now, &root, n->c, &a, &refused);
        reference_settle(m, now);
        if (n->state != CONTEXT_ACTIVE) {
                SAME(r, -EALREADY);
                return;
        }
        SAME(r >= 0, true);
        n->kills[n->n_kills++] = kill;
}

static void do_attach(struct node *n)
{
        tree_attached(t, n->c);
        if (!n->busy)
                n->kill_from = 0;
        n->busy = true;
}

static void do_leave(struct node *n)
{
        tree_left(t, now, n->c);
        if (n->busy) {
                n->busy = false;
                if (!node_is_held(n))
                        n->unheld_usec = now;
                reference_drain(m, now);
        }
}

static void do_handle(struct node *n, bool add)
{
        if (add) {
                tree_handles_given(t, n->c);
                n->n_handles = 1;
        } else if (n->n_handles > 0) {
                tree_handles_closed(t, now, n->c);
                n->n_handles = 0;
                if (!node_is_held(n))
                        n->unheld_usec = now;
        }
}

static void pass_time(void)
{
        while (any_release()) /* each is kept from when it was let go of */
                (void) tree_advance(t, now);
        reach_all();
        now += random_below(chance(5) ? 100 : 6);
        reach_all();
}

static void step(void)
{
        unsigned what = random_below(100);
        struct node *n;

        if (chance(30))
                pass_time();
        if (sliced && chance(30))
                (void) tree_advance(t, now);
        n = any_node();
        if (chance(10)) {
                tree_settle(t, now);
                reference_settle(m, now);
                counts[0]++;
        } else if (what < 40 || !n) {
                do_create();
                counts[1]++;
        } else if (what < 48) {
                do_cancel(n);
                counts[2]++;
        } else if (what < 58) {
                do_release(n);
                counts[3]++;
        } else if (what < 65) {
                do_extend(n);
                counts[4]++;
        } else if (what < 70) {
                do_policy(n);
                counts[5]++;
        } else if (what < 76) {
                do_attach(n);
                counts[6]++;
        } else if (what < 86) {
                do_leave(n);
                counts[7]++;
        } else if (what < 90) {
                do_handle(n, true);
                counts[8]++;
        } else {
                do_handle(n, false);
                counts[9]++;
        }
        if (!sliced || chance(40))
                compare();
        else
                tree_check(t);
        if (chance(50))
                drain();
}

static void simulate(uint64_t with_seed, uint64_t operations)
{
        seed = state = with_seed;
        now = 1000;
        m = calloc(1, sizeof *m);
        assert(m && tree_new(&t) >= 0);
        m->retain_usec = t->retain_usec = 40;
        sliced = with_seed % 2 == 0;
        hidden = EFFECT_RECORD | (sliced ? EFFECT_ROOT | EFFECT_KILL : 0U);
        if (sliced)
                t->slice = 1 + random_below(4);
        memset(expected, 0, sizeof expected);
        m->limit = t->users.limit[RESOURCE_CONTEXTS] = 3 + random_below(12);
        for (operation = 0; operation < operations; operation++)
                step();
        t = tree_free(t);
        free(m);
}

int main(int argc, char **argv)
{
        static const char *const names[] = {"settle", "create", "cancel", "release", "extend", "policy",
                        "attach", "leave", "handle", "unhandle", "open", "exists", "full", "room made",
                        "discard", "slices", "kept name", "displaced"};
        uint64_t seeds[] = {1, 2, 3, 4, 0};
        size_t n = sizeof seeds / sizeof *seeds;
        uint64_t operations = argc > 2 ? strtoull(argv[2], NULL, 10) : 200000;

        seeds[n - 1] = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t) getpid() * UINT64_C(2654435761);
        for (size_t i = argc > 1 ? n - 1 : 0; i < n; i++) {
                printf("# seed %" PRIu64 "\n", seeds[i]);
                fflush(stdout);
                simulate(seeds[i], operations);
                printf("ok %zu - law_00_random_verbs_as_the_reference_has_it: %" PRIu64 " operations\n",
                                argc > 1 ? 1 : i + 1, operations);
        }
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                printf("# %s: %" PRIu64 "\n", names[i], counts[i]);
        printf("1..%zu\n", argc > 1 ? 1 : n);
        return 0;
}
