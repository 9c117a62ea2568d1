/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "ctl/arguments.h"
#include "ctl/attach.h"
#include "ctl/ctxctl.h"

/* Creating a context: what create, run and selftest have in common. */

struct create_arguments {
        uint64_t timeout_usec;
        bool has_timeout;
        uint64_t grace_usec;
        bool has_grace;
        uint32_t mode;
        bool has_mode;
        /* bind_caller: the context is canceled when our connection ends. */
        bool parents, open, replace, bind_caller;
        bool tells_made; /* the reply says whether the context was made: create_was_made() */
        const char *cause;
        const char *description;
        int owner_fd;  /* -1: none */
        int attach_fd; /* a pidfd, which stays the caller's: it becomes a member; -1: none */
        const struct attach_arguments *attach;
        const char **values; /* KEY=VALUE, from argv */
        size_t n_values;
};

#define CREATE_ARGUMENTS                        \
        {                                       \
                .owner_fd = -1, .attach_fd = -1 \
        }

/* Adds KEY=VALUE to the list. 0, or a positive exit status after an error message. */
int create_add_value(struct create_arguments *arguments, const char *text);
void create_arguments_deinit(struct create_arguments *arguments);

/* Those of Create; with tells_made those of CreateAndOpen. 0 or a negative errno. */
int create_add_arguments(struct arguments *to, const char *path, const struct create_arguments *arguments);
/* Makes the context. Returns what bus_send() returns. */
int create_context(struct ctl *ctl, const char *path, const struct create_arguments *arguments,
                const char *expected, sd_bus_message **ret_reply);
/* Reads the reply, and writes the context's path#id to a buffer of CTXD_PATH_ID_MAX + 1 bytes. 0, or a
 * positive exit status after an error message. */
int create_reference(sd_bus_message *reply, char *ret_reference);
/* To be called after that one. With `open` there may have been one. */
int create_was_made(sd_bus_message *reply, bool *ret);
