/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Trees of 10^3 to 10^6 contexts in the daemon: how long it takes to build them, to cancel them, and to
 * forget them, what each costs, and how long another client waits for a ping meanwhile. And 10^5 deadlines at
 * one instant, from that instant until the last handle of ten that watch is readable.
 *
 *     bench-tree CTXD [ROUNDS [MOST]]  */

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "proto/names.h"
#include "tests/bench/common.h"

#define IN_FLIGHT 256
#define PINGS_MAX 200000
#define DEADLINES 100000
#define ROUNDS_MAX 64

/* What the pinging process tells, by shared memory. */
static struct pings {
        _Atomic int on;
        _Atomic size_t n;
        double usec[PINGS_MAX];
} * pings;

static const char *address;

static void ping_for_ever(void)
{
        sd_bus *bus = bus_connect(address, false);

        for (;;) {
                uint64_t start = now_nsec();

                if (sd_bus_call_method(bus, NULL, CTXD_OBJECT, "org.freedesktop.DBus.Peer", "Ping", NULL,
                                    NULL, NULL) < 0)
                        _exit(1);
                if (pings->on && pings->n < PINGS_MAX)
                        pings->usec[pings->n++] = (double) (now_nsec() - start) / 1000;
                nap(100);
        }
}

/* Resident, and what of it is shared: pages and journals. */
static double resident(void)
{
        char path[64], line[128];
        double kb = 0, value;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/status", (int) daemon_pid());
        f = fopen(path, "re");
        while (f && fgets(line, sizeof line, f))
                if (sscanf(line, "VmRSS: %lf", &value) == 1)
                        kb = value;
        if (f)
                fclose(f);
        return kb * 1024;
}

static int created, failed;

static int on_created(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        failed += sd_bus_message_is_method_error(m, NULL);
        created++;
        return 1;
}

static void create(sd_bus *bus, const char *path, uint64_t deadline_usec)
{
        sd_bus_message *m;

        if (sd_bus_message_new_method_call(bus, &m, NULL, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Create") <
                                        0 ||
                        sd_bus_message_append(m, "s", path) < 0)
                DIE("no message");
        if (deadline_usec > 0 ? sd_bus_message_append(m, "a{sv}", 1, "deadline-usec", "t", deadline_usec) < 0
                              : sd_bus_message_append(m, "a{sv}", 0) < 0)
                DIE("no message");
        if (sd_bus_call_async(bus, NULL, m, on_created, NULL, 0) < 0)
                DIE("cannot send");
        sd_bus_message_unref(m);
}

static void await_created(sd_bus *bus, int n)
{
        while (created < n)
                if (sd_bus_process(bus, NULL) == 0)
                        (void) sd_bus_wait(bus, UINT64_MAX);
        if (failed > 0)
                DIE("a Create was refused");
}

static void build(sd_bus *bus, int n, uint64_t deadline_usec)
{
        char path[64];

        created = failed = 0;
        create(bus, "tree", 0);
        for (int i = 1; i < n; i++) {
                snprintf(path, sizeof path, "tree/%06d", i);
                create(bus, path, deadline_usec);
                await_created(bus, i - IN_FLIGHT);
        }
        await_created(bus, n);
}

static void call(sd_bus *bus, const char *member, const char *types, const char *path, const char *more)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m, *reply;
        int r;

        if (sd_bus_message_new_method_call(bus, &m, NULL, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member) < 0 ||
                        sd_bus_message_append(m, types, path, more) < 0)
                DIE("no message");
        r = sd_bus_call(bus, m, UINT64_C(120000000), &error, &reply);
        if (r < 0) {
                fprintf(stderr, "%s %s: %s\n", member, path, error.message);
                exit(1);
        }
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
}

static void start_pings(void)
{
        pings->n = 0;
        pings->on = 1;
}

static size_t stop_pings(void)
{
        pings->on = 0;
        nap(20000);
        (void) median(pings->usec, pings->n);
        return pings->n;
}

/* A daemon of its own for each, so that none finds memory that another has left. */
static sd_bus *start(const char *program, pid_t *ret_pinging)
{
        address = start_daemon(program, "RetainSec=1s\nProbe=off", NULL);
        *ret_pinging = bench_fork();
        if (*ret_pinging == 0)
                ping_for_ever();
        return bus_connect(address, false);
}

