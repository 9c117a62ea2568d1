/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/path.h"
#include "daemon/model/plan.h"

/* Making contexts: first everything that can be refused (plan.c), then everything that needs memory, then
 * what cannot fail. */

struct made {
        struct context *c[CTXD_LABELS_MAX];
        size_t n;
};

/* Is there room for what was made? Makes some by forgetting what was released: the last step that may
 * refuse. */
static int quota_check(struct tree *t, const struct made *made, struct refused *ret_refused)
{
        const struct context *first = made->c[0], *last = made->c[made->n - 1];
        struct users *users = &t->users;
        struct user *user = last->user;
        bool two = first->user != user; /* root makes something in a user's tree, which is that user's */
        uint64_t bytes = context_bytes(last), n = made->n - two, held = user->used[RESOURCE_CONTEXTS] + n;
        uint64_t limit = users->limit[RESOURCE_CONTEXTS], total = users->pools[POOL_CONTEXTS].used + made->n,
                 all = pool_limit(user, POOL_CONTEXTS), short_own, short_of;

        if (bytes > 0 && user_is_at_limit(user, RESOURCE_BYTES, bytes))
                return tree_refuse_charge(ret_refused, user, RESOURCE_BYTES, bytes);
        if (two && user_is_at_own_limit(first->user, RESOURCE_CONTEXTS, 1))
                return refused_quota(ret_refused, first->user, RESOURCE_CONTEXTS);
        short_own = held > limit ? held - limit : 0;
        short_of = total > all ? total - all : 0;
        if (tree_make_room(t, user, short_own, short_of))
                return 0;
        return short_own > 0 ? refused_quota(ret_refused, user, RESOURCE_CONTEXTS)
                             : refused_pool(ret_refused, user, RESOURCE_CONTEXTS);
}

/* While room is made, these two stay, also where they wait only for their last child to go. */
static int quota_take(
                struct tree *t, const struct plan *plan, const struct made *made, struct refused *ret_refused)
{
        struct context *stay[] = {plan->base, plan->displaced};
        bool overdue[2] = {};
        int r;

        for (int i = 0; i < 2; i++)
                if (stay[i] && stay[i]->retired == RETIRED_OVERDUE) {
                        stay[i]->retired = RETIRED_NOT;
                        overdue[i] = true;
                }
        r = quota_check(t, made, ret_refused);
        for (int i = 0; i < 2; i++)
                if (overdue[i])
                        stay[i]->retired = RETIRED_OVERDUE;
        return r;
}

