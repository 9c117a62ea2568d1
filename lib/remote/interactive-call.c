/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "lib/local/patience.h"
#include "lib/remote/interactive-call.h"
#include "proto/daemon-address.h"

#define DIRECT_ADDRESS "unix:path=" CTXD_SYSTEM_SOCKET

/* A connection for this call only. Others can use the client's meanwhile. */
static int open_bus(struct ctx_client *client, sd_bus **ret)
{
        struct daemon_place place = {};
        const char *address;
        int r;

        if (!client->bus)
                return -ENOTCONN;
        r = sd_bus_get_address(client->bus, &address);
        if (r < 0)
                return r;
        if (strcmp(address, DIRECT_ADDRESS) != 0)
                place.given = address;
        return daemon_place_connect(&place, ret);
}

static int copy(sd_bus *bus, sd_bus_message *m, sd_bus_message **ret)
{
        sd_bus_message *again = NULL;
        int r;

        r = sd_bus_message_new_method_call(bus, &again, sd_bus_message_get_destination(m),
                        sd_bus_message_get_path(m), sd_bus_message_get_interface(m),
                        sd_bus_message_get_member(m));
        if (r >= 0)
                r = sd_bus_message_rewind(m, true);
        if (r >= 0)
                r = sd_bus_message_copy(again, m, true);
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(again, true);
        if (r < 0) {
                sd_bus_message_unref(again);
                return r;
        }
        *ret = again;
        return 0;
}

/* The answer of the daemon, or an error that sd-bus makes. The lock is not held. */
static int call(sd_bus *bus, sd_bus_message *m, sd_bus_message **ret)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        uint64_t now = now_boottime_usec(), usec = UINT64_MAX;
        int r;

        if (patience_until_usec != CTX_NEVER)
                usec = patience_until_usec > now ? patience_until_usec - now : 1;
        r = sd_bus_call(bus, m, usec, &error, ret);
        /* The caller finds the text in a message, as it does for other calls. */
        if (r < 0 && sd_bus_error_is_set(&error) && sd_bus_message_new_method_error(m, ret, &error) >= 0)
                r = 0;
        sd_bus_error_free(&error);
        return r;
}

int client_call_interactively(struct ctx_client *client, sd_bus_message *m, sd_bus_message **answer)
{
        sd_bus_message *again = NULL, *reply = NULL;
        sd_bus *bus = NULL;
        int r = 0;

        if (open_bus(client, &bus) < 0)
                return 0;
        if (copy(bus, m, &again) >= 0) {
                lock_release(&client->lock);
                r = call(bus, again, &reply);
                lock_acquire(&client->lock);
                if (r >= 0) {
                        sd_bus_message_unref(*answer);
                        *answer = reply;
                }
        }
        sd_bus_message_unref(again);
        sd_bus_close(bus);
        sd_bus_unref(bus);
        return r < 0 ? r : 0;
}
