/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How tests call the daemon and check its answers. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "harness.h"
#include "proto/path.h"

#define CALL_USEC (WIDE_SEC * UINT64_C(1000000))

sd_bus *connect_bus(void)
{
        return bus_connect(world.daemon.address, true);
}

int connect_socket(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_int_ge(fd, 0);
        if (world.daemon.system)
                strcpy(address.sun_path, CTXD_SYSTEM_SOCKET);
        else
                snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", world.daemon.directory,
                                world.transport == TRANSPORT_DIRECT ? "bus" : "ctxd/bus");
        if (connect(fd, (struct sockaddr *) &address, sizeof address) < 0) {
                int r = -errno;

                close(fd);
                return r;
        }
        return fd;
}

sd_bus_message *new_callv(sd_bus *b, const char *object, const char *interface, const char *member,
                const char *types, va_list ap)
{
        sd_bus_message *m;

        ck_assert_int_ge(sd_bus_message_new_method_call(b, &m, CTXD_BUS_NAME, object, interface, member), 0);
        if (types)
                ck_assert_int_ge(sd_bus_message_appendv(m, types, ap), 0);
        return m;
}

static sd_bus_message *vcall(sd_bus *b, const char *object, const char *interface, const char *member,
                const char *types, va_list ap, sd_bus_error *ret_error)
{
        _cleanup_message_ sd_bus_message *m = new_callv(b, object, interface, member, types, ap);

        return send_call(b, m, ret_error);
}

sd_bus_message *send_call(sd_bus *b, sd_bus_message *m, sd_bus_error *ret_error)
{
        sd_bus_message *reply = NULL;

        return sd_bus_call(b, m, CALL_USEC, ret_error, &reply) < 0 ? NULL : reply;
}

static sd_bus_message *vcall_ok(struct where w, sd_bus *b, const char *object, const char *interface,
                const char *member, const char *types, va_list ap)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = vcall(b, object, interface, member, types, ap, &error);

        if (!reply)
                _ck_assert_failed(w.file, w.line, member, "%s was refused: %s: %s", member, error.name,
                                error.message);
        sd_bus_error_free(&error);
        return reply;
}

sd_bus_message *call(struct where w, sd_bus *b, const char *object, const char *interface, const char *member,
                const char *types, ...)
{
        sd_bus_message *reply;
        va_list ap;

        va_start(ap, types);
        reply = vcall_ok(w, b, object, interface, member, types, ap);
        va_end(ap);
        return reply;
}

void call_ok(struct where w, sd_bus *b, const char *object, const char *interface, const char *member,
                const char *types, ...)
{
        va_list ap;

        va_start(ap, types);
        sd_bus_message_unref(vcall_ok(w, b, object, interface, member, types, ap));
        va_end(ap);
}

void call_fails(struct where w, bool nothing_changes, sd_bus *b, const char *name, const char *object,
                const char *interface, const char *member, const char *types, ...)
{
        _cleanup_free_ char *before = nothing_changes ? snapshot(b) : NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *reply = NULL;
        va_list ap;

        va_start(ap, types);
        reply = vcall(b, object, interface, member, types, ap, &error);
        va_end(ap);
        if (reply)
                _ck_assert_failed(w.file, w.line, member, "%s was not refused, but should be with %s", member,
                                name);
        if (strcmp(error.name, name) != 0)
                _ck_assert_failed(w.file, w.line, member, "%s was refused with %s: %s, not with %s", member,
                                error.name, error.message, name);
        if (!error.message || strlen(error.message) < 10)
                _ck_assert_failed(w.file, w.line, member, "%s: %s says nothing", member, error.name);
        if (strstr(error.message, "  "))
                _ck_assert_failed(w.file, w.line, member, "%s: a word is missing in: %s", member,
                                error.message);
        if (nothing_changes) {
                _cleanup_free_ char *after = snapshot(b);

                if (strcmp(before, after) != 0)
                        _ck_assert_failed(w.file, w.line, member, "%s was refused, but changed:\n%s\nto:\n%s",
                                        member, before, after);
        }
}

uint64_t create(sd_bus *b, const char *path)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Create", "sa{sv}", path, 0);
        uint64_t id;

        READ(m, "sto", NULL, &id, NULL);
        return id;
}

bool cancel(sd_bus *b, const char *path, const char *reason)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Cancel", "ss", path, reason);
        int first;

        READ(m, "buu", &first, NULL, NULL);
        return first;
}

int code_of(sd_bus *b, const char *path)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Err", "s", path);
        int code;

        READ(m, "siis", NULL, &code, NULL, NULL);
        return code;
}

void expect_err(struct where w, sd_bus *b, const char *path, const char *err, int code, int error,
                const char *cause)
{
        _cleanup_message_ sd_bus_message *m =
                        call(w, b, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Err", "s", path);
        const char *found_err, *found_cause;
        int found_code, found_error;

        READ(m, "siis", &found_err, &found_code, &found_error, &found_cause);
        if (strcmp(err, found_err) != 0 || strcmp(cause, found_cause) != 0 || code != found_code ||
                        error != found_error)
                _ck_assert_failed(w.file, w.line, "Err",
                                "%s: \"%s\" %d %d \"%s\", but it is \"%s\" %d %d \"%s\"", path, err, code,
                                error, cause, found_err, found_code, found_error, found_cause);
}

static int descriptor_of(sd_bus *b, const char *member, const char *path)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, member, "s", path);
        int fd;

        READ(m, "h", &fd);
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        ck_assert_int_ge(fd, 0);
        return fd;
}

