/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* D-Bus messages made by hand, so that a test can send what no library would send. Little-endian. */

struct raw {
        uint8_t bytes[256 * 1024];
        size_t n;
};

void raw_u8(struct raw *m, uint8_t value);
void raw_u32(struct raw *m, uint32_t value);
void raw_align(struct raw *m, size_t to);
void raw_string(struct raw *m, const void *text, size_t length);
void raw_text(struct raw *m, const char *text);

/* Begins a method call to the daemon; the body follows, then raw_end(). */
void raw_begin(struct raw *m, uint32_t serial, const char *path, const char *interface, const char *member,
                const char *signature);
/* The same for one that brings descriptors. */
void raw_begin_fds(struct raw *m, uint32_t serial, uint32_t n_fds, const char *path, const char *interface,
                const char *member, const char *signature);
void raw_end(struct raw *m);

/* Connects and authenticates. Returns -1 if the daemon refuses. */
int raw_connect(void);
void raw_write(int fd, const void *bytes, size_t n);
bool raw_send(int fd, const void *bytes, size_t n, const int *fds, size_t n_fds); /* false: it has hung up */
bool raw_is_closed(int fd); /* by the other side, within a wide bound; what comes before it is lost */

/* Reads one message and returns its type: 2 for a reply, 3 for an error, 4 for a signal, 0 at the end of
 * the connection. The name of an error goes into name. */
int raw_read(int fd, char name[128]);
