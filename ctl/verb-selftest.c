/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/printable.h"
#include "ctl/attach.h"
#include "ctl/bus.h"
#include "ctl/create.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/leak.h"
#include "ctl/parse.h"
#include "ctl/terminal.h"

/* Makes a leak and checks that it is found. The leak is a child, the member of a context of its own, that
 * ignores SIGTERM and is blocked in a read from a pipe to which nobody writes. Only where this passes does
 * "0 leaks" mean that there are none. */

#define GRACE_USEC 500000
#define WAIT_USEC 30000000
#define LOOK_USEC 100000
#define PROBE_USEC 10000000 /* that a probe may take to come */
#define PROBE_PAUSE_USEC 50000

static const struct option options[] = {{"timeout", required_argument, NULL, 't'}, {}};

struct selftest {
        struct ctl *ctl;
        uint64_t timeout_usec;
        char reference[CTXD_PATH_ID_MAX + 1];
        pid_t pid;
        int pipe[2]; /* we keep the end for writing open, and write nothing */
        json_object *steps;
        json_object *leak; /* as it was reported */
};

/* Prints how a step went. Returns the exit status. */
__attribute__((format(printf, 3, 4))) static int step(struct selftest *t, bool ok, const char *format, ...)
{
        json_object *object;
        char text[4096], raw[4096];
        va_list ap;

        va_start(ap, format);
        vsnprintf(raw, sizeof raw, format, ap);
        va_end(ap);
        (void) printable(raw, false, text, sizeof text);
        if (t->ctl->json == JSON_OFF) {
                printf("%s%s%s %s\n", color_on(ok ? COLOR_GREEN : COLOR_RED), ok ? "[ OK ]" : "[FAIL]",
                                color_off(), text);
                fflush(stdout);
        } else {
                object = json_object_new_object();
                json_object_object_add(object, "ok", json_object_new_boolean(ok));
                json_add_text(object, "step", text);
                json_object_array_add(t->steps, object);
        }
        return ok ? EXIT_DONE : EXIT_FAILED;
}

/* Right after the daemon's start the probe is not there yet. */
static int await_probe(struct selftest *t, char **ret_backend, char **ret_reason)
{
        uint64_t end_usec = now_boottime_usec() + PROBE_USEC;
        int r;

        for (;;) {
                if ((r = bus_property(t->ctl, "ProbeBackend", ret_backend)) > 0 ||
                                (r = bus_property(t->ctl, "ProbeReason", ret_reason)) > 0)
                        return r;
                if ((strcmp(*ret_reason, CTXD_REASON_NOT_CONNECTED) != 0 &&
                                    strcmp(*ret_reason, CTXD_REASON_NOT_ANSWERED) != 0) ||
                                now_boottime_usec() >= end_usec)
                        return 0;
                free(*ret_backend);
                free(*ret_reason);
                *ret_backend = *ret_reason = NULL;
                usleep(PROBE_PAUSE_USEC);
        }
}

static int check_service(struct selftest *t)
{
        _cleanup_free_ char *version = NULL, *members = NULL, *probe = NULL, *reason = NULL;
        int r;

        if ((r = bus_property(t->ctl, "Version", &version)) > 0 ||
                        (r = bus_property(t->ctl, "MembershipBackend", &members)) > 0 ||
                        (r = await_probe(t, &probe, &reason)) > 0)
                return r;
        step(t, true, "ctxd %s answers; it tracks members by %s", version, members);
        if (strcmp(probe, "off") == 0)
                return step(t, false, "the probe is not running, so nobody can find a leak: %s",
                                *reason ? reason : "it gave no reason");
        return step(t, true, "the probe is running (%s)%s%s", probe, *reason ? ", because " : "", reason);
}

