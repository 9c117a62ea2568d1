/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who may use which first labels, and what owner, group and mode allow. */

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

#include "harness.h"

static void first_labels_of_users(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        _cleanup_message_ sd_bus_message *m = NULL;

        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "web", 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "/", 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "web/x", 1, "parents", "b", 1);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "user-1002/x", 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "user-0", 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "user-01001", 0);
        REFUSED_ON(b, "/org/ctxd1/context", CTXD_ERROR_ACCESS_DENIED, "Derive", "sa{sv}", "web", 0);
        m = CALL(b, "Create", "sa{sv}", "~/x", 0);
        EXPECT_ACTIVE(b, "user-1001/x");
        OK(b, "Create", "sa{sv}", "user-1001/y", 0);
        OK(b, "Create", "sa{sv}", "~/", 0);
        OK(b, "Release", "s", "~");
        OK(b, "Create", "sa{sv}", "~", 0);
}

static void first_labels_of_system_users(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        create(b, "daemons-own");
        ck_assert(cancel(b, "daemons-own", ""));
        OK(b, "Release", "s", "daemons-own");
}

START_TEST(first_labels)
{
        run_as(ALICE, first_labels_of_users, NULL);
        run_as(999, first_labels_of_system_users, NULL);
}
END_TEST

/* The answer of Open to somebody else than the owner: neither a descriptor nor a place. */
static void expect_no_page(sd_bus_message *m)
{
        uint64_t number, offset, word;

        ck_assert_int_ge(sd_bus_message_skip(m, "stbut"), 0);
        ck_assert_int_gt(sd_bus_message_enter_container(m, 'a', "h"), 0);
        ck_assert_int_eq(sd_bus_message_at_end(m, false), 1);
        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        READ(m, "ttt", &number, &offset, &word);
        ck_assert(number == 0 && offset == 0 && word == 0);
}

static void bob_reads_only(void *userdata)
{
        const pid_t *hidden = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        _cleanup_message_ sd_bus_message *opened = NULL, *found = NULL;
        int self = open_pidfd(getpid());

        EXPECT_ACTIVE(b, "public");
        close(done_handle(b, "public"));
        OK(b, "Undone", "s", "public");
        OK(b, "Values", "s", "public");
        OK(b, "List", "ssu", "public", "", 0);
        ck_assert_uint_eq(count_listed(b, "/"), 1);
        ck_assert_uint_eq(property_u64(b, "public", "DeadlineUSec"), UINT64_MAX);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Cancel", "ss", "public", "");
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "CancelCause", "sis", "public", 1, "");
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Release", "s", "public");
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Extend", "st", "public", UINT64_C(1));
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "public/x", 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Attach", "sha{sv}", "public", self, 0);
        /* Law 46: who may read it may open it, and becomes no member of it by that. */
        OK(b, "Create", "sa{sv}", "public", 1, "open", "b", 1);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "public", 2, "open", "b", 1, "attach", "h",
                        self);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Page", "s", "public");
        opened = CALL(b, "Open", "sb", "public", 1);
        expect_no_page(opened);
        found = CALL(b, "CreateAndOpen", "sa{sv}b", "public", 1, "open", "b", 1, 1);
        expect_no_page(found);
        REFUSED_ON(b, "/org/ctxd1/context/public", CTXD_ERROR_ACCESS_DENIED, "Derive", "sa{sv}", "x", 0);
        REFUSED_ON(b, "/org/ctxd1/context/public", CTXD_ERROR_ACCESS_DENIED, "Cancel", "s", "");
        /* A context below a readable one may still be hidden. */
        FAILS(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "public/hidden");
        expect_no_members(b, "public", *hidden);
        close(self);
}

static void tries_to_join(sd_bus *b, int pidfd, int signal_number)
{
        static const char *const readable[] = {"public", "public/done"};
        _cleanup_free_ char *object = object_of("public");

        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Attach", "sha{sv}", "public", pidfd, 1, "signal", "i",
                        signal_number);
        REFUSED_ON(b, object, CTXD_ERROR_ACCESS_DENIED, "Attach", "ha{sv}", pidfd, 1, "signal", "i",
                        signal_number);
        REFUSED_ON(b, object, CTXD_ERROR_ACCESS_DENIED, "Derive", "sa{sv}", "done", 1, "attach", "h", pidfd);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "public/done", 1, "attach", "h", pidfd);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "public/new", 1, "attach", "h", pidfd);
        for (size_t i = 0; i < ELEMENTSOF(readable); i++) {
                const char *error = i == 0 ? CTXD_ERROR_ACCESS_DENIED : CTXD_ERROR_ALREADY_DONE;

                REFUSED(b, error, "Create", "sa{sv}", readable[i], 3, "open", "b", 1, "attach", "h", pidfd,
                                "signal", "i", signal_number);
                REFUSED(b, error, "CreateAndOpen", "sa{sv}b", readable[i], 3, "open", "b", 1, "attach", "h",
                                pidfd, "signal", "i", signal_number, 1);
                REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "CreateAndOpen", "sa{sv}b", readable[i], 4, "open", "b",
                                1, "replace", "b", 1, "attach", "h", pidfd, "signal", "i", signal_number, 1);
        }
}

