/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

/* Control groups of a test's own, in the unified hierarchy. */

const char *group_missing(void);                /* in main(), first: why there can be none, or NULL */
const char *group_new(const char *parent);      /* NULL: in the root; its directory */
void group_enter(const char *group, pid_t pid); /* NULL: the root */
void group_remove_all(void);                    /* once nobody is in them */
void group_remove_left(void);                   /* in main(), last: by a test that has failed in the middle */
