/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "lib/remote/line-inside.h"
#include "proto/socket-address.h"

/* Where a line leads: to the address with which the client's connection was opened. The path that the other
 * end was bound by may mean nothing here (one of its own /proc/self/fd, say). */

#define SYSTEM_BUS_SOCKET "/run/dbus/system_bus_socket"

/* Only over a bus polkit can ask the caller's session. */
static void find_bus(struct line_address *a)
{
        const char *given = secure_getenv("DBUS_SYSTEM_BUS_ADDRESS");
        const char *text = given ? given : "unix:path=" SYSTEM_BUS_SOCKET;

        if (a->n > 0)
                a->bus = a->places[0];
        if (strcmp(a->bus.address.sun_path, CTXD_SYSTEM_SOCKET) == 0 &&
                        !socket_address_parse(text, strcspn(text, ";"), &a->bus.address, &a->bus.length))
                a->bus.length = 0;
}

/* Those of an address list of sd-bus that are a socket's. NULL: there is no memory. */
static struct line_address *find(const char *list)
{
        struct line_address *a;
        size_t n = 1;

        for (const char *p = list; *p; p++)
                n += *p == ';';
        a = calloc(1, sizeof *a + n * sizeof *a->places);
        if (!a)
                return NULL;
        for (;; list++) {
                const char *end = strchrnul(list, ';');
                struct line_place *place = a->places + a->n;

                a->n += socket_address_parse(list, (size_t) (end - list), &place->address, &place->length);
                list = end;
                if (!*end)
                        break;
        }
        find_bus(a);
        return a;
}

static bool is_same(const struct line_address *a, const struct line_address *b)
{
        return a && a->n == b->n && memcmp(&a->bus, &b->bus, sizeof a->bus) == 0 &&
               memcmp(a->places, b->places, a->n * sizeof *a->places) == 0;
}

void line_set_address(struct ctx_client *client)
{
        struct line_address *a = NULL;
        const char *list;

        if (sd_bus_get_address(client->bus, &list) >= 0)
                a = find(list);
        if (a && is_same(client->line_addresses, a)) {
                free(a);
                a = client->line_addresses;
        } else if (a) {
                a->next = client->line_addresses;
                client->line_addresses = a;
        }
        atomic_store(&client->line_address, a);
}
