/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Alice sends descriptors that take long to close, or for ever. Others are served meanwhile, and the daemon
 * ends when it is told to. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
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

static void attach_message(struct raw *m)
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

/* Not even the end of the daemon waits for files of Alice that hang. hangs: waits until they do. */
static void ends_in_spite_of(const char *config, struct hung_file h, int signal_number,
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
                /* What it had open is closed. */
                ck_assert_int_lt(connect_socket(), 0);
                hung_file_end(&h);
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

static int lingering_listener(struct sockaddr_in *ret)
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

/* A socket that takes minutes to close. */
static int lingering_socket(const struct sockaddr_in *address)
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

#define MAY_CONNECT 8
#define QUEUED 20
#define ROUNDS 30

static void start_few_connections(void)
{
        world_start("MaxConnectionsPerUser=8\nRetainSec=1s\n", NULL);
}

/* And where the connection is refused, for its uid has as many as it may have. */
START_TEST(a_socket_that_lingers_in_a_connection_too_many)
{
        struct sockaddr_in address;
        int listener = lingering_listener(&address), held[MAY_CONNECT - 1];

        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                ck_assert_int_ge(held[i] = raw_connect(), 0);
        for (int i = 0; i < 3; i++) {
                int s = lingering_socket(&address), fd;

                ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
                ck_assert_int_ge(fd = connect_socket(), 0);
                ck_assert(raw_send(fd, "", 1, &s, 1));
                close(s);
                ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
                ck_assert(raw_is_closed(fd));
                close(fd);
                work(bus, 5);
        }
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                close(held[i]);
        close(listener);
}
END_TEST

/* Connects so often, and sends a socket that lingers each time. */
static void connect_and_send(const struct sockaddr_in *address, unsigned n, int *ret_fds)
{
        int s[QUEUED];

        for (unsigned i = 0; i < n; i++) {
                s[i] = lingering_socket(address);
                ck_assert_int_ge(ret_fds[i] = connect_socket(), 0);
                ck_assert(raw_send(ret_fds[i], "", 1, &s[i], 1));
        }
        for (unsigned i = 0; i < n; i++)
                close(s[i]);
}

/* The daemon is stopped until all is there. */
static void send_to_refused(const struct sockaddr_in *address, unsigned n, int *ret_fds)
{
        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        connect_and_send(address, n, ret_fds);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
}

static void expect_refused(const int *fds, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                ck_assert(raw_is_closed(fds[i]));
                close(fds[i]);
        }
}

/* Nobody is charged for these, so none of them may stay in the daemon. */
START_TEST(many_that_linger_in_connections_too_many)
{
        int listener, held[MAY_CONNECT - 1], fds[QUEUED];
        struct sockaddr_in address;
        unsigned before;

        listener = lingering_listener(&address);
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                ck_assert_int_ge(held[i] = raw_connect(), 0);
        work(bus, 1);
        before = count_fds(world.daemon.pid);
        for (unsigned i = 0; i < 5; i++) {
                send_to_refused(&address, QUEUED, fds);
                expect_refused(fds, QUEUED);
                work(bus, 1);
                ck_assert_uint_le(count_fds(world.daemon.pid), before + QUEUED);
        }
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                close(held[i]);
        run_as(BOB, attach_self, NULL);
        close(listener);
}
END_TEST

static void signal_closers(pid_t closer, const pid_t *others, unsigned n, int signal_number)
{
        ck_assert_int_eq(kill(closer, signal_number), 0);
        for (unsigned i = 0; i < n; i++)
                (void) kill(others[i], signal_number);
}

/* As if all hung who may take them: then no connection is accepted, but those that were are served. */
START_TEST(nobody_takes_those_that_were_refused)
{
        pid_t closer = closer_of_daemon(), others[CHILDREN_MAX];
        unsigned n_others = children_of(closer, others), before, n = 0;
        int listener, held[MAY_CONNECT - 1], fds[ROUNDS][QUEUED];
        struct sockaddr_in address;
        struct pollfd last;

        listener = lingering_listener(&address);
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                ck_assert_int_ge(held[i] = raw_connect(), 0);
        work(bus, 1);
        before = count_fds(world.daemon.pid);
        signal_closers(closer, others, n_others, SIGSTOP);
        do {
                ck_assert_uint_lt(n, ROUNDS);
                send_to_refused(&address, QUEUED, fds[n]);
                last = (struct pollfd){.fd = fds[n++][QUEUED - 1], .events = POLLIN};
        } while (poll(&last, 1, 2000) > 0);
        work(bus, 10);
        ck_assert_uint_le(count_fds(world.daemon.pid), before + QUEUED);
        signal_closers(closer, others, n_others, SIGCONT);
        for (unsigned i = 0; i < n; i++)
                expect_refused(fds[i], QUEUED);
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                close(held[i]);
        run_as(BOB, attach_self, NULL);
        close(listener);
}
END_TEST

