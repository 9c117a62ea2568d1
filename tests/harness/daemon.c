/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/base.h"
#include "tests/harness/daemon.h"
#include "tests/harness/process.h"

#define DAEMON_ARGUMENTS_MAX 8

static int listen_for_ready(const struct daemon *d)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", d->directory);
        unlink(address.sun_path);
        if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof address) < 0 ||
                        chmod(address.sun_path, 0666) < 0)
                give_up("notification socket", errno);
        return fd;
}

static void hand_over(int fd)
{
        char pid[16];

        snprintf(pid, sizeof pid, "%d", getpid());
        setenv("LISTEN_PID", pid, 1);
        setenv("LISTEN_FDS", "1", 1);
        setenv("LISTEN_FDNAMES", "bus", 1);
        if (fd == 3)
                fcntl(3, F_SETFD, 0);
        else
                dup2(fd, 3);
}

static _Noreturn void exec_daemon(const struct daemon *d)
{
        const char *program = d->program ? d->program : getenv("CTXD_PROGRAM");
        char config[96], embedded[96], probe[512], text[192];
        const char *arguments[DAEMON_ARGUMENTS_MAX] = {program, config};
        size_t n = 2;

        snprintf(config, sizeof config, "--config=%s/ctxd.conf", d->directory);
        snprintf(embedded, sizeof embedded, "--embedded=%s", d->directory);
        if (!d->bus)
                arguments[n++] = embedded;
        else if (!d->system)
                arguments[n++] = "--user";
        if (d->probe) {
                snprintf(probe, sizeof probe, "--probe-program=%s", d->probe);
                arguments[n++] = probe;
        }
        snprintf(text, sizeof text, "%s/log", d->directory);
        dup2(open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), STDERR_FILENO);
        dup2(STDERR_FILENO, STDOUT_FILENO);
        (void) close_range(d->given > 0 ? (unsigned) d->given + 1 : 3, ~0U, CLOSE_RANGE_CLOEXEC);
        if (d->given > 0)
                hand_over(d->given);
        setenv("XDG_RUNTIME_DIR", d->directory, 1);
        if (d->bus)
                setenv(d->system ? "DBUS_SYSTEM_BUS_ADDRESS" : "DBUS_SESSION_BUS_ADDRESS", d->bus, 1);
        snprintf(text, sizeof text, "%s/notify", d->directory);
        setenv("NOTIFY_SOCKET", text, 1);
        unsetenv("WATCHDOG_USEC");
        if (d->prepare)
                d->prepare(d);
        execvp(program, (char **) arguments);
        _exit(127);
}

void daemon_configure(struct daemon *d, const char *configuration)
{
        char path[96];
        FILE *f;

        if (!d->directory[0])
                directory_make(strcpy(d->directory, "/tmp/ctxd-test-XXXXXX"));
        snprintf(path, sizeof path, "%s/ctxd.conf", d->directory);
        f = fopen(path, "we");
        if (!f || fputs(configuration ? configuration : "", f) < 0 || fclose(f) != 0)
                give_up(path, errno);
}

void daemon_launch(struct daemon *d)
{
        if (d->bus)
                snprintf(d->address, sizeof d->address, "%s", d->bus);
        else
                snprintf(d->address, sizeof d->address, "unix:path=%s/bus", d->directory);
        d->notify = listen_for_ready(d);
        d->pid = fork_tied();
        if (d->pid == 0)
                exec_daemon(d);
}

static bool says_ready(int notify)
{
        char text[512];
        ssize_t n = recv(notify, text, sizeof text - 1, MSG_DONTWAIT);

        text[n > 0 ? n : 0] = '\0';
        return strstr(text, "READY=1");
}

