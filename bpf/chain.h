/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "bpf/sample.h"

/* Who waits for whom among the samples of one sweep. */

/* Sorts them for the look-ups below. */
void chain_sort(struct sample *samples, size_t n);
/* A process that this thread waits for; NULL: none, or it waits for something else. */
const struct sample *chain_awaited(const struct sample *samples, size_t n, const struct sample *waiter);
/* A thread that waits for this one's process. */
const struct sample *chain_waiter(const struct sample *samples, size_t n, const struct sample *child);
