/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/engine/internal.h"
#include "util/clock.h"
#include "util/realtime.h"
#include "tests/world/world.h"

/* To signal one member takes some 20 us, and a user may have thousands. So others are served between (law
 * 48). What is counted are the signals that are sent in one go, and not the time. */

#define MANY 2000 /* with BPF; reading them from /proc takes longer */
#define WITHOUT_BPF 300
#define FEW 100
/* So many signals may be sent in one go, */
#define AT_ONCE_MAX 50
/* and so many turns may another one wait. */
#define TURNS_MAX 10

static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};
static const struct policy kill_at_once = {.signal = SIGTERM, .kill_after_usec = 0};

static const struct policy only_kill = {.signal = 0, .kill_after_usec = 0};

static unsigned n_sent;

struct world;
int __real_world_signal(const struct world *w, int pidfd, int signal_number);
int __wrap_world_signal(const struct world *w, int pidfd, int signal_number);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

int __wrap_world_signal(const struct world *w, int pidfd, int signal_number)
{
        n_sent++;
        return __real_world_signal(w, pidfd, signal_number);
}

static unsigned countdown; /* the allocation that fails; 0: none */

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
        return countdown > 0 && --countdown == 0 ? NULL : __real_reallocarray(p, n, size);
}

static unsigned many = MANY;

static void start_without_bpf(void)
{
        many = WITHOUT_BPF;
        world_start();
}

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
        run_for(1000);
        n_sent = 0;
        return child;
}

/* They fork for as long as they live, which is no longer than this. */
#define BOMB_MAX 300
#define BOMB_USEC UINT64_C(100000000)

static void body_bomb(int in, int out)
{
        uint64_t end_usec = now_boottime_usec() + BOMB_USEC;
        uid_t uid = 65100 + (uid_t) getpid() % 400; /* of this one alone: RLIMIT_NPROC counts them all */

        if (setrlimit(RLIMIT_NPROC, &(struct rlimit){BOMB_MAX, BOMB_MAX}) < 0 || setuid(uid) < 0)
                _exit(1);
        child_bomb(in, out, end_usec);
}

static bool is_small(void *userdata)
{
        return engine_count_members(world.engine, userdata, false) < BOMB_MAX / 3;
}

static bool are_few_sent(void *userdata)
{
        return n_sent < *(unsigned *) userdata;
}

/* Goes on with what is left of a cancel, in the turns of who has called. */
static uint32_t go_on(struct signal_pass *p)
{
        unsigned before = n_sent;
        uint32_t n;

        ck_assert_ptr_nonnull(p);
        while (engine_signals_go(world.engine, p, 2, &n) == 0) {
                ck_assert_uint_le(n_sent - before, 1);
                before = n_sent;
        }
        engine_signals_let_go(world.engine, p);
        return n;
}

START_TEST(law_48_a_cancel_signals_thousands)
{
        struct context *c = make("c");

        have_crowd(c, MANY, &term);
        ck_assert_uint_eq(cancel(c), MANY);
        ck_assert_uint_le(n_sent, AT_ONCE_MAX);
        ck_assert_uint_eq(go_on(engine_take_signals(world.engine)), 0);
        ck_assert_uint_eq(n_sent, MANY);
        run_for(200000);
        ck_assert_uint_eq(n_sent, MANY);
}
END_TEST

START_TEST(law_48_thousands_for_whom_nobody_waits)
{
        struct context *c = make("c");
        unsigned all = many;

        have_crowd(c, many, &term);
        cancel_only(c);
        world_drain(NULL);
        ck_assert_uint_le(n_sent, AT_ONCE_MAX);
        expect_turns(are_few_sent, &all, &n_sent, AT_ONCE_MAX, TURNS_MAX);
        run_for(200000);
        ck_assert_uint_eq(n_sent, many);
}
END_TEST

START_TEST(law_48_thousands_are_killed)
{
        struct context *c = make("c");
        struct signal_pass *p;

        have_crowd(c, many, &kill_at_once);
        ck_assert_uint_le(cancel(c), many); /* without BPF they are counted as they are read */
        ck_assert_uint_le(n_sent, AT_ONCE_MAX);
        p = engine_take_signals(world.engine);
        engine_signals_let_go(world.engine, p);
        expect_turns(is_busy, c, &n_sent, AT_ONCE_MAX, TURNS_MAX);
        ck_assert_uint_eq(n_sent, many);
}
END_TEST

static bool is_in_storm(void)
{
        return (sched_getscheduler(0) & ~SCHED_RESET_ON_FORK) == SCHED_FIFO;
}

static bool may_storm(void)
{
        struct realtime before = realtime_begin();
        bool r = is_in_storm();

        realtime_end(before);
        return r;
}

static bool has_no_storm(void *userdata)
{
        (void) usleep(10000); /* so a piece comes late, as where a crowd has the processor */
        return !is_in_storm();
}

/* Between the pieces of a storm, too, others are served. */
START_TEST(law_48_thousands_are_killed_in_a_storm)
{
        struct context *c = make("c");

        if (!may_storm())
                return;
        have_crowd(c, MANY, &only_kill);
        cancel_only(c);
        world_drain(NULL);
        expect_turns(has_no_storm, NULL, &n_sent, AT_ONCE_MAX, TURNS_MAX);
        expect_turns(is_busy, c, &n_sent, AT_ONCE_MAX, TURNS_MAX);
        ck_assert(!is_in_storm());
}
END_TEST

