/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Descriptors of one holder that were handed over together to those who close them (given.h), until they
 * have.
 *
 * Those are quick, so what they have not closed after a second or two waits because they hang. Then it is
 * charged to its holder, as if he had it still. But in a second a client can have our whole table wait. So
 * what a party (util/share.h) has handed over beyond its grace is charged at once. */

struct batch;
struct users;

void batches_start(struct users *users);
/* NULL: there is no memory. */
struct batch *batch_new(uid_t uid, unsigned n);
/* They are closed. */
void batch_free(void *batch);
/* To be called every second. */
void batches_charge(void);
/* Whether there are any. */
bool batches_wait(void);
/* Whether any are charged that the uid's party was given. */
bool batches_of_party_are_charged(uid_t uid);
