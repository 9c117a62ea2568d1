/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <stdlib.h>

#include "bpf/account.h"
#include "util/share.h"

struct account *account_ref(struct accounts *accounts, uint32_t uid)
{
        uint32_t party = share_party(uid);
        struct account *account;

        HASH_FIND(hh, accounts->by_party, &party, sizeof party, account);
        if (!account) {
                account = calloc(1, sizeof *account);
                if (!account)
                        return NULL;
                account->party = party;
                account->uid = uid;
                TAILQ_INIT(&account->due);
                TAILQ_INIT(&account->late);
                if (!accounts->by_party)
                        TAILQ_INIT(&accounts->all);
                HASH_ADD(hh, accounts->by_party, party, sizeof account->party, account);
                TAILQ_INSERT_HEAD(&accounts->all, account, all);
        }
        account->n_ref++;
        return account;
}

struct account *account_share(struct account *account)
{
        account->n_ref++;
        return account;
}

void account_unref(struct account *account)
{
        if (!account)
                return;
        assert(account->n_ref > 0);
        account->n_ref--;
}

static void account_free(struct accounts *accounts, struct account *account)
{
        TAILQ_REMOVE(&accounts->all, account, all);
        HASH_DELETE(hh, accounts->by_party, account);
        free(account);
}

static bool is_over(const struct account *account, uint64_t now)
{
        return now - account->window_usec >= ACCOUNT_WINDOW_USEC;
}

void accounts_trim(struct accounts *accounts, uint64_t now)
{
        struct account *account, *next;

        HASH_ITER (hh, accounts->by_party, account, next)
                if (account->n_ref == 0 && account->n_left_out == 0 && is_over(account, now))
                        account_free(accounts, account);
}

void accounts_deinit(struct accounts *accounts)
{
        struct account *account, *next;

        HASH_ITER (hh, accounts->by_party, account, next)
                account_free(accounts, account);
}

static void window_begin(struct account *account, uint64_t now)
{
        if (!is_over(account, now))
                return;
        account->window_usec = now;
        account->n_entries = 0;
}

void account_leave_out(struct account *account, uint64_t now)
{
        window_begin(account, now);
        account->n_left_out++;
}

bool account_is_of(const struct account *account, uint32_t uid)
{
        return account->party == share_party(uid);
}

bool account_take_entry(struct account *account, uint64_t now)
{
        window_begin(account, now);
        if (account->n_entries >= ACCOUNT_ENTRIES_MAX)
                return false;
        account->n_entries++;
        return true;
}

uint64_t account_due_usec(const struct account *account)
{
        if (account->n_left_out == 0 && TAILQ_EMPTY(&account->late))
                return UINT64_MAX;
        return account->window_usec + ACCOUNT_WINDOW_USEC;
}