#define TABLE 100
#define FILES 4000 /* more than can be kept */

static void start_small_table(void)
{
        world.table = TABLE;
        start_few_connections();
}

static void on_alarm(int signal_number) {}

/* Until no connection is accepted any more. */
static void send_files_to_refused(int directory, void *userdata)
{
        const struct sigaction wakes = {.sa_handler = on_alarm};
        const struct rlimit many = {4096, 4096};
        unsigned *n_sent = userdata;

        *n_sent = 0;
        (void) setrlimit(RLIMIT_NOFILE, &many);
        ck_assert_int_eq(sigaction(SIGALRM, &wakes, NULL), 0);
        for (unsigned i = 0; i < MAY_CONNECT; i++)
                ck_assert_int_ge(raw_connect(), 0);
        for (unsigned i = 0; i < FILES; i++) {
                int sent, kept, fd;
                char name[16];

                snprintf(name, sizeof name, "%u", i);
                ck_assert_int_ge(sent = openat(directory, name, O_RDONLY), 0);
                ck_assert_int_ge(kept = openat(directory, name, O_RDWR), 0);
                alarm(3);
                fd = connect_socket();
                alarm(0);
                if (fd < 0)
                        return;
                *n_sent += raw_send(fd, "", 1, &sent, 1);
                close(fd);
                close(sent);
                ck_assert_int_eq(write(kept, "", 1), 1);
        }
        ck_abort_msg("all were taken");
}

