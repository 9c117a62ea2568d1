/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Alice sends descriptors that take long to close, or for ever. Others are served meanwhile, and the daemon
 * ends when it is told to. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "foreign.h"
#include "harness.h"
#include "raw.h"
#include "tests/harness/fuse.h"

#define MANAGER CTXD_OBJECT, CTXD_MANAGER_INTERFACE
#define CROWD 8

void attach_message(struct raw *m)
{
        raw_begin_fds(m, 1, 1, MANAGER, "Attach", "sha{sv}");
        raw_text(m, "hers");
        raw_u32(m, 0); /* the first descriptor */
        raw_u32(m, 0); /* no options */
        raw_align(m, 8);
        raw_end(m);
}

/* Expects that this is no pidfd, and that the next call on this connection is answered. */
static void expect_answers(int bus_fd)
{
        char name[128];
        struct raw m;

        ck_assert_int_eq(raw_read(bus_fd, name), 3);
        ck_assert_str_eq(name, SD_BUS_ERROR_INVALID_ARGS);
        raw_begin(&m, 2, MANAGER, "Err", "s");
        raw_text(&m, "nobody");
        raw_end(&m);
        raw_write(bus_fd, m.bytes, m.n);
        ck_assert_int_eq(raw_read(bus_fd, name), 3);
        ck_assert_str_eq(name, CTXD_ERROR_NO_SUCH_CONTEXT);
}

void send_file_of_crowd(int fd, void *userdata)
{
        const unsigned *answers = userdata;
        int bus_fd[CROWD];
        struct raw m;

        attach_message(&m);
        for (unsigned i = 0; i < CROWD; i++) {
                bus_fd[i] = raw_connect();
                ck_assert_int_ge(bus_fd[i], 0);
                ck_assert(raw_send(bus_fd[i], m.bytes, m.n, &fd, 1));
                if (i < *answers)
                        expect_answers(bus_fd[i]);
        }
}

void attach_self(void *userdata)
{
        _cleanup_close_ int pidfd = open_pidfd(getpid());
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "~/his", 0);
        OK(b, "Attach", "sha{sv}", "~/his", pidfd, 0);
        ck_assert(cancel(b, "~/his", ""));
}

START_TEST(a_file_whose_close_hangs)
{
        struct hung_file h = {};
        unsigned answers = 2;

        OK(bus, "Create", "sa{sv}", "hers", 1, "mode", "u", 0777);
        if (!hung_file_start(&h, ALICE, send_file_of_crowd, &answers))
                return;
        ck_assert(hung_file_is_being_closed(&h));
        work(bus, 20);
        /* Descriptors of others are taken. */
        for (int i = 0; i < 5; i++)
                run_as(BOB, attach_self, NULL);
        hung_file_end(&h);
        work(bus, 20);
        run_as(BOB, attach_self, NULL);
}
END_TEST

void ends_in_spite_of(const char *config, struct hung_file h, int signal_number,
                void (*send)(int directory, void *userdata), void *userdata,
                bool (*hangs)(struct hung_file *h))
{
        struct daemon own = {.prepare = world.daemon.prepare}, shared = world.daemon;

        daemon_start(&own, config);
        world.daemon = own;
        if (hung_file_start(&h, ALICE, send, userdata)) {
                ck_assert(hangs(&h));
                kill(own.pid, signal_number);
                ck_assert_happens(waitpid(own.pid, NULL, WNOHANG) == own.pid);
                /* What it had open is closed, and there can be another one. */
                daemon_again(&own);
                run_as(BOB, attach_self, NULL);
                hung_file_end(&h);
                daemon_kill(&own);
        } else {
                daemon_kill(&own);
        }
        directory_remove(own.directory);
        world.daemon = shared;
}

static void ends_in_spite_of_it(int signal_number)
{
        unsigned answers = 0;

        ends_in_spite_of("[Daemon]\nProbe=off\n", (struct hung_file){}, signal_number, send_file_of_crowd,
                        &answers, hung_file_is_being_closed);
}

START_TEST(the_daemon_ends_in_spite_of_it)
{
        ends_in_spite_of_it(SIGTERM);
}
END_TEST

