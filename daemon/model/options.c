/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/path.h"
#include "daemon/model/internal.h"

static int values_check(
                const struct tree *t, const struct value *values, size_t n, struct refused *ret_refused)
{
        uint64_t bytes = 0;
        const char *why;

        if (n > CTXD_VALUES_MAX)
                return refused_limit(ret_refused, "values of a context", NULL, n, CTXD_VALUES_MAX);
        for (size_t i = 0; i < n; i++) {
                if (key_check(values[i].key, &why) < 0)
                        return refused_because(ret_refused, REFUSED_KEY, why);
                for (size_t j = 0; j < i; j++)
                        if (strcmp(values[i].key, values[j].key) == 0)
                                return refused_because(ret_refused, REFUSED_KEY, "it is given twice");
                bytes += strlen(values[i].key) + strlen(values[i].value);
        }
        if (bytes > t->max_value_bytes)
                return refused_limit(ret_refused, "bytes of a context's values", "MaxValueBytes", bytes,
                                t->max_value_bytes);
        return 0;
}

int options_check(const struct tree *t, const struct create_options *o, struct refused *ret_refused)
{
        if (o->mode != CONTEXT_MODE_INHERIT && (o->mode & ~0777U) != 0)
                return refused_because(ret_refused, REFUSED_INVALID, "the mode has bits beyond 0777");
        if (o->has_cause && o->cause_message && strlen(o->cause_message) > CTXD_REASON_MAX)
                return refused_because(ret_refused, REFUSED_INVALID,
                                "the cause of the deadline is longer than 1024 bytes");
        if (o->description && strlen(o->description) > CTXD_DESCRIPTION_MAX)
                return refused_because(
                                ret_refused, REFUSED_INVALID, "the description is longer than 1024 bytes");
        return values_check(t, o->values, o->n_values, ret_refused);
}

struct context *context_new(const char *label, size_t length, const char *description)
{
        size_t extra = description && description[0] != '\0' ? strlen(description) + 1 : 0;
        struct context *c = calloc(1, offsetof(struct context, label) + length + 1 + extra);

        if (!c)
                return NULL;
        LIST_INIT(&c->children);
        memcpy(c->label, label, length);
        if (extra > 0) {
                memcpy(c->label + length + 1, description, extra);
                c->described = true;
        }
        c->deadline_usec = c->wake_usec = UINT64_MAX;
        return c;
}

int context_copy_values(struct context *c, const struct value *values, size_t n)
{
        size_t size = n * sizeof *values;
        struct value *copy;
        char *p;

        if (n == 0)
                return 0;
        for (size_t i = 0; i < n; i++)
                size += strlen(values[i].key) + strlen(values[i].value) + 2;
        copy = malloc(size);
        if (!copy)
                return -ENOMEM;
        p = (char *) (copy + n);
        for (size_t i = 0; i < n; i++) {
                copy[i].key = p;
                p = stpcpy(p, values[i].key) + 1;
                copy[i].value = p;
                p = stpcpy(p, values[i].value) + 1;
        }
        c->values = copy;
        c->n_values = (uint8_t) n;
        return 0;
}
