/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "proto/probe-record.h"

struct probe;

/* Chooses the backend that ctxd wants and the kernel allows, once: the capabilities that loading needs are
 * given up with it. kept: PROBE_FDS descriptors or NULL. Where BPF is refused, probe->reason says why, and
 * the journal too. */
int backend_choose(struct probe *probe, const struct probe_welcome *welcome, const int *kept, bool *ret_kept);
/* Whether the one that was chosen will do for a daemon that was started anew. If not, this process must end,
 * and the service manager starts another one, which has its capabilities. */
bool backend_fits(struct probe *probe, const struct probe_welcome *welcome, const int *kept);
