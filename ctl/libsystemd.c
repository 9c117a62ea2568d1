/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

#include "ctl/ctxctl.h"

/* libsystemd, from the first call of it on. It comes with six more libraries, and to load them all takes
 * longer than all else that ctxctl run does, which mostly calls nothing of it (line.h). So the program is not
 * linked with it. Here are the functions of it that are called elsewhere, and each passes the call on. */

static void *find(const char *name)
{
        static void *library;
        void *function;

        if (!library)
                library = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
        function = library ? dlsym(library, name) : NULL;
        if (function)
                return function;
        fprintf(stderr, "ctxctl: %s\n", dlerror());
        _Exit(EXIT_RUN_FAILED); /* of run any other could be the command's */
}

#define FOUND(name)                                         \
        ({                                                  \
                static __typeof__(name) *function;          \
                if (!function)                              \
                        *(void **) &function = find(#name); \
                function;                                   \
        })

#define PASS_ON(type, name, parameters, arguments) \
        type name parameters                       \
        {                                          \
                return FOUND(name) arguments;      \
        }

/* Nothing is loaded in order to free nothing. */
#define PASS_ON_FREE(type, name)                            \
        type *name(type *object)                            \
        {                                                   \
                return object ? FOUND(name)(object) : NULL; \
        }

#define PASS_ON_VARIADIC(name, parameters, arguments) \
        int name parameters                           \
        {                                             \
                va_list ap;                           \
                int r;                                \
                                                      \
                va_start(ap, types);                  \
                r = FOUND(name##v) arguments;         \
                va_end(ap);                           \
                return r;                             \
        }

/* These two are asked of what nobody has set, too. */
int sd_bus_error_is_set(const sd_bus_error *error)
{
        return error && error->name;
}

void sd_bus_error_free(sd_bus_error *error)
{
        if (sd_bus_error_is_set(error))
                FOUND(sd_bus_error_free)(error);
}

PASS_ON(int, sd_booted, (void), ())
PASS_ON(int, sd_bus_add_filter,
                (sd_bus * bus, sd_bus_slot **slot, sd_bus_message_handler_t callback, void *userdata),
                (bus, slot, callback, userdata))
PASS_ON(int, sd_bus_add_match,
                (sd_bus * bus, sd_bus_slot **slot, const char *match, sd_bus_message_handler_t callback,
                                void *userdata),
                (bus, slot, match, callback, userdata))
PASS_ON(int, sd_bus_call,
                (sd_bus * bus, sd_bus_message *m, uint64_t usec, sd_bus_error *ret_error,
                                sd_bus_message **reply),
                (bus, m, usec, ret_error, reply))
PASS_ON_VARIADIC(sd_bus_call_method,
                (sd_bus * bus, const char *destination, const char *path, const char *interface,
                                const char *member, sd_bus_error *ret_error, sd_bus_message **reply,
                                const char *types, ...),
                (bus, destination, path, interface, member, ret_error, reply, types, ap))
PASS_ON_VARIADIC(sd_bus_call_method_async,
                (sd_bus * bus, sd_bus_slot **slot, const char *destination, const char *path,
                                const char *interface, const char *member, sd_bus_message_handler_t callback,
                                void *userdata, const char *types, ...),
                (bus, slot, destination, path, interface, member, callback, userdata, types, ap))
PASS_ON(void, sd_bus_close, (sd_bus * bus), (bus))
PASS_ON(int, sd_bus_error_has_name, (const sd_bus_error *e, const char *name), (e, name))
PASS_ON_FREE(sd_bus, sd_bus_flush_close_unref)
PASS_ON(int, sd_bus_get_address, (sd_bus * bus, const char **address), (bus, address))
PASS_ON(int, sd_bus_get_fd, (sd_bus * bus), (bus))
PASS_ON(int, sd_bus_get_property,
                (sd_bus * bus, const char *destination, const char *path, const char *interface,
                                const char *member, sd_bus_error *ret_error, sd_bus_message **reply,
                                const char *type),
                (bus, destination, path, interface, member, ret_error, reply, type))
PASS_ON(int, sd_bus_get_property_string,
                (sd_bus * bus, const char *destination, const char *path, const char *interface,
                                const char *member, sd_bus_error *ret_error, char **ret),
                (bus, destination, path, interface, member, ret_error, ret))
PASS_ON(int, sd_bus_get_property_trivial,
                (sd_bus * bus, const char *destination, const char *path, const char *interface,
                                const char *member, sd_bus_error *ret_error, char type, void *ret_ptr),
                (bus, destination, path, interface, member, ret_error, type, ret_ptr))
PASS_ON(int, sd_bus_is_open, (sd_bus * bus), (bus))
PASS_ON(int, sd_bus_is_ready, (sd_bus * bus), (bus))
PASS_ON(int, sd_bus_match_signal,
                (sd_bus * bus, sd_bus_slot **ret, const char *sender, const char *path, const char *interface,
                                const char *member, sd_bus_message_handler_t callback, void *userdata),
                (bus, ret, sender, path, interface, member, callback, userdata))
PASS_ON_VARIADIC(sd_bus_message_append, (sd_bus_message * m, const char *types, ...), (m, types, ap))
PASS_ON(int, sd_bus_message_append_basic, (sd_bus_message * m, char type, const void *p), (m, type, p))
PASS_ON(int, sd_bus_message_appendv, (sd_bus_message * m, const char *types, va_list ap), (m, types, ap))
PASS_ON(int, sd_bus_message_at_end, (sd_bus_message * m, int complete), (m, complete))
PASS_ON(int, sd_bus_message_close_container, (sd_bus_message * m), (m))
PASS_ON(int, sd_bus_message_copy, (sd_bus_message * m, sd_bus_message *source, int all), (m, source, all))
PASS_ON(int, sd_bus_message_enter_container, (sd_bus_message * m, char type, const char *contents),
                (m, type, contents))
PASS_ON(int, sd_bus_message_exit_container, (sd_bus_message * m), (m))
PASS_ON(const char *, sd_bus_message_get_destination, (sd_bus_message * m), (m))
PASS_ON(int, sd_bus_message_get_errno, (sd_bus_message * m), (m))
PASS_ON(const sd_bus_error *, sd_bus_message_get_error, (sd_bus_message * m), (m))
PASS_ON(const char *, sd_bus_message_get_interface, (sd_bus_message * m), (m))
PASS_ON(const char *, sd_bus_message_get_member, (sd_bus_message * m), (m))
PASS_ON(const char *, sd_bus_message_get_path, (sd_bus_message * m), (m))
PASS_ON(int, sd_bus_message_is_method_error, (sd_bus_message * m, const char *name), (m, name))
PASS_ON(int, sd_bus_message_is_signal, (sd_bus_message * m, const char *interface, const char *member),
                (m, interface, member))
PASS_ON(int, sd_bus_message_new_method_call,
                (sd_bus * bus, sd_bus_message **m, const char *destination, const char *path,
                                const char *interface, const char *member),
                (bus, m, destination, path, interface, member))
PASS_ON(int, sd_bus_message_open_container, (sd_bus_message * m, char type, const char *contents),
                (m, type, contents))
PASS_ON(int, sd_bus_message_peek_type, (sd_bus_message * m, char *type, const char **contents),
                (m, type, contents))
PASS_ON_VARIADIC(sd_bus_message_read, (sd_bus_message * m, const char *types, ...), (m, types, ap))
PASS_ON(int, sd_bus_message_read_array, (sd_bus_message * m, char type, const void **ptr, size_t *size),
                (m, type, ptr, size))
PASS_ON(int, sd_bus_message_read_basic, (sd_bus_message * m, char type, void *p), (m, type, p))
PASS_ON(sd_bus_message *, sd_bus_message_ref, (sd_bus_message * m), (m))
PASS_ON(int, sd_bus_message_rewind, (sd_bus_message * m, int complete), (m, complete))
PASS_ON(int, sd_bus_message_set_allow_interactive_authorization, (sd_bus_message * m, int b), (m, b))
PASS_ON(int, sd_bus_message_skip, (sd_bus_message * m, const char *types), (m, types))
PASS_ON_FREE(sd_bus_message, sd_bus_message_unref)
PASS_ON(int, sd_bus_new, (sd_bus * *ret), (ret))
PASS_ON(int, sd_bus_open_system, (sd_bus * *ret), (ret))
PASS_ON(int, sd_bus_open_user, (sd_bus * *ret), (ret))
PASS_ON(int, sd_bus_path_decode, (const char *path, const char *prefix, char **ret_external_id),
                (path, prefix, ret_external_id))
PASS_ON(int, sd_bus_path_encode, (const char *prefix, const char *external_id, char **ret_path),
                (prefix, external_id, ret_path))
PASS_ON(int, sd_bus_process, (sd_bus * bus, sd_bus_message **r), (bus, r))
PASS_ON(int, sd_bus_set_address, (sd_bus * bus, const char *address), (bus, address))
PASS_ON(int, sd_bus_set_bus_client, (sd_bus * bus, int b), (bus, b))
PASS_ON(int, sd_bus_set_method_call_timeout, (sd_bus * bus, uint64_t usec), (bus, usec))
PASS_ON_FREE(sd_bus_slot, sd_bus_slot_unref)
PASS_ON(int, sd_bus_start, (sd_bus * bus), (bus))
PASS_ON_FREE(sd_bus, sd_bus_unref)
PASS_ON(int, sd_bus_wait, (sd_bus * bus, uint64_t timeout_usec), (bus, timeout_usec))
PASS_ON(int, sd_id128_get_boot, (sd_id128_t * ret), (ret))
PASS_ON(int, sd_id128_get_machine, (sd_id128_t * ret), (ret))
PASS_ON(char *, sd_id128_to_string, (sd_id128_t id, char s[static SD_ID128_STRING_MAX]), (id, s))
PASS_ON(int, sd_journal_add_match, (sd_journal * j, const void *data, size_t size), (j, data, size))
PASS_ON(void, sd_journal_close, (sd_journal * j), (j))
PASS_ON(int, sd_journal_get_data, (sd_journal * j, const char *field, const void **data, size_t *l),
                (j, field, data, l))
PASS_ON(int, sd_journal_get_realtime_usec, (sd_journal * j, uint64_t *ret), (j, ret))
PASS_ON(int, sd_journal_next, (sd_journal * j), (j))
PASS_ON(int, sd_journal_open, (sd_journal * *ret, int flags), (ret, flags))
PASS_ON(int, sd_journal_previous_skip, (sd_journal * j, uint64_t skip), (j, skip))
PASS_ON(int, sd_journal_seek_tail, (sd_journal * j), (j))
