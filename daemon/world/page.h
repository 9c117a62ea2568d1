/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* State pages (proto/state-page.h). Each uid that owns contexts has a set of memfds, each with a header and
 * slots. A context gets a slot when somebody asks for it, and keeps the slot until it is forgotten. */

struct anchor;
struct pages;
struct world;

/* What a slot says. */
struct page_state {
        uid_t uid;              /* the context's owner, in whose pages it stands */
        uint64_t word;          /* enum state_word */
        uint64_t deadline_usec; /* the effective one */
};

/* Where the slot of a context is. */
struct page_place {
        int fd;          /* read-only and borrowed */
        uint64_t number; /* of the page, as its header says; no other page has it */
        uint64_t offset;
        uint64_t word; /* the generation of the slot, but no state */
};

int pages_new(struct pages **ret, struct world *world, uint64_t epoch);
struct pages *pages_free(struct pages *ps);

/* Gives the slot of a context, and makes it on first use. */
int page_get(struct pages *ps, struct anchor *anchor, const struct page_state *state, struct page_place *ret);
/* Writes the state into the context's slot, if it has one. */
void page_update(struct anchor *anchor, const struct page_state *state);
/* The context is forgotten, and its slot is free for another one. */
void page_drop(struct pages *ps, struct anchor *anchor);
