/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/service.h"

/* What goes on for a party though it does not call: large ends, deadlines that pass, contexts that are
 * forgotten. It is done in that party's turns, beside its calls, so however much of it there is at one
 * moment, others are served as if it were calls. What is nobody's, or not worth telling apart (facts, news,
 * later replies), has turns like one more party. */

int chores_init(struct service *s);
void chores_deinit(struct service *s);
/* Gives each party that is behind its turns, and one to what is nobody's. */
void chores_begin(struct service *s);
/* Whether members of what has ended for the party, in slices, have to get their signals. */
bool chores_signal(const struct service *s, const struct party *p);
/* Nobody has turns for that any more; tree_advance() does it. */
void chores_end(struct service *s);
