/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/state-page.h"

/* State pages of the daemon. Each is mapped once, for thousands of contexts. */

struct mapped_page;

/* The page with that number, or NULL. */
struct mapped_page *mapped_page_find(struct mapped_page *pages, uint64_t number);
/* Maps the page of fd, unless the list has it already, and adds it to the list. The caller keeps fd.
 * -EBADMSG: it is no state page. */
int mapped_page_add(struct mapped_page **pages, int fd, struct mapped_page **ret);
/* NULL: there is no slot at that offset. */
const struct state_slot *mapped_page_slot(const struct mapped_page *page, uint64_t offset);
/* Unmaps and frees all. */
struct mapped_page *mapped_page_free_all(struct mapped_page *pages);

/* The word in the header that says whether somebody writes to the page. */
const _Atomic uint32_t *mapped_page_keeper(const struct mapped_page *page);
uint64_t mapped_page_number(const struct mapped_page *page);
bool mapped_page_is_kept(const struct mapped_page *page);
/* The epoch of the daemon that has it, or had it last. 0: it is given up for good. */
uint64_t mapped_page_epoch(const struct mapped_page *page);
/* For how long it has been known that no daemon keeps it, in µs. The time starts with the first call that
 * finds it so. */
uint64_t mapped_page_orphaned_usec(struct mapped_page *page);
