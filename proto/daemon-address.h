/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-bus.h>

/* Where ctxd is found, for the library and for ctxctl, in this order: the address that was given; $CTXD_ADDRESS (not in
 * a setuid program); or else the socket for direct connections, and then the bus, which also starts ctxd. Who cannot
 * reach it at one of these two tries the other. */

#define DAEMON_PLACES_MAX 2

struct daemon_place {
        char address[256]; /* "": the system's bus, or the user's */
        const char *given; /* instead, of any length; or NULL */
        bool user;
};

/* address, or $CTXD_ADDRESS, or NULL. */
const char *daemon_given_address(const char *address);
/* How many places. user: the daemon of this user. */
size_t daemon_places(const char *given, bool user, struct daemon_place places[DAEMON_PLACES_MAX]);
/* What to call it in a sentence. */
const char *daemon_place_name(const struct daemon_place *place);
/* Begins to connect, without waiting. 0, or -errno. */
int daemon_place_connect(const struct daemon_place *place, sd_bus **ret);
/* Whoever says no has said something. */
bool daemon_has_answered(const sd_bus_error *error);
/* The call that asks whether the daemon is there: Alive() -> ht. */
int daemon_alive_message(sd_bus *bus, sd_bus_message **ret);

/* All of it: tries one place after the other until a daemon answers. ret_answer may be NULL; the answer is NULL where
 * the daemon is too old to say more than that it is there. On failure -errno of the last one, and ret_text has the
 * whole story, after "cannot reach ctxd". */
int daemon_connect(const char *given, bool user, sd_bus **ret, sd_bus_message **ret_answer, char *ret_text,
                size_t size);
