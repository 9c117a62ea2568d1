/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* A process that does what the test tells it. Both sides send one byte at a time. It ends with the test. */
struct puppet {
        pid_t pid; /* 0: it was reaped */
        int pidfd;
        int to, from;
};

struct puppet puppet_start(void (*fn)(int in, int out));
void puppet_end(struct puppet *p);
void puppet_tell(const struct puppet *p, char byte);
char puppet_said(const struct puppet *p); /* 0: nothing for a long while, or the end */
bool puppet_read(const struct puppet *p, void *buffer, size_t size);
/* Waits until the process is in that state according to /proc. */
void puppet_await_state(const struct puppet *p, char state);

/* These run in the puppet. */
char puppet_told(int in); /* exits at the end */
void puppet_say(int out, char byte);
void puppet_pause(int in, int out);
