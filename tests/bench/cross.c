/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From ctx_cancel() in one process to ctx_wait() returning in another, beside two peers in the same run,
 * taken in turns: an eventfd that the first process writes itself (the floor: no server), and a bare sd-bus
 * server that does nothing but write that eventfd when it is called. All processes are on one core. And the
 * cost of ctx_err() on a shared context, beside a load behind a function pointer.
 *
 *     bench-cross CTXD [ROUNDS] */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include "lib/ctxclient.h"

#define DIE(what)                                                   \
        do {                                                        \
                fprintf(stderr, "%s: %s\n", what, strerror(errno)); \
                exit(1);                                            \
        } while (0)

enum peer {
        PEER_EVENTFD,
        PEER_SDBUS,
        PEER_CTXD,
        PEERS,
};

static const char *const names[] = {"eventfd, no server", "sd-bus server, direct", "ctxd, direct"};

static char directory[] = "/tmp/ctxd-bench-XXXXXX";
static char daemon_address[64], server_address[64];
static pid_t daemon_pid, server_pid, waiter_pid;
static int wake_fd, to_waiter[2], from_waiter[2];

static uint64_t now_nsec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

static void nap(long usec)
{
        nanosleep(&(struct timespec){.tv_nsec = usec * 1000}, NULL);
}

static void cleanup(void)
{
        static const char *const files[] = {"bus", "peer", "probe"};
        char path[64];

        for (pid_t *pid = (pid_t[]){daemon_pid, server_pid, waiter_pid, -1}; *pid >= 0; pid++)
                if (*pid > 0) {
                        kill(*pid, SIGTERM);
                        waitpid(*pid, NULL, 0);
                }
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
                snprintf(path, sizeof path, "%s/%s", directory, files[i]);
                unlink(path);
        }
        rmdir(directory);
}

static void pin(void)
{
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(sched_getcpu(), &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0)
                DIE("cannot pin to one core");
}

static void await_socket(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        strcpy(address.sun_path, path);
        for (int i = 0; i < 500; i++) {
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                int r = connect(fd, (struct sockaddr *) &address, sizeof address);

                close(fd);
                if (r == 0)
                        return;
                nap(10000);
        }
        DIE(path);
}

static void start_daemon(const char *program)
{
        char option[128], path[48];

        snprintf(path, sizeof path, "%s/bus", directory);
        snprintf(option, sizeof option, "--embedded=%s", directory);
        snprintf(daemon_address, sizeof daemon_address, "unix:path=%s", path);
        daemon_pid = fork();
        if (daemon_pid == 0) {
                dup2(open("/dev/null", O_RDWR | O_CLOEXEC), STDERR_FILENO); /* its greeting */
                execl(program, program, option, NULL);
                _exit(127);
        }
        await_socket(path);
}

static int on_wake(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        eventfd_write(wake_fd, 1);
        return sd_bus_reply_method_return(m, "buu", 1, 1, 0);
}

static const sd_bus_vtable vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD("Cancel", "ss", "buu", on_wake, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_VTABLE_END,
};

/* Serves one connection. */
static void serve(int listener)
{
        sd_id128_t id;
        sd_bus *bus;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0 || sd_id128_randomize(&id) < 0 || sd_bus_new(&bus) < 0 || sd_bus_set_fd(bus, fd, fd) < 0 ||
                        sd_bus_set_server(bus, 1, id) < 0 || sd_bus_start(bus) < 0 ||
                        sd_bus_add_object_vtable(bus, NULL, "/p", "b.P", vtable, NULL) < 0)
                DIE("the peer cannot serve");
        while (sd_bus_process(bus, NULL) >= 0)
                sd_bus_wait(bus, UINT64_MAX);
}

static sd_bus *start_server(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sd_bus *bus;

        snprintf(address.sun_path, sizeof address.sun_path, "%s/peer", directory);
        snprintf(server_address, sizeof server_address, "unix:path=%s/peer", directory);
        if (bind(listener, (struct sockaddr *) &address, sizeof address) < 0 || listen(listener, 1) < 0)
                DIE("the peer cannot listen");
        server_pid = fork();
        if (server_pid == 0) {
                serve(listener);
                _exit(0);
        }
        close(listener);
        if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, server_address) < 0 || sd_bus_start(bus) < 0)
                DIE("cannot reach the peer");
        return bus;
}

