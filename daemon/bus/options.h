/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "daemon/model/tree.h"

/* Reads the a{sv} of Create, Derive and Attach. An option that is unknown, or has a wrong type, is refused,
 * because a caller who misspells timeout-usec wants to know it now. Strings and descriptors belong to the
 * message. */

struct attach_options {
        int signal;
        bool has_signal, has_kill_after;
        bool subreaper;
        uint64_t kill_after_usec;
};

struct create_request {
        struct create_options options; /* of the model; values points into values below */
        struct value values[CTXD_VALUES_MAX];
        uint64_t timeout_usec; /* UINT64_MAX: none */
        bool bind_caller;
        int owner_pidfd;  /* -1: none */
        int attach_pidfd; /* -1: none */
        struct attach_options attach;
};

int options_read_create(sd_bus_message *m, struct create_request *ret, sd_bus_error *error);
int options_read_attach(sd_bus_message *m, struct attach_options *ret, sd_bus_error *error);