/* All of those hang in their end who have taken what was refused. */
START_TEST(files_whose_close_hangs_in_connections_too_many)
{
        struct hung_file h = {.hangs_in_last_close = true};
        pid_t closer = closer_of_daemon(), pids[CHILDREN_MAX];
        unsigned before = count_fds(world.daemon.pid);
        unsigned *n_sent =
                        mmap(NULL, sizeof *n_sent, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        int fd;

        if (!hung_file_start(&h, ALICE, send_files_to_refused, n_sent))
                return;
        work(bus, 10);
        ck_assert_uint_ge(*n_sent, 16 * (TABLE - 16));
        ck_assert_uint_le(count_fds(world.daemon.pid), before + MAY_CONNECT + QUEUED);
        hung_file_end(&h);
        /* This waits in connect(), as sd-bus does not. */
        ck_assert_int_ge(fd = raw_connect(), 0);
        close(fd);
        run_as(BOB, attach_self, NULL);
        ck_assert_happens(children_of(closer, pids) <= 4);
}
END_TEST

/* Has one socket refused that cannot be closed. */
static void send_file_to_refused(int directory, void *userdata)
{
        int sent, kept, fd;

        for (unsigned i = 0; i < MAY_CONNECT; i++)
                ck_assert_int_ge(raw_connect(), 0);
        ck_assert_int_ge(sent = openat(directory, "1", O_RDONLY), 0);
        ck_assert_int_ge(kept = openat(directory, "1", O_RDWR), 0);
        /* The daemon may close one before this has sent anything. */
        for (bool is_sent = false; !is_sent; close(fd)) {
                ck_assert_int_ge(fd = connect_socket(), 0);
                is_sent = raw_send(fd, "", 1, &sent, 1);
        }
        close(sent);
        ck_assert_int_eq(write(kept, "", 1), 1);
}

/* The processes are killed before one of them has taken what hangs. */
START_TEST(closers_are_killed_before_they_take_a_file_whose_close_hangs)
{
        struct hung_file h = {.hangs_in_last_close = true};
        pid_t closer = closer_of_daemon(), hands[CHILDREN_MAX];
        unsigned n = children_of(closer, hands);
        int fd;

        nap(1100000);
        ck_assert_int_eq(kill(closer, SIGSTOP), 0);
        if (!hung_file_start(&h, ALICE, send_file_to_refused, NULL))
                return;
        work(bus, 10);
        ck_assert_int_eq(kill(closer, SIGKILL), 0);
        nap(200000);
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(kill(hands[i], SIGKILL), 0);
        nap(200000);
        ck_assert_int_ge(fd = raw_connect(), 0);
        close(fd);
        work(bus, 10);
        run_as(BOB, attach_self, NULL);
        /* Then the one that was killed has ended, too. */
        hung_file_end(&h);
        ck_assert_happens(closer_of_daemon() != closer);
}
END_TEST

/* More than those who close for her can have. */
static void send_files_to_each(int directory, void *userdata)
{
        struct raw m;

        attach_message(&m);
        for (unsigned i = 0; i < MAY_CONNECT; i++) {
                int fd = raw_connect(), sent, kept;
                char name[16];

                snprintf(name, sizeof name, "%u", i);
                ck_assert_int_ge(sent = openat(directory, name, O_RDONLY), 0);
                ck_assert_int_ge(kept = openat(directory, name, O_RDWR), 0);
                ck_assert(raw_send(fd, m.bytes, m.n, &sent, 1));
                close(sent);
                ck_assert_int_eq(write(kept, "", 1), 1);
        }
}

/* Nothing shows when. */
static bool hangs_soon(struct hung_file *h)
{
        nap(500000);
        return true;
}

static void ends_while_files_hang(void (*send)(int directory, void *userdata))
{
        unsigned *n_sent =
                        mmap(NULL, sizeof *n_sent, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        ends_in_spite_of("[Daemon]\nProbe=off\nMaxConnectionsPerUser=8\nRetainSec=1s\n",
                        (struct hung_file){.hangs_in_last_close = true}, SIGTERM, send, n_sent, hangs_soon);
}

/* Nobody takes more, and the queue of those who connect is full. */
START_TEST(the_daemon_ends_where_nobody_takes_those_that_were_refused)
{
        ends_while_files_hang(send_files_to_refused);
}
END_TEST

START_TEST(the_daemon_ends_where_sockets_wait_to_be_closed)
{
        ends_while_files_hang(send_files_to_each);
}
END_TEST

/* And where the daemon's table has no room for the connection. */
START_TEST(a_socket_that_lingers_where_the_table_is_full)
{
        int listener, held[2 * ROUNDS], fd;
        struct sockaddr_in address;
        struct rlimit before, few;
        _cleanup_free_ char *log = NULL;

        listener = lingering_listener(&address);
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, NULL, &before), 0);
        few = (struct rlimit){world.fds + ROUNDS, before.rlim_max};
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &few, NULL), 0);
        /* The reserve is for root. */
        ck_assert_int_eq(seteuid(ALICE), 0);
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                ck_assert_int_ge(held[i] = connect_socket(), 0);
        ck_assert(raw_is_closed(held[ELEMENTSOF(held) - 1]));
        for (unsigned i = 0; i < 3; i++) {
                ck_assert_int_eq(seteuid(0), 0);
                ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
                ck_assert_int_eq(seteuid(ALICE), 0);
                connect_and_send(&address, 1, &fd);
                ck_assert_int_eq(seteuid(0), 0);
                ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
                expect_refused(&fd, 1);
                FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "nobody");
        }
        log = daemon_log();
        ck_assert_ptr_nonnull(strstr(log, "No descriptor is left"));
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                close(held[i]);
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &before, NULL), 0);
        close(listener);
}
END_TEST

/* The daemon cannot even copy a descriptor when it ends this connection. */
START_TEST(a_socket_that_lingers_where_no_descriptor_is_left)
{
        int listener, s, pair[2], fd = raw_connect();
        struct rlimit before, none;
        struct sockaddr_in address;
        struct raw m;

        listener = lingering_listener(&address);
        s = lingering_socket(&address);
        /* Who looks cannot reach it there. */
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        ck_assert(raw_send(pair[0], "", 1, &s, 1));
        close(s);
        attach_message(&m);
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, NULL, &before), 0);
        none = (struct rlimit){4, before.rlim_max};
        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &none, NULL), 0);
        raw_write(fd, "this is no message", 18);
        ck_assert(raw_send(fd, m.bytes, m.n, &pair[1], 1));
        close(pair[0]);
        close(pair[1]);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        ck_assert(raw_is_closed(fd));
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "nobody");
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &before, NULL), 0);
        close(fd);
        close(listener);
}
END_TEST

/* Alice has epoll sets wait for her done handles, so that a cancel has to wake them all. */
#define SETS 400
#define COPIES 400
#define EXPENSIVE 5

struct watcher {
        int ready[2], go[2];
};

