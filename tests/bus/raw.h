/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* D-Bus by hand, to say what no library would. Little-endian. */

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
void raw_end(struct raw *m);

/* A connection that has authenticated; -1 where it was turned away. */
int raw_connect(void);
void raw_write(int fd, const void *bytes, size_t n);
bool raw_send(int fd, const void *bytes, size_t n, const int *fds, size_t n_fds); /* false: it has hung up */
bool raw_is_closed(int fd); /* by the other side, within a wide bound; what comes before it is lost */

/* Reads one message: its type (2: reply, 3: error, 4: signal), 0 at the end of the connection. The error's
 * name goes into name. */
int raw_read(int fd, char name[128]);
