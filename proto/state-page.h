/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* A page of states, which clients map read-only: with it, Err() needs no system call.
 *
 * A memfd holds a header and slots. Clients of the page's owner map it, and only the daemon can write to
 * it. The word of a slot is (generation << 2) | state. In one generation it changes once, from active to a
 * done state. A reader keeps the word that Page returned, which is in the active state, and compares:
 *
 *     word == given                  active, if now < deadline
 *     word >> 2 == given >> 2        done; the state says how
 *     another generation             done; the slot is in use for another context; ask Err how this one ended
 *
 * The header says which daemon writes the page. The daemon of that epoch does, as long as STATE_KEEPER_DIED
 * is not set in keeper. keeper is a robust futex: the kernel sets that bit when the daemon ends, in
 * whatever way it ends. A daemon that takes the page over writes its epoch first, and keeper after that. So
 * a reader, which calls nobody, still learns that nobody writes the page any more.
 *
 * A reader maps a page once for all contexts that have a slot in it. It knows the page by its number.
 *
 * A reader remembers the first done state that it sees. The deadline (CLOCK_BOOTTIME in µs, UINT64_MAX for
 * none) is written before the word of its generation, and only Extend changes it. All values are in the
 * byte order of the host, aligned to 8 bytes, and read by one atomic load (acquire). */

#define STATE_PAGE_MAGIC UINT64_C(0x3165746174736463) /* "cdstate1" */
#define STATE_PAGE_VERSION 1

enum state_word {
        STATE_WORD_ACTIVE = 0,
        STATE_WORD_CANCELED = 1,
        STATE_WORD_DEADLINE_EXCEEDED = 2,
        STATE_WORD_STOPPED = 3, /* canceled by a daemon that ends, so nobody can be asked for the cause */
        STATE_WORD_MASK = 3,
};

struct state_page_header {
        uint64_t magic;
        uint32_t version;
        uint32_t n_slots;
        uint64_t epoch;  /* of the daemon that writes it; 0 after that daemon has left for good */
        uint32_t keeper; /* its thread id, in a robust futex; 0: the end of the daemon will not show here */
        uint32_t reserved32;
        uint64_t number; /* of the page, never 0; no other page has it */
        uint64_t reserved[3];
};

#define STATE_KEEPER_DIED UINT32_C(0x40000000) /* FUTEX_OWNER_DIED */

struct state_slot {
        uint64_t word;
        uint64_t deadline_usec;
};

_Static_assert(sizeof(struct state_page_header) == 64, "the header is part of the contract");
_Static_assert(sizeof(struct state_slot) == 16, "the slot is part of the contract");
