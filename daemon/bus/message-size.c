/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdint.h>
#include <string.h>

#include "daemon/bus/message-size.h"

/* sd-bus does not say how large a message is. So we count its values: eight bytes for each, which is more
 * than any basic value takes, and in addition the length of texts and plain arrays. */
#define VALUE_BYTES 8

static int count_basic(sd_bus_message *m, char type, size_t *bytes)
{
        union {
                uint64_t number;
                const char *text;
        } value = {};
        int r = sd_bus_message_read_basic(m, type, &value);

        if (r < 0)
                return r;
        if (type == SD_BUS_TYPE_STRING || type == SD_BUS_TYPE_OBJECT_PATH || type == SD_BUS_TYPE_SIGNATURE)
                *bytes += strlen(value.text);
        return 0;
}

static bool is_plain_array(char type, const char *contents)
{
        return type == SD_BUS_TYPE_ARRAY && strlen(contents) == 1 && strchr("ynqiuxtd", contents[0]);
}

bool message_is_up_to(sd_bus_message *m, size_t max)
{
        size_t bytes = 0, n;
        unsigned depth = 0;
        int r = sd_bus_message_rewind(m, true);

        while (r >= 0 && bytes <= max) {
                const char *contents;
                const void *data;
                char type;

                r = sd_bus_message_peek_type(m, &type, &contents);
                if (r < 0)
                        break;
                if (r == 0 && depth == 0)
                        break;
                if (r == 0) {
                        r = sd_bus_message_exit_container(m);
                        depth--;
                        continue;
                }
                bytes += VALUE_BYTES;
                if (is_plain_array(type, contents)) {
                        r = sd_bus_message_read_array(m, contents[0], &data, &n);
                        bytes += r >= 0 ? n : 0;
                } else if (contents) {
                        r = sd_bus_message_enter_container(m, type, contents);
                        depth++;
                } else {
                        r = count_basic(m, type, &bytes);
                }
        }
        sd_bus_message_rewind(m, true);
        return r >= 0 && bytes <= max;
}
