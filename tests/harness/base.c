/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness/base.h"

void give_up(const char *what, int error)
{
        fprintf(stderr, "harness: %s: %s\n", what, strerror(error));
        exit(1);
}

void nap(uint64_t usec)
{
        struct timespec ts = {.tv_sec = (time_t) (usec / 1000000), .tv_nsec = (long) (usec % 1000000) * 1000};

        while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
                ;
}

bool is_readable(int fd)
{
        return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

bool becomes_readable(int fd)
{
        return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, WIDE_SEC * 1000) == 1;
}

void directory_make(char *path)
{
        if (!mkdtemp(path) || chmod(path, 0755) < 0)
                give_up(path, errno);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void) remove(path);
        return 0;
}

void directory_remove(const char *path)
{
        (void) nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

void tie_to_parent(pid_t parent)
{
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(1);
}

pid_t fork_tied(void)
{
        pid_t parent = getpid(), pid = fork();

        if (pid < 0)
                give_up("fork", errno);
        if (pid == 0)
                tie_to_parent(parent);
        return pid;
}

char task_state(pid_t pid, pid_t tid)
{
        char path[64], text[512];
        const char *end;
        size_t n;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
        f = fopen(path, "re");
        if (!f)
                return 'X';
        n = fread(text, 1, sizeof text - 1, f);
        text[n] = '\0';
        fclose(f);
        end = strrchr(text, ')');
        return end && end[1] == ' ' ? end[2] : 'X';
}

bool process_sleeps(pid_t pid, pid_t but)
{
        const struct dirent *e;
        bool all = true;
        char path[48];
        DIR *d;

        snprintf(path, sizeof path, "/proc/%d/task", pid);
        d = opendir(path);
        while (d && (e = readdir(d))) {
                pid_t tid = atoi(e->d_name);

                if (tid > 0 && tid != but)
                        all = all && task_state(pid, tid) == 'S';
        }
        if (d)
                closedir(d);
        return all;
}

static unsigned count_entries(const char *path)
{
        DIR *d = opendir(path);
        unsigned n = 0;

        if (!d)
                return 0;
        while (readdir(d))
                n++;
        closedir(d);
        return n - 2; /* "." and ".." */
}

unsigned count_fds(pid_t pid)
{
        char path[48];

        snprintf(path, sizeof path, "/proc/%d/fd", pid);
        return count_entries(path);
}

unsigned count_eventfds(void)
{
        DIR *d = opendir("/proc/self/fd");
        struct dirent *entry;
        unsigned n = 0;

        while (d && (entry = readdir(d))) {
                char target[32] = "";

                n += readlinkat(dirfd(d), entry->d_name, target, sizeof(target) - 1) > 0 &&
                     strcmp(target, "anon_inode:[eventfd]") == 0;
        }
        if (d)
                closedir(d);
        return n;
}

unsigned count_threads(void)
{
        return count_entries("/proc/self/task");
}

bool may_open(unsigned n)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                give_up("getrlimit", errno);
        limit.rlim_cur = limit.rlim_max;
        return limit.rlim_max >= n && setrlimit(RLIMIT_NOFILE, &limit) == 0;
}
