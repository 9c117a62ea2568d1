/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/path.h"
#include "daemon/model/internal.h"

/* Making contexts: first everything that can be refused, then everything that needs memory, then what cannot
 * fail. */

/* What is to be made: the labels below base. All but the last are ancestors that nobody asked for by name. */
struct plan {
        struct context *base;          /* the deepest that is there */
        const struct context *visible; /* the deepest on the way there that the caller may read */
        struct context *existing;  /* the one that was asked for, if it is there; base is its parent then */
        const char *first_missing; /* in the path; NULL: the label is to be made up */
        size_t labels;             /* of the whole path, with the one that is made up */
        size_t n_new;
        size_t hidden; /* where the first part below that ends which the caller may not read; 0: none */
        bool off;      /* the id that was given is not of the one that has that part of the path */
};

struct made {
        struct context *c[CTXD_LABELS_MAX];
        size_t n;
};

/* One that may be read is what counts, whatever is hidden above it. The base's path ends at end. */
static void plan_look(struct plan *plan, const struct tree *t, const struct caller *caller, size_t end)
{
        if (context_may_read(t, plan->base, caller)) {
                plan->visible = plan->base;
                plan->hidden = 0;
        } else if (plan->hidden == 0) {
                plan->hidden = end;
        }
}

static void plan_path(const struct tree *t, const struct caller *caller, const struct reference *ref,
                struct plan *ret)
{
        struct plan plan = {.base = t->background, .visible = t->background};
        bool root = strcmp(ref->path, "/") == 0;

        for (const char *p = root ? "" : ref->path; *p; p += *p == '/') {
                size_t n = strcspn(p, "/");
                struct context *child = plan.n_new > 0 ? NULL : tree_child(t, plan.base, p, n);
                bool last = p[n] == '\0' && !ref->generate;

                plan.labels++;
                if (plan.n_new == 0)
                        plan_look(&plan, t, caller, (size_t) (p - 1 - ref->path));
                if (child && last) {
                        plan.existing = child;
                } else if (child) {
                        plan.base = child;
                } else {
                        if (plan.n_new++ == 0)
                                plan.first_missing = p;
                }
                p += n;
                if (ref->id != 0 && (size_t) (p - ref->path) == ref->pinned)
                        plan.off = !child || child->id != ref->id || !context_may_read(t, child, caller);
        }
        if (ref->generate) {
                plan.labels++;
                if (plan.n_new++ == 0)
                        plan_look(&plan, t, caller, strlen(ref->path));
        }
        *ret = plan;
}

/* A parent that is hidden, or missing. */
static int no_parent(const struct tree *t, const struct caller *caller, const struct plan *plan,
                const struct reference *ref, const char *path, size_t length, struct refused *ret_refused)
{
        unsigned privilege = access_below(t, plan->visible, ref->path, caller) ? PRIVILEGE_MANAGE : 0;

        return refused_without(ret_refused, privilege,
                        refused_path(ret_refused, REFUSED_NO_SUCH, "its parent is missing", path, length));
}

static int plan_check(const struct tree *t, const struct caller *caller, const struct reference *ref,
                const struct create_options *o, const struct plan *plan, bool *ret_own_tree,
                struct refused *ret_refused)
{
        const struct context *e = plan->existing;
        /* The one that was asked for, and the ancestors that are made only if options->parents says so. */
        size_t missing = plan->n_new;
        const char *p = plan->first_missing;
        int r;

