/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reports name the socket that a thread waits on, and who is at its other end:
 * by BPF, and by /proc. */

#include <fcntl.h>
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "bpf/sample.h"
#include "tests/leaks/harness.h"
#include "util/cleanup.h"

#define GRACE_USEC UINT64_C(300000)

static struct harness h;
static enum probe_backend backend;
static uint32_t slot;

/* What the child does for ever. */
static int fds[2];
static struct sockaddr_storage address;
static socklen_t address_length;
static char network[64];

static void setup(void)
{
        harness_start(&h, backend, NULL, NULL);
        slot = backend == PROBE_BACKEND_BPF ? harness_context(&h) : 7;
}

static void teardown(void)
{
        harness_stop(&h);
}

static void receive(void *arg)
{
        char byte;

        (void) !recv(fds[0], &byte, 1, 0);
        _exit(1);
}

static void take_one(void *arg)
{
        (void) accept(fds[0], NULL, NULL);
        _exit(1);
}

static void join(void *arg)
{
        (void) connect(fds[0], (struct sockaddr *) &address, address_length);
        _exit(1);
}

static void poll_both(void *arg)
{
        struct pollfd p[] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};

        (void) poll(p, 2, -1);
        _exit(1);
}

/* What a report says of a child that does this. */
static const char *found(void (*fn)(void *arg))
{
        static char waits_on[256];
        const struct probe_leak *leak;
        pid_t pid = spawn(fn, NULL);

        wait_for_state(pid, pid, "S");
        if (backend == PROBE_BACKEND_BPF) {
                ck_assert(harness_attach(&h, pid, slot));
                harness_cancel(&h, slot, GRACE_USEC);
        } else {
                harness_cancel_pids(&h, slot, GRACE_USEC, &pid, 1);
        }
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        snprintf(waits_on, sizeof waits_on, "%s", leak->waits_on);
        reap(pid);
        return waits_on;
}

static void make_address(int family, int port, const char *name)
{
        struct sockaddr_un *un = (struct sockaddr_un *) &address;
        struct sockaddr_in *in = (struct sockaddr_in *) &address;
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) &address;

        address = (struct sockaddr_storage){.ss_family = (sa_family_t) family};
        if (family == AF_UNIX) {
                memcpy(un->sun_path, name, name[0] ? strlen(name) : 1 + strlen(name + 1));
                address_length = (socklen_t) (offsetof(struct sockaddr_un, sun_path) +
                                              (name[0] ? strlen(name) : 1 + strlen(name + 1)));
        } else if (family == AF_INET) {
                in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                in->sin_port = htons((uint16_t) port);
                address_length = sizeof *in;
        } else {
                in6->sin6_addr = in6addr_loopback;
                in6->sin6_port = htons((uint16_t) port);
                address_length = sizeof *in6;
        }
}

static int port_of(int fd)
{
        struct sockaddr_in6 in6;
        socklen_t length = sizeof in6;

        ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &in6, &length), 0);
        return ntohs(in6.sin6_port); /* where that of IPv4 is as well */
}

/* Binds a new socket to the address. */
static int make_socket(int type)
{
        int fd = socket(address.ss_family, type, 0);

        ck_assert_int_ge(fd, 0);
        ck_assert_msg(bind(fd, (struct sockaddr *) &address, address_length) == 0, "%m");
        return fd;
}

static int make_listener(int backlog)
{
        int fd = make_socket(SOCK_STREAM);

        ck_assert_int_eq(listen(fd, backlog), 0);
        return fd;
}

static int make_client(int type)
{
        int fd = socket(address.ss_family, type, 0);

        ck_assert_msg(connect(fd, (struct sockaddr *) &address, address_length) == 0, "%m");
        return fd;
}

static void close_both(void)
{
        for (int i = 0; i < 2; i++)
                close(fds[i]);
}

/* By BPF alone: /proc does not say who is at the other end. */
static const char *peer(const char *before)
{
        static char text[64];
        char name[16];

        prctl(PR_GET_NAME, name);
        snprintf(text, sizeof text, "%s%s[%d]", before, name, (int) getpid());
        return backend == PROBE_BACKEND_BPF ? text : "";
}

