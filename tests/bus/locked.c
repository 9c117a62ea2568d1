/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sockets, epoll sets and lifelines that their owner keeps locked. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"
#include "held-set.h"
#include "raw.h"

/* A socket whose owner sleeps in send(): it has the kernel's lock of the socket, and waits for a page. */
struct locked {
        int socket;
        struct missing missing;
        pthread_t thread;
};

static void *send_page(void *userdata)
{
        const struct locked *l = userdata;

        (void) !send(l->socket, l->missing.page, 1, MSG_NOSIGNAL);
        return NULL;
}

static bool locked_start(struct locked *l)
{
        struct sockaddr_in address;
        int listener;

        if (!missing_start(&l->missing))
                return false;
        listener = lingering_listener(&address);
        l->socket = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(connect(l->socket, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(pthread_create(&l->thread, NULL, send_page, l), 0);
        missing_is_touched(&l->missing);
        close(listener);
        return true;
}

static void locked_end(struct locked *l)
{
        missing_end(&l->missing);
        ck_assert_int_eq(pthread_join(l->thread, NULL), 0);
        close(l->socket);
}

/* This thread alone: the other one cannot be told. */
static void act_as(uid_t uid)
{
        ck_assert_int_eq(syscall(SYS_setresuid, uid, uid, 0), 0);
}

/* Each of two users sends one. Those who look for all do not wait for them. */
START_TEST(a_socket_whose_lock_is_held)
{
        static const uid_t uids[] = {ALICE, CAROL};
        int fds[ELEMENTSOF(uids)];
        struct locked l = {};
        struct raw m;

        if (!locked_start(&l))
                return;
        attach_message(&m);
        OK(bus, "Create", "sa{sv}", "hers", 1, "mode", "u", 0777);
        for (unsigned i = 0; i < ELEMENTSOF(uids); i++) {
                act_as(uids[i]);
                ck_assert_int_ge(fds[i] = raw_connect(), 0);
                ck_assert(raw_send(fds[i], m.bytes, m.n, &l.socket, 1));
                act_as(0);
        }
        work(bus, 5);
        for (int i = 0; i < 5; i++)
                run_as(BOB, attach_self, NULL);
        for (unsigned i = 0; i < ELEMENTSOF(uids); i++) {
                expect_no_pidfd(fds[i]);
                close(fds[i]);
        }
        locked_end(&l);
}
END_TEST

/* -- An epoll set whose owner sleeps in epoll_wait(). */

static void others_are_served(void)
{
        work(bus, 5);
        for (int i = 0; i < 5; i++)
                run_as(BOB, attach_self, NULL);
}

static int process_of(sd_bus *b, const char *path, pid_t pid)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Process", "su", path, (uint32_t) pid);
        int fd;

        READ(m, "h", &fd);
        ck_assert_int_ge(fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), 0);
        return fd;
}

/* Also a pidfd: the sender closes its own first. */
START_TEST(a_pidfd_in_a_set_that_is_held)
{
        struct held_set h = {};
        char name[128];
        pid_t member;
        int pidfd, fd;
        struct raw m;

        if (!held_start(&h))
                return;
        member = sleeper(&pidfd);
        OK(bus, "Create", "sa{sv}", "hers", 0);
        held_add(&h, pidfd);
        held_lock(&h);
        attach_message(&m);
        fd = raw_connect();
        stop_daemon();
        ck_assert(raw_send(fd, m.bytes, m.n, &pidfd, 1));
        close(pidfd);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        ck_assert_int_eq(raw_read(fd, name), 2);
        others_are_served();
        close(process_of(bus, "hers", member));
        end_process(member);
        others_are_served();
        held_end(&h);
        close(fd);
}
END_TEST

