/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/ctxctl.h"

struct attach_arguments {
        bool has_signal, has_kill_after;
        int signal; /* 0: none */
        uint64_t kill_after_usec;
        bool quiet_done; /* AlreadyDone is not said, and gives -EALREADY */
};

/* Attach. 0, or a positive exit status after it has said why. */
int attach_process(struct ctl *ctl, const char *path, int pidfd, const struct attach_arguments *arguments);
