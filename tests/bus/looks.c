/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Law 48: who has sent a descriptor waits for those who look at it, and then for one turn of somebody else's,
 * not for all of them. The test says what the time is. */

#include <poll.h>
#include <signal.h>

#include "daemon/bus/connection-internal.h"
#include "inside.h"
#include "told-time.h"
#include "tests/harness/process.h"
#include "util/foreign-jobs.h"

#define ALICE 1001

#define TURNS 100 /* that Alice wants */

static void signal_hands(int signal_number)
{
        pid_t pids[CHILDREN_MAX];
        unsigned n;

        ck_assert_happens((n = children_of(engine_foreign(service.engine)->pid, pids)) >= 2);
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(kill(pids[i], signal_number), 0);
}

static struct taker alice;
static struct connection *bobs;
static unsigned n_turns, n_answered; /* turns of hers; of which so many when Bob's descriptor was known */

/* In her first turn the descriptor is looked at. Each takes as long as a turn may. */
static void on_turn(struct taker *taker)
{
        struct pollfd answer = {.fd = engine_foreign(service.engine)->fd, .events = POLLIN};

        if (!bobs->receiver.look.job && n_answered == 0)
                n_answered = n_turns;
        if (n_turns++ == 0) {
                signal_hands(SIGCONT);
                ck_assert_int_eq(poll(&answer, 1, 60000), 1);
        }
        now.tv_nsec += TURN_USEC * 1000;
        if (n_turns < TURNS)
                taker_wait(taker);
}

START_TEST(law48_a_look_at_a_descriptor)
{
        struct client *bob;
        int ends[2];

        inside_setup();
        ck_assert_int_ge(engine_guard(service.engine), 0);
        ck_assert_int_eq(pipe(ends), 0);
        bob = client_new();
        SEND(bob, "Err", "s", "nobody");
        run();
        bobs = TAILQ_FIRST(&service.connections);
        signal_hands(SIGSTOP);
        SEND(bob, "Attach", "sha{sv}", "his", ends[0], 0);
        ck_assert_int_ge(sd_bus_flush(bob->bus), 0);
        while (!bobs->receiver.look.job)
                ck_assert_int_gt(sd_event_run(event, 5 * SECOND), 0);
        ck_assert_int_ge(taker_init(&alice, &service.turns, ALICE, on_turn), 0);
        now = (struct timespec){.tv_sec = 1};
        taker_wait(&alice);
        while (n_turns < TURNS)
                ck_assert_int_gt(sd_event_run(event, 5 * SECOND), 0);
        now.tv_sec = 0;
        ck_assert_uint_eq(n_answered, 1);
        taker_deinit(&alice);
        run();
        ck_assert_uint_eq(bob->n_answers, 2);
        inside_teardown();
        close(ends[0]);
        close(ends[1]);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("looks");

        (void) add_case(s, "looks", (const TTest *const[]){law48_a_look_at_a_descriptor, NULL});
        return run_suite(s);
}
