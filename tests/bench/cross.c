/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From ctx_cancel() in one process to ctx_wait() returning in another, beside two peers in the same run,
 * taken in turns: an eventfd that the first process writes itself (the floor: no server), and a bare sd-bus
 * server that does nothing but write that eventfd when it is called. All processes are on one core. The cost
 * of ctx_err() on a shared context, beside a load behind a function pointer. And the time that ctx_create()
 * and ctx_open() take, beside a call of that server, with the server on the same core and on another one.
 *
 *     bench-cross CTXD [ROUNDS] */

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/ctxclient.h"
#include "tests/bench/common.h"

enum peer {
        PEER_EVENTFD,
        PEER_SDBUS,
        PEER_CTXD,
        PEERS,
};

static const char *const names[] = {"eventfd, no server", "sd-bus server, direct", "ctxd, direct"};

static int wake_fd, to_waiter[2], from_waiter[2];

static int on_wake(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        eventfd_write(wake_fd, 1);
        return sd_bus_reply_method_return(m, "buu", 1, 1, 0);
}

static int on_create(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *path;

        if (sd_bus_message_read(m, "s", &path) < 0 || sd_bus_message_skip(m, "a{sv}") < 0)
                return -EINVAL;
        return sd_bus_reply_method_return(m, "sto", path, UINT64_C(17), "/org/ctxd1/context/bench");
}

static int on_done(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        int fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC),
            r = sd_bus_reply_method_return(m, "h", fd);

        close(fd);
        return r;
}

