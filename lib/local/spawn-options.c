/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "lib/local/options.h"
#include "lib/local/spawn-options.h"

int spawn_take_options(
                const struct ctx_spawn_options *options, int default_signal, struct ctx_spawn_options *ret)
{
        int r = 0;

        *ret = (struct ctx_spawn_options) CTX_SPAWN_OPTIONS;
        if (options)
                r = options_take(options, CTX_SPAWN_OPTIONS_SIZE_VER0, ret, sizeof *ret);
        if (r < 0)
                return r;
        if (ret->signal == CTX_SIGNAL_DEFAULT)
                ret->signal = default_signal;
        if (ret->flags & ~(uint64_t) CTX_SPAWN_TREE)
                return -EINVAL;
        return ret->signal < 0 || ret->signal > SIGRTMAX ? -EINVAL : 0;
}
