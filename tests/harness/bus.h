/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A bus of the test's own which everybody may use, so that ctxd alone tells callers of several uids apart. dbus-daemon is
 * given a configuration. dbus-broker is driven over a socket pair, as its launcher does it. */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

struct private_bus {
        char path[108];
        char address[128];
        pid_t pid;
        sd_bus *controller; /* of a dbus-broker */
};

/* program: "dbus-daemon" or "dbus-broker". Starts it with a socket in the directory, where it can be connected to when this
 * returns. After bus_stop() it can be started again. */
void bus_start(struct private_bus *b, const char *program, const char *directory);
void bus_stop(struct private_bus *b);
void bus_await_owner(const struct private_bus *b, const char *name);

/* dbus-daemon turns uids away that have no name. Whether it can be shown names for those of the tests. */
bool bus_can_name_users(void);

/* A connection to the address: to a bus, or to one peer alone. */
sd_bus *bus_connect(const char *address, bool is_bus);
