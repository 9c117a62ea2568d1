/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

/* Where the library and ctxctl look for ctxd. They try, in this order: the address that was given;
 * $CTXD_ADDRESS, but not in a setuid program; and, if there is neither, the socket for direct connections and
 * then the bus. The bus also starts ctxd. */

#define DAEMON_PLACES_MAX 2

struct daemon_place {
        /* Empty: the system bus, or the user's. */
        char address[256];
        /* Used instead if it is not NULL; of any length. */
        const char *given;
        bool user;
};

/* Returns address, $CTXD_ADDRESS or NULL. */
const char *daemon_given_address(const char *address);
/* Fills in where to look, and returns how many places that are. user: look for the daemon of this user. */
size_t daemon_places(const char *given, bool user, struct daemon_place places[DAEMON_PLACES_MAX]);
/* What to call the place in a message. */
const char *daemon_place_name(const struct daemon_place *place);
/* Starts to connect, without waiting. 0 or a negative errno. -EAGAIN: too many wait to be accepted. */
int daemon_place_connect(const struct daemon_place *place, sd_bus **ret);
/* The same, but where too many wait it is tried again for so long. */
int daemon_place_connect_in_time(const struct daemon_place *place, uint64_t usec, sd_bus **ret);
/* Does this error come from a daemon that is there? */
bool daemon_has_answered(const sd_bus_error *error);
/* Makes the call Alive() -> ht, which asks whether the daemon is there. */
int daemon_alive_message(sd_bus *bus, sd_bus_message **ret);

/* Tries one place after the other until a daemon answers. On failure returns the negative errno of the last
 * place, and ret_text says what failed at each place; it reads on after "cannot reach ctxd". It waits until
 * until_usec at most, of CLOCK_MONOTONIC; UINT64_MAX: as long as sd-bus does. */
int daemon_connect(
                const char *given, bool user, uint64_t until_usec, sd_bus **ret, char *ret_text, size_t size);