int done_handle(sd_bus *b, const char *path)
{
        return descriptor_of(b, "Done", path);
}

int lifeline_of(sd_bus *b, const char *path)
{
        return descriptor_of(b, "Lifeline", path);
}

char *object_of(const char *path)
{
        char *object;

        ck_assert_int_ge(path_to_object(path, &object), 0);
        return object;
}

uint64_t property_u64(sd_bus *b, const char *path, const char *name)
{
        _cleanup_free_ char *object = object_of(path);
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        uint64_t value;

        ck_assert_msg(sd_bus_get_property_trivial(b, CTXD_BUS_NAME, object, CTXD_CONTEXT_INTERFACE, name,
                                      &error, 't', &value) >= 0,
                        "%s of %s: %s", name, path, error.message);
        return value;
}

char *property_string(sd_bus *b, const char *path, const char *name)
{
        _cleanup_free_ char *object = object_of(path);
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        char *value;

        ck_assert_msg(sd_bus_get_property_string(b, CTXD_BUS_NAME, object, CTXD_CONTEXT_INTERFACE, name,
                                      &error, &value) >= 0,
                        "%s of %s: %s", name, path, error.message);
        return value;
}

/* Walks through List page by page and calls a function for each entry. */
static void each_listed(sd_bus *b, const char *prefix, FILE *f, unsigned *n)
{
        char after[CTXD_PATH_ID_MAX + 1] = "";
        int truncated = 1;

        while (truncated) {
                _cleanup_message_ sd_bus_message *m = CALL(b, "List", "ssu", prefix, after, 0);
                const char *path, *state, *cause;
                uint64_t id, deadline, created;

                ck_assert_int_gt(sd_bus_message_enter_container(m, 'a', "(ststts)"), 0);
                while (sd_bus_message_read(m, "(ststts)", &path, &id, &state, &deadline, &created, &cause) >
                                0) {
                        (*n)++;
                        snprintf(after, sizeof after, "%s#%" PRIu64, path, id);
                        if (f)
                                fprintf(f, "%s#%" PRIu64 " %s %" PRIu64 " %" PRIu64 " %s\n", path, id, state,
                                                deadline, created, cause);
                }
                ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
                READ(m, "b", &truncated);
        }
}

char *snapshot(sd_bus *b)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        char *text;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        unsigned n = 0;

        ck_assert_ptr_nonnull(f);
        each_listed(b, "/", f, &n);
        for (int i = 0; i < 2; i++) {
                const char *const names[] = {"Contexts", "Members"};
                uint32_t value;

                ck_assert_int_ge(sd_bus_get_property_trivial(b, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 CTXD_MANAGER_INTERFACE, names[i], &error, 'u', &value),
                                0);
                fprintf(f, "%s %" PRIu32 "\n", names[i], value);
                if (i == 0)
                        ck_assert_uint_eq(value, n);
        }
        fclose(f);
        return text;
}

unsigned count_listed(sd_bus *b, const char *prefix)
{
        unsigned n = 0;

        each_listed(b, prefix, NULL, &n);
        return n;
}

/* Returns the number of entries of the answer's array. */
unsigned length_of(sd_bus_message *m, const char *type)
{
        unsigned n = 0;

        ck_assert_int_ge(sd_bus_message_enter_container(m, 'a', type), 0);
        while (sd_bus_message_at_end(m, false) == 0) {
                ck_assert_int_ge(sd_bus_message_skip(m, type), 0);
                n++;
        }
        return n;
}

void expect_no_members(sd_bus *b, const char *path, pid_t pid)
{
        _cleanup_message_ sd_bus_message *processes = CALL(b, "Processes", "sbu", path, 1, 0),
                                         *preview = CALL(b, "Preview", "su", path, 0);
        uint32_t contexts, members;

        ck_assert_uint_eq(length_of(processes, "(utus)"), 0);
        READ(preview, "uu", &contexts, &members);
        ck_assert_uint_eq(members, 0);
        ck_assert_uint_eq(length_of(preview, "(uusst)"), 0);
        FAILS(b, CTXD_ERROR_NO_SUCH_PROCESS, "Process", "su", path, pid);
}

void work(sd_bus *b, unsigned n)
{
        static unsigned serial;

        for (unsigned i = 0; i < n; i++) {
                char path[64];
                int fd;

                snprintf(path, sizeof path, "~/work-%d-%u", (int) getpid(), ++serial);
                OK(b, "Create", "sa{sv}", path, 0);
                fd = done_handle(b, path);
                ck_assert(!is_readable(fd));
                ck_assert(cancel(b, path, "work"));
                ck_assert(is_readable(fd));
                ck_assert_int_eq(code_of(b, path), ECANCELED);
                OK(b, "Release", "s", path);
                close(fd);
        }
}
