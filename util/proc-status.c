/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/proc-reader.h"
#include "util/proc.h"
#include "util/utf8.h"

/* What /proc/PID/stat, status and comm say. */

int proc_stat_read_directly(pid_t pid, struct proc_stat *ret)
{
        char path[64], text[1024];
        int r;

        snprintf(path, sizeof path, "/proc/%d/stat", (int) pid);
        r = proc_read_small(path, text, sizeof text);
        return r < 0 ? r : proc_stat_parse(text, ret);
}

enum {
        HAS_TGID = 1 << 0,
        HAS_PPID = 1 << 1,
        HAS_UIDS = 1 << 2,
        HAS_GID = 1 << 3,
        HAS_CAUGHT = 1 << 4, /* the last one that is wanted */
        HAS_IDENTITY = HAS_TGID | HAS_PPID | HAS_UIDS | HAS_GID,
};

static uint64_t signal_set(const char *line)
{
        unsigned long long set = 0;

        (void) sscanf(strchr(line, ':') + 1, "%llx", &set);
        return set;
}

static bool begins(const char *line, const char *with)
{
        return strncmp(line, with, strlen(with)) == 0;
}

/* The first line is the command, in which a newline is escaped, so a line cannot be forged. */
static unsigned take_line(const char *line, struct proc_status *s)
{
        unsigned a, b, c;
        int n;

        if (begins(line, "Tgid:") && sscanf(line, "Tgid: %d", &n) == 1) {
                s->tgid = n;
                return HAS_TGID;
        }
        if (begins(line, "PPid:") && sscanf(line, "PPid: %d", &n) == 1) {
                s->ppid = n;
                return HAS_PPID;
        }
        if (begins(line, "Uid:") && sscanf(line, "Uid: %u %u %u", &a, &b, &c) == 3) {
                s->uids[0] = a;
                s->uids[1] = b;
                s->uids[2] = c;
                return HAS_UIDS;
        }
        if (begins(line, "Gid:") && sscanf(line, "Gid: %*u %u", &a) == 1) {
                s->gid = a;
                return HAS_GID;
        }
        if (begins(line, "SigPnd:") || begins(line, "ShdPnd:"))
                s->pending |= signal_set(line);
        else if (begins(line, "SigBlk:"))
                s->blocked = signal_set(line);
        else if (begins(line, "SigIgn:"))
                s->ignored = signal_set(line);
        else if (begins(line, "SigCgt:")) {
                s->caught = signal_set(line);
                return HAS_CAUGHT;
        }
        return 0;
}

/* Reads it in pieces, because the line of the groups can be longer than any of them. */
static int read_lines(int fd, char *text, size_t size, struct proc_status *s)
{
        bool is_rest = false; /* of a line that is too long, and not wanted */
        unsigned has = 0;
        size_t n = 0;

        while (!(has & HAS_CAUGHT)) {
                char *line = text, *end;
                ssize_t k = read(fd, text + n, size - 1 - n);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                if (k == 0)
                        break;
                n += (size_t) k;
                text[n] = '\0';
                for (; (end = strchr(line, '\n')); line = end + 1) {
                        *end = '\0';
                        if (!is_rest)
                                has |= take_line(line, s);
                        is_rest = false;
                }
                n = strlen(line);
                is_rest |= n == size - 1;
                n = is_rest ? 0 : n;
                memmove(text, line, n);
        }
        return (has & HAS_IDENTITY) == HAS_IDENTITY ? 0 : -EBADMSG;
}

int proc_status_read_directly(pid_t pid, char *text, size_t size, struct proc_status *ret)
{
        _cleanup_close_ int fd = -1;
        struct proc_status s = {};
        char path[64];
        int r;

        snprintf(path, sizeof path, "/proc/%d/status", (int) pid);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        r = read_lines(fd, text, size, &s);
        if (r >= 0)
                *ret = s;
        return r;
}

bool proc_status_uid(const char *text, uid_t *ret)
{
        const char *line = strstr(text, "\nUid:");
        unsigned uid;

        if (!line || sscanf(line, "\nUid: %u", &uid) != 1)
                return false;
        *ret = uid;
        return true;
}

int proc_read(pid_t pid, struct proc_stat *ret_stat, struct proc_status *ret_status)
{
        struct proc_stat stat;
        char text[4096];
        int r = 0;

        if (proc_reader_is_there())
                return proc_reader_read(pid, ret_stat, ret_status);
        if (ret_stat)
                r = proc_stat_read_directly(pid, &stat);
        if (r >= 0 && ret_status)
                r = proc_status_read_directly(pid, text, sizeof text, ret_status);
        if (r >= 0 && ret_stat)
                *ret_stat = stat;
        return r;
}

int proc_stat_read(pid_t pid, struct proc_stat *ret)
{
        return proc_read(pid, ret, NULL);
}

int proc_status_read(pid_t pid, struct proc_status *ret)
{
        return proc_read(pid, NULL, ret);
}

int proc_comm_read(pid_t pid, char ret_comm[PROC_COMM_SIZE])
{
        char path[64], text[64] = "";
        int r;

        snprintf(path, sizeof path, "/proc/%d/comm", (int) pid);
        r = proc_read_small(path, text, sizeof text);
        if (r < 0)
                return r;
        if (text[0])
                text[strlen(text) - 1] = '\0'; /* the line's end; there may be others in the command */
        text[PROC_COMM_SIZE - 1] = '\0';
        (void) utf8_mend(text);
        memcpy(ret_comm, text, PROC_COMM_SIZE);
        return 0;
}

static bool is_in_set(uint64_t set, int signal)
{
        return signal > 0 && signal <= 64 && set >> (signal - 1) & 1;
}

bool proc_handles_signal(const struct proc_status *status, int signal, bool *ret_ignored)
{
        /* The two signals that a C library keeps to itself: only it can block them. */
        const uint64_t of_library = 1ULL << 31 | 1ULL << 32;
        uint64_t blocked = status->blocked;

        if ((blocked & of_library) == of_library)
                blocked = 0;
        *ret_ignored = is_in_set(status->ignored, signal);
        return is_in_set(blocked | status->caught, signal);
}

bool proc_signal_is_pending(pid_t pid, int signal)
{
        struct proc_status status;

        return proc_status_read(pid, &status) >= 0 && is_in_set(status.pending, signal);
}