static const sd_bus_vtable vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD("Done", "s", "h", on_done, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD("Create", "sa{sv}", "sto", on_create, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD("Cancel", "ss", "buu", on_wake, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_VTABLE_END,
};

/* Serves one connection; not as common.c does: with a message it waits at once, without a read that finds
 * nothing. */
static void serve(int listener)
{
        sd_id128_t id;
        sd_bus *bus;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0 || sd_id128_randomize(&id) < 0 || sd_bus_new(&bus) < 0 || sd_bus_set_fd(bus, fd, fd) < 0 ||
                        sd_bus_set_server(bus, 1, id) < 0 || sd_bus_negotiate_fds(bus, 1) < 0 ||
                        sd_bus_start(bus) < 0 ||
                        sd_bus_add_object_vtable(bus, NULL, "/p", "b.P", vtable, NULL) < 0)
                DIE("the peer cannot serve");
        while (sd_bus_process(bus, NULL) >= 0)
                sd_bus_wait(bus, UINT64_MAX);
}

static sd_bus *start_peer(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char name[128];

        snprintf(address.sun_path, sizeof address.sun_path, "%s/peer", bench_directory());
        snprintf(name, sizeof name, "unix:path=%s", address.sun_path);
        if (bind(listener, (struct sockaddr *) &address, sizeof address) < 0 || listen(listener, 1) < 0)
                DIE("the peer cannot listen");
        if (bench_fork() == 0) {
                serve(listener);
                _exit(0);
        }
        close(listener);
        return bus_connect(name, false);
}

/* The waiter is told a path (empty: the eventfd), says that it is about to wait, waits, and says when it
 * woke. */
static void wait_for_all(const char *address)
{
        struct ctx_client *client = ctx_client_new(address);
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

static void start_waiter(const char *address)
{
        wake_fd = eventfd(0, EFD_CLOEXEC);
        if (wake_fd < 0 || pipe2(to_waiter, O_CLOEXEC) < 0 || pipe2(from_waiter, O_CLOEXEC) < 0)
                DIE("no descriptors");
        if (bench_fork() == 0) {
                close(to_waiter[1]);
                wait_for_all(address);
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

static void bench_cancel(struct ctx_client *client, sd_bus *bus, size_t rounds)
{
        double *times[PEERS];
        double p50[PEERS];

        for (int p = 0; p < PEERS; p++)
                times[p] = calloc(rounds, sizeof(double));
        for (size_t i = 0; i < rounds / 10; i++) /* warm */
                for (enum peer p = 0; p < PEERS; p++)
                        measure(p, bus, client);
        for (size_t i = 0; i < rounds; i++)
                for (enum peer p = 0; p < PEERS; p++)
                        times[p][i] = (double) measure(p, bus, client) / 1000;

        printf("cancel in A to awake in B, %zu rounds in turns, one core, us\n\n", rounds);
        printf("%-24s %8s %8s %8s %14s %14s\n", "", "min", "p50", "p99", "p50/eventfd", "p50/sd-bus");
        for (int p = 0; p < PEERS; p++) {
                p50[p] = median(times[p], rounds);
                printf("%-24s %8.1f %8.1f %8.1f %14.2f", names[p], times[p][0], p50[p],
                                percentile(times[p], rounds, 99), p50[p] / p50[PEER_EVENTFD]);
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

/* The thread's own time, so that a busy machine does not count. */
static uint64_t spent_nsec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

static double time_calls(int (*volatile fn)(struct ctx *ctx), struct ctx *ctx)
{
        uint64_t start = spent_nsec();
        int (*call)(struct ctx * ctx) = fn, sum = 0;

        for (int i = 0; i < CALLS; i++)
                sum += call(ctx);
        if (sum != 0)
                DIE("not active");
        return (double) (spent_nsec() - start) / CALLS;
}

static void bench_err(struct ctx_client *client)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx *ctx = ctx_create(client, "err", NULL), *local = ctx_with_cancel(ctx), *dated;
        double series[5][SERIES], p50[5];

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
                p50[i] = median(series[i], SERIES);
        printf("\nis it done?  median of %d series, ns a call\n\n", SERIES);
        printf("%-44s %8.2f\n", "an atomic load behind a function pointer", p50[0]);
        printf("%-44s %8.2f %6.2fx\n", "ctx_err, shared context", p50[1], p50[1] / p50[0]);
        printf("%-44s %8.2f %6.2fx\n", "ctx_err, local context under a shared one", p50[2], p50[2] / p50[0]);
        printf("%-44s %8.2f\n", "a clock read behind a function pointer", p50[3]);
        printf("%-44s %8.2f %6.2fx\n", "ctx_err, shared context with a deadline", p50[4], p50[4] / p50[3]);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_unref(dated);
}

enum step {
        PEER_CREATE,
        PEER_BOTH, /* Create and Done */
        OUR_CREATE,
        OUR_BOTH,
        OUR_OPEN,
        STEPS,
};

static double since(uint64_t start)
{
        return (double) (now_nsec() - start) / 1000;
}

static void time_peer(sd_bus *bus, double *ret_create, double *ret_both)
{
        sd_bus_message *created, *done;
        uint64_t start = now_nsec();
        int fd;

        if (sd_bus_call_method(bus, NULL, "/p", "b.P", "Create", NULL, &created, "sa{sv}", "bench/create", 1,
                            "bind", "s", "caller") < 0)
                DIE("the peer does not answer");
        *ret_create = since(start);
        if (sd_bus_call_method(bus, NULL, "/p", "b.P", "Done", NULL, &done, "s", "bench/create") < 0 ||
                        sd_bus_message_read(done, "h", &fd) < 0 || (fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
                DIE("the peer gives no descriptor");
        *ret_both = since(start);
        close(fd);
        sd_bus_message_unref(created);
        sd_bus_message_unref(done);
}

static void time_ours(struct ctx_client *client, double *ret_create, double *ret_both, double *ret_open)
{
        uint64_t start = now_nsec();
        struct ctx *ctx = ctx_create(client, "bench/create", NULL), *same;

        *ret_create = since(start);
        if (!ctx || ctx_done_fd(ctx) < 0)
                DIE(ctx_client_error(client));
        *ret_both = since(start);
        start = now_nsec();
        same = ctx_open(client, "bench/create");
        *ret_open = since(start);
        if (!same || ctx_release(ctx) < 0)
                DIE(ctx_client_error(client));
        ctx_unref(ctx);
        ctx_unref(same);
}

static void bench_create(const char *where, struct ctx_client *client, sd_bus *bus, size_t rounds)
{
        double *times[STEPS], p50[STEPS];

        for (int i = 0; i < STEPS; i++)
                times[i] = calloc(rounds, sizeof(double));
        for (size_t i = 0; i < rounds; i++) {
                time_peer(bus, &times[PEER_CREATE][i], &times[PEER_BOTH][i]);
                time_ours(client, &times[OUR_CREATE][i], &times[OUR_BOTH][i], &times[OUR_OPEN][i]);
        }
        for (int i = 0; i < STEPS; i++) {
                p50[i] = median(times[i], rounds);
                free(times[i]);
        }
        table(where, "ctxd", "sd-bus");
        row("ctx_create, us", p50[OUR_CREATE], p50[PEER_CREATE], 0, false);
        row("ctx_create and ctx_done_fd, us", p50[OUR_BOTH], p50[PEER_BOTH], 1 / 0.85, false);
        row("ctx_open, us", p50[OUR_OPEN], p50[PEER_CREATE], 0, false);
}

/* This process leaves the core that it shares with the servers. False: there is no other. */
static bool move_away(void)
{
        cpu_set_t others;
        int here = sched_getcpu();

        CPU_ZERO(&others);
        for (int i = 0; i < CPU_SETSIZE; i++)
                if (i != here)
                        CPU_SET(i, &others);
        return sched_setaffinity(0, sizeof others, &others) == 0;
}

int main(int argc, char *argv[])
{
        size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 5000;
        struct ctx_client *client;
        const char *address;
        sd_bus *bus;

        if (argc < 2 || rounds < 100) {
                fprintf(stderr, "usage: %s CTXD [ROUNDS], 100 or more\n", argv[0]);
                return 2;
        }
        pin();
        address = start_daemon(argv[1], NULL, NULL);
        start_waiter(address);
        bus = start_peer();
        client = ctx_client_new(address);
        if (!client)
                DIE(ctx_client_error(NULL));
        bench_cancel(client, bus, rounds);
        bench_err(client);
        ctx_unref(ctx_create(client, "bench", NULL));
        bench_create("make a context, servers on the same core", client, bus, rounds);
        if (move_away())
                bench_create("make a context, servers on another core", client, bus, rounds);
        ctx_client_unref(client);
        sd_bus_flush_close_unref(bus);
        return 0;
}
