/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* D-Bus messages by hand, in memory of the caller's: for whoever may not call libsystemd (lib/remote/line.c),
 * or does not want to load it (ctl/line.c). */

struct wire {
        uint8_t *data;
        size_t size;
        size_t at;                  /* where the next value is written or read */
        bool is_over;               /* there was no room, or no such value */
        size_t from, body, options; /* where the message begins that is being written, and the parts of it */
};

/* A method call. types says what follows in the body, which wire_put_call() writes as well if it is "", "s",
 * "ss" or "sb" (see line_call() of lib/remote/line.h). */
struct wire_call {
        const char *destination, *path, *interface, *member;
        const char *types, *text;
        uint32_t serial;
        uint8_t flags;  /* of the header */
        uint32_t n_fds; /* that are sent along */
};

#define WIRE_NO_AUTO_START 0x2
#define WIRE_INTERACTIVE 0x4

/* Appends text that is no part of a message, or the message. */
void wire_put_text(struct wire *w, const char *text, size_t n);
void wire_put_call(struct wire *w, const struct wire_call *call);

/* The same in steps: what is between the two is the body. */
void wire_begin_call(struct wire *w, const struct wire_call *call);
void wire_end_call(struct wire *w);
/* Of the types b, h, i and u; t; s. */
void wire_put_u32(struct wire *w, uint32_t value);
void wire_put_u64(struct wire *w, uint64_t value);
void wire_put_string(struct wire *w, const char *text);
/* a{sv}. After the name of an option comes its value, of that type. */
void wire_open_options(struct wire *w);
void wire_put_option(struct wire *w, const char *name, const char *type);
void wire_close_options(struct wire *w);

/* What of a message is needed here. The strings and the body are in the buffer that it was read from. */
struct wire_message {
        size_t size;
        bool is_error, is_answer;
        uint32_t reply_serial;
        const char *error, *sender, *types;
        struct wire body;
};

/* How long the message is that begins there; 0: that is not known yet; SIZE_MAX: it is none. */
size_t wire_size(const uint8_t *data, size_t n);
/* Reads a whole message. false: it is malformed. */
bool wire_read(uint8_t *data, size_t size, struct wire_message *ret);

uint32_t wire_get_u32(struct wire *w);
uint64_t wire_get_u64(struct wire *w);
const char *wire_get_string(struct wire *w);
