/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/ctxclient.h"

/* The options of ctx_spawn() (blocking/) and of ctx_attach() (remote/). */

/* Copies the options and fills in every default but that of kill_after_usec. 0, -EINVAL or -E2BIG. */
int spawn_take_options(
                const struct ctx_spawn_options *options, int default_signal, struct ctx_spawn_options *ret);