static bool has_ended(const struct daemon *d)
{
        siginfo_t info = {};

        return waitid(P_PID, (id_t) d->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == d->pid;
}

bool daemon_becomes_ready(struct daemon *d)
{
        bool ready = false, ended = false;

        (void) HAPPENS((ready = says_ready(d->notify)) || (ended = has_ended(d)));
        close(d->notify);
        d->notify = -1;
        return ready;
}

static void show_log(const struct daemon *d)
{
        char path[96], line[1024];
        FILE *f;

        snprintf(path, sizeof path, "%s/log", d->directory);
        f = fopen(path, "re");
        while (f && fgets(line, sizeof line, f))
                fputs(line, stderr);
        if (f)
                fclose(f);
}

void daemon_start(struct daemon *d, const char *configuration)
{
        daemon_configure(d, configuration);
        daemon_again(d);
        setenv("CTXD_ADDRESS", d->address, 1);
}

/* It is ready before the children it has forked have run; tests find those by their names. */
static bool children_have_names(const struct daemon *d)
{
        return child_with_name(d->pid, "ctxd") == 0;
}

void daemon_again(struct daemon *d)
{
        daemon_launch(d);
        if (daemon_becomes_ready(d)) {
                if (!HAPPENS(children_have_names(d)))
                        give_up("the name of a child of ctxd", ETIMEDOUT);
                return;
        }
        show_log(d);
        give_up("ctxd did not start", ETIMEDOUT);
}

int daemon_stop(struct daemon *d)
{
        int status = -1;

        /* A failed test may have left it stopped. The order matters: the leak sanitizer stops the daemon
         * when it ends, and a SIGCONT after SIGTERM would undo that stop, for which the sanitizer would
         * then wait for ever. */
        kill(d->pid, SIGCONT);
        kill(d->pid, SIGTERM);
        waitpid(d->pid, &status, 0);
        if (status != 0)
                show_log(d);
        directory_remove(d->directory);
        d->directory[0] = '\0';
        d->pid = 0;
        return status;
}

void daemon_kill(struct daemon *d)
{
        pid_t pid = child_with_name(d->pid, "ctxd-heir"); /* it shares the descriptors (util/heir.h) */
        int heir = pid > 0 ? open_pidfd(pid) : -1;

        kill(d->pid, SIGKILL);
        waitpid(d->pid, NULL, 0);
        if (heir < 0)
                return;
        if (!becomes_readable(heir))
                give_up("the end of what shares the descriptors of ctxd", ETIMEDOUT);
        close(heir);
}

void daemon_restart(struct daemon *d)
{
        daemon_kill(d);
        daemon_again(d);
}

#define SOCKETS_MAX 16384

/* The inodes of the machine's sockets of type SOCK_SEQPACKET. */
static size_t find_seqpackets(pid_t pid, unsigned long ret[SOCKETS_MAX])
{
        char path[64], line[512];
        unsigned long inode;
        size_t n = 0;
        unsigned type;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/net/unix", pid);
        f = fopen(path, "re");
        while (f && n < SOCKETS_MAX && fgets(line, sizeof line, f))
                if (sscanf(line, "%*s %*s %*s %*s %x %*s %lu", &type, &inode) == 2 && type == SOCK_SEQPACKET)
                        ret[n++] = inode;
        if (f)
                fclose(f);
        return n;
}

unsigned daemon_fds(const struct daemon *d)
{
        static unsigned long seqpackets[SOCKETS_MAX];
        size_t n_seqpackets = find_seqpackets(d->pid, seqpackets);
        unsigned n = count_fds(d->pid);
        char path[64], target[64];
        struct dirent *entry;
        DIR *dir;

        snprintf(path, sizeof path, "/proc/%d/fd", d->pid);
        dir = opendir(path);
        while (dir && (entry = readdir(dir))) {
                ssize_t length = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
                unsigned long inode;

                target[length > 0 ? length : 0] = '\0';
                if (sscanf(target, "socket:[%lu]", &inode) == 1)
                        for (size_t i = 0; i < n_seqpackets; i++)
                                n -= seqpackets[i] == inode;
        }
        if (dir)
                closedir(dir);
        return n;
}

unsigned daemon_settled_fds(const struct daemon *d, pid_t other)
{
        unsigned fds = 0, same = 0;

        (void) HAPPENS(({
                unsigned now = daemon_fds(d);

                same = now == fds && process_sleeps(d->pid, 0) && (other == 0 || process_sleeps(other, 0))
                                       ? same + 1
                                       : 0;
                fds = now;
                same >= 20;
        }));
        return fds;
}
