/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One cancel of a parent with N children, each with a done handle in one of ten processes, until the last of
 * them has been seen; beside N writes to eventfds that those processes wait for in the same way (the floor),
 * and N sends on ten SOCK_SEQPACKET sockets. All processes are on one core, the three take turns.
 *
 *     bench-fanout CTXD [ROUNDS]  */

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/names.h"
#include "tests/bench/common.h"

#define WATCHERS 10
#define MOST 10000
#define ROUNDS_MAX 101

enum kind { KIND_FLOOR, KIND_SEQPACKET, KIND_CTXD, KINDS };

static struct order {
        enum kind kind;
        int n; /* of this watcher */
} order;

static int floor_fds[MOST], sockets[WATCHERS][2], orders[WATCHERS][2], news[2];
static const char *address;

static void tell(const void *what, size_t size)
{
        if (write(news[1], what, size) != (ssize_t) size)
                _exit(1);
}

static void watch(int epoll, int fd)
{
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fd};

        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
                DIE("epoll");
}

static void see_all(int epoll, int n)
{
        struct epoll_event events[64];

        while (n > 0) {
                int k = epoll_wait(epoll, events, 64, -1);

                if (k < 0)
                        DIE("epoll");
                n -= k;
        }
}

static void see_messages(int fd, int n)
{
        char byte;

        while (n-- > 0)
                if (recv(fd, &byte, 1, 0) != 1)
                        DIE("recv");
}

/* Child i is number i / WATCHERS of watcher i % WATCHERS. */
static void watcher(int me)
{
        struct service s = {bus_connect(address, false), NULL};
        static int fds[MOST];
        uint64_t seen;

        while (read(orders[me][0], &order, sizeof order) == sizeof order) {
                int epoll = epoll_create1(EPOLL_CLOEXEC);

                for (int i = 0; i < order.n; i++) {
                        char path[32];

                        snprintf(path, sizeof path, "fan/%05d", i * WATCHERS + me);
                        if (order.kind == KIND_CTXD)
                                watch(epoll, fds[i] = bench_done(&s, path));
                        else if (order.kind == KIND_FLOOR)
                                watch(epoll, floor_fds[i * WATCHERS + me]);
                }
                tell("r", 1);
                if (order.kind == KIND_SEQPACKET)
                        see_messages(sockets[me][1], order.n);
                else
                        see_all(epoll, order.n);
                seen = now_nsec();
                tell(&seen, sizeof seen);
                for (int i = 0; i < order.n; i++) {
                        eventfd_t count;

                        if (order.kind == KIND_CTXD)
                                close(fds[i]);
                        else if (order.kind == KIND_FLOOR)
                                eventfd_read(floor_fds[i * WATCHERS + me], &count);
                }
                close(epoll);
        }
        _exit(0);
}

static void hear(void *what, size_t size)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = read(news[0], (char *) what + done, size - done);

                if (n <= 0)
                        DIE("a watcher is gone");
                done += (size_t) n;
        }
}

static double measure(const struct service *s, enum kind kind, int n)
{
        uint64_t start, seen, last = 0;
        char byte = 'x', path[32];

        if (kind == KIND_CTXD) {
                sd_bus_message_unref(bench_call(s, "Create", "fan", NULL));
                for (int i = 0; i < n; i++) {
                        snprintf(path, sizeof path, "fan/%05d", i);
                        sd_bus_message_unref(bench_call(s, "Create", path, NULL));
                }
        }
        order = (struct order){.kind = kind, .n = n / WATCHERS};
        for (int i = 0; i < WATCHERS; i++)
                if (write(orders[i][1], &order, sizeof order) != sizeof order)
                        DIE("a watcher is gone");
        for (int i = 0; i < WATCHERS; i++)
                hear(&byte, 1);
        nap(20000); /* now they sleep */
        start = now_nsec();
        if (kind == KIND_CTXD)
                sd_bus_message_unref(bench_call(s, "Cancel", "fan", ""));
        for (int i = 0; i < n && kind != KIND_CTXD; i++)
                if (kind == KIND_FLOOR ? eventfd_write(floor_fds[i], 1) < 0
                                       : send(sockets[i % WATCHERS][0], "x", 1, 0) != 1)
                        DIE("cannot signal");
        for (int i = 0; i < WATCHERS; i++) {
                hear(&seen, sizeof seen);
                if (seen > last)
                        last = seen;
        }
        if (kind == KIND_CTXD)
                sd_bus_message_unref(bench_call(s, "Release", "fan", NULL));
        nap(50000);
        return (double) (last - start) / 1e6;
}

static void bench(const struct service *s, int n, size_t rounds)
{
        static double took[KINDS][ROUNDS_MAX];
        char what[64];

        for (enum kind k = 0; k < KINDS; k++)
                measure(s, k, n); /* warm */
        for (size_t i = 0; i < rounds; i++)
                for (enum kind k = 0; k < KINDS; k++)
                        took[k][i] = measure(s, k, n);
        snprintf(what, sizeof what, "%d handles, beside %d eventfd writes", n, n);
        row(what, median(took[KIND_CTXD], rounds), median(took[KIND_FLOOR], rounds), 1.2, false);
        snprintf(what, sizeof what, "%d handles, beside %d SEQPACKET sends", n, n);
        row(what, median(took[KIND_CTXD], rounds), median(took[KIND_SEQPACKET], rounds), 1, false);
}

int main(int argc, char *argv[])
{
        size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 11;
        struct service s = {};

        if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX) {
                fprintf(stderr, "usage: %s CTXD [ROUNDS]\n", argv[0]);
                return 2;
        }
        want_descriptors(MOST + MOST / 2);
        pin();
        address = start_daemon(argv[1], "RetainSec=1s\nProbe=off", NULL);
        for (int i = 0; i < MOST; i++)
                if ((floor_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
                        DIE("eventfd");
        if (pipe2(news, O_CLOEXEC) < 0)
                DIE("pipe");
        for (int i = 0; i < WATCHERS; i++) {
                if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets[i]) < 0 ||
                                pipe2(orders[i], O_CLOEXEC) < 0)
                        DIE("socketpair");
                if (bench_fork() == 0)
                        watcher(i);
        }
        s.bus = bus_connect(address, false);
        table("one cancel until the last of N handles in ten processes has been seen, ms; medians", "ctxd",
                        "beside");
        bench(&s, 1000, rounds);
        bench(&s, 10000, rounds > 5 ? 5 : rounds);
        sd_bus_flush_close_unref(s.bus);
        return 0;
}
