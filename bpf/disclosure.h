/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

struct sample;
struct probe_watch;

/* Whether more than the fact may be told of a thread: its system call, what it waits on, why, and its stacks. This
 * is asked before any of it is read or kept, so it holds for the journal and for D-Bus alike. */
bool disclosure_is_allowed(const struct probe_watch *watch, const struct sample *sample);
