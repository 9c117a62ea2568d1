/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

#include "util/printable.h"
#include "ctl/ctxctl.h"

/* Contexts, as the daemon's List and Err describe them. A function that returns int returns 0, or a
 * positive exit status after an error message. */

struct listed {
        char *path;
        uint64_t id;
        char *state;
        uint64_t deadline_usec; /* on CLOCK_BOOTTIME; UINT64_MAX: none */
        uint64_t created_usec;  /* UINT64_MAX: it was released, and only its path#id is known */
        char *cause;
        bool lost_path; /* another one that was listed has its path by now */
};

struct listing {
        struct listed *items;
        size_t n, allocated;
};

/* A context and all below it, parents before children. "/" is all contexts; the background itself is left
 * out. */
int contexts_list(struct ctl *ctl, const char *prefix, struct listing *ret);
/* One context. */
int contexts_get(struct ctl *ctl, const char *path, struct listing *ret);
/* Finds which context has this path now, and writes its path#id to a buffer of CTXD_PATH_ID_MAX + 1 bytes.
 * A caller that makes several calls then means the same context in all of them, even if the path gets a
 * new context meanwhile. path#id itself and "/" are only copied. */
int contexts_pin(struct ctl *ctl, const char *path, char *ret_reference);
/* Adds path and id of a reference to an object. The id is null where it has none. */
void contexts_add_reference(json_object *object, const char *reference);
/* Since when it is done, on CLOCK_BOOTTIME. UINT64_MAX: it is not, or that cannot be known. Prints no
 * error. */
uint64_t context_done_usec(struct ctl *ctl, const char *path);
void listing_deinit(struct listing *listing);
/* Writes "path#id" to a buffer of CTXD_PATH_ID_MAX + 1 bytes and returns it. */
char *listed_reference(const struct listed *item, char *buffer);
/* What it is called where people read it: its path, or "path#id" where another one has the path by now. The
 * buffer has that size as well. */
const char *listed_name(const struct listed *item, char *buffer);
json_object *listed_to_json(const struct listed *item);

struct context_end {
        int code;     /* 0: the context is active; or ECANCELED, ETIMEDOUT */
        char err[64]; /* "context canceled", "context deadline exceeded" */
        char cause[PRINTABLE_SIZE(CTXD_REASON_MAX)];
};

int contexts_end(struct ctl *ctl, const char *path, struct context_end *ret);
/* Prints "ERR (CAUSE)", or only "ERR" if the cause says nothing else. */
void print_end(const char *err, const char *cause);
