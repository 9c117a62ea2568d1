/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* The one timer of the tree. It runs on CLOCK_BOOTTIME, so the time of a suspend counts. */

struct timer;
struct world;

int timer_new(struct timer **ret, struct world *world);
struct timer *timer_free(struct timer *t);
/* Raises FACT_TIME at that time, or never (UINT64_MAX). */
void timer_set(struct timer *t, uint64_t usec);
