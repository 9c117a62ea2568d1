/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

/* What the threads of one uid, or of all subordinate uids of a block (util/share.h), cost the probe:
 * places among the leaks, time for evidence, and entries of the journal. Whatever they do, the others have
 * their share of each. */

struct leak;
struct thread;

TAILQ_HEAD(leak_queue, leak);

struct account {
        uint32_t party;
        uint32_t uid;       /* the first one for which it was asked */
        uint32_t n_ref;     /* threads and leaks */
        uint32_t n_leaks;   /* that are open */
        uint32_t n_entered; /* threads that have entered a context by themselves, and are looked at */

        TAILQ_HEAD(, thread) due;     /* to be accused in this sweep */
        TAILQ_ENTRY(account) all;     /* the one that has waited longest for evidence comes first */
        TAILQ_ENTRY(account) waiting; /* in this sweep, for its turn */

        /* The journal. */
        uint64_t window_usec; /* when the minute has begun; 0: none has */
        uint32_t n_entries, n_left_out;
        struct leak_queue late; /* resolutions, for which no entry is left in this minute */
        UT_hash_handle hh;
};

TAILQ_HEAD(account_queue, account);

struct accounts {
        struct account *by_party;
        struct account_queue all;
};

#define ACCOUNT_ENTRIES_MAX 60
#define ACCOUNT_WINDOW_USEC UINT64_C(60000000)

/* Gives a reference. NULL: there is no memory. */
struct account *account_ref(struct accounts *accounts, uint32_t uid);
/* Whether that uid's threads are counted in it. */
bool account_is_of(const struct account *account, uint32_t uid);
/* Another reference. */
struct account *account_share(struct account *account);
/* It stays until accounts_trim(), for the minute that has begun. */
void account_unref(struct account *account);
/* Frees accounts without references of which nothing is left to be said. */
void accounts_trim(struct accounts *accounts, uint64_t now);
void accounts_deinit(struct accounts *accounts);

/* Whether one more entry may be written in this minute, which is then counted. */
bool account_take_entry(struct account *account, uint64_t now);
/* Counts one that was not written. */
void account_leave_out(struct account *account, uint64_t now);
/* When the account gets entries again; UINT64_MAX: it waits for none. */
uint64_t account_due_usec(const struct account *account);
