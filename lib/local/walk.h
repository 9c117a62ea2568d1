/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* The caller has made root done, and holds its lock, which is released; word is its word without that. Makes
 * all below it done. began: a deadline that has passed by then was first. */
void walk_tree(struct ctx *root, uint32_t word, uint64_t began, struct ctx_after **direct);
/* Waits for the walk of another thread in source. */
void walk_wait(struct ctx *source);
