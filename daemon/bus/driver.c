/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The members of org.freedesktop.DBus that a D-Bus library calls before anything else. So busctl, GDBus and
 * dbus-python can use a direct connection as if there were a broker. Such a connection has two names: the
 * daemon's, :1.0, which owns org.ctxd1, and the caller's own. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/bus/error.h"
#include "daemon/bus/peer.h"
#include "daemon/bus/vtables.h"
#include "util/cleanup.h"

#define DAEMON_NAME ":1.0"
#define DRIVER_NAME "org.freedesktop.DBus"

/* Replies and signals of the driver have its own name as the sender, because libraries expect that. */
static int reply(sd_bus_message *m, const char *types, ...)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *answer = NULL;
        va_list ap;
        int r;

        r = sd_bus_message_new_method_return(m, &answer);
        if (r >= 0)
                r = sd_bus_message_set_sender(answer, DRIVER_NAME);
        if (r >= 0 && types) {
                va_start(ap, types);
                r = sd_bus_message_appendv(answer, types, ap);
                va_end(ap);
        }
        return r < 0 ? r : sd_bus_send(NULL, answer, NULL);
}

static int hello(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const struct peer *p = peer_of_message(m);

        return p ? reply(m, "s", p->name) : error_gone(error);
}

/* Match rules are accepted and change nothing, because signals go only to those who have subscribed. */
static int match(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        return reply(m, NULL);
}

static bool is_daemon(const char *name)
{
        return strcmp(name, CTXD_BUS_NAME) == 0 || strcmp(name, DAEMON_NAME) == 0;
}

static bool is_known(const struct peer *p, const char *name)
{
        return is_daemon(name) || strcmp(name, DRIVER_NAME) == 0 || strcmp(name, p->name) == 0;
}

static int no_such_name(sd_bus_error *error, const char *name)
{
        return sd_bus_error_setf(
                        error, SD_BUS_ERROR_NAME_HAS_NO_OWNER, "Nobody owns %s on a direct connection", name);
}

/* Reads the name that the message asks about: the caller's, the daemon's or the driver's. */
static int read_known_name(
                sd_bus_message *m, sd_bus_error *error, const struct peer **ret_peer, const char **ret_name)
{
        const struct peer *p = peer_of_message(m);
        const char *name;
        int r = sd_bus_message_read(m, "s", &name);

        if (r < 0)
                return error_malformed(error, r);
        if (!p || !is_known(p, name))
                return no_such_name(error, name);
        *ret_peer = p;
        *ret_name = name;
        return 0;
}

static int name_has_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const struct peer *p = peer_of_message(m);
        const char *name;
        int r = sd_bus_message_read(m, "s", &name);

        return r < 0 ? error_malformed(error, r) : reply(m, "b", p && is_known(p, name));
}

static int get_name_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const struct peer *p;
        const char *name;
        int r = read_known_name(m, error, &p, &name);

        return r < 0 ? r : reply(m, "s", is_daemon(name) ? DAEMON_NAME : name);
}

static int list_names(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const struct peer *p = peer_of_message(m);

        if (!p)
                return error_gone(error);
        return reply(m, "as", 4, DRIVER_NAME, CTXD_BUS_NAME, DAEMON_NAME, p->name);
}

static int list_activatable_names(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        return reply(m, "as", 2, DRIVER_NAME, CTXD_BUS_NAME);
}

static int request_name(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        return sd_bus_error_set(
                        error, SD_BUS_ERROR_ACCESS_DENIED, "No name can be owned on a direct connection");
}

static int start_service_by_name(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *name;
        int r = sd_bus_message_read(m, "su", &name, NULL);

        if (r < 0)
                return error_malformed(error, r);
        if (!is_daemon(name))
                return sd_bus_error_setf(
                                error, SD_BUS_ERROR_SERVICE_UNKNOWN, "There is no service %s here", name);
        return reply(m, "u", 2); /* DBUS_START_REPLY_ALREADY_RUNNING */
}

static int get_id(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const struct endpoint *e = userdata;

        return reply(m, "s", e->service->server_id);
}

/* The uid and pid of the name that the message asks about: the caller's or the daemon's. */
static int identity(sd_bus_message *m, sd_bus_error *error, uid_t *ret_uid, pid_t *ret_pid)
{
        const struct peer *p;
        const char *name;
        int r = read_known_name(m, error, &p, &name);

        if (r < 0)
                return r;
        *ret_uid = strcmp(name, p->name) == 0 ? p->caller.uid : geteuid();
        *ret_pid = strcmp(name, p->name) == 0 ? p->caller.pid : getpid();
        return 0;
}

static int get_connection_unix_user(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        uid_t uid = 0;
        pid_t pid = 0;
        int r = identity(m, error, &uid, &pid);

        return r < 0 ? r : reply(m, "u", uid);
}

static int get_connection_unix_process_id(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        uid_t uid = 0;
        pid_t pid = 0;
        int r = identity(m, error, &uid, &pid);

        return r < 0 ? r : reply(m, "u", (uint32_t) pid);
}

static int get_connection_credentials(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        uid_t uid = 0;
        pid_t pid = 0;
        int r = identity(m, error, &uid, &pid);

        if (r < 0)
                return r;
        return reply(m, "a{sv}", 2, "UnixUserID", "u", uid, "ProcessID", "u", (uint32_t) pid);
}

#define U SD_BUS_VTABLE_UNPRIVILEGED

const sd_bus_vtable driver_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD("Hello", NULL, "s", hello, U),
                SD_BUS_METHOD("AddMatch", "s", NULL, match, U),
                SD_BUS_METHOD("RemoveMatch", "s", NULL, match, U),
                SD_BUS_METHOD("GetNameOwner", "s", "s", get_name_owner, U),
                SD_BUS_METHOD("NameHasOwner", "s", "b", name_has_owner, U),
                SD_BUS_METHOD("ListNames", NULL, "as", list_names, U),
                SD_BUS_METHOD("ListActivatableNames", NULL, "as", list_activatable_names, U),
                SD_BUS_METHOD("RequestName", "su", "u", request_name, U),
                SD_BUS_METHOD("ReleaseName", "s", "u", request_name, U),
                SD_BUS_METHOD("StartServiceByName", "su", "u", start_service_by_name, U),
                SD_BUS_METHOD("GetId", NULL, "s", get_id, U),
                SD_BUS_METHOD("GetConnectionUnixUser", "s", "u", get_connection_unix_user, U),
                SD_BUS_METHOD("GetConnectionUnixProcessID", "s", "u", get_connection_unix_process_id, U),
                SD_BUS_METHOD("GetConnectionCredentials", "s", "a{sv}", get_connection_credentials, U),
                SD_BUS_VTABLE_END,
};
