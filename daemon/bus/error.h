/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "daemon/model/tree.h"

/* Errors of the model become errors by name here, and nowhere else. Each sentence says what was wrong, and where it
 * can, what to do. All return what a method handler returns for its caller to be told. */

int error_refused(sd_bus_error *error, const struct refused *refused, int r);
/* What error_refused() logs of a limit, where there is nobody to answer. */
void error_log_refusal(const struct refused *refused);
int error_invalid_args(sd_bus_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* From sd_bus_message_read() and its kin. */
int error_malformed(sd_bus_error *error, int r);
/* Nobody but polkit could allow it, and polkit would ask a person. Says the same of what is another's as of what is
 * not there. */
int error_interactive(sd_bus_error *error, bool direct);
int error_gone(sd_bus_error *error); /* whoever asks cannot be asked about any more */
int error_no_such_process(sd_bus_error *error, const char *what);
