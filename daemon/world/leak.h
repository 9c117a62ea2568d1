/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* Leaks as the probe has reported them, kept for as long as their context. A context keeps a bounded number,
 * and so do all together; room is made by those that are over, the oldest first. */

struct anchor;
struct leaks;
struct probe_leak;
struct probe_resolved;
struct world;

struct leak {
        uint64_t leak_id; /* 0: of a probe that is gone */
        struct anchor *anchor;
        bool is_resolved;
        uint64_t found_usec, resolved_usec; /* CLOCK_BOOTTIME */
        uint32_t kind, backend;             /* enum probe_leak_kind, enum probe_backend */
        uint32_t pid, tid;
        uint64_t blocked_usec, since_done_usec, count;
        char comm[16];
        char syscall_text[96];
        char *waits_on, *why, *kernel_stack, *stack; /* never NULL */
        TAILQ_ENTRY(leak) leaks;                     /* of its context; or dropped */

        bool tell_found, tell_resolved; /* somebody is to be told of it */
        TAILQ_ENTRY(leak) news;
};

int leaks_new(struct leaks **ret, struct world *world);
struct leaks *leaks_free(struct leaks *ls); /* all contexts were dropped */

void leaks_add(struct leaks *ls, struct anchor *anchor, const struct probe_leak *record);
void leaks_resolve(struct leaks *ls, struct anchor *anchor, const struct probe_resolved *record);
/* No member is left: whatever was open is over. */
void leaks_left(struct leaks *ls, struct anchor *anchor);
void leaks_drop(struct leaks *ls, struct anchor *anchor);
/* Another probe, with leak ids of its own. */
void leaks_probe_new(struct leaks *ls);

uint64_t leaks_found(const struct leaks *ls); /* ever */
/* Contexts that have some: the first one, and the one after. */
struct anchor *leaks_first_context(const struct leaks *ls);
struct anchor *leaks_next_context(const struct anchor *anchor);

/* The first leak that somebody is to be told of, with what (tell_...); NULL: none. It is there until
 * leaks_collect(), even if its context drops it. The caller clears tell_..., and says when all was told. */
struct leak *leaks_first_news(const struct leaks *ls);
void leaks_news_told(struct leaks *ls, struct leak *leak);
void leaks_collect(struct leaks *ls);
