/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "proto/wire.h"

#define BYTE_ORDER_MARK (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 'l' : 'B')
#define MESSAGE_MAX (UINT32_C(1) << 27)

enum message_type { METHOD_CALL = 1, METHOD_RETURN, METHOD_ERROR };
enum field {
        FIELD_PATH = 1,
        FIELD_INTERFACE,
        FIELD_MEMBER,
        FIELD_ERROR_NAME,
        FIELD_REPLY_SERIAL,
        FIELD_DESTINATION,
        FIELD_SENDER,
        FIELD_SIGNATURE,
        FIELD_UNIX_FDS,
};

static void put(struct wire *w, const void *data, size_t n)
{
        if (w->is_over || n > w->size - w->at) {
                w->is_over = true;
                return;
        }
        memcpy(w->data + w->at, data, n);
        w->at += n;
}

void wire_put_text(struct wire *w, const char *text, size_t n)
{
        put(w, text, n);
}

/* The alignment of a message is from its own beginning. */
static void put_padding(struct wire *w, size_t alignment)
{
        static const uint8_t zeros[8];

        put(w, zeros, -(w->at - w->from) % alignment);
}

void wire_put_u32(struct wire *w, uint32_t value)
{
        put_padding(w, 4);
        put(w, &value, sizeof value);
}

void wire_put_u64(struct wire *w, uint64_t value)
{
        put_padding(w, 8);
        put(w, &value, sizeof value);
}

void wire_put_string(struct wire *w, const char *text)
{
        size_t n = strlen(text);

        wire_put_u32(w, (uint32_t) n);
        put(w, text, n + 1);
}

static void put_signature(struct wire *w, const char *types)
{
        uint8_t n = (uint8_t) strlen(types);

        put(w, &n, 1);
        put(w, types, n + 1U);
}

static void begin_field(struct wire *w, enum field field, const char *type)
{
        put_padding(w, 8);
        put(w, &(uint8_t){field}, 1);
        put_signature(w, type);
}

static void put_field(struct wire *w, enum field field, const char *type, const char *text)
{
        begin_field(w, field, type);
        if (*type == 'g')
                put_signature(w, text);
        else
                wire_put_string(w, text);
}

static void set_u32(struct wire *w, size_t at, size_t value)
{
        uint32_t v = (uint32_t) value;

        if (!w->is_over)
                memcpy(w->data + at, &v, sizeof v);
}

void wire_begin_call(struct wire *w, const struct wire_call *call)
{
        w->from = w->at;
        put(w, (uint8_t[]){BYTE_ORDER_MARK, METHOD_CALL, call->flags, 1}, 4);
        wire_put_u32(w, 0); /* the length of the body */
        wire_put_u32(w, call->serial);
        wire_put_u32(w, 0); /* that of the fields */
        put_field(w, FIELD_PATH, "o", call->path);
        put_field(w, FIELD_INTERFACE, "s", call->interface);
        put_field(w, FIELD_MEMBER, "s", call->member);
        put_field(w, FIELD_DESTINATION, "s", call->destination);
        if (*call->types)
                put_field(w, FIELD_SIGNATURE, "g", call->types);
        if (call->n_fds > 0) {
                begin_field(w, FIELD_UNIX_FDS, "u");
                wire_put_u32(w, call->n_fds);
        }
        set_u32(w, w->from + 12, w->at - w->from - 16);
        put_padding(w, 8);
        w->body = w->at;
}

void wire_end_call(struct wire *w)
{
        set_u32(w, w->from + 4, w->at - w->body);
}

void wire_open_options(struct wire *w)
{
        wire_put_u32(w, 0); /* their length, without the padding before them */
        w->options = w->at;
        put_padding(w, 8);
}

void wire_put_option(struct wire *w, const char *name, const char *type)
{
        put_padding(w, 8);
        wire_put_string(w, name);
        put_signature(w, type);
}

