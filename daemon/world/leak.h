/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* Leaks as the probe has reported them. They are kept as long as their context. The user whose process it is
 * pays for a leak, and has a share of the open ones and one of the resolved ones (util/share.h), whatever
 * others have. Of the resolved ones the oldest makes room. Open ones for which there is no room are counted,
 * in a leak of the kind "more", which each context has once at most, and for which nobody pays. */

struct anchor;
struct leaks;
struct probe_leak;
struct probe_resolved;
struct world;

struct leak {
        uint64_t leak_id; /* 0: a probe that is gone has reported it */
        struct anchor *anchor;
        bool is_resolved;
        uint64_t resolved_number;           /* so many were resolved by then, with this one */
        uint64_t found_usec, resolved_usec; /* CLOCK_BOOTTIME */
        uint32_t kind, backend;             /* enum probe_leak_kind, enum probe_backend */
        uint32_t pid, tid;
        uint32_t reader, kernel_reader; /* who may see the texts, and the kernel stack (struct probe_leak) */
        uint64_t blocked_usec, since_done_usec, count;
        char comm[16];
        char syscall_text[96];
        char *waits_on, *why, *kernel_stack, *stack; /* never NULL */
        TAILQ_ENTRY(leak) leaks;                     /* in its context's list, or in that of dropped ones */
        struct leak_user *user;                      /* who pays; NULL: nobody */
        TAILQ_ENTRY(leak) resolved;                  /* of that user, once it is */

        bool tell_found, tell_resolved; /* this news was not given yet */
        TAILQ_ENTRY(leak) news;
};

int leaks_new(struct leaks **ret, struct world *world);
struct leaks *leaks_free(struct leaks *ls); /* all contexts have to be dropped before */

void leaks_add(struct leaks *ls, struct anchor *anchor, const struct probe_leak *record);
void leaks_resolve(struct leaks *ls, struct anchor *anchor, const struct probe_resolved *record);
/* The last member of the context has left, so all its leaks are resolved. */
void leaks_left(struct leaks *ls, struct anchor *anchor);
/* The context is forgotten. */
void leaks_drop(struct leaks *ls, struct anchor *anchor);
/* There is another probe, which has leak ids of its own. */
void leaks_probe_new(struct leaks *ls);

/* How many leaks were ever found. */
uint64_t leaks_found(const struct leaks *ls);

/* Goes through all leaks twice, context by context: first come those that were open when it began, and then
 * those that had been resolved. Contexts and leaks may come and go meanwhile; what is new may be left out. */
struct leak_cursor {
        struct leaks *leaks; /* NULL: not in use */
        struct leak *next;
        bool resolved_ones;
        uint64_t n_resolved; /* when it began */
        LIST_ENTRY(leak_cursor) cursors;
};

void leaks_begin(struct leaks *ls, struct leak_cursor *cursor);
/* NULL: there are no more. Whether it is this one's turn; the others come in the other round. */
struct leak *leaks_next(struct leak_cursor *cursor, bool *ret_is_its_turn);
/* Leaves out what is left of this context in this round. */
void leaks_skip(struct leak_cursor *cursor, const struct anchor *anchor);
void leaks_end(struct leak_cursor *cursor);

/* The first leak of which there is news, or NULL. Its fields tell_found and tell_resolved say which. The
 * caller clears them, and calls leaks_news_told() when both are clear. The leak exists until leaks_collect(),
 * even if its context drops it. */
struct leak *leaks_first_news(const struct leaks *ls);
void leaks_news_told(struct leaks *ls, struct leak *leak);
/* Frees the dropped leaks of which there is no news. */
void leaks_collect(struct leaks *ls);
