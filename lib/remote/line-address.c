/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "lib/remote/line-inside.h"

/* Where a line leads: to the address with which the client's connection was opened. The path that the other
 * end was bound by may mean nothing here (one of its own /proc/self/fd, say). */

#define SYSTEM_BUS_SOCKET "/run/dbus/system_bus_socket"

/* Takes the escapes out of a value (D-Bus specification, Server Addresses). Returns the length; 0: it is
 * empty, broken, or longer than size. */
static size_t unescape(const char *value, size_t n, char *ret, size_t size)
{
        size_t length = 0;

        for (size_t i = 0; i < n; i++) {
                char c = value[i];

                if (c == '%') {
                        char digits[3] = {};

                        if (n - i < 3 || !isxdigit((unsigned char) value[i + 1]) ||
                                        !isxdigit((unsigned char) value[i + 2]))
                                return 0;
                        memcpy(digits, value + i + 1, 2);
                        c = (char) strtoul(digits, NULL, 16);
                        i += 2;
                }
                if (length >= size)
                        return 0;
                ret[length++] = c;
        }
        return length;
}

/* One of the addresses of a list, such as unix:path=/run/ctxd/bus,guid=... False: it is no socket's, or none
 * that the kernel would take. */
static bool parse(const char *text, size_t n, struct line_place *ret)
{
        const char *end = text + n;

        if (n < strlen("unix:") || memcmp(text, "unix:", strlen("unix:")) != 0)
                return false;
        for (const char *key = text + strlen("unix:"), *next; key < end; key = next + 1) {
                bool abstract = strncmp(key, "abstract=", strlen("abstract=")) == 0;
                const char *value = key + (abstract ? strlen("abstract=") : strlen("path="));
                size_t length;

                next = memchr(key, ',', (size_t) (end - key));
                if (!next)
                        next = end;
                if (!abstract && strncmp(key, "path=", strlen("path=")) != 0)
                        continue;
                *ret = (struct line_place){.address.sun_family = AF_UNIX};
                length = unescape(value, (size_t) (next - value), ret->address.sun_path + abstract,
                                sizeof ret->address.sun_path - 1);
                /* A path has its final zero, and a name of the abstract kind begins with one. */
                ret->length = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + length + 1);
                return length > 0;
        }
        return false;
}

/* Only over a bus polkit can ask the caller's session. */
static void find_bus(struct line_address *a)
{
        const char *given = secure_getenv("DBUS_SYSTEM_BUS_ADDRESS");
        const char *text = given ? given : "unix:path=" SYSTEM_BUS_SOCKET;

        if (a->n > 0)
                a->bus = a->places[0];
        if (strcmp(a->bus.address.sun_path, CTXD_SYSTEM_SOCKET) == 0 &&
                        !parse(text, strcspn(text, ";"), &a->bus))
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

                a->n += parse(list, (size_t) (end - list), a->places + a->n);
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
