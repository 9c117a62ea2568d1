/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* What the threads of a process work for, told by stores: ctx_enter() under a shared context is two of them.
 *
 * A memfd that the daemon makes for one process, fixed in size and sealed, which that process maps and writes, and
 * the daemon reads with pread(2), as the word of somebody hostile. An entry belongs to the thread that has put its
 * tid into it by compare-and-swap, until it puts 0 there. In between it stores since_usec, then context_id
 * (release); 0 is no context. A reader takes one entry at a time: tid, context_id, since_usec.
 *
 * The daemon looks at the page when a context that the process has named with Threads() becomes done, and again
 * whenever the process writes to the kick, an eventfd: which it does after a store that takes a thread out of a
 * context that reads done. So nobody polls. */

#define THREAD_PAGE_MAGIC UINT64_C(0x3164616572687463) /* "cthread1" */
#define THREAD_PAGE_VERSION 1
#define THREAD_PAGE_ENTRIES 1022 /* with the header 32 KiB */

struct thread_page_header {
        uint64_t magic;
        uint32_t version;
        uint32_t n_entries;
        uint64_t reserved[6];
};

struct thread_entry {
        uint32_t tid; /* as the process's own pid namespace numbers it, which is the daemon's or it is not seen */
        uint32_t reserved;
        uint64_t context_id;
        uint64_t since_usec; /* CLOCK_BOOTTIME */
        uint64_t reserved2;
};

struct thread_page {
        struct thread_page_header header;
        struct thread_entry entries[THREAD_PAGE_ENTRIES];
};

_Static_assert(sizeof(struct thread_page) == 32768, "the page is part of the contract");