        *ret_own_tree = false;
        if (plan->labels > CTXD_LABELS_MAX)
                return refused_because(ret_refused, REFUSED_NAME, "it has more than 64 labels");
        if (plan->off) {
                char pinned[CTXD_PATH_ID_MAX + 1];
                int n = snprintf(pinned, sizeof pinned, "%.*s#%" PRIu64, (int) ref->pinned, ref->path,
                                ref->id);

                return no_parent(t, caller, plan, ref, pinned, (size_t) n, ret_refused);
        }
        if (e && context_may_read(t, e, caller)) {
                if (o->open && !context_is_done(e))
                        return 0;
                return refused_context(ret_refused, REFUSED_EXISTS,
                                context_is_done(e) ? "it is done; release it, or wait until it is forgotten"
                                                   : NULL,
                                e);
        }
        /* Whether what comes next is hidden or missing: the same is said of both. */
        r = access_create(t, caller, plan->visible, strcmp(ref->path, "/") == 0 ? NULL : ref->path,
                        plan->labels == 1, ret_own_tree, ret_refused);
        if (r < 0)
                return r;
        if (plan->hidden > 0)
                return no_parent(t, caller, plan, ref, ref->path, plan->hidden, ret_refused);
        r = o->has_gid ? access_group(t, caller, o->gid, ret_refused) : 0;
        if (r < 0)
                return r;
        if (e)
                return refused_context(ret_refused, REFUSED_EXISTS, NULL, e);
        if (*ret_own_tree && missing > 1) {
                missing--;
                p += strcspn(p, "/");
                p += *p == '/';
        }
        if (missing > 1 && !o->parents)
                return no_parent(t, caller, plan, ref, ref->path, (size_t) (p - ref->path) + strcspn(p, "/"),
                                ret_refused);
        return 0;
}

/* Is there room for what was made? Makes some by forgetting what was released: the last step that may
 * refuse. */
static int quota_check(struct tree *t, const struct made *made, struct refused *ret_refused)
{
        const struct context *first = made->c[0], *last = made->c[made->n - 1];
        struct users *users = &t->users;
        struct user *user = last->user;
        bool two = first->user != user; /* root makes something in a user's tree, which is that user's */
        uint64_t bytes = context_bytes(last), n = made->n - two, held = user->used[RESOURCE_CONTEXTS] + n;
        uint64_t limit = users->limit[RESOURCE_CONTEXTS], total = users->contexts.used + made->n,
                 all = pool_limit(&users->contexts, held), short_own, short_of;

        if (bytes > 0 && user_is_at_limit(user, RESOURCE_BYTES, bytes))
                return refused_quota(ret_refused, user, RESOURCE_BYTES);
        if (two && user_is_at_limit(first->user, RESOURCE_CONTEXTS, 1))
                return refused_quota(ret_refused, first->user, RESOURCE_CONTEXTS);
        short_own = held > limit ? held - limit : 0;
        short_of = total > all ? total - all : 0;
        if (tree_make_room(t, user, short_own, short_of))
                return 0;
        return short_own > 0 ? refused_quota(ret_refused, user, RESOURCE_CONTEXTS)
                             : refused_pool(ret_refused, user, RESOURCE_CONTEXTS);
}

/* The parent stays while room is made, also where it waits only for its last child to go. */
static int quota_take(
                struct tree *t, struct context *base, const struct made *made, struct refused *ret_refused)
{
        bool overdue = base->retired == RETIRED_OVERDUE;
        int r;

        if (overdue)
                base->retired = RETIRED_NOT;
        r = quota_check(t, made, ret_refused);
        if (overdue)
                base->retired = RETIRED_OVERDUE;
        return r;
}

static void made_free(struct tree *t, struct made *made)
{
        for (size_t i = 0; i < made->n; i++) {
                t->n_reserved -= made->c[i]->heap_reserved;
                made->c[i]->user = user_unref(&t->users, made->c[i]->user);
                context_free(made->c[i]);
        }
}

static int made_add(struct tree *t, struct made *made, const char *label, size_t length,
                const char *description, uid_t uid)
{
        struct context *c = context_new(label, length, description);

        if (!c)
                return -ENOMEM;
        made->c[made->n++] = c;
        c->uid = uid;
        c->user = user_ref(&t->users, uid);
        return c->user ? 0 : -ENOMEM;
}

