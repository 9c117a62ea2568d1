/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cgroup.h"
#include "util/cleanup.h"
#include "util/pid-list.h"
#include "util/proc.h"

/* Where the root of the hierarchy is mounted. On a host with both versions that is not /sys/fs/cgroup. */
static const char *mount_point(void)
{
        static char *found;
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_free_ char *line = NULL;
        size_t size = 0;

        if (found)
                return found;
        f = fopen("/proc/self/mountinfo", "re");
        while (f && !found && getline(&line, &size, f) > 0) {
                const char *type = strstr(line, " - ");
                int from = 0, to = 0;

                if (!type || strncmp(type, " - cgroup2 ", 11) != 0)
                        continue;
                /* The fields are id, parent, device, root, mount point. A mount point with a space in it is
                 * escaped; we do not take such a one. */
                (void) sscanf(line, "%*d %*d %*s / %n%*s%n", &from, &to);
                if (to > from && !memchr(line + from, '\\', (size_t) (to - from)))
                        found = strndup(line + from, (size_t) (to - from));
        }
        return found;
}

int cgroup_of(pid_t pid, char **ret_directory)
{
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_free_ char *line = NULL;
        const char *root = mount_point();
        char path[64], *directory;
        size_t size = 0;
        ssize_t n;

        if (!root)
                return -ENOENT;
        snprintf(path, sizeof path, "/proc/%d/cgroup", (int) pid);
        f = fopen(path, "re");
        if (!f)
                return errno == ENOENT ? -ESRCH : -errno;
        while ((n = getline(&line, &size, f)) > 0) {
                if (strncmp(line, "0::/", 4) != 0)
                        continue;
                if (line[n - 1] == '\n')
                        line[n - 1] = '\0';
                /* The group is outside of what we see; or it has gone, and another group may have its name by
                 * now. */
                if (line[4] == '\0' || strstr(line, "/../") || strstr(line, " (deleted)"))
                        return -ENOENT;
                if (asprintf(&directory, "%s%s", root, line + 3) < 0)
                        return -ENOMEM;
                *ret_directory = directory;
                return 0;
        }
        return ferror(f) ? -ESRCH : -ENOENT;
}

/* 1, 0, or -ENOENT: it is the root. */
static int is_told_to_freeze(const char *directory)
{
        char path[PATH_MAX], text[4];
        int r;

        if (snprintf(path, sizeof path, "%s/cgroup.freeze", directory) >= (int) sizeof path)
                return -ENAMETOOLONG;
        r = proc_read_small(path, text, sizeof text);
        return r < 0 ? r : text[0] == '1';
}

int cgroup_frozen_by(pid_t pid, char **ret_directory)
{
        _cleanup_free_ char *directory = NULL;
        char *slash;
        int r = cgroup_of(pid, &directory);

        if (r < 0)
                return r;
        while ((r = is_told_to_freeze(directory)) == 0 && (slash = strrchr(directory, '/')))
                *slash = '\0';
        if (r > 0) {
                *ret_directory = directory;
                directory = NULL;
        }
        return r > 0;
}

int cgroup_each(const char *directory, int (*cb)(void *userdata, pid_t pid), void *userdata)
{
        struct group_list l;
        pid_t pid;
        int r;

        r = group_list_open(&l, directory);
        while (r >= 0 && (r = group_list_next(&l, &pid)) != 0) {
                if (r > 0)
                        r = cb(userdata, pid);
                else if (r == -EAGAIN)
                        r = 0;
                if (r != 0)
                        break;
        }
        group_list_close(&l);
        return r;
}

int cgroup_events_open(const char *directory)
{
        _cleanup_free_ char *path = NULL;
        int fd;

        if (asprintf(&path, "%s/cgroup.events", directory) < 0)
                return -ENOMEM;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int cgroup_events_populated(int fd)
{
        char text[256];
        ssize_t n = pread(fd, text, sizeof text - 1, 0);

        if (n < 0)
                return errno == ENODEV ? 0 : -errno;
        text[n] = '\0';
        return strstr(text, "populated 1") != NULL;
}
