/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <check.h>

/* Sends a descriptor to Attach on some connections, and waits for so many answers (unsigned *userdata). */
void send_file_of_crowd(int fd, void *userdata);
/* A process attaches itself to a context of its own, and cancels it. */
void attach_self(void *userdata);

/* The tests of closers.c. */
void add_closers(Suite *s);
