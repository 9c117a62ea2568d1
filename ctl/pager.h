/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/ctxctl.h"

/* If standard output is a terminal and --no-pager was not given, starts a pager ($SYSTEMD_PAGER, $PAGER or
 * less), and sends all later output through it. */
void pager_open(struct ctl *ctl);
/* Ends the output, and waits until the user has closed the pager. */
void pager_close(void);
