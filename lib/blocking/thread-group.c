/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lib/blocking/ctx-futex.h"

/* Threads that work for one context. The first error of one of them cancels the others, and the caller can
 * wait for all. */

struct ctx_group {
        _Atomic uint32_t refs;
        _Atomic uint32_t running; /* a futex */
        _Atomic int error;        /* the first one that a thread returned */
        struct ctx *ctx;
};

struct member {
        struct ctx_group *group;
        int (*fn)(struct ctx *ctx, void *userdata);
        void *userdata;
};

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
        *group = (struct ctx_group){.refs = 1, .ctx = ctx_with_cancel(parent)};
        if (!group->ctx) {
                free(group);
                return NULL;
        }
        return group;
}

static void group_drop(struct ctx_group *group)
{
        if (atomic_fetch_sub_explicit(&group->refs, 1, memory_order_acq_rel) > 1)
                return;
        ctx_unref(group->ctx);
        free(group);
}

struct ctx_group *ctx_group_unref(struct ctx_group *group)
{
        if (!group)
                return NULL;
        ctx_cancel(group->ctx);
        group_drop(group);
        return NULL;
}

struct ctx *ctx_group_ctx(struct ctx_group *group)
{
        return group ? group->ctx : NULL;
}

static void *run_member(void *userdata)
{
        struct member member = *(struct member *) userdata;
        struct ctx_group *group = member.group;
        int entered, r, none = 0;

        free(userdata);
        entered = ctx_enter(group->ctx);
        r = member.fn(group->ctx, member.userdata);
        if (entered == 0)
                ctx_leave(group->ctx);
        if (r < 0 && atomic_compare_exchange_strong(&group->error, &none, r))
                ctx_cancel_cause(group->ctx, -r, NULL);
        if (atomic_fetch_sub(&group->running, 1) == 1)
                futex_wake_all(&group->running);
        group_drop(group);
        return NULL;
}

int ctx_group_go(struct ctx_group *group, int (*fn)(struct ctx *ctx, void *userdata), void *userdata)
{
        struct member *member;
        pthread_attr_t attr;
        pthread_t thread;
        int r;

        if (!group || !fn)
                return -EINVAL;
        member = malloc(sizeof(struct member));
        if (!member)
                return -ENOMEM;
        *member = (struct member){.group = group, .fn = fn, .userdata = userdata};
        r = pthread_attr_init(&attr);
        if (r != 0) {
                free(member);
                return -r;
        }
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);

        atomic_fetch_add(&group->refs, 1);
        atomic_fetch_add(&group->running, 1);
        r = pthread_create(&thread, &attr, run_member, member);
        pthread_attr_destroy(&attr);
        if (r != 0) {
                free(member);
                if (atomic_fetch_sub(&group->running, 1) == 1)
                        futex_wake_all(&group->running);
                group_drop(group);
        }
        return -r;
}

int ctx_group_wait(struct ctx_group *group)
{
        uint32_t running;

        if (!group)
                return -EINVAL;
        while ((running = atomic_load(&group->running)) > 0)
                futex_wait(&group->running, running);
        ctx_cancel(group->ctx);
        return atomic_load(&group->error);
}
