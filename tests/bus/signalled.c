/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Cancels that signal a crowd of members, in turns of who has called. */

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "daemon/bus/walk.h"
#include "inside.h"

#define CROWD 200

static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};

/* Each of them ends with its parent, which ends with the test. */
static pid_t start_crowd(int *ret_pidfd)
{
        int ready[2];
        pid_t pid;
        char byte;

        ck_assert_int_eq(pipe(ready), 0);
        pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) signal(SIGTERM, SIG_IGN);
                for (int i = 1; i < CROWD; i++)
                        if (fork() == 0) {
                                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                                break;
                        }
                (void) !write(ready[1], "r", 1);
                for (;;)
                        pause();
        }
        for (int i = 0; i < CROWD; i++)
                ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        close(ready[1]);
        *ret_pidfd = (int) syscall(SYS_pidfd_open, pid, 0);
        ck_assert_int_ge(*ret_pidfd, 0);
        return pid;
}

static void end_crowd(pid_t pid, int pidfd)
{
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(pidfd);
}

static int on_canceled(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        uint32_t contexts;
        int first;

        ck_assert(!sd_bus_message_is_method_error(m, NULL));
        ck_assert_int_gt(sd_bus_message_read(m, "buu", &first, &contexts, userdata), 0);
        ck_assert(first && contexts > 0);
        return 0;
}

static void send_cancel(struct client *c, const char *path, uint32_t *ret_members)
{
        ck_assert_int_ge(sd_bus_call_method_async(c->bus, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                         CTXD_MANAGER_INTERFACE, "Cancel", on_canceled, ret_members, "ss",
                                         path, ""),
                        0);
        n_heard();
}

static unsigned n_sent;

struct world;
int __real_world_signal(const struct world *w, int pidfd, int signal_number);
int __wrap_world_signal(const struct world *w, int pidfd, int signal_number);

int __wrap_world_signal(const struct world *w, int pidfd, int signal_number)
{
        n_sent++;
        return __real_world_signal(w, pidfd, signal_number);
}

#define SLICES 10000   /* contexts that end in many slices */
#define AT_ONCE_MAX 50 /* so many signals may be sent in one turn of the loop */

/* The end of a large tree comes in slices. It is answered for when all members have their signals. */
START_TEST(law_48_members_in_a_large_tree)
{
        struct client *c = client_new();
        struct context *in;
        struct refused refused = {};
        uint32_t members = 0;
        unsigned before;
        int pidfd;
        pid_t pid = start_crowd(&pidfd);

        if (_i == 1)
                make_many("large", SLICES);
        in = make("large/crowd");
        if (_i != 1)
                make_many(_i == 0 ? "large" : "large/crowd", SLICES);
        ck_assert_int_eq(engine_attach(service.engine, &caller_daemon, in, pidfd, &term, &refused), 0);
        run();
        send_cancel(c, "large", &members);
        for (n_sent = 0; members == 0; n_heard()) {
                before = n_sent;
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
                ck_assert_uint_le(n_sent - before, AT_ONCE_MAX);
        }
        ck_assert_uint_eq(members, CROWD);
        ck_assert_uint_eq(n_sent, CROWD);
        end_crowd(pid, pidfd);
}
END_TEST

/* Also where another party's large tree ends at the same time, below it. */
START_TEST(law_48_members_in_a_tree_of_several)
{
        const struct caller other = {
                        .uid = 65200, .gid = 65200, .privileges = PRIVILEGE_MANAGE | PRIVILEGE_DAEMON};
        struct create_options options = {.deadline_usec = CTXD_USEC_INFINITY, .mode = CONTEXT_MODE_INHERIT};
        struct client *c = client_new();
        struct context *in, *theirs, *x;
        struct refused refused = {};
        uint32_t members = 0, contexts;
        int pidfd;
        pid_t pid = start_crowd(&pidfd);
        char path[64];

        make("large");
        ck_assert_int_eq(tree_create(tree, now_boottime_usec(), &other, "large/theirs", &options, &theirs,
                                         &refused),
                        1);
        for (unsigned i = 0; i < 3000; i++) {
                snprintf(path, sizeof path, "large/theirs/%u", i);
                ck_assert_int_eq(tree_create(tree, now_boottime_usec(), &other, path, &options, &x, &refused),
                                1);
        }
        if (_i == 0)
                make_many("large", SLICES);
        else
                service_drain(&service, NULL); /* what the caller ends takes one slice */
        in = make("large/crowd");
        ck_assert_int_eq(engine_attach(service.engine, &caller_daemon, in, pidfd, &term, &refused), 0);
        run();
        ck_assert_int_ge(tree_cancel(tree, now_boottime_usec(), &other, theirs,
                                         cause_new(0, "", 65200, 1, "x"), &contexts, &refused),
                        0);
        send_cancel(c, "large", &members);
        for (n_sent = 0; members == 0; n_heard())
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
        ck_assert_uint_eq(members, CROWD);
        ck_assert_uint_eq(n_sent, CROWD);
        end_crowd(pid, pidfd);
}
END_TEST

/* It is answered when they all have their signals. */
START_TEST(law_43_the_daemon_ends_while_members_are_signalled)
{
        struct client *c = client_new();
        struct context *crowd = make("crowd");
        struct refused refused = {};
        uint32_t members = 0;
        int pidfd;
        pid_t pid = start_crowd(&pidfd);

        ck_assert_int_eq(engine_attach(service.engine, &caller_daemon, crowd, pidfd, &term, &refused), 0);
        run();
        send_cancel(c, "crowd", &members);
        while (!context_is_done(crowd))
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
        n_heard();
        ck_assert_uint_eq(members, 0); /* it has turns now */
        service_finish(&service);
        n_heard();
        ck_assert_uint_eq(members, CROWD);
        end_crowd(pid, pidfd);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("signalled");
        TCase *c = add_case(s, "signalled",
                        (const TTest *const[]){law_43_the_daemon_ends_while_members_are_signalled, NULL});

        tcase_add_loop_test(c, law_48_members_in_a_large_tree, 0, 3);
        tcase_add_loop_test(c, law_48_members_in_a_tree_of_several, 0, 2);
        tcase_add_checked_fixture(c, inside_setup, inside_teardown);
        return run_suite(s);
}