START_TEST(the_daemon_is_killed_in_spite_of_it)
{
        ends_in_spite_of_it(SIGKILL);
}
END_TEST

static void tell_path(int fd, void *userdata)
{
        snprintf(userdata, PATH_MAX, "/proc/%d/fd/%d", getpid(), fd);
}

static pid_t probe_of(pid_t daemon)
{
        pid_t pids[CHILDREN_MAX];
        unsigned n = children_of(daemon, pids);

        for (unsigned i = 0; i < n; i++)
                if (process_has_name(pids[i], "fake-probe"))
                        return pids[i];
        return 0;
}

/* Whether its table has grown by the file. */
static bool has_opened_file(pid_t probe)
{
        return probe > 0 && count_fds(probe) > 4;
}

/* A probe with the kernel's programs takes long to end, too. */
START_TEST(the_daemon_ends_in_spite_of_its_probe)
{
        char *path = mmap(NULL, PATH_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct daemon own = {.prepare = world.daemon.prepare, .probe = getenv("FAKE_PROBE")};
        struct hung_file h = {};

        if (!hung_file_start(&h, 0, tell_path, path))
                return;
        ck_assert_int_eq(setenv("PROBE_HOLDS", path, 1), 0);
        daemon_start(&own, "[Daemon]\nProbe=proc\n");
        ck_assert_happens(has_opened_file(probe_of(own.pid)));
        kill(own.pid, SIGTERM);
        ck_assert_happens(waitpid(own.pid, NULL, WNOHANG) == own.pid);
        ck_assert(hung_file_is_being_closed(&h));
        hung_file_end(&h);
        directory_remove(own.directory);
}
END_TEST

int lingering_listener(struct sockaddr_in *ret)
{
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        const int little = 4096;
        socklen_t length = sizeof *ret;

        *ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        ck_assert_int_eq(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &little, sizeof little), 0);
        ck_assert_int_eq(bind(listener, (struct sockaddr *) ret, sizeof *ret), 0);
        ck_assert_int_eq(listen(listener, 256), 0);
        ck_assert_int_eq(getsockname(listener, (struct sockaddr *) ret, &length), 0);
        return listener;
}

int lingering_socket(const struct sockaddr_in *address)
{
        const struct linger minutes = {.l_onoff = 1, .l_linger = 300};
        static char bytes[1 << 16];
        const int little = 4096;
        int s = socket(AF_INET, SOCK_STREAM, 0);

        ck_assert_int_eq(setsockopt(s, SOL_SOCKET, SO_SNDBUF, &little, sizeof little), 0);
        ck_assert_int_eq(connect(s, (const struct sockaddr *) address, sizeof *address), 0);
        while (send(s, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
                ;
        ck_assert_int_eq(setsockopt(s, SOL_SOCKET, SO_LINGER, &minutes, sizeof minutes), 0);
        return s;
}

static rlim_t lowest_free(void)
{
        char path[64];

        for (unsigned fd = 0;; fd++) {
                snprintf(path, sizeof path, "/proc/%d/fd/%u", world.daemon.pid, fd);
                if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                        return fd;
        }
}

struct rlimit fill_table(int crowd[FILLING])
{
        struct rlimit before, full;

        for (unsigned i = 0; i < FILLING; i++)
                ck_assert_int_ge(crowd[i] = connect_socket(), 0);
        (void) settled_fds();
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, NULL, &before), 0);
        full = (struct rlimit){lowest_free(), before.rlim_max};
        ck_assert_uint_gt(full.rlim_cur, FILLING);
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &full, NULL), 0);
        return before;
}

/* Also where nobody has received it: it waits behind bytes for which the daemon ends the connection. */
START_TEST(a_socket_that_lingers_in_a_connection_that_ends)
{
        struct sockaddr_in address;
        int listener = lingering_listener(&address);
        struct raw m;

        attach_message(&m);
        for (int i = 0; i < 10; i++) {
                int s = lingering_socket(&address), fd = raw_connect();

                /* The daemon is stopped, so that both are there when it looks. */
                ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
                raw_write(fd, "this is no message", 18);
                ck_assert(raw_send(fd, m.bytes, m.n, &s, 1));
                close(s);
                ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
                errno = 0;
                ck_assert_msg(raw_is_closed(fd), "%d %s", i, strerror(errno));
                close(fd);
                work(bus, 5);
        }
        close(listener);
}
END_TEST

