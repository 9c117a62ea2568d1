/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/local/thread.h"
#include "lib/remote/context.h"

/* ctx_from_env(): the context that this process was started in. */

static struct lock lock = LOCK_INIT(LOCK_FROM_ENV);
static struct ctx_client *the_client; /* the process's own, made on first use */

/* Puts client in place if there is none of this process yet; client may be NULL. Returns the one that is in
 * place, with a reference, and in *ret_useless one that the caller gives up. */
static struct ctx_client *set_client(struct ctx_client *client, struct ctx_client **ret_useless)
{
        lock_acquire(&lock);
        *ret_useless = client;
        if (!the_client || client_is_inherited(the_client)) {
                *ret_useless = the_client;
                the_client = client;
        }
        client = the_client ? client_ref(the_client) : NULL;
        lock_release(&lock);
        return client;
}

/* The client is made without the lock: sd-bus may fork in order to connect, and a fork takes the lock. */
static struct ctx_client *get_client(void)
{
        struct ctx_client *useless, *client = set_client(NULL, &useless), *fresh;

        ctx_client_unref(useless);
        if (client)
                return client;
        fresh = ctx_client_new(NULL);
        if (!fresh)
                return NULL;
        client = set_client(fresh, &useless);
        ctx_client_unref(useless);
        return client;
}

/* Asks in which context the process is, by what the kernel knows. buffer has CTXD_PATH_ID_MAX + 1 bytes. It
 * becomes "/" if the process is in none. */
static int ask_current(struct ctx_client *client, char *buffer)
{
        sd_bus_message *reply = NULL;
        const char *path;
        int r;

        r = client_begin(client);
        if (r < 0)
                return r;
        r = client_call(client, &reply, "Current", "");
        if (r >= 0)
                r = sd_bus_message_read(reply, "s", &path);
        if (r >= 0 && strlen(path) > CTXD_PATH_ID_MAX)
                r = -EBADMSG;
        if (r >= 0)
                strcpy(buffer, path);
        sd_bus_message_unref(reply);
        client_end(client);
        return r;
}

struct ctx *ctx_from_env(void)
{
        THREAD_STAYS;
        const char *named = secure_getenv(CTXD_ENV_CONTEXT);
        char current[CTXD_PATH_ID_MAX + 1] = "/";
        struct ctx_client *client;
        struct ctx *ctx;
        int r, saved;

        if (named && (!*named || strcmp(named, "/") == 0))
                named = NULL;
        client = get_client();
        /* errno says why. Without a daemon, a process can only be in the background. */
        if (!client)
                return named ? NULL : ctx_background();
        r = ask_current(client, current);
        if (r >= 0 && strcmp(current, "/") != 0)
                ctx = ctx_open(client, current);
        else if (named)
                ctx = ctx_open(client, named);
        else
                ctx = ctx_background();
        saved = errno;
        ctx_client_unref(client);
        errno = saved;
        return ctx;
}

FORK_PART(.lock = &lock)
