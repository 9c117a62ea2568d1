/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* A page in which a process tells what its threads work for. It tells by stores: ctx_enter() under a shared
 * context makes two of them.
 *
 * The daemon makes a memfd for one process, fixed in size and sealed. The process maps it and writes to it.
 * The daemon reads it with pread(2), and trusts nothing in it. A thread takes an entry by putting its tid
 * there with compare-and-swap, and owns it until it puts 0 there. In between it stores since_usec, and then
 * context_id (release); 0 is no context. A reader takes one entry at a time: tid, context_id, since_usec.
 *
 * The daemon looks at the page when a context becomes done that the process has named with Threads(). It
 * looks again whenever the process writes to the kick, an eventfd. The process does that when a thread
 * leaves a context that is done. So nobody polls. */

#define THREAD_PAGE_MAGIC UINT64_C(0x3164616572687463) /* "cthread1" */
#define THREAD_PAGE_VERSION 1
/* Together with the header they are 32 KiB. */
#define THREAD_PAGE_ENTRIES 1022

struct thread_page_header {
        uint64_t magic;
        uint32_t version;
        uint32_t n_entries;
        uint64_t reserved[6];
};

struct thread_entry {
        /* As the process itself numbers it. In another pid namespace than the daemon's it is not found. */
        uint32_t tid;
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
