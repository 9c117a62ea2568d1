/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Counts and membership while everything forks, exits, is attached and moved at once. Each storm takes a
 * while, and goes on until it has been one; what is checked afterwards is exact. */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/leaks/harness.h"

#define STORM_USEC UINT64_C(1500000)
#define CHILDREN 24

static struct harness h;

static void setup(void)
{
        harness_start(&h, PROBE_BACKEND_BPF, NULL, NULL);
}

static void teardown(void)
{
        harness_stop(&h);
}

static uint64_t now_nsec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

/* It is time to stop: a while has passed, and enough has happened, for which a slow machine gets longer. */
static bool is_over(uint64_t begin_nsec, bool enough)
{
        uint64_t passed_usec = (now_nsec() - begin_nsec) / 1000;

        return passed_usec >= (enough ? STORM_USEC : PATIENCE_USEC);
}

struct shared {
        volatile int stop, n;
        uint64_t pause_usec; /* between two forks */
        volatile struct {
                pid_t pid;
                uint64_t before; /* its fork */
        } children[CHILDREN];
};

static struct shared *shared_new(void)
{
        struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        ck_assert_ptr_ne(s, MAP_FAILED);
        return s;
}

static void fork_in_a_row(void *arg)
{
        struct shared *s = arg;

        for (int i = 0; i < CHILDREN; i++) {
                pid_t pid;

                s->children[i].before = now_nsec();
                pid = fork();
                if (pid == 0)
                        for (;;)
                                pause();
                s->children[i].pid = pid;
                s->n = i + 1;
                if (s->pause_usec > 0)
                        sleep_usec(s->pause_usec);
        }
        for (;;)
                pause();
}

/* An attach in the middle of it takes in each child that was begun after it, and none that was born before.
 */
START_TEST(attach_loses_nothing)
{
        uint64_t begin = now_nsec();
        int rounds = 0, after = 0, before = 0;

        for (; !is_over(begin, after > 0 && before > 0); rounds++) {
                uint32_t slot = h.n_slots < 60000 ? harness_context(&h) : h.n_slots;
                struct shared *s = shared_new();
                struct membership_task *tasks;
                uint64_t since, late;
                pid_t pid;
                size_t n;

                /* Where the two never run at the same time, the row is over before anybody looks. */
                s->pause_usec = rounds % 4 == 3 ? 1000 : 0;
                pid = spawn(fork_in_a_row, s);
                while (s->n < 1 + rounds % (CHILDREN / 2))
                        sched_yield();
                late = now_nsec();
                h.delay_usec = (uint64_t) (rounds % 3) * 200;
                ck_assert(harness_attach(&h, pid, slot));
                since = h.since_nsec;
                while (s->n < CHILDREN)
                        sched_yield();
                tasks = harness_list(&h, &n);
                for (int i = 0; i < CHILDREN; i++) {
                        bool is_member = false;

                        for (size_t k = 0; k < n; k++)
                                if (tasks[k].pid == (uint32_t) s->children[i].pid &&
                                                tasks[k].value.slot == slot)
                                        is_member = true;
                        if (s->children[i].before >= since) {
                                after++;
                                ck_assert_msg(is_member,
                                                "round %d: child %d, begun %llu ns after the attach, is no "
                                                "member",
                                                rounds, i,
                                                (unsigned long long) (s->children[i].before - since));
                        } else if (i + 1 < CHILDREN && s->children[i + 1].before < late) {
                                before++;
                                ck_assert_msg(!is_member,
                                                "round %d: child %d was there before, and is a member",
                                                rounds, i);
                        }
                }
                free(tasks);
                for (int i = 0; i < CHILDREN; i++)
                        kill(s->children[i].pid, SIGKILL);
                reap(pid);
                munmap(s, sizeof *s);
        }
        ck_assert_int_gt(after, 0);
        ck_assert_int_gt(before, 0);
        for (uint32_t slot = 1; slot <= h.n_slots; slot++)
                wait_for_live(&h, slot, 0);
}
END_TEST

