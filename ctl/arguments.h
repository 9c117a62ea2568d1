/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "proto/wire.h"

/* Where the arguments of a call are written to: a message of sd-bus, or one that is made by hand (line.h).
 * The latter takes not all that the former does, and one descriptor alone: else the functions return
 * -EOPNOTSUPP. They return 0 or more, or a negative errno. */

struct arguments {
        sd_bus_message *m; /* NULL: by hand */
        struct wire *wire;
        int fd; /* that goes along with what is made by hand, and stays the caller's; -1: none */
};

int arguments_add_string(struct arguments *a, const char *text);
int arguments_add_bool(struct arguments *a, bool value);
int arguments_add_fd(struct arguments *a, int fd);
/* a{sv}, one entry at a time. */
int arguments_open_options(struct arguments *a);
int arguments_add_option(struct arguments *a, const char *name, const char *type, ...);
int arguments_close_options(struct arguments *a);
