/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "daemon/model/tree.h"

/* This is the only place where an error of the model becomes a D-Bus error with a name. Each sentence says
 * what was wrong and, where it can, what to do. All functions return what a method handler has to return, so
 * that sd-bus sends the error. */

int error_refused(sd_bus_error *error, const struct refused *refused, int r);
/* Logs a limit as error_refused() does, where there is nobody to answer. */
void error_log_refusal(const struct refused *refused);
int error_invalid_args(sd_bus_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* For an error of sd_bus_message_read() and similar functions. */
int error_malformed(sd_bus_error *error, int r);
/* Only polkit could allow the call, and polkit would ask a person. The sentence is the same for a context of
 * somebody else and for one that does not exist. */
int error_interactive(sd_bus_error *error, bool direct);
int error_gone(sd_bus_error *error); /* whoever asks cannot be asked about any more */
int error_busy(sd_bus_error *error); /* a process cannot be looked at now (util/proc-reader.h) */
/* One of the two, by what peer_process() has returned. */
int error_caller(sd_bus_error *error, int r);
int error_too_deep(sd_bus_error *error);
int error_no_such_process(sd_bus_error *error, const char *what);
