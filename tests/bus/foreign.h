/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <check.h>

/* Sends a descriptor to Attach on some connections, and waits for so many answers (unsigned *userdata). */
void send_file_of_crowd(int fd, void *userdata);
/* A process attaches itself to a context of its own, and cancels it. */
void attach_self(void *userdata);

/* closers.c */

#define CHILDREN_MAX 200

unsigned children_of(pid_t pid, pid_t ret_children[CHILDREN_MAX]);
/* The one that starts those who look at descriptors. */
pid_t closer_of_daemon(void);
/* How many processes that look at descriptors there are which were not there when this was asked last. */
unsigned new_closers(pid_t closer);
void add_closers(Suite *s);
/* Those of closers-of-bus.c. */
void add_closers_of_bus(Suite *s);
