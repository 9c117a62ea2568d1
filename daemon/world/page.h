/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* State pages (proto/state-page.h): a set of memfds for each owning uid, each a header and slots. A context
 * gets a slot when somebody asks for it, and keeps it until it is forgotten. */

struct anchor;
struct pages;
struct world;

/* What a slot says. */
struct page_state {
        uid_t uid;              /* the context's owner, in whose pages it stands */
        uint64_t word;          /* enum state_word */
        uint64_t deadline_usec; /* the effective one */
};

int pages_new(struct pages **ret, struct world *world, uint64_t epoch);
struct pages *pages_free(struct pages *ps);

/* Made on first use. The descriptor is read-only and borrowed; the word has the slot's generation and no
 * state. */
int page_get(struct pages *ps, struct anchor *anchor, const struct page_state *state, int *ret_fd,
                uint64_t *ret_offset, uint64_t *ret_word);
void page_update(struct anchor *anchor, const struct page_state *state);
void page_drop(struct pages *ps, struct anchor *anchor);
