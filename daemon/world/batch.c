/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <sys/queue.h>
#include <uthash.h>

#include "daemon/model/user.h"
#include "daemon/world/batch.h"
#include "util/share.h"

/* So much of one party may wait uncharged, and no more than that part of what all may have in our table. */
#define GRACE 1024
#define GRACE_PART 8
/* And that part, of all parties. */
#define GRACE_PART_OF_ALL 4

/* A party that has any. */
struct debtor {
        uint32_t party;
        unsigned n_batches, n_charged; /* batches */
        uint64_t uncharged;            /* descriptors */
        UT_hash_handle hh;
};

struct batch {
        uid_t uid;
        unsigned n;
        bool is_late;
        struct debtor *debtor;
        struct charge charge;
        LIST_ENTRY(batch) uncharged;
};

static struct {
        struct users *users;
        struct debtor *debtors; /* by party */
        LIST_HEAD(, batch) uncharged;
        uint64_t n_uncharged; /* descriptors */
} all;

void batches_start(struct users *users)
{
        all.users = users;
}

static struct debtor *find(uid_t uid)
{
        uint32_t party = share_party(uid);
        struct debtor *d;

        HASH_FIND(hh, all.debtors, &party, sizeof party, d);
        return d;
}

static struct debtor *debtor_of(uid_t uid)
{
        struct debtor *d = find(uid);

        if (d)
                return d;
        d = calloc(1, sizeof *d);
        if (!d)
                return NULL;
        d->party = share_party(uid);
        HASH_ADD(hh, all.debtors, party, sizeof d->party, d);
        if (!d->hh.tbl) {
                free(d);
                return NULL;
        }
        return d;
}

static void no_longer_uncharged(struct batch *b)
{
        LIST_REMOVE(b, uncharged);
        b->debtor->uncharged -= b->n;
        all.n_uncharged -= b->n;
}

/* It cannot be refused. Where there is no memory it is tried again. */
static void batch_charge(struct batch *b)
{
        struct user *user = user_ref(all.users, b->uid);

        if (!user)
                return;
        (void) charge_init(&b->charge, all.users, user, RESOURCE_HANDLES, 0); /* nothing is not refused */
        charge_set(&b->charge, b->n);
        user_unref(all.users, user);
        no_longer_uncharged(b);
        b->debtor->n_charged++;
}

static bool is_beyond_grace(const struct debtor *d)
{
        uint64_t room = all.users->pools[POOL_DESCRIPTORS].limit;

        return d->uncharged > GRACE || d->uncharged > room / GRACE_PART ||
               all.n_uncharged > room / GRACE_PART_OF_ALL;
}

struct batch *batch_new(uid_t uid, unsigned n)
{
        struct batch *b = calloc(1, sizeof *b);

        if (!b)
                return NULL;
        b->debtor = debtor_of(uid);
        if (!b->debtor) {
                free(b);
                return NULL;
        }
        b->uid = uid;
        b->n = n;
        b->debtor->n_batches++;
        b->debtor->uncharged += n;
        all.n_uncharged += n;
        LIST_INSERT_HEAD(&all.uncharged, b, uncharged);
        if (is_beyond_grace(b->debtor))
                batch_charge(b);
        return b;
}

void batch_free(void *batch)
{
        struct batch *b = batch;
        struct debtor *d = b->debtor;

        if (b->charge.user)
                d->n_charged--;
        else
                no_longer_uncharged(b);
        charge_deinit(&b->charge);
        free(b);
        if (--d->n_batches > 0)
                return;
        HASH_DEL(all.debtors, d);
        free(d);
}

void batches_charge(void)
{
        struct batch *b, *next;

        for (b = LIST_FIRST(&all.uncharged); b; b = next) {
                next = LIST_NEXT(b, uncharged);
                if (b->is_late)
                        batch_charge(b);
                b->is_late = true;
        }
}

bool batches_wait(void)
{
        return all.debtors;
}

bool batches_of_party_are_charged(uid_t uid)
{
        const struct debtor *d = find(uid);

        return d && d->n_charged > 0;
}
