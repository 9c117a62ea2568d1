/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/bench/common.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char directory[] = "/tmp/ctxd-bench-XXXXXX";
static struct daemon the_daemon;
static pid_t children[64], made_by;
static size_t n_children;
static unsigned n_sockets;

uint64_t now_nsec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

void want_descriptors(unsigned n)
{
        if (!may_open(n)) {
                fprintf(stderr, "%u descriptors are needed (ulimit -n)\n", n);
                exit(1);
        }
}

void pin(void)
{
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(sched_getcpu(), &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0)
                DIE("cannot pin to one core");
}

void bench_end(pid_t pid)
{
        for (size_t i = 0; i < n_children; i++)
                if (children[i] == pid) {
                        children[i] = children[--n_children];
                        kill(pid, SIGTERM);
                        waitpid(pid, NULL, 0);
                        return;
                }
}

static void cleanup(void)
{
        if (getpid() != made_by)
                return;
        while (n_children > 0)
                bench_end(children[n_children - 1]);
        directory_remove(directory);
}

const char *bench_directory(void)
{
        if (made_by == 0) {
                directory_make(directory);
                made_by = getpid();
                atexit(cleanup);
        }
        return directory;
}

static void remember(pid_t pid)
{
        if (n_children == sizeof children / sizeof *children)
                DIE("too many children");
        children[n_children++] = pid;
}

pid_t bench_fork(void)
{
        pid_t pid;

        (void) bench_directory();
        fflush(stdout);
        pid = fork_tied();
        if (pid > 0)
                remember(pid);
        return pid;
}

static char *socket_address(const char *path)
{
        char *address;

        if (asprintf(&address, "unix:path=%s", path) < 0)
                DIE("no memory");
        return address;
}

const char *start_daemon(const char *program, const char *config, const char *bus)
{
        char text[256];

        strcpy(the_daemon.directory, bench_directory());
        snprintf(text, sizeof text, "[Daemon]\n%s\n", config ? config : "");
        the_daemon.program = program;
        the_daemon.bus = bus;
        daemon_start(&the_daemon, text);
        remember(the_daemon.pid);
        return the_daemon.address;
}

pid_t daemon_pid(void)
{
        return the_daemon.pid;
}

static bool is_there(const char *program)
{
        char command[128];

        snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
        return system(command) == 0;
}

const char *start_bus(const char *kind)
{
        static struct private_bus buses[2]; /* for as long as we run */
        static unsigned n;
        struct private_bus *bus;

        if (!is_there(kind))
                return NULL;
        bus = &buses[n++];
        bus_start(bus, kind, bench_directory());
        remember(bus->pid);
        return bus->address;
}

static void process(sd_bus *bus)
{
        for (;;) {
                int r = sd_bus_process(bus, NULL);

                if (r < 0)
                        _exit(0);
                if (r == 0 && sd_bus_wait(bus, UINT64_MAX) < 0)
                        _exit(0);
        }
}

/* Serves one connection. */
static void serve(int listener, void (*setup)(sd_bus *bus))
{
        sd_id128_t id;
        sd_bus *bus;
        int fd;

        do
                fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        while (fd < 0 && errno == EINTR);
        if (fd < 0 || sd_id128_randomize(&id) < 0 || sd_bus_new(&bus) < 0 || sd_bus_set_fd(bus, fd, fd) < 0 ||
                        sd_bus_set_server(bus, 1, id) < 0 || sd_bus_negotiate_fds(bus, 1) < 0 ||
                        sd_bus_start(bus) < 0)
                DIE("the peer cannot serve");
        setup(bus);
        process(bus);
}

const char *start_server(void (*setup)(sd_bus *bus))
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(address.sun_path, sizeof address.sun_path, "%s/peer%u", bench_directory(), n_sockets++);
        if (bind(listener, (struct sockaddr *) &address, sizeof address) < 0 || listen(listener, 1) < 0)
                DIE("the peer cannot listen");
        if (bench_fork() == 0)
                serve(listener, setup);
        close(listener);
        return socket_address(address.sun_path);
}

void start_server_on_bus(const char *address, const char *name, void (*setup)(sd_bus *bus))
{
        int ready[2];
        char byte;

        if (pipe2(ready, O_CLOEXEC) < 0)
                DIE("no pipe");
        if (bench_fork() == 0) {
                sd_bus *bus = bus_connect(address, true);

                setup(bus);
                if (sd_bus_request_name(bus, name, 0) < 0)
                        DIE(name);
                (void) !write(ready[1], "!", 1);
                process(bus);
        }
        close(ready[1]);
        if (read(ready[0], &byte, 1) != 1)
                DIE("the peer is gone");
        close(ready[0]);
}

void table(const char *title, const char *ours, const char *theirs)
{
        printf("\n%s\n\n%-52s %12s %14s %8s  %s\n", title, "", ours, theirs, "ratio", "target");
}

static const char *verdict(double target, bool ok)
{
        return target == 0 ? "" : ok ? "reached" : "MISSED";
}

void row(const char *what, double ours, double theirs, double target, bool more_is_better)
{
        double ratio = ours / theirs;
        char text[32] = "";

        if (target > 0)
                snprintf(text, sizeof text, "%s %.2f", more_is_better ? ">=" : "<=", target);
        printf("%-52s %12.2f %14.2f %8.2f  %-8s %s\n", what, ours, theirs, ratio, text,
                        verdict(target, more_is_better ? ratio >= target : ratio <= target));
        fflush(stdout);
}

void row_limit(const char *what, double ours, double limit)
{
        char text[32] = "";

        if (limit > 0)
                snprintf(text, sizeof text, "<= %.0f", limit);
        printf("%-52s %12.2f %14s %8s  %-8s %s\n", what, ours, "", "", text, verdict(limit, ours <= limit));
        fflush(stdout);
}
