/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "proto/socket-address.h"

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

bool socket_address_parse(const char *text, size_t n, struct sockaddr_un *ret, socklen_t *ret_length)
{
        const char *end = text + n;
        size_t length = 0;

        if (n < strlen("unix:") || memcmp(text, "unix:", strlen("unix:")) != 0)
                return false;
        for (const char *key = text + strlen("unix:"), *next; key < end; key = next + 1) {
                bool abstract = strncmp(key, "abstract=", strlen("abstract=")) == 0;
                const char *value = key + (abstract ? strlen("abstract=") : strlen("path="));

                next = memchr(key, ',', (size_t) (end - key));
                if (!next)
                        next = end;
                if (!abstract && strncmp(key, "path=", strlen("path=")) != 0)
                        continue;
                if (length > 0)
                        return false; /* a second one */
                *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
                length = unescape(value, (size_t) (next - value), ret->sun_path + abstract,
                                sizeof ret->sun_path - 1);
                /* A path has its final zero, and a name of the abstract kind begins with one. */
                *ret_length = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + length + 1);
                if (length == 0)
                        return false;
        }
        return length > 0;
}
