/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/engine/internal.h"
#include "util/clock.h"

/* Makes processes members, and makes contexts that come with a member or an owner. The model decides first.
 * After that only the world can fail. If it does, this file takes back what the model has done. */

int engine_describe(struct engine *e, struct process *p, struct attachment *ret)
{
        struct anchor *from;
        int r = membership_look_up(e->membership, p, &from, &ret->from_policy);

        if (r < 0)
                return r;
        ret->from = r > 0 ? from->context : NULL;
        memcpy(ret->uids, process_uids(p), sizeof ret->uids);
        return 0;
}

static int join(struct engine *e, struct context *c, struct process *p, uint32_t index,
                struct refused *ret_refused)
{
        struct anchor *a = anchor_of(e, c);
        int r, resource = RESOURCE_SLOTS;
        bool is_new;

        if (!a)
                return -ENOMEM;
        is_new = !a->slot;
        r = membership_open(e->membership, a, c->user);
        if (r >= 0)
                r = membership_attach(e->membership, a, p, index, &c->policies[index], &resource);
        if (r == -EDQUOT)
                r = tree_refuse_charge(ret_refused, c->user, (enum resource) resource, 1);
        if (r < 0 && is_new) {
                /* As if nobody had asked, so that the context can be taken back. */
                membership_close(e->membership, a);
                return r;
        }
        /* If the attach has failed this is not needed, but it does no harm: members_look() sees whether
         * anybody is in it. */
        tree_attached(e->tree, c);
        return r;
}

#define ATTACHED_MAX 64 /* so many are looked at; to read their ancestors from /proc takes some 5 ms */

/* Somebody below the reaper is in a context that is not below this one. */
static bool is_shared(struct engine *e, const struct context *c, struct process *reaper)
{
        unsigned budget = ATTACHED_MAX;
        struct anchor *a = NULL;

        if (!membership_count_takes_looks(e->membership))
                return false; /* the kernel knows who descends from whom */
        while ((a = membership_next_context(e->membership, a)))
                if (!context_is_below(a->context, c) &&
                                membership_has_below(e->membership, a, reaper, &budget))
                        return true;
        return false;
}

int engine_join(struct engine *e, struct context *c, struct process *p, const struct attachment *a,
                struct refused *ret_refused)
{
        int r = join(e, c, p, a->policy, ret_refused);

        if (r < 0)
                tree_attach_undo(e->tree, c, a);
        if (r >= 0 && !context_is_below(c, a->from))
                membership_part(e->membership, p);
        if (r >= 0 && a->reaper)
                membership_reap(e->membership, p, a->reaper, is_shared(e, c, a->reaper));
        return r;
}

int engine_attach(struct engine *e, const struct caller *caller, struct context *c, int pidfd,
                const struct policy *policy, struct refused *ret_refused)
{
        struct attachment a = {.wanted = *policy};
        struct process *p = NULL;
        int r;

        r = process_acquire(e->processes, pidfd, &p);
        if (r < 0)
                return r;
        r = engine_describe(e, p, &a);
        if (r >= 0)
                r = tree_attach(e->tree, now_boottime_usec(), caller, c, &a, ret_refused);
        if (r >= 0)
                r = engine_join(e, c, p, &a, ret_refused);
        process_unref(p);
        return r;
}

int engine_create(struct engine *e, uint64_t now_usec, const struct caller *caller, const char *text,
                const struct create_options *options, struct process *owner, struct process *member,
                struct page_place *ret_page, struct context **ret, struct refused *ret_refused)
{
        struct context *c, *displaced;
        int made, r = 0;

        made = tree_create_beside(e->tree, now_usec, caller, text, options, &c, &displaced, ret_refused);
        if (made < 0)
                return made;
        if (owner && made > 0)
                r = engine_bind_owner(e, c, owner) < 0 ? -EOWNERDEAD : 0;
        if (ret_page && r >= 0)
                r = engine_page_for(e, caller, c, ret_page);
        /* The attach comes last: nobody can take it back. */
        if (member && r >= 0)
                r = engine_join(e, c, member, options->attach, ret_refused);
        else if (member)
                tree_attach_undo(e->tree, c, options->attach);
        if (r < 0) {
                if (made > 0)
                        tree_discard_beside(e->tree, c, displaced);
                return r;
        }
        if (made > 0)
                tree_displace(e->tree, displaced);
        *ret = c;
        return made;
}
