/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who shares, and how much one of them gets. */

#define SHARE_BLOCK 65536

/* The key of the party that a uid belongs to. From uid 65,536 on, where subordinate uids are, all uids of
 * a block of 65,536 are one party, since whoever may use one of them may use all. So a user is three
 * parties at most, with all these uids. */
static inline uint32_t share_party(uint32_t uid)
{
        return uid < SHARE_BLOCK ? uid : SHARE_BLOCK + uid / SHARE_BLOCK;
}

/* Whether a party that holds that many places of a table may have one more, if all together hold n of max. A
 * party gets an eighth of what the others leave, at most, so none can fill the table, nor can a few who work
 * together. A first place is given in any case, up to twice the size of the table. */
static inline bool share_admits(size_t held, size_t n, size_t max)
{
        size_t others = n - held;

        if (held == 0)
                return n < 2 * max;
        return others < max && held < (max - others) / 8;
}
