/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The names and limits that the daemon, the library, the tool and the probe agree on. */

#define CTXD_BUS_NAME "org.ctxd1"
#define CTXD_OBJECT "/org/ctxd1"
#define CTXD_CONTEXT_OBJECT "/org/ctxd1/context"
#define CTXD_MANAGER_INTERFACE "org.ctxd1.Manager"
#define CTXD_CONTEXT_INTERFACE "org.ctxd1.Context"

#define CTXD_ERROR_NO_SUCH_CONTEXT "org.ctxd1.Error.NoSuchContext"
#define CTXD_ERROR_EXISTS "org.ctxd1.Error.Exists"
#define CTXD_ERROR_INVALID_NAME "org.ctxd1.Error.InvalidName"
#define CTXD_ERROR_INVALID_KEY "org.ctxd1.Error.InvalidKey"
#define CTXD_ERROR_NOT_CANCELABLE "org.ctxd1.Error.NotCancelable"
#define CTXD_ERROR_ALREADY_DONE "org.ctxd1.Error.AlreadyDone"
#define CTXD_ERROR_ACCESS_DENIED "org.ctxd1.Error.AccessDenied"
#define CTXD_ERROR_LIMITS_EXCEEDED "org.ctxd1.Error.LimitsExceeded"
#define CTXD_ERROR_NO_SUCH_PROCESS "org.ctxd1.Error.NoSuchProcess"

/* Go's texts: what Err() says, and the cause where none was given. */
#define CTXD_ERR_CANCELED "context canceled"
#define CTXD_ERR_DEADLINE "context deadline exceeded"
/* The cause of what ended with the daemon. */
#define CTXD_CAUSE_STOPPED "ctxd was stopped"
#define CTXD_CAUSE_RELEASED "context released"

/* Where the service listens, and what tells a program of its daemon and its context. */
#define CTXD_SYSTEM_SOCKET "/run/ctxd/bus"
#define CTXD_PROBE_SOCKET "/run/ctxd/probe"
/* ProbeReason, while the probe comes. */
#define CTXD_REASON_NOT_CONNECTED "the probe has not connected yet"
#define CTXD_REASON_NOT_ANSWERED "the probe has not answered yet"
#define CTXD_ENV_ADDRESS "CTXD_ADDRESS"
#define CTXD_ENV_CONTEXT "CTXD_CONTEXT"

/* Sizes in bytes, without the final NUL. */
#define CTXD_LABEL_MAX 128
#define CTXD_PATH_MAX 1024
#define CTXD_LABELS_MAX 64
#define CTXD_PATH_ID_MAX (CTXD_PATH_MAX + 1 + 20) /* path#id */
#define CTXD_REASON_MAX 1024
#define CTXD_DESCRIPTION_MAX 1024
#define CTXD_KEY_MAX 255
#define CTXD_VALUES_MAX 64

/* No deadline, no limit, unknown: in every time that is passed around. */
#define CTXD_USEC_INFINITY UINT64_MAX
