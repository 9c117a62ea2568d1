/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/attach.h"
#include "ctl/contexts.h"
#include "ctl/create.h"
#include "ctl/ctxctl.h"

/* A connection to the daemon with messages that are made by hand, for what nearly every ctxctl run asks: it
 * saves the time to load libsystemd, which is longer than all of that. What it can do, bus.h does as well. So
 * whoever has a ctl->line asks here first, and there if that gives LINE_REFUSED: the daemon has answered with
 * an error, or the call cannot be made by hand. Nothing was printed then, and nothing done. */

#define LINE_REFUSED (-2)

struct line;

/* Connects. If there is no ctl->line afterwards, bus_connect() has to be tried. 0, or a positive exit status
 * after an error message. */
int line_open(struct ctl *ctl);
/* The daemon has the end of this connection for ours. */
void line_close(struct ctl *ctl);
int line_fd(const struct line *line);

/* 0, LINE_REFUSED, or a positive exit status after an error message. */
int line_create(struct ctl *ctl, const char *path, const struct create_arguments *arguments,
                char *ret_reference, bool *ret_made);
int line_attach(struct ctl *ctl, const char *path, int pidfd, const struct attach_arguments *arguments);
int line_end(struct ctl *ctl, const char *path, const char **ret_err, int *ret_code, const char **ret_cause);
int line_handle(struct ctl *ctl, const char *member, const char *path, int *ret_fd);
/* A call with one text, or with two, and whose answer says nothing. */
int line_call(struct ctl *ctl, const char *member, const char *path, const char *reason);
/* As bus_send_ahead(). */
void line_send_ahead(struct ctl *ctl, const char *member, const char *path);