static void *short_thread(void *arg)
{
        return NULL;
}

static void storm(void *arg)
{
        struct shared *s = arg;

        while (!s->stop) {
                pthread_t thread;
                pid_t pid;

                pid = fork();
                if (pid == 0) {
                        if (fork() == 0) /* an orphan soon */
                                _exit(0);
                        _exit(0);
                }
                if (pthread_create(&thread, NULL, short_thread, NULL) == 0)
                        pthread_join(thread, NULL);
                waitpid(pid, NULL, 0);
                pid = vfork();
                if (pid == 0)
                        _exit(0);
                waitpid(pid, NULL, 0);
        }
}

static void start_storm(struct shared *s, pid_t pids[3])
{
        for (int i = 0; i < 3; i++)
                pids[i] = spawn(storm, s);
}

/* Sweeps run against the hooks all the time; what is left in the end is nothing. */
START_TEST(counts_survive_a_storm)
{
        uint32_t slot = harness_context(&h);
        struct shared *s = shared_new();
        uint64_t begin;
        pid_t pids[3];

        start_storm(s, pids);
        for (int i = 0; i < 3; i++)
                ck_assert(harness_attach(&h, pids[i], slot));
        begin = now_nsec();
        while (!is_over(begin, h.stats->inherited > 100)) {
                harness_adopt(&h);
                ck_assert_int_ge(harness_live(&h, slot), 3);
                free(harness_list(&h, &(size_t){0}));
        }
        harness_cancel(&h, slot, UINT64_MAX);
        s->stop = 1;
        for (int i = 0; i < 3; i++)
                waitpid(pids[i], NULL, 0);
        ck_assert_msg(harness_drained(&h, slot, PATIENCE_USEC), "live is %d", harness_live(&h, slot));
        ck_assert_int_eq(harness_listed(&h, slot), 0);
        ck_assert_uint_gt(h.stats->inherited, 100);
        ck_assert_uint_eq(h.stats->inherit_failed, 0);
        ck_assert_uint_eq(h.stats->events_lost, 0);
}
END_TEST

/* Moved to and fro meanwhile: nobody is lost, nobody is counted twice. */
START_TEST(counts_survive_moves)
{
        uint32_t slots[3] = {harness_context(&h), harness_context(&h), harness_context(&h)};
        struct shared *s = shared_new();
        uint64_t begin;
        pid_t pids[3];
        int moves = 0;

        start_storm(s, pids);
        for (int i = 0; i < 3; i++)
                ck_assert(harness_attach(&h, pids[i], slots[0]));
        begin = now_nsec();
        for (; !is_over(begin, moves > 10); moves++)
                ck_assert(harness_attach(&h, pids[moves % 3], slots[moves % 2 + 1]));
        ck_assert_int_gt(moves, 10);
        for (int i = 0; i < 3; i++)
                ck_assert(harness_attach(&h, pids[i], slots[0]));
        s->stop = 1;
        for (int i = 0; i < 3; i++)
                waitpid(pids[i], NULL, 0);
        for (int i = 0; i < 3; i++)
                wait_for_live(&h, slots[i], 0);
}
END_TEST

/* All of it on one CPU, where a map operation that is preempted meets the fork hook. */
struct births {
        volatile int go, stop;
        unsigned long n;
};

static void stay_on_one_cpu(void)
{
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(0, &set);
        (void) sched_setaffinity(0, sizeof set, &set);
}

static void bear(void *arg)
{
        struct births *b = arg;

        stay_on_one_cpu();
        while (!b->go)
                sched_yield();
        while (!b->stop) {
                pid_t pid = vfork();

                if (pid == 0)
                        _exit(0);
                if (pid > 0) {
                        __atomic_add_fetch(&b->n, 1, __ATOMIC_SEQ_CST);
                        waitpid(pid, NULL, 0);
                }
        }
}

