/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Whether a user who holds that many places of a table may have one more, if all users hold n of max. A user
 * gets an eighth of what the others leave, at most, so no user can fill the table, nor can a few who work
 * together. A first place is given in any case, up to twice the size of the table. */
static inline bool share_admits(size_t held, size_t n, size_t max)
{
        size_t others = n - held;

        if (held == 0)
                return n < 2 * max;
        return others < max && held < (max - others) / 8;
}
