/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/util/cleanup.h"
#include "ctl/ask-again.h"
#include "ctl/bus.h"

#define DIRECT_ADDRESS "unix:path=" CTXD_SYSTEM_SOCKET

static int open_address(const char *address, sd_bus **ret)
{
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        int r;

        r = sd_bus_new(&bus);
        if (r < 0)
                return r;
        r = sd_bus_set_address(bus, address);
        if (r < 0)
                return r;
        /* The direct socket answers Hello as a broker does, so that an address may name either. */
        r = sd_bus_set_bus_client(bus, 1);
        if (r < 0)
                return r;
        r = sd_bus_start(bus);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(bus);
        return 0;
}

/* Directly if we may, as for the system's daemon. */
static int open_user(sd_bus **ret)
{
        const char *directory = secure_getenv("XDG_RUNTIME_DIR");
        char address[256];

        if (directory &&
                        snprintf(address, sizeof address, "unix:path=%s/ctxd/bus", directory) <
                                        (int) sizeof address &&
                        open_address(address, ret) >= 0)
                return 0;
        return sd_bus_open_user(ret);
}

int bus_connect(struct ctl *ctl)
{
        const char *address = ctl->address, *name = address;
        int r;

        if (ctl->bus)
                return 0;
        if (!address && !ctl->user)
                address = name = secure_getenv(CTXD_ENV_ADDRESS);

        if (ctl->user && !address) {
                name = "the session bus";
                r = open_user(&ctl->bus);
                if (r >= 0 && sd_bus_get_address(ctl->bus, &address) < 0)
                        address = NULL;
        } else if (address) {
                r = open_address(address, &ctl->bus);
                ctl->direct = strcmp(address, DIRECT_ADDRESS) == 0;
        } else {
                r = open_address(DIRECT_ADDRESS, &ctl->bus);
                ctl->direct = r >= 0;
                if (r < 0) {
                        name = "the system bus, nor at " CTXD_SYSTEM_SOCKET;
                        r = sd_bus_open_system(&ctl->bus);
                }
        }
        if (r < 0) {
                complain("cannot reach ctxd at %s: %s", name, strerror(-r));
                return r == -EACCES || r == -EPERM ? EXIT_NOT_ALLOWED : EXIT_FAILED;
        }
        if (address) {
                ctl->reached = strdup(address);
                if (!ctl->reached)
                        return bus_broken(-ENOMEM);
        }
        return 0;
}

void bus_disconnect(struct ctl *ctl)
{
        ask_again_done(ctl);
        ctl->bus = sd_bus_flush_close_unref(ctl->bus);
        free(ctl->reached);
        ctl->reached = NULL;
}

int bus_failed(const sd_bus_error *error, int r)
{
        static const struct {
                const char *name;
                int status;
        } statuses[] = {
                        {CTXD_ERROR_NO_SUCH_CONTEXT, EXIT_NO_SUCH_CONTEXT},
                        {CTXD_ERROR_ACCESS_DENIED, EXIT_NOT_ALLOWED},
                        {SD_BUS_ERROR_ACCESS_DENIED, EXIT_NOT_ALLOWED},
                        {SD_BUS_ERROR_AUTH_FAILED, EXIT_NOT_ALLOWED},
                        {SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, EXIT_NOT_ALLOWED},
        };

        if (!sd_bus_error_is_set(error)) {
                complain("lost ctxd: %s", strerror(-r));
                return EXIT_FAILED;
        }
        if (sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
                        sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER))
                complain("ctxd is not running: %s", error->message);
        else
                complain("%s", error->message ? error->message : error->name);
        for (size_t i = 0; i < ELEMENTSOF(statuses); i++)
                if (sd_bus_error_has_name(error, statuses[i].name))
                        return statuses[i].status;
        return EXIT_FAILED;
}

int bus_broken(int r)
{
        complain(r == -ENOMEM ? "out of memory" : "cannot make sense of ctxd's answer: %s", strerror(-r));
        return EXIT_FAILED;
}

int bus_message(struct ctl *ctl, sd_bus_message **ret, const char *member)
{
        int r = bus_connect(ctl);

        if (r > 0)
                return r;
        r = sd_bus_message_new_method_call(
                        ctl->bus, ret, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member);
        return r < 0 ? bus_broken(r) : 0;
}

int bus_send(struct ctl *ctl, sd_bus_message *m, sd_bus_message **ret_reply, sd_bus_error *ret_error)
{
        int r = sd_bus_call(ctl->bus, m, 0, ret_error, ret_reply);

        if (r < 0 && !ctl->user &&
                        sd_bus_error_has_name(ret_error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED))
                r = ask_again(ctl, m, ret_reply, ret_error);
        return r;
}

int bus_call(struct ctl *ctl, sd_bus_message **ret_reply, const char *member, const char *types, ...)
{
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *m = NULL;
        va_list ap;
        int r;

        r = bus_message(ctl, &m, member);
        if (r > 0)
                return r;
        if (*types) {
                va_start(ap, types);
                r = sd_bus_message_appendv(m, types, ap);
                va_end(ap);
                /* The arguments are what was typed: not UTF-8, for one. */
                if (r < 0) {
                        complain("cannot say that on D-Bus: %s", strerror(-r));
                        return EXIT_FAILED;
                }
        }
        r = bus_send(ctl, m, ret_reply, &error);
        if (r < 0 && ctl->missing_is_fine && sd_bus_error_has_name(&error, CTXD_ERROR_NO_SUCH_CONTEXT))
                return EXIT_NO_SUCH_CONTEXT;
        return r < 0 ? bus_failed(&error, r) : 0;
}

int bus_properties(struct ctl *ctl, const char *object, const char *interface, sd_bus_message **ret_reply,
                sd_bus_error *ret_error)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(
                        ctl->bus, &m, CTXD_BUS_NAME, object, "org.freedesktop.DBus.Properties", "GetAll");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", interface);
        return r < 0 ? r : bus_send(ctl, m, ret_reply, ret_error);
}

int append_option(sd_bus_message *m, const char *name, const char *type, ...)
{
        va_list ap;
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r < 0)
                return r;
        r = sd_bus_message_append_basic(m, 's', name);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'v', type);
        if (r < 0)
                return r;
        va_start(ap, type);
        r = sd_bus_message_appendv(m, type, ap);
        va_end(ap);
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(m);
        if (r < 0)
                return r;
        return sd_bus_message_close_container(m);
}
