/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A listening socket that is there while no daemon is, as systemd keeps it. Who waits in it is served by the
 * next daemon, however the one before has ended. */

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "foreign.h"
#include "harness.h"

#define CLIENTS 20

static int listen_at(const char *directory)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(address.sun_path, sizeof address.sun_path, "%s/bus", directory);
        ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(listen(fd, 64), 0);
        return fd;
}

static int connect_and_speak(void)
{
        static const char line[] = "\0AUTH EXTERNAL\r\nDATA\r\n";
        int fd = connect_socket();

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(send(fd, line, sizeof line - 1, MSG_NOSIGNAL), sizeof line - 1);
        return fd;
}

/* The daemon is stopped until both are there: they, and the signal. */
static void serves_those_who_wait(int signal_number)
{
        struct daemon own = {}, shared = world.daemon;
        int listener, fds[CLIENTS];
        char byte;

        daemon_configure(&own, "[Daemon]\nProbe=off\n");
        listener = own.given = listen_at(own.directory);
        daemon_start(&own, "[Daemon]\nProbe=off\n");
        world.daemon = own;
        ck_assert_int_eq(kill(own.pid, SIGSTOP), 0);
        ck_assert_happens(task_state(own.pid, own.pid) == 'T');
        for (unsigned i = 0; i < CLIENTS; i++)
                fds[i] = connect_and_speak();
        ck_assert_int_eq(kill(own.pid, signal_number), 0);
        ck_assert_int_eq(kill(own.pid, SIGCONT), 0);
        ck_assert_int_eq(waitpid(own.pid, NULL, 0), own.pid);
        daemon_again(&own);
        for (unsigned i = 0; i < CLIENTS; i++) {
                ck_assert_int_eq(recv(fds[i], &byte, 1, 0), 1);
                close(fds[i]);
        }
        close(listener);
        ck_assert_int_eq(daemon_stop(&own), 0);
        world.daemon = shared;
}

START_TEST(who_waits_when_the_daemon_is_told_to_end)
{
        serves_those_who_wait(SIGTERM);
}
END_TEST

START_TEST(who_waits_when_the_daemon_is_killed)
{
        serves_those_who_wait(SIGKILL);
}
END_TEST

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

static int let_send_fds(int listener)
{
        socklen_t length = sizeof(int);
        int value = 1; /* as it is where the kernel has no such option */

        (void) getsockopt(listener, SOL_SOCKET, SO_PASSRIGHTS, &value, &length);
        return value;
}

/* The next daemon may be an older one, which knows nothing of that option. */
START_TEST(the_socket_is_left_as_it_was)
{
        struct daemon own = {};
        int listener;

        daemon_configure(&own, "[Daemon]\nProbe=off\n");
        listener = own.given = listen_at(own.directory);
        daemon_launch(&own);
        ck_assert(daemon_becomes_ready(&own));
        ck_assert_int_eq(daemon_stop(&own), 0);
        ck_assert_int_eq(let_send_fds(listener), 1);
        close(listener);
}
END_TEST

void add_given(Suite *s)
{
        ADD_TESTS(s, "given", start_plain, who_waits_when_the_daemon_is_told_to_end,
                        who_waits_when_the_daemon_is_killed, the_socket_is_left_as_it_was);
}
