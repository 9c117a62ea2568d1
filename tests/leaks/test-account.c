/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What one user may use up of the probe: on virtual time, and with a backend that takes its time. */

#include <errno.h>
#include <stdlib.h>

#include "bpf/look-cost.h"
#include "bpf/missed.h"
#include "bpf/probe.h"
#include "bpf/publish.h"
#include "bpf/verdict.h"
#include "tests/harness/base.h"
#include "tests/harness/suite.h"
#include "util/clock.h"
#include "util/share.h"

#define ALICE 1001
#define BOB 1002
#define START UINT64_C(1000000000)

/* Nobody fills a table alone, nor do a hundred users together, and each gets one place in any case. */
START_TEST(shares)
{
        size_t held[100] = {}, n = 0;

        for (size_t i = 0; i < 100; i++) {
                while (share_admits(held[i], n, 4096)) {
                        held[i]++;
                        n++;
                }
                ck_assert_uint_ge(held[i], 1);
                ck_assert_uint_le(held[i], i == 0 ? 512 : held[i - 1]);
                ck_assert_uint_lt(n, 4096 + 100);
        }
        ck_assert_uint_eq(held[0], 512);
        ck_assert(share_admits(0, 8191, 4096) && !share_admits(0, 8192, 4096));
}
END_TEST

/* Who may use one subordinate uid may use all of its block. */
START_TEST(subordinate_uids_are_one)
{
        struct accounts accounts = {};
        struct account *a = account_ref(&accounts, 100000), *b = account_ref(&accounts, 165535),
                       *other = account_ref(&accounts, 165536), *alice = account_ref(&accounts, ALICE);

        ck_assert_ptr_eq(a, b);
        ck_assert_ptr_ne(a, other);
        ck_assert_ptr_ne(a, alice);
        ck_assert_ptr_ne(alice, account_ref(&accounts, BOB));
        ck_assert(account_is_of(a, 131072) && !account_is_of(a, 99999) && !account_is_of(a, 165536));
        ck_assert_uint_eq(a->n_ref, 2);
        accounts_deinit(&accounts);
}
END_TEST

START_TEST(entries_of_a_minute)
{
        struct accounts accounts = {};
        struct account *alice = account_ref(&accounts, ALICE), *bob = account_ref(&accounts, BOB);
        uint64_t now = START;

        for (unsigned minute = 0; minute < 3; minute++) {
                for (unsigned i = 0; i < ACCOUNT_ENTRIES_MAX; i++)
                        ck_assert(account_take_entry(alice, now + i));
                ck_assert_uint_eq(account_due_usec(alice), UINT64_MAX);
                for (unsigned i = 0; i < 100; i++) {
                        ck_assert(!account_take_entry(alice, now + ACCOUNT_WINDOW_USEC - 1));
                        account_leave_out(alice, now + ACCOUNT_WINDOW_USEC - 1);
                }
                ck_assert_uint_eq(alice->n_left_out, 100);
                /* It is said when the minute is over. */
                ck_assert_uint_eq(account_due_usec(alice), now + ACCOUNT_WINDOW_USEC);
                ck_assert(account_take_entry(bob, now));
                alice->n_left_out = 0;
                now += ACCOUNT_WINDOW_USEC;
        }

        /* Whose threads have all left does not begin anew. */
        ck_assert(account_take_entry(alice, now));
        account_leave_out(alice, now);
        account_unref(alice);
        accounts_trim(&accounts, now + 1);
        ck_assert_ptr_eq(account_ref(&accounts, ALICE), alice);
        ck_assert_uint_eq(alice->n_entries, 1);
        account_unref(alice);
        accounts_trim(&accounts, now + 2 * ACCOUNT_WINDOW_USEC); /* it was not said yet */
        ck_assert_uint_eq(HASH_COUNT(accounts.by_party), 2);
        alice->n_left_out = 0;
        accounts_trim(&accounts, now + 2 * ACCOUNT_WINDOW_USEC);
        ck_assert_uint_eq(HASH_COUNT(accounts.by_party), 1);
        account_unref(bob);
        accounts_trim(&accounts, now + 2 * ACCOUNT_WINDOW_USEC);
        ck_assert_ptr_null(accounts.by_party);
}
END_TEST

