/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <unistd.h>

#include "daemon/engine/internal.h"
#include "proto/state-page.h"
#include "util/proc.h"

/* Hands out what a client gets to hold: handles, lifelines, state pages and thread pages. */

static int refuse_done(const struct context *c, struct refused *ret_refused)
{
        *ret_refused = (struct refused){.reason = REFUSED_DONE};
        context_reference(c, ret_refused->path);
        return -EALREADY;
}

/* A room says -EDQUOT when a charge was refused. This fills in which limit it was. */
static int refuse_charge(int r, struct user *user, enum resource resource, struct refused *ret_refused)
{
        return r == -EDQUOT ? tree_refuse_charge(ret_refused, user, resource, 1) : r;
}

/* For what nobody is charged for. */
static int want_uncharged(struct engine *e, uid_t uid, struct refused *ret_refused)
{
        struct user *user;
        int r = 0;

        if (!given_is_charged(uid))
                return 0;
        user = user_ref(&e->tree->users, uid);
        if (!user)
                return -ENOMEM;
        if (user_is_at_limit(user, RESOURCE_HANDLES, 1))
                r = tree_refuse_charge(ret_refused, user, RESOURCE_HANDLES, 1);
        user_unref(&e->tree->users, user);
        return r;
}

static bool has_happened(const struct context *c, enum handle_kind kind)
{
        return kind == HANDLE_DONE ? context_is_done(c) : c->drained_usec != 0;
}

int engine_handle(struct engine *e, struct process *p, uid_t uid, struct context *c, enum handle_kind kind,
                int *ret_fd, struct refused *ret_refused)
{
        struct anchor *a;
        struct user *user;
        int r;

        if (has_happened(c, kind)) {
                r = want_uncharged(e, uid, ret_refused);
                if (r >= 0)
                        r = handle_get_signalled(e->handles, ret_fd);
                /* The next drain closes our copy. */
                if (r >= 0)
                        turn_again(e->turn);
                return r < 0 ? r : given_mark(*ret_fd, uid);
        }
        a = anchor_of(e, c);
        user = a ? user_ref(&e->tree->users, uid) : NULL;
        if (!user)
                return -ENOMEM;
        r = refuse_charge(handle_get(e->handles, p, a, kind, user, ret_fd), user, RESOURCE_HANDLES,
                        ret_refused);
        user_unref(&e->tree->users, user);
        if (r >= 0 && given_mark(*ret_fd, uid) < 0) {
                if (r > 0)
                        (void) handle_drop(e->handles, p, uid, a, kind);
                r = -ENOMEM;
        }
        if (r >= 0)
                tree_handles_given(e->tree, c);
        return r;
}

int engine_handle_drop(
                struct engine *e, struct process *p, uid_t uid, struct context *c, enum handle_kind kind)
{
        int r = c->anchor ? handle_drop(e->handles, p, uid, c->anchor, kind) : -ENOENT;

        facts_wake(&e->world.facts);
        /* A handle that was signalled is not kept, so there is nothing to drop. */
        return r == -ENOENT && has_happened(c, kind) ? 0 : r;
}

int engine_lifeline(struct engine *e, uid_t uid, struct context *c, int *ret_fd, struct refused *ret_refused)
{
        struct anchor *a;
        struct user *user;
        int fd, r;

        if (context_is_done(c))
                return refuse_done(c, ret_refused);
        a = anchor_of(e, c);
        if (!a)
                return -ENOMEM;
        if (a->lifeline) {
                r = want_uncharged(e, uid, ret_refused);
                if (r < 0)
                        return r;
                fd = lifeline_open(a->lifeline);
                if (fd < 0)
                        return fd;
                *ret_fd = fd;
                return given_mark(fd, uid);
        }
        user = user_ref(&e->tree->users, uid);
        if (!user)
                return -ENOMEM;
        r = lifeline_new(&a->lifeline, &e->world, c->id, user, ret_fd);
        r = refuse_charge(r, user, RESOURCE_HANDLES, ret_refused);
        user_unref(&e->tree->users, user);
        c->costly |= r >= 0;
        if (r >= 0 && given_mark(*ret_fd, uid) < 0) {
                engine_lifeline_unsent(e, c->id);
                r = -ENOMEM;
        }
        return r < 0 ? r : 1;
}

/* What was opened for that uid, or -errno. */
static int give(int fd, uid_t uid, int *ret_fd)
{
        int r;

        if (fd < 0)
                return fd;
        r = given_mark(fd, uid);
        if (r < 0) {
                close(fd);
                return r;
        }
        *ret_fd = fd;
        return 0;
}

