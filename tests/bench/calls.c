/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calls a second beside a bare sd-bus server that answers the same calls: a Create and a Done, one at a time
 * and 64 in flight; on a direct connection, the same with a thousand idle ones beside it, and through
 * dbus-daemon and dbus-broker, where the way from a cancel to a wake is measured as well. All processes are
 * on one core.
 *
 *     bench-calls CTXD [ROUNDS]  */

#include "proto/names.h"
#include "tests/bench/common.h"

#define PAIRS 4000
#define IDLE 1000
#define WAKES 400
#define ROUNDS_MAX 64
#define PEER_NAME "org.ctxd1.BenchPeer"

static size_t rounds = 5;

static double ours[ROUNDS_MAX], theirs[ROUNDS_MAX];

static double pairs_beside(const struct service *a, const struct service *b, const char *what, int in_flight,
                bool with_done, double target)
{
        double x, y;

        for (size_t i = 0; i < rounds; i++) {
                ours[i] = bench_pairs(a, PAIRS, in_flight, with_done);
                theirs[i] = bench_pairs(b, PAIRS, in_flight, with_done);
        }
        x = median(ours, rounds);
        y = median(theirs, rounds);
        row(what, x, y, target, true);
        return x;
}

static void idle_connections(const char *address, const struct service *a)
{
        static const char *const whats[] = {
                        "one at a time, beside 1000 idle connections", "64 in flight, the same"};
        static sd_bus *idle[IDLE];
        double before[2], with[2];

        for (int k = 0; k < 2; k++) {
                for (size_t i = 0; i < rounds; i++)
                        ours[i] = bench_pairs(a, PAIRS, k == 0 ? 1 : 64, true);
                before[k] = median(ours, rounds);
        }
        for (int i = 0; i < IDLE; i++) {
                struct service s;

                idle[i] = bus_connect(address, false);
                s = (struct service){idle[i], NULL};
                sd_bus_message_unref(bench_call(&s, "Err", "/", NULL));
        }
        for (int k = 0; k < 2; k++) {
                for (size_t i = 0; i < rounds; i++)
                        ours[i] = bench_pairs(a, PAIRS, k == 0 ? 1 : 64, true);
                with[k] = median(ours, rounds);
                row(whats[k], with[k], before[k], 0.95, true);
        }
        for (int i = 0; i < IDLE; i++)
                sd_bus_flush_close_unref(idle[i]);
}

static void direct(const char *program)
{
        const char *address = start_daemon(program, "RetainSec=1s\nProbe=off", NULL);
        struct service a = {bus_connect(address, false), NULL},
                       b = {bus_connect(start_server(bare_setup), false), NULL};

        table("Create and Done, pairs a second, direct; medians", "ctxd", "bare sd-bus");
        pairs_beside(&a, &b, "Create alone, one at a time", 1, false, 0);
        pairs_beside(&a, &b, "Create alone, 64 in flight", 64, false, 0);
        pairs_beside(&a, &b, "Create and Done, one at a time", 1, true, 0.85);
        pairs_beside(&a, &b, "Create and Done, 64 in flight", 64, true, 0.85);
        table("the same beside idle connections", "ctxd", "without them");
        idle_connections(address, &a);
        sd_bus_flush_close_unref(a.bus);
        sd_bus_flush_close_unref(b.bus);
        bench_end(daemon_pid());
}

static void wakes_beside(const char *address, const struct service *a, const struct service *b)
{
        static double x[ROUNDS_MAX * WAKES], y[ROUNDS_MAX * WAKES];
        struct waiter *of_a = waiter_start(address, a->name, 0), *of_b = waiter_start(address, b->name, 0);
        size_t n = rounds * WAKES;

        for (size_t i = 0; i < 100; i++) { /* warm */
                bench_wake(a, of_a, "wake");
                bench_wake(b, of_b, "wake");
        }
        for (size_t i = 0; i < n; i++) {
                x[i] = bench_wake(a, of_a, "wake");
                y[i] = bench_wake(b, of_b, "wake");
        }
        row("cancel to awake, us", median(x, n), median(y, n), 1.15, false);
        waiter_stop(of_a);
        waiter_stop(of_b);
}

static void through(const char *program, const char *kind)
{
        const char *address = start_bus(kind);
        struct service a = {.name = CTXD_BUS_NAME}, b = {.name = PEER_NAME};
        char title[64];

        if (!address) {
                printf("\n%s is not installed\n", kind);
                return;
        }
        (void) start_daemon(program, "RetainSec=1s\nProbe=off", address);
        start_server_on_bus(address, PEER_NAME, bare_setup);
        a.bus = bus_connect(address, true);
        b.bus = bus_connect(address, true);
        snprintf(title, sizeof title, "through %s; medians", kind);
        table(title, "ctxd", "bare sd-bus");
        pairs_beside(&a, &b, "Create and Done, one at a time, pairs a second", 1, true, 0.85);
        pairs_beside(&a, &b, "Create and Done, 64 in flight", 64, true, 0.85);
        wakes_beside(address, &a, &b);
        sd_bus_flush_close_unref(a.bus);
        sd_bus_flush_close_unref(b.bus);
        bench_end(daemon_pid());
}

int main(int argc, char *argv[])
{

        if (argc > 2)
                rounds = strtoul(argv[2], NULL, 10);
        if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX) {
                fprintf(stderr, "usage: %s CTXD [ROUNDS]\n", argv[0]);
                return 2;
        }
        want_descriptors(2 * IDLE);
        pin();
        direct(argv[1]);
        through(argv[1], "dbus-daemon");
        through(argv[1], "dbus-broker");
        return 0;
}