/* The waiter is told a path (empty: the eventfd), says that it is about to wait, waits, and says when it
 * woke. */
static void wait_for_all(void)
{
        struct ctx_client *client = ctx_client_new(daemon_address);
        char path[64];

        while (read(to_waiter[0], path, sizeof path) == sizeof path) {
                struct ctx *ctx = *path ? ctx_open(client, path) : NULL;
                struct pollfd pollfd = {.fd = wake_fd, .events = POLLIN};
                eventfd_t count;
                uint64_t woke;

                if (*path && (!ctx || ctx_done_fd(ctx) < 0))
                        DIE(ctx_client_error(client));
                if (write(from_waiter[1], "r", 1) != 1)
                        break;
                if (ctx)
                        (void) !ctx_wait(ctx, UINT64_MAX);
                else
                        poll(&pollfd, 1, -1);
                woke = now_nsec();
                if (!ctx)
                        eventfd_read(wake_fd, &count);
                if (write(from_waiter[1], &woke, sizeof woke) != sizeof woke)
                        break;
                ctx_unref(ctx);
        }
        _exit(0);
}

static void start_waiter(void)
{
        wake_fd = eventfd(0, EFD_CLOEXEC);
        if (wake_fd < 0 || pipe2(to_waiter, O_CLOEXEC) < 0 || pipe2(from_waiter, O_CLOEXEC) < 0)
                DIE("no descriptors");
        waiter_pid = fork();
        if (waiter_pid == 0) {
                close(to_waiter[1]);
                wait_for_all();
        }
}

static void wake(enum peer peer, sd_bus *bus, struct ctx *ctx)
{
        sd_bus_message *reply = NULL;

        switch (peer) {
        case PEER_EVENTFD:
                eventfd_write(wake_fd, 1);
                break;
        case PEER_SDBUS:
                if (sd_bus_call_method(bus, NULL, "/p", "b.P", "Cancel", NULL, &reply, "ss",
                                    "bench/context#17", "") < 0)
                        DIE("the peer does not answer");
                sd_bus_message_unref(reply);
                break;
        default:
                if (ctx_cancel(ctx) != 1)
                        DIE("cannot cancel");
        }
}

static uint64_t measure(enum peer peer, sd_bus *bus, struct ctx_client *client)
{
        struct ctx *ctx = peer == PEER_CTXD ? ctx_create(client, "bench", NULL) : NULL;
        uint64_t start, woke;
        char path[64] = "", ready;

        if (peer == PEER_CTXD && !ctx)
                DIE(ctx_client_error(client));
        if (ctx)
                snprintf(path, sizeof path, "%s", ctx_path(ctx));
        if (write(to_waiter[1], path, sizeof path) != sizeof path || read(from_waiter[0], &ready, 1) != 1)
                DIE("the waiter is gone");
        nap(100); /* now it sleeps */
        start = now_nsec();
        wake(peer, bus, ctx);
        if (read(from_waiter[0], &woke, sizeof woke) != sizeof woke)
                DIE("the waiter is gone");
        if (ctx) {
                ctx_release(ctx);
                ctx_unref(ctx);
        }
        return woke - start;
}

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return (x > y) - (x < y);
}

static void bench_cancel(struct ctx_client *client, sd_bus *bus, size_t rounds)
{
        uint64_t *times[PEERS];
        double p50[PEERS];

        for (int p = 0; p < PEERS; p++)
                times[p] = calloc(rounds, sizeof(uint64_t));
        for (size_t i = 0; i < rounds / 10; i++) /* warm */
                for (enum peer p = 0; p < PEERS; p++)
                        measure(p, bus, client);
        for (size_t i = 0; i < rounds; i++)
                for (enum peer p = 0; p < PEERS; p++)
                        times[p][i] = measure(p, bus, client);

        printf("cancel in A to awake in B, %zu rounds in turns, one core, us\n\n", rounds);
        printf("%-24s %8s %8s %8s %14s %14s\n", "", "min", "p50", "p99", "p50/eventfd", "p50/sd-bus");
        for (int p = 0; p < PEERS; p++) {
                qsort(times[p], rounds, sizeof(uint64_t), compare);
                p50[p] = (double) times[p][rounds / 2] / 1000;
                printf("%-24s %8.1f %8.1f %8.1f %14.2f", names[p], (double) times[p][0] / 1000, p50[p],
                                (double) times[p][rounds * 99 / 100] / 1000, p50[p] / p50[PEER_EVENTFD]);
                if (p >= PEER_SDBUS)
                        printf(" %14.2f", p50[p] / p50[PEER_SDBUS]);
                if (p == PEER_CTXD)
                        printf("  <= 1.20 %s", p50[p] <= 1.2 * p50[PEER_SDBUS] ? "reached" : "MISSED");
                putchar('\n');
                free(times[p]);
        }
}

