/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/bus/connection.h"
#include "daemon/engine/internal.h"
#include "util/clock.h"
#include "util/foreign.h"
#include "util/proc.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/world.h"

#define VICTIM_NAME "\xff odd) \n(x"

struct scene world;
struct victim victims[VICTIMS];
const uid_t world_uids[WORLD_UIDS] = {0, 1000, 4242};

static int lowest_free(void)
{
        int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

        REQUIRE(fd >= 0);
        close(fd);
        return fd;
}

/* The event loop that they answer to lives on as well, with the clocks that sd-event keeps. */
static struct foreign *guard;
static sd_event *guarded;

void world_guard(void)
{
        static const clockid_t clocks[] = {CLOCK_BOOTTIME, CLOCK_MONOTONIC};

        if (guard)
                return;
        REQUIRE(sd_event_new(&guarded) >= 0 && foreign_new(&guard, guarded) >= 0);
        for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
                sd_event_source *source = NULL;

                REQUIRE(sd_event_add_time(guarded, &source, clocks[i], UINT64_MAX, 0, NULL, NULL) >= 0);
                sd_event_source_unref(source);
        }
}

void world_start(void)
{
        unsetenv("JOURNAL_STREAM"); /* nothing of this is for a journal */
        signal(SIGPIPE, SIG_IGN);
        victims_ensure();
        memset(&world, 0, sizeof world);
        world.lowest = lowest_free();
        if (guarded)
                world.event = sd_event_ref(guarded);
        else
                REQUIRE(sd_event_new(&world.event) >= 0);
        REQUIRE(tree_new(&world.tree) == 0);
        world.tree->users.pools[POOL_CONTEXTS].limit = 500;
        world.tree->users.limit[RESOURCE_CONTEXTS] = 200;
        world.tree->users.limit[RESOURCE_HANDLES] = 20;
        world.tree->users.limit[RESOURCE_MEMBERS] = 20;
        world.tree->users.limit[RESOURCE_BYTES] = 20000;
        world.tree->users.limit[RESOURCE_CONNECTIONS] = 4;
        world.tree->max_value_bytes = 4000;
        REQUIRE(service_init(&world.service, world.event, world.tree) == 0);
        world.engine = world.service.engine;
        world.engine->world.foreign = guard;
}

uint64_t world_connections(void)
{
        uint64_t n = 0;

        for (const struct user *u = world.tree->users.by_uid; u; u = u->hh.next)
                n += u->used[RESOURCE_CONNECTIONS];
        return n;
}

void world_stop(void)
{
        uint64_t end_usec = now_boottime_usec() + WORLD_PATIENCE_USEC;

        while (!TAILQ_EMPTY(&world.service.connections))
                connection_free(TAILQ_FIRST(&world.service.connections));
        while (guard && world_connections() > 0 && now_boottime_usec() < end_usec)
                world_run_until(1000);
        REQUIRE(world_connections() == 0);
        world.engine->world.foreign = NULL;
        service_deinit(&world.service);
        world.tree = tree_free(world.tree);
        world.event = sd_event_unref(world.event);
        REQUIRE(lowest_free() == world.lowest);
}

int world_connect(uid_t uid)
{
        int fds[2], r;

        /* A pair of sockets has the credentials of its maker; of this thread, not of all. */
        if (uid != 0 && geteuid() == 0 && syscall(SYS_setresuid, -1, uid, -1) < 0)
                return -errno;
        r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0 ? -errno : 0;
        if (geteuid() == uid && getuid() == 0)
                REQUIRE(syscall(SYS_setresuid, -1, 0, -1) == 0);
        if (r < 0)
                return r;
        r = connection_accept(&world.service, fds[0], uid);
        if (r < 0) {
                close(fds[1]);
                return r;
        }
        return fds[1];
}

void world_run_until(uint64_t usec)
{
        /* Bounded: a connection that is never read may want to be written to for ever. */
        for (unsigned i = 0; i < 200 && sd_event_run(world.event, usec) > 0; i++)
                ;
}

void world_run(void)
{
        world_run_until(0);
}

static void __attribute__((noreturn)) victim_wait(const char *name, pid_t parent)
{
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigset_t none;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* it went before that */
                _exit(1);
        (void) prctl(PR_SET_NAME, name);
        for (int i = 1; i <= SIGRTMAX; i++)
                (void) sigaction(i, &action, NULL);
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        for (;;)
                pause();
}

static pid_t victim_fork(unsigned i)
{
        pid_t parent = getpid(), pid = fork();

        if (pid != 0)
                return pid;
        (void) syscall(SYS_close_range, 0, ~0U, 0);
        pid = getpid();
        if (i == 0 && fork() == 0)
                victim_wait("child", pid);
        if (i == 2 && geteuid() == 0 && setresuid(world_uids[1], world_uids[1], world_uids[1]) < 0)
                _exit(1);
        victim_wait(i == 1 ? VICTIM_NAME : "victim", parent);
}

/* That it has come to rest, so that an input meets the same each time. */
static bool victim_is_ready(pid_t pid)
{
        char path[64], text[64] = "";
        int fd;

        snprintf(path, sizeof path, "/proc/%d/wchan", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
                text[0] = '\0';
        if (fd >= 0)
                close(fd);
        return strstr(text, "pause") != NULL;
}

/* Which decides who may attach it. */
static bool has_its_uid(unsigned i)
{
        struct proc_status status;

        return proc_status_read(victims[i].pid, &status) >= 0 &&
               status.uids[2] == (i == 2 && geteuid() == 0 ? world_uids[1] : geteuid());
}

static void victim_start(unsigned i)
{
        struct victim *v = &victims[i];

        v->pid = victim_fork(i);
        REQUIRE(v->pid > 0);
        v->pidfd = (int) syscall(SYS_pidfd_open, v->pid, 0);
        REQUIRE(v->pidfd >= 0);
        for (unsigned n = 0; n < 50000 && !(has_its_uid(i) && (n > 50 || victim_is_ready(v->pid))); n++)
                usleep(200);
}

static void victims_end(void)
{
        for (unsigned i = 0; i < VICTIMS; i++)
                if (victims[i].pid > 0)
                        kill(victims[i].pid, SIGKILL);
}

void victims_ensure(void)
{
        static bool registered;

        if (!registered)
                atexit(victims_end);
        registered = true;
        for (unsigned i = 0; i < VICTIMS; i++) {
                struct victim *v = &victims[i];
                int status;

                if (v->pid > 0) {
                        (void) kill(v->pid, SIGCONT);
                        if (waitpid(v->pid, &status, WNOHANG) != v->pid)
                                continue;
                        close(v->pidfd);
                }
                victim_start(i);
        }
}

void victim_kill(unsigned i)
{
        struct pollfd p = {.fd = victims[i].pidfd, .events = POLLIN};
        int n;

        REQUIRE(kill(victims[i].pid, SIGKILL) == 0);
        do /* libFuzzer has a timer of its own */
                n = poll(&p, 1, 20000);
        while (n < 0 && errno == EINTR);
        REQUIRE(n == 1);
}

int victim_dead_pidfd(void)
{
        static int fd = -1;
        pid_t pid;

        if (fd >= 0)
                return fd;
        pid = fork();
        if (pid == 0)
                _exit(0);
        REQUIRE(pid > 0);
        fd = (int) syscall(SYS_pidfd_open, pid, 0);
        REQUIRE(waitpid(pid, NULL, 0) == pid);
        return fd;
}
