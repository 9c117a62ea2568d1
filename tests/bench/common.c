/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/bench/common.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char directory[] = "/tmp/ctxd-bench-XXXXXX";
static pid_t children[64], the_daemon, made_by;
static size_t n_children;
static unsigned n_sockets;

uint64_t now_nsec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

void nap(uint64_t usec)
{
        nanosleep(&(struct timespec){.tv_sec = (time_t) (usec / 1000000),
                                  .tv_nsec = (long) (usec % 1000000 * 1000)},
                        NULL);
}

void want_descriptors(unsigned n)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                DIE("getrlimit");
        limit.rlim_cur = limit.rlim_max;
        if (limit.rlim_max < n || setrlimit(RLIMIT_NOFILE, &limit) < 0) {
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
        struct dirent *entry;
        DIR *dir;

        if (getpid() != made_by)
                return;
        while (n_children > 0)
                bench_end(children[n_children - 1]);
        dir = opendir(directory);
        while (dir && (entry = readdir(dir)))
                (void) unlinkat(dirfd(dir), entry->d_name, 0);
        if (dir)
                closedir(dir);
        rmdir(directory);
}

const char *bench_directory(void)
{
        if (made_by == 0) {
                if (!mkdtemp(directory) || chmod(directory, 0755) < 0)
                        DIE("no directory");
                made_by = getpid();
                atexit(cleanup);
        }
        return directory;
}

pid_t bench_fork(void)
{
        pid_t parent = getpid(), pid;

        (void) bench_directory();
        fflush(stdout);
        pid = fork();
        if (pid < 0 || n_children == sizeof children / sizeof *children)
                DIE("cannot fork");
        if (pid > 0) {
                children[n_children++] = pid;
                return pid;
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(1);
        return 0;
}

static void await_socket(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        strcpy(address.sun_path, path);
        for (int i = 0; i < 3000; i++) {
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                int r = connect(fd, (struct sockaddr *) &address, sizeof address);

                close(fd);
                if (r == 0)
                        return;
                nap(10000);
        }
        DIE(path);
}

static char *socket_address(const char *path)
{
        char *address;

        if (asprintf(&address, "unix:path=%s", path) < 0)
                DIE("no memory");
        return address;
}

static void await_name(const char *address, const char *name)
{
        sd_bus *bus = connect_to(address, true);

        for (int i = 0; i < 3000; i++) {
                if (sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                    "org.freedesktop.DBus", "GetNameOwner", NULL, NULL, "s", name) >= 0) {
                        sd_bus_flush_close_unref(bus);
                        return;
                }
                nap(10000);
        }
        DIE(name);
}

const char *start_daemon(const char *program, const char *config, const char *bus)
{
        char embedded[128], path[64], file[64], option[80];
        FILE *f;

        snprintf(embedded, sizeof embedded, "--embedded=%s", bench_directory());
        snprintf(path, sizeof path, "%s/bus", directory);
        snprintf(file, sizeof file, "%s/conf", directory);
        snprintf(option, sizeof option, "--config=%s", file);
        f = fopen(file, "we");
        if (!f || fprintf(f, "[Daemon]\n%s\n", config ? config : "") < 0 || fclose(f) != 0)
                DIE(file);
        the_daemon = bench_fork();
        if (the_daemon == 0) {
                dup2(open("/dev/null", O_RDWR | O_CLOEXEC), STDERR_FILENO); /* its greeting */
                if (bus) {
                        setenv("DBUS_SESSION_BUS_ADDRESS", bus, 1);
                        setenv("XDG_RUNTIME_DIR", directory, 1);
                }
                execl(program, program, bus ? "--user" : embedded, option, NULL);
                _exit(127);
        }
        if (!bus) {
                await_socket(path);
                return socket_address(path);
        }
        await_name(bus, "org.ctxd1");
        return bus;
}

pid_t daemon_pid(void)
{
        return the_daemon;
}

static bool is_there(const char *program)
{
        char command[128];

        snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
        return system(command) == 0;
}

