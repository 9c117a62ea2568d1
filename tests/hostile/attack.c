/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Bob works alone, and then while Alice attacks: the ratio of the two is a round's. A machine may be busy for
 * a moment, and then a round says too much or too little. So where the first round comes near to a failure,
 * or, with CTXD_HOSTILE_MEDIANS=1 in the environment, is not well, the median of several counts, with pauses
 * between that grow: what else the machine does may be over then. A test fails by a ratio without what a bare
 * server takes longer, too, and for which the quiet p99 counts as half a millisecond at least: a lucky one is
 * half of that. */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/hostile/bob.h"

#define ROUNDS 9       /* at most */
#define RATIO_WANTED 2 /* one round is enough for that; else there are five or so */
#define ROUNDS_WANTED 5
#define RATIO_MAX 10
#define RATIO_MAX_BUS 20 /* there, Bob also waits for the bus, which carries what Alice says and is told */
#define USUAL_USEC 500
#define PAUSE_USEC 100000
#define PAUSE_MAX_USEC 1600000
#define REST_USEC 10000000 /* by then the daemon has done with what is over */

static struct {
        _Atomic unsigned did;
        _Atomic bool is_ready;
} * shared;

static const struct attack *attack;
static int ready[2];

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

struct round {
        struct waited quiet, attacked;
        unsigned did;
        double ratio;
        double usual; /* ours to a quiet run which was not lucky */
        double bare;  /* what the kernel and a bus alone do */
        double ours;  /* the ratio without what these take longer */
};

static void compare(struct round *r)
{
        double longer = r->attacked.bare - r->quiet.bare;

        r->ratio = r->attacked.p99 / r->quiet.p99;
        r->bare = r->attacked.bare / r->quiet.bare;
        r->ours = (r->attacked.p99 - longer) / r->quiet.p99;
        if (r->ours < 0)
                r->ours = 0; /* the worst moments were those with the bare server */
        r->usual = (r->attacked.p99 - (longer > 0 ? longer : 0)) /
                   (r->quiet.p99 > USUAL_USEC ? r->quiet.p99 : USUAL_USEC);
}

static bool one_round(struct round *ret)
{
        char said;
        pid_t a;

        await_rest();
        bob_start(attack);
        ret->quiet = bob_works();
        shared->did = 0;
        shared->is_ready = false;
        a = spawn(alice, NULL);
        said = hear(ready[0], a, attack);
        if (said == 'r') {
                ret->attacked = bob_works();
                ret->did = shared->did;
                compare(ret);
        }
        end_process(a);
        bob_end();
        if (!attack->keeps)
                (void) sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Release",
                                NULL, NULL, "s", "user-1001");
        return said == 'r';
}

static int by_ratio(const void *a, const void *b)
{
        const struct round *x = a, *y = b;

        return (x->usual > y->usual) - (x->usual < y->usual);
}

static const struct round *median_round(struct round *rounds, size_t n)
{
        qsort(rounds, n, sizeof *rounds, by_ratio);
        return &rounds[n / 2];
}

static double too_bad(const struct attack *a)
{
        if (a->max > 0)
                return a->max;
        return world.transport == TRANSPORT_DIRECT ? RATIO_MAX : RATIO_MAX_BUS;
}

/* Whether another round may say something else. */
static bool is_in_doubt(struct round *rounds, size_t n, double max)
{
        if (n == 0)
                return true;
        if (n == 1)
                return getenv("CTXD_HOSTILE_MEDIANS") ? rounds->ratio > RATIO_WANTED
                                                      : rounds->usual >= max / 2;
        if (n % 2 == 0)
                return true;
        return n < ROUNDS && median_round(rounds, n)->usual >= (n < ROUNDS_WANTED ? RATIO_WANTED : max);
}

static void print(const struct round *r, size_t n)
{
        printf("# %-44s %8.2f times the p99 of %.0f us; the longest %.0f us (%.0f before); %u calls",
                        attack->name, r->ratio, r->quiet.p99, r->attacked.most, r->quiet.most, r->did);
        printf("; a bare server %.2f times %.0f us, ours %.2f", r->bare, r->quiet.bare, r->ours);
        if (n > 1)
                printf("; the median of %zu", n);
        printf("\n");
        fflush(stdout);
}

void withstand(const struct attack *a)
{
        struct round rounds[ROUNDS] = {};
        uint64_t pause = PAUSE_USEC;
        const struct round *r;
        double max = too_bad(a);
        size_t n = 0;

        attack = a;
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(shared, MAP_FAILED);
        ck_assert_int_eq(pipe(ready), 0);
        while (is_in_doubt(rounds, n, max)) {
                if (n > 0) {
                        nap(pause);
                        pause = pause * 2 < PAUSE_MAX_USEC ? pause * 2 : PAUSE_MAX_USEC;
                }
                if (!one_round(&rounds[n++]))
                        return;
        }
        r = median_round(rounds, n);
        print(r, n);
        ck_assert_msg(r->usual < max,
                        "%s: another user's cancels take %.1f times as long (%.1f for ctxd's part; the bare "
                        "server %.1f; the longest %.0f us; the median of %zu)",
                        a->name, r->ratio, r->ours, r->bare, r->attacked.most, n);
        ck_assert_msg(r->did > 0, "%s: nothing was attacked", a->name);
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
