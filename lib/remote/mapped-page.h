/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/state-page.h"

/* State pages, mapped once each: thousands of contexts share one mapping. */

struct mapped_page;

/* Looks fd's page up in the list, or maps it and adds it. fd stays the caller's. 0 with the slot and its page, or
 * -EBADMSG where that is no state page or offset no slot of it. */
int mapped_page_slot(struct mapped_page **pages, int fd, uint64_t offset, const struct state_slot **ret_slot,
                struct mapped_page **ret_page);
/* Unmaps all. */
struct mapped_page *mapped_page_free_all(struct mapped_page *pages);

/* The header's word that says whether somebody writes here. */
const _Atomic uint32_t *mapped_page_keeper(const struct mapped_page *page);
bool mapped_page_is_kept(const struct mapped_page *page);
/* Whose it is, or was; 0: given up for good. */
uint64_t mapped_page_epoch(const struct mapped_page *page);
/* For how long it has been known that nobody keeps it, in µs; counts from the first call that finds it so. */
uint64_t mapped_page_orphaned_usec(struct mapped_page *page);
