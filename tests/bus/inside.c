/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "inside.h"

sd_event *event;
struct tree *tree;
struct service service;
struct client clients[CLIENTS_MAX];
unsigned n_clients;

void inside_setup(void)
{
        ck_assert_int_ge(sd_event_new(&event), 0);
        ck_assert_int_ge(tree_new(&tree), 0);
        ck_assert_int_ge(service_init(&service, event, tree), 0);
}

void inside_teardown(void)
{
        while (n_clients > 0)
                sd_bus_close_unref(clients[--n_clients].bus);
        service_deinit(&service);
        tree_free(tree);
        sd_event_unref(event);
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct client *c = userdata;
        const char *path;
        unsigned number;

        if (sd_bus_message_is_signal(m, CTXD_MANAGER_INTERFACE, NULL) <= 0)
                return 0;
        ck_assert_int_gt(sd_bus_message_read(m, "s", &path), 0);
        ck_assert_int_eq(sscanf(path, "told/%u", &number), 1);
        ck_assert_uint_eq(number, c->last + 1); /* in order */
        c->last = number;
        c->n_signals++;
        return 0;
}

int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct client *c = userdata;

        c->n_answers++;
        c->n_errors += sd_bus_message_is_method_error(m, NULL) > 0;
        return 1;
}

unsigned n_heard(void)
{
        unsigned n = 0;

        for (unsigned i = 0; i < n_clients; i++) {
                while (clients[i].bus && sd_bus_process(clients[i].bus, NULL) > 0)
                        ;
                n += clients[i].n_answers + clients[i].n_signals;
        }
        return n;
}

unsigned run(void)
{
        unsigned most = 0, before = n_heard(), now;

        while (sd_event_run(event, 20000) > 0) {
                now = n_heard();
                most = now - before > most ? now - before : most;
                before = now;
        }
        return most;
}

void run_deaf(void)
{
        while (sd_event_run(event, 20000) > 0)
                ;
}

struct client *client_new(void)
{
        struct client *c = &clients[n_clients];
        int ends[2];

        ck_assert_uint_lt(n_clients, ELEMENTSOF(clients));
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
        ck_assert_int_ge(sd_bus_new(&c->bus), 0);
        ck_assert_int_ge(sd_bus_set_fd(c->bus, ends[0], ends[0]), 0);
        ck_assert_int_ge(sd_bus_negotiate_fds(c->bus, 1), 0);
        /* A busy machine may take longer than the 25 s of sd-bus. */
        ck_assert_int_ge(sd_bus_set_method_call_timeout(c->bus, UINT64_MAX), 0);
        ck_assert_int_ge(sd_bus_start(c->bus), 0);
        ck_assert_int_ge(sd_bus_add_filter(c->bus, NULL, on_signal, c), 0);
        n_clients++;
        ck_assert_int_ge(connection_accept(&service, ends[1], geteuid()), 0);
        return c;
}

struct context *make_until(const char *path, uint64_t deadline_usec)
{
        struct create_options options = {
                        .deadline_usec = deadline_usec, .mode = CONTEXT_MODE_INHERIT, .parents = true};
        struct refused refused = {};
        struct context *c;

        ck_assert_int_eq(tree_create(tree, now_boottime_usec(), &caller_daemon, path, &options, &c, &refused),
                        1);
        return c;
}

struct context *make(const char *path)
{
        return make_until(path, CTXD_USEC_INFINITY);
}

void make_many(const char *path, unsigned n)
{
        char below[CTXD_PATH_MAX + 1];

        for (unsigned i = 0; i < n; i++) {
                snprintf(below, sizeof below, "%s/%u", path, i);
                make(below);
        }
        service_drain(&service, NULL);
}
