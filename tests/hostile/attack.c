/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A machine may be busy for a moment, and then Bob waits, attacked or not. So the best of some rounds counts.
 * He works in short runs with pauses between: a stall that comes now and then hits some of his cancels, while
 * without the pauses all the others would be over before it. */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/harness/figures.h"
#include "tests/hostile/attack.h"

#define ROUNDS 5
#define ROUNDS_WANTED 3 /* for the ratio that is wanted; the others are for one that is not too bad */
#define RATIO_WANTED 2
#define RATIO_MAX 10
#define RATIO_MAX_BUS 50 /* there, Bob also waits for the bus, which carries what Alice says and is told */
#define PAUSES 30
#define PAUSE_USEC 6000
#define CYCLES (PAUSES * 6)
#define RUN_USEC 2000000   /* so long, if they all are slow */
#define REST_USEC 10000000 /* by then the daemon has done with what is over */

static struct {
        double usec[CYCLES];
        size_t n;
        _Atomic unsigned did;
        _Atomic bool is_ready;
} * shared;

static const struct attack *attack;
static int go[2], done[2], ready[2];

void attack_did(unsigned n)
{
        atomic_fetch_add_explicit(&shared->did, n, memory_order_relaxed);
}

void attack_ready(void)
{
        if (!atomic_exchange(&shared->is_ready, true))
                ck_assert_int_eq(write(ready[1], "r", 1), 1);
}

void attack_impossible(const char *why)
{
        printf("# %s: skipped: %s\n", attack->name, why);
        fflush(stdout);
        ck_assert_int_eq(write(ready[1], "s", 1), 1);
        _exit(0);
}

/* As a client does that waits where the queue of connections is full. */
static sd_bus *connect_anew(void)
{
        int fd = connect_socket();
        sd_bus *b;

        ck_assert_int_ge(fd, 0);
        ck_assert_int_ge(sd_bus_new(&b), 0);
        ck_assert_int_ge(sd_bus_set_fd(b, fd, fd), 0);
        ck_assert_int_ge(sd_bus_set_bus_client(b, true), 0);
        ck_assert_int_ge(sd_bus_negotiate_fds(b, true), 0);
        ck_assert_int_ge(sd_bus_start(b), 0);
        return b;
}

/* One cycle; what it takes. */
static double cycle(sd_bus *b, int member)
{
        uint64_t start = now_monotonic_usec(), end;
        _cleanup_bus_ sd_bus *fresh = attack->reconnects ? connect_anew() : NULL;
        int fd;

        if (fresh)
                b = fresh;
        if (attack->with_member)
                OK(b, "Create", "sa{sv}", "~/bobs", 1, "attach", "h", member);
        else
                OK(b, "Create", "sa{sv}", "~/bobs", 0);
        fd = done_handle(b, "~/bobs");
        ck_assert(cancel(b, "~/bobs", ""));
        ck_assert(becomes_readable(fd));
        end = now_monotonic_usec();
        OK(b, "Release", "s", "~/bobs");
        close(fd);
        return (double) (end - start);
}

static void bob(void *userdata)
{
        sd_bus *b = connect_bus();
        int member = -1;
        char byte;

        if (attack->with_member)
                (void) sleeper(&member);
        for (int i = 0; i < 20; i++)
                (void) cycle(b, member);
        while (read(go[0], &byte, 1) == 1) {
                uint64_t end_usec = now_monotonic_usec() + RUN_USEC;

                for (shared->n = 0; shared->n < CYCLES && now_monotonic_usec() < end_usec;) {
                        if (shared->n % (CYCLES / PAUSES) == 0)
                                nap(PAUSE_USEC);
                        shared->usec[shared->n] = cycle(b, member);
                        shared->n++;
                }
                ck_assert_int_eq(write(done[1], "", 1), 1);
        }
}

struct waited {
        double p99, most;
};

/* What a process says, which may also end in its stead. */
static char hear(int fd, pid_t pid)
{
        char byte = '\0';

        (void) HAPPENS(is_readable(fd) || waitpid(pid, NULL, WNOHANG) != 0);
        ck_assert_msg(is_readable(fd), "%s: this does not begin, or does not end", attack->name);
        ck_assert_int_eq(read(fd, &byte, 1), 1);
        return byte;
}

static struct waited measure(pid_t pid)
{
        struct waited w;

        ck_assert_int_eq(write(go[1], "", 1), 1);
        (void) hear(done[0], pid);
        (void) median(shared->usec, shared->n);
        w.p99 = percentile(shared->usec, shared->n, 99);
        w.most = shared->usec[shared->n - 1];
        return w;
}

