/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#include "ctl/ctxctl.h"

enum handle_wait {
        HANDLE_TIME_IS_UP,
        HANDLE_READABLE,
        HANDLE_LOST, /* the connection has ended: nobody will write the handle any more */
};

/* Polls a handle that the daemon gave, and the connection beside it. enum handle_wait, or -errno. */
int handle_wait(struct ctl *ctl, int handle, uint64_t timeout_usec);