/* Every way by which a process becomes a member, for the caller's own process and for a child of it. */
static void bob_does_not_join(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        int self = open_pidfd(getpid()), child_fd;
        pid_t child = sleeper(&child_fd);

        for (int i = 1; i < 34; i++) { /* more kinds of attach than a context may have */
                tries_to_join(b, self, i);
                tries_to_join(b, child_fd, i);
        }
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Threads", "s", "public");
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Lifeline", "s", "public");
        /* Who may write to its parent takes a done one's name, and joins the new one alone. */
        OK(b, "Create", "sa{sv}", "shared/done", 1, "attach", "h", child_fd);
        end_process(child);
        close(child_fd);
        close(self);
}

START_TEST(law46_who_may_read_does_not_join)
{
        char old[64];
        int pidfd;
        pid_t pid = sleeper(&pidfd);

        OK(bus, "Create", "sa{sv}", "public", 1, "mode", "u", 0744);
        OK(bus, "Create", "sa{sv}", "public/done", 1, "mode", "u", 0744);
        cancel(bus, "public/done", "");
        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0777);
        OK(bus, "Create", "sa{sv}", "shared/done", 1, "mode", "u", 0744);
        snprintf(old, sizeof old, "shared/done#%ju", (uintmax_t) property_u64(bus, "shared/done", "Id"));
        cancel(bus, "shared/done", "");
        run_as(BOB, bob_does_not_join, NULL);
        expect_no_members(bus, old, 0);
        for (int i = 1; i <= 32; i++)
                OK(bus, "Attach", "sha{sv}", "public", pidfd, 2, "signal", "i", SIGTERM, "kill-after-usec",
                                "t", UINT64_C(1000000) * (unsigned) i);
        end_process(pid);
        close(pidfd);
        cancel(bus, "public", "");
        ck_assert_happens(property_u64(bus, "public", "QuiesceUSec") != UINT64_MAX);
}
END_TEST

static void bob_writes(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        create(b, "shared/bobs");
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Extend", "st", "shared",
                        UINT64_C(1)); /* law 14: the owner only */
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Page", "s", "shared");
        ck_assert(cancel(b, "shared", "bob may"));
}

START_TEST(modes)
{
        pid_t hidden;
        int pidfd;

        OK(bus, "Create", "sa{sv}", "public", 1, "mode", "u", 0744);
        OK(bus, "Create", "sa{sv}", "public/hidden", 1, "mode", "u", 0700);
        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0766);
        OK(bus, "Create", "sa{sv}", "blind", 1, "mode", "u", 0722);
        cancel(bus, "blind", "");
        OK(bus, "Release", "s", "blind");
        OK(bus, "Release", "s", "shared");
        hidden = sleeper(&pidfd);
        OK(bus, "Attach", "sha{sv}", "public/hidden", pidfd, 0);
        run_as(BOB, bob_reads_only, &hidden);
        end_process(hidden);
        close(pidfd);
        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0766);
        run_as(BOB, bob_writes, NULL);
        ck_assert_int_eq(code_of(bus, "shared"), ECANCELED);
}
END_TEST

static void in_the_group(void *userdata)
{
        _cleanup_bus_ sd_bus *b = NULL;

        ck_assert_int_eq(setgroups(1, (gid_t[]){5000}), 0);
        ck_assert_int_eq(setresgid(BOB, BOB, BOB), 0);
        ck_assert_int_eq(setresuid(BOB, BOB, BOB), 0);
        b = connect_bus();
        EXPECT_ACTIVE(b, "team");
        ck_assert(cancel(b, "team", "one of us"));
        /* A caller cannot give a context to a group that the caller is not in. */
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "~/x", 1, "group", "u", 5001);
        OK(b, "Create", "sa{sv}", "~/x", 1, "group", "u", 5000);
}

static void not_in_the_group(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        FAILS(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "team");
}

