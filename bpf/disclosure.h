/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

struct sample;
struct probe_watch;

/* Who besides root may be told the system call of a thread, what it waits on, why it does not end, and its
 * stack: the user who sees that in /proc. PROBE_NOBODY: not even root is told, and the report says only
 * that the thread is there. The probe asks before it reads or keeps any of this, so nothing of it gets
 * anywhere. */
uint32_t disclosure_reader(const struct probe_watch *watch, const struct sample *sample);