static void stop(sd_bus *bus, pid_t pinging)
{
        sd_bus_flush_close_unref(bus);
        bench_end(pinging);
        bench_end(daemon_pid());
}

static void bench_tree(sd_bus *bus, int n, size_t rounds)
{
        double built[ROUNDS_MAX], canceled[ROUNDS_MAX], released[ROUNDS_MAX], bytes = 0, p99[ROUNDS_MAX];
        char what[64];

        for (size_t i = 0; i < rounds; i++) {
                double before = resident();
                uint64_t start = now_nsec(), now;

                build(bus, n, 0);
                built[i] = (double) (now_nsec() - start) / n;
                if (i == 0)
                        bytes = (resident() - before) / n;
                nap(10000);
                start_pings();
                start = now_nsec();
                call(bus, "Cancel", "ss", "tree", "");
                now = now_nsec();
                canceled[i] = (double) (now - start) / n;
                p99[i] = stop_pings() > 0 ? percentile(pings->usec, pings->n, 99) : 0;
                start = now_nsec();
                call(bus, "Release", "s", "tree", NULL);
                released[i] = (double) (now_nsec() - start) / n;
                nap(1500000 + (uint64_t) n); /* until they are forgotten */
        }
        snprintf(what, sizeof what, "%d: build, ns each", n);
        row_limit(what, median(built, rounds), 0);
        snprintf(what, sizeof what, "%d: cancel, ns each", n);
        row_limit(what, median(canceled, rounds), n >= 10000 ? 60 : 0);
        snprintf(what, sizeof what, "%d: release, ns each", n);
        row_limit(what, median(released, rounds), 0);
        if (n >= 100000) {
                snprintf(what, sizeof what, "%d: resident growth, bytes each", n);
                row_limit(what, bytes, n >= 1000000 ? 256 : 0);
                snprintf(what, sizeof what, "%d: ping p99 during the cancel, us", n);
                row_limit(what, median(p99, rounds), 3000);
        }
}

static uint64_t boottime_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

/* The last made is the first in the list and the like: watch some of all. */
static void bench_deadlines(sd_bus *bus, size_t rounds)
{
        double took[ROUNDS_MAX];

        for (size_t i = 0; i < rounds; i++) {
                uint64_t at = boottime_usec() + 6000000;
                struct pollfd fds[11];

                build(bus, DEADLINES, at);
                for (int k = 0; k < 11; k++) {
                        sd_bus_message *reply;
                        char path[64];
                        int fd;

                        snprintf(path, sizeof path, "tree/%06d",
                                        k < 10 ? 1 + k * (DEADLINES / 10) : DEADLINES - 1);
                        if (sd_bus_call_method(bus, NULL, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Done", NULL,
                                            &reply, "s", path) < 0 ||
                                        sd_bus_message_read(reply, "h", &fd) < 0)
                                DIE("no Done");
                        fds[k] = (struct pollfd){.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .events = POLLIN};
                        sd_bus_message_unref(reply);
                }
                if (boottime_usec() >= at) {
                        puts("The machine is too busy to make 100000 deadlines before they pass");
                        return;
                }
                for (int k = 0; k < 11; k++) {
                        poll(&fds[k], 1, -1);
                        close(fds[k].fd);
                }
                took[i] = (double) (boottime_usec() - at) / 1000;
                call(bus, "Release", "s", "tree", NULL);
                nap(1500000 + DEADLINES);
        }
        row_limit("100000 deadlines at one instant, ms", median(took, rounds), 50);
}

int main(int argc, char *argv[])
{
        size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 3;
        int most = argc > 3 ? atoi(argv[3]) : 1000000;
        pid_t pinging;
        sd_bus *bus;

        if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX / 3) {
                fprintf(stderr, "usage: %s CTXD [ROUNDS [MOST]]\n", argv[0]);
                return 2;
        }
        pings = mmap(NULL, sizeof *pings, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (pings == MAP_FAILED)
                DIE("no memory");
        table("trees in the daemon, nobody watching; medians", "ctxd", "");
        for (int n = 1000; n <= most; n *= 10) {
                bus = start(argv[1], &pinging);
                bench_tree(bus, n, n < 100000 ? 3 * rounds : rounds);
                stop(bus, pinging);
        }
        bus = start(argv[1], &pinging);
        bench_deadlines(bus, rounds);
        stop(bus, pinging);
        return 0;
}
