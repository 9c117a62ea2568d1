/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "proto/wire.h"

/* What is said first on a connection, by hand, and what comes on it: a few lines of text, then messages. */

struct wire_stream {
        bool has_begun; /* after the lines of text */
        size_t n, used, to_skip;
        struct wire_message message; /* in what was read */
        uint8_t in[8192];
};

/* Authenticates, agrees to send descriptors, and says Hello to the bus. */
void wire_put_hello(struct wire *w, uint32_t serial);
/* After more was put to in + n. 1: a whole message is in `message`, until the next look; 0: none is yet;
 * -ECONNRESET: the other end does not want to speak with us. A message longer than `in` is thrown away. */
int wire_stream_take(struct wire_stream *s);
