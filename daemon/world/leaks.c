/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/world/internal.h"
#include "util/clock.h"
#include "util/utf8.h"

/* Leaks as the probe has reported them, for Leaks(): kept on the slot of their context, for as long as that
 * lives. A context keeps a bounded number, and so do all together; room is made by those that are over, the
 * oldest first. */

#define LEAKS_OF_CONTEXT_MAX 64
#define LEAKS_MAX 4096

static struct leak *leak_free(struct leak *l)
{
        if (!l)
                return NULL;
        free(l->waits_on);
        free(l->why);
        free(l->kernel_stack);
        free(l->stack);
        free(l);
        return NULL;
}

static void leak_drop(struct effects *e, struct member_slot *slot, struct leak *l)
{
        TAILQ_REMOVE(&slot->leaks, l, leaks);
        if (--slot->n_leaks == 0)
                LIST_REMOVE(slot, leaky);
        e->membership.n_leaks--;
        leak_free(l);
}

static bool drop_one_resolved(struct effects *e, struct member_slot *slot)
{
        struct leak *l;

        TAILQ_FOREACH (l, &slot->leaks, leaks)
                if (l->resolved) {
                        leak_drop(e, slot, l);
                        return true;
                }
        return false;
}

static bool make_room(struct effects *e, struct member_slot *slot)
{
        struct member_slot *other;

        if (slot->n_leaks >= LEAKS_OF_CONTEXT_MAX && !drop_one_resolved(e, slot))
                return false;
        if (e->membership.n_leaks < LEAKS_MAX)
                return true;
        LIST_FOREACH (other, &e->membership.leaky, leaky)
                if (drop_one_resolved(e, other))
                        return true;
        return false;
}

/* The same leak has the same number from the same probe; another probe finds the same thread again. */
static struct leak *leak_find(struct member_slot *slot, const struct probe_leak *record)
{
        struct leak *l;

        TAILQ_FOREACH (l, &slot->leaks, leaks)
                if (record->leak_id == l->leak_id)
                        return l;
        TAILQ_FOREACH (l, &slot->leaks, leaks)
                if (l->leak_id == 0 && !l->resolved && l->pid == record->pid && l->tid == record->tid)
                        return l;
        return NULL;
}

static char *text(const char *s, size_t size)
{
        char *copy = strndup(s, size);

        if (copy)
                (void) utf8_mend(copy);
        return copy;
}

#define TEXT(field) text(field, sizeof(field))

static bool leak_fill(struct leak *l, const struct probe_leak *record)
{
        char *waits_on = TEXT(record->waits_on), *why = TEXT(record->why);
        char *kernel_stack = TEXT(record->kernel_stack), *stack = TEXT(record->stack);

        if (!waits_on || !why || !kernel_stack || !stack) {
                free(waits_on);
                free(why);
                free(kernel_stack);
                free(stack);
                return false;
        }
        free(l->waits_on);
        free(l->why);
        free(l->kernel_stack);
        free(l->stack);
        l->waits_on = waits_on;
        l->why = why;
        l->kernel_stack = kernel_stack;
        l->stack = stack;
        l->leak_id = record->leak_id;
        l->kind = record->kind;
        l->backend = record->backend;
        l->pid = record->pid;
        l->tid = record->tid;
        l->blocked_usec = record->blocked_usec;
        l->since_done_usec = record->since_done_usec;
        l->count = record->count;
        memcpy(l->comm, record->comm, sizeof l->comm);
        l->comm[sizeof l->comm - 1] = '\0';
        (void) utf8_mend(l->comm);
        memcpy(l->syscall_text, record->syscall_text, sizeof l->syscall_text);
        l->syscall_text[sizeof l->syscall_text - 1] = '\0';
        (void) utf8_mend(l->syscall_text);
        return true;
}

void leaks_add(struct effects *e, const struct probe_leak *record)
{
        struct member_slot *slot = membership_slot(e, record->context_id);
        struct leak *l;

        if (!slot || !slot->context || !slot->context->busy)
                return; /* it has left while the report was on its way */
        l = leak_find(slot, record);
        if (l) {
                if (!l->resolved)
                        (void) leak_fill(l, record);
                return;
        }
        if (!make_room(e, slot))
                return;
        l = calloc(1, sizeof *l);
        if (!l || !leak_fill(l, record)) {
                free(l);
                return;
        }
        l->context_id = record->context_id;
        l->found_usec = now_boottime_usec();
        TAILQ_INSERT_TAIL(&slot->leaks, l, leaks);
        if (slot->n_leaks++ == 0)
                LIST_INSERT_HEAD(&e->membership.leaky, slot, leaky);
        e->membership.n_leaks++;
        e->membership.leaks_found++;
        if (e->sink->leak_found)
                e->sink->leak_found(e->userdata, slot->context, l);
}

static void resolve(struct effects *e, struct member_slot *slot, struct leak *l)
{
        if (l->resolved)
                return;
        l->resolved = true;
        l->resolved_usec = now_boottime_usec();
        if (e->sink->leak_resolved)
                e->sink->leak_resolved(e->userdata, slot->context, l);
}

void leaks_resolve(struct effects *e, const struct probe_resolved *record)
{
        struct member_slot *slot = membership_slot(e, record->context_id);
        struct leak *l;

        if (!slot || !slot->context)
                return;
        TAILQ_FOREACH (l, &slot->leaks, leaks)
                if (l->leak_id == record->leak_id)
                        resolve(e, slot, l);
}

void leaks_left(struct effects *e, struct member_slot *slot)
{
        struct leak *l;

        TAILQ_FOREACH (l, &slot->leaks, leaks)
                resolve(e, slot, l);
}

void leaks_drop(struct effects *e, struct member_slot *slot)
{
        while (!TAILQ_EMPTY(&slot->leaks))
                leak_drop(e, slot, TAILQ_FIRST(&slot->leaks));
}

void leaks_probe_new(struct effects *e)
{
        struct member_slot *slot;
        struct leak *l;

        LIST_FOREACH (slot, &e->membership.leaky, leaky)
                TAILQ_FOREACH (l, &slot->leaks, leaks)
                        l->leak_id = 0; /* a number of the last probe's means nothing to this one */
}

int leaks_each(struct effects *e, const struct context *c,
                int (*cb)(void *userdata, struct context *c, const struct leak *leak), void *userdata)
{
        int r;

        for (int resolved = 0; resolved <= 1; resolved++) {
                struct member_slot *slot;

                LIST_FOREACH (slot, &e->membership.leaky, leaky) {
                        struct leak *l;

                        if (!slot->context || (c && !context_is_below(slot->context, c)))
                                continue;
                        TAILQ_FOREACH (l, &slot->leaks, leaks) {
                                if (l->resolved != (resolved == 1))
                                        continue;
                                r = cb(userdata, slot->context, l);
                                if (r != 0)
                                        return r;
                        }
                }
        }
        return 0;
}

uint64_t leaks_found(const struct effects *e)
{
        return e->membership.leaks_found;
}
