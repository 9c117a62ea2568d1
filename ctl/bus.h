/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <systemd/sd-bus.h>

#include "ctl/ctxctl.h"

/* Calls of the daemon. A function here returns 0, or a positive exit status after it has printed the
 * error; the text is the daemon's where it sent one. */

/* From now on ctxd has so long to take our connection and to answer, and a second for each at least. */
void bus_answers_within(struct ctl *ctl, uint64_t usec);
/* Connects, if there is no connection yet. */
int bus_connect(struct ctl *ctl);
void bus_disconnect(struct ctl *ctl);
/* Also where ctxd ends the connection this descriptor shows it. */
int bus_fd(const struct ctl *ctl);
/* From now on an answer is waited for so long. */
void bus_wait_for_answers(struct ctl *ctl, uint64_t usec);

/* For whoever connects (line.c). The address that was given, or NULL; */
const char *bus_given_address(const struct ctl *ctl);
/* until when to wait for an answer, or to be connected, of CLOCK_MONOTONIC; */
uint64_t bus_answers_until(const struct ctl *ctl);
uint64_t bus_connects_until(const struct ctl *ctl);
/* 0, or a positive exit status after an error message; */
int bus_has_reached(struct ctl *ctl, const char *address);
/* the exit status, after an error message: why it is that ctxd cannot be reached. */
int bus_not_reached(const struct ctl *ctl, const char *why, int r);

/* Whether the daemon is the system's, or with --user the user's: not one at another address. */
bool bus_is_service(const struct ctl *ctl);

/* A call of org.ctxd1.Manager. */
int bus_call(struct ctl *ctl, sd_bus_message **ret_reply, const char *member, const char *types, ...);

/* Sends a call ahead: the next bus_call() with this member and this path alone waits for its reply. So
 * several calls whose order is known take the time of one. The path must stay where it is. */
void bus_send_ahead(struct ctl *ctl, const char *member, const char *path);

/* A call of org.ctxd1.Manager with options takes two steps, and the caller appends the arguments in
 * between. expected: the name of an error that the caller handles itself: it is not printed, and gives
 * BUS_EXPECTED. */
#define BUS_EXPECTED (-1)
int bus_message(struct ctl *ctl, sd_bus_message **ret, const char *member);
int bus_send(struct ctl *ctl, sd_bus_message *m, const char *expected, sd_bus_message **ret_reply);

/* All properties of an interface, for sd_bus_message_enter_container(m, 'a', "{sv}"). */
int bus_properties(struct ctl *ctl, const char *object, const char *interface, const char *expected,
                sd_bus_message **ret_reply);

/* A property of org.ctxd1.Manager that is a text; the caller frees it. */
int bus_property(struct ctl *ctl, const char *name, char **ret);

/* These print an error and return the exit status: a call failed, */
int bus_failed(const struct ctl *ctl, const sd_bus_error *error, int r);
/* the arguments of a call cannot be sent, since they are not UTF-8, for example, */
int bus_bad_arguments(int r);
/* a reply cannot be read, or memory ran out. */
int bus_broken(int r);

#define _cleanup_message_ _cleanup_(sd_bus_message_unrefp)
#define _cleanup_error_ _cleanup_(sd_bus_error_free)
