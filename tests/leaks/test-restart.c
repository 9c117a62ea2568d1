/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The probe dies; membership goes on by what ctxd keeps, and the next probe finds what there is to find. ctxd
 * goes away and comes back; the probe finds it again. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/leaks/harness.h"

#define GRACE_USEC UINT64_C(300000)

static int to_child[2], to_test[2];

static void fork_for_each_byte(void *arg)
{
        char byte;

        while (read(to_child[0], &byte, 1) == 1) {
                pid_t pid = fork();

                if (pid == 0) {
                        prctl(PR_SET_PDEATHSIG, SIGKILL);
                        for (;;)
                                pause();
                }
                (void) !write(to_test[1], &pid, sizeof pid);
        }
}

static pid_t fork_one(void)
{
        pid_t pid;

        ck_assert_int_eq(write(to_child[1], "f", 1), 1);
        ck_assert_int_eq(read(to_test[0], &pid, sizeof pid), sizeof pid);
        return pid;
}

START_TEST(membership_outlives_the_probe)
{
        struct harness h, next;
        const struct probe_leak *leak;
        uint32_t slot;
        pid_t pid, without, with;

        ck_assert_int_eq(pipe2(to_child, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(to_test, O_CLOEXEC), 0);
        harness_start(&h, PROBE_BACKEND_BPF, NULL, NULL);
        ck_assert_uint_eq(h.hello.kept, 0);
        slot = harness_context(&h);
        pid = spawn(fork_for_each_byte, NULL);
        ck_assert(harness_attach(&h, pid, slot));

        harness_kill_probe(&h);
        without = fork_one();
        ck_assert(harness_is_member(&h, without, slot));
        ck_assert_int_eq(harness_live(&h, slot), 2);

        harness_start(&next, PROBE_BACKEND_BPF, h.fds, NULL);
        ck_assert_uint_eq(next.hello.backend, PROBE_BACKEND_BPF);
        ck_assert_uint_eq(next.hello.kept, 1);
        with = fork_one();
        ck_assert(harness_is_member(&next, with, slot));
        /* The hooks run once, not twice. */
        ck_assert_int_eq(harness_live(&next, slot), 3);
        ck_assert_int_eq(harness_live(&h, slot), 3);
        ck_assert_uint_eq(next.stats->inherited, 2);

        harness_cancel(&next, slot, GRACE_USEC);
        leak = harness_leak(&next, without, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        ck_assert_ptr_nonnull(harness_leak(&next, with, PATIENCE_USEC));
        kill(without, SIGKILL);
        kill(with, SIGKILL);
        reap(pid);
        ck_assert(harness_drained(&next, slot, PATIENCE_USEC));
        harness_stop(&next);
        harness_stop(&h);
}
END_TEST

/* Descriptors that are no maps of ours: a probe with new ones, which says so. */
START_TEST(strange_descriptors)
{
        struct harness h;
        int fds[PROBE_FDS];

        for (int i = 0; i < PROBE_FDS; i++)
                fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        harness_start(&h, PROBE_BACKEND_BPF, fds, NULL);
        ck_assert_uint_eq(h.hello.kept, 0);
        ck_assert_uint_eq(h.hello.backend, PROBE_BACKEND_BPF);
        harness_stop(&h);
        for (int i = 0; i < PROBE_FDS; i++)
                close(fds[i]);
}
END_TEST

static pid_t peer_of(int fd)
{
        struct ucred peer;
        socklen_t size = sizeof peer;

        ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
        return peer.pid;
}

static int accept_probe(int listener, enum probe_backend backend, struct probe_hello *ret)
{
        struct probe_welcome welcome = {
                        .header = {PROBE_WELCOME, sizeof welcome},
                        .version = PROBE_PROTOCOL_VERSION,
                        .backend = backend,
        };
        struct pollfd p = {.fd = listener, .events = POLLIN};
        int fd;

        ck_assert_int_eq(poll(&p, 1, PATIENCE_USEC / 1000), 1);
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(send(fd, &welcome, sizeof welcome, MSG_NOSIGNAL), sizeof welcome);
        p.fd = fd;
        ck_assert_int_eq(poll(&p, 1, PATIENCE_USEC / 1000), 1);
        ck_assert_int_eq(recv(fd, ret, sizeof *ret, 0), sizeof *ret);
        ck_assert_uint_eq(ret->header.type, PROBE_HELLO);
        return fd;
}

START_TEST(reconnects)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char directory[] = "/tmp/ctxd-test-XXXXXX", argument[128];
        struct probe_hello hello;
        int listener, fd, again, status;
        pid_t probe;

        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(address.sun_path, sizeof address.sun_path, "%s/probe", directory);
        snprintf(argument, sizeof argument, "--connect=%s", address.sun_path);
        probe = fork();
        if (probe == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                execl(harness_probe_path, harness_probe_path, argument, NULL);
                _exit(127);
        }
        sleep_usec(300000); /* it comes before ctxd listens */
        listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(listen(listener, 4), 0);
        fd = accept_probe(listener, PROBE_BACKEND_BPF, &hello);
        ck_assert_uint_eq(hello.backend, PROBE_BACKEND_BPF);
        ck_assert_int_eq(peer_of(fd), probe);
        close(fd);
        fd = accept_probe(listener, PROBE_BACKEND_BPF, &hello);
        ck_assert_int_eq(peer_of(fd), probe);
        ck_assert_uint_eq(hello.backend, PROBE_BACKEND_BPF);

        /* Nonsense ends the connection, not the probe. */
        ck_assert_int_eq(send(fd, "nonsense", 8, MSG_NOSIGNAL), 8);
        again = accept_probe(listener, PROBE_BACKEND_BPF, &hello);
        ck_assert_int_eq(peer_of(again), probe);
        close(again);

        ck_assert_int_eq(kill(probe, SIGTERM), 0);
        ck_assert_int_eq(waitpid(probe, &status, 0), probe);
        ck_assert_int_eq(status, 0);
        close(fd);
        close(listener);
        unlink(address.sun_path);
        rmdir(directory);
}
END_TEST

int main(int argc, char **argv)
{
        const TTest *const tests[] = {
                        membership_outlives_the_probe,
                        strange_descriptors,
                        reconnects,
                        NULL,
        };
        Suite *suite = suite_create("restart");

        add_case(suite, "restart", tests);
        return harness_main(argc, argv, true, suite);
}
