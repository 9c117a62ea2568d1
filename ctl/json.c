/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <json-c/json_visit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/printable.h"
#include "util/utf8.h"
#include "ctl/json.h"

/* json-c escapes what JSON wants to have escaped. A terminal obeys more, and that can only be in a string. */
static void put_json(const char *text)
{
        size_t left = strlen(text);
        const char *begin = text;

        for (size_t n; left > 0; text += n, left -= n) {
                uint32_t code;

                n = utf8_character(text, left);
                if (n == 0)
                        n = 1;
                if (*text == '\n' || !character_is_hidden(text, n, &code))
                        continue;
                fwrite(begin, 1, (size_t) (text - begin), stdout);
                begin = text + n;
                if (code < 0x10000)
                        printf("\\u%04x", code);
                else
                        printf("\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10), 0xdc00 + (code & 0x3ff));
        }
        puts(begin);
}

int json_print(const struct ctl *ctl, json_object *object)
{
        int flags = JSON_C_TO_STRING_NOSLASHESCAPE;
        const char *text;

        flags |= ctl->json == JSON_PRETTY ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED
                                          : JSON_C_TO_STRING_PLAIN;
        text = object ? json_object_to_json_string_ext(object, flags) : NULL;
        if (text)
                put_json(text);
        else
                print_error("out of memory");
        json_object_put(object);
        return text ? EXIT_DONE : EXIT_FAILED;
}

void json_add_text(json_object *object, const char *name, const char *text)
{
        json_object_object_add(object, name, text && *text ? json_object_new_string(text) : NULL);
}

void json_add_number(json_object *object, const char *name, uint64_t value)
{
        json_object_object_add(object, name, value == UINT64_MAX ? NULL : json_object_new_uint64(value));
}

const char *json_get_text(json_object *object, const char *name)
{
        const char *text = json_object_get_string(json_object_object_get(object, name));

        return text ? text : "";
}

uint64_t json_get_number(json_object *object, const char *name)
{
        json_object *value = json_object_object_get(object, name);

        return value ? json_object_get_uint64(value) : UINT64_MAX;
}

static int from_message(sd_bus_message *m, json_object **ret);

static int from_basic(sd_bus_message *m, char type, json_object **ret)
{
        union {
                const char *s;
                uint8_t y;
                int b;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
                double d;
        } v;
        int r = sd_bus_message_read_basic(m, type, &v);

        if (r < 0)
                return r;
        switch (type) {
        case 's':
        case 'o':
        case 'g':
                *ret = json_object_new_string(v.s);
                return 0;
        case 'b':
                *ret = json_object_new_boolean(v.b);
                return 0;
        case 'y':
                *ret = json_object_new_int64(v.y);
                return 0;
        case 'n':
                *ret = json_object_new_int64(v.n);
                return 0;
        case 'q':
                *ret = json_object_new_int64(v.q);
                return 0;
        case 'i':
                *ret = json_object_new_int64(v.i);
                return 0;
        case 'u':
                *ret = json_object_new_int64(v.u);
                return 0;
        case 'x':
                *ret = json_object_new_int64(v.x);
                return 0;
        case 't':
                *ret = json_object_new_uint64(v.t);
                return 0;
        case 'd':
                *ret = json_object_new_double(v.d);
                return 0;
        default:
                return -EBADMSG;
        }
}

/* A container, as an array. sd-bus limits how deep they are nested. */
static int from_container(sd_bus_message *m, char type, const char *contents, json_object **ret)
{
        json_object *array = json_object_new_array(), *item;
        int r;

        if (!array)
                return -ENOMEM;
        r = sd_bus_message_enter_container(m, type, contents);
        while (r >= 0 && (r = sd_bus_message_at_end(m, 0)) == 0) {
                r = from_message(m, &item);
                if (r >= 0)
                        json_object_array_add(array, item);
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r < 0) {
                json_object_put(array);
                return r;
        }
        *ret = array;
        return 0;
}

/* The next value of a message. */
static int from_message(sd_bus_message *m, json_object **ret)
{
        const char *contents;
        char type;
        int r = sd_bus_message_peek_type(m, &type, &contents);

        if (r < 0)
                return r;
        if (r == 0)
                return -EBADMSG;
        if (type == 'v') {
                r = sd_bus_message_enter_container(m, type, contents);
                if (r < 0)
                        return r;
                r = from_message(m, ret);
                return r < 0 ? r : sd_bus_message_exit_container(m);
        }
        if (type == 'a' && (strcmp(contents, "{ss}") == 0 || strcmp(contents, "{sv}") == 0)) {
                *ret = json_object_new_object();
                return json_from_dictionary(m, contents, *ret);
        }
        if (type == 'a' || type == 'r')
                return from_container(m, type, contents, ret);
        return from_basic(m, type, ret);
}

int json_from_dictionary(sd_bus_message *m, const char *entry, json_object *object)
{
        char pair[] = {'s', entry[2], '\0'};
        json_object *value;
        const char *key;
        int r = sd_bus_message_enter_container(m, 'a', entry);

        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', pair)) > 0) {
                r = sd_bus_message_read_basic(m, 's', &key);
                if (r < 0)
                        return r;
                r = from_message(m, &value);
                if (r < 0)
                        return r;
                json_object_object_add(object, key, value);
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static bool is_none(json_object *value)
{
        return (json_object_is_type(value, json_type_string) && json_object_get_string_len(value) == 0) ||
               (json_object_is_type(value, json_type_int) && json_object_get_uint64(value) == UINT64_MAX);
}

void json_null_for_none(json_object *object)
{
        json_object_object_foreach(object, key, value)
        {
                if (is_none(value))
                        json_object_object_add(object, key, NULL);
        }
}

/* "DeadlineUSec" is "deadline_usec". */
static char *key_of_property(const char *name)
{
        char *key = malloc(2 * strlen(name) + 1), *end = key;

        for (const char *p = name; key && *p; p++) {
                if (p > name && isupper((unsigned char) *p) && islower((unsigned char) p[-1]))
                        *end++ = '_';
                *end++ = (char) tolower((unsigned char) *p);
        }
        if (key)
                *end = '\0';
        return key;
}

int json_from_properties(sd_bus_message *m, json_object *object)
{
        json_object *properties = json_object_new_object();
        int r = json_from_dictionary(m, "{sv}", properties);

        if (r >= 0)
                json_null_for_none(properties);
        json_object_object_foreach(properties, name, value)
        {
                char *key = key_of_property(name);

                if (key && r >= 0)
                        json_object_object_add(object, key, json_object_get(value));
                else if (r >= 0)
                        r = -ENOMEM;
                free(key);
        }
        json_object_put(properties);
        return r;
}

/* CTXD_STACK and CTXD_KERNEL_STACK have a line for each frame. */
static bool has_lines(const char *key)
{
        size_t n = key ? strlen(key) : 0;

        return n >= 5 && strcmp(key + n - 5, "STACK") == 0;
}

static int show_one(json_object *object, int flags, json_object *parent, const char *key, size_t *index,
                void *unused)
{
        char *shown;

        if (!json_object_is_type(object, json_type_string))
                return JSON_C_VISIT_RETURN_CONTINUE;
        shown = printable_new(json_object_get_string(object), has_lines(key));
        if (!shown)
                return JSON_C_VISIT_RETURN_ERROR;
        json_object_set_string(object, shown);
        free(shown);
        return JSON_C_VISIT_RETURN_CONTINUE;
}

int json_make_printable(json_object *object)
{
        return json_c_visit(object, 0, show_one, NULL) < 0 ? -ENOMEM : 0;
}