/* How many were born to members, and became none, while members were looked at all the time. */
static unsigned long lost_in_births(uint64_t usec, unsigned long wanted, unsigned long *ret_born)
{
        uint32_t slot = harness_context(&h);
        struct births *b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        uint64_t inherited, until, at_least;
        unsigned long lost;
        pid_t pids[3];

        ck_assert_ptr_ne(b, MAP_FAILED);
        stay_on_one_cpu();
        for (int i = 0; i < 3; i++)
                pids[i] = spawn(bear, b);
        for (int i = 0; i < 3; i++)
                ck_assert(harness_attach(&h, pids[i], slot));
        inherited = __atomic_load_n(&h.stats->inherited, __ATOMIC_SEQ_CST);
        at_least = now_nsec() + usec * 1000;
        until = now_nsec() + PATIENCE_USEC * 3000;
        b->go = 1;
        for (;;) {
                uint64_t now = now_nsec();

                (void) harness_is_member(&h, pids[0], slot);
                free(harness_list(&h, &(size_t){0}));
                lost = __atomic_load_n(&b->n, __ATOMIC_SEQ_CST);
                lost -= __atomic_load_n(&h.stats->inherited, __ATOMIC_SEQ_CST) - inherited;
                /* Those that are being born are in one count, and not yet in the other. */
                if (now > until || (now > at_least && b->n > 1000 &&
                                                   (wanted == 0 || (long) lost > (long) wanted)))
                        break;
        }
        b->stop = 1;
        for (int i = 0; i < 3; i++)
                waitpid(pids[i], NULL, 0);
        *ret_born = b->n;
        lost = b->n - (unsigned long) (__atomic_load_n(&h.stats->inherited, __ATOMIC_SEQ_CST) - inherited);
        munmap(b, sizeof *b);
        return lost;
}

START_TEST(no_birth_is_missed)
{
        unsigned long born, lost = lost_in_births(STORM_USEC, 0, &born);

        ck_assert_msg(lost == 0, "%lu of %lu were no members", lost, born);
}
END_TEST

/* The control: without the cure, and where the kernel preempts, the test above finds the loss. */
START_TEST(births_are_missed_without_realtime)
{
        unsigned long born, lost = lost_in_births(STORM_USEC, 10, &born);

        printf("without a real-time priority %lu of %lu were no members\n", lost, born);
        ck_assert_uint_gt(lost, 0);
}
END_TEST

static void exit_soon(void *arg)
{
        sleep_usec((uint64_t) (uintptr_t) arg);
}

/* Attached while it exits: it is counted for a moment or not at all. */
START_TEST(counts_survive_exits)
{
        uint32_t slot = harness_context(&h);
        uint64_t begin = now_nsec();

        for (uintptr_t i = 0; !is_over(begin, h.stats->adopted > 0); i++) {
                pid_t pid = spawn(exit_soon, (void *) (i % 40 * (i % 80 < 40 ? 10 : 1000)));

                (void) harness_attach(&h, pid, slot);
                waitpid(pid, NULL, 0);
        }
        wait_for_live(&h, slot, 0);
        ck_assert_uint_gt(h.stats->adopted, 0);
}
END_TEST

int main(int argc, char **argv)
{
        Suite *suite = suite_create("storm");
        TCase *tc = tcase_create("storm");

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_set_timeout(tc, 60);
        if (argc > 2 && strcmp(argv[2], "--without-realtime") == 0) {
                harness_without_realtime = true;
                tcase_set_timeout(tc, 200);
                tcase_add_test(tc, births_are_missed_without_realtime);
                suite_add_tcase(suite, tc);
                return harness_main(argc, argv, true, suite);
        }
        tcase_add_test(tc, no_birth_is_missed);
        tcase_add_test(tc, attach_loses_nothing);
        tcase_add_test(tc, counts_survive_a_storm);
        tcase_add_test(tc, counts_survive_moves);
        tcase_add_test(tc, counts_survive_exits);
        suite_add_tcase(suite, tc);
        return harness_main(argc, argv, true, suite);
}