static void made_free(struct tree *t, struct made *made)
{
        for (size_t i = 0; i < made->n; i++) {
                if (made->c[i]->heap_reserved)
                        context_give_up_wake(t, made->c[i]);
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
        if (o->has_cause) { /* it may get its deadline later */
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

uint64_t label_number(const char *label)
{
        uint64_t n = 0;

        for (const char *p = label; *p; p++) {
                if (*p < '0' || *p > '9' || n > UINT64_MAX / 2 / 10 - 1)
                        return 0;
                n = n * 10 + (uint64_t) (*p - '0');
        }
        return n;
}

static void note_label(struct tree *t, const char *label)
{
        uint64_t n = label_number(label);

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
        context_decided(t, c, DECIDED_MADE);
        if (context_is_done(parent)) { /* before its own deadline, as in Go */
                context_become_done(t, now_usec, c, parent->state, parent->origin_up + 1U);
                effect_add(t, c, EFFECT_ROOT);
        } else if (c->own_deadline && c->wake_usec <= now_usec) {
                context_become_done(t, now_usec, c, CONTEXT_DEADLINE_EXCEEDED, 0);
                effect_add(t, c, EFFECT_ROOT);
        } else if (c->own_deadline) {
                context_wake_at(t, c, c->wake_usec);
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

/* Without an id, or with one of an ancestor, it may be made. path#id is that one, and with `open` it is
 * enough that it is there. */
static bool names_one(const char *text, const struct caller *caller, const struct create_options *o,
                struct reference *ret)
{
        return o->open && reference_parse(text, caller->uid, false, ret, NULL) >= 0 && ret->id != 0;
}

static int plan_open(struct tree *t, const struct caller *caller, const char *text, struct plan *ret,
                struct refused *ret_refused)
{
        struct plan plan = {};
        int r = tree_find(t, caller, text, &plan.existing, ret_refused);

        if (r < 0)
                return r;
        if (context_is_done(plan.existing))
                return refused_reference(ret_refused, REFUSED_DONE, NULL, plan.existing);
        *ret = plan;
        return 0;
}

int tree_create_beside(struct tree *t, uint64_t now_usec, const struct caller *caller, const char *text,
                const struct create_options *options, struct context **ret, struct context **ret_displaced,
                struct refused *ret_refused)
{
        struct attachment *attach = options->attach;
        struct made made = {.n = 0};
        struct policy policy = {};
        char label[21] = "";
        struct reference ref;
        struct context *c;
        struct plan plan;
        const char *why;
        bool own_tree, is_there = names_one(text, caller, options, &ref);
        int r;

        r = attach ? caller_want_process(caller, VERB_ATTACH, attach->uids, ret_refused) : 0;
        if (r < 0)
                return r;
        if (!is_there && reference_parse(text, caller->uid, true, &ref, &why) < 0)
                return refused_because(ret_refused, REFUSED_NAME, why);
        r = options_check(t, options, ret_refused);
        if (r < 0)
                return r;

        tree_settle(t, now_usec);
        if (is_there) {
                r = plan_open(t, caller, text, &plan, ret_refused);
        } else {
                plan_path(t, caller, &ref, &plan);
                tree_reach(t, plan.existing ? plan.existing : plan.base);
                r = plan_check(t, caller, &ref, options, &plan, &own_tree, ret_refused);
        }
        if (r < 0)
                return r;
        if (plan.existing && context_is_done(plan.existing))
                plan_displace(&plan, &ref);
        if (!is_there && ref.generate) { /* context_link() notes that it was used */
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
                *ret_displaced = NULL;
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
                r = quota_take(t, &plan, &made, ret_refused);
        if (r < 0) {
                made_free(t, &made);
                return r;
        }

        for (size_t i = 0; i < made.n; i++) {
                struct context *parent = i > 0 ? made.c[i - 1] : plan.base;

                context_link(t, now_usec, parent, made.c[i],
                                i + 1 == made.n ? options->mode : CONTEXT_MODE_INHERIT);
        }
        *ret_displaced = plan.displaced;
        *ret = c;
        return 1;
}

int tree_create(struct tree *t, uint64_t now_usec, const struct caller *caller, const char *text,
                const struct create_options *options, struct context **ret, struct refused *ret_refused)
{
        struct context *displaced;
        int r = tree_create_beside(t, now_usec, caller, text, options, ret, &displaced, ret_refused);

        if (r > 0)
                tree_displace(t, displaced);
        return r;
}

static void forget_if_overdue(struct tree *t, struct context *c)
{
        if (c->retired == RETIRED_OVERDUE && LIST_EMPTY(&c->children))
                context_forget(t, c); /* what it waited for has made room meanwhile */
}

void tree_displace(struct tree *t, struct context *c)
{
        uint32_t budget = t->slice;

        if (!c)
                return;
        context_give_up_path(t, c);
        context_decided(t, c, DECIDED_RELEASED);
        context_release_below(t, c, &budget);
        forget_if_overdue(t, c);
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
                context_decided_forgotten(c);
                c = c->parent;
        } while (c->implied && (c->pending & EFFECT_NEW) && LIST_EMPTY(&c->children) && !context_is_held(c));
        forget_if_overdue(t, c);
}

void tree_discard_beside(struct tree *t, struct context *c, struct context *displaced)
{
        tree_discard(t, c);
        if (displaced)
                forget_if_overdue(t, displaced);
}
