/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/* What the journal is told, read from a socket in the journal's place, in a mount namespace of the test's
 * own. */

/* Mounts of our own, and what else the flags say. In a chroot, where / is no mount point, it is refused. */
bool journal_leave(int flags);
bool journal_can_listen(void);
/* The socket. The test's process leaves its mount namespace for it. */
int journal_listen(void);
/* The next entry with that id, in the journal's native form. */
char *journal_next(int fd, const char *message_id);
void has_line(const char *entry, const char *format, ...) __attribute__((format(printf, 2, 3)));
