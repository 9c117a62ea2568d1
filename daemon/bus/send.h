/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* How many bytes are sent to one client before others are served. */
#define SEND_TURN (64 * 1024)

/* From here until send_end() at most that many are sent to fd. */
void send_begin(int fd);
/* The same, but they are dropped: nobody will read them. */
void send_begin_nowhere(int fd);
/* How many they were. */
uint64_t send_end(void);

/* Whether the kernel sends descriptors, such as this one: 0; -ETOOMANYREFS: processes of our user have sent
 * too many that were not received yet; or another -errno. */
int send_try(int fd);