static int make_context(struct selftest *t)
{
        struct create_arguments arguments = CREATE_ARGUMENTS;
        _cleanup_message_ sd_bus_message *reply = NULL;
        char path[64];
        int r;

        /* Only root and system users may create first labels. */
        snprintf(path, sizeof path, "%sctxctl-selftest-%d", getuid() < 1000 ? "" : "~/", getpid());
        arguments.bind_caller = true; /* so that it also ends if we are killed */
        arguments.has_grace = true;
        arguments.grace_usec = GRACE_USEC;
        arguments.description = "ctxctl selftest";
        r = create_context(t->ctl, path, &arguments, NULL, &reply);
        if (r == 0)
                r = create_reference(reply, t->reference);
        if (r > 0)
                return r;
        return step(t, true, "made context %s", t->reference);
}

/* In the child. The kernel kills it when we end, however we end. */
static _Noreturn void be_leak(const struct selftest *t, pid_t parent, int ready)
{
        sigset_t none;
        char byte;

        signal(SIGTERM, SIG_IGN);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || write(ready, "r", 1) != 1)
                _exit(1);
        for (;;)
                if (read(t->pipe[0], &byte, 1) >= 0)
                        _exit(1);
}

static int start_leak(struct selftest *t)
{
        struct attach_arguments arguments = {.has_signal = true,
                        .signal = SIGTERM,
                        .has_kill_after = true,
                        .kill_after_usec = UINT64_MAX};
        _cleanup_close_ int pidfd = -1;
        pid_t parent = getpid();
        int ready[2], r;
        char byte;

        if (pipe2(t->pipe, O_CLOEXEC) < 0 || pipe2(ready, O_CLOEXEC) < 0)
                return step(t, false, "cannot make a pipe: %s", strerror(errno));
        fflush(NULL);
        t->pid = fork();
        if (t->pid == 0)
                be_leak(t, parent, ready[1]);
        close(ready[1]);
        r = t->pid > 0 && read(ready[0], &byte, 1) == 1 ? 0 : -1;
        close(ready[0]);
        if (r == 0)
                pidfd = (int) syscall(SYS_pidfd_open, t->pid, 0);
        if (pidfd < 0)
                return step(t, false, "cannot start a process: %s", strerror(errno));
        r = attach_process(t->ctl, t->reference, pidfd, &arguments, NULL);
        if (r > 0)
                return r;
        return step(t, true, "process %d is a member; it ignores SIGTERM and is blocked in a read", t->pid);
}

static int cancel_context(struct selftest *t)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        uint32_t contexts, members;
        int r, first;

        r = bus_call(t->ctl, &reply, "Cancel", "ss", t->reference, "ctxctl selftest");
        if (r > 0)
                return r;
        r = sd_bus_message_read(reply, "buu", &first, &contexts, &members);
        if (r < 0)
                return bus_broken(r);
        return step(t, first && contexts == 1 && members == 1,
                        "canceled: %" PRIu32 " context done, %" PRIu32 " process has to leave", contexts,
                        members);
}

/* The report about our process, or NULL. *ret_status is a positive exit status if the daemon could not be
 * asked. */
static json_object *find_leak(struct selftest *t, int *ret_status)
{
        json_object *array = json_object_new_array(), *found = NULL;
        bool truncated;

        *ret_status = leaks_read(t->ctl, t->reference, array, &truncated);
        for (size_t i = 0; *ret_status == 0 && !found && i < json_object_array_length(array); i++) {
                json_object *leak = json_object_array_get_idx(array, i);

                if (json_get_number(leak, "OBJECT_PID") == (uint64_t) t->pid)
                        found = json_object_get(leak);
        }
        json_object_put(array);
        return found;
}

/* Waits until the report is there, or until it is marked as resolved. Negative: not in time. */
static int wait_for_leak(struct selftest *t, bool resolved, uint64_t *ret_took_usec)
{
        uint64_t start = now_boottime_usec();
        json_object *leak;
        int r;

        for (;;) {
                leak = find_leak(t, &r);
                *ret_took_usec = now_boottime_usec() - start;
                if (r > 0)
                        return r;
                if (leak && (!resolved || leak_is_resolved(leak))) {
                        json_object_put(t->leak);
                        t->leak = leak;
                        return 0;
                }
                json_object_put(leak);
                if (*ret_took_usec >= t->timeout_usec)
                        return -1;
                usleep(LOOK_USEC);
        }
}

