/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/ctxclient.h"

/* The options of ctx_spawn() and of ctx_attach(): the one is in blocking/, the other in remote/. */

/* A copy with every default filled in but that of kill-after. 0, -EINVAL or -E2BIG. */
int spawn_take_options(
                const struct ctx_spawn_options *options, int default_signal, struct ctx_spawn_options *ret);
