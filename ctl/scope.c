/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "util/cgroup.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/bus.h"
#include "ctl/scope.h"
#include "proto/path.h"

/* Does what systemd-run --scope does, but for a child that waits: it is in the scope before it is a member
 * of the context, and before it executes the command.
 *
 * For root the system's service manager makes the scope; for other users, and with --user, the user's own
 * one does. Each manager lets its own user make scopes, and kill their processes through the control
 * group. */

#define SYSTEMD "org.freedesktop.systemd1"
#define SYSTEMD_OBJECT "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER SYSTEMD ".Manager"
#define JOB_PATIENCE_USEC UINT64_C(60000000)
#define UNIT_ROOM 32 /* for "-ID-PID.scope" */

/* systemd has a socket of its own, which needs no bus. */
static int open_private(const char *directory, sd_bus **ret)
{
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        char address[512];
        int r;

        if (snprintf(address, sizeof address, "unix:path=%s/systemd/private", directory) >=
                        (int) sizeof address)
                return -ENAMETOOLONG;
        r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, address);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r >= 0)
                *ret = TAKE_PTR(bus);
        return r;
}

static int open_manager(bool user, sd_bus **ret)
{
        const char *directory = user ? secure_getenv("XDG_RUNTIME_DIR") : "/run";

        if (directory && open_private(directory, ret) >= 0)
                return 0;
        return user ? sd_bus_open_user(ret) : sd_bus_open_system(ret);
}

/* Escapes a path as systemd-escape does, and cuts it to fit. */
static void escape_path(const char *path, size_t length, char *to, size_t room)
{
        static const char plain[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:_.";

        for (size_t i = 0; i < length; i++) {
                bool is_plain = path[i] == '/' || strchr(plain, path[i]);

                if (room <= (is_plain ? 1 : 4))
                        break;
                if (is_plain)
                        *to++ = path[i] == '/' ? '-' : path[i];
                else
                        to += sprintf(to, "\\x%02x", (unsigned) (unsigned char) path[i]);
                room -= is_plain ? 1 : 4;
        }
        *to = '\0';
}

/* "ctxd-PATH-ID.scope". Another daemon may have a context of the same name; then pid is not 0 and is
 * added. */
static void name_unit(struct scope *scope, const char *reference, pid_t pid)
{
        const char *id = strrchr(reference, '#');
        size_t length = id ? (size_t) (id - reference) : strlen(reference);
        char path[sizeof scope->unit - UNIT_ROOM - sizeof "ctxd-"], number[16] = "";

        escape_path(reference, length, path, sizeof path);
        if (pid > 0)
                snprintf(number, sizeof number, "-%d", (int) pid);
        snprintf(scope->unit, sizeof scope->unit, "ctxd-%s-%s%s.scope", path, id ? id + 1 : "0", number);
}

static void describe(const char *reference, char *const command[], char *text, size_t size)
{
        int n = snprintf(text, size, "[%s]", reference);

        for (; *command && n > 0 && (size_t) n < size - 1; command++)
                n += snprintf(text + n, size - (size_t) n, " %s", *command);
        /* Lists show it, and D-Bus accepts only UTF-8. */
        for (; *text; text++)
                if (*text < ' ' || *text > '~')
                        *text = '?';
}

static int append_properties(
                sd_bus_message *m, const char *description, pid_t pid, const struct attach_arguments *attach)
{
        int r;

        if ((r = sd_bus_message_open_container(m, 'a', "(sv)")) < 0 ||
                        (r = sd_bus_message_append(m, "(sv)", "Description", "s", description)) < 0 ||
                        (r = sd_bus_message_append(m, "(sv)", "PIDs", "au", 1, (uint32_t) pid)) < 0 ||
                        /* systemd forgets the unit when it ends, also if it fails. */
                        (r = sd_bus_message_append(m, "(sv)", "CollectMode", "s", "inactive-or-failed")) < 0)
                return r;
        /* For `systemctl stop`, and for the shutdown of the system. */
        if (attach->signal > 0 && (r = sd_bus_message_append(m, "(sv)", "KillSignal", "i",
                                                   (int32_t) attach->signal)) < 0)
                return r;
        if (attach->kill_after_usec != UINT64_MAX && (r = sd_bus_message_append(m, "(sv)", "TimeoutStopUSec",
                                                                      "t", attach->kill_after_usec)) < 0)
                return r;
        return sd_bus_message_close_container(m);
}

struct job {
        char *path;
        char *result; /* NULL until the job has ended */
};

static int job_removed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
        struct job *job = userdata;
        const char *path, *result;

        if (job->path && !job->result && sd_bus_message_read(m, "uoss", NULL, &path, NULL, &result) >= 0 &&
                        strcmp(path, job->path) == 0)
                job->result = strdup(result);
        return 0;
}