static void start_dbus_daemon(const char *path)
{
        char file[96], option[128];
        FILE *f;

        snprintf(file, sizeof file, "%s.conf", path);
        snprintf(option, sizeof option, "--config-file=%s", file);
        f = fopen(file, "we");
        if (!f ||
                        fprintf(f,
                                        "<busconfig><type>session</type><listen>unix:path=%s</listen>"
                                        "<auth>EXTERNAL</auth><policy context=\"default\"><allow user=\"*\"/>"
                                        "<allow own=\"*\"/><allow send_destination=\"*\"/>"
                                        "<allow receive_sender=\"*\"/></policy></busconfig>\n",
                                        path) < 0 ||
                        fclose(f) != 0)
                DIE(file);
        if (bench_fork() == 0) {
                execlp("dbus-daemon", "dbus-daemon", option, "--nofork", "--nopidfile", "--nosyslog", NULL);
                _exit(127);
        }
}

/* "Everybody may connect, own, send and receive", in the types that dbus-broker takes a policy in. */
#define BATCH "bta(btbs)a(btssssuutt)a(btssssuutt)"
#define POLICY "(a(u(" BATCH "))a(buu(" BATCH "))a(ss)bs)"

static void start_dbus_broker(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        const uint64_t first = 1, any = UINT64_MAX, none = 0;
        static sd_bus *controller; /* for as long as we run */
        int pair[2], listener;
        sd_bus_message *m;

        strcpy(address.sun_path, path);
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (bind(listener, (struct sockaddr *) &address, sizeof address) < 0 || listen(listener, 16) < 0 ||
                        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                DIE(path);
        if (bench_fork() == 0) {
                char fd[16];

                fcntl(pair[1], F_SETFD, 0);
                snprintf(fd, sizeof fd, "%d", pair[1]);
                execlp("dbus-broker", "dbus-broker", "--controller", fd, "--machine-id",
                                "0123456789abcdef0123456789abcdef", "--max-matches", "1000000",
                                "--max-objects", "1000000", "--max-bytes", "1000000000", "--max-fds", "10000",
                                NULL);
                _exit(127);
        }
        close(pair[1]);
        if (sd_bus_new(&controller) < 0 || sd_bus_set_fd(controller, pair[0], pair[0]) < 0 ||
                        sd_bus_start(controller) < 0 ||
                        sd_bus_message_new_method_call(controller, &m, NULL, "/org/bus1/DBus/Broker",
                                        "org.bus1.DBus.Broker", "AddListener") < 0 ||
                        sd_bus_message_append(m, "oh", "/org/bus1/DBus/Listener/0", listener) < 0 ||
                        sd_bus_message_append(m, "v", POLICY, 1, UINT32_MAX, /* every uid */
                                        true, first, 1, true, first, true, "", 1, true, first, "", "", "", "",
                                        0, 0, none, any, 1, true, first, "", "", "", "", 0, 0, none, any, 0,
                                        0, false, "session") < 0 ||
                        sd_bus_call(controller, m, 0, NULL, NULL) < 0)
                DIE("dbus-broker");
        sd_bus_message_unref(m);
        close(listener);
}

const char *start_bus(const char *kind)
{
        char path[64];

        if (!is_there(kind))
                return NULL;
        snprintf(path, sizeof path, "%s/%s", bench_directory(), kind);
        if (strcmp(kind, "dbus-broker") == 0)
                start_dbus_broker(path);
        else
                start_dbus_daemon(path);
        await_socket(path);
        return socket_address(path);
}

sd_bus *connect_to(const char *address, bool is_bus)
{
        sd_bus *bus;

        if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, address) < 0 ||
                        sd_bus_set_bus_client(bus, is_bus) < 0 || sd_bus_negotiate_fds(bus, 1) < 0 ||
                        sd_bus_start(bus) < 0)
                DIE(address);
        return bus;
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
                sd_bus *bus = connect_to(address, true);

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

static int compare(const void *a, const void *b)
{
        double x = *(const double *) a, y = *(const double *) b;

        return (x > y) - (x < y);
}

double median(double *values, size_t n)
{
        qsort(values, n, sizeof *values, compare);
        return values[n / 2];
}

double percentile(double *values, size_t n, double p)
{
        size_t i = (size_t) ((double) n * p / 100);

        return values[i < n ? i : n - 1];
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