/* Who looks has no room for all of them, so that it cannot know what the last one is. */
START_TEST(more_descriptors_than_who_looks_can_hold)
{
        const struct rlimit few = {12, 12};
        pid_t hands[CHILDREN_MAX];
        unsigned n = children_of(closer_of_daemon(), hands);
        int listener, sent[16], fd;
        struct sockaddr_in address;
        struct raw m;

        ck_assert_uint_ge(n, 2);
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(prlimit(hands[i], RLIMIT_NOFILE, &few, NULL), 0);
        listener = lingering_listener(&address);
        for (unsigned i = 0; i < ELEMENTSOF(sent) - 1; i++)
                ck_assert_int_ge(sent[i] = open_pidfd(getpid()), 0);
        sent[ELEMENTSOF(sent) - 1] = lingering_socket(&address);
        raw_begin_fds(&m, 1, ELEMENTSOF(sent), MANAGER, "Err", "s");
        raw_text(&m, "nobody");
        raw_end(&m);
        fd = raw_connect();
        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        ck_assert(raw_send(fd, m.bytes, m.n, sent, ELEMENTSOF(sent)));
        for (unsigned i = 0; i < ELEMENTSOF(sent); i++)
                close(sent[i]);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        ck_assert(raw_is_closed(fd));
        close(fd);
        work(bus, 5);
        for (unsigned i = 0; i < n; i++)
                kill(hands[i], SIGKILL);
        run_as(BOB, attach_self, NULL);
        close(listener);
}
END_TEST

#define STORM 60

static void wait_to_be_killed(void *userdata)
{
        for (;;)
                pause();
}

/* Each is a member then: its pidfd has been replaced by one of the same process. */
static void attach_storm(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "~/storm", 0);
        for (int i = 0; i < STORM; i++) {
                pid_t pid = spawn(wait_to_be_killed, NULL);
                int pidfd = open_pidfd(pid);

                OK(b, "Attach", "sha{sv}", "~/storm", pidfd, 0);
                close(pidfd);
                OK(b, "Process", "su", "~/storm", (uint32_t) pid);
                end_process(pid);
        }
        ck_assert(cancel(b, "~/storm", ""));
}

START_TEST(very_many_pidfds_of_several)
{
        static const uid_t uids[] = {ALICE, BOB, CAROL};
        pid_t pids[ELEMENTSOF(uids)];

        for (size_t i = 0; i < ELEMENTSOF(uids); i++)
                pids[i] = spawn_as(uids[i], attach_storm, NULL);
        for (size_t i = 0; i < ELEMENTSOF(uids); i++)
                wait_for(pids[i]);
        work(bus, 5);
}
END_TEST

START_TEST(a_pidfd_of_a_process_that_has_gone)
{
        pid_t pid;
        int pidfd;

        pid = sleeper(&pidfd);
        end_process(pid);
        create(bus, "c");
        FAILS(bus, CTXD_ERROR_NO_SUCH_PROCESS, "Attach", "sha{sv}", "c", pidfd, 0);
        close(pidfd);
}
END_TEST

Suite *suite_foreign(void)
{
        Suite *s = suite_create("foreign");

        ADD_TESTS(s, "pidfds", start_plain, very_many_pidfds_of_several, a_pidfd_of_a_process_that_has_gone);
        if (world.transport != TRANSPORT_DIRECT) {
                add_closers_of_bus(s);
                add_long_replies(s);
                return s;
        }
        ADD_TESTS(s, "foreign", start_plain, a_file_whose_close_hangs, the_daemon_ends_in_spite_of_it,
                        the_daemon_is_killed_in_spite_of_it, the_daemon_ends_in_spite_of_its_probe,
                        a_socket_that_lingers_in_a_connection_that_ends);
        ADD_TESTS(s, "little-room", start_plain, more_descriptors_than_who_looks_can_hold);
        add_refused(s);
        add_wakes(s);
        add_given(s);
        add_closers(s);
        add_last_close(s);
        add_locked(s);
        add_held_proc(s);
        return s;
}
