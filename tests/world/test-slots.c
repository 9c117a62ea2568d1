/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "tests/world/world.h"

/* Members and the slots of their contexts: whom they are charged to, that they are limited, given back and
 * used again, and that a user with many of them is nobody else's matter. Without BPF and with it. */

#define ALICE 1001
#define BOB 1002

static const struct policy quiet = {.signal = 0, .kill_after_usec = CTXD_USEC_INFINITY};
static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};

static struct refused refused;

static int try(struct context *c, struct child *child)
{
        static const struct caller root = {.uid = 0};
        int r;

        refused = (struct refused){};
        r = engine_attach(world.engine, &root, c, child->pidfd, &quiet, &refused);
        world_drain(NULL);
        return r;
}

static struct context *numbered(uid_t uid, unsigned i)
{
        char path[32];

        snprintf(path, sizeof path, "~/%u", i);
        return make_for(uid, path);
}

static uint64_t used(const struct context *c, enum resource resource)
{
        return c->user->used[resource];
}

static bool has_slots(void *userdata)
{
        return ((struct user *) userdata)->used[RESOURCE_SLOTS] > 0;
}

/* MaxMembersPerUser= limits members, however they are spread over contexts. */
START_TEST(members_are_counted)
{
        struct context *c[10];
        struct child *child[10];

        world.tree->users.limit[RESOURCE_MEMBERS] = 3;
        for (unsigned i = 0; i < 10; i++) {
                c[i] = _i == 0 && i > 0 ? c[0] : numbered(ALICE, i);
                child[i] = child_start(child_sleep);
                ck_assert_int_eq(try(c[i], child[i]), i < 3 ? 0 : -EDQUOT);
        }
        ck_assert_int_eq(refused.reason, REFUSED_LIMIT);
        ck_assert_str_eq(refused.limit, "members");
        ck_assert_str_eq(refused.limit_key, "MaxMembersPerUser");
        ck_assert_uint_eq(refused.used, 3);
        ck_assert_uint_eq(refused.allowed, 3);
        ck_assert_uint_eq(c[0]->user->used[RESOURCE_SLOTS], _i == 0 ? 1 : 3);
        ck_assert_int_eq(try(numbered(BOB, 0), child[9]), 0);    /* a limit for each user */
        ck_assert_int_eq(try(numbered(ALICE, 20), child[2]), 0); /* it moves */
        ck_assert_int_eq(try(c[0], child[3]), -EDQUOT);
        kill(child[2]->pid, SIGKILL);
        (void) child_wait(child[2]);
        run_for(20000);
        ck_assert_int_eq(try(c[0], child[3]), 0);
        ck_assert_int_eq(try(c[0], child[4]), -EDQUOT);
        ck_assert_uint_eq(used(c[0], RESOURCE_MEMBERS), 3);
}
END_TEST

/* A member that goes to another user's context costs that user. */
START_TEST(a_member_that_moves)
{
        struct context *a = numbered(ALICE, 0), *b = numbered(BOB, 0);
        struct child *child = child_start(child_sleep);

        ck_assert_int_eq(try(a, child), 0);
        ck_assert_int_eq(try(b, child), 0);
        run_for(20000);
        ck_assert_uint_eq(used(a, RESOURCE_MEMBERS), 0);
        ck_assert_uint_eq(used(a, RESOURCE_SLOTS), 0);
        ck_assert_uint_eq(used(a, RESOURCE_DESCRIPTORS), 0);
        ck_assert_uint_eq(used(b, RESOURCE_MEMBERS), 1);
        world.tree->users.limit[RESOURCE_MEMBERS] = 0;
        ck_assert_int_eq(try(a, child), -EDQUOT); /* and stays where it is */
        ck_assert_uint_eq(membership_number(a), 0);
        ck_assert_uint_eq(cancel(b), 1);
        kill(child->pid, SIGKILL);
        run_while(is_busy, b);
        run_while(has_slots, b->user);
}
END_TEST

/* One process goes through more contexts than can have members: each gives its slot back. */
START_TEST(a_slot_is_given_back_with_the_last_member)
{
        struct child *child = child_start(child_sleep);
        struct context *c = NULL, *first = NULL;

        world.tree->users.pools[POOL_SLOTS].limit = 8;
        for (unsigned i = 0; i < 100; i++) {
                c = numbered(ALICE, i);
                first = first ? first : c;
                ck_assert_int_eq(try(c, child), 0);
                if (i % 8 == 7)
                        run_for(1000);
                ck_assert_uint_le(membership_number(c), 8);
        }
        run_for(20000);
        ck_assert_uint_eq(world.tree->users.pools[POOL_SLOTS].used, 1);
        ck_assert_uint_eq(used(c, RESOURCE_MEMBERS), 1);
        ck_assert(c->busy);
        ck_assert(!first->busy);
        kill(child->pid, SIGKILL);
        run_while(has_slots, c->user);
        ck_assert(!c->busy);
        cancel(c); /* nobody is in it */
        ck_assert_uint_ne(c->drained_usec, 0);
}
END_TEST