/* What else the machine does comes after her, and she after the daemon, a bus and Bob (main.c). And there is
 * a processor on which she is not: she is to take time from them only by what the daemon does for her. */
static void leave_a_processor(void)
{
        cpu_set_t cpus;

        (void) setpriority(PRIO_PROCESS, 0, -10);
        if (sched_getaffinity(0, sizeof cpus, &cpus) < 0 || CPU_COUNT(&cpus) < 2)
                return;
        for (int i = 0; i < CPU_SETSIZE; i++)
                if (CPU_ISSET(i, &cpus)) {
                        CPU_CLR(i, &cpus);
                        break;
                }
        (void) sched_setaffinity(0, sizeof cpus, &cpus);
}

static void alice(void *userdata)
{
        leave_a_processor();
        if (attack->place)
                attack->place(getpid());
        if (!attack->as_root) {
                become_user(ALICE);
                tie_to_parent(getppid());
        }
        attack->run();
}

/* What is over costs nothing any more. */
static void await_rest(void)
{
        uint64_t end_usec = now_monotonic_usec() + REST_USEC;
        unsigned n = 0;

        while (n < 10) {
                n = process_sleeps(world.daemon.pid, 0) ? n + 1 : 0;
                ck_assert_msg(now_monotonic_usec() < end_usec, "%s: ctxd still works, though nobody calls",
                                attack->name);
                nap(1000);
        }
}

static bool one_round(struct waited *ret_quiet, struct waited *ret_attacked, unsigned *ret_did)
{
        pid_t b, a;
        char said;

        await_rest();
        b = spawn_as(BOB, bob, NULL);
        *ret_quiet = measure(b);
        shared->did = 0;
        shared->is_ready = false;
        a = spawn(alice, NULL);
        said = hear(ready[0], a);
        if (said == 'r') {
                *ret_attacked = measure(b);
                *ret_did = shared->did;
        }
        end_process(a);
        end_process(b);
        if (!attack->keeps)
                (void) sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Release",
                                NULL, NULL, "s", "user-1001");
        return said == 'r';
}

static void open_pipes(void)
{
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(shared, MAP_FAILED);
        ck_assert(pipe(go) == 0 && pipe(done) == 0 && pipe(ready) == 0);
}

static double too_bad(const struct attack *a)
{
        if (a->max > 0)
                return a->max;
        return world.transport == TRANSPORT_DIRECT ? RATIO_MAX : RATIO_MAX_BUS;
}

void withstand(const struct attack *a)
{
        struct waited quiet = {}, attacked = {}, best_quiet = {}, best = {};
        unsigned did = 0, best_did = 0, wanted = a->max > 0 ? 1 : ROUNDS_WANTED;
        double ratio = 0, max = too_bad(a);

        attack = a;
        open_pipes();
        for (unsigned i = 0; i < ROUNDS && (i == 0 || ratio > (i < wanted ? RATIO_WANTED : max / 2)); i++) {
                if (!one_round(&quiet, &attacked, &did))
                        return;
                if (i > 0 && attacked.p99 / quiet.p99 > ratio)
                        continue;
                ratio = attacked.p99 / quiet.p99;
                best = attacked;
                best_quiet = quiet;
                best_did = did;
        }
        printf("# %-44s %8.2f times the p99 of %.0f us; the longest %.0f us (%.0f before); %u calls\n",
                        a->name, ratio, best_quiet.p99, best.most, best_quiet.most, best_did);
        fflush(stdout);
        ck_assert_msg(ratio < max, "%s: another user's cancels take %.1f times as long", a->name, ratio);
        ck_assert_msg(best_did > 0, "%s: nothing was attacked", a->name);
}

static void setup(void)
{
        bus = connect_bus();
}

void add_attacks(Suite *s, const char *name, void (*start)(void), const TTest *const *tests)
{
        TCase *c = add_case(s, name, tests);

        tcase_add_unchecked_fixture(c, start, world_stop);
        tcase_add_checked_fixture(c, setup, NULL);
}

static void start(const char *config, const char *probe)
{
        char path[96];

        world_prepare(config, probe);
        daemon_again(&world.daemon);
        if (world.transport == TRANSPORT_DIRECT)
                return;
        /* A user's daemon has a direct socket for that user alone. Alice makes her trees there. */
        snprintf(path, sizeof path, "%s/ctxd", world.daemon.directory);
        if (chmod(path, 0755) < 0)
                give_up(path, errno);
}

void start_attacked(void)
{
        start("RetainSec=1s\n", NULL);
}

void start_with(const char *config)
{
        start(config, getenv("CTXD_PROBE"));
}
