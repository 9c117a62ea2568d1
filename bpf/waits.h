/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "bpf/sample.h"

struct probe;

/* The texts of a report: the system call of a thread, what it waits on, and why a signal has not ended it.
 * A text is empty if nothing is known. */
/* A process chooses its own name and its paths, and they get to a terminal. So '?' takes the place of each
 * control character. */
void waits_make_printable(char *text);
/* "name[17]" */
void waits_name_process(int pid, char *ret, size_t size);
void waits_syscall(const struct sample *sample, char *ret, size_t size);
void waits_on(struct probe *probe, const struct evidence *evidence, char *ret, size_t size);
void waits_why(struct probe *probe, const struct sample *sample, char *ret, size_t size);
