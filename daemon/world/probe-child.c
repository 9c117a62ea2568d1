/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/world/probe-internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/proc.h"

/* If no unit runs ctxd-probe (--embedded, --user), ctxd starts it, with one end of a socket pair as
 * descriptor 3. When it has exited, ctxd starts it again after a pause. The pause grows each time that the
 * probe ends early. */

#define PROBE_SOCKET_FD 3
#define BACKOFF_MIN_USEC 1000000
#define BACKOFF_MAX_USEC 60000000
/* A probe that has run for longer than this has not ended early. */
#define LASTED_USEC 30000000
/* So long its end is waited for. */
#define END_MSEC 200

static int child_exited(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct probe *p = userdata;
        siginfo_t info = {};
        char why[128];

        if (waitid(P_PIDFD, (id_t) fd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
                snprintf(why, sizeof why, "ctxd-probe has exited");
        else if (info.si_code == CLD_EXITED)
                snprintf(why, sizeof why, "ctxd-probe has exited with status %d", info.si_status);
        else
                snprintf(why, sizeof why, "ctxd-probe was killed by signal %d", info.si_status);
        p->child_source = sd_event_source_disable_unref(p->child_source);
        close(p->child_pidfd);
        p->child_pidfd = -1;
        probe_lost(p, why);
        probe_child_again(p);
        facts_wake(&p->world->facts);
        return 0;
}

/* Our own environment without the variables that the service manager has set for ctxd alone. With them a
 * probe that says READY would be taken for ctxd. */
static char **environment_new(void)
{
        static const char *const ours[] = {"NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_"};
        size_t n = 0, kept = 0;
        char **copy;

        while (environ[n])
                n++;
        copy = calloc(n + 1, sizeof *copy);
        if (!copy)
                return NULL;
        for (size_t i = 0; i < n; i++) {
                bool is_ours = false;

                for (size_t k = 0; k < ELEMENTSOF(ours); k++)
                        is_ours |= strncmp(environ[i], ours[k], strlen(ours[k])) == 0;
                if (!is_ours)
                        copy[kept++] = environ[i];
        }
        return copy;
}

static int spawn(const char *program, int socket_fd, pid_t *ret)
{
        _cleanup_free_ char **environment = environment_new();
        char *argv[] = {(char *) "ctxd-probe", (char *) "--fd=3", NULL};
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        sigset_t none, all;
        int r;

        if (!environment)
                return -ENOMEM;
        sigemptyset(&none);
        sigfillset(&all);
        (void) posix_spawnattr_init(&attr);
        (void) posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        (void) posix_spawnattr_setsigmask(&attr, &none);
        (void) posix_spawnattr_setsigdefault(&attr, &all);
        (void) posix_spawn_file_actions_init(&actions);
        /* If both numbers are the same, posix_spawn only clears the close-on-exec flag. */
        r = posix_spawn_file_actions_adddup2(&actions, socket_fd, PROBE_SOCKET_FD);
        if (r == 0)
                r = posix_spawn(ret, program, &actions, &attr, argv, environment);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attr);
        return -r;
}

int probe_child_start(struct probe *p)
{
        _cleanup_close_ int theirs = -1, pidfd = -1;
        int pair[2], r;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                return -errno;
        theirs = pair[1];
        (void) fcntl(theirs, F_SETFL, 0); /* the probe's end is blocking */
        r = spawn(p->program, theirs, &pid);
        if (r < 0) {
                close(pair[0]);
                return r;
        }
        pidfd = pidfd_open_process(pid);
        if (pidfd >= 0)
                r = sd_event_add_io(p->world->event, &p->child_source, pidfd, EPOLLIN, child_exited, p);
        else
                r = pidfd;
        if (r < 0) {
                close(pair[0]);
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
                return r;
        }
        (void) sd_event_source_set_description(p->child_source, "probe-exit");
        p->child_pidfd = TAKE_FD(pidfd);
        p->child_started_usec = now_boottime_usec();
        return probe_connected(p, pair[0], pid);
}

static int start_again(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct probe *p = userdata;
        int r;

        p->restart_source = sd_event_source_disable_unref(p->restart_source);
        r = probe_child_start(p);
        if (r < 0) {
                log_warning("Cannot start %s: %s", p->program, strerror(-r));
                probe_child_again(p);
        }
        facts_wake(&p->world->facts);
        return 0;
}

void probe_child_again(struct probe *p)
{
        if (!p->program || p->restart_source)
                return;
        if (p->backoff_usec == 0 || now_boottime_usec() - p->child_started_usec > LASTED_USEC)
                p->backoff_usec = BACKOFF_MIN_USEC;
        else if (p->backoff_usec < BACKOFF_MAX_USEC)
                p->backoff_usec *= 2;
        if (sd_event_add_time_relative(p->world->event, &p->restart_source, CLOCK_MONOTONIC, p->backoff_usec,
                            0, start_again, p) >= 0)
                (void) sd_event_source_set_description(p->restart_source, "probe-restart");
}

void probe_child_stop(struct probe *p)
{
        struct pollfd ended = {.fd = p->child_pidfd, .events = POLLIN};

        p->restart_source = sd_event_source_disable_unref(p->restart_source);
        p->child_source = sd_event_source_disable_unref(p->child_source);
        if (p->child_pidfd < 0)
                return;
        /* The socket was closed, so the probe ends anyway. It holds nothing that it would have to clean
         * up. Where the kernel takes long to take its programs out, the daemon does not wait for that. */
        (void) world_signal(p->world, p->child_pidfd, SIGKILL);
        (void) poll(&ended, 1, END_MSEC);
        (void) waitid(P_PIDFD, (id_t) p->child_pidfd, &(siginfo_t){}, WEXITED | WNOHANG);
        close(p->child_pidfd);
        p->child_pidfd = -1;
}
