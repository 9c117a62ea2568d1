/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/request.h"

/* Later replies: for a Cancel or a Release whose work goes on in slices after the request. They are sent when
 * all the promised work is done (law 5), also to a caller that was not the first. */

struct later;

/* Takes what a later reply needs, before anything is changed: 0, or an error if there is no memory, or if
 * too many calls of the peer wait already. */
int later_new(struct request *q, struct later **ret);

/* The end of q->context has begun, by this request (first) or by an earlier one. contexts is how many became
 * done so far. Carries out the effects, and replies now or later. Owns the later. */
int later_reply_cancel(struct request *q, struct later *l, bool first, uint32_t contexts);
int later_reply_release(struct request *q, struct later *l);

struct later *later_free(struct later *l); /* the call was refused, or its peer is gone */

void laters_init(struct service *s);
/* Notes what the call that has begun this ending is told. */
void later_ended(struct service *s, const struct ending *ending);
bool laters_are_due(const struct service *s);
/* Sends up to n of the replies that are due, and asks for another turn if there are more. */
void laters_reply(struct service *s, int n);
