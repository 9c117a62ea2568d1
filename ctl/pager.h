/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/ctxctl.h"

/* Standard output through $SYSTEMD_PAGER, $PAGER or less, where it is a terminal and --no-pager was not
 * given. */
void pager_open(struct ctl *ctl);
/* Flushes, and waits until the reader has closed the pager. */
void pager_close(void);
/* Flushes, so that a message on standard error comes after what was printed. */
void pager_pause(void);
