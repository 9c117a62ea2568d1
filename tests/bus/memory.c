/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Law 35 where memory runs out: the linker hands the daemon's allocations to us, and each one in turn is
 * refused while a call on a large tree is served, whose work goes on in slices after the call. Either the
 * caller is told of an error, and nothing has changed, or all is done. */

#include <signal.h>
#include <stdio.h>

#include "inside.h"
#include "daemon/bus/connection-internal.h"
#include "tests/harness/process.h"
#include "util/foreign-jobs.h"
#include "tests/harness/refused-memory.h"

#define CHILDREN 20000

static uint64_t begun_usec;

static void send_cancel(struct client *c, const char *path)
{
        SEND(c, "Cancel", "ss", path, "why");
}

static void send_release(struct client *c, const char *path)
{
        SEND(c, "Release", "s", path);
}

static void send_extend(struct client *c, const char *path)
{
        SEND(c, "Extend", "st", path, begun_usec + 2000 * SECOND);
}

static bool is_canceled(const struct context *c)
{
        return context_is_done(c);
}

static bool is_released(const struct context *c)
{
        return c->released;
}

static bool is_extended(const struct context *c)
{
        return c->deadline_usec == begun_usec + 2000 * SECOND;
}

static const struct verb_case {
        const char *name;
        void (*send)(struct client *c, const char *path);
        bool (*has)(const struct context *c);
} cases[] = {
                {"Cancel", send_cancel, is_canceled},
                {"Release", send_release, is_released},
                {"Extend", send_extend, is_extended},
};

static unsigned count(const struct verb_case *v, const struct context *root)
{
        unsigned n = v->has(root);

        for (const struct context *c = context_next(root, root); c; c = context_next(c, root))
                n += v->has(c);
        return n;
}

/* One try, with a daemon of its own. False: so many allocations were not asked for. */
static bool refuse_one(const struct verb_case *v, unsigned i, unsigned *ret_refused)
{
        struct context *large;
        struct client *c;
        unsigned left, n;

        inside_setup();
        tree->retain_usec = UINT64_MAX / 4;
        begun_usec = now_boottime_usec();
        large = make_until("large", begun_usec + 1000 * SECOND);
        make_many("large", CHILDREN);
        c = client_new();
        SEND(c, "Err", "s", "large");
        run();
        ck_assert_uint_eq(c->n_answers, 1);
        v->send(c, "large");
        n_heard();
        countdown = i;
        run();
        left = countdown;
        countdown = 0; /* what is asserted allocates, too */
        tree_check(tree);
        n = count(v, large);
        if (c->n_errors > 0) {
                ck_assert_msg(n == 0, "%s was refused at allocation %u, and %u contexts have changed",
                                v->name, i, n);
                (*ret_refused)++;
        } else {
                ck_assert_uint_eq(n, CHILDREN + 1);
                ck_assert_uint_eq(c->n_answers, 2);
        }
        inside_teardown();
        memset(clients, 0, sizeof clients[0]);
        return left == 0;
}

START_TEST(law_35_a_call_on_a_large_tree)
{
        const struct verb_case *v = &cases[_i];
        unsigned n_refused = 0, i = 1;

        while (refuse_one(v, i, &n_refused))
                ck_assert_uint_lt(++i, 100);
        printf("# %s: %u of %u allocations refused it\n", v->name, n_refused, i - 1);
        ck_assert_uint_ge(n_refused, 1);
}
END_TEST

static void signal_hands(pid_t closer, int signal_number)
{
        pid_t pids[CHILDREN_MAX];
        unsigned n;

        ck_assert_happens((n = children_of(closer, pids)) >= 2);
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(kill(pids[i], signal_number), 0);
}

/* Nobody answers a connection that has gone. */
START_TEST(a_connection_ends_while_its_descriptor_is_looked_at)
{
        struct foreign *foreign;
        struct connection *c;
        struct client *client;
        int ends[2];

        inside_setup();
        ck_assert_int_ge(engine_guard(service.engine), 0);
        foreign = engine_foreign(service.engine);
        ck_assert_int_eq(pipe(ends), 0);
        client = client_new();
        SEND(client, "Err", "s", "nobody");
        run();
        signal_hands(foreign->pid, SIGSTOP);
        SEND(client, "Attach", "sha{sv}", "hers", ends[0], 0);
        ck_assert_int_ge(sd_bus_flush(client->bus), 0);
        c = TAILQ_FIRST(&service.connections);
        while (!c->receiver.look.job)
                ck_assert_int_gt(sd_event_run(event, 5 * SECOND), 0);
        countdown = 1;
        connection_free(c);
        ck_assert_uint_eq(countdown, 0);
        ck_assert_ptr_nonnull(TAILQ_FIRST(&foreign->asked));
        ck_assert_ptr_null(TAILQ_FIRST(&foreign->asked)->look);
        signal_hands(foreign->pid, SIGCONT);
        run_deaf();
        inside_teardown();
        close(ends[0]);
        close(ends[1]);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("memory");
        TCase *c = tcase_create("memory");

        tcase_set_timeout(c, 120);
        tcase_add_loop_test(c, law_35_a_call_on_a_large_tree, 0, ELEMENTSOF(cases));
        tcase_add_test(c, a_connection_ends_while_its_descriptor_is_looked_at);
        suite_add_tcase(s, c);
        return run_suite(s);
}