START_TEST(tcp)
{
        char expected[128];

        make_address(AF_INET, 0, NULL);
        fds[1] = make_listener(1);
        make_address(AF_INET, port_of(fds[1]), NULL);
        fds[0] = make_client(SOCK_STREAM);
        snprintf(expected, sizeof expected, "tcp 127.0.0.1:%d to 127.0.0.1:%d", port_of(fds[0]),
                        port_of(fds[1]));
        ck_assert_str_eq(found(receive), expected);
        close_both();
}
END_TEST

START_TEST(tcp_that_listens)
{
        char expected[128];

        make_address(AF_INET6, 0, NULL);
        fds[0] = make_listener(1);
        snprintf(expected, sizeof expected, "tcp [::1]:%d (listening)", port_of(fds[0]));
        ck_assert_str_eq(found(take_one), expected);
        close(fds[0]);
}
END_TEST

/* The queue of the listener is full, so it drops who comes next. */
START_TEST(tcp_that_connects)
{
        char expected[128];
        const char *waits_on;
        int listener, others[4];

        make_address(AF_INET, 0, NULL);
        listener = make_listener(0);
        make_address(AF_INET, port_of(listener), NULL);
        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                others[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
                (void) connect(others[i], (struct sockaddr *) &address, address_length);
        }
        fds[0] = socket(AF_INET, SOCK_STREAM, 0);
        waits_on = found(join);
        snprintf(expected, sizeof expected, " to 127.0.0.1:%d (connecting)", port_of(listener));
        ck_assert_msg(strncmp(waits_on, "tcp 127.0.0.1:", 14) == 0 && strstr(waits_on, expected),
                        "waits on: %s", waits_on);
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                close(others[i]);
        close(fds[0]);
        close(listener);
}
END_TEST

START_TEST(udp)
{
        char expected[128];

        make_address(AF_INET, 0, NULL);
        fds[0] = make_socket(SOCK_DGRAM);
        snprintf(expected, sizeof expected, "udp 127.0.0.1:%d", port_of(fds[0]));
        ck_assert_str_eq(found(receive), expected);
        make_address(AF_INET, port_of(fds[0]), NULL);
        fds[1] = fds[0];
        fds[0] = make_client(SOCK_DGRAM);
        teardown();
        setup();
        snprintf(expected, sizeof expected, "udp 127.0.0.1:%d to 127.0.0.1:%d", port_of(fds[0]),
                        port_of(fds[1]));
        ck_assert_str_eq(found(receive), expected);
        close_both();
}
END_TEST

/* Its own network namespace has a port of that number as well, of which it is
 * not the address. */
static void listen_elsewhere(void *arg)
{
        struct ifreq interface = {.ifr_name = "lo", .ifr_flags = IFF_UP};
        int fd;

        if (unshare(CLONE_NEWNET) < 0 || (fd = socket(AF_INET, SOCK_DGRAM, 0)) < 0 ||
                        ioctl(fd, SIOCSIFFLAGS, &interface) < 0)
                _exit(1);
        fds[0] = make_listener(1);
        take_one(NULL);
}

START_TEST(in_a_network_namespace)
{
        make_address(AF_INET, 4711, NULL);
        snprintf(network, sizeof network, "tcp 127.0.0.1:4711 (listening)");
        ck_assert_str_eq(found(listen_elsewhere), network);
}
END_TEST

static void check_unix(const char *name, const char *shown)
{
        char expected[256];
        int listener, client, server;

        make_address(AF_UNIX, 0, name);
        fds[0] = listener = make_listener(1);
        snprintf(expected, sizeof expected, "unix %s (listening)", shown);
        ck_assert_str_eq(found(take_one), expected);
        fds[0] = client = make_client(SOCK_STREAM);
        teardown();
        setup();
        if (backend == PROBE_BACKEND_BPF) {
                snprintf(expected, sizeof expected, "unix to %s%s", shown, peer(" of "));
                ck_assert_str_eq(found(receive), expected);
        } else {
                ck_assert_int_eq(strncmp(found(receive), "unix socket:[", 13), 0);
        }
        fds[0] = server = accept(listener, NULL, NULL);
        teardown();
        setup();
        snprintf(expected, sizeof expected, "unix %s%s", shown, peer(" to "));
        ck_assert_str_eq(found(receive), expected);
        close(server);
        close(client);
        close(listener);
}

