/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "proto/probe-record.h"

struct probe;

/* Chooses the backend that ctxd wants and the kernel allows. This can be done only once, since it gives up
 * the capabilities that loading needs. kept: PROBE_FDS descriptors or NULL. Where BPF is refused,
 * probe->reason and the journal say why. */
int backend_choose(struct probe *probe, const struct probe_welcome *welcome, const int *kept, bool *ret_kept);
/* Whether the chosen backend is right for a daemon that has been started again. If not, this process must
 * end: the service manager then starts another one, which has all capabilities. */
bool backend_fits(struct probe *probe, const struct probe_welcome *welcome, const int *kept);
