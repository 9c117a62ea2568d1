/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/peer.h"

/* Asks polkit whether a caller may do what the model refuses.
 *
 * Only a call that was refused leads to a question, and only if the model names a privilege that might have
 * allowed it. The model names the same privilege for a hidden context and for a missing one. So the refusal,
 * and the time that it takes, tell nothing about which of the two it is.
 *
 * The message is kept while polkit thinks; polkit may ask a person. Others are served meanwhile. When there
 * is an answer, the message is handled from the beginning with what was granted. So its path is resolved
 * again, and changes since the first time count. When a caller goes away its questions are dropped.
 *
 * polkit knows callers only by their name on the system bus. So on a direct connection a call that polkit
 * might allow is answered with InteractiveAuthorizationRequired, and the client can make it again over the
 * bus. */

struct polkit;

int polkit_new(struct endpoint *e, struct polkit **ret);
struct polkit *polkit_free(struct polkit *p);

/* The privileges (enum privilege) that were granted to this message. p may be NULL. */
unsigned polkit_granted(const struct polkit *p, const sd_bus_message *m);

/* A call was refused. privilege is what it lacked, and context is what it named. Returns 1 if polkit is asked
 * and the message is kept. Else it returns what the handler has to return instead of r, and sets the
 * error. */
int polkit_refused(struct polkit *p, struct peer *peer, sd_bus_message *m, unsigned privilege,
                const char *context, sd_bus_error *error, int r);

/* To be called for every call on the bus. Whether polkit was asked about it, and it comes once more to be
 * handled now. */
bool polkit_take(struct polkit *p, sd_bus_message *m);
/* To be called for every call on the bus, once its sender is known. It is for an object that is hidden or
 * missing: no handler is called for it, so none can be refused. Returns 1 if the call is answered, or polkit
 * is asked. */
int polkit_filter(struct polkit *p, struct peer *peer, sd_bus_message *m);
/* The same for a direct connection, after an object was not found. Returns 0 or an error. p may be NULL. */
int polkit_object_refused(struct polkit *p, struct peer *peer, sd_bus_message *m, sd_bus_error *error);

void polkit_peer_gone(struct polkit *p, const struct peer *peer);
void polkit_name_changed(struct polkit *p, const char *name, const char *new_owner);
