/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "lib/ctxclient.h"

/* A real daemon for tests of the library: ctxd --embedded, in a directory of its own. */

struct daemon {
        char directory[32];
        char address[128];
        pid_t pid;
        int given; /* a listening socket that it is started with, as systemd does; 0: none */
};

/* $CTXD_PROGRAM with a configuration (NULL: none). Exits with 77 where it cannot be started. Sets
 * $CTXD_ADDRESS. */
void daemon_start(struct daemon *daemon, const char *configuration);
void daemon_stop(struct daemon *daemon);
/* SIGKILL, and a new one at the same address. */
void daemon_restart(struct daemon *daemon);
void daemon_kill(struct daemon *daemon);
void daemon_again(struct daemon *daemon);

/* The one of the whole file. */
extern struct daemon the_daemon;
extern const char *the_configuration; /* its; NULL: none */
struct ctx_client *new_client(void);

/* A path that no other test has. */
const char *fresh_path(void);
struct ctx *make(struct ctx_client *client, const char *path);

uint64_t boottime_usec(void);
bool is_readable(int fd);
unsigned count_fds(pid_t pid);
unsigned count_threads(void); /* of this process */
/* The daemon's, once it has come to rest: what was closed elsewhere, it may not have heard of yet. */
unsigned settled_fds(pid_t pid);
/* Waits until all other threads of this process sleep, for a while on end. */
void wait_for_other_threads(void);

/* Runs fn in a forked process; its return value is the exit status, an assertion's failure is 255. */
pid_t run_child(int (*fn)(void *userdata), void *userdata);
/* The exit status, 128 + n for a signal. */
int wait_child(pid_t pid);

int run_tests(const char *name, const TTest *const *tests);
