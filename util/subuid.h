/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

/* Whether a uid is a subordinate one of that user, by subuid(5): any process of the user may become it, by
 * newuidmap(1), and signal others that are. Names of users are looked up in passwd(5) alone, since others who
 * know users may be asked over a network. */
bool subuid_is_of(uid_t uid, uid_t owner);
bool subuid_is_in(FILE *f, uid_t uid, uid_t owner); /* a file like /etc/subuid */
