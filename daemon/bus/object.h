/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "daemon/model/tree.h"
#include "proto/path.h"

/* For a call to a context's own object: the privilege (enum privilege) that the caller lacks to find that
 * context, and which context it is. 0: it lacks none, or none would help, or the call is not for such an
 * object. */
unsigned object_privilege(struct tree *t, const struct caller *caller, sd_bus_message *m,
                struct reference *ret_reference);
