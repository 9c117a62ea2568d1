/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/blocking/thread-group.h"

struct lock group_lock = LOCK_INIT(LOCK_GROUP);
FORK_PART(.lock = &group_lock)

struct ctx_group *ctx_group_new(struct ctx *parent)
{
        struct ctx_group *group;

        if (!parent) {
                errno = EINVAL;
                return NULL;
        }
        group = malloc(sizeof(struct ctx_group));
        if (!group)
                return NULL;
        *group = (struct ctx_group){
                        .refs = 1, .fork_generation = fork_generation, .ctx = ctx_with_cancel(parent)};
        if (!group->ctx) {
                free(group);
                return NULL;
        }
        TAILQ_INIT(&group->active);
        TAILQ_INIT(&group->ended);
        return group;
}

static void free_members(struct members *members)
{
        struct member *member;

        while ((member = TAILQ_FIRST(members))) {
                TAILQ_REMOVE(members, member, entry);
                free(member);
        }
}

void group_drop(struct ctx_group *group)
{
        if (group_is_of_parent_process(group)) {
                /* Its threads will not come to give up their references. */
                free_members(&group->active);
                free_members(&group->ended);
        } else if (atomic_fetch_sub_explicit(&group->refs, 1, memory_order_acq_rel) > 1) {
                return;
        }
        cause_drop(group->cause, 1);
        ctx_unref(group->ctx);
        free(group);
}

void group_changed(struct ctx_group *group)
{
        atomic_fetch_add(&group->changed, 1);
        if (group->sleeping > 0)
                futex_wake_all(&group->changed);
}

void member_free(struct members *members, struct member *member)
{
        TAILQ_REMOVE(members, member, entry);
        member->group->n_threads--;
        free(member);
}

struct ctx_group *ctx_group_unref(struct ctx_group *group)
{
        struct member *member;

        if (!group)
                return NULL;
        lock_acquire(&group_lock);
        if (!group_is_of_parent_process(group)) {
                group->abandoned = true;
                TAILQ_FOREACH (member, &group->active, entry) {
                        member->ret_result = NULL;
                        if (member->has_thread)
                                pthread_detach(member->thread);
                }
                while ((member = TAILQ_FIRST(&group->ended))) {
                        pthread_detach(member->thread);
                        member_free(&group->ended, member);
                }
        }
        lock_release(&group_lock);
        ctx_cancel(group->ctx);
        group_drop(group);
        return NULL;
}

struct ctx *ctx_group_ctx(struct ctx_group *group)
{
        return group ? group->ctx : NULL;
}

/* -- Failures */

/* Takes the reference on cause. Returns whether it was the first. */
static bool group_record(struct ctx_group *group, int error, struct cause *cause)
{
        bool first;

        lock_acquire(&group_lock);
        first = group->error == 0;
        if (first) {
                group->error = error;
                group->cause = cause;
        }
        lock_release(&group_lock);
        if (!first)
                cause_drop(cause, 1);
        return first;
}

int ctx_group_fail(struct ctx_group *group, int error, const char *message)
{
        if (!group || error <= 0)
                return -EINVAL;
        if (!group_record(group, -error, cause_new(error, message)))
                return 0;
        ctx_cancel_cause(group->ctx, error, message);
        return 1;
}

/* What fn has from the context has the context's cause. */
void group_fail_plainly(struct ctx_group *group, int r)
{
        char number[32];
        const char *text = strerrordesc_np(-r);

        if (r == state_to_errno(ctx_state(group->ctx))) {
                group_record(group, r, NULL);
                return;
        }
        if (!text) {
                snprintf(number, sizeof(number), "error %d", -r);
                text = number;
        }
        ctx_group_fail(group, -r, text);
}

int ctx_group_cause(struct ctx_group *group, int *ret_error, const char **ret_message)
{
        struct cause *cause;
        int error;

        if (!group)
                return -EINVAL;
        lock_acquire(&group_lock);
        error = group->error;
        cause = group->cause;
        lock_release(&group_lock);
        if (error == 0)
                return 0;
        if (!cause)
                return ctx_cause(group->ctx, ret_error, ret_message);
        cause_read(cause, STATE_WORD_CANCELED, ret_error, ret_message);
        return 1;
}

/* -- Waiting */

static void sleep_cancelled(void *userdata)
{
        struct ctx_group *group = userdata;

        lock_acquire(&group_lock);
        group->sleeping--;
        lock_release(&group_lock);
}

int group_sleep(struct ctx *ctx, struct ctx_group *group, enum futex_cancel cancel)
{
        uint32_t seen = atomic_load(&group->changed);
        int r;

        group->sleeping++;
        lock_release(&group_lock);
        pthread_cleanup_push(sleep_cancelled, group);
        r = ctx_futex_begin(ctx);
        if (r == 0)
                r = ctx_futex_wait(ctx, &group->changed, seen, cancel);
        pthread_cleanup_pop(0);
        lock_acquire(&group_lock);
        group->sleeping--;
        return r;
}

#define FIRST_TRY_USEC 20
#define LAST_TRY_USEC 10000

/* fn has returned; what may still run are destructors of the thread's own data. */
static int member_join(struct ctx *ctx, struct member *member)
{
        _Atomic uint32_t nothing = 0;
        int r = 0, old;

        if (ctx_never_done(ctx->source)) {
                pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
                pthread_join(member->thread, NULL);
                pthread_setcancelstate(old, NULL);
                return 0;
        }
        for (uint64_t usec = FIRST_TRY_USEC; r == 0 && pthread_tryjoin_np(member->thread, NULL) == EBUSY;) {
                r = state_to_errno(ctx_state(ctx->source));
                if (r == 0)
                        futex_wait_for(&nothing, 0, usec);
                usec = usec * 2 < LAST_TRY_USEC ? usec * 2 : LAST_TRY_USEC;
        }
        return r;
}

/* Joins one that has ended. Another waiter must not take it for joined before it is. */
static int join_one(struct ctx *ctx, struct ctx_group *group, struct member *member)
{
        int r;

        TAILQ_REMOVE(&group->ended, member, entry);
        lock_release(&group_lock);
        r = member_join(ctx, member);
        lock_acquire(&group_lock);
        TAILQ_INSERT_HEAD(&group->ended, member, entry);
        if (r == 0)
                member_free(&group->ended, member);
        group_changed(group);
        return r;
}

int ctx_group_wait_for(struct ctx *ctx, struct ctx_group *group)
{
        bool is_over;
        int r = 0;

        if (!ctx || !group)
                return -EINVAL;
        if (group_is_of_parent_process(group))
                return -ECHILD;
        if (group_own == group)
                return -EDEADLK;
        lock_acquire(&group_lock);
        while (r == 0 && group->n_threads > 0) {
                struct member *member = TAILQ_FIRST(&group->ended);

                r = member ? join_one(ctx, group, member) : group_sleep(ctx, group, FUTEX_CANCELLABLE);
        }
        is_over = group->n_threads == 0;
        if (is_over)
                r = group->error;
        lock_release(&group_lock);
        if (is_over)
                ctx_cancel(group->ctx);
        return r;
}

int ctx_group_wait(struct ctx_group *group)
{
        return ctx_group_wait_for(ctx_background(), group);
}
