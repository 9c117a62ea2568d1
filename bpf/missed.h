/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The processes at which a sweep could not look. That it has not seen their threads means nothing. */

struct missed {
        uint32_t *pids;
        size_t n, n_allocated;
};

/* r: what the look has returned. One that was seen, or has gone, is not missed. */
void missed_add(struct missed *m, uint32_t pid, int r);
/* After the last one, before missed_has(). */
void missed_sort(struct missed *m);
bool missed_has(const struct missed *m, uint32_t pid);