static _Atomic uint64_t word;

static int plain_load(struct ctx *ctx)
{
        return (int) atomic_load_explicit(&word, memory_order_acquire);
}

static int clock_read(struct ctx *ctx)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return ts.tv_sec == 0;
}

#define CALLS 2000000
#define SERIES 21

static double time_calls(int (*volatile fn)(struct ctx *ctx), struct ctx *ctx)
{
        uint64_t start = now_nsec();
        int (*call)(struct ctx * ctx) = fn, sum = 0;

        for (int i = 0; i < CALLS; i++)
                sum += call(ctx);
        if (sum != 0)
                DIE("not active");
        return (double) (now_nsec() - start) / CALLS;
}

static int compare_doubles(const void *a, const void *b)
{
        double x = *(const double *) a, y = *(const double *) b;

        return (x > y) - (x < y);
}

static void bench_err(struct ctx_client *client)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx *ctx = ctx_create(client, "err", NULL), *local = ctx_with_cancel(ctx), *dated;
        double series[5][SERIES];

        options.timeout_usec = UINT64_C(3600000000);
        dated = ctx_create(client, "dated", &options);
        if (!ctx || !local || !dated)
                DIE(ctx_client_error(client));
        for (int i = 0; i < SERIES; i++) {
                series[0][i] = time_calls(plain_load, NULL);
                series[1][i] = time_calls(ctx_err, ctx);
                series[2][i] = time_calls(ctx_err, local);
                series[3][i] = time_calls(clock_read, NULL);
                series[4][i] = time_calls(ctx_err, dated);
        }
        for (int i = 0; i < 5; i++)
                qsort(series[i], SERIES, sizeof(double), compare_doubles);
        printf("\nis it done?  median of %d series, ns a call\n\n", SERIES);
        printf("%-44s %8.2f\n", "an atomic load behind a function pointer", series[0][SERIES / 2]);
        printf("%-44s %8.2f %6.2fx\n", "ctx_err, shared context", series[1][SERIES / 2],
                        series[1][SERIES / 2] / series[0][SERIES / 2]);
        printf("%-44s %8.2f %6.2fx\n", "ctx_err, local context under a shared one", series[2][SERIES / 2],
                        series[2][SERIES / 2] / series[0][SERIES / 2]);
        printf("%-44s %8.2f\n", "a clock read behind a function pointer", series[3][SERIES / 2]);
        printf("%-44s %8.2f %6.2fx\n", "ctx_err, shared context with a deadline", series[4][SERIES / 2],
                        series[4][SERIES / 2] / series[3][SERIES / 2]);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_unref(dated);
}

int main(int argc, char *argv[])
{
        size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 5000;
        struct ctx_client *client;
        sd_bus *bus;

        if (argc < 2 || rounds < 100) {
                fprintf(stderr, "usage: %s CTXD [ROUNDS], 100 or more\n", argv[0]);
                return 2;
        }
        if (!mkdtemp(directory))
                DIE("no directory");
        pin();
        start_daemon(argv[1]);
        start_waiter();
        atexit(cleanup);
        bus = start_server();
        client = ctx_client_new(daemon_address);
        if (!client)
                DIE(ctx_client_error(NULL));
        bench_cancel(client, bus, rounds);
        bench_err(client);
        ctx_client_unref(client);
        sd_bus_flush_close_unref(bus);
        return 0;
}
