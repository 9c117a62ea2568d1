/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "ctl/ctxctl.h"

/* What create and run have in common: the options of a context that is to be made. */

struct create_arguments {
        uint64_t timeout_usec;
        bool has_timeout;
        uint64_t grace_usec;
        bool has_grace;
        uint32_t mode;
        bool has_mode;
        bool parents, open, bind_caller;
        const char *cause;
        const char *description;
        int owner_fd;        /* -1: none */
        const char **values; /* KEY=VALUE, from argv */
        size_t n_values;
};

#define CREATE_ARGUMENTS       \
        {                      \
                .owner_fd = -1 \
        }

/* KEY=VALUE is added to the list; 0, or a positive exit status. */
int create_add_value(struct create_arguments *arguments, const char *text);
void create_arguments_deinit(struct create_arguments *arguments);

/* Create. Returns 0, or a positive exit status after it has said why; if quiet_exists, "Exists" is not said
 * and gives -EEXIST. */
int create_context(struct ctl *ctl, const char *path, const struct create_arguments *arguments,
                bool quiet_exists, sd_bus_message **ret_reply);
