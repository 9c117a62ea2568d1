/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/options.h"
#include "util/cleanup.h"

/* Reads the next variant if it has the right type. */
static int read_variant(
                sd_bus_message *m, const char *option, const char *contents, void *ret, sd_bus_error *error)
{
        const char *found;
        char type;
        int r;

        r = sd_bus_message_peek_type(m, &type, &found);
        if (r < 0)
                return error_malformed(error, r);
        if (strcmp(found, contents) != 0)
                return error_invalid_args(
                                error, "Option %s wants a value of type %s, not %s", option, contents, found);
        r = sd_bus_message_read(m, "v", contents, ret);
        return r < 0 ? error_malformed(error, r) : 0;
}

static int read_values(sd_bus_message *m, struct create_request *q, sd_bus_error *error)
{
        size_t n = 0;
        int r;

        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, "a{ss}");
        if (r < 0)
                return error_invalid_args(error, "Option values wants a dictionary of strings, a{ss}");
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

        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, "(is)");
        if (r < 0)
                return error_invalid_args(error, "Option cause wants an error number and a message, (is)");
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

static int read_bind(sd_bus_message *m, struct create_request *q, sd_bus_error *error)
{
        const char *text;
        int r;

        r = read_variant(m, "bind", "s", &text, error);
        if (r < 0)
                return r;
        if (strcmp(text, "caller") != 0 && strcmp(text, "none") != 0)
                return error_invalid_args(error, "Option bind is none or caller, not %s", text);
        q->bind_caller = strcmp(text, "caller") == 0;
        return 0;
}

/* Reads an option of Attach, which Create takes, too. 1: it was one. */
static int read_attach_option(
                sd_bus_message *m, const char *name, struct attach_options *a, sd_bus_error *error)
{
        int r;

        if (strcmp(name, "signal") == 0) {
                int signal;

                r = read_variant(m, name, "i", &signal, error);
                if (r < 0)
                        return r;
                if (signal < 0 || signal > SIGRTMAX)
                        return error_invalid_args(error, "There is no signal %d", signal);
                a->signal = signal;
                a->has_signal = true;
                return 1;
        }
        if (strcmp(name, "kill-after-usec") == 0) {
                r = read_variant(m, name, "t", &a->kill_after_usec, error);
                if (r < 0)
                        return r;
                a->has_kill_after = true;
                return 1;
        }
        return 0;
}

static int read_create_option(
                sd_bus_message *m, const char *name, struct create_request *q, sd_bus_error *error)
{
        struct create_options *o = &q->options;
        int flag, r;

        if (strcmp(name, "timeout-usec") == 0)
                return read_variant(m, name, "t", &q->timeout_usec, error);
        if (strcmp(name, "deadline-usec") == 0)
                return read_variant(m, name, "t", &o->deadline_usec, error);
        if (strcmp(name, "grace-usec") == 0)
                return read_variant(m, name, "t", &o->grace_usec, error);
        if (strcmp(name, "description") == 0)
                return read_variant(m, name, "s", &o->description, error);
        if (strcmp(name, "owner") == 0)
                return read_variant(m, name, "h", &q->owner_pidfd, error);
        if (strcmp(name, "attach") == 0)
                return read_variant(m, name, "h", &q->attach_pidfd, error);
        if (strcmp(name, "values") == 0)
                return read_values(m, q, error);
        if (strcmp(name, "cause") == 0)
                return read_cause(m, q, error);
        if (strcmp(name, "bind") == 0)
                return read_bind(m, q, error);
        if (strcmp(name, "mode") == 0) {
                r = read_variant(m, name, "u", &o->mode, error);
                if (r >= 0 && o->mode > 0777)
                        return error_invalid_args(
                                        error, "Option mode is 0 to 0777 (octal), not 0%o", o->mode);
                return r;
        }
        if (strcmp(name, "group") == 0) {
                uint32_t gid;

                r = read_variant(m, name, "u", &gid, error);
                if (r < 0)
                        return r;
                o->gid = gid;
                o->has_gid = true;
                return 0;
        }
        if (strcmp(name, "parents") == 0 || strcmp(name, "open") == 0) {
                r = read_variant(m, name, "b", &flag, error);
                if (r < 0)
                        return r;
                if (name[0] == 'p')
                        o->parents = flag;
                else
                        o->open = flag;
                return 0;
        }
        r = read_attach_option(m, name, &q->attach, error);
        if (r == 0)
                return error_invalid_args(error, "There is no option %s", name);
        return r;
}

/* Walks an a{sv}. For each name it calls one(), which reads the variant. */
static int read_dictionary(sd_bus_message *m,
                int (*one)(sd_bus_message *m, const char *name, void *userdata, sd_bus_error *error),
                void *userdata, sd_bus_error *error)
{
        int r;

        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r < 0)
                return error_malformed(error, r);
        while ((r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
                const char *name;

                r = sd_bus_message_read(m, "s", &name);
                if (r < 0)
                        break;
                r = one(m, name, userdata, error);
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

static int one_create(sd_bus_message *m, const char *name, void *userdata, sd_bus_error *error)
{
        return read_create_option(m, name, userdata, error);
}

int options_read_create(sd_bus_message *m, struct create_request *ret, sd_bus_error *error)
{
        int r;

        *ret = (struct create_request){
                        .options = {.deadline_usec = CTXD_USEC_INFINITY, .mode = CONTEXT_MODE_INHERIT},
                        .timeout_usec = CTXD_USEC_INFINITY,
                        .owner_pidfd = -1,
                        .attach_pidfd = -1,
        };
        r = read_dictionary(m, one_create, ret, error);
        if (r < 0)
                return r;
        if (ret->bind_caller && ret->owner_pidfd >= 0)
                return error_invalid_args(
                                error, "Options bind and owner exclude each other: one owner, or the caller");
        if ((ret->attach.has_signal || ret->attach.has_kill_after) && ret->attach_pidfd < 0)
                return error_invalid_args(error, "Options signal and kill-after-usec go with attach");
        return 0;
}

static int one_attach(sd_bus_message *m, const char *name, void *userdata, sd_bus_error *error)
{
        int r = read_attach_option(m, name, userdata, error);

        return r == 0 ? error_invalid_args(error, "There is no option %s", name) : r;
}

int options_read_attach(sd_bus_message *m, struct attach_options *ret, sd_bus_error *error)
{
        *ret = (struct attach_options){};
        return read_dictionary(m, one_attach, ret, error);
}