static void alices_group(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        uint32_t gid;

        OK(b, "Create", "sa{sv}", "~/ours", 1, "mode", "u", 0770);
        ck_assert_int_ge(sd_bus_get_property_trivial(b, CTXD_BUS_NAME, "/org/ctxd1/context/user_2d1001/ours",
                                         CTXD_CONTEXT_INTERFACE, "OwnerGID", NULL, 'u', &gid),
                        0);
        ck_assert_uint_eq(gid, ALICE);
}

static void not_alices_group(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        REFUSED(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "user-1001/ours");
        REFUSED(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Cancel", "ss", "user-1001/ours", "");
}

START_TEST(groups)
{
        run_as(ALICE, alices_group, NULL);
        run_as(BOB, not_alices_group, NULL);
        OK(bus, "Create", "sa{sv}", "team", 2, "mode", "u", 0760, "group", "u", 5000);
        run_as(BOB, not_in_the_group, NULL);
        wait_for(spawn(in_the_group, NULL));
        ck_assert_int_eq(code_of(bus, "team"), ECANCELED);
}
END_TEST

/* Bob's process works for a context that is hidden from him. It cannot leave that context, and is not told
 * its name. */
static void bob_cannot_leave(void *userdata)
{
        const int *pipes = userdata;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_ sd_bus *b = connect_bus();
        int self = open_pidfd(getpid());
        char byte;

        create(b, "~/own");
        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(read(pipes[2], &byte, 1), 1);
        ck_assert_int_lt(sd_bus_call_method(b, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Attach",
                                         &error, NULL, "sha{sv}", "~/own", self, 0),
                        0);
        ck_assert_str_eq(error.name, CTXD_ERROR_ACCESS_DENIED);
        ck_assert_ptr_null(strstr(error.message, "hidden"));
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "~/other", 1, "attach", "h", self);
        _cleanup_message_ sd_bus_message *m = CALL(b, "Current", NULL);
        const char *path;
        READ(m, "s", &path);
        ck_assert_str_eq(path, "/");
        close(self);
}

static void be_bob(void *userdata)
{
        ck_assert_int_eq(setresgid(BOB, BOB, BOB), 0);
        ck_assert_int_eq(setresuid(BOB, BOB, BOB), 0);
        bob_cannot_leave(userdata);
}

START_TEST(what_one_is_a_member_of_may_be_hidden)
{
        int pipes[4], pidfd;
        pid_t bob;
        char byte;

        ck_assert(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
        create(bus, "hidden-work");
        bob = spawn(be_bob, pipes);
        ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
        pidfd = open_pidfd(bob);
        OK(bus, "Attach", "sha{sv}", "hidden-work", pidfd, 0);
        ck_assert_int_eq(write(pipes[3], "", 1), 1);
        wait_for(bob);
        close(pidfd);
        for (int i = 0; i < 4; i++)
                close(pipes[i]);
}
END_TEST

static void attach_others(void *userdata)
{
        const int *pidfd = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();

        create(b, "~/job");
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Attach", "sha{sv}", "~/job", *pidfd, 1, "signal", "i", SIGKILL);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Attach", "sha{sv}", "~/job", *pidfd, 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "~/job2", 1, "attach", "h", *pidfd);
        cancel(b, "~/job", "");
}

START_TEST(a_process_of_another_cannot_be_attached)
{
        int pidfd;
        pid_t pid = sleeper(&pidfd); /* root's */

        run_as(ALICE, attach_others, &pidfd);
        ck_assert_int_eq(kill(pid, 0), 0);
        end_process(pid);
        close(pidfd);
}
END_TEST

/* Another user gets a page's descriptor and tries to open the file again. */
static void reopen(void *userdata)
{
        const int *fd = userdata;
        char path[64];

        snprintf(path, sizeof path, "/proc/self/fd/%d", *fd);
        ck_assert_int_lt(open(path, O_RDWR), 0);
        ck_assert_int_lt(open(path, O_WRONLY), 0);
        ck_assert_int_lt(truncate(path, 0), 0);
        ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0), MAP_FAILED);
        ck_assert_ptr_ne(mmap(NULL, 4096, PROT_READ, MAP_SHARED, *fd, 0), MAP_FAILED);
}

START_TEST(law36_the_page_is_for_reading)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        uint64_t offset, word;
        int fd;

        create(bus, "p");
        m = CALL(bus, "Page", "s", "p");
        READ(m, "htt", &fd, &offset, &word);
        run_as(ALICE, reopen, &fd);
}
END_TEST

Suite *suite_modes(void)
{
        Suite *s = suite_create("modes");

        ADD_TESTS(s, "modes", start_retaining, first_labels, modes, law46_who_may_read_does_not_join, groups,
                        what_one_is_a_member_of_may_be_hidden, a_process_of_another_cannot_be_attached,
                        law36_the_page_is_for_reading);
        return s;
}
