/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl/ctxctl.h"

/* What List, Err and Processes say, read to the end page by page. Functions return 0, or a positive exit
 * status after they have said why. */

struct listed {
        char *path;
        uint64_t id;
        char *state;
        uint64_t deadline_usec; /* CLOCK_BOOTTIME, UINT64_MAX: none */
        uint64_t created_usec;
        char *cause;
};

struct listing {
        struct listed *items;
        size_t n, allocated;
};

/* A subtree, parents before children; "/" is everything, without the background itself. */
int contexts_list(struct ctl *ctl, const char *prefix, struct listing *ret);
/* One context. */
int contexts_get(struct ctl *ctl, const char *path, struct listing *ret);
void listing_deinit(struct listing *listing);
/* "path#id" into a buffer of CTXD_PATH_ID_MAX + 1 bytes. */
char *listed_reference(const struct listed *item, char *buffer);
json_object *listed_to_json(const struct listed *item);

struct running {
        uint32_t pid;
        uint64_t start_usec;
        uint32_t uid;
        char comm[64];
};

/* The processes of a context; the caller frees. */
int contexts_processes(
                struct ctl *ctl, const char *path, bool recursive, struct running **ret, size_t *ret_n);
json_object *running_to_json(const struct running *running, size_t n);

struct verdict {
        int code; /* 0, ECANCELED, ETIMEDOUT */
        char err[64];
        char cause[CTXD_REASON_MAX + 1];
};

int contexts_err(struct ctl *ctl, const char *path, struct verdict *ret);
