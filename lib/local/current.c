/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "lib/local/shared.h"

/* The contexts that each thread works for: a stack for each thread. A shared context is told when it
 * becomes the one that the thread works for, itself or by a context below it, and when that ends. */

struct entered {
        struct entered *outer;
        struct ctx *ctx;
};

static __thread struct entered *innermost __attribute__((tls_model("initial-exec")));
static _Atomic uint32_t known_key; /* a pthread_key_t, plus 1; 0: none was made yet */

static struct ctx_shared *shared_above(const struct entered *entered)
{
        return entered ? ctx_shared_above(entered->ctx) : NULL;
}

/* The thread page has room for one context of each thread: that of the innermost entry. */
static void tell(struct ctx_shared *before)
{
        struct ctx_shared *now = shared_above(innermost);

        if (now == before)
                return;
        if (before && before->ops->leave)
                before->ops->leave(before);
        if (now && now->ops->enter)
                now->ops->enter(now);
}

static void remove_entry(struct entered **place)
{
        struct entered *entered = *place;
        struct ctx_shared *before = shared_above(innermost);

        *place = entered->outer;
        tell(before);
        ctx_unref(entered->ctx);
        free(entered);
}

/* A thread has ended without leaving its contexts. */
static void leave_all(void *unused)
{
        while (innermost)
                remove_entry(&innermost);
}

static int get_key(pthread_key_t *ret)
{
        uint32_t known = atomic_load_explicit(&known_key, memory_order_acquire);
        int r;

        if (known == 0) {
                r = pthread_key_create(ret, leave_all);
                if (r != 0)
                        return -r;
                if (atomic_compare_exchange_strong(&known_key, &known, (uint32_t) *ret + 1))
                        return 0;
                pthread_key_delete(*ret); /* another thread was faster */
        }
        *ret = (pthread_key_t) (known - 1);
        return 0;
}

int ctx_enter(struct ctx *ctx)
{
        struct ctx_shared *before = shared_above(innermost);
        struct entered *entered;
        pthread_key_t key;
        int r;

        if (!ctx)
                return -EINVAL;
        r = get_key(&key);
        if (r < 0)
                return r;
        entered = malloc(sizeof(struct entered));
        if (!entered)
                return -ENOMEM;
        if (!innermost && pthread_setspecific(key, &innermost) != 0) {
                free(entered);
                return -ENOMEM;
        }
        *entered = (struct entered){.outer = innermost, .ctx = ctx_ref(ctx)};
        innermost = entered;
        tell(before);
        return 0;
}

void ctx_leave(struct ctx *ctx)
{
        for (struct entered **place = &innermost; *place; place = &(*place)->outer) {
                if ((*place)->ctx != ctx)
                        continue;
                remove_entry(place);
                return;
        }
}

struct ctx *ctx_current(void)
{
        return innermost ? innermost->ctx : ctx_background();
}
