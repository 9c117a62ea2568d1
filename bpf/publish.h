/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

struct leak;
struct probe;

/* What becomes of a leak: a record for ctxd, and entries for the journal. Of these each user has so many in a
 * minute, and each process too. Those that are left out are counted, and their number is an entry. A
 * resolution is not left out; it comes later. */

int publish_init(struct probe *probe);
void publish_deinit(struct probe *probe);

/* Fills in where the thread of a new leak is and why it does not end, if that may be told. */
void publish_describe(struct probe *probe, struct leak *leak);
/* Reports the new leaks, and again the old ones that are due. */
void publish_all(struct probe *probe, uint64_t now);
/* The leak was in the journal, and is over. */
void publish_resolved(struct probe *probe, struct leak *leak);
/* Says in which contexts threads are that nobody looks at. */
void publish_unseen(struct probe *probe, uint64_t now);
/* Is called before the record is sent or read: takes back what may not be told any more. */
void publish_prepare(struct probe *probe, struct leak *leak);
