/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/context.h"

char *context_path(const struct context *c, char *buffer)
{
        size_t length = 0;

        if (context_is_background(c)) {
                strcpy(buffer, "/");
                return buffer;
        }
        for (const struct context *p = c; p->parent; p = p->parent)
                length += strlen(p->label) + 1;
        assert(length <= CTXD_PATH_MAX + 1);

        /* From the end, where we are; each label is followed by a slash, and the last one by the end. */
        for (char *end = buffer + length, after = '\0'; c->parent; c = c->parent, after = '/') {
                size_t n = strlen(c->label);

                *--end = after;
                end -= n;
                memcpy(end, c->label, n);
        }
        return buffer;
}

char *context_reference(const struct context *c, char *buffer)
{
        context_path(c, buffer);
        if (!context_is_background(c))
                sprintf(buffer + strlen(buffer), "#%" PRIu64, c->id);
        return buffer;
}

struct context *context_origin(const struct context *c)
{
        if (!context_is_done(c))
                return NULL;
        for (unsigned i = c->origin_up; i > 0; i--)
                c = c->parent;
        return (struct context *) c;
}

const char *context_description(const struct context *c)
{
        return c->described ? c->label + strlen(c->label) + 1 : "";
}

const char *context_err(const struct context *c)
{
        switch (c->state) {
        case CONTEXT_CANCELED:
                return CTXD_ERR_CANCELED;
        case CONTEXT_DEADLINE_EXCEEDED:
                return CTXD_ERR_DEADLINE;
        case CONTEXT_ACTIVE:
                break;
        }
        return "";
}

int context_err_code(const struct context *c)
{
        switch (c->state) {
        case CONTEXT_CANCELED:
                return ECANCELED;
        case CONTEXT_DEADLINE_EXCEEDED:
                return ETIMEDOUT;
        case CONTEXT_ACTIVE:
                break;
        }
        return 0;
}

const char *context_cause(const struct context *c, int *ret_error)
{
        const struct context *origin = context_origin(c);
        const struct cause *cause = origin ? origin->cause : NULL;

        if (ret_error)
                *ret_error = cause && cause->error != 0 ? cause->error : context_err_code(c);
        return cause && cause->message[0] != '\0' ? cause->message : context_err(c);
}

const struct cause *context_canceled_by(const struct context *c)
{
        const struct context *origin = context_origin(c);

        return origin && origin->state == CONTEXT_CANCELED ? origin->cause : NULL;
}

const char *context_value(const struct context *c, const char *key)
{
        for (; c; c = c->parent)
                for (unsigned i = 0; i < c->n_values; i++)
                        if (strcmp(c->values[i].key, key) == 0)
                                return c->values[i].value;
        return NULL;
}

bool context_is_below(const struct context *c, const struct context *a)
{
        while (c && c != a)
                c = c->parent;
        return c;
}

struct cause *cause_new(int error, const char *message, uid_t uid, pid_t pid, const char *comm)
{
        size_t length = message ? strlen(message) : 0;
        struct cause *cause = calloc(1, sizeof *cause + length + 1);

        if (!cause)
                return NULL;
        cause->error = error;
        cause->uid = uid;
        cause->pid = pid;
        if (comm)
                snprintf(cause->comm, sizeof cause->comm, "%s", comm);
        if (message)
                memcpy(cause->message, message, length);
        return cause;
}
