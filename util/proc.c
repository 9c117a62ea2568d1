/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/proc.h"
#include "util/pid-list.h"
#include "util/cleanup.h"
#include "util/utf8.h"

#define PF_KTHREAD 0x00200000 /* include/linux/sched.h; proc_pid_stat(5) names that file for the flags */

/* A whole file of /proc that fits, as a string. The kernel writes such a file in one piece. So where it is
 * less than was asked for, nothing more comes. */
int proc_read_small(const char *path, char *buffer, size_t size)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        ssize_t n;

        if (fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        do
                n = read(fd, buffer, size - 1);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        buffer[n] = '\0';
        return 0;
}

int proc_stat_parse(const char *text, struct proc_stat *ret)
{
        struct proc_stat s = {};
        unsigned long long start, user, kernel, rss;
        const char *open_, *close_;
        unsigned flags;
        char state;
        int ppid;
        size_t n;

        /* A command may hold spaces and parentheses, so the last ')' ends it: only numbers follow. */
        open_ = strchr(text, '(');
        close_ = strrchr(text, ')');
        if (!open_ || !close_ || close_ < open_)
                return -EBADMSG;
        if (sscanf(close_ + 1,
                            " %c %d %*d %*d %*d %*d %u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %u %*d %llu "
                            "%*u %llu",
                            &state, &ppid, &flags, &user, &kernel, &s.n_threads, &start, &rss) != 8)
                return -EBADMSG;
        n = (size_t) (close_ - open_ - 1);
        if (n >= sizeof s.comm)
                n = sizeof s.comm - 1;
        memcpy(s.comm, open_ + 1, n);
        (void) utf8_mend(s.comm); /* a process names itself as it likes */
        s.state = state;
        s.is_kernel = flags & PF_KTHREAD;
        s.ppid = ppid;
        s.start_ticks = start;
        s.cpu_ticks = user + kernel;
        s.rss_pages = rss;
        *ret = s;
        return 0;
}

bool proc_fd_is_pidfd(int fd)
{
        char path[64], name[32];
        ssize_t n;

        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        n = readlink(path, name, sizeof name - 1);
        if (n < 0)
                return false;
        name[n] = '\0';
        /* Linux 6.9 says the second. The name of a file would begin with a slash. */
        return strcmp(name, "anon_inode:[pidfd]") == 0 || strncmp(name, "pidfd:[", 7) == 0;
}

bool proc_socket_holds_fds(int fd)
{
        char path[64], text[1024];
        const char *line;
        unsigned n;

        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
        if (proc_read_small(path, text, sizeof text) < 0)
                return true;
        line = strstr(text, "\nscm_fds:");
        return !line || sscanf(line, "\nscm_fds: %u", &n) != 1 || n > 0;
}

int proc_pidfd_to_pid(int pidfd, pid_t *ret)
{
        char path[64], text[1024];
        const char *line;
        int pid, r;

        /* What an epoll set says of itself takes long to write down. */
        if (!proc_fd_is_pidfd(pidfd))
                return -EBADF;
        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
        r = proc_read_small(path, text, sizeof text);
        if (r == -ESRCH)
                return -EBADF;
        if (r < 0)
                return r;
        line = strstr(text, "\nPid:");
        if (!line || sscanf(line, "\nPid: %d", &pid) != 1)
                return -EBADF;
        if (pid <= 0) /* -1: reaped, 0: not in our pid namespace */
                return -ESRCH;
        *ret = pid;
        return 0;
}

bool proc_pidfd_exited(int pidfd)
{
        struct pollfd p = {.fd = pidfd, .events = POLLIN};

        return poll(&p, 1, 0) > 0;
}

struct pidfd_information {
        uint64_t mask, cgroup_id;
        uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
        int32_t exit_code;
};

#define GET_INFORMATION _IOWR(0xFF, 11, struct pidfd_information)
#define HAS_PIDS (UINT64_C(1) << 0)
#define HAS_CREDENTIALS (UINT64_C(1) << 1)

int pidfd_owner(int pidfd, struct pidfd_owner *ret)
{
        const uint64_t wanted = HAS_PIDS | HAS_CREDENTIALS;
        struct pidfd_information i = {.mask = wanted};

        if (ioctl(pidfd, GET_INFORMATION, &i) < 0)
                return errno == ESRCH ? -ESRCH : -EOPNOTSUPP;
        if ((i.mask & wanted) != wanted)
                return -ESRCH; /* just how it has ended is known */
        *ret = (struct pidfd_owner){.pid = (pid_t) i.pid,
                        .tgid = (pid_t) i.tgid,
                        .ppid = (pid_t) i.ppid,
                        .uids = {i.ruid, i.euid, i.suid}};
        return 0;
}

static uint64_t nsec_per_tick(void)
{
        static uint64_t n;

        if (n == 0)
                n = UINT64_C(1000000000) / (uint64_t) sysconf(_SC_CLK_TCK);
        return n;
}

uint64_t proc_nsec_to_ticks(uint64_t nsec)
{
        return nsec / nsec_per_tick();
}

uint64_t proc_ticks_to_nsec(uint64_t ticks)
{
        return ticks * nsec_per_tick();
}

int proc_each_child(pid_t pid, int (*cb)(void *userdata, pid_t child), void *userdata)
{
        struct child_list l;
        pid_t child;
        int r;

        r = child_list_open(&l, pid, false);
        while (r >= 0 && (r = child_list_next(&l, &child)) != 0) {
                if (r > 0)
                        r = cb(userdata, child);
                else if (r == -EAGAIN)
                        r = 0;
                if (r != 0)
                        break;
        }
        child_list_close(&l);
        return r;
}

int pidfd_open_process(pid_t pid)
{
        int fd = (int) syscall(SYS_pidfd_open, pid, 0);

        return fd < 0 ? -errno : fd;
}

int pidfd_signal(int pidfd, int signal)
{
        return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}
