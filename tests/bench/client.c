/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A client of ctxd or of its bare peer, by name. */

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "proto/names.h"
#include "tests/bench/common.h"

sd_bus_message *bench_call(const struct service *s, const char *member, const char *path, const char *more)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m, *reply;
        int r;

        if (sd_bus_message_new_method_call(s->bus, &m, s->name, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member) <
                                        0 ||
                        sd_bus_message_append(m, "s", path) < 0 ||
                        (more && sd_bus_message_append(m, "s", more) < 0) ||
                        (strcmp(member, "Create") == 0 && sd_bus_message_append(m, "a{sv}", 0) < 0))
                DIE("no message");
        r = sd_bus_call(s->bus, m, UINT64_C(120000000), &error, &reply);
        sd_bus_message_unref(m);
        if (r < 0) {
                fprintf(stderr, "%s %s: %s\n", member, path, error.message);
                exit(1);
        }
        return reply;
}

int bench_done(const struct service *s, const char *path)
{
        sd_bus_message *reply = bench_call(s, "Done", path, NULL);
        int fd;

        if (sd_bus_message_read(reply, "h", &fd) < 0 || (fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
                DIE("no handle");
        sd_bus_message_unref(reply);
        return fd;
}

/* One at a time, or some in flight: a Create, and when it was answered a Done of the same. */
static struct pairs {
        const struct service *service;
        int begun, answered, wanted;
        bool with_done;
} pairs;

static void pair_begin(void);

static void pair_send(const char *member, const char *path, sd_bus_message_handler_t cb)
{
        sd_bus_message *m;

        if (sd_bus_message_new_method_call(pairs.service->bus, &m, pairs.service->name, CTXD_OBJECT,
                            CTXD_MANAGER_INTERFACE, member) < 0 ||
                        sd_bus_message_append(m, "s", path) < 0 ||
                        (strcmp(member, "Create") == 0 && sd_bus_message_append(m, "a{sv}", 0) < 0) ||
                        sd_bus_call_async(pairs.service->bus, NULL, m, cb, NULL, 0) < 0)
                DIE("cannot send");
        sd_bus_message_unref(m);
}

static int pair_done(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        if (sd_bus_message_is_method_error(m, NULL))
                DIE(sd_bus_message_get_error(m)->message);
        pairs.answered++;
        if (pairs.begun < pairs.wanted)
                pair_begin();
        return 1;
}

static int pair_created(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *path;

        if (!pairs.with_done)
                return pair_done(m, userdata, error);
        if (sd_bus_message_read(m, "s", &path) < 0)
                DIE("a Create was refused");
        pair_send("Done", path, pair_done);
        return 1;
}

static void pair_begin(void)
{
        char path[32];

        snprintf(path, sizeof path, "calls/%06d", pairs.begun++);
        pair_send("Create", path, pair_created);
}

double bench_pairs(const struct service *s, int n, int in_flight, bool with_done)
{
        uint64_t start;
        double usec;

        sd_bus_message_unref(bench_call(s, "Create", "calls", NULL));
        pairs = (struct pairs){.service = s, .wanted = n, .with_done = with_done};
        start = now_nsec();
        while (in_flight-- > 0)
                pair_begin();
        while (pairs.answered < n)
                if (sd_bus_process(s->bus, NULL) == 0)
                        (void) sd_bus_wait(s->bus, UINT64_MAX);
        usec = (double) (now_nsec() - start) / 1000;
        sd_bus_message_unref(bench_call(s, "Release", "calls", NULL));
        return n * 1e6 / usec;
}

/* The waiter has a connection of its own. It is told a path, gets the handle, says that it is about to wait,
 * and when it woke. */
struct waiter {
        int to[2], from[2];
        pid_t pid;
};

struct waiter *waiter_start(const char *address, const char *name, uid_t uid)
{
        struct waiter *w = calloc(1, sizeof *w);

        if (!w || pipe2(w->to, O_CLOEXEC) < 0 || pipe2(w->from, O_CLOEXEC) < 0)
                DIE("no descriptors");
        w->pid = bench_fork();
        if (w->pid == 0) {
                struct service s;
                char path[64];

                if (uid != 0 && setuid(uid) < 0)
                        DIE("no such user");
                s = (struct service){bus_connect(address, name != NULL), name};
                while (read(w->to[0], path, sizeof path) == sizeof path) {
                        struct pollfd pollfd = {.fd = bench_done(&s, path), .events = POLLIN};
                        uint64_t woke;

                        if (write(w->from[1], "r", 1) != 1)
                                break;
                        poll(&pollfd, 1, -1);
                        woke = now_nsec();
                        close(pollfd.fd);
                        if (write(w->from[1], &woke, sizeof woke) != sizeof woke)
                                break;
                }
                _exit(0);
        }
        return w;
}

void waiter_stop(struct waiter *w)
{
        bench_end(w->pid);
        for (int i = 0; i < 2; i++) {
                close(w->to[i]);
                close(w->from[i]);
        }
        free(w);
}

double bench_wake(const struct service *s, struct waiter *w, const char *path)
{
        char text[64] = "", ready;
        uint64_t start, woke;

        snprintf(text, sizeof text, "%s", path);
        sd_bus_message_unref(bench_call(s, "Create", path, NULL));
        if (write(w->to[1], text, sizeof text) != sizeof text || read(w->from[0], &ready, 1) != 1)
                DIE("the waiter is gone");
        nap(100); /* now it sleeps */
        start = now_nsec();
        sd_bus_message_unref(bench_call(s, "Cancel", path, ""));
        if (read(w->from[0], &woke, sizeof woke) != sizeof woke)
                DIE("the waiter is gone");
        sd_bus_message_unref(bench_call(s, "Release", path, NULL));
        return (double) (woke - start) / 1000;
}
