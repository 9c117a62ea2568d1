/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "lib/remote/interactive-call.h"
#include "proto/daemon-address.h"

#define DIRECT_ADDRESS "unix:path=" CTXD_SYSTEM_SOCKET

/* A connection for this call only. Others can use the client's meanwhile. */
static int open_bus(struct ctx_client *client, sd_bus **ret)
{
        struct daemon_place place = {};
        const char *address;
        int r;

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

int client_call_interactively(struct ctx_client *client, sd_bus_message *m, sd_bus_error *error,
                sd_bus_message **ret_reply, int r)
{
        sd_bus_message *again = NULL;
        sd_bus *bus = NULL;

        if (!sd_bus_error_has_name(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED) ||
                        open_bus(client, &bus) < 0)
                return r;
        if (copy(bus, m, &again) >= 0) {
                sd_bus_error_free(error);
                /* This may wait until a person has answered. */
                lock_release(&client->lock);
                r = sd_bus_call(bus, again, UINT64_MAX, error, ret_reply);
                lock_acquire(&client->lock);
        }
        sd_bus_message_unref(again);
        sd_bus_flush_close_unref(bus);
        return r;
}