static void watch(void *userdata)
{
        static int sets[SETS];
        const struct watcher *w = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        int handles[EXPENSIVE];
        struct epoll_event event = {.events = EPOLLIN};
        char path[32], byte;

        for (unsigned i = 0; i < SETS; i++)
                ck_assert_int_ge(sets[i] = epoll_create1(EPOLL_CLOEXEC), 0);
        for (unsigned k = 0; k < EXPENSIVE; k++) {
                int copies[COPIES];

                snprintf(path, sizeof path, "shared/%u", k);
                handles[k] = done_handle(b, path);
                for (unsigned i = 0; i < COPIES; i++) {
                        ck_assert_int_ge(copies[i] = fcntl(handles[k], F_DUPFD_CLOEXEC, 3), 0);
                        for (unsigned n = 0; n < SETS; n++)
                                ck_assert_int_eq(epoll_ctl(sets[n], EPOLL_CTL_ADD, copies[i], &event), 0);
                }
        }
        ck_assert_int_eq(write(w->ready[1], "", 1), 1);
        for (unsigned k = 0; k < EXPENSIVE; k++)
                ck_assert(becomes_readable(handles[k]));
        ck_assert_int_eq(write(w->ready[1], "", 1), 1);
        ck_assert_int_eq(read(w->go[0], &byte, 1), 1);
        /* The descriptors are closed with the process. */
        _exit(0);
}

static void be_watcher(void *userdata)
{
        const struct rlimit many = {4096, 4096};

        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &many), 0);
        run_as(ALICE, watch, userdata);
}

/* How long the daemon has been on a processor. */
static uint64_t daemon_nsec(void)
{
        unsigned long long nsec;
        char path[64];
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/schedstat", world.daemon.pid);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        ck_assert_int_eq(fscanf(f, "%llu", &nsec), 1);
        fclose(f);
        return nsec;
}

START_TEST(a_handle_for_which_many_wait)
{
        uint64_t spent[EXPENSIVE];
        struct watcher w;
        char path[32], byte;
        pid_t pid;

        if (access("/proc/self/schedstat", R_OK) < 0)
                return;
        ck_assert_int_eq(pipe(w.ready), 0);
        ck_assert_int_eq(pipe(w.go), 0);
        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0744);
        for (unsigned i = 0; i < EXPENSIVE; i++) {
                snprintf(path, sizeof path, "shared/%u", i);
                create(bus, path);
        }
        pid = spawn(be_watcher, &w);
        ck_assert_int_eq(read(w.ready[0], &byte, 1), 1);
        for (unsigned i = 0; i < EXPENSIVE; i++) {
                uint64_t before = daemon_nsec();

                snprintf(path, sizeof path, "shared/%u", i);
                ck_assert(cancel(bus, path, ""));
                work(bus, 1);
                spent[i] = daemon_nsec() - before;
        }
        /* All handles are written, but the daemon has woken the first ones alone. */
        ck_assert_int_eq(read(w.ready[0], &byte, 1), 1);
        ck_assert_msg(spent[3] < spent[0] / 4 && spent[4] < spent[0] / 4,
                        "%" PRIu64 " us, then %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64,
                        spent[0] / 1000, spent[1] / 1000, spent[2] / 1000, spent[3] / 1000, spent[4] / 1000);
        ck_assert_int_eq(write(w.go[1], "", 1), 1);
        wait_for(pid);
        work(bus, 20);
        for (int i = 0; i < 2; i++) {
                close(w.ready[i]);
                close(w.go[i]);
        }
}
END_TEST

Suite *suite_foreign(void)
{
        Suite *s = suite_create("foreign");

        if (world.transport != TRANSPORT_DIRECT) {
                add_closers_of_bus(s);
                return s;
        }
        ADD_TESTS(s, "foreign", start_plain, a_file_whose_close_hangs, the_daemon_ends_in_spite_of_it,
                        the_daemon_is_killed_in_spite_of_it, a_socket_that_lingers_in_a_connection_that_ends);
        ADD_TESTS(s, "little-room", start_plain, more_descriptors_than_who_looks_can_hold);
        ADD_TESTS(s, "refused", start_few_connections, a_socket_that_lingers_in_a_connection_too_many,
                        many_that_linger_in_connections_too_many, nobody_takes_those_that_were_refused);
        ADD_TESTS(s, "refused-files", start_small_table, files_whose_close_hangs_in_connections_too_many);
        ADD_TESTS(s, "refused-killed", start_small_table,
                        closers_are_killed_before_they_take_a_file_whose_close_hangs);
        ADD_TESTS(s, "refused-end", start_small_table,
                        the_daemon_ends_where_nobody_takes_those_that_were_refused);
        ADD_TESTS(s, "waiting-end", start_small_table, the_daemon_ends_where_sockets_wait_to_be_closed);
        ADD_TESTS(s, "full-table", start_plain, a_socket_that_lingers_where_the_table_is_full,
                        a_socket_that_lingers_where_no_descriptor_is_left);
        ADD_TESTS(s, "wakes", start_retaining, a_handle_for_which_many_wait);
        add_closers(s);
        return s;
}
