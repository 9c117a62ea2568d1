/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "tests/harness/base.h"
#include "tests/harness/bus.h"
#include "tests/harness/daemon.h"
#include "tests/harness/figures.h"

/* What the benchmarks share: a daemon of their own, peers, one core for all, and a table whose rows say what
 * was to be reached. */

#define DIE(what)                                                                              \
        do {                                                                                   \
                fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, what, strerror(errno)); \
                exit(1);                                                                       \
        } while (0)

uint64_t now_nsec(void);
void want_descriptors(unsigned n);
void pin(void); /* to the core it is on; children inherit it */

/* A directory that goes when the program ends, and processes that are ended then. */
const char *bench_directory(void);
pid_t bench_fork(void); /* fork(); the child is ended with us at the latest */
void bench_end(pid_t pid);

/* Starts ctxd --embedded in the directory, or, where an address of a bus is given, --user on that. config:
 * the lines of its [Daemon] section. Returns its address. */
const char *start_daemon(const char *program, const char *config, const char *bus);
pid_t daemon_pid(void);
/* Starts dbus-daemon or dbus-broker, if it is there: its address, or NULL. */
const char *start_bus(const char *kind);

/* A bare sd-bus server on a socket of its own, or on a bus under a name; setup adds objects. Returns its
 * address. */
const char *start_server(void (*setup)(sd_bus *bus));
void start_server_on_bus(const char *address, const char *name, void (*setup)(sd_bus *bus));

/* bare.c: the peer's object. */
void bare_setup(sd_bus *bus);

/* client.c: a connection, and the name that answers there (NULL: a direct one). */
struct service {
        sd_bus *bus;
        const char *name;
};

sd_bus_message *bench_call(const struct service *s, const char *member, const char *path, const char *more);
int bench_done(const struct service *s, const char *path);
/* Create and Done, n times: how many a second. */
double bench_pairs(const struct service *s, int n, int in_flight, bool with_done);
/* A process that waits for contexts, and how long it takes from the call of Cancel until it is awake, us. */
struct waiter;
struct waiter *waiter_start(const char *address, const char *name, uid_t uid);
void waiter_stop(struct waiter *w);
double bench_wake(const struct service *s, struct waiter *w, const char *path);

/* Rows. The target is a limit of ours / theirs, from above, or with more_is_better from below; 0: none. */
void table(const char *title, const char *ours, const char *theirs);
void row(const char *what, double ours, double theirs, double target, bool more_is_better);
/* One with a limit of its own instead of a peer. */
void row_limit(const char *what, double ours, double limit);
