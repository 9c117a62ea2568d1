/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A private bus that everybody may use, so that only ctxd tells callers with different uids apart.
 * dbus-daemon gets a configuration. dbus-broker is driven over a socket pair, as its launcher does it. */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

struct private_bus {
        char path[108];
        char address[128];
        pid_t pid;
        sd_bus *controller; /* of a dbus-broker */
};

/* Starts "dbus-daemon" or "dbus-broker" with its socket in the directory. When this returns, clients can
 * connect. After bus_stop() it can be started again. */
void bus_start(struct private_bus *b, const char *program, const char *directory);
void bus_stop(struct private_bus *b);
void bus_await_owner(const struct private_bus *b, const char *name);

/* dbus-daemon refuses uids that have no user name. Whether the test can give its uids names. */
bool bus_can_name_users(void);

/* Connects to the address of a bus, or of a single peer. */
sd_bus *bus_connect(const char *address, bool is_bus);
