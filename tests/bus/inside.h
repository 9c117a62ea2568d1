/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The daemon's bus/ in the process of the test, with its clients, so that a test can see what each turn of
 * the loop does. */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/bus/connection.h"
#include "tests/harness/suite.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define CLIENTS_MAX 600

struct client {
        sd_bus *bus;
        unsigned n_answers, n_errors, n_signals;
        unsigned last; /* the number in the path of the last signal */
};

extern sd_event *event;
extern struct tree *tree;
extern struct service service;
extern struct client clients[CLIENTS_MAX];
extern unsigned n_clients;

/* A checked fixture. */
void inside_setup(void);
void inside_teardown(void);

struct client *client_new(void);
int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error);
#define SEND(c, member, ...)                                                                         \
        ck_assert_int_ge(sd_bus_call_method_async((c)->bus, NULL, CTXD_BUS_NAME, CTXD_OBJECT,        \
                                         CTXD_MANAGER_INTERFACE, member, on_answer, c, __VA_ARGS__), \
                        0)

/* What the clients have got so far: answers and signals. They read what is there. */
unsigned n_heard(void);
/* Until the daemon and its clients have nothing more to do. Returns the most that was heard in one turn. */
unsigned run(void);
/* The same, but the clients do not read. */
void run_deaf(void);

#define SECOND UINT64_C(1000000)

/* Without a call: there is nothing to be told of. */
struct context *make_until(const char *path, uint64_t deadline_usec);
struct context *make(const char *path);
void make_many(const char *path, unsigned n);
