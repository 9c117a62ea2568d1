/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Other processes of a test that runs under check. */

#include <stdbool.h>
#include <sys/types.h>

/* Runs fn in another process, which is killed when the test ends. A failed assertion in it fails the test.
 * */
pid_t spawn(void (*fn)(void *userdata), void *userdata);
/* Waits for its end, and expects that it succeeded. */
void wait_for(pid_t pid);
void become_user(uid_t uid); /* this process, for ever; it is no longer tied to its parent */
pid_t spawn_as(uid_t uid, void (*fn)(void *userdata), void *userdata);
void run_as(uid_t uid, void (*fn)(void *userdata), void *userdata);

/* A process that sleeps until it is killed, and a pidfd of it (NULL: none is wanted). */
pid_t sleeper(int *ret_pidfd);
/* Kills it and reaps it. */
void end_process(pid_t pid);
int open_pidfd(pid_t pid);

#define CHILDREN_MAX 200

unsigned children_of(pid_t pid, pid_t ret_children[CHILDREN_MAX]);
bool process_has_name(pid_t pid, const char *name);
pid_t child_with_name(pid_t pid, const char *name); /* 0: it has none */
