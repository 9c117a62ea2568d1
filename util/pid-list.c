/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/pid-list.h"
#include "util/proc.h"

static int file_open(struct pid_file *f, const char *path)
{
        f->fd = open(path, O_RDONLY | O_CLOEXEC);
        f->at = f->n = 0;
        f->number = 0;
        return f->fd < 0 ? -errno : 0;
}

static void file_close(struct pid_file *f)
{
        closep(&f->fd);
        f->fd = -1;
}

/* The number 0 stands for a process that is not in our pid namespace. */
static int file_next(struct pid_file *f, pid_t *ret)
{
        for (;;) {
                char c;

                if (f->at == f->n) {
                        ssize_t n = read(f->fd, f->text, sizeof f->text);

                        if (n <= 0)
                                return n < 0 ? -errno : 0;
                        f->at = 0;
                        f->n = (size_t) n;
                }
                c = f->text[f->at++];
                if (c >= '0' && c <= '9' && f->number <= INT32_MAX / 10 - 1) {
                        f->number = f->number * 10 + (c - '0');
                } else if (f->number > 0) {
                        *ret = f->number;
                        f->number = 0;
                        return 1;
                }
        }
}

static DIR *open_directory(const char *path)
{
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fd < 0 ? NULL : fdopendir(fd);

        if (!d && fd >= 0)
                close(fd);
        return d;
}

static void close_directory(DIR **d)
{
        if (*d)
                closedir(*d);
        *d = NULL;
}

/* The pid that a name in /proc stands for, or 0. */
static pid_t name_to_pid(const char *name)
{
        long n = 0;

        for (; *name; name++) {
                if (*name < '0' || *name > '9' || n > INT32_MAX / 10)
                        return 0;
                n = n * 10 + (*name - '0');
        }
        return n <= INT32_MAX ? (pid_t) n : 0;
}

int child_list_open(struct child_list *l, pid_t parent, bool is_single)
{
        char path[96];

        *l = (struct child_list){.parent = parent, .file.fd = -1};
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int) parent, (int) parent);
        if (is_single && file_open(&l->file, path) >= 0)
                return 0;
        if (access(path, R_OK) < 0) { /* CONFIG_PROC_CHILDREN is not everywhere */
                snprintf(path, sizeof path, "/proc/%d", (int) parent);
                if (access(path, F_OK) < 0)
                        return 0;
                l->by_parent = true;
                l->directory = open_directory("/proc");
        } else {
                snprintf(path, sizeof path, "/proc/%d/task", (int) parent);
                l->directory = open_directory(path);
        }
        return l->directory || errno == ENOENT ? 0 : -errno;
}

static int next_by_parent(struct child_list *l, pid_t pid, pid_t *ret)
{
        struct proc_stat stat;

        if (proc_stat_read(pid, &stat) < 0 || stat.ppid != l->parent)
                return -EAGAIN;
        *ret = pid;
        return 1;
}

/* Each thread has children of its own. */
static int open_thread(struct child_list *l, pid_t tid)
{
        char path[96];
        int r;

        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int) l->parent, (int) tid);
        r = file_open(&l->file, path);
        return r == -EMFILE || r == -ENFILE ? r : -EAGAIN;
}

int child_list_next(struct child_list *l, pid_t *ret)
{
        struct dirent *entry;
        pid_t pid;

        if (l->file.fd >= 0) {
                if (file_next(&l->file, ret) > 0)
                        return 1;
                file_close(&l->file);
                return l->directory ? -EAGAIN : 0;
        }
        do {
                entry = l->directory ? readdir(l->directory) : NULL;
                if (!entry) {
                        /* A thread that has ended meanwhile has left its children to this one. */
                        if (l->n_threads < 2 || l->is_last)
                                return 0;
                        l->is_last = true;
                        return open_thread(l, l->parent);
                }
                pid = name_to_pid(entry->d_name);
        } while (pid <= 0);
        if (l->by_parent)
                return next_by_parent(l, pid, ret);
        l->n_threads++;
        return open_thread(l, pid);
}

void child_list_close(struct child_list *l)
{
        file_close(&l->file);
        close_directory(&l->directory);
}

static int group_list_add(struct group_list *l, char *directory)
{
        if (!directory)
                return -ENOMEM;
        if (l->n == l->n_allocated) {
                size_t n = l->n_allocated > 0 ? l->n_allocated * 2 : 8;
                char **larger = reallocarray(l->directories, n, sizeof *larger);

                if (!larger) {
                        free(directory);
                        return -ENOMEM;
                }
                l->directories = larger;
                l->n_allocated = n;
        }
        l->directories[l->n++] = directory;
        return 0;
}

int group_list_open(struct group_list *l, const char *directory)
{
        *l = (struct group_list){.file.fd = -1};
        return group_list_add(l, strdup(directory));
}

static int next_directory(struct group_list *l)
{
        _cleanup_free_ char *path = NULL;
        int r;

        free(l->directory);
        l->directory = NULL;
        if (l->n == 0)
                return 0;
        l->directory = l->directories[--l->n];
        if (asprintf(&path, "%s/cgroup.procs", l->directory) < 0)
                return -ENOMEM;
        l->below = open_directory(l->directory);
        r = l->below ? file_open(&l->file, path) : -errno;
        return r >= 0 || r == -ENOENT || r == -ENODEV ? -EAGAIN : r;
}

int group_list_next(struct group_list *l, pid_t *ret)
{
        struct dirent *entry;
        char *path;
        int r;

        if (l->file.fd >= 0) {
                r = file_next(&l->file, ret);
                if (r > 0)
                        return 1;
                file_close(&l->file);
                /* The processes of a threaded group are those of the group above it. */
                return r == 0 || r == -ENODEV || r == -EOPNOTSUPP ? -EAGAIN : r;
        }
        while (l->below && (entry = readdir(l->below))) {
                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                if (asprintf(&path, "%s/%s", l->directory, entry->d_name) < 0)
                        return -ENOMEM;
                r = group_list_add(l, path);
                return r < 0 ? r : -EAGAIN;
        }
        close_directory(&l->below);
        return next_directory(l);
}

void group_list_close(struct group_list *l)
{
        file_close(&l->file);
        close_directory(&l->below);
        free(l->directory);
        l->directory = NULL;
        while (l->n > 0)
                free(l->directories[--l->n]);
        free(l->directories);
        l->directories = NULL;
        l->n_allocated = 0;
}
