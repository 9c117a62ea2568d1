/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#include "daemon/world/probe.h"

/* The content of ctxd.conf. Times are in µs; UINT64_MAX is infinity. */
struct config {
        uint64_t leak_grace_usec;
        uint64_t retain_usec;
        uint64_t kill_after_usec;
        enum probe_mode probe;
        uint64_t max_contexts; /* of all users together, as those without per_user are */
        uint64_t max_members;
        uint64_t max_subscriptions;
        uint64_t max_bytes;
        uint64_t max_unread_bytes;
        uint64_t max_contexts_per_user;
        uint64_t max_handles_per_user;
        uint64_t max_members_per_user;
        uint64_t max_connections_per_user;
        uint64_t max_subscriptions_per_user;
        uint64_t max_bytes_per_user;        /* of values, causes and descriptions */
        uint64_t max_unread_bytes_per_user; /* of replies */
        uint64_t max_value_bytes;           /* keys and values of one context */
};

typedef void (*config_warn)(void *userdata, const char *file, unsigned line, const char *message);

void config_defaults(struct config *ret);

/* Reads that file. If a line is wrong, warn is called and the default stays. A file that cannot be read is an
 * error. */
int config_load(const char *file, config_warn warn, void *userdata, struct config *ret);

/* Reads ctxd.conf in that directory, and then each NAME.conf in its ctxd.conf.d, in the order of the names.
 * The last assignment counts. No file has to be there. If one cannot be read, warn is called. */
int config_load_directory(const char *directory, config_warn warn, void *userdata, struct config *ret);
