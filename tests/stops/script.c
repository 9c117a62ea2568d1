/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "proto/names.h"
#include "util/cleanup.h"
#include "tests/harness/base.h"
#include "tests/harness/bus.h"
#include "tests/harness/process.h"
#include "tests/stops/script.h"

#define HOUR_USEC (UINT64_C(3600) * 1000000)

static const char *to; /* where ctxd serves */
static sd_bus *bus;
static bool was_lost; /* the connection, by the call before */

static sd_bus *connect_again(void)
{
        if (!bus || sd_bus_is_open(bus) <= 0) {
                sd_bus_flush_close_unref(bus);
                bus = bus_connect(to, false);
        }
        return bus;
}

/* Where the connection is lost nobody knows whether the call was carried out. */
static int call(sd_bus_message **ret, const char *method, const char *types, ...)
{
        va_list ap;
        int r;

        va_start(ap, types);
        r = sd_bus_call_methodv(connect_again(), CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, method,
                        NULL, ret, types, ap);
        va_end(ap);
        was_lost = r < 0 && sd_bus_is_open(bus) <= 0;
        return r;
}

static int ask_handle(const char *method, const char *path)
{
        sd_bus_message *reply;
        int fd = -1;

        if (call(&reply, method, "s", path) < 0)
                return -1;
        if (sd_bus_message_read(reply, "h", &fd) >= 0)
                fd = dup(fd);
        sd_bus_message_unref(reply);
        return fd;
}

/* How it ended: 0, or the code; -1: it cannot be known. */
static int ask_code(const char *path)
{
        sd_bus_message *reply;
        const char *err;
        int code = -1;

        if (call(&reply, "Err", "s", path) < 0)
                return -1;
        if (sd_bus_message_read(reply, "si", &err, &code) < 0)
                code = -1;
        sd_bus_message_unref(reply);
        return code;
}

static bool has_ended(pid_t pid)
{
        return waitpid(pid, NULL, WNOHANG) == pid;
}

void script_run(const char *address, struct ledger *l)
{
        int pidfd;

        *l = (struct ledger){.done = -1, .lifeline = -1, .drained = -1};
        to = address;
        l->member = sleeper(&pidfd);
        l->has_created = call(NULL, "Create", "sa{sv}", "stops/a", 3, "parents", "b", 1, "timeout-usec", "t",
                                         HOUR_USEC, "values", "a{ss}", 1, "org.example.a", "b") >= 0;
        l->done = ask_handle("Done", "stops/a");
        l->lifeline = ask_handle("Lifeline", "stops/a");
        l->has_attached = call(NULL, "Attach", "sha{sv}", "stops/a", pidfd, 1, "signal", "i", SIGTERM) >= 0;
        (void) call(NULL, "Subscribe", "s", "stops");
        (void) call(NULL, "Extend", "st", "stops/a", now_boottime_usec() + 2 * HOUR_USEC);
        (void) call(NULL, "List", "ssu", "stops", "", 10);
        (void) call(NULL, "Members", "su", "stops", 10);
        (void) call(NULL, "Values", "s", "stops/a");
        l->drained = ask_handle("Drained", "stops/a");
        l->has_canceled = call(NULL, "Cancel", "ss", "stops", "it is over") >= 0;
        (void) ask_code("stops/a");
        l->has_released = call(NULL, "Release", "s", "stops/a") >= 0 || was_lost;
        close(pidfd);
        bus = sd_bus_flush_close_unref(bus);
}

static const char *check_told(const struct ledger *l)
{
        int code = l->has_released ? -1 : ask_code("stops/a");

        if (l->has_created && !l->has_released && code < 0)
                return "a context that was made is not there";
        if (l->has_created && l->has_canceled && !l->has_released && code == 0)
                return "a context that was canceled is active";
        if (l->done >= 0 && l->has_canceled && !becomes_readable(l->done))
                return "a done handle is not readable after the cancel";
        if (l->has_attached && l->has_canceled && !HAPPENS(has_ended(l->member)))
                return "a member got no signal";
        if (l->drained >= 0 && l->has_canceled && l->has_attached && !becomes_readable(l->drained))
                return "a drained handle is not readable";
        return NULL;
}

/* The next calls work. */
static const char *check_next(void)
{
        const char *wrong = NULL;
        int fd, pidfd;
        pid_t pid = sleeper(&pidfd);

        if (call(NULL, "Create", "sa{sv}", "next/a", 1, "parents", "b", 1) < 0)
                return "the next Create fails";
        fd = ask_handle("Done", "next/a");
        if (fd < 0)
                wrong = "the next Done fails";
        else if (call(NULL, "Attach", "sha{sv}", "next/a", pidfd, 1, "signal", "i", SIGTERM) < 0)
                wrong = "the next Attach fails";
        else if (call(NULL, "Cancel", "ss", "next", "") < 0)
                wrong = "the next Cancel fails";
        else if (!becomes_readable(fd))
                wrong = "the next done handle is not readable";
        else if (!HAPPENS(has_ended(pid)))
                wrong = "the next member gets no signal";
        else if (call(NULL, "Release", "s", "next") < 0)
                wrong = "the next Release fails";
        closep(&fd);
        close(pidfd);
        return wrong;
}

const char *script_check(const char *address, struct ledger *l)
{
        const char *wrong;

        to = address;
        wrong = check_told(l);
        (void) call(NULL, "Cancel", "ss", "stops", "");
        (void) call(NULL, "Release", "s", "stops/a");
        (void) call(NULL, "Release", "s", "stops");
        if (kill(l->member, SIGKILL) == 0)
                (void) waitpid(l->member, NULL, 0);
        closep(&l->done);
        closep(&l->lifeline);
        closep(&l->drained);
        wrong = wrong ? wrong : check_next();
        bus = sd_bus_flush_close_unref(bus);
        return wrong;
}
