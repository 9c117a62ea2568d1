/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/world/anchor.h"
#include "daemon/world/leak.h"
#include "daemon/world/world.h"
#include "proto/probe-record.h"
#include "util/share.h"
#include "util/utf8.h"

/* A uid, or all subordinate uids of a block. */
struct leak_user {
        uint32_t party;
        uint32_t n_open, n_resolved;
        TAILQ_HEAD(leak_list, leak) resolved; /* the oldest first */
        UT_hash_handle hh;
};

struct leaks {
        struct world *world;
        LIST_HEAD(, anchor) leaky;
        struct leak_user *users;
        uint32_t n_open, n_resolved; /* of all users */
        uint64_t n_found, n_ended;
        LIST_HEAD(, leak_cursor) cursors;
        struct leak_list news;
        struct leak_list dropped;
};

int leaks_new(struct leaks **ret, struct world *world)
{
        struct leaks *ls = calloc(1, sizeof *ls);

        if (!ls)
                return -ENOMEM;
        ls->world = world;
        LIST_INIT(&ls->leaky);
        LIST_INIT(&ls->cursors);
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

static struct leak_user *user_get(struct leaks *ls, uint32_t uid)
{
        uint32_t party = share_party(uid);
        struct leak_user *user;

        HASH_FIND(hh, ls->users, &party, sizeof party, user);
        if (user)
                return user;
        user = calloc(1, sizeof *user);
        if (!user)
                return NULL;
        user->party = party;
        TAILQ_INIT(&user->resolved);
        HASH_ADD(hh, ls->users, party, sizeof user->party, user);
        return user;
}

static void user_put(struct leaks *ls, struct leak_user *user)
{
        if (user->n_open > 0 || user->n_resolved > 0)
                return;
        HASH_DELETE(hh, ls->users, user);
        free(user);
}

/* Nobody pays for the leak any more. */
static void discharge(struct leaks *ls, struct leak *l)
{
        struct leak_user *user = l->user;

        if (!user)
                return;
        if (l->is_resolved) {
                TAILQ_REMOVE(&user->resolved, l, resolved);
                user->n_resolved--;
                ls->n_resolved--;
        } else {
                user->n_open--;
                ls->n_open--;
        }
        l->user = NULL;
        user_put(ls, user);
}

static struct leak *first_of(const struct anchor *anchor)
{
        return anchor ? TAILQ_FIRST(&anchor->leaks) : NULL;
}

static struct leak *leak_after(const struct leak *l)
{
        struct leak *next = TAILQ_NEXT(l, leaks);

        return next ? next : first_of(LIST_NEXT(l->anchor, leaky));
}

static void leak_drop(struct leaks *ls, struct leak *l)
{
        struct anchor *anchor = l->anchor;
        struct leak_cursor *cursor;

        LIST_FOREACH (cursor, &ls->cursors, cursors)
                if (cursor->next == l)
                        cursor->next = leak_after(l);

        discharge(ls, l);
        TAILQ_REMOVE(&anchor->leaks, l, leaks);
        if (--anchor->n_leaks == 0)
                LIST_REMOVE(anchor, leaky);
        /* There may still be news of it. */
        TAILQ_INSERT_TAIL(&ls->dropped, l, leaks);
}

/* An open leak is charged to the user. False: there is no room for it. */
static bool charge_open(struct leaks *ls, struct leak *l, uint32_t uid)
{
        struct leak_user *user = user_get(ls, uid);

        if (!user)
                return false;
        if (!share_admits(user->n_open, ls->n_open, PROBE_LEAKS_MAX)) {
                user_put(ls, user);
                return false;
        }
        user->n_open++;
        ls->n_open++;
        l->user = user;
        return true;
}

/* An open leak becomes a resolved one. */
static void charge_resolved(struct leaks *ls, struct leak *l)
{
        struct leak_user *user = l->user;

        if (!user)
                return;
        user->n_open--;
        ls->n_open--;
        user->n_resolved++;
        ls->n_resolved++;
        TAILQ_INSERT_TAIL(&user->resolved, l, resolved);
        l->is_resolved = true;
        while (user->n_resolved > 1 &&
                        !share_admits(user->n_resolved - 1, ls->n_resolved - 1, PROBE_LEAKS_MAX))
                leak_drop(ls, TAILQ_FIRST(&user->resolved));
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

        if (record->kind == PROBE_LEAK_MORE) {
                TAILQ_FOREACH (l, &anchor->leaks, leaks)
                        if (l->kind == PROBE_LEAK_MORE)
                                break;
                return l;
        }
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
        l->reader = record->reader;
        l->kernel_reader = record->kernel_reader;
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

static struct leak *leak_new(struct leaks *ls, struct anchor *anchor, const struct probe_leak *record)
{
        struct leak *l = calloc(1, sizeof *l);

        if (!l)
                return NULL;
        if (record->kind != PROBE_LEAK_MORE && !charge_open(ls, l, record->uid)) {
                free(l);
                return NULL;
        }
        if (!leak_fill(l, record)) {
                discharge(ls, l);
                return leak_free(l);
        }
        l->anchor = anchor;
        l->found_usec = world_now_usec(ls->world);
        TAILQ_INSERT_TAIL(&anchor->leaks, l, leaks);
        if (anchor->n_leaks++ == 0)
                LIST_INSERT_HEAD(&ls->leaky, anchor, leaky);
        tell(ls, l);
        l->tell_found = true;
        return l;
}

/* There is no room for the leak. The probe knows of a user's share, and does not report so many; but it may
 * err, or be another one. */
static void count_more(struct leaks *ls, struct anchor *anchor, const struct probe_leak *record)
{
        struct probe_leak more = {
                        .context_id = record->context_id,
                        .kind = PROBE_LEAK_MORE,
                        .backend = record->backend,
                        .reader = PROBE_NOBODY,
                        .kernel_reader = PROBE_NOBODY,
                        .blocked_usec = UINT64_MAX,
                        .since_done_usec = record->since_done_usec,
        };
        struct leak *l = leak_find(anchor, &more);

        if (!l)
                l = leak_new(ls, anchor, &more);
        if (l)
                l->count++;
}

void leaks_add(struct leaks *ls, struct anchor *anchor, const struct probe_leak *record)
{
        struct leak *l = leak_find(anchor, record);

        if (l) {
                if (!l->is_resolved)
                        (void) leak_fill(l, record);
                return;
        }
        if (leak_new(ls, anchor, record))
                ls->n_found += record->kind != PROBE_LEAK_MORE;
        else if (record->kind != PROBE_LEAK_MORE)
                count_more(ls, anchor, record);
}

static void leak_end(struct leaks *ls, struct leak *l)
{
        if (l->is_resolved)
                return;
        charge_resolved(ls, l);
        l->is_resolved = true;
        l->resolved_number = ++ls->n_ended;
        l->resolved_usec = world_now_usec(ls->world);
        tell(ls, l);
        l->tell_resolved = true;
        /* It says nothing once it is over. */
        if (l->kind == PROBE_LEAK_MORE)
                leak_drop(ls, l);
}

void leaks_resolve(struct leaks *ls, struct anchor *anchor, const struct probe_resolved *record)
{
        struct leak *l;

        TAILQ_FOREACH (l, &anchor->leaks, leaks)
                if (l->leak_id == record->leak_id) {
                        leak_end(ls, l);
                        return;
                }
}

/* The end of one may drop older ones, but these are resolved. */
static struct leak *first_open(const struct anchor *anchor)
{
        struct leak *l;

        TAILQ_FOREACH (l, &anchor->leaks, leaks)
                if (!l->is_resolved)
                        break;
        return l;
}

void leaks_left(struct leaks *ls, struct anchor *anchor)
{
        struct leak *l, *next;

        for (l = first_open(anchor); l; l = next) {
                for (next = TAILQ_NEXT(l, leaks); next && next->is_resolved;)
                        next = TAILQ_NEXT(next, leaks);
                leak_end(ls, l);
        }
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

void leaks_begin(struct leaks *ls, struct leak_cursor *cursor)
{
        *cursor = (struct leak_cursor){
                        .leaks = ls, .next = first_of(LIST_FIRST(&ls->leaky)), .n_resolved = ls->n_ended};
        LIST_INSERT_HEAD(&ls->cursors, cursor, cursors);
}

struct leak *leaks_next(struct leak_cursor *cursor, bool *ret_is_its_turn)
{
        struct leak *l = cursor->next;

        if (!l && !cursor->resolved_ones) {
                cursor->resolved_ones = true;
                l = first_of(LIST_FIRST(&cursor->leaks->leaky));
        }
        if (!l)
                return NULL;
        cursor->next = leak_after(l);
        *ret_is_its_turn =
                        cursor->resolved_ones == (l->is_resolved && l->resolved_number <= cursor->n_resolved);
        return l;
}

void leaks_skip(struct leak_cursor *cursor, const struct anchor *anchor)
{
        if (cursor->next && cursor->next->anchor == anchor)
                cursor->next = first_of(LIST_NEXT(anchor, leaky));
}

void leaks_end(struct leak_cursor *cursor)
{
        if (cursor->leaks)
                LIST_REMOVE(cursor, cursors);
        cursor->leaks = NULL;
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
        assert(LIST_EMPTY(&ls->leaky) && LIST_EMPTY(&ls->cursors) && !ls->users);
        while ((l = TAILQ_FIRST(&ls->dropped))) {
                TAILQ_REMOVE(&ls->dropped, l, leaks);
                leak_free(l);
        }
        free(ls);
        return NULL;
}
