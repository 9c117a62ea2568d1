/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/create.h"

int create_add_value(struct create_arguments *a, const char *text)
{
        const char **values;

        if (!strchr(text, '=')) {
                print_error("--value=%s is not KEY=VALUE: write org.example.user=me, for example", text);
                return EXIT_USAGE;
        }
        values = reallocarray(a->values, a->n_values + 1, sizeof *values);
        if (!values) {
                print_error("out of memory");
                return EXIT_FAILED;
        }
        values[a->n_values++] = text;
        a->values = values;
        return 0;
}

void create_arguments_deinit(struct create_arguments *a)
{
        free(a->values);
        if (a->owner_fd >= 0)
                close(a->owner_fd);
}

static int append_value(sd_bus_message *m, const char *text)
{
        const char *equals = strchr(text, '=');
        _cleanup_free_ char *key = strndup(text, (size_t) (equals - text));

        if (!key)
                return -ENOMEM;
        return sd_bus_message_append(m, "{ss}", key, equals + 1);
}

static int append_values(sd_bus_message *m, const struct create_arguments *a)
{
        int r;

        if ((r = sd_bus_message_open_container(m, 'e', "sv")) < 0 ||
                        (r = sd_bus_message_append_basic(m, 's', "values")) < 0 ||
                        (r = sd_bus_message_open_container(m, 'v', "a{ss}")) < 0 ||
                        (r = sd_bus_message_open_container(m, 'a', "{ss}")) < 0)
                return r;
        for (size_t i = 0; i < a->n_values; i++) {
                r = append_value(m, a->values[i]);
                if (r < 0)
                        return r;
        }
        for (int i = 0; i < 3; i++) {
                r = sd_bus_message_close_container(m);
                if (r < 0)
                        return r;
        }
        return 0;
}

int create_add_arguments(struct arguments *to, const char *path, const struct create_arguments *a)
{
        int r;

        if ((r = arguments_add_string(to, path)) < 0 || (r = arguments_open_options(to)) < 0)
                return r;
        if (a->has_timeout && (r = arguments_add_option(to, "timeout-usec", "t", a->timeout_usec)) < 0)
                return r;
        if (a->has_grace && (r = arguments_add_option(to, "grace-usec", "t", a->grace_usec)) < 0)
                return r;
        if (a->has_mode && (r = arguments_add_option(to, "mode", "u", a->mode)) < 0)
                return r;
        if (a->cause && (r = arguments_add_option(to, "cause", "(is)", ETIMEDOUT, a->cause)) < 0)
                return r;
        if (a->description && (r = arguments_add_option(to, "description", "s", a->description)) < 0)
                return r;
        if (a->parents && (r = arguments_add_option(to, "parents", "b", 1)) < 0)
                return r;
        if (a->open && (r = arguments_add_option(to, "open", "b", 1)) < 0)
                return r;
        if (a->replace && (r = arguments_add_option(to, "replace", "b", 1)) < 0)
                return r;
        if (a->bind_caller && (r = arguments_add_option(to, "bind", "s", "caller")) < 0)
                return r;
        if (a->owner_fd >= 0 && (r = arguments_add_option(to, "owner", "h", a->owner_fd)) < 0)
                return r;
        if (a->attach_fd >= 0 && ((r = arguments_add_option(to, "attach", "h", a->attach_fd)) < 0 ||
                                                 (r = attach_add_options(to, a->attach)) < 0))
                return r;
        if (a->n_values > 0 && (r = to->m ? append_values(to->m, a) : -EOPNOTSUPP) < 0)
                return r;
        r = arguments_close_options(to);
        return r >= 0 && a->tells_made ? arguments_add_bool(to, false) : r; /* no state page */
}

int create_context(struct ctl *ctl, const char *path, const struct create_arguments *a, const char *expected,
                sd_bus_message **ret_reply)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        int r;

        r = bus_message(ctl, &m, a->tells_made ? "CreateAndOpen" : "Create");
        if (r > 0)
                return r;
        r = create_add_arguments(&(struct arguments){.m = m}, path, a);
        return r < 0 ? bus_bad_arguments(r) : bus_send(ctl, m, expected, ret_reply);
}

int create_reference(sd_bus_message *reply, char *ret_reference)
{
        const char *path;
        uint64_t id;
        int r = sd_bus_message_read(reply, "st", &path, &id);

        if (r < 0)
                return bus_broken(r);
        snprintf(ret_reference, CTXD_PATH_ID_MAX + 1, "%s#%" PRIu64, path, id);
        return 0;
}

int create_was_made(sd_bus_message *reply, bool *ret)
{
        int made, r = sd_bus_message_read(reply, "b", &made);

        if (r < 0)
                return bus_broken(r);
        *ret = made;
        return 0;
}
