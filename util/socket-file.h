/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

/* The file of a listening socket, in a directory that belongs to the caller. All is done relative to the
 * directory that was looked at, so nobody can put another one, or a link, in its place meanwhile. */

struct socket_file {
        int directory; /* -1: there is none */
        dev_t device;
        ino_t inode;
        char name[64];
};

#define SOCKET_FILE_NONE ((struct socket_file){.directory = -1})

/* Binds a socket at the path. Its file gets that mode, of 0666 and less. A socket that is there and at which
 * nobody listens is removed first. -EPERM: the directory is not the caller's own, or others may write it and
 * it has no sticky bit. -EEXIST: something else is there. -EADDRINUSE: somebody listens there. Another
 * -errno. For the first two *ret_why says so in words; else it is NULL. */
int socket_file_bind(struct socket_file *ret, int fd, const char *path, mode_t mode, const char **ret_why);
/* Removes the file if it is still the same one. */
void socket_file_remove(struct socket_file *f);
