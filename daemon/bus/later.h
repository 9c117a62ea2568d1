/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/request.h"

/* Later replies: for a Cancel or a Release whose work goes on in slices after the request. They are sent when
 * all the promised work is done (law 5), also to a caller that was not the first. */

struct later;

/* Those of one party. */
struct later_queue {
        struct party *party; /* whose endings they wait for; NULL: those of all */
        uint32_t n_ref;
        struct heap waiting; /* by the ending for which they wait */
        TAILQ_ENTRY(later_queue) queues;
};

/* Takes what a later reply needs, before anything is changed: 0, or an error if there is no memory, or if
 * too many calls of the peer wait already. */
int later_new(struct request *q, struct later **ret);

/* The end of q->context has begun, by this request (first) or by an earlier one. contexts is how many became
 * done so far. Carries out the effects, and replies now or later. Owns the later. */
int later_reply_cancel(struct request *q, struct later *l, bool first, uint32_t contexts);
int later_reply_release(struct request *q, struct later *l);

/* What is left to be signalled of the first slice of an end of the party; NULL: nothing. */
struct signal_pass **later_signals(struct service *s, const struct party *p);

struct later *later_free(struct later *l); /* the call was refused, or its peer is gone */

int laters_init(struct service *s);
void laters_deinit(struct service *s); /* no peer is left */
/* Notes what the call that has begun this ending is told. */
void later_ended(struct service *s, const struct ending *ending);
bool laters_are_due(const struct service *s);
/* Sends up to n of the replies that are due, and asks for another turn if there are more. */
void laters_reply(struct service *s, int n);