static int request_scope(sd_bus *bus, const struct scope *scope, const char *description, pid_t pid,
                const struct attach_arguments *attach, struct job *job, sd_bus_error *error)
{
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;
        const char *path;
        int r;

        r = sd_bus_message_new_method_call(
                        bus, &m, SYSTEMD, SYSTEMD_OBJECT, SYSTEMD_MANAGER, "StartTransientUnit");
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", scope->unit, "fail");
        if (r >= 0)
                r = append_properties(m, description, pid, attach);
        if (r >= 0)
                r = sd_bus_message_append(m, "a(sa(sv))", 0);
        if (r >= 0)
                r = sd_bus_call(bus, m, JOB_PATIENCE_USEC, error, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return r;
        job->path = strdup(path);
        return job->path ? 0 : -ENOMEM;
}

static int wait_for_job(sd_bus *bus, const struct job *job)
{
        uint64_t end_usec = now_boottime_usec() + JOB_PATIENCE_USEC, now_usec;
        int r;

        while (!job->result) {
                r = sd_bus_process(bus, NULL);
                if (r < 0)
                        return r;
                if (r > 0)
                        continue;
                now_usec = now_boottime_usec();
                if (now_usec >= end_usec)
                        return -ETIMEDOUT;
                r = sd_bus_wait(bus, end_usec - now_usec);
                if (r < 0 && r != -EINTR)
                        return r;
        }
        return strcmp(job->result, "done") == 0 ? 0 : -ECANCELED;
}

/* For $INVOCATION_ID, which systemd-run sets as well. The command also runs without it. */
static void read_invocation(sd_bus *bus, struct scope *scope)
{
        _cleanup_message_ sd_bus_message *unit = NULL, *reply = NULL;
        const uint8_t *id;
        const char *path;
        size_t size;

        if (sd_bus_call_method(bus, SYSTEMD, SYSTEMD_OBJECT, SYSTEMD_MANAGER, "GetUnit", NULL, &unit, "s",
                            scope->unit) < 0 ||
                        sd_bus_message_read(unit, "o", &path) < 0 ||
                        sd_bus_get_property(bus, SYSTEMD, path, SYSTEMD ".Unit", "InvocationID", NULL, &reply,
                                        "ay") < 0 ||
                        sd_bus_message_read_array(reply, 'y', (const void **) &id, &size) < 0 || size != 16)
                return;
        for (size_t i = 0; i < size; i++)
                sprintf(scope->invocation + 2 * i, "%02x", id[i]);
}

/* Asks the kernel for the control group of the process, and checks that it is the scope's. */
static int find_group(struct scope *scope, pid_t pid)
{
        const char *last;
        int r;

        r = cgroup_of(pid, &scope->directory);
        if (r < 0)
                return r;
        last = strrchr(scope->directory, '/');
        if (!last || strcmp(last + 1, scope->unit) != 0)
                return -ENOENT;
        scope->events = cgroup_events_open(scope->directory);
        return scope->events < 0 ? scope->events : 0;
}

static int start_on(sd_bus *bus, const char *reference, pid_t pid, char *const command[],
                const struct attach_arguments *attach, struct scope *scope)
{
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        char description[512];
        struct job job = {};
        int r;

        describe(reference, command, description, sizeof description);
        name_unit(scope, reference, 0);
        r = sd_bus_match_signal(
                        bus, NULL, NULL, SYSTEMD_OBJECT, SYSTEMD_MANAGER, "JobRemoved", job_removed, &job);
        if (r >= 0)
                r = request_scope(bus, scope, description, pid, attach, &job, &error);
        if (r == -EEXIST) {
                sd_bus_error_free(&error);
                name_unit(scope, reference, pid);
                r = request_scope(bus, scope, description, pid, attach, &job, &error);
        }
        if (r >= 0)
                r = wait_for_job(bus, &job);
        free(job.path);
        free(job.result);
        if (r < 0) {
                print_error("systemd does not make a scope for the command: %s",
                                error.message     ? error.message
                                : r == -ECANCELED ? "its job has failed"
                                                  : strerror(-r));
                return EXIT_RUN_FAILED;
        }
        r = find_group(scope, pid);
        if (r < 0) {
                print_error("the command is not in the control group of %s: %s", scope->unit, strerror(-r));
                return EXIT_RUN_FAILED;
        }
        read_invocation(bus, scope);
        return 0;
}

int scope_start(struct ctl *ctl, const char *reference, pid_t pid, char *const command[],
                const struct attach_arguments *attach, struct scope *scope)
{
        bool user = ctl->user || geteuid() != 0;
        sd_bus *bus = NULL;
        int r;

        if (sd_booted() <= 0) {
                print_error("--scope needs systemd, which is not running here");
                return EXIT_RUN_FAILED;
        }
        r = open_manager(user, &bus);
        if (r < 0) {
                print_error("cannot reach %s for --scope: %s",
                                user ? "your service manager (systemd --user)" : "systemd", strerror(-r));
                return EXIT_RUN_FAILED;
        }
        r = start_on(bus, reference, pid, command, attach, scope);
        sd_bus_flush_close_unref(bus);
        return r;
}

bool scope_populated(const struct scope *scope)
{
        return cgroup_events_populated(scope->events) == 1;
}

int scope_kill(const struct scope *scope)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;

        if (asprintf(&path, "%s/cgroup.kill", scope->directory) < 0)
                return -ENOMEM;
        fd = open(path, O_WRONLY | O_CLOEXEC);
        return fd < 0 || write(fd, "1", 1) != 1 ? -errno : 0;
}

void scope_deinit(struct scope *scope)
{
        free(scope->directory);
        closep(&scope->events);
        *scope = (struct scope) SCOPE;
}