/* Contexts with all that they own, unlinked; the ancestors first. */
static int make(struct tree *t, const struct caller *caller, const struct create_options *o,
                const struct plan *plan, const char *made_up, bool own_tree, struct made *made)
{
        const char *p = plan->first_missing;
        struct context *c;
        int r;

        assert(plan->n_new > 0);
        for (size_t i = 0; i < plan->n_new; i++) {
                bool last = i + 1 == plan->n_new;
                const char *label = last && made_up ? made_up : p;
                size_t n = strcspn(label, "/");
                uid_t uid = caller->uid;

                if (i == 0 && own_tree)
                        label_is_user(label, n, &uid);
                r = made_add(t, made, label, n, last ? o->description : NULL, uid);
                if (r < 0)
                        return r;
                made->c[i]->gid = last && o->has_gid                  ? o->gid
                                  : context_is_background(plan->base) ? caller->gid
                                                                      : plan->base->gid;
                made->c[i]->grace_usec = t->default_grace_usec;
                made->c[i]->implied = !last;
                if (label == p)
                        p += n + (p[n] == '/');
        }

        c = made->c[made->n - 1];
        if (o->grace_usec != 0)
                c->grace_usec = o->grace_usec;
        c->wake_usec = o->deadline_usec;
        if (o->has_cause && o->deadline_usec != UINT64_MAX) {
                c->cause = cause_new(
                                o->cause_error, o->cause_message, caller->uid, caller->pid, caller->comm);
                if (!c->cause)
                        return -ENOMEM;
        }
        return context_copy_values(c, o->values, o->n_values);
}

/* A label that nobody has used under that parent, ever: counted up from the highest that anybody has used
 * anywhere. */
static void make_up_label(const struct tree *t, const struct context *base, char label[21])
{
        uint64_t n = t->last_label;

        do
                sprintf(label, "%" PRIu64, ++n);
        while (tree_child(t, base, label, strlen(label)));
}

static void note_label(struct tree *t, const char *label)
{
        uint64_t n = 0;

        for (const char *p = label; *p; p++) {
                if (*p < '0' || *p > '9' || n > UINT64_MAX / 2 / 10 - 1)
                        return;
                n = n * 10 + (uint64_t) (*p - '0');
        }
        if (n > t->last_label)
                t->last_label = n;
}

/* Cannot fail. From here on it is in the tree. */
static void context_link(
                struct tree *t, uint64_t now_usec, struct context *parent, struct context *c, uint32_t mode)
{
        bool top = context_is_background(parent);

        c->parent = parent;
        c->id = ++t->last_id;
        c->mode = (uint16_t) (mode != CONTEXT_MODE_INHERIT ? mode
                              : top                        ? CONTEXT_MODE_DEFAULT
                                                           : parent->mode);
        c->created_usec = now_usec;
        LIST_INSERT_HEAD(&parent->children, c, siblings);
        parent->n_children++;
        t->n_contexts++;
        index_insert(&t->by_name, c);
        note_label(t, c->label);
        user_charge_always(c->user, RESOURCE_CONTEXTS, 1);
        user_charge_always(c->user, RESOURCE_BYTES, context_bytes(c));

        c->own_deadline = c->wake_usec < parent->deadline_usec;
        c->deadline_usec = c->own_deadline ? c->wake_usec : parent->deadline_usec;
        effect_add(t, c, EFFECT_NEW);
        if (context_is_done(parent)) { /* before its own deadline, as in Go */
                context_become_done(t, now_usec, c, parent->state, parent->origin_up + 1U);
                effect_add(t, c, EFFECT_ROOT);
        } else if (c->own_deadline && c->wake_usec <= now_usec) {
                context_become_done(t, now_usec, c, CONTEXT_DEADLINE_EXCEEDED, 0);
                effect_add(t, c, EFFECT_ROOT);
        } else if (c->own_deadline) {
                heap_put(&t->wakes, c, c->wake_usec);
        }
}

/* Whether the process may become a member of what was found, or is to be made. */
static int plan_attach(struct tree *t, uint64_t now_usec, const struct caller *caller,
                const struct reference *ref, const char *label, const struct create_options *o,
                const struct plan *plan, struct policy *ret_policy, struct refused *ret_refused)
{
        const struct context *c = plan->existing ? plan->existing : plan->base;
        char path[CTXD_PATH_MAX + 1];
        int r;

        if (plan->existing) {
                r = access_check(t, caller, c, VERB_ATTACH, ret_refused);
                if (r < 0)
                        return r;
        } else if (context_is_done(c) || o->deadline_usec <= now_usec) { /* it would be done at birth */
                bool is_first = strcmp(ref->path, "/") == 0;

                r = snprintf(path, sizeof path, "%s%s%s", is_first ? "" : ref->path,
                                ref->generate && !is_first ? "/" : "", label);
                return refused_path(ret_refused, REFUSED_DONE, NULL, path, (size_t) r);
        }
        return attachment_policy(t, caller, o->attach, c, ret_policy, ret_refused);
}

