/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "lib/blocking/thread-group.h"

/* How a thread of a group begins and ends. */

__thread struct ctx_group *group_own __attribute__((tls_model("initial-exec")));

/* The lock is held. It has ended, or its thread has become known: what comes last of the two. */
static void member_settle(struct member *member)
{
        struct ctx_group *group = member->group;

        if (member->has_thread && member->has_ended && group->abandoned) {
                member_free(&group->active, member);
        } else if (member->has_thread && member->has_ended) {
                TAILQ_REMOVE(&group->active, member, entry);
                TAILQ_INSERT_TAIL(&group->ended, member, entry);
        }
        group_changed(group);
}

/* Also when the thread ends in fn, by pthread_exit() or pthread_cancel(). From here on it is not
 * cancelled. */
static void member_ended(void *userdata)
{
        struct member *member = userdata;
        struct ctx_group *group = member->group;

        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        if (group_is_of_parent_process(group))
                return; /* fn has forked, and this is the child */
        if (member->entered)
                ctx_leave(group->ctx);
        if (member->result < 0)
                group_fail_plainly(group, member->result);
        lock_acquire(&group_lock);
        if (member->ret_result)
                *member->ret_result = member->result;
        member->has_ended = true;
        group->running--;
        member_settle(member);
        lock_release(&group_lock);
        group_drop(group);
}

static void *run_member(void *userdata)
{
        struct member *member = userdata;

        group_own = member->group;
        pthread_cleanup_push(member_ended, member);
        member->entered = ctx_enter(member->group->ctx) == 0;
        member->result = member->fn(member->group->ctx, member->userdata);
        pthread_cleanup_pop(1);
        return NULL;
}

/* The lock is held. Joins those that have ended, without waiting. */
static void join_some(struct ctx_group *group)
{
        struct member *member;

        while ((member = TAILQ_FIRST(&group->ended)) && pthread_tryjoin_np(member->thread, NULL) == 0)
                member_free(&group->ended, member);
}

static bool is_full(const struct ctx_group *group)
{
        return group->limit > 0 && group->running >= group->limit;
}

/* Adds a member that is about to run. If may_wait is false and there is no room, it returns -EBUSY. */
static int group_add(struct ctx_group *group, struct member *member, bool may_wait)
{
        int r = 0;

        lock_acquire(&group_lock);
        while (r == 0 && is_full(group))
                r = may_wait ? group_sleep(group->ctx, group, FUTEX_NOT_CANCELLABLE) : -EBUSY;
        if (r == 0) {
                join_some(group);
                TAILQ_INSERT_TAIL(&group->active, member, entry);
                group->running++;
                group->n_threads++;
                atomic_fetch_add_explicit(&group->refs, 1, memory_order_relaxed);
        }
        lock_release(&group_lock);
        return r;
}

static int group_start(struct ctx_group *group, struct member *member)
{
        pthread_t thread;
        int r = pthread_create(&thread, NULL, run_member, member);

        lock_acquire(&group_lock);
        if (r == 0) {
                member->thread = thread;
                member->has_thread = true;
                if (group->abandoned)
                        pthread_detach(thread);
                member_settle(member);
        } else {
                group->running--;
                member_free(&group->active, member);
                group_changed(group);
        }
        lock_release(&group_lock);
        if (r != 0)
                group_drop(group);
        return -r;
}

static int go(struct ctx_group *group, int (*fn)(struct ctx *ctx, void *userdata), void *userdata,
                int *ret_result, bool may_wait)
{
        struct member *member;
        int r;

        if (!group || !fn)
                return -EINVAL;
        if (group_is_of_parent_process(group))
                return -ECHILD;
        member = malloc(sizeof(struct member));
        if (!member)
                return -ENOMEM;
        *member = (struct member){.group = group,
                        .fn = fn,
                        .userdata = userdata,
                        .ret_result = ret_result,
                        .result = -ECANCELED};
        r = group_add(group, member, may_wait);
        if (r < 0) {
                free(member);
                return r;
        }
        return group_start(group, member);
}

int ctx_group_go(struct ctx_group *group, int (*fn)(struct ctx *ctx, void *userdata), void *userdata)
{
        return go(group, fn, userdata, NULL, true);
}

int ctx_group_go_result(struct ctx_group *group, int (*fn)(struct ctx *ctx, void *userdata), void *userdata,
                int *ret_result)
{
        return go(group, fn, userdata, ret_result, true);
}

int ctx_group_try_go(struct ctx_group *group, int (*fn)(struct ctx *ctx, void *userdata), void *userdata)
{
        int r = go(group, fn, userdata, NULL, false);

        return r == -EBUSY ? 0 : r < 0 ? r : 1;
}

int ctx_group_set_limit(struct ctx_group *group, unsigned n)
{
        if (!group)
                return -EINVAL;
        lock_acquire(&group_lock);
        group->limit = n;
        group_changed(group);
        lock_release(&group_lock);
        return 0;
}
