/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who shares, and how much one of them gets. */

#define SHARE_BLOCK 65536
#define SHARE_FIRST 100000 /* SUB_UID_MIN of login.defs(5) */

/* The key of the party that a uid belongs to. Users have subordinate uids in blocks of 65,536 from 100,000 on
 * (useradd(8)). All uids of such a block are one party, since whoever may use one of them may use all, and so
 * are those from 65,536 to the first block. A user whose block begins elsewhere is three parties at most, and
 * one of them is another user's, too. */
static inline uint32_t share_party(uint32_t uid)
{
        if (uid < SHARE_BLOCK)
                return uid;
        return uid < SHARE_FIRST ? SHARE_BLOCK : SHARE_BLOCK + 1 + (uid - SHARE_FIRST) / SHARE_BLOCK;
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
