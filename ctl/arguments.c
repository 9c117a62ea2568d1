/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "util/utf8.h"
#include "ctl/arguments.h"

static int added(const struct arguments *a)
{
        return a->wire->is_over ? -EOPNOTSUPP : 0;
}

int arguments_add_string(struct arguments *a, const char *text)
{
        size_t n = strlen(text), character;

        if (a->m)
                return sd_bus_message_append_basic(a->m, 's', text);
        wire_put_string(a->wire, text);
        for (; n > 0; n -= character, text += character)
                if ((character = utf8_character(text, n)) == 0)
                        return -EOPNOTSUPP; /* sd-bus says what is wrong with it */
        return added(a);
}

int arguments_add_bool(struct arguments *a, bool value)
{
        if (a->m)
                return sd_bus_message_append_basic(a->m, 'b', &(int){value});
        wire_put_u32(a->wire, value);
        return added(a);
}

int arguments_add_fd(struct arguments *a, int fd)
{
        if (a->m)
                return sd_bus_message_append_basic(a->m, 'h', &fd);
        if (a->fd >= 0)
                return -EOPNOTSUPP;
        a->fd = fd;
        wire_put_u32(a->wire, 0); /* the first of those that go along */
        return added(a);
}

int arguments_open_options(struct arguments *a)
{
        if (a->m)
                return sd_bus_message_open_container(a->m, 'a', "{sv}");
        wire_open_options(a->wire);
        return added(a);
}

int arguments_close_options(struct arguments *a)
{
        if (a->m)
                return sd_bus_message_close_container(a->m);
        wire_close_options(a->wire);
        return added(a);
}

static int add_by_sd_bus(sd_bus_message *m, const char *name, const char *type, va_list ap)
{
        int r;

        if ((r = sd_bus_message_open_container(m, 'e', "sv")) < 0 ||
                        (r = sd_bus_message_append_basic(m, 's', name)) < 0 ||
                        (r = sd_bus_message_open_container(m, 'v', type)) < 0 ||
                        (r = sd_bus_message_appendv(m, type, ap)) < 0 ||
                        (r = sd_bus_message_close_container(m)) < 0)
                return r;
        return sd_bus_message_close_container(m);
}

static int add_by_hand(struct arguments *a, const char *name, const char *type, va_list ap)
{
        wire_put_option(a->wire, name, type);
        switch (*type) {
        case 'b':
        case 'i':
        case 'u':
                wire_put_u32(a->wire, va_arg(ap, uint32_t));
                return added(a);
        case 't':
                wire_put_u64(a->wire, va_arg(ap, uint64_t));
                return added(a);
        case 's':
                return arguments_add_string(a, va_arg(ap, const char *));
        case 'h':
                return arguments_add_fd(a, va_arg(ap, int));
        default:
                return -EOPNOTSUPP;
        }
}

int arguments_add_option(struct arguments *a, const char *name, const char *type, ...)
{
        va_list ap;
        int r;

        va_start(ap, type);
        r = a->m ? add_by_sd_bus(a->m, name, type, ap) : add_by_hand(a, name, type, ap);
        va_end(ap);
        return r;
}
