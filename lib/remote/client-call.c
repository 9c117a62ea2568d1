/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/remote/client.h"
#include "lib/remote/interactive-call.h"

/* Calls to the daemon, and their errors. */

static const struct {
        const char *name;
        int error;
} errors[] = {
                {CTXD_ERROR_NO_SUCH_CONTEXT, ENOENT},
                {CTXD_ERROR_EXISTS, EEXIST},
                {CTXD_ERROR_INVALID_NAME, EINVAL},
                {CTXD_ERROR_INVALID_KEY, EINVAL},
                {CTXD_ERROR_NOT_CANCELABLE, EINVAL},
                {CTXD_ERROR_ALREADY_DONE, EALREADY},
                {CTXD_ERROR_ACCESS_DENIED, EACCES},
                {CTXD_ERROR_LIMITS_EXCEEDED, EDQUOT},
                {CTXD_ERROR_NO_SUCH_PROCESS, ESRCH},
                {SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, EACCES},
};

static int to_errno(const sd_bus_error *error, int r)
{
        for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
                if (sd_bus_error_has_name(error, errors[i].name))
                        return -errors[i].error;
        return r;
}

/* The text of a thread's last error. */
struct failure {
        const struct ctx_client *client;
        char text[CTXD_PATH_ID_MAX + 512];
};

static pthread_once_t failure_once = PTHREAD_ONCE_INIT;
static pthread_key_t failure_key;
static bool failure_key_made;

static void make_failure_key(void)
{
        failure_key_made = pthread_key_create(&failure_key, free) == 0;
}

static struct failure *this_threads_failure(bool make)
{
        struct failure *failure;

        pthread_once(&failure_once, make_failure_key);
        if (!failure_key_made)
                return NULL;
        failure = pthread_getspecific(failure_key);
        if (!failure && make) {
                failure = calloc(1, sizeof *failure);
                if (failure && pthread_setspecific(failure_key, failure) != 0) {
                        free(failure);
                        failure = NULL;
                }
        }
        return failure;
}

int client_set_error(struct ctx_client *client, int r, const char *text)
{
        struct failure *failure = this_threads_failure(true);
        char copy[sizeof failure->text];

        if (!failure)
                return r;
        /* text may be in failure->text itself */
        snprintf(copy, sizeof copy, "%s", text ? text : strerrordesc_np(-r));
        memcpy(failure->text, copy, sizeof copy);
        failure->client = client;
        return r;
}

const char *ctx_client_error(struct ctx_client *client)
{
        const struct failure *failure = this_threads_failure(false);

        return failure && (!client || failure->client == client) ? failure->text : "";
}

int client_message(struct ctx_client *client, sd_bus_message **ret, const char *member)
{
        return sd_bus_message_new_method_call(
                        client->bus, ret, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member);
}

int client_send(struct ctx_client *client, sd_bus_message *m, sd_bus_message **ret_reply)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call(client->bus, m, 0, &error, ret_reply);

        if (r < 0)
                r = client_call_interactively(client, m, &error, ret_reply, r);
        if (r < 0) {
                r = to_errno(&error, r);
                client_set_error(client, r, error.message);
        }
        sd_bus_error_free(&error);
        return r;
}

static int callv(struct ctx_client *client, sd_bus_message **ret_reply, const char *member, const char *types,
                va_list ap)
{
        sd_bus_message *m = NULL;
        int r = client_message(client, &m, member);

        if (r >= 0 && *types) {
                r = sd_bus_message_appendv(m, types, ap);
                if (r < 0) /* a string is not UTF-8 */
                        client_set_error(client, r, NULL);
        }
        if (r >= 0)
                r = client_send(client, m, ret_reply);
        sd_bus_message_unref(m);
        return r;
}

int client_call(struct ctx_client *client, sd_bus_message **ret_reply, const char *member, const char *types,
                ...)
{
        va_list ap;
        int r;

        va_start(ap, types);
        r = callv(client, ret_reply, member, types, ap);
        va_end(ap);
        return r;
}

int message_append_option(sd_bus_message *m, const char *name, const char *type, ...)
{
        va_list ap;
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', name);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', type);
        if (r >= 0) {
                va_start(ap, type);
                r = sd_bus_message_appendv(m, type, ap);
                va_end(ap);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}