static struct watch *watch_threads(struct watches *watches, uint64_t id, uint32_t uid, uint32_t n)
{
        static struct probe_threads threads;
        struct probe_watch record = {.context_id = id};
        struct watch *watch;

        ck_assert_int_eq(watches_add(watches, &record, 0, &watch), 1);
        threads = (struct probe_threads){.context_id = id, .n = n, .n_more = 3};
        for (uint32_t i = 0; i < n; i++)
                threads.threads[i] = (struct probe_thread){
                                .pid = uid, .tid = (uint32_t) id * 1000 + i, .uid = uid};
        ck_assert_int_eq(watches_set_entered(watches, &threads), 0);
        return watch;
}

/* Threads that enter contexts by themselves: more of one user than there are places. */
START_TEST(one_user_does_not_fill_the_entered)
{
        struct accounts accounts = {};
        struct watches watches = {};
        struct watch *of_bob, *watch, *next;
        uint32_t looked_at = 0, unseen = 0;

        for (uint64_t id = 1; id <= 32; id++)
                (void) watch_threads(&watches, id, ALICE, PROBE_THREADS_MAX);
        of_bob = watch_threads(&watches, 99, BOB, 5);
        for (unsigned again = 0; again < 2; again++) {
                watches_admit_entered(&watches, &accounts);
                for (uint32_t i = 0; i < 5; i++)
                        ck_assert(of_bob->entered[i].is_looked_at);
                ck_assert_uint_eq(of_bob->n_unseen, 3); /* that ctxd has not named */
        }
        HASH_ITER (hh, watches.by_id, watch, next) {
                unseen += watch->n_unseen;
                for (uint32_t i = 0; i < watch->n_entered; i++)
                        looked_at += watch->entered[i].is_looked_at;
                watch_free(&watches, watch);
        }
        ck_assert_uint_eq(looked_at, ENTERED_MAX / 8 + 5);
        ck_assert_uint_eq(unseen, 32 * PROBE_THREADS_MAX - ENTERED_MAX / 8 + 33 * 3);
        accounts_deinit(&accounts);
}
END_TEST

static unsigned n_looks;

/* What is asked of a process of which only the fact may be told: these here do not exist. */
static int slow_again(struct backend *backend, const struct sample *sample, struct sample *ret)
{
        n_looks++;
        nap(1000);
        *ret = *sample;
        return 0;
}

static const struct backend_ops slow_ops = {.kind = PROBE_BACKEND_PROC, .again = slow_again};

static struct thread *block(struct probe *probe, struct watch *watch, uint32_t uid, uint32_t n)
{
        struct sample sample = {
                        .context_id = watch->context_id,
                        .pid = 100000000 + n,
                        .tid = 100000000 + n,
                        .uid = uid,
                        .state = 0x1,
                        .start_nsec = n + 1,
                        .leader_start_nsec = n + 1,
                        .syscall = -1,
        };
        struct thread *thread = watches_thread(&probe->watches, &probe->accounts, watch, &sample);

        ck_assert_ptr_nonnull(thread);
        thread->sample = sample;
        (void) thread_clock_feed(&thread->clock, &sample, START);
        return thread;
}

#define CROWD 1000