START_TEST(one_user_cannot_take_all_slots)
{
        struct context *bobs = numbered(BOB, 0), *c = NULL;
        struct child *child[16];
        unsigned n = 0;

        world.tree->users.pools[POOL_SLOTS].limit = 16;
        for (; n < ELEMENTSOF(child); n++) {
                child[n] = child_start(child_sleep);
                c = numbered(ALICE, n);
                if (try(c, child[n]) < 0)
                        break;
        }
        ck_assert_uint_eq(n, 14);
        ck_assert_int_eq(refused.reason, REFUSED_LIMIT);
        ck_assert_str_eq(refused.limit, "contexts with members of all users");
        ck_assert_uint_eq(refused.used, 14);
        ck_assert_uint_eq(refused.allowed, 14);
        ck_assert_uint_eq(membership_number(c), 0);
        ck_assert_uint_eq(c->n_policies, 0);
        ck_assert_int_eq(try(bobs, child[14]), 0);
        for (unsigned i = 0; i < 14; i++)
                kill(child[i]->pid, SIGKILL);
        run_while(has_slots, c->user);
        ck_assert_uint_eq(world.tree->users.pools[POOL_SLOTS].used, 1);
        ck_assert_int_eq(try(c, child_start(child_sleep)), 0);
}
END_TEST

static struct process *self(void)
{
        struct process *p = NULL;

        ck_assert_int_eq(engine_process_open_pid(world.engine, getpid(), &p), 0);
        return p;
}

static int enter(struct process *p, struct context *c)
{
        int page, kick;

        return engine_threads(world.engine, p, c, &page, &kick, &refused);
}

/* A context that threads may enter keeps its slot until their process gives that up. */
START_TEST(a_slot_for_threads)
{
        struct child *child = child_start(child_sleep);
        struct context *c = numbered(ALICE, 0);
        struct process *p = NULL;

        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        ck_assert_int_ge(enter(p, c), 0);
        run_for(20000);
        ck_assert_uint_eq(used(c, RESOURCE_SLOTS), 1);
        attach(c, child, &quiet);
        kill(child->pid, SIGKILL);
        run_while(has_slots, c->user);
        ck_assert(!c->busy);
        engine_process_close(p);
}
END_TEST

#define BOBS 15
#define SLOTS 200000

/* How long it takes to attach a process of Bob's and to cancel its context, at best. */
static uint64_t bobs_usec(struct child *child[BOBS], unsigned round)
{
        uint64_t least = UINT64_MAX;

        for (unsigned i = 0; i < BOBS; i++) {
                struct context *c = numbered(BOB, round * BOBS + i);
                uint64_t begin, usec;

                world_drain(NULL);
                begin = now_boottime_usec();
                attach(c, child[i], &term);
                ck_assert_uint_eq(cancel(c), 1);
                usec = now_boottime_usec() - begin;
                least = usec < least ? usec : least;
                (void) child_wait(child[i]);
        }
        return least;
}

/* 200,000 slots of Alice's do not make Bob's attach and cancel slower. */
START_TEST(slots_of_another_user_cost_nothing)
{
        struct child *child[2][BOBS]; /* started first: we share no memory with them that we write to later */
        struct process *p = self();
        uint64_t alone_usec, usec;

        for (unsigned i = 0; i < 2 * BOBS; i++)
                child[i / BOBS][i % BOBS] = child_start(child_sleep);
        alone_usec = bobs_usec(child[0], 0);
        for (unsigned i = 0; i < SLOTS; i++)
                ck_assert_int_ge(enter(p, numbered(ALICE, i)), 0);
        world_drain(NULL);
        ck_assert_uint_ge(world.tree->users.pools[POOL_SLOTS].used, SLOTS);
        usec = bobs_usec(child[1], 1);
        printf("# %s: %ju us, and %ju us beside %d slots of another user\n",
                        engine_membership_backend(world.engine), (uintmax_t) alone_usec, (uintmax_t) usec,
                        SLOTS);
        ck_assert_msg(usec < 10 * alone_usec, "%ju us, then %ju us", (uintmax_t) alone_usec,
                        (uintmax_t) usec);
        engine_process_close(p);
}
END_TEST

/* A child of a member is one more when it is attached, also where nobody has counted it before. */
START_TEST(children_of_members_are_counted)
{
        struct context *c = numbered(ALICE, 0);
        struct child *child = child_start(child_breed);
        struct member_process *list;
        struct child bred = {};
        size_t n;

        world.tree->users.limit[RESOURCE_MEMBERS] = 2;
        ck_assert_int_eq(try(c, child), 0);
        ck_assert_int_eq(try(c, child_start(child_sleep)), 0);
        breed(child, "f");
        ck_assert_int_eq(engine_processes(world.engine, c, false, &list, &n), 0);
        ck_assert_uint_eq(n, 3);
        bred.pidfd = (int) syscall(SYS_pidfd_open, (pid_t) list[n - 1].pid, 0);
        ck_assert_int_ge(bred.pidfd, 0);
        free(list);
        ck_assert_int_eq(try(numbered(ALICE, 1), &bred), 0);
        close(bred.pidfd);
}
END_TEST

