/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/local/options.h"
#include "lib/remote/context.h"
#include "proto/path.h"

#define FLAGS_ALL (CTX_CREATE_PARENTS | CTX_CREATE_OPEN | CTX_CREATE_UNBOUND)

static int take_options(const struct ctx_create_options *options, struct ctx_create_options *ret)
{
        int r;

        *ret = (struct ctx_create_options) CTX_CREATE_OPTIONS;
        if (!options)
                return 0;
        r = options_take(options, CTX_CREATE_OPTIONS_SIZE_VER0, ret, sizeof *ret);
        if (r < 0)
                return r;
        if (ret->flags & ~FLAGS_ALL || ret->cause_error < 0)
                return -EINVAL;
        if (ret->owner_pidfd >= 0 && ret->flags & CTX_CREATE_UNBOUND)
                return -EINVAL;
        return 0;
}

static int append_value(sd_bus_message *m, const char *text)
{
        const char *equals = strchr(text, '=');
        char key[CTXD_KEY_MAX + 2]; /* the daemon refuses one that is too long */

        if (!equals)
                return -EINVAL;
        snprintf(key, sizeof key, "%.*s", (int) (equals - text), text);
        return sd_bus_message_append(m, "{ss}", key, equals + 1);
}

static int append_values(sd_bus_message *m, const char *const *values)
{
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', "values");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a{ss}");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{ss}");
        for (; r >= 0 && *values; values++)
                r = append_value(m, *values);
        for (int i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_options(sd_bus_message *m, const struct ctx_create_options *o)
{
        const char *cause = o->cause_message ? o->cause_message : "";
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && o->timeout_usec != UINT64_MAX)
                r = message_append_option(m, "timeout-usec", "t", o->timeout_usec);
        if (r >= 0 && o->deadline_usec != UINT64_MAX)
                r = message_append_option(m, "deadline-usec", "t", o->deadline_usec);
        if (r >= 0 && (o->cause_message || o->cause_error > 0))
                r = message_append_option(m, "cause", "(is)", o->cause_error, cause);
        if (r >= 0 && o->mode != CTX_MODE_INHERIT)
                r = message_append_option(m, "mode", "u", o->mode);
        if (r >= 0 && o->grace_usec != 0)
                r = message_append_option(m, "grace-usec", "t", o->grace_usec);
        if (r >= 0 && o->description)
                r = message_append_option(m, "description", "s", o->description);
        if (r >= 0 && o->values)
                r = append_values(m, o->values);
        if (r >= 0 && o->flags & CTX_CREATE_PARENTS)
                r = message_append_option(m, "parents", "b", 1);
        if (r >= 0 && o->flags & CTX_CREATE_OPEN)
                r = message_append_option(m, "open", "b", 1);
        if (r >= 0 && o->owner_pidfd >= 0)
                r = message_append_option(m, "owner", "h", o->owner_pidfd);
        else if (r >= 0 && !(o->flags & CTX_CREATE_UNBOUND))
                r = message_append_option(m, "bind", "s", "caller");
        return r < 0 ? r : sd_bus_message_close_container(m);
}

struct named {
        char reference[CTXD_PATH_ID_MAX + 1];
        uint64_t id;
        uint64_t deadline_usec;
};

/* client_begin() was called. */
static int call_create(struct ctx_client *client, const char *path, const struct ctx_create_options *options,
                struct named *ret)
{
        sd_bus_message *m = NULL, *reply = NULL;
        const char *name;
        int r;

        r = client_message(client, &m, "Create");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", path);
        if (r >= 0)
                r = append_options(m, options);
        if (r < 0)
                client_set_error(client, r,
                                r == -EINVAL ? "A path, value or text is not UTF-8, or a value has no '='"
                                             : NULL);
        else
                r = client_send(client, m, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "st", &name, &ret->id);
        if (r >= 0)
                snprintf(ret->reference, sizeof ret->reference, "%s#%" PRIu64, name, ret->id);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        return r < 0 ? r : 0;
}

/* client_begin() was called. 1: found; 0: not in the list, because it was released or does not exist. */
static int call_list(struct ctx_client *client, const char *path, struct named *ret)
{
        sd_bus_message *reply = NULL;
        const char *name;
        int r;

        r = client_call(client, &reply, "List", "ssu", path, "", (uint32_t) 1);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(ststts)");
        if (r >= 0)
                r = sd_bus_message_read(
                                reply, "(ststts)", &name, &ret->id, NULL, &ret->deadline_usec, NULL, NULL);
        if (r > 0)
                snprintf(ret->reference, sizeof ret->reference, "%s#%" PRIu64, name, ret->id);
        sd_bus_message_unref(reply);
        return r;
}

/* client_begin() was called. A released context has no path and is in no list, but path#id still means it. */
static int call_open(struct ctx_client *client, const char *path, struct named *ret)
{
        struct reference reference;
        int r;

        r = call_list(client, path, ret);
        if (r != 0)
                return r;
        r = client_call(client, NULL, "Err", "s", path);
        if (r < 0)
                return r;
        r = reference_parse(path, getuid(), false, &reference, NULL);
        if (r < 0)
                return r;
        if (reference.id == 0)
                return client_set_error(client, -ENOENT, "The context was released meanwhile");
        snprintf(ret->reference, sizeof ret->reference, "%s#%" PRIu64, reference.path, reference.id);
        ret->id = reference.id;
        ret->deadline_usec = CTX_NEVER;
        return 0;
}

/* If r is negative, it becomes errno. */
static struct ctx *finish(struct ctx_client *client, const struct named *named, int r)
{
        struct remote_context *remote = NULL;

        if (r >= 0)
                r = remote_context_new(client, named->reference, named->id, named->deadline_usec, &remote);
        if (r < 0) {
                errno = -r;
                return NULL;
        }
        return &remote->shared.wide.ctx;
}

struct ctx *ctx_create(struct ctx_client *client, const char *path, const struct ctx_create_options *options)
{
        struct named named = {.deadline_usec = CTX_NEVER};
        struct ctx_create_options o;
        int r;

        if (!client || !path) {
                errno = EINVAL;
                return NULL;
        }
        r = take_options(options, &o);
        if (r < 0)
                return finish(client, NULL,
                                client_set_error(client, r,
                                                "The options have a size, flag or number that is not known"));
        r = client_begin(client);
        if (r >= 0) {
                r = call_create(client, path, &o, &named);
                client_end(client);
        }
        return finish(client, &named, r);
}

struct ctx *ctx_open(struct ctx_client *client, const char *path)
{
        struct named named = {};
        int r;

        if (!client || !path) {
                errno = EINVAL;
                return NULL;
        }
        if (strcmp(path, "/") == 0)
                return ctx_background();
        r = client_begin(client);
        if (r >= 0) {
                r = call_open(client, path, &named);
                client_end(client);
        }
        return finish(client, &named, r);
}
