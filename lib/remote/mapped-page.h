/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/state-page.h"

/* State pages, mapped once each: thousands of contexts share one mapping. */

struct page;

/* Looks fd's page up in the list, or maps it and adds it. fd stays the caller's. 0 with the slot and its page, or
 * -EBADMSG where that is no state page or offset no slot of it. */
int page_slot(struct page **pages, int fd, uint64_t offset, const struct state_slot **ret_slot,
                struct page **ret_page);
/* Unmaps all. */
struct page *page_free_all(struct page *pages);

/* The header's word that says whether somebody writes here. */
const _Atomic uint32_t *page_keeper(const struct page *page);
bool page_is_kept(const struct page *page);
/* Whose it is, or was; 0: given up for good. */
uint64_t page_epoch(const struct page *page);
/* For how long it has been known that nobody keeps it, in µs; counts from the first call that finds it so. */
uint64_t page_orphaned_usec(struct page *page);
