/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/options.h"
#include "util/cleanup.h"

/* One table says of each option what it holds, where that goes, and which calls take it. An integer may have
 * any of D-Bus's integer types, since languages differ in which one they choose by themselves. */

struct option {
        const char *name;
        enum { INTEGER, BOOLEAN, STRING, DESCRIPTOR, OTHER } kind;
        size_t offset, size; /* of its field in struct create_request */
        size_t given;        /* of the flag there which says that there was one; 0: no flag */
        uint64_t max;        /* of an integer; and what is said of one that is larger */
        const char *range;
        bool attach; /* Attach takes it; Create takes it together with the option attach */
        /* Reads one of kind OTHER, the variant included. */
        int (*read)(sd_bus_message *m, struct create_request *q, sd_bus_error *error);
};

static int enter_variant(sd_bus_message *m, const char *option, const char *contents, sd_bus_error *error)
{
        int r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, contents);
        const char *found;
        char type;

        if (r == -ENXIO && sd_bus_message_peek_type(m, &type, &found) > 0 && type == SD_BUS_TYPE_VARIANT)
                return error_invalid_args(
                                error, "Option %s wants a value of type %s, not %s", option, contents, found);
        return r < 0 ? error_malformed(error, r) : 0;
}

static int read_values(sd_bus_message *m, struct create_request *q, sd_bus_error *error)
{
        size_t n = 0;
        int r;

        r = enter_variant(m, "values", "a{ss}", error);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{ss}");
        if (r < 0)
                return error_malformed(error, r);
        for (;;) {
                const char *key, *value;

                r = sd_bus_message_read(m, "{ss}", &key, &value);
                if (r < 0)
                        return error_malformed(error, r);
                if (r == 0)
                        break;
                if (n >= CTXD_VALUES_MAX)
                        return error_invalid_args(error, "A context sets at most %d values", CTXD_VALUES_MAX);
                q->values[n++] = (struct value){(char *) key, (char *) value};
        }
        q->options.values = q->values;
        q->options.n_values = n;
        r = sd_bus_message_exit_container(m);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? error_malformed(error, r) : 0;
}

static int read_cause(sd_bus_message *m, struct create_request *q, sd_bus_error *error)
{
        int r;

        r = enter_variant(m, "cause", "(is)", error);
        if (r < 0)
                return r;
        r = sd_bus_message_read(m, "(is)", &q->options.cause_error, &q->options.cause_message);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r < 0)
                return error_malformed(error, r);
        if (q->options.cause_error < 0)
                return error_invalid_args(error, "The error of a cause is an errno value, 0 or more, not %d",
                                q->options.cause_error);
        q->options.has_cause = true;
        return 0;
}

static int read_basic(sd_bus_message *m, const char *option, char type, void *ret, sd_bus_error *error)
{
        int r = enter_variant(m, option, (const char[]){type, '\0'}, error);

        if (r < 0)
                return r;
        r = sd_bus_message_read_basic(m, type, ret);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? error_malformed(error, r) : 0;
}

static int read_bind(sd_bus_message *m, struct create_request *q, sd_bus_error *error)
{
        const char *text;
        int r;

        r = read_basic(m, "bind", SD_BUS_TYPE_STRING, &text, error);
        if (r < 0)
                return r;
        if (strcmp(text, "caller") != 0 && strcmp(text, "none") != 0)
                return error_invalid_args(error, "Option bind is none or caller, not %s", text);
        q->bind_caller = strcmp(text, "caller") == 0;
        return 0;
}

#define FIELD(name)                                      \
        .offset = offsetof(struct create_request, name), \
        .size = sizeof(((struct create_request *) NULL)->name)
#define GIVEN(name) .given = offsetof(struct create_request, name)

static const struct option options[] = {
                {"timeout-usec", INTEGER, FIELD(timeout_usec), .max = UINT64_MAX},
                {"deadline-usec", INTEGER, FIELD(options.deadline_usec), .max = UINT64_MAX},
                {"grace-usec", INTEGER, FIELD(options.grace_usec), .max = UINT64_MAX},
                {"mode", INTEGER, FIELD(options.mode), .max = 0777, .range = "0 to 0777 (octal)"},
                {"group", INTEGER, FIELD(options.gid), GIVEN(options.has_gid), .max = UINT32_MAX,
                                .range = "the number of a group"},
                {"parents", BOOLEAN, FIELD(options.parents)},
                {"open", BOOLEAN, FIELD(options.open)},
                {"replace", BOOLEAN, FIELD(options.replace)},
                {"description", STRING, FIELD(options.description)},
                {"owner", DESCRIPTOR, FIELD(owner_pidfd)},
                {"attach", DESCRIPTOR, FIELD(attach_pidfd)},
                {"values", OTHER, .read = read_values},
                {"cause", OTHER, .read = read_cause},
                {"bind", OTHER, .read = read_bind},
                {"signal", INTEGER, FIELD(attach.signal), GIVEN(attach.has_signal), .max = _NSIG - 1,
                                .range = "the number of a signal", .attach = true},
                {"kill-after-usec", INTEGER, FIELD(attach.kill_after_usec), GIVEN(attach.has_kill_after),
                                .max = UINT64_MAX, .attach = true},
                {"subreaper", BOOLEAN, FIELD(attach.subreaper), .attach = true},
};

