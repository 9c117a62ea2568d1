/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct probe;

/* Judges the threads by the samples of the sweep that began then, and makes leaks of those who do not stop.
 * Evidence takes time, of which there is a budget for each sweep. It goes to one user after the other, so
 * that a crowd of one user's threads does not keep the others' from being judged. Returns whether the budget
 * was used up: the rest waits for the next sweep. */
bool verdict_pass(struct probe *probe, uint64_t begin);
