/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/local/patience.h"
#include "lib/local/thread.h"
#include "lib/remote/context.h"
#include "proto/path.h"

/* What the daemon says in its properties. */

#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"

/* client_begin() was called. property NULL: all of the interface. */
static int get(struct ctx_client *client, const char *object, const char *interface, const char *property,
                sd_bus_message **ret)
{
        sd_bus_message *m = NULL;
        int r;

        r = client->bus ? sd_bus_message_new_method_call(client->bus, &m, CTXD_BUS_NAME, object,
                                          PROPERTIES_INTERFACE, property ? "Get" : "GetAll")
                        : -ENOTCONN;
        if (r >= 0)
                r = sd_bus_message_append(m, "s", interface);
        if (r >= 0 && property)
                r = sd_bus_message_append(m, "s", property);
        if (r >= 0)
                r = client_send(client, m, ret);
        sd_bus_message_unref(m);
        return r;
}

const char *ctx_client_backend(struct ctx_client *client)
{
        THREAD_STAYS;
        static __thread char backend[32] __attribute__((tls_model("initial-exec")));
        sd_bus_message *reply = NULL;
        const char *text;
        int r;

        r = client ? client_begin(client) : -EINVAL;
        if (r >= 0) {
                r = get(client, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "MembershipBackend", &reply);
                if (r >= 0)
                        r = sd_bus_message_read(reply, "v", "s", &text);
                if (r >= 0)
                        snprintf(backend, sizeof backend, "%s", text);
                sd_bus_message_unref(reply);
                client_end(client);
        }
        if (r >= 0)
                return backend;
        errno = -r;
        return NULL;
}

static struct canceler *canceler_new(uid_t uid, pid_t pid, const char *command)
{
        struct canceler *by = malloc(sizeof *by + strlen(command) + 1);

        if (!by)
                return NULL;
        by->uid = uid;
        by->pid = pid;
        strcpy(by->command, command);
        return by;
}

/* Finds Id and CanceledBy. An object has a path and no id: by now another context may have the path. */
static int read_canceler(sd_bus_message *m, uint64_t wanted_id, struct canceler **ret)
{
        const char *name, *command = NULL;
        uint32_t uid = UINT32_MAX, pid = 0;
        uint64_t id = 0;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0 && strcmp(name, "Id") == 0)
                        r = sd_bus_message_read(m, "v", "t", &id);
                else if (r >= 0 && strcmp(name, "CanceledBy") == 0)
                        r = sd_bus_message_read(m, "v", "(uus)", &uid, &pid, &command);
                else if (r >= 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r < 0)
                return r;
        if (id != wanted_id)
                return -ENOENT;
        if (!command || uid == UINT32_MAX)
                return 0;
        *ret = canceler_new(uid, (pid_t) pid, command);
        return *ret ? 1 : -ENOMEM;
}

static int ask(struct remote_context *remote, struct canceler **ret)
{
        struct ctx_client *client = remote->client;
        char path[CTXD_PATH_ID_MAX + 1], *object;
        sd_bus_message *reply = NULL;
        int r;

        snprintf(path, sizeof path, "%.*s", (int) strcspn(remote->reference, "#"), remote->reference);
        r = path_to_object(path, &object);
        if (r < 0)
                return r;
        r = remote_context_begin(remote);
        if (r >= 0) {
                r = get(client, object, CTXD_CONTEXT_INTERFACE, NULL, &reply);
                if (r == -EBADR) /* there is no such object */
                        r = -ENOENT;
                if (r >= 0)
                        r = read_canceler(reply, remote->id, ret);
                if (r == -ENOENT)
                        client_set_error(client, r, "The daemon has released or forgotten this context");
                sd_bus_message_unref(reply);
                client_end(client);
        }
        free(object);
        return r;
}

/* 1 with who it was; 0: nobody. The answer is kept. */
static int find(struct remote_context *remote, const struct canceler **ret)
{
        const struct verdict *verdict = remote_context_known_verdict(remote);
        struct canceler *by = atomic_load_explicit(&remote->canceler, memory_order_acquire), *none = NULL;
        int r = 1;

        if (!by) {
                /* The daemon was not there when this process cancelled it. */
                if (verdict && verdict->is_ours)
                        r = (by = canceler_new(getuid(), remote->client->pid, program_invocation_short_name))
                                            ? 1
                                            : -ENOMEM;
                else
                        r = ask(remote, &by);
                if (r <= 0)
                        return r;
                if (!atomic_compare_exchange_strong(&remote->canceler, &none, by)) {
                        free(by);
                        by = none;
                }
        }
        *ret = by;
        return 1;
}

int ctx_canceled_by(struct ctx *ctx, uid_t *ret_uid, pid_t *ret_pid, const char **ret_command)
{
        THREAD_STAYS;
        struct remote_context *remote = remote_context_above(ctx);
        const struct canceler *by;
        uint64_t before;
        int r;

        if (!ctx)
                return -EINVAL;
        if (!ctx_state(ctx->source) || !remote || cause_of(ctx_end_word(ctx->source)) != CAUSE_SHARED ||
                        ctx_state(&remote->shared.wide.ctx) != STATE_WORD_CANCELED)
                return 0;
        before = patience_begin_ctx(ctx);
        r = find(remote, &by);
        patience_end(before);
        if (r <= 0)
                return r;
        if (ret_uid)
                *ret_uid = by->uid;
        if (ret_pid)
                *ret_pid = by->pid;
        if (ret_command)
                *ret_command = by->command;
        return 1;
}
