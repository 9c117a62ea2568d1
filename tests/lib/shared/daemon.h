/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

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
#include "tests/harness/base.h"
#include "tests/harness/daemon.h"
#include "tests/harness/suite.h"

/* For the tests of the library: one ctxd for all tests of a file, and what they say to it. */

/* The one of the whole file. */
extern struct daemon the_daemon;
extern const char *the_configuration; /* its; NULL: none */
struct ctx_client *new_client(void);
/* Stops it (SIGSTOP), and lets it go on. */
void daemon_freeze(void);
void daemon_thaw(void);

/* A path that no other test has. */
const char *fresh_path(void);
struct ctx *make(struct ctx_client *client, const char *path);

/* What ctx_cancel() returns in a signal handler. */
int cancel_in_handler(struct ctx *ctx);

#define boottime_usec now_boottime_usec
/* Waits until all other threads of this process sleep, for a while on end. */
void wait_for_other_threads(void);

/* Runs fn in a forked process; its return value is the exit status, an assertion's failure is 255. */
pid_t run_child(int (*fn)(void *userdata), void *userdata);
/* The exit status, 128 + n for a signal. */
int wait_child(pid_t pid);

int run_tests_with_daemon(const char *name, const TTest *const *tests);
/* The same, with what is done before and after each test, in its process. */
int run_tests_with_daemon_and(
                const char *name, const TTest *const *tests, void (*setup)(void), void (*teardown)(void));
