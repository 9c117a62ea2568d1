/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/path.h"
#include "daemon/model/plan.h"

/* What a Create comes to: what is there of its path, what is missing, and whether the caller may make
 * that. */

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

void plan_path(const struct tree *t, const struct caller *caller, const struct reference *ref,
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

/* Work that comes late must not go on under a name that somebody has cancelled, or whose deadline has
 * passed. */
static bool may_displace(const struct context *c, const struct create_options *o)
{
        return context_is_done(c) && (!o->open || o->replace || context_origin(c)->by_itself);
}

int plan_check(const struct tree *t, const struct caller *caller, const struct reference *ref,
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
        if (e && context_may_read(t, e, caller) && !may_displace(e, o)) {
                if (context_is_done(e))
                        return refused_context(ret_refused, REFUSED_DONE,
                                        "release it, or say that another one is to replace it", e);
                return o->open ? 0 : refused_context(ret_refused, REFUSED_EXISTS, NULL, e);
        }
        /* Whether what comes next is hidden or missing: the same is said of both. */
        r = access_create(t, caller, plan->visible, strcmp(ref->path, "/") == 0 ? NULL : ref->path,
                        plan->labels == 1, ret_own_tree, ret_refused);
        if (r < 0)
                return r;
        if (plan->hidden > 0)
                return no_parent(t, caller, plan, ref, ref->path, plan->hidden, ret_refused);
        r = o->has_gid ? access_group(t, caller, o->gid, ref->path, ret_refused) : 0;
        if (r < 0)
                return r;
        if (e && (!may_displace(e, o) || !access_displace(t, caller, e)))
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

void plan_displace(struct plan *plan, const struct reference *ref)
{
        const char *slash = strrchr(ref->path, '/');

        plan->displaced = plan->existing;
        plan->existing = NULL;
        plan->first_missing = slash ? slash + 1 : ref->path;
        plan->n_new = 1;
}
