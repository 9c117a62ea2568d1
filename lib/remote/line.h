/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/remote/client.h"

/* A connection to the daemon on which a signal handler may ask, whatever it has interrupted (line.c): nothing
 * here allocates with malloc(), takes a lock, or waits for another thread. */

struct line;

/* The client has a connection, and its lock is held: opens the first line, with what this process may do now.
 * It waits for nothing. is_another: the daemon is not the one that it had before. */
void line_prepare(struct ctx_client *client, bool is_another);
/* A context was made, which a handler may cancel: sees to it that there is a line, or a thread that tells the
 * daemon what the handler cannot. Not in a handler. */
void line_keep_ready(struct ctx_client *client);
/* The client goes. */
void line_free_all(struct ctx_client *client);

/* A line for the caller alone, until it gives it back. NULL: there is no way to the daemon. */
struct line *line_take(struct ctx_client *client);
void line_give(struct ctx_client *client, struct line *line);
/* The same without asking those that were given back. */
struct line *line_open_new(struct ctx_client *client);
/* Instead of giving it back: it leads to another daemon. */
void line_drop(struct line *line);
/* The epoch of the daemon at the other end. 1; 0: it does not answer; or a negative errno: the line has
 * ended. */
int line_epoch(struct line *line, uint64_t *ret);

/* Calls a method with the arguments "s" (reference), "ss" (and an empty text) or "sb" (and false). 1 with the
 * answer, which is read with the functions below; 0: the daemon says nothing any more; -ECONNRESET: the line
 * has ended; or the errno that stands for the daemon's error, whose text is kept for ctx_client_error(). */
int line_call(struct ctx_client *client, struct line *line, const char *member, const char *types,
                const char *reference);
/* The error was that this needs an authorization that a person can give. */
bool line_wants_authorization(const struct line *line);
/* As line_call(), and a person may be asked for it, on a line of its own to the bus, which
 * line_give() closes. *ret may be NULL. */
int line_call_interactively(struct ctx_client *client, const char *member, const char *types,
                const char *reference, struct line **ret);

/* The next value of the answer; 0 or "" if it has none. */
uint32_t line_read_u32(struct line *line);
uint64_t line_read_u64(struct line *line);
const char *line_read_string(struct line *line);

/* If the daemon says nothing for so long, not even to a ping, it counts as one that does not answer. */
#define LINE_SILENCE_USEC UINT64_C(500000)
#define LINE_PING_USEC UINT64_C(100000)
