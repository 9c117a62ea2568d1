/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/names.h"

/* The grammar of names, for both sides of the bus.
 *
 * A path is labels joined by '/', without a leading or trailing one; the background is "/" alone. A reference
 * names a context where one is expected: a path, or path#id, which is that context or none. Where one is to
 * be made, the id is its ancestor's: parent#id/label makes it below that context or not at all. "~" as the
 * first label is short for the caller's own tree, user-UID. */

/* 1 to CTXD_LABEL_MAX of A-Z a-z 0-9 _ . : @ -, neither "." nor "..", and '@' is not the first: that is kept
 * for the names of other hosts. */
bool label_is_valid(const char *label, size_t length);

/* 0, or -EINVAL with a sentence that says what is wrong in *ret_why (static, never to be freed). "/" is
 * valid. */
int path_check(const char *path, const char **ret_why);

struct reference {
        char path[CTXD_PATH_MAX + 1]; /* "/" for the background; "~" replaced */
        uint64_t id;                  /* 0: none was given */
        size_t pinned;                /* how much of the path the id is of; 0 without one */
        bool generate;                /* the text ended in '/': make up a last label */
};

/* Reads a path or path#id as given by uid. A leading '/' before the first label is accepted and dropped, as
 * people write it. Returns 0, or -EINVAL with *ret_why set. With to_make it is the name of one that is to be
 * made, which may end in '/', and needs something after an id. */
int reference_parse(const char *text, uid_t uid, bool to_make, struct reference *ret, const char **ret_why);

/* The D-Bus object of a context: CTXD_CONTEXT_OBJECT, then each label as sd_bus_path_encode() does. "/" is
 * CTXD_CONTEXT_OBJECT itself. Returns 0 or -ENOMEM; the caller frees. */
int path_to_object(const char *path, char **ret_object);

/* The reverse; 0, or -EINVAL if it is no object of a context with a valid path. The caller frees. */
int path_from_object(const char *object, char **ret_path);

/* A reverse-domain key such as org.example.user: at least one dot, no empty part, A-Z a-z 0-9 _ - . only. */
int key_check(const char *key, const char **ret_why);
