/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* A page of states, shared read-only with clients: Err() without a system call.
 *
 * A memfd holds a header and slots. The owner's clients map it read-only; only the daemon can write. A slot's
 * word is (generation << 2) | state and changes once in a generation: from active to a done state. A reader keeps
 * the word it was given (Page returns it, in the active state) and compares:
 *
 *     word == given                  active, if now < deadline
 *     word >> 2 == given >> 2        done, the state says how
 *     another generation             done; the slot belongs to somebody else now, ask Err for how
 *
 * The header says who keeps the page: as long as keeper has not STATE_KEEPER_DIED set, the daemon of that epoch writes
 * here. It is a robust futex, so that the kernel itself sets the bit when the daemon ends, however it ends; a daemon
 * that takes the page over writes its epoch, and then keeper. So a reader that calls nobody still learns that nobody
 * will tell it.
 *
 * A reader latches the first done it sees. The deadline (CLOCK_BOOTTIME, µs, UINT64_MAX for none) is written
 * before the word of its generation, and changes only by Extend. Everything is little-endian host order, aligned
 * to 8 bytes, and read with one atomic load (acquire). */

#define STATE_PAGE_MAGIC UINT64_C(0x3165746174736463) /* "cdstate1" */
#define STATE_PAGE_VERSION 1

enum state_word {
        STATE_WORD_ACTIVE = 0,
        STATE_WORD_CANCELED = 1,
        STATE_WORD_DEADLINE_EXCEEDED = 2,
        STATE_WORD_STOPPED = 3, /* canceled by a daemon that leaves: nobody will be there to say the cause */
        STATE_WORD_MASK = 3,
};

struct state_page_header {
        uint64_t magic;
        uint32_t version;
        uint32_t n_slots;
        uint64_t epoch;  /* of the daemon that serves it; 0 once it has left for good */
        uint32_t keeper; /* thread id of who keeps it, a robust futex; 0: it cannot tell */
        uint32_t reserved32;
        uint64_t reserved[4];
};

#define STATE_KEEPER_DIED UINT32_C(0x40000000) /* FUTEX_OWNER_DIED */

struct state_slot {
        uint64_t word;
        uint64_t deadline_usec;
};

_Static_assert(sizeof(struct state_page_header) == 64, "the header is part of the contract");
_Static_assert(sizeof(struct state_slot) == 16, "the slot is part of the contract");
