/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One uid has all it may have: contexts, handles, connections. What another uid waits for its cancels, before
 * and then; and while that one goes on asking for more without a pause, which it is refused. The one that
 * goes on has a core of its own.
 *
 *     bench-neighbour CTXD [ROUNDS]  */

#include <signal.h>
#include <sched.h>
#include <unistd.h>

#include "proto/names.h"
#include "tests/bench/common.h"

#define GREEDY 60001
#define OTHER 60002
#define CONTEXTS 100000
#define HANDLES 10000
#define CONNECTIONS 256
#define ROUNDS_MAX 20000

static const char *address;
static int ready[2];

static bool may(const struct service *s, const char *member, const char *path)
{
        sd_bus_message *m;
        int r;

        if (sd_bus_message_new_method_call(s->bus, &m, NULL, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member) <
                                        0 ||
                        sd_bus_message_append(m, "s", path) < 0 ||
                        (strcmp(member, "Create") == 0 && sd_bus_message_append(m, "a{sv}", 0) < 0))
                DIE("no message");
        r = sd_bus_call(s->bus, m, UINT64_C(120000000), NULL, NULL);
        sd_bus_message_unref(m);
        return r >= 0;
}

static void greedy(void)
{
        struct service s = {bus_connect(address, false), NULL};
        char path[64];
        int n = 0;

        do
                snprintf(path, sizeof path, "~/%d", n++);
        while (may(&s, "Create", path));
        n = 0;
        do
                snprintf(path, sizeof path, "~/%d", n++);
        while (may(&s, "Done", path));
        for (n = 1; n < CONNECTIONS; n++) {
                struct service more = {bus_connect(address, false), NULL};

                if (!may(&more, "Done", "~"))
                        break;
        }
        (void) !write(ready[1], "!", 1);
        for (;;)
                pause();
}

static void go_on(void)
{
        struct service s = {bus_connect(address, false), NULL};

        (void) !write(ready[1], "!", 1);
        for (int n = 0;; n++) {
                char path[64];

                snprintf(path, sizeof path, "~/more-%d", n);
                (void) may(&s, "Create", path);
        }
}

/* Runs fn as a uid, and waits until it says that it is ready. */
static pid_t start_as(uid_t uid, void (*fn)(void), const cpu_set_t *cpus)
{
        pid_t pid = bench_fork();
        char byte;

        if (pid == 0) {
                (void) sched_setaffinity(0, sizeof *cpus, cpus);
                if (setuid(uid) < 0)
                        DIE("setuid");
                fn();
                _exit(0);
        }
        if (read(ready[0], &byte, 1) != 1)
                DIE("it is gone");
        return pid;
}

static double *measure(const struct service *s, struct waiter *w, size_t rounds)
{
        double *took = calloc(rounds, sizeof *took);

        if (!took)
                DIE("no memory");
        for (size_t i = 0; i < rounds; i++)
                took[i] = bench_wake(s, w, "~/wake");
        (void) median(took, rounds);
        return took;
}

static void rows(const char *when, const double *took, const double *before, size_t rounds)
{
        char what[80];

        snprintf(what, sizeof what, "%s: p50", when);
        row(what, percentile((double *) took, rounds, 50), percentile((double *) before, rounds, 50), 2,
                        false);
        snprintf(what, sizeof what, "%s: p99", when);
        row(what, percentile((double *) took, rounds, 99), percentile((double *) before, rounds, 99), 2,
                        false);
}

static void other(const char *program, size_t rounds)
{
        struct service s = {};
        cpu_set_t all, others;
        pid_t at_its_limit, calling;
        struct waiter *w;
        double *before, *took;
        char settings[160];

        sched_getaffinity(0, sizeof all, &all);
        pin();
        others = all;
        CPU_CLR(sched_getcpu(), &others);
        if (CPU_COUNT(&others) == 0)
                others = all;
        snprintf(settings, sizeof settings,
                        "RetainSec=1s\nProbe=off\nMaxContextsPerUser=%d\nMaxHandlesPerUser=%d\n"
                        "MaxConnectionsPerUser=%d",
                        CONTEXTS, HANDLES, CONNECTIONS);
        address = start_daemon(program, settings, NULL);
        w = waiter_start(address, NULL, OTHER);
        if (seteuid(OTHER) < 0)
                DIE("seteuid");
        s.bus = bus_connect(address, false);
        sd_bus_message_unref(bench_call(&s, "Create", "~/x", NULL));
        if (seteuid(0) < 0)
                DIE("seteuid");

        (void) measure(&s, w, rounds / 10 + 1);
        before = measure(&s, w, rounds);
        at_its_limit = start_as(GREEDY, greedy, &others);
        took = measure(&s, w, rounds);
        table("another uid's cancel to awake, us", "then", "before");
        rows("one uid has all it may have", took, before, rounds);
        free(took);
        calling = start_as(GREEDY, go_on, &others);
        took = measure(&s, w, rounds);
        rows("and asks for more without a pause", took, before, rounds);
        free(took);
        free(before);
        bench_end(calling);
        bench_end(at_its_limit);
        sd_bus_flush_close_unref(s.bus);
}

int main(int argc, char *argv[])
{
        size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 2000;

        if (argc < 2 || rounds < 100 || rounds > ROUNDS_MAX) {
                fprintf(stderr, "usage: %s CTXD [ROUNDS], 100 or more\n", argv[0]);
                return 2;
        }
        if (getuid() != 0) {
                puts("only root can be several users");
                return 0;
        }
        want_descriptors(HANDLES + 2 * CONNECTIONS);
        if (pipe(ready) < 0)
                DIE("no descriptors");
        other(argv[1], rounds);
        return 0;
}