/* In any message, also one that wants none. */
START_TEST(a_pidfd_that_nobody_wants_in_a_set_that_is_held)
{
        struct held_set h = {};
        int pidfd = open_pidfd(getpid()), fd;
        char name[128];
        struct raw m;

        if (!held_start(&h))
                return;
        held_add(&h, pidfd);
        held_lock(&h);
        raw_begin_fds(&m, 1, 1, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Err", "s");
        raw_text(&m, "nobody");
        raw_end(&m);
        fd = raw_connect();
        stop_daemon();
        ck_assert(raw_send(fd, m.bytes, m.n, &pidfd, 1));
        close(pidfd);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        ck_assert_int_eq(raw_read(fd, name), 3);
        others_are_served();
        held_end(&h);
        close(fd);
}
END_TEST

static void while_a_handle_is_held(void (*then)(void))
{
        struct held_set h = {};
        int handle;

        if (!held_start(&h))
                return;
        create(bus, "c");
        handle = done_handle(bus, "c");
        held_add(&h, handle);
        held_lock(&h);
        close(handle);
        then();
        others_are_served();
        held_end(&h);
}

static void cancel_it(void)
{
        ck_assert(cancel(bus, "c", ""));
}

static void give_it_up(void)
{
        OK(bus, "Undone", "s", "c");
}

START_TEST(a_handle_in_a_set_that_is_held)
{
        while_a_handle_is_held(cancel_it);
}
END_TEST

START_TEST(a_handle_that_is_given_up_in_a_set_that_is_held)
{
        while_a_handle_is_held(give_it_up);
}
END_TEST

/* Another process takes something. */
struct taker {
        const struct held_set *held;
        int said[2], go[2];
        pid_t member;
};

static void taker_init(struct taker *k, const struct held_set *h)
{
        k->held = h;
        ck_assert_int_eq(pipe(k->said), 0);
        ck_assert_int_eq(pipe(k->go), 0);
}

static void taker_end(struct taker *k)
{
        for (int i = 0; i < 2; i++) {
                close(k->said[i]);
                close(k->go[i]);
        }
}

/* Says that the set has it, and keeps it. */
static void taker_keep(const struct taker *k)
{
        char byte;

        ck_assert_int_eq(write(k->said[1], "", 1), 1);
        ck_assert_int_eq(read(k->go[0], &byte, 1), 1);
}

static void take_kick(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        _cleanup_message_ sd_bus_message *m = NULL;
        const struct taker *k = userdata;
        int page, kick;

        m = CALL(b, "Threads", "s", "c");
        READ(m, "hh", &page, &kick);
        held_add(k->held, kick);
        taker_keep(k);
}

/* By which threads say that they have changed. */
START_TEST(the_eventfd_of_threads_in_a_set_that_is_held)
{
        struct held_set h = {};
        struct taker k = {};
        pid_t pid;
        char byte;

        if (!held_start(&h))
                return;
        create(bus, "c");
        taker_init(&k, &h);
        pid = spawn(take_kick, &k);
        ck_assert_int_eq(read(k.said[0], &byte, 1), 1);
        held_lock(&h);
        ck_assert_int_eq(write(k.go[1], "", 1), 1);
        wait_for(pid);
        others_are_served();
        held_end(&h);
        taker_end(&k);
}
END_TEST

static void take_pidfd(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        const struct taker *k = userdata;

        held_add(k->held, process_of(b, "c", k->member));
        taker_keep(k);
}

/* The daemon keeps a pidfd of each member, too. Who was given one closes it by his end, which hangs if it was
 * the last. */
START_TEST(the_pidfd_of_a_member_in_a_set_that_is_held)
{
        struct held_set h = {};
        struct taker k = {};
        int pidfd;
        pid_t pid;
        char byte;

        if (!held_start(&h))
                return;
        k.member = sleeper(&pidfd);
        create(bus, "c");
        OK(bus, "Attach", "sha{sv}", "c", pidfd, 0);
        close(pidfd);
        taker_init(&k, &h);
        pid = spawn(take_pidfd, &k);
        ck_assert_int_eq(read(k.said[0], &byte, 1), 1);
        held_lock(&h);
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        ck_assert_happens(strchr("ZD", task_state(pid, pid)));
        end_process(k.member);
        others_are_served();
        held_end(&h);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        taker_end(&k);
}
END_TEST

/* -- A lifeline whose holder would keep it locked: who copies into a pipe, or from it, has the kernel's lock
 * of it. */

struct user_of_lifeline {
        int lifeline;
        bool is_over;
        struct missing missing;
        pthread_t thread;
};

static void *use_lifeline(void *userdata)
{
        struct user_of_lifeline *u = userdata;
        struct iovec iov = {u->missing.page, 4096};

        (void) !read(u->lifeline, u->missing.page, 4096);
        (void) vmsplice(u->lifeline, &iov, 1, SPLICE_F_NONBLOCK);
        (void) !write(u->lifeline, u->missing.page, 4096);
        __atomic_store_n(&u->is_over, true, __ATOMIC_RELEASE);
        return NULL;
}

static void while_a_lifeline_is_used(void (*then)(void))
{
        struct user_of_lifeline u = {};

        if (!missing_start(&u.missing))
                return;
        create(bus, "c");
        u.lifeline = lifeline_of(bus, "c");
        ck_assert_int_eq(pthread_create(&u.thread, NULL, use_lifeline, &u), 0);
        ck_assert_happens(is_readable(u.missing.faults) || __atomic_load_n(&u.is_over, __ATOMIC_ACQUIRE));
        then();
        others_are_served();
        missing_end(&u.missing);
        ck_assert_int_eq(pthread_join(u.thread, NULL), 0);
        close(u.lifeline);
}

START_TEST(a_context_ends_while_its_lifeline_is_used)
{
        while_a_lifeline_is_used(cancel_it);
}
END_TEST

/* The first one is still held. */
static void take_another(void)
{
        close(lifeline_of(bus, "c"));
        EXPECT_ACTIVE(bus, "c");
}

START_TEST(another_lifeline_while_one_is_used)
{
        while_a_lifeline_is_used(take_another);
}
END_TEST

static void write_as_another(void *userdata)
{
        const int *lifeline = userdata;
        char path[64];

        ck_assert_int_lt(write(*lifeline, "", 1), 0);
        ck_assert_int_eq(errno, EBADF);
        ck_assert_int_lt(send(*lifeline, "", 1, MSG_NOSIGNAL), 0);
        ck_assert_int_eq(errno, ENOTSOCK);
        snprintf(path, sizeof path, "/proc/self/fd/%d", *lifeline);
        ck_assert_int_lt(open(path, O_WRONLY | O_CLOEXEC), 0);
        ck_assert_int_eq(errno, EACCES);
        ck_assert_int_lt(open(path, O_RDWR | O_CLOEXEC), 0);
        ck_assert_int_eq(errno, EACCES);
}

/* Neither bytes nor descriptors, which would wait at the daemon. */
START_TEST(nothing_can_be_sent_into_a_lifeline)
{
        int lifeline, done;

        create(bus, "c");
        lifeline = lifeline_of(bus, "c");
        done = done_handle(bus, "c");
        run_as(ALICE, write_as_another, &lifeline);
        EXPECT_ACTIVE(bus, "c");
        close(lifeline);
        ck_assert(becomes_readable(done));
        close(done);
}
END_TEST

/* -- Whatever ends the daemon has its descriptors, too. */

#define HANDS_OF_USER 4

static unsigned n_hanging(pid_t parent)
{
        pid_t pids[CHILDREN_MAX];
        unsigned n = children_of(parent, pids), found = 0;

        for (unsigned i = 0; i < n; i++)
                found += task_state(pids[i], pids[i]) == 'D';
        return found;
}

/* It has limits of its own. */
static void fill_table_of_heir(void)
{
        const struct rlimit none = {STDERR_FILENO + 1, STDERR_FILENO + 1};
        pid_t heir = child_with_name(world.daemon.pid, "ctxd-heir");

        ck_assert_int_gt(heir, 0);
        ck_assert_int_eq(prlimit(heir, RLIMIT_NOFILE, &none, NULL), 0);
}

/* So many processes hang that close for this user: what is closed from now on waits in the daemon. */
static void hang_all_hands(sd_bus *b, struct held_set *h)
{
        int handles[HANDS_OF_USER];
        char path[16];

        for (int i = 0; i < HANDS_OF_USER; i++) {
                snprintf(path, sizeof path, "h%d", i);
                create(b, path);
                held_add(h, handles[i] = done_handle(b, path));
        }
        held_lock(h);
        for (unsigned i = 0; i < HANDS_OF_USER; i++) {
                snprintf(path, sizeof path, "h%u", i);
                close(handles[i]);
                OK(b, "Undone", "s", path);
                ck_assert_happens(n_hanging(closer_of_daemon()) > i);
        }
}

static void ends_in_spite_of_a_set(int signal_number, int (*take)(sd_bus *b, const char *path), bool is_full)
{
        struct daemon own = {.prepare = world.daemon.prepare}, shared = world.daemon;
        struct held_set h = {}, hands = {};
        int handle, others, later;
        sd_bus *b;

        if (!held_start(&h) || !held_start(&hands))
                return;
        daemon_start(&own, "[Daemon]\nProbe=off\n");
        world.daemon = own;
        others = raw_connect(); /* before, so that its number there is smaller */
        b = connect_bus();
        hang_all_hands(b, &hands);
        create(b, "c");
        handle = take(b, "c");
        later = raw_connect();
        held_add(&h, handle);
        held_lock(&h);
        close(handle);
        if (is_full)
                fill_table_of_heir();
        ck_assert_int_eq(kill(own.pid, signal_number), 0);
        ck_assert_happens(waitpid(own.pid, NULL, WNOHANG) == own.pid);
        ck_assert(raw_is_closed(others));
        ck_assert(raw_is_closed(later));
        sd_bus_flush_close_unref(b);
        daemon_again(&own);
        run_as(BOB, attach_self, NULL);
        held_end(&hands);
        held_end(&h);
        close(others);
        close(later);
        daemon_kill(&own);
        directory_remove(own.directory);
        world.daemon = shared;
}

START_TEST(the_daemon_ends_in_spite_of_a_set_that_is_held)
{
        ends_in_spite_of_a_set(SIGTERM, done_handle, false);
}
END_TEST

START_TEST(the_daemon_is_killed_in_spite_of_a_set_that_is_held)
{
        ends_in_spite_of_a_set(SIGKILL, done_handle, false);
}
END_TEST

START_TEST(the_daemon_is_killed_in_spite_of_a_lifeline)
{
        ends_in_spite_of_a_set(SIGKILL, lifeline_of, false);
}
END_TEST

/* Its descriptors are kept apart for its end, for which no other one may be needed. */
START_TEST(the_daemon_is_killed_with_a_full_table)
{
        ends_in_spite_of_a_set(SIGKILL, done_handle, true);
}
END_TEST

void add_locked(Suite *s)
{
        ADD_TESTS(s, "locked", start_plain, a_socket_whose_lock_is_held, a_pidfd_in_a_set_that_is_held,
                        a_pidfd_that_nobody_wants_in_a_set_that_is_held, a_handle_in_a_set_that_is_held,
                        a_handle_that_is_given_up_in_a_set_that_is_held);
        ADD_TESTS(s, "locked-by-others", start_plain, the_pidfd_of_a_member_in_a_set_that_is_held,
                        the_eventfd_of_threads_in_a_set_that_is_held);
        ADD_TESTS(s, "locked-end", start_plain, the_daemon_ends_in_spite_of_a_set_that_is_held,
                        the_daemon_is_killed_in_spite_of_a_set_that_is_held,
                        the_daemon_is_killed_in_spite_of_a_lifeline, the_daemon_is_killed_with_a_full_table);
        ADD_TESTS(s, "locked-lifelines", start_plain, a_context_ends_while_its_lifeline_is_used,
                        another_lifeline_while_one_is_used, nothing_can_be_sent_into_a_lifeline);
        add_held_alive(s);
        add_held_charge(s);
}
