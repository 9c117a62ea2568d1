/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Control groups of a test's own, in the unified hierarchy. */

const char *group_missing(void);           /* in main(), first: why there can be none, or NULL */
const char *group_new(const char *parent); /* NULL: in the root; its directory */
/* One for which that controller can set limits, in whatever hierarchy it has; NULL: there can be none. */
const char *group_controlled(const char *controller);
bool group_write(const char *group, const char *file, const char *text); /* false: there is no such file */
unsigned long long group_read(
                const char *group, const char *file, const char *key); /* key: NULL, or of a line */
void group_enter(const char *group, pid_t pid);                        /* NULL: the root */
void group_remove_all(void);                                           /* once nobody is in them */
void group_remove_left(void); /* in main(), last: by a test that has failed in the middle */
