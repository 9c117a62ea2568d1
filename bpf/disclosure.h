/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

struct sample;
struct probe_watch;

/* Whether a report about a thread may tell its system call, what it waits on, why it does not end, and its
 * stacks. If not, the report tells only that the thread is there. The probe asks before it reads or keeps
 * any of this, so the rule is the same for the journal and for D-Bus. */
bool disclosure_is_allowed(const struct probe_watch *watch, const struct sample *sample);
