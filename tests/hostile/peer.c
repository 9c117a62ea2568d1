/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The bare server, tests/bench/bare.c, on a socket of its own or on the bus. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/bench/common.h"
#include "tests/hostile/bob.h"

#define PEER "org.ctxd1.Bare"

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listener = -1;

static void serve(sd_bus *b)
{
        for (;;) {
                int r = sd_bus_process(b, NULL);

                if (r < 0 || (r == 0 && sd_bus_wait(b, UINT64_MAX) < 0))
                        return;
        }
}

/* One connection after the other. */
static void serve_socket(void *userdata)
{
        sd_id128_t id;

        ck_assert_int_ge(sd_id128_randomize(&id), 0);
        for (;;) {
                _cleanup_(sd_bus_close_unrefp) sd_bus *b = NULL;
                int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                ck_assert_int_ge(fd, 0);
                ck_assert_int_ge(sd_bus_new(&b), 0);
                ck_assert_int_ge(sd_bus_set_fd(b, fd, fd), 0);
                ck_assert_int_ge(sd_bus_set_server(b, true, id), 0);
                ck_assert_int_ge(sd_bus_negotiate_fds(b, true), 0);
                ck_assert_int_ge(sd_bus_start(b), 0);
                bare_setup(b);
                serve(b);
        }
}

static void serve_bus(void *userdata)
{
        sd_bus *b = connect_bus();

        bare_setup(b);
        ck_assert_int_ge(sd_bus_request_name(b, PEER, 0), 0);
        serve(b);
}

pid_t peer_start(void)
{
        pid_t pid;

        if (world.transport != TRANSPORT_DIRECT) {
                pid = spawn(serve_bus, NULL);
                bus_await_owner(&world.bus, PEER);
                return pid;
        }
        snprintf(address.sun_path, sizeof address.sun_path, "%s/bare", world.daemon.directory);
        (void) unlink(address.sun_path);
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(chmod(address.sun_path, 0666), 0); /* Bob's, too */
        ck_assert_int_eq(listen(listener, 8), 0);
        pid = spawn(serve_socket, NULL);
        close(listener);
        return pid;
}

static sd_bus *connect_peer(void)
{
        char text[sizeof address.sun_path + 16];

        snprintf(text, sizeof text, "unix:path=%s", address.sun_path);
        return bus_connect(text, false);
}

struct server peer_server(void)
{
        if (world.transport == TRANSPORT_DIRECT)
                return (struct server){NULL, connect_peer};
        return (struct server){PEER, connect_bus};
}