void wire_close_options(struct wire *w)
{
        size_t begin = w->options + -(w->options - w->from) % 8;

        set_u32(w, w->options - 4, w->at - begin);
}

void wire_put_call(struct wire *w, const struct wire_call *call)
{
        wire_begin_call(w, call);
        if (*call->types)
                wire_put_string(w, call->text);
        if (strcmp(call->types, "ss") == 0)
                wire_put_string(w, "");
        if (strcmp(call->types, "sb") == 0)
                wire_put_u32(w, false);
        wire_end_call(w);
}

static const uint8_t *get(struct wire *w, size_t n, size_t alignment)
{
        size_t at = w->at + -w->at % alignment;

        if (w->is_over || at > w->size || n > w->size - at) {
                w->is_over = true;
                return NULL;
        }
        w->at = at + n;
        return w->data + at;
}

uint32_t wire_get_u32(struct wire *w)
{
        const uint8_t *p = get(w, 4, 4);
        uint32_t value = 0;

        if (p)
                memcpy(&value, p, sizeof value);
        return value;
}

uint64_t wire_get_u64(struct wire *w)
{
        const uint8_t *p = get(w, 8, 8);
        uint64_t value = 0;

        if (p)
                memcpy(&value, p, sizeof value);
        return value;
}

static const char *get_text(struct wire *w, size_t n)
{
        const uint8_t *p = n < w->size ? get(w, n + 1, 1) : NULL;

        if (p && memchr(p, '\0', n + 1) == p + n)
                return (const char *) p;
        w->is_over = true;
        return "";
}

const char *wire_get_string(struct wire *w)
{
        return get_text(w, wire_get_u32(w));
}

static const char *get_signature(struct wire *w)
{
        const uint8_t *n = get(w, 1, 1);

        return n ? get_text(w, *n) : "";
}

size_t wire_size(const uint8_t *data, size_t n)
{
        uint32_t body, fields;

        if (n < 16)
                return 0;
        memcpy(&body, data + 4, sizeof body);
        memcpy(&fields, data + 12, sizeof fields);
        if (data[0] != BYTE_ORDER_MARK || body > MESSAGE_MAX || fields > MESSAGE_MAX)
                return SIZE_MAX;
        return 16 + ((size_t) fields + 7) / 8 * 8 + body;
}

static void read_field(struct wire *w, struct wire_message *m)
{
        const uint8_t *field = get(w, 1, 8);
        const char *type = get_signature(w), *text = "";
        uint32_t number = 0;

        if (*type == 'u')
                number = wire_get_u32(w);
        else if (*type == 'g')
                text = get_signature(w);
        else if (*type == 's' || *type == 'o')
                text = wire_get_string(w);
        else
                w->is_over = true;
        if (w->is_over)
                return;
        if (*field == FIELD_REPLY_SERIAL)
                m->reply_serial = number;
        else if (*field == FIELD_ERROR_NAME)
                m->error = text;
        else if (*field == FIELD_SENDER)
                m->sender = text;
        else if (*field == FIELD_SIGNATURE)
                m->types = text;
}

bool wire_read(uint8_t *data, size_t size, struct wire_message *ret)
{
        struct wire_message m = {.error = "", .sender = "", .types = "", .size = size};
        struct wire fields = {.data = data, .at = 16};
        uint32_t n_fields, n_body;

        if (wire_size(data, size) != size)
                return false;
        memcpy(&n_body, data + 4, sizeof n_body);
        memcpy(&n_fields, data + 12, sizeof n_fields);
        m.is_error = data[1] == METHOD_ERROR;
        m.is_answer = m.is_error || data[1] == METHOD_RETURN;
        fields.size = 16 + n_fields;
        while (fields.at < fields.size && !fields.is_over)
                read_field(&fields, &m);
        m.body = (struct wire){.data = data + size - n_body, .size = n_body};
        *ret = m;
        return !fields.is_over;
}
