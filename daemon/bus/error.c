/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "util/clock.h"
#include "util/log.h"

#define LOG_INTERVAL_USEC (60 * UINT64_C(1000000))
#define LOG_BURST 20

/* The end of a sentence: "; KEY= in ctxd.conf raises it". Empty if there is no such key. */
static const char *raised_by(const struct refused *f, char *buffer, size_t size)
{
        if (!f->limit_key)
                return "";
        snprintf(buffer, size, "; %s= %s raises it", f->limit_key,
                        strncmp(f->limit_key, "Max", 3) == 0 ? "in ctxd.conf" : "of the daemon's unit");
        return buffer;
}

/* For each uid the first refusal of each kind is logged, for the administrator who may have to raise the
 * limit. Later ones are only answered. If many uids reach a limit at once, only some of them are logged. */
static void log_refusal(const struct refused *f)
{
        static uint64_t since_usec;
        static unsigned n;
        uint64_t now = now_boottime_usec();
        char raised[96];

        if (n == 0 || now - since_usec > LOG_INTERVAL_USEC) {
                if (n > LOG_BURST)
                        log_warning("%u more uids reached a limit", n - LOG_BURST);
                since_usec = now;
                n = 0;
        }
        if (n++ < LOG_BURST)
                log_warning("Uid %u reached the limit on %s: %" PRIu64 " of %" PRIu64 " in use%s", f->uid,
                                f->limit, f->used, f->allowed, raised_by(f, raised, sizeof raised));
}

void error_log_refusal(const struct refused *f)
{
        if (f->first)
                log_refusal(f);
}

int error_refused(sd_bus_error *error, const struct refused *f, int r)
{
        const char *detail = f->detail ? f->detail : "";
        char raised[96];

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
        case REFUSED_PROCESS:
                return sd_bus_error_set(error, CTXD_ERROR_ACCESS_DENIED, detail);
        case REFUSED_LIMIT:
                error_log_refusal(f);
                return sd_bus_error_setf(error, CTXD_ERROR_LIMITS_EXCEEDED,
                                "The limit on %s is reached: %" PRIu64 " of %" PRIu64 " in use%s",
                                f->limit ? f->limit : detail, f->used, f->allowed,
                                raised_by(f, raised, sizeof raised));
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
        return sd_bus_error_set(error, CTXD_ERROR_NO_SUCH_PROCESS,
                        "The calling process is gone, or in a pid namespace that the daemon does not see "
                        "into");
}

int error_busy(sd_bus_error *error)
{
        return sd_bus_error_set(error, "System.Error.EBUSY",
                        "The process cannot be looked at in /proc now: it is in the middle of execve(), or "
                        "of "
                        "its end, and others would have to wait for it. Try again later");
}

int error_caller(sd_bus_error *error, int r)
{
        return r == -EBUSY ? error_busy(error) : error_gone(error);
}

int error_too_deep(sd_bus_error *error)
{
        return sd_bus_error_set(error, CTXD_ERROR_LIMITS_EXCEEDED,
                        "The process has more ancestors than the daemon looks at, so it is not known of "
                        "which "
                        "context it is a member");
}

int error_no_such_process(sd_bus_error *error, const char *what)
{
        return sd_bus_error_set(error, CTXD_ERROR_NO_SUCH_PROCESS, what);
}