int tree_create(struct tree *t, uint64_t now_usec, const struct caller *caller, const char *text,
                const struct create_options *options, struct context **ret, struct refused *ret_refused)
{
        struct attachment *attach = options->attach;
        struct made made = {.n = 0};
        struct policy policy = {};
        char label[21] = "";
        struct reference ref;
        struct context *c;
        struct plan plan;
        const char *why;
        bool own_tree;
        int r;

        r = attach ? caller_want_process(caller, VERB_ATTACH, attach->uids, ret_refused) : 0;
        if (r < 0)
                return r;
        if (reference_parse(text, caller->uid, true, &ref, &why) < 0)
                return refused_because(ret_refused, REFUSED_NAME, why);
        r = options_check(t, options, ret_refused);
        if (r < 0)
                return r;

        tree_settle(t, now_usec);
        plan_path(t, caller, &ref, &plan);
        tree_reach(t, plan.existing ? plan.existing : plan.base);
        r = plan_check(t, caller, &ref, options, &plan, &own_tree, ret_refused);
        if (r < 0)
                return r;
        if (ref.generate) { /* context_link() notes that it was used */
                make_up_label(t, plan.base, label);
                if (strcmp(ref.path, "/") != 0 && strlen(ref.path) + 1 + strlen(label) > CTXD_PATH_MAX)
                        return refused_because(ret_refused, REFUSED_NAME, "it is longer than 1024 bytes");
        }
        if (attach)
                r = plan_attach(t, now_usec, caller, &ref, label, options, &plan, &policy, ret_refused);
        if (r >= 0 && attach && plan.existing)
                r = attachment_take(t, plan.existing, attach, &policy, ret_refused);
        if (r < 0)
                return r;
        if (plan.existing) {
                *ret = plan.existing;
                return 0;
        }
        r = make(t, caller, options, &plan, ref.generate ? label : NULL, own_tree, &made);
        c = made.n > 0 ? made.c[made.n - 1] : NULL;
        if (r >= 0 && options->deadline_usec != UINT64_MAX)
                r = context_reserve_wake(t, c);
        if (r >= 0 && attach)
                r = attachment_take(t, c, attach, &policy, ret_refused);
        if (r >= 0)
                r = heap_reserve(&t->retiring, t->users.n);
        if (r >= 0)
                r = quota_take(t, plan.base, &made, ret_refused);
        if (r < 0) {
                made_free(t, &made);
                return r;
        }

        for (size_t i = 0; i < made.n; i++) {
                struct context *parent = i > 0 ? made.c[i - 1] : plan.base;

                context_link(t, now_usec, parent, made.c[i],
                                i + 1 == made.n ? options->mode : CONTEXT_MODE_INHERIT);
        }
        *ret = c;
        return 1;
}

void tree_discard(struct tree *t, struct context *c)
{
        do {
                assert(c->pending & EFFECT_NEW);
                if (c->busy) { /* the attach was asked for with it, and something after that went wrong */
                        c->busy = false;
                        for (struct context *p = c; p; p = p->parent)
                                p->n_busy_below--;
                }
                context_forget_quietly(t, c);
                c->pending = EFFECT_REMOVED | EFFECT_SILENT; /* it is in the queue */
                c = c->parent;
        } while (c->implied && (c->pending & EFFECT_NEW) && LIST_EMPTY(&c->children) && !context_is_held(c));
        if (c->retired == RETIRED_OVERDUE &&
                        LIST_EMPTY(&c->children)) /* what it waited for has made room meanwhile */
                context_forget(t, c);
}
