/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sys/mman.h>

#include "lib/local/callback-thread.h"
#include "lib/local/handler.h"
#include "lib/local/overdue.h"

/* Signal handlers. ctx_err() and ctx_cancel() may be called in one, whatever the thread was doing that it has
 * interrupted.
 *
 * Such a thread may be inside the library, hold the lock of a list of children, or walk over a tree. Then a
 * cancel in the handler makes its context done, which needs no lock, and puts the rest off: what is below
 * that context becomes done as soon as the thread leaves the lock or the walk, which no other thread can hold
 * up. A cancel allocates and frees nothing, since the thread may be inside malloc().
 *
 * Meanwhile there may be more signals, and more to do. The call that was interrupted does what was there when
 * it left the library, and a little more. The rest is left to the service thread, if that is running. */

#define MORE_MAX 64

struct postponed {
        struct postponed *next;
        struct ctx *ctx;
        uint64_t began;
        unsigned stripe; /* of the thread */
};

/* A few are there from the start. The others are taken from the kernel. */
static struct postponed pool[64];
static _Atomic uint64_t pool_used; /* a bit for each */

static struct postponed *postponed_new(void)
{
        uint64_t used = atomic_load(&pool_used);
        void *page;

        while (~used) {
                int i = __builtin_ctzll(~used);

                if (atomic_compare_exchange_weak(&pool_used, &used, used | UINT64_C(1) << i))
                        return &pool[i];
        }
        page = mmap(NULL, sizeof(struct postponed), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                        0);
        return page == MAP_FAILED ? NULL : page;
}

static void postponed_free(struct postponed *p)
{
        if (p >= pool && p < pool + 64)
                atomic_fetch_and(&pool_used, ~(UINT64_C(1) << (p - pool)));
        else
                munmap(p, sizeof(struct postponed));
}

/* What the service thread has to do. */
static struct postponed *_Atomic left;

/* This handler may be interrupted by another one. */
static void push(struct postponed *_Atomic *list, struct postponed *p)
{
        p->next = atomic_load(list);
        while (!atomic_compare_exchange_weak(list, &p->next, p))
                ;
}

/* A fork leaves the end and what is put off together. */
static int end_inside(struct ctx *ctx, uintptr_t done, bool always)
{
        struct postponed *p = postponed_new();
        uintptr_t end = ctx_end_word(ctx);
        bool first;

        if (!p)
                return end & END_STATE ? 0 : -ENOMEM;
        *p = (struct postponed){.ctx = ctx_ref(ctx), .began = walk_begin(), .stripe = nest_thread_stripe()};
        do
                first = !(end & END_STATE);
        while (first && !atomic_compare_exchange_weak(&ctx->end, &end, done));
        if (first || always) {
                push(&inside_me()->postponed, p);
                return first;
        }
        walk_over(p->began);
        postponed_free(p);
        /* The caller has a reference as well. */
        atomic_fetch_sub_explicit(&ctx->child.refs, 1, memory_order_release);
        return 0;
}

static int end_or_finish(struct ctx *ctx, uintptr_t done, bool always)
{
        int r;

        nest_deeper();
        r = end_inside(ctx, done, always);
        nest_less_deep();
        return r;
}

int handler_end(struct ctx *ctx, uintptr_t done)
{
        return end_or_finish(ctx, done, false);
}

int handler_finish(struct ctx *ctx, uintptr_t done)
{
        return end_or_finish(ctx, done, true);
}

static void adopt(struct postponed *list)
{
        while (list) {
                struct postponed *next = list->next;

                push(&inside_me()->postponed, list);
                list = next;
        }
}

void handler_adopt(struct postponed *list)
{
        adopt(list);
        adopt(atomic_exchange(&left, NULL));
}

static void end_one(struct postponed *p, struct ctx_after **direct)
{
        ctx_end_postponed(p->ctx, p->began, p->stripe, direct);
        postponed_free(p);
}

/* Does all of the list, or so much of it, and leaves the rest to the service thread. A fork finds each of
 * them in a list, or waits. */
static void end_list(struct postponed *_Atomic *list, size_t *budget)
{
        struct ctx_after *direct = NULL;
        struct postponed *p, *next;

        nest_deeper();
        for (p = atomic_exchange(list, NULL); p; p = next) {
                next = p->next;
                if (budget && *budget == 0) {
                        push(&left, p);
                        continue;
                }
                end_one(p, &direct);
                if (budget)
                        --*budget;
        }
        inside_less_deep();
        after_run_list(direct);
}

void nest_settle(void)
{
        struct inside *me = inside_mine;
        size_t budget = MORE_MAX;

        if (nest_is_inside())
                return;
        end_list(&me->postponed, NULL);
        while (atomic_load(&me->postponed)) {
                end_list(&me->postponed, service_thread_is_there() ? &budget : NULL);
                if (atomic_load(&left))
                        service_thread_wake();
        }
}

bool handler_serve(void)
{
        if (!atomic_load(&left))
                return false;
        end_list(&left, NULL);
        return true;
}
