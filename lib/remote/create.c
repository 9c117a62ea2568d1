/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/local/options.h"
#include "lib/local/thread.h"
#include "lib/remote/context.h"
#include "lib/remote/line.h"
#include "lib/remote/mapped-page.h"

#define FLAGS_ALL (CTX_CREATE_PARENTS | CTX_CREATE_OPEN | CTX_CREATE_UNBOUND | CTX_CREATE_REPLACE)

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
        if (r >= 0 && o->flags & CTX_CREATE_REPLACE)
                r = message_append_option(m, "replace", "b", 1);
        if (r >= 0 && o->owner_pidfd >= 0)
                r = message_append_option(m, "owner", "h", o->owner_pidfd);
        else if (r >= 0 && !(o->flags & CTX_CREATE_UNBOUND))
                r = message_append_option(m, "bind", "s", "caller");
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* What can be done beforehand, so that the reply can be received: the first page comes with a descriptor. */
static int check_room(struct ctx_client *client)
{
        int fd = fcntl(sd_bus_get_fd(client->bus), F_DUPFD_CLOEXEC, 3);

        /* EINVAL: RLIMIT_NOFILE allows no number as high as that. */
        if (fd < 0)
                return client_set_error(client, errno == EINVAL ? -EMFILE : -errno,
                                "There is no descriptor left for the state page");
        close(fd);
        return 0;
}

/* The daemon gives a page to the library once, and from then on says its number. */
static int find_page(struct ctx_client *client, sd_bus_message *reply, uint64_t number, struct opened *o)
{
        sd_bus_message *asked = NULL;
        int fd, r;

        o->page = mapped_page_find(client->pages, number);
        if (o->page)
                return 0;
        r = sd_bus_message_rewind(reply, true);
        if (r >= 0)
                r = sd_bus_message_skip(reply, "stbut");
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "h");
        if (r >= 0)
                r = sd_bus_message_read(reply, "h", &fd); /* the message owns it */
        if (r == 0) {
                r = client_call(client, &asked, "Page", "s", o->reference);
                if (r >= 0)
                        r = sd_bus_message_read(asked, "h", &fd);
        }
        if (r >= 0)
                r = mapped_page_add(&client->pages, fd, &o->page);
        sd_bus_message_unref(asked);
        return r;
}

/* client_begin() was called. */
static int read_opened(struct ctx_client *client, sd_bus_message *reply, struct opened *o, bool *ret_made)
{
        uint64_t number, offset;
        const char *path;
        int made, r;

        r = sd_bus_message_read(reply, "stbut", &path, &o->id, &made, NULL, &o->deadline_usec);
        if (r >= 0)
                r = sd_bus_message_skip(reply, "ah");
        if (r >= 0)
                r = sd_bus_message_read(reply, "ttt", &number, &offset, &o->word);
        if (r < 0)
                return client_set_error(client, r, NULL);
        snprintf(o->reference, sizeof o->reference, "%s#%" PRIu64, path, o->id);
        o->epoch = atomic_load_explicit(&client->epoch, memory_order_relaxed);
        o->slot = NULL;
        o->page = NULL;
        *ret_made = made;
        if (number == 0)
                return 0;
        r = find_page(client, reply, number, o);
        if (r >= 0) {
                o->slot = mapped_page_slot(o->page, offset);
                r = o->slot ? 0 : -EBADMSG;
        }
        return r < 0 ? client_set_error(client, r,
                                       r == -EBADMSG ? "The daemon's state page cannot be read" : NULL)
                     : 0;
}

/* Asks by CreateAndOpen, or, without options, by Open. client_begin() was called. Also if it fails, *made
 * says whether the daemon has made opened->reference. */
static int ask(struct ctx_client *client, const char *path, const struct ctx_create_options *options,
                struct opened *opened, bool *made, struct remote_context **ret)
{
        sd_bus_message *m = NULL, *reply = NULL;
        bool send_page = !client->pages;
        int r;

        r = send_page ? check_room(client) : 0;
        if (r < 0)
                return r;
        r = client_message(client, &m, options ? "CreateAndOpen" : "Open");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", path);
        if (r >= 0 && options)
                r = append_options(m, options);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", send_page);
        if (r < 0)
                client_set_error(client, r,
                                r == -EINVAL ? "A path, value or text is not UTF-8, or a value has no '='"
                                             : NULL);
        else
                r = client_send(client, m, &reply);
        if (r >= 0)
                r = read_opened(client, reply, opened, made);
        if (r >= 0) {
                r = remote_context_new(client, opened, ret);
                if (r < 0)
                        client_set_error(client, r, NULL);
        }
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        return r < 0 ? r : 0;
}

/* Nobody knows of it yet. The error of before is the one that counts. */
static void take_back(struct ctx_client *client, const char *reference, int r)
{
        char why[512];

        snprintf(why, sizeof why, "%s", ctx_client_error(client));
        if (client_begin(client) >= 0) {
                client_call(client, NULL, "Release", "s", reference);
                client_end(client);
        }
        client_set_error(client, r, why);
}

static struct ctx *create_or_open(
                struct ctx_client *client, const char *path, const struct ctx_create_options *options)
{
        THREAD_STAYS;
        struct remote_context *remote = NULL;
        struct opened opened;
        bool made = false;
        int r;

        r = client_begin(client);
        if (r >= 0) {
                r = ask(client, path, options, &opened, &made, &remote);
                client_end(client);
        }
        /* Without a page the handle says when it is done. */
        if (r >= 0 && !remote->page)
                r = done_handle_open(remote);
        if (r < 0) {
                if (remote)
                        ctx_unref(&remote->shared.wide.ctx);
                if (made)
                        take_back(client, opened.reference, r);
                errno = -r;
                return NULL;
        }
        line_keep_ready(client);
        return &remote->shared.wide.ctx;
}

struct ctx *ctx_create(struct ctx_client *client, const char *path, const struct ctx_create_options *options)
{
        struct ctx_create_options o;
        int r;

        if (!client || !path) {
                errno = EINVAL;
                return NULL;
        }
        r = take_options(options, &o);
        if (r < 0) {
                client_set_error(client, r, "The options have a size, flag or number that is not known");
                errno = -r;
                return NULL;
        }
        return create_or_open(client, path, &o);
}

struct ctx *ctx_open(struct ctx_client *client, const char *path)
{
        if (!client || !path) {
                errno = EINVAL;
                return NULL;
        }
        return strcmp(path, "/") == 0 ? ctx_background() : create_or_open(client, path, NULL);
}