START_TEST(law_48_a_fork_bomb_is_ended)
{
        struct context *c = make("c");
        struct child *bomb = child_start(body_bomb);

        attach_to_reap(c, bomb, &kill_at_once);
        child_tell(bomb, 'g');
        run_while(is_small, c);
        n_sent = 0;
        cancel_only(c);
        world_drain(NULL);
        ck_assert_uint_le(n_sent, AT_ONCE_MAX);
        expect_turns(is_busy, c, &n_sent, AT_ONCE_MAX, TURNS_MAX);
        ck_assert_uint_lt(now_boottime_usec(), c->created_usec + BOMB_USEC);
        ck_assert(!is_in_storm());
}
END_TEST

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
        ck_assert_int_eq(engine_look(world.engine, c, false, false, &all), 0);
        for (; members_look_go(all, 2) == 0; parts++) {
                ck_assert_uint_le(members_look_count(all) - before, MANY / 10);
                before = members_look_count(all);
                ck_assert_int_eq(engine_look(world.engine, other, false, false, &lone), 0);
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

static bool has_no_bpf(void *e)
{
        return strcmp(engine_membership_backend(e), "bpf") != 0;
}

/* The daemon takes the maps of another probe. */
static void change_maps(void)
{
        struct probe_options options = {.mode = PROBE_MODE_BPF, .program = getenv("CTXD_PROBE")};
        struct engine *e;
        struct turn turn = {};
        struct tree *t;
        int fds[PROBE_FDS];

        ck_assert_int_ge(tree_new(&t), 0);
        ck_assert_int_ge(engine_new(&e, world.event, t, &turn), 0);
        ck_assert_int_ge(engine_start(e, &options), 0);
        run_while(has_no_bpf, e);
        for (size_t i = 0; i < PROBE_FDS; i++)
                fds[i] = fcntl(membership_bpf_fds(e->membership)[i], F_DUPFD_CLOEXEC, 3);
        ck_assert_int_ge(membership_use_bpf(world.engine->membership, fds), 0);
        engine_free(e);
        tree_free(t);
}

/* What was listed in others' maps is listed again in these. */
START_TEST(law_47_a_list_when_the_maps_change)
{
        struct context *c = make("c");
        struct members_look *look;

        have_crowd(c, MANY, &term);
        ck_assert_int_eq(engine_look(world.engine, c, false, false, &look), 0);
        ck_assert_int_eq(members_look_go(look, 2), 0);
        change_maps();
        while (members_look_go(look, 2) == 0)
                ;
        ck_assert_uint_eq(members_look_count(look), MANY);
        members_look_free(look);
}
END_TEST

/* The caller is told of all of them when all have their signals, also where the first try has failed. */
START_TEST(law_47_the_count_of_a_pass_that_fails)
{
        for (unsigned i = 0; i < 3; i++) {
                struct context *c = make((const char *[]){"a", "b", "c"}[i]);
                uint32_t n;

                have_crowd(c, FEW, &term);
                cancel_only(c);
                countdown = i;
                n = world_drain(c);
                n += go_on(engine_take_signals(world.engine));
                ck_assert_uint_eq(countdown, 0);
                ck_assert_uint_eq(n, FEW);
                ck_assert_uint_eq(n_sent, FEW);
        }
}
END_TEST

/* Where there is no descriptor, nobody is taken for one that has its signal. */
START_TEST(law_32_signals_without_descriptors)
{
        struct rlimit before, none;
        struct context *c = make("c");
        struct signal_pass *p;
        uint32_t n;

        have_crowd(c, FEW, &term);
        ck_assert_uint_eq(cancel(c), 0);
        p = engine_take_signals(world.engine);
        while (n_sent == 0)
                ck_assert_int_eq(engine_signals_go(world.engine, p, 2, &n), 0);
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
        none = (struct rlimit){0, before.rlim_max};
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
        for (unsigned i = 0; i < 3; i++)
                ck_assert_int_eq(engine_signals_go(world.engine, p, 2, &n), 0);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        ck_assert_uint_eq(go_on(p), FEW);
        ck_assert_uint_eq(n_sent, FEW);
}
END_TEST

int main(void)
{
        const TTest *const kernel[] = {law_48_a_cancel_signals_thousands,
                        law_48_thousands_for_whom_nobody_waits, law_48_thousands_are_killed,
                        law_48_a_fork_bomb_is_ended, law_48_thousands_are_killed_in_a_storm,
                        law_48_thousands_are_listed, NULL};
        const TTest *const maps[] = {law_47_a_list_when_the_maps_change, NULL};
        /* Whether a fork bomb ends without BPF is a matter of speed: /proc has to be read for each kill. */
        const TTest *const read[] = {law_48_thousands_for_whom_nobody_waits, law_48_thousands_are_killed,
                        law_47_the_count_of_a_pass_that_fails, law_32_signals_without_descriptors, NULL};
        Suite *s = suite_create("signals");
        TCase *bpf = tcase_create("bpf"), *changed = tcase_create("maps"), *direct = tcase_create("direct");

        tcase_add_checked_fixture(bpf, world_start_bpf, world_stop);
        tcase_add_checked_fixture(changed, world_start_bpf, world_stop);
        tcase_add_checked_fixture(direct, start_without_bpf, world_stop);
        tcase_set_timeout(bpf, 120);
        tcase_set_timeout(changed, 120);
        tcase_set_timeout(direct, 120);
        for (size_t i = 0; kernel[i] && !bpf_missing(); i++)
                tcase_add_test(bpf, kernel[i]);
        for (size_t i = 0; maps[i] && !bpf_missing(); i++)
                tcase_add_test(changed, maps[i]);
        for (size_t i = 0; read[i]; i++)
                tcase_add_test(direct, read[i]);
        suite_add_tcase(s, bpf);
        suite_add_tcase(s, changed);
        suite_add_tcase(s, direct);
        return run_suite(s);
}
