/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CTXCLIENT_H
#define CTXCLIENT_H

/* libctxclient: contexts, as Go's package context has them, for C.
 *
 * A context says whether a piece of work should go on. This header includes all of the library's interface.
 * It has three parts, and each part also compiles alone:
 *
 *     <ctxclient/contexts.h>  contexts inside one process; begin here. It has the rules for all three parts.
 *     <ctxclient/blocking.h>  what a context ends: calls, locks, channels, groups of threads, children.
 *     <ctxclient/shared.h>    contexts that the daemon ctxd keeps for all processes of the host.
 *
 * doc/ABI.md in the source says what stays the same from one version to the next. */

#include "ctxclient/contexts.h"
#include "ctxclient/blocking.h"
#include "ctxclient/shared.h"

#endif
