/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/world/anchor.h"
#include "daemon/world/leak.h"
#include "daemon/world/world.h"
#include "proto/probe-record.h"
#include "util/utf8.h"

#define LEAKS_OF_CONTEXT_MAX 64
#define LEAKS_MAX 4096

struct leaks {
        struct world *world;
        LIST_HEAD(, anchor) leaky;
        uint32_t n; /* kept */
        uint64_t n_found;
        TAILQ_HEAD(leak_list, leak) news;
        struct leak_list dropped;
};

int leaks_new(struct leaks **ret, struct world *world)
{
        struct leaks *ls = calloc(1, sizeof *ls);

        if (!ls)
                return -ENOMEM;
        ls->world = world;
        LIST_INIT(&ls->leaky);
        TAILQ_INIT(&ls->news);
        TAILQ_INIT(&ls->dropped);
        *ret = ls;
        return 0;
}

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

static void leak_drop(struct leaks *ls, struct leak *l)
{
        struct anchor *anchor = l->anchor;

        TAILQ_REMOVE(&anchor->leaks, l, leaks);
        if (--anchor->n_leaks == 0)
                LIST_REMOVE(anchor, leaky);
        ls->n--;
        /* There may still be news of it. */
        TAILQ_INSERT_TAIL(&ls->dropped, l, leaks);
}

static bool drop_one_resolved(struct leaks *ls, struct anchor *anchor)
{
        struct leak *l;

        TAILQ_FOREACH (l, &anchor->leaks, leaks)
                if (l->is_resolved) {
                        leak_drop(ls, l);
                        return true;
                }
        return false;
}

static bool make_room(struct leaks *ls, struct anchor *anchor)
{
        struct anchor *other;

        if (anchor->n_leaks >= LEAKS_OF_CONTEXT_MAX && !drop_one_resolved(ls, anchor))
                return false;
        if (ls->n < LEAKS_MAX)
                return true;
        LIST_FOREACH (other, &ls->leaky, leaky)
                if (drop_one_resolved(ls, other))
                        return true;
        return false;
}

/* Puts the leak into the list of news, if it is not there. */
static void tell(struct leaks *ls, struct leak *l)
{
        if (!l->tell_found && !l->tell_resolved)
                TAILQ_INSERT_TAIL(&ls->news, l, news);
}

/* One probe gives a leak the same number each time. Another probe finds the same thread again, and numbers it
 * anew. */
static struct leak *leak_find(struct anchor *anchor, const struct probe_leak *record)
{
        struct leak *l;

        TAILQ_FOREACH (l, &anchor->leaks, leaks)
                if (record->leak_id == l->leak_id)
                        return l;
        TAILQ_FOREACH (l, &anchor->leaks, leaks)
                if (l->leak_id == 0 && !l->is_resolved && l->pid == record->pid && l->tid == record->tid)
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

void leaks_add(struct leaks *ls, struct anchor *anchor, const struct probe_leak *record)
{
        struct leak *l = leak_find(anchor, record);

        if (l) {
                if (!l->is_resolved)
                        (void) leak_fill(l, record);
                return;
        }
        if (!make_room(ls, anchor))
                return;
        l = calloc(1, sizeof *l);
        if (!l || !leak_fill(l, record)) {
                free(l);
                return;
        }
        l->anchor = anchor;
        l->found_usec = world_now_usec(ls->world);
        TAILQ_INSERT_TAIL(&anchor->leaks, l, leaks);
        if (anchor->n_leaks++ == 0)
                LIST_INSERT_HEAD(&ls->leaky, anchor, leaky);
        ls->n++;
        ls->n_found++;
        tell(ls, l);
        l->tell_found = true;
}

static void leak_end(struct leaks *ls, struct leak *l)
{
        if (l->is_resolved)
                return;
        l->is_resolved = true;
        l->resolved_usec = world_now_usec(ls->world);
        tell(ls, l);
        l->tell_resolved = true;
}

void leaks_resolve(struct leaks *ls, struct anchor *anchor, const struct probe_resolved *record)
{
        struct leak *l;

        TAILQ_FOREACH (l, &anchor->leaks, leaks)
                if (l->leak_id == record->leak_id)
                        leak_end(ls, l);
}

void leaks_left(struct leaks *ls, struct anchor *anchor)
{
        struct leak *l;

        TAILQ_FOREACH (l, &anchor->leaks, leaks)
                leak_end(ls, l);
}

void leaks_drop(struct leaks *ls, struct anchor *anchor)
{
        while (!TAILQ_EMPTY(&anchor->leaks))
                leak_drop(ls, TAILQ_FIRST(&anchor->leaks));
}

void leaks_probe_new(struct leaks *ls)
{
        struct anchor *anchor;
        struct leak *l;

        LIST_FOREACH (anchor, &ls->leaky, leaky)
                TAILQ_FOREACH (l, &anchor->leaks, leaks)
                        l->leak_id = 0;
}

uint64_t leaks_found(const struct leaks *ls)
{
        return ls->n_found;
}

struct anchor *leaks_first_context(const struct leaks *ls)
{
        return LIST_FIRST(&ls->leaky);
}

struct anchor *leaks_next_context(const struct anchor *anchor)
{
        return LIST_NEXT(anchor, leaky);
}

struct leak *leaks_first_news(const struct leaks *ls)
{
        return TAILQ_FIRST(&ls->news);
}

void leaks_news_told(struct leaks *ls, struct leak *leak)
{
        TAILQ_REMOVE(&ls->news, leak, news);
}

void leaks_collect(struct leaks *ls)
{
        struct leak *l, *next;

        for (l = TAILQ_FIRST(&ls->dropped); l; l = next) {
                next = TAILQ_NEXT(l, leaks);
                if (l->tell_found || l->tell_resolved)
                        continue;
                TAILQ_REMOVE(&ls->dropped, l, leaks);
                leak_free(l);
        }
}

struct leaks *leaks_free(struct leaks *ls)
{
        struct leak *l;

        if (!ls)
                return NULL;
        assert(LIST_EMPTY(&ls->leaky));
        while ((l = TAILQ_FIRST(&ls->dropped))) {
                TAILQ_REMOVE(&ls->dropped, l, leaks);
                leak_free(l);
        }
        free(ls);
        return NULL;
}
