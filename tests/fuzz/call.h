/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "tests/fuzz/input.h"

/* What can be called: the members of the vtables, and those that sd-bus adds. Chosen by a hash of their
 * names, so that an input means the same when there are more of them. */
struct member {
        const char *path, *interface, *name, *signature; /* path NULL: any context's */
        uint16_t hash;
};

void members_init(void);
const struct member *pick_member(struct input *in);

/* A path, a key, a reason, or a long one; valid until the next. */
const char *pick_string(struct input *in);

/* Arguments of these types, the input's; a{sv} are options. 0 or more, or what sd-bus says. */
int append(sd_bus_message *m, const char *signature, struct input *in, unsigned depth);
