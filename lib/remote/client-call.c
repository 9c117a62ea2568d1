/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/local/ctx.h"
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

/* The text of a thread's last error. The memory is the kernel's: the thread may be in a signal handler. It
 * stays with the thread's place (local/inside.h), for the next thread there. */
struct failure {
        const struct ctx_client *client;
        char text[CTXD_PATH_ID_MAX + 512];
};

static __thread struct failure *failure_mine __attribute__((tls_model("initial-exec")));

static struct failure *make_failure(struct inside *me)
{
        void *none = NULL, *failure = mmap(NULL, sizeof(struct failure), PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (failure == MAP_FAILED)
                return NULL;
        if (atomic_compare_exchange_strong(&me->last_failure, &none, failure))
                return failure;
        munmap(failure, sizeof(struct failure)); /* a handler was faster */
        return none;
}

static struct failure *this_threads_failure(void)
{
        struct inside *me = inside_me();

        if (!failure_mine) {
                failure_mine = atomic_load(&me->last_failure);
                if (!failure_mine)
                        failure_mine = make_failure(me);
        }
        return failure_mine;
}

int client_set_error(struct ctx_client *client, int r, const char *text)
{
        struct failure *failure = this_threads_failure();
        char copy[sizeof failure->text];

        if (!failure)
                return r;
        /* text may be in failure->text itself */
        *copy = '\0';
        strncat(copy, text ? text : strerrordesc_np(-r), sizeof copy - 1);
        memcpy(failure->text, copy, sizeof copy);
        failure->client = client;
        atomic_store(&inside_mine->last_failure, failure); /* it is complete, for the next thread */
        return r;
}

const char *ctx_client_error(struct ctx_client *client)
{
        const struct failure *failure = failure_mine;

        return failure && (!client || failure->client == client) ? failure->text : "";
}

int client_message(struct ctx_client *client, sd_bus_message **ret, const char *member)
{
        if (!client->bus) /* it has ended since client_begin() */
                return client_set_error(client, -ENOTCONN, NULL);
        return sd_bus_message_new_method_call(
                        client->bus, ret, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member);
}

int client_answer_error(struct ctx_client *client, sd_bus_message *answer)
{
        const sd_bus_error *error = sd_bus_message_get_error(answer);

        return error ? client_set_error(client, to_errno(error, -sd_bus_message_get_errno(answer)),
                                       error->message)
                     : 0;
}

int client_named_error(struct ctx_client *client, const char *name, const char *text)
{
        sd_bus_error error = {.name = name, .message = text};

        return client_set_error(client, to_errno(&error, -sd_bus_error_get_errno(&error)), text);
}

/* 0 with the answer, which may be an error of the daemon; or a negative errno. */
static int ask(struct ctx_client *client, sd_bus_message *m, sd_bus_message **ret)
{
        uint64_t limit = client_limit(), epoch = atomic_load_explicit(&client->epoch, memory_order_relaxed);
        struct client_request request = {};
        int r;

        r = client_request(client, &request, m);
        while (r >= 0 && request.is_open && now_monotonic_usec() < limit)
                client_wait(client, limit);
        if (r >= 0)
                r = request.is_open ? -ETIMEDOUT : request.r;
        client_forget(client, &request);
        /* Meanwhile the client may have come to another daemon. What the old one says is worth nothing
         * then. */
        if (r >= 0 && epoch != atomic_load_explicit(&client->epoch, memory_order_relaxed))
                r = -ECONNRESET;
        if (r >= 0)
                *ret = sd_bus_message_ref(request.answer);
        sd_bus_message_unref(request.answer);
        return r;
}

int client_read_answer(struct ctx_client *client, sd_bus_message *m, sd_bus_message **answer)
{
        int r = 0;

        if (sd_bus_message_is_method_error(*answer, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED))
                r = client_call_interactively(client, m, answer);
        if (r < 0)
                return client_set_error(client, r, NULL);
        r = client_answer_error(client, *answer);
        return r < 0 ? r : 1;
}

int client_send(struct ctx_client *client, sd_bus_message *m, sd_bus_message **ret_reply)
{
        sd_bus_message *answer = NULL;
        int r = ask(client, m, &answer);

        r = r < 0 ? client_set_error(client, r, NULL) : client_read_answer(client, m, &answer);
        if (r >= 0 && ret_reply)
                *ret_reply = sd_bus_message_ref(answer);
        sd_bus_message_unref(answer);
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
