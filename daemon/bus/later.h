/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/request.h"

/* Replies to a Cancel or a Release whose work goes on in slices, after the request. They are sent when all that was
 * promised is done (law 5), also to those who came second. */

struct later;

/* 0, or an error where the peer has too many of them waiting: before anything is changed. */
int later_room(struct request *q);

/* The end of q->context has begun, or had before; first says which, contexts how many were done so far. Carries out
 * the effects, and replies, now or later. */
int later_reply_cancel(struct request *q, bool first, uint32_t contexts);
int later_reply_release(struct request *q);

struct later *later_free(struct later *l); /* its peer is gone */

void later_ended(struct service *s, const struct ending *ending);
