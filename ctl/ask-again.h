/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/ctxctl.h"

/* A call that was answered with InteractiveAuthorizationRequired, once more: over the system bus, where polkit can be
 * asked, and with leave to ask whoever sits there, unless --no-ask-password says not to. On a terminal polkit's own
 * agent does so. Returns what sd_bus_call() does. */
int ask_again(struct ctl *ctl, sd_bus_message *m, sd_bus_message **ret_reply, sd_bus_error *error);

/* At the end. */
void ask_again_done(struct ctl *ctl);
