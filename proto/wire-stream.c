/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "proto/wire-stream.h"

void wire_put_hello(struct wire *w, uint32_t serial)
{
        static const char text[] = "\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";

        wire_put_text(w, text, sizeof text - 1);
        wire_put_call(w, &(struct wire_call){.destination = "org.freedesktop.DBus",
                                         .path = "/org/freedesktop/DBus",
                                         .interface = "org.freedesktop.DBus",
                                         .member = "Hello",
                                         .types = "",
                                         .serial = serial});
}

static void consume(struct wire_stream *s, size_t n)
{
        s->n -= n;
        memmove(s->in, s->in + n, s->n);
}

/* The answers to the lines of text. 1: that was all. */
static int read_text(struct wire_stream *s)
{
        uint8_t *end;

        while ((end = memchr(s->in, '\n', s->n))) {
                bool is_last = s->in[0] == 'A'; /* AGREE_UNIX_FD */

                if (s->in[0] == 'R' || s->in[0] == 'E') /* REJECTED, ERROR */
                        return -ECONNRESET;
                consume(s, (size_t) (end - s->in) + 1);
                if (is_last)
                        return 1;
        }
        return 0;
}

int wire_stream_take(struct wire_stream *s)
{
        size_t size, n;

        if (!s->has_begun) {
                int r = read_text(s);

                if (r <= 0)
                        return r;
                s->has_begun = true;
        }
        consume(s, s->used);
        s->used = 0;
        n = s->to_skip < s->n ? s->to_skip : s->n;
        consume(s, n);
        s->to_skip -= n;
        size = s->to_skip > 0 ? 0 : wire_size(s->in, s->n);
        if (size == SIZE_MAX)
                return -ECONNRESET;
        if (size > sizeof s->in) { /* no answer that is expected here */
                s->to_skip = size;
                return wire_stream_take(s);
        }
        if (size == 0 || size > s->n)
                return 0;
        s->used = size;
        return wire_read(s->in, size, &s->message) ? 1 : -ECONNRESET;
}
