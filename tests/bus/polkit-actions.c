/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What polkit is asked about, and what it is not. */

#include "harness.h"

static void erin_makes(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        create(b, "erins");
        create(b, "erins/x");
        OK(b, "Create", "sa{sv}", "/", 0);
        OK_ON(b, "/org/ctxd1/context", "Derive", "sa{sv}", "derived", 0);
        EXPECT_ACTIVE(b, "erins/x");
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "user-1001", 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "secret/x", 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "new/x", 1, "parents", "b", 1);
        REFUSED(b, CTXD_ERROR_EXISTS, "Create", "sa{sv}", "secret", 1, "open", "b", 1);
        REFUSED(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Cancel", "ss", "secret", "");
}

static void bob_makes(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "bobs", 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "/", 0);
        REFUSED_ON(b, "/org/ctxd1/context", CTXD_ERROR_ACCESS_DENIED, "Derive", "sa{sv}", "bobs", 0);
}

START_TEST(first_labels_are_an_action_of_their_own)
{
        create(bus, "secret");
        run_as(ERIN, erin_makes, NULL);
        run_as(BOB, bob_makes, NULL);
        EXPECT_ACTIVE(bus, "secret");
}
END_TEST

static void frank_cancels(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        REFUSED(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Cancel", "ss", "other", "");
        REFUSED(b, CTXD_ERROR_NO_SUCH_CONTEXT, "CancelCause", "sis", "jobs/a", 1, "");
        REFUSED(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "jobs/a");
        ck_assert(cancel(b, "jobs/a", "by name"));
        ck_assert(cancel(b, "/jobs/b", "by another form of it"));
}

START_TEST(rules_see_the_name_and_the_member)
{
        create(bus, "jobs");
        create(bus, "jobs/a");
        create(bus, "jobs/b");
        create(bus, "other");
        run_as(FRANK, frank_cancels, NULL);
        EXPECT_ACTIVE(bus, "other");
        EXPECT_ACTIVE(bus, "jobs");
}
END_TEST

static void alice_stays(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        int self = open_pidfd(getpid());

        create(b, "~/mine");
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Attach", "sha{sv}", "~/mine", self, 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Attach", "sha{sv}", "other", self, 0);
        close(self);
}

static void alice_is_put(void *userdata)
{
        const int *pipes = userdata;
        char byte;

        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(read(pipes[2], &byte, 1), 1);
        run_as(ALICE, alice_stays, NULL);
}

/* polkit would be asked about the context that is entered, not about the one that is left. */
START_TEST(nobody_leaves_by_polkits_leave)
{
        int pipes[4], pidfd;
        pid_t pid;
        char byte;

        create(bus, "limits");
        create(bus, "other");
        ck_assert(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
        pid = spawn(alice_is_put, pipes);
        ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
        pidfd = open_pidfd(pid);
        OK(bus, "Attach", "sha{sv}", "limits", pidfd, 0);
        close(pidfd);
        ck_assert_int_eq(write(pipes[3], "", 1), 1);
        wait_for(pid);
        for (int i = 0; i < 4; i++)
                close(pipes[i]);
}
END_TEST

Suite *suite_polkit_actions(void)
{
        Suite *s = suite_create("polkit's actions");

        ADD_TESTS(s, "polkit's actions", start_polkit, first_labels_are_an_action_of_their_own,
                        rules_see_the_name_and_the_member, nobody_leaves_by_polkits_leave);
        return s;
}
