/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/socket-file.h"

/* The socket of one that was killed is there for an instant longer (heir.h). */
#define TRIES 50
#define PAUSE_MSEC 20

static int open_directory(const char *path, size_t length, const char **ret_why)
{
        _cleanup_close_ int fd = -1;
        char directory[4096];
        struct stat st;

        if (length >= sizeof directory)
                return -ENAMETOOLONG;
        memcpy(directory, path, length);
        strcpy(directory + length, length > 0 ? "" : ".");
        fd = open(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && (errno == ELOOP || errno == ENOTDIR)) {
                *ret_why = "its directory is a link, or is no directory";
                return -EPERM;
        }
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (st.st_uid != geteuid())
                *ret_why = "its directory belongs to another user";
        else if (st.st_mode & (S_IWGRP | S_IWOTH) && !(st.st_mode & S_ISVTX))
                *ret_why = "others may write to its directory";
        return *ret_why ? -EPERM : TAKE_FD(fd);
}

/* The address of a file in an open directory. */
static socklen_t address_in(struct sockaddr_un *ret, int directory, const char *name)
{
        *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
        snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%s", directory, name);
        return sizeof *ret;
}

static int is_listened_at_now(int directory, const char *name, int type)
{
        _cleanup_close_ int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_un address;
        socklen_t length = address_in(&address, directory, name);

        if (fd < 0)
                return -errno;
        /* Who cannot answer now is there, too. */
        return connect(fd, (struct sockaddr *) &address, length) == 0 || errno != ECONNREFUSED;
}

/* Whether somebody listens at a socket's file: 0 or 1, or -errno. */
static int is_listened_at(int directory, const char *name, int type)
{
        int r = 1;

        for (unsigned i = 0; i < TRIES && (r = is_listened_at_now(directory, name, type)) > 0; i++)
                (void) poll(NULL, 0, PAUSE_MSEC);
        return r;
}

static int make_room(int directory, const char *name, int type, const char **ret_why)
{
        struct stat st;
        int r;

        if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(st.st_mode))
                *ret_why = "there is something that is no socket";
        else if (st.st_uid != geteuid())
                *ret_why = "there is another user's socket";
        if (*ret_why)
                return -EEXIST;
        r = is_listened_at(directory, name, type);
        if (r != 0)
                return r < 0 ? r : -EADDRINUSE;
        return unlinkat(directory, name, 0) < 0 ? -errno : 0;
}

int socket_file_bind(struct socket_file *ret, int fd, const char *path, mode_t mode, const char **ret_why)
{
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        struct socket_file f = SOCKET_FILE_NONE;
        _cleanup_close_ int directory = -1;
        socklen_t length = sizeof(int);
        struct sockaddr_un address;
        struct stat st;
        mode_t before;
        int type, r;

        *ret_why = NULL;
        if (strlen(name) >= sizeof f.name)
                return -ENAMETOOLONG;
        directory = open_directory(path, slash == path ? 1 : slash ? (size_t) (slash - path) : 0, ret_why);
        if (directory < 0)
                return directory;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
                return -errno;
        r = make_room(directory, name, type, ret_why);
        if (r < 0)
                return r;
        length = address_in(&address, directory, name);
        before = umask(0777 & ~mode);
        r = bind(fd, (struct sockaddr *) &address, length) < 0 ? -errno : 0;
        (void) umask(before);
        if (r >= 0 && fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                r = -errno;
        if (r < 0)
                return r;
        f.device = st.st_dev;
        f.inode = st.st_ino;
        f.directory = TAKE_FD(directory);
        strcpy(f.name, name);
        *ret = f;
        return 0;
}

void socket_file_remove(struct socket_file *f)
{
        struct stat st;

        if (f->directory < 0)
                return;
        if (fstatat(f->directory, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == f->device &&
                        st.st_ino == f->inode)
                (void) unlinkat(f->directory, f->name, 0);
        close(f->directory);
        f->directory = -1;
}