static int check_report(struct selftest *t)
{
        char span[FORMAT_MAX];
        const char *call;
        uint64_t took, tid;
        int r = wait_for_leak(t, false, &took);

        if (r > 0)
                return r;
        if (r < 0)
                return step(t, false, "nothing was reported within %s: leaks are not found on this machine",
                                format_timespan(span, took));
        step(t, true, "reported after %s; the grace was %ums", format_timespan(span, took / 1000 * 1000),
                        GRACE_USEC / 1000);
        tid = json_get_number(t->leak, "CTXD_TID");
        if (tid != (uint64_t) t->pid)
                return step(t, false, "the report names thread %" PRIu64 ", not %d", tid, t->pid);
        if (strcmp(json_get_text(t->leak, "CTXD_LEAK"), "blocked") != 0)
                return step(t, false, "the report says '%s', not 'blocked'",
                                json_get_text(t->leak, "CTXD_LEAK"));
        call = json_get_text(t->leak, "CTXD_SYSCALL");
        if (strncmp(call, "read", 4) != 0 || (call[4] && call[4] != '('))
                return step(t, false, "the report names the system call '%s', not read", call);
        return step(t, true, "the report names process %d and its system call: %s", t->pid, call);
}

static int check_end(struct selftest *t)
{
        char span[FORMAT_MAX];
        uint64_t took;
        int r;

        kill(t->pid, SIGKILL);
        waitpid(t->pid, NULL, 0);
        r = wait_for_leak(t, true, &took);
        t->pid = 0;
        if (r > 0)
                return r;
        if (r < 0)
                return step(t, false, "the process was killed, but is still reported as a leak after %s",
                                format_timespan(span, took));
        return step(t, true, "the process was killed, and the report is marked as resolved");
}

static void clean_up(struct selftest *t)
{
        if (t->pid > 0) {
                kill(t->pid, SIGKILL);
                waitpid(t->pid, NULL, 0);
        }
        closep(&t->pipe[0]);
        closep(&t->pipe[1]);
        if (*t->reference) {
                t->ctl->missing_is_fine = true;
                bus_call(t->ctl, NULL, "Release", "s", t->reference);
        }
}

static int conclude(struct selftest *t, int status)
{
        json_object *object;

        if (t->ctl->json == JSON_OFF) {
                if (status == EXIT_DONE)
                        puts("Leaks are found on this machine.");
                return status;
        }
        object = json_object_new_object();
        json_object_object_add(object, "ok", json_object_new_boolean(status == EXIT_DONE));
        json_object_object_add(object, "steps", json_object_get(t->steps));
        json_object_object_add(object, "leak", json_object_get(t->leak));
        json_print(t->ctl, object);
        return status;
}

static int read_option(void *timeout_usec, int option)
{
        return read_timespan("--timeout", optarg, timeout_usec);
}

int verb_selftest(struct ctl *ctl, int argc, char *argv[])
{
        struct selftest t = {.ctl = ctl, .timeout_usec = WAIT_USEC, .pipe = {-1, -1}};
        int (*const steps[])(struct selftest * t) = {
                        check_service, make_context, start_leak, cancel_context, check_report, check_end};
        int r;

        if (!read_options(ctl, argc, argv, options, read_option, &t.timeout_usec, &r) ||
                        !count_arguments(ctl, argc, 0, 0, &r))
                return r;
        bus_answers_within(ctl, t.timeout_usec);
        t.steps = json_object_new_array();
        r = EXIT_DONE;
        for (size_t i = 0; i < ELEMENTSOF(steps) && r == EXIT_DONE; i++)
                r = steps[i](&t);
        clean_up(&t);
        r = conclude(&t, r == EXIT_DONE ? EXIT_DONE : EXIT_FAILED);
        json_object_put(t.leak);
        json_object_put(t.steps);
        return r;
}