int engine_open_process(struct engine *e, const struct process *p, uid_t uid, int *ret_fd,
                struct refused *ret_refused)
{
        int r = want_uncharged(e, uid, ret_refused);

        return r < 0 ? r : give(process_open(p), uid, ret_fd);
}

uint64_t engine_epoch(const struct engine *e)
{
        return e->epoch;
}

int engine_alive(struct engine *e, uid_t uid, int *ret_fd, uint64_t *ret_epoch, struct refused *ret_refused)
{
        int fd, r = want_uncharged(e, uid, ret_refused);

        if (r < 0)
                return r;
        while ((fd = pidfd_open_process(getpid())) == -EMFILE && engine_give_back_descriptors(e))
                ;
        *ret_epoch = e->epoch;
        return give(fd, uid, ret_fd);
}

void engine_unsent(int fd)
{
        given_unmark(fd);
}

void engine_handle_unsent(struct engine *e, struct process *p, uid_t uid, uint64_t id, enum handle_kind kind)
{
        struct anchor *a = anchor_find(e, id);

        if (a)
                (void) handle_drop(e->handles, p, uid, a, kind);
        facts_wake(&e->world.facts);
}

void engine_lifeline_unsent(struct engine *e, uint64_t id)
{
        struct anchor *a = anchor_find(e, id);

        if (a)
                a->lifeline = lifeline_free(a->lifeline);
}

void engine_threads_unsent(struct engine *e, struct process *p, uint64_t id)
{
        struct anchor *a = anchor_find(e, id);

        if (a)
                threads_leave(e->thread_pages, p, a);
        facts_wake(&e->world.facts);
}

void engine_state_of(const struct engine *e, const struct context *c, struct page_state *ret)
{
        static const uint64_t words[] = {
                        [CONTEXT_ACTIVE] = STATE_WORD_ACTIVE,
                        [CONTEXT_CANCELED] = STATE_WORD_CANCELED,
                        [CONTEXT_DEADLINE_EXCEEDED] = STATE_WORD_DEADLINE_EXCEEDED,
        };
        bool is_stopped = c->state == CONTEXT_CANCELED && e->is_stopping;

        *ret = (struct page_state){
                        .uid = c->uid,
                        .word = is_stopped ? STATE_WORD_STOPPED : words[c->state],
                        .deadline_usec = c->deadline_usec,
        };
}

int engine_page(struct engine *e, struct context *c, struct page_place *ret)
{
        struct anchor *a = anchor_of(e, c);
        struct page_state state;

        if (!a)
                return -ENOMEM;
        engine_state_of(e, c, &state);
        return page_get(e->pages, a, &state, ret);
}

int engine_page_for(struct engine *e, const struct caller *caller, struct context *c, struct page_place *ret)
{
        *ret = (struct page_place){};
        return tree_allows(e->tree, caller, c, VERB_PAGE) ? engine_page(e, c, ret) : 0;
}

int engine_threads(struct engine *e, struct process *p, struct context *c, int *ret_page, int *ret_kick,
                struct refused *ret_refused)
{
        int r, resource = RESOURCE_MEMBERS;
        struct anchor *a;
        struct user *user;
        bool is_new;

        if (context_is_done(c))
                return refuse_done(c, ret_refused);
        a = anchor_of(e, c);
        user = a ? user_ref(&e->tree->users, process_uid(p)) : NULL;
        if (!user)
                return -ENOMEM;
        is_new = !a->slot;
        r = refuse_charge(membership_open(e->membership, a, c->user), c->user, RESOURCE_SLOTS, ret_refused);
        if (r >= 0) {
                r = thread_page_get(e->thread_pages, p, a, user, ret_page, ret_kick, &resource);
                r = refuse_charge(r, user, (enum resource) resource, ret_refused);
        }
        if (r >= 0 && given_mark(*ret_kick, process_uid(p)) < 0) {
                if (r > 0)
                        threads_leave(e->thread_pages, p, a);
                r = -ENOMEM;
        }
        user_unref(&e->tree->users, user);
        if (r >= 0)
                tree_attached(e->tree, c);
        else if (is_new)
                membership_close(e->membership, a); /* as if nobody had asked */
        return r;
}

int engine_bind_owner(struct engine *e, struct context *c, struct process *p)
{
        struct anchor *a;

        if (context_is_background(c))
                return -EBUSY;
        if (context_is_done(c))
                return 0;
        a = anchor_of(e, c);
        if (!a)
                return -ENOMEM;
        c->costly = true;
        return owner_bind(a, p);
}