/* A look takes 1 ms, so that 200 of them fit into a sweep. They go to one user after the other. */
START_TEST(law37_evidence_goes_to_one_user_after_the_other)
{
        struct probe_watch record = {.context_id = 1, .done_usec = START, .grace_usec = 1000};
        struct backend slow = {.ops = &slow_ops};
        struct probe probe = {.backend = &slow};
        struct thread *of_bob;
        struct watch *watch;
        unsigned passes = 0;

        ck_assert_int_ge(sd_event_new(&probe.event), 0);
        ck_assert_int_ge(sweeper_init(&probe), 0);
        ck_assert_int_eq(watches_add(&probe.watches, &record, 0, &watch), 1);
        for (uint32_t i = 0; i < CROWD; i++)
                (void) block(&probe, watch, ALICE, i);
        of_bob = block(&probe, watch, BOB, CROWD);

        /* If the machine was away for long, bob is the first in the next sweep. */
        while (!of_bob->leak && passes++ < 2) {
                n_looks = 0;
                ck_assert(verdict_pass(&probe, START + 1000000));
                ck_assert_uint_le(n_looks, 201);
        }
        ck_assert_ptr_nonnull(of_bob->leak);
        ck_assert_uint_le(probe.leaks.n, 2 * 201);
        /* And those of the crowd that are left have their turns later, as far as there is room for them. */
        for (passes = 0; verdict_pass(&probe, START + 1000000); passes++)
                ck_assert_uint_lt(passes, CROWD);
        ck_assert_uint_eq(probe.leaks.n, (PROBE_LEAKS_MAX - 1) / 8 + 1);
        ck_assert_ptr_nonnull(watch->more);
        ck_assert_uint_eq(watch->more->count, CROWD - (PROBE_LEAKS_MAX - 1) / 8);
        sweeper_deinit(&probe);
        sd_event_unref(probe.event);
}
END_TEST

#define SLOW_USEC UINT64_C(110000)

/* How many looks that sleep so long a user gets, one every usec, until he is left out. */
static unsigned looks_until_too_many(struct look_costs *costs, uid_t uid, uint64_t slept_usec, uint64_t usec)
{
        for (unsigned i = 1; i <= 10000; i++)
                if (look_cost_add(costs, (pid_t) i, uid, slept_usec, START + i * usec))
                        return i;
        return 0;
}

START_TEST(looks_that_are_slow_are_paid_for)
{
        struct look_costs costs = {};

        ck_assert_uint_eq(looks_until_too_many(&costs, ALICE, SLOW_USEC, SLOW_USEC), 5);
        ck_assert_uint_eq(looks_until_too_many(&costs, ALICE, LOOK_FREE_USEC, LOOK_FREE_USEC), 0);
        /* A twentieth of the time is nobody's loss. */
        ck_assert_uint_eq(looks_until_too_many(&costs, BOB, SLOW_USEC, 20 * SLOW_USEC), 0);
        /* Root's may be anybody's, so each process pays for itself. */
        ck_assert_uint_eq(looks_until_too_many(&costs, 0, SLOW_USEC, SLOW_USEC), 0);
        for (unsigned i = 1; i < 5; i++)
                ck_assert(!look_cost_add(&costs, 7, 0, SLOW_USEC, 2 * START * 10));
        ck_assert(look_cost_add(&costs, 7, 0, SLOW_USEC, 2 * START * 10));
}
END_TEST

/* Others do not push an account out that has much on it. */
START_TEST(accounts_of_slow_looks_are_few)
{
        struct look_costs costs = {};

        for (unsigned i = 0; i < 4; i++)
                ck_assert(!look_cost_add(&costs, 1, ALICE, SLOW_USEC, START));
        for (unsigned i = 0; i < 4 * LOOK_ACCOUNTS; i++)
                ck_assert(!look_cost_add(&costs, 1, 2000 + i, SLOW_USEC, START));
        ck_assert(look_cost_add(&costs, 1, ALICE, SLOW_USEC, START));
}
END_TEST

/* What is not looked at has not left; what has gone has. */
START_TEST(missed_by_a_sweep)
{
        struct missed m = {};

        ck_assert(!missed_has(&m, 1));
        for (uint32_t pid = 1000; pid > 0; pid--)
                missed_add(&m, pid, pid % 3 == 0 ? -EBUSY : pid % 3 == 1 ? -ESRCH : -ENOENT);
        missed_sort(&m);
        for (uint32_t pid = 1; pid <= 1001; pid++)
                ck_assert_int_eq(missed_has(&m, pid), pid <= 1000 && pid % 3 == 0);
        free(m.pids);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {shares, subordinate_uids_are_one, entries_of_a_minute,
                        one_user_does_not_fill_the_entered, law37_evidence_goes_to_one_user_after_the_other,
                        looks_that_are_slow_are_paid_for, accounts_of_slow_looks_are_few, missed_by_a_sweep,
                        NULL};

        return run_tests("account", tests);
}