/* Of any integer type. */
static int read_integer(sd_bus_message *m, const struct option *o, uint64_t *ret, sd_bus_error *error)
{
        union {
                uint8_t y;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
        } value;
        const char *contents;
        int64_t number = 0;
        char type;
        int r;

        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r < 0)
                return error_malformed(error, r);
        if (strlen(contents) != 1 || !strchr("ynqiuxt", contents[0]))
                return error_invalid_args(error, "Option %s wants an integer, not %s", o->name, contents);
        type = contents[0]; /* which the message goes on to own */
        r = read_basic(m, o->name, type, &value, error);
        if (r < 0)
                return r;
        switch (type) {
        case SD_BUS_TYPE_BYTE:
                number = value.y;
                break;
        case SD_BUS_TYPE_INT16:
                number = value.n;
                break;
        case SD_BUS_TYPE_UINT16:
                number = value.q;
                break;
        case SD_BUS_TYPE_INT32:
                number = value.i;
                break;
        case SD_BUS_TYPE_UINT32:
                number = value.u;
                break;
        case SD_BUS_TYPE_INT64:
                number = value.x;
                break;
        default:
                *ret = value.t;
                return 0;
        }
        if (number < 0)
                return error_invalid_args(error, "Option %s is not negative", o->name);
        *ret = (uint64_t) number;
        return 0;
}

static int read_option(
                sd_bus_message *m, const struct option *o, struct create_request *q, sd_bus_error *error)
{
        char *field = (char *) q + o->offset;
        uint64_t number = 0;
        int flag = 0, r;

        switch (o->kind) {
        case INTEGER:
                r = read_integer(m, o, &number, error);
                if (r >= 0 && number > o->max)
                        r = error_invalid_args(error, "Option %s is %s", o->name, o->range);
                if (r >= 0)
                        memcpy(field, o->size == 4 ? (void *) &(uint32_t){(uint32_t) number} : &number,
                                        o->size);
                break;
        case BOOLEAN:
                r = read_basic(m, o->name, SD_BUS_TYPE_BOOLEAN, &flag, error);
                if (r >= 0)
                        *(bool *) field = flag;
                break;
        case STRING:
                r = read_basic(m, o->name, SD_BUS_TYPE_STRING, field, error);
                break;
        case DESCRIPTOR:
                r = read_basic(m, o->name, SD_BUS_TYPE_UNIX_FD, field, error);
                break;
        default:
                r = o->read(m, q, error);
        }
        if (r >= 0 && o->given > 0)
                *((bool *) q + o->given) = true;
        return r;
}

static int read_named(sd_bus_message *m, struct create_request *q, bool attach, sd_bus_error *error)
{
        const char *name;
        int r;

        r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &name);
        if (r < 0)
                return error_malformed(error, r);
        for (size_t i = 0; i < ELEMENTSOF(options); i++)
                if (strcmp(options[i].name, name) == 0 && (options[i].attach || !attach))
                        return read_option(m, &options[i], q, error);
        return error_invalid_args(error, "There is no option %s", name);
}

/* Those of Attach alone, or of Create and Derive. */
static int options_read(sd_bus_message *m, bool attach, struct create_request *ret, sd_bus_error *error)
{
        int r;

        *ret = (struct create_request){
                        .options = {.deadline_usec = CTXD_USEC_INFINITY, .mode = CONTEXT_MODE_INHERIT},
                        .timeout_usec = CTXD_USEC_INFINITY,
                        .owner_pidfd = -1,
                        .attach_pidfd = -1,
        };
        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r < 0)
                return error_malformed(error, r);
        while ((r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
                r = read_named(m, ret, attach, error);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        break;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? error_malformed(error, r) : 0;
}

int options_read_create(sd_bus_message *m, struct create_request *ret, sd_bus_error *error)
{
        int r = options_read(m, false, ret, error);

        if (r < 0)
                return r;
        if (ret->bind_caller && ret->owner_pidfd >= 0)
                return error_invalid_args(
                                error, "Options bind and owner exclude each other: one owner, or the caller");
        if ((ret->attach.has_signal || ret->attach.has_kill_after || ret->attach.subreaper) &&
                        ret->attach_pidfd < 0)
                return error_invalid_args(
                                error, "Options signal, kill-after-usec and subreaper go with attach");
        return 0;
}

int options_read_attach(sd_bus_message *m, struct attach_options *ret, sd_bus_error *error)
{
        struct create_request request;
        int r = options_read(m, true, &request, error);

        if (r >= 0)
                *ret = request.attach;
        return r;
}