/* Some members have left, but not the last. There is room for a thread page then, as there is for a
 * process. */
START_TEST(room_for_threads)
{
        struct context *c = numbered(0, 0);
        struct child *child = child_start(child_breed);
        struct process *p = self();
        struct member_process *list;
        size_t n;

        world.tree->users.limit[RESOURCE_MEMBERS] = 4;
        ck_assert_int_eq(try(c, child), 0);
        breed(child, "fff");
        ck_assert_int_eq(try(c, child), 0);
        ck_assert_int_eq(engine_processes(world.engine, c, false, &list, &n), 0);
        ck_assert_uint_eq(n, 4);
        for (size_t i = 0; i < n; i++)
                if (list[i].pid != (uint32_t) child->pid)
                        kill((pid_t) list[i].pid, SIGKILL);
        free(list);
        run_for(50000);
        ck_assert_int_ge(enter(p, numbered(0, 1)), 0);
        ck_assert_uint_eq(used(c, RESOURCE_MEMBERS), 2);
        ck_assert_uint_eq(used(c, RESOURCE_SLOTS), 2);
        engine_process_close(p);
}
END_TEST

/* One of two that were signalled goes to another context. Its signal is one more. */
START_TEST(law_32_a_member_that_was_signalled_and_moves)
{
        struct child *one = child_start(child_count), *other = child_start(child_count);
        struct context *a = numbered(ALICE, 0), *b = numbered(ALICE, 1);
        static const struct caller root = {.uid = 0};

        attach(a, one, &term);
        attach(a, other, &term);
        ck_assert_uint_eq(cancel(a), 2);
        ck_assert_int_eq(child_say(one), 'T');
        ck_assert_int_eq(child_say(other), 'T');
        run_for(20000);
        ck_assert_int_eq(engine_attach(world.engine, &root, b, one->pidfd, &term, &refused), 0);
        world_drain(NULL);
        ck_assert_uint_eq(cancel(b), 1);
        ck_assert_int_eq(child_say(one), 'T');
        run_for(50000);
        ck_assert(child_silent(one));
        ck_assert(child_silent(other));
}
END_TEST

static void body_changes(int in, int out)
{
        char byte;

        child_ready(out);
        if (read(in, &byte, 1) != 1 || setresuid(BOB, BOB, BOB) < 0)
                _exit(1);
        child_sleep(in, out);
}

/* A process has become another user's, who may have no page: that of before stays, with the threads in it. */
START_TEST(law_35_a_refused_page_of_another_user)
{
        struct child *child = child_start(body_changes);
        uint64_t limit = world.tree->users.limit[RESOURCE_HANDLES];
        struct context *c = numbered(0, 0), *bobs = numbered(BOB, 0);
        struct process *p = NULL;

        if (getuid() != 0)
                return; /* needs processes of several uids */
        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        ck_assert_int_ge(enter(p, c), 0);
        child_tell(child, '!');
        ck_assert_int_eq(child_say(child), '!');
        engine_process_close(p);
        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        world.tree->users.limit[RESOURCE_HANDLES] = 0;
        ck_assert_int_eq(enter(p, bobs), -EDQUOT);
        world.tree->users.limit[RESOURCE_HANDLES] = limit;
        world_drain(NULL);
        ck_assert_uint_eq(used(c, RESOURCE_SLOTS), 1);
        ck_assert_int_ge(enter(p, bobs), 0);
        world_drain(NULL);
        ck_assert_uint_eq(used(c, RESOURCE_SLOTS), 0);
        engine_process_close(p);
}
END_TEST

static TCase *case_of(const char *name, void (*start)(void))
{
        TCase *c = tcase_create(name);

        tcase_add_checked_fixture(c, start, world_stop);
        tcase_set_timeout(c, 120);
        tcase_add_loop_test(c, members_are_counted, 0, 2);
        tcase_add_test(c, a_member_that_moves);
        tcase_add_test(c, a_slot_is_given_back_with_the_last_member);
        tcase_add_test(c, one_user_cannot_take_all_slots);
        tcase_add_test(c, a_slot_for_threads);
        tcase_add_test(c, children_of_members_are_counted);
        tcase_add_test(c, room_for_threads);
        tcase_add_test(c, law_32_a_member_that_was_signalled_and_moves);
        tcase_add_test(c, law_35_a_refused_page_of_another_user);
        tcase_add_test(c, slots_of_another_user_cost_nothing);
        return c;
}

int main(void)
{
        Suite *s = suite_create("slots");
        const char *missing = bpf_missing();

        suite_add_tcase(s, case_of("direct", world_start));
        if (missing)
                printf("# without bpf: %s\n", missing);
        else
                suite_add_tcase(s, case_of("bpf", world_start_bpf));
        return run_suite(s);
}
