/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/bus/error.h"

int error_refused(sd_bus_error *error, const struct refused *f, int r)
{
        const char *detail = f->detail ? f->detail : "";

        if (r >= 0)
                return r;
        if (r == -ENOMEM)
                return sd_bus_error_set(error, SD_BUS_ERROR_NO_MEMORY, "The daemon is out of memory");

        switch (f->reason) {
        case REFUSED_INVALID:
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS, detail);
        case REFUSED_NAME:
                return sd_bus_error_setf(
                                error, CTXD_ERROR_INVALID_NAME, "That is no name of a context: %s", detail);
        case REFUSED_KEY:
                return sd_bus_error_setf(
                                error, CTXD_ERROR_INVALID_KEY, "That is no key of a value: %s", detail);
        case REFUSED_NO_SUCH:
                return sd_bus_error_setf(
                                error, CTXD_ERROR_NO_SUCH_CONTEXT, "There is no context %s", f->path);
        case REFUSED_EXISTS:
                return sd_bus_error_setf(error, CTXD_ERROR_EXISTS, "Context %s is there already%s%s", f->path,
                                f->detail ? ": " : "", detail);
        case REFUSED_NOT_CANCELABLE:
                return sd_bus_error_set(error, CTXD_ERROR_NOT_CANCELABLE,
                                f->detail ? detail : "The background is never done: name a context below it");
        case REFUSED_DONE:
                return sd_bus_error_setf(error, CTXD_ERROR_ALREADY_DONE, "Context %s is done already%s%s",
                                f->path, f->detail ? ": " : "", detail);
        case REFUSED_ACCESS:
                return sd_bus_error_setf(error, CTXD_ERROR_ACCESS_DENIED,
                                "Access to context %s is denied%s%s", f->path, f->detail ? ": " : "", detail);
        case REFUSED_LIMIT:
                return sd_bus_error_setf(error, CTXD_ERROR_LIMITS_EXCEEDED,
                                "The limit on %s is reached: %" PRIu64 " of %" PRIu64 " in use%s%s%s",
                                f->limit ? f->limit : detail, f->used, f->allowed, f->limit_key ? "; " : "",
                                f->limit_key ? f->limit_key : "",
                                f->limit_key ? "= in ctxd.conf raises it" : "");
        }
        return sd_bus_error_set_errno(error, r);
}

int error_invalid_args(sd_bus_error *error, const char *format, ...)
{
        va_list ap;
        int r;

        va_start(ap, format);
        r = sd_bus_error_setfv(error, SD_BUS_ERROR_INVALID_ARGS, format, ap);
        va_end(ap);
        return r;
}

int error_malformed(sd_bus_error *error, int r)
{
        if (r == -ENOMEM)
                return sd_bus_error_set(error, SD_BUS_ERROR_NO_MEMORY, "The daemon is out of memory");
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                        "The arguments do not have the types that this member takes; busctl introspect shows "
                        "them");
}

int error_interactive(sd_bus_error *error, bool direct)
{
        return sd_bus_error_set(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                        direct ? "Authentication may be required for what is not yours: ask on the system bus"
                               : "Interactive authentication is required for what is not yours");
}

int error_gone(sd_bus_error *error)
{
        return sd_bus_error_set(
                        error, CTXD_ERROR_NO_SUCH_PROCESS, "The calling process is gone, or was never seen");
}

int error_no_such_process(sd_bus_error *error, const char *what)
{
        return sd_bus_error_set(error, CTXD_ERROR_NO_SUCH_PROCESS, what);
}
