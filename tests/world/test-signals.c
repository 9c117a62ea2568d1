/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/world/world.h"

/* A user may have thousands of members, and others are served while the daemon is busy with them (law 48). */

#define MANY 2000
static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};
static unsigned crowd;

/* Forks the crowd when it is told. They ignore SIGTERM. */
static void body_crowd(int in, int out)
{
        char byte;

        (void) signal(SIGTERM, SIG_IGN);
        (void) signal(SIGCHLD, SIG_IGN);
        child_ready(out);
        if (read(in, &byte, 1) != 1)
                _exit(1);
        for (unsigned i = 1; i < crowd; i++)
                if (fork() == 0)
                        child_sleep(in, open("/dev/null", O_WRONLY | O_CLOEXEC));
        child_ready(out);
        for (;;)
                pause();
}

static struct child *have_crowd(struct context *c, unsigned n, const struct policy *policy)
{
        struct child *child;

        crowd = n;
        child = child_start(body_crowd);
        attach(c, child, policy);
        breed(child, "g");
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), n);
        return child;
}

/* The kernel lists them in parts, too, and somebody else may look meanwhile. */
START_TEST(law_48_thousands_are_listed)
{
        struct context *c = make("c"), *other = make("other");
        struct members_look *all, *lone;
        struct member_process *list;
        size_t n, before = 0;
        unsigned parts = 1;

        have_crowd(c, MANY, &term);
        attach(other, child_start(child_sleep), &term);
        ck_assert_int_eq(engine_look(world.engine, c, false, &all), 0);
        for (; members_look_go(all, 2) == 0; parts++) {
                ck_assert_uint_le(members_look_count(all) - before, MANY / 10);
                before = members_look_count(all);
                ck_assert_int_eq(engine_look(world.engine, other, false, &lone), 0);
                ck_assert_int_eq(members_look_go(lone, UINT32_MAX), 1);
                ck_assert_uint_eq(members_look_count(lone), 1);
                members_look_free(lone);
        }
        ck_assert_uint_ge(parts, 10);
        ck_assert_int_eq(members_look_processes(all, &list, &n), 0);
        ck_assert_uint_eq(n, MANY);
        free(list);
        members_look_free(all);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("signals");
        TCase *bpf = tcase_create("bpf");

        tcase_add_checked_fixture(bpf, world_start_bpf, world_stop);
        tcase_set_timeout(bpf, 120);
        if (!bpf_missing())
                tcase_add_test(bpf, law_48_thousands_are_listed);
        suite_add_tcase(s, bpf);
        return run_suite(s);
}