START_TEST(unix_with_a_path)
{
        char directory[] = "/tmp/ctxd-test-XXXXXX", path[64];

        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(path, sizeof path, "%s/socket", directory);
        check_unix(path, path);
        unlink(path);
        rmdir(directory);
}
END_TEST

/* A terminal does not obey a name. */
START_TEST(unix_with_a_name)
{
        char name[64], shown[64];

        snprintf(name + 1, sizeof name - 1, "ctxd-test\033[2J-%d", (int) getpid());
        name[0] = '\0';
        snprintf(shown, sizeof shown, "@ctxd-test?[2J-%d", (int) getpid());
        check_unix(name, shown);
}
END_TEST

START_TEST(unix_without_a_name)
{
        const char *waits_on;

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        waits_on = found(receive);
        if (backend == PROBE_BACKEND_BPF)
                ck_assert_str_eq(waits_on + strlen("unix"), peer(" to "));
        else
                ck_assert_int_eq(strncmp(waits_on, "unix socket:[", 13), 0);
        close_both();
}
END_TEST

static ino_t inode_of(int fd)
{
        struct stat st;

        ck_assert_int_eq(fstat(fd, &st), 0);
        return st.st_ino;
}

/* Binds a socket of somebody else to a name in which there is a line of
 * /proc/net/unix. */
static int forge(const char *numbers, ino_t inode)
{
        char name[SAMPLE_UNIX_NAME] = "";

        snprintf(name + 1, sizeof name - 1, "%d\n%s %ju /run/forged", (int) getpid(), numbers,
                        (uintmax_t) inode);
        make_address(AF_UNIX, 0, name);
        return make_socket(SOCK_DGRAM);
}

/* Law 36 and 50: nobody puts a name into the report of another one. */
START_TEST(law36_forged)
{
        char name[64] = "", expected[128];

        snprintf(name + 1, sizeof name - 1, "ctxd-test-victim-%d", (int) getpid());
        make_address(AF_UNIX, 0, name);
        fds[0] = make_listener(1);
        fds[1] = forge("x: 2 0 10000 1 1", inode_of(fds[0]));
        snprintf(expected, sizeof expected, "unix @%s (listening)", name + 1);
        ck_assert_str_eq(found(take_one), expected);
        close(fds[1]);

        /* Of two that look alike none is believed. */
        fds[1] = forge("0000000000000000: 00000002 00000000 00010000 0001 01", inode_of(fds[0]));
        if (backend == PROBE_BACKEND_PROC)
                snprintf(expected, sizeof expected, "unix socket:[%ju]", (uintmax_t) inode_of(fds[0]));
        teardown();
        setup();
        ck_assert_str_eq(found(take_one), expected);
        close_both();
}
END_TEST

/* A socket of another kind is not in that file at all. */
START_TEST(law36_forged_kind)
{
        char expected[128];

        make_address(AF_INET6, 0, NULL);
        fds[0] = make_listener(1);
        snprintf(expected, sizeof expected, "tcp [::1]:%d (listening)", port_of(fds[0]));
        fds[1] = forge("0000000000000000: 00000002 00000000 00010000 0001 01", inode_of(fds[0]));
        ck_assert_str_eq(found(take_one), expected);
        close_both();
        fds[0] = socket(AF_NETLINK, SOCK_RAW, 0);
        fds[1] = forge("0000000000000000: 00000002 00000000 00010000 0001 01", inode_of(fds[0]));
        snprintf(expected, sizeof expected, "socket:[%ju]", (uintmax_t) inode_of(fds[0]));
        teardown();
        setup();
        ck_assert_str_eq(found(receive), expected);
        close_both();
}
END_TEST

/* Where it is to be connected to is only in the memory of the process, which is
 * read by BPF alone. The own name of the socket may look like anything. */
