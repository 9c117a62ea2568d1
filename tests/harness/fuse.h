/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A file system in user space that answers everything but the close of its file. Whoever closes a descriptor
 * of that file sleeps until the file system ends, and no signal wakes it. */

#include <stdbool.h>
#include <sys/types.h>

struct hung_file {
        /* To be set before the start: there is any number of files, named by numbers, and fn gets their
         * directory. What hangs is the last close of each that was written to, and not that of copies. */
        bool hangs_in_last_close;
        /* The same: a page of zeros can be read once, and who reads it again hangs. */
        bool hangs_in_read;
        /* The same: it answers each close after so long. 0: not at all. */
        unsigned close_msec;
        pid_t server;
        int said; /* a byte comes from here for each close, or read, that hangs */
};

/* Starts the file system. A process of that uid opens its file, calls fn with the descriptor, and waits for
 * the end of the file system then. When this returns, fn has returned. False where the kernel or a lack of
 * rights does not allow it; it has printed why. */
bool hung_file_start(struct hung_file *h, uid_t uid, void (*fn)(int fd, void *userdata), void *userdata);
bool hung_file_is_being_closed(struct hung_file *h); /* within a wide limit */
/* From now on it answers closes, too, also those that have begun. */
void hung_file_answers(const struct hung_file *h);
/* Ends the file system, so that everybody wakes who sleeps for it. */
void hung_file_end(struct hung_file *h);
