/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#include "proto/state-page.h"

/* State pages, mapped once each: thousands of contexts share one mapping. */

struct page;

/* Looks fd's page up in the list, or maps it and adds it. fd stays the caller's. 0 with the slot, or -EBADMSG
 * where that is no state page or offset no slot of it. */
int page_slot(struct page **pages, int fd, uint64_t offset, const struct state_slot **ret_slot);
/* Unmaps all. */
struct page *page_free_all(struct page *pages);