static void check_connecting(const char *own)
{
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        char name[64] = "", expected[128];
        int listener, others[2];

        snprintf(name + 1, sizeof name - 1, "ctxd-test-full-%d", (int) getpid());
        make_address(AF_UNIX, 0, name);
        listener = make_listener(0);
        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                others[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
                (void) connect(others[i], (struct sockaddr *) &address, address_length);
        }
        fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
        strcpy(un.sun_path, own);
        if (*own)
                ck_assert_int_eq(bind(fds[0], (struct sockaddr *) &un, sizeof un), 0);
        if (backend == PROBE_BACKEND_BPF)
                snprintf(expected, sizeof expected, "unix%s%s to @%s", *own ? " " : "", own, name + 1);
        else if (*own)
                snprintf(expected, sizeof expected, "unix %s", own);
        else
                snprintf(expected, sizeof expected, "unix socket:[%ju]", (uintmax_t) inode_of(fds[0]));
        ck_assert_str_eq(found(join), expected);
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                close(others[i]);
        close(fds[0]);
        close(listener);
}

START_TEST(unix_that_connects)
{
        check_connecting("");
}
END_TEST

START_TEST(law50_unix_that_connects)
{
        char directory[] = "/tmp/ctxd-test-XXXXXX";
        static const char *const names[] = {"me to init", "socket:[1]"};
        int before = open(".", O_PATH | O_CLOEXEC);

        ck_assert_ptr_nonnull(mkdtemp(directory));
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                if (i > 0) {
                        teardown();
                        setup(); /* the probe's path may be relative */
                }
                ck_assert_int_eq(chdir(directory), 0);
                check_connecting(names[i]);
                unlink(names[i]);
                ck_assert_int_eq(fchdir(before), 0);
        }
        rmdir(directory);
        close(before);
}
END_TEST

START_TEST(polled)
{
        char expected[256];

        make_address(AF_INET, 0, NULL);
        fds[0] = make_listener(1);
        fds[1] = make_socket(SOCK_DGRAM);
        snprintf(expected, sizeof expected, "%d: tcp 127.0.0.1:%d (listening), %d: udp 127.0.0.1:%d", fds[0],
                        port_of(fds[0]), fds[1], port_of(fds[1]));
        if (backend == PROBE_BACKEND_BPF) /* only it reads the set */
                ck_assert_str_eq(found(poll_both), expected);
        close_both();
}
END_TEST

/* Nothing of the first one is said of the second one. */
START_TEST(polled_unix)
{
        char name[64] = "", expected[256];
        int server;

        snprintf(name + 1, sizeof name - 1, "ctxd-test-polled-%d", (int) getpid());
        make_address(AF_UNIX, 0, name);
        fds[1] = make_listener(1);
        fds[0] = make_client(SOCK_STREAM);
        server = accept(fds[1], NULL, NULL);
        snprintf(expected, sizeof expected, "%d: unix to @%s%s, %d: unix @%s (listening)", fds[0], name + 1,
                        peer(" of "), fds[1], name + 1);
        if (backend == PROBE_BACKEND_BPF)
                ck_assert_str_eq(found(poll_both), expected);
        close(server);
        close_both();
}
END_TEST

/* What is no address stays as it was. */
START_TEST(others)
{
        fds[0] = socket(AF_NETLINK, SOCK_RAW, 0);
        ck_assert_int_eq(strncmp(found(receive), "socket:[", 8), 0);
        close(fds[0]);
}
END_TEST

/* Law 49: of a process that hides what it does nothing is told, and so not with
 * whom it speaks. */
static void hide_and_receive(void *arg)
{
        prctl(PR_SET_DUMPABLE, 0);
        if (setresuid(1234, 1234, 1234) < 0)
                _exit(1);
        receive(arg);
}

START_TEST(law49_hidden)
{
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        ck_assert_str_eq(found(hide_and_receive), "");
        close_both();
}
END_TEST

int main(int argc, char **argv)
{
        const TTest *const tests[] = {
                        tcp,
                        tcp_that_listens,
                        tcp_that_connects,
                        udp,
                        in_a_network_namespace,
                        unix_with_a_path,
                        unix_with_a_name,
                        unix_without_a_name,
                        law36_forged,
                        law36_forged_kind,
                        unix_that_connects,
                        law50_unix_that_connects,
                        polled,
                        polled_unix,
                        others,
                        law49_hidden,
                        NULL,
        };
        Suite *suite = suite_create("socket");

        backend = argc > 2 && strcmp(argv[2], "proc") == 0 ? PROBE_BACKEND_PROC : PROBE_BACKEND_BPF;
        tcase_add_checked_fixture(add_case(suite, "socket", tests), setup, teardown);
        return harness_main(argc, argv, backend == PROBE_BACKEND_BPF, suite);
}
