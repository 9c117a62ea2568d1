/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "bpf/sample.h"

struct probe;

/* The texts of a report: what a thread does, on what, and why the signal did not end it. Empty where it is
 * not known. */
/* What a process says of itself (its name, a path) is not let loose on a terminal: '?' for what controls one.
 */
void waits_make_printable(char *text);
void waits_syscall(const struct sample *sample, char *ret, size_t size);
void waits_on(struct probe *probe, const struct evidence *evidence, char *ret, size_t size);
void waits_why(struct probe *probe, const struct sample *sample, char *ret, size_t size);
