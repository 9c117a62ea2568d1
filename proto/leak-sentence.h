/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known of a leak, as the journal's fields name it. Texts that are not known are "". */
struct leak_facts {
        const char *comm;
        uint32_t pid, tid;
        bool ignoring; /* else it is blocked */
        bool more;     /* it is about so many threads (count) that are not named one by one */
        const char *context;
        const char *err, *cause;
        uint32_t cause_uid; /* UINT32_MAX: it needs not be said whose words the cause is */
        uint64_t since_done_usec;
        const char *syscall, *waits_on;
        const char *stack;     /* its first line is the place that is named */
        uint64_t blocked_usec; /* UINT64_MAX: not known */
        uint64_t count;        /* threads in the same place; UINT64_MAX: not known */
        int percent;           /* of a CPU, where it is ignoring; -1: not known */
};

/* The one sentence about a leak, for the journal and for ctxctl:
 *
 *     worker[4242/4250] is still blocked 5.0s after context web/req-17 was canceled (client went away):
 *     read(7) on pipe:[88123], asleep for 17.3s
 *
 * Where others might take a user's words for the writer's, it says "(user 1001: client went away)". It is cut
 * where it does not fit. */
void leak_sentence_found(const struct leak_facts *leak, char *ret, size_t size);
/* how: what became of the thread ("it has left"). */
void leak_sentence_resolved(const struct leak_facts *leak, const char *how, char *ret, size_t size);
