/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#include "util/clock.h"
#include "tests/world/world.h"

/* Contexts that are made with a page and a member in one step, where the world fails in the middle. */

static void allow_files(rlim_t size)
{
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){size, RLIM_INFINITY}), 0);
}

static int create_with_page(const char *path, bool open, struct process *member, int signal_number)
{
        static const struct caller root = {.uid = 0};
        struct attachment attachment = {
                        .wanted = {.signal = signal_number, .kill_after_usec = CTXD_USEC_INFINITY}};
        struct create_options options = {.deadline_usec = CTXD_USEC_INFINITY,
                        .mode = CONTEXT_MODE_INHERIT,
                        .parents = true,
                        .open = open,
                        .attach = member ? &attachment : NULL};
        struct refused refused = {};
        struct page_place place;
        struct context *c;

        return engine_create(world.engine, now_boottime_usec(), &root, path, &options, member, member, &place,
                        &c, &refused);
}

/* No file may grow, so there is no memory for a page: neither a context is left behind, nor a member, nor the
 * way in which it would have been attached, of which a context may have 32. */
START_TEST(law_35_a_page_that_fails)
{
        struct child *child = child_start(child_sleep);
        struct context *c = make_for(0, "opened"), *done = make_for(0, "done/below")->parent;
        struct refused refused = {};
        struct page_place place;
        unsigned n_other = 0;
        struct process *p;

        signal(SIGXFSZ, SIG_IGN);
        cancel(done);
        world.n_new = world.n_removed = 0;
        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        allow_files(0);
        n_other += engine_page(world.engine, c, &place) != -EFBIG;
        for (int i = 1; i < 2 * CONTEXT_POLICIES_MAX; i++) {
                n_other += create_with_page("opened", true, p, i) != -EFBIG;
                n_other += create_with_page("new/below", i % 2, p, i) != -EFBIG;
                n_other += create_with_page("done", false, p, i) != -EFBIG;
        }
        allow_files(RLIM_INFINITY); /* what a test says about a failure goes into a file */
        ck_assert_uint_eq(n_other, 0);
        world_drain(NULL);
        tree_check(world.tree);
        ck_assert_uint_eq(c->n_policies, 0);
        ck_assert(!c->busy);
        ck_assert_uint_eq(world.tree->n_contexts, 3);
        ck_assert_uint_eq(world.n_new + world.n_removed, 0);
        ck_assert_ptr_null(context_of(p));
        ck_assert_int_eq(tree_find(world.tree, &(struct caller){}, "done/below", &c, &refused), 0);
        ck_assert_int_eq(create_with_page("opened", true, p, SIGTERM), 0);
        ck_assert_ptr_nonnull(context_of(p));
        engine_process_close(p);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("create");
        TCase *c = tcase_create("create");

        tcase_add_checked_fixture(c, world_start, world_stop);
        tcase_set_timeout(c, 60);
        tcase_add_test(c, law_35_a_page_that_fails);
        suite_add_tcase(s, c);
        return run_suite(s);
}
