/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "bpf/sample.h"

/* Which thread waits for which process, among the samples of one sweep. */

/* Sorts the samples, as the functions below need them. */
void chain_sort(struct sample *samples, size_t n);
/* A thread of a process that this thread waits for. NULL: it waits for none. */
const struct sample *chain_awaited(const struct sample *samples, size_t n, const struct sample *waiter);
/* A thread that waits for the process of this one, or NULL. */
const struct sample *chain_waiter(const struct sample *samples, size_t n, const struct sample *child);
