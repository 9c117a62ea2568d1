/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/local/later.h"
#include "lib/local/patience.h"
#include "lib/local/stack.h"
#include "lib/local/thread.h"
#include "lib/remote/context.h"
#include "lib/remote/line.h"

/* The cancel of a shared context, and its release.
 *
 * The daemon cancels, and its answer counts: it knows who was first, and who may. A large tree may take it
 * long. So it is not the time that says whether the daemon is there, but its silence: it answers a ping
 * meanwhile. If it says nothing for SILENCE_USEC, or longer than the caller has time, or cannot be reached,
 * the cancel ends what this process has of the context, and the daemon is told when it is back (law 41,
 * owed.c).
 *
 * A cancel without a message may come from a signal handler, and it cannot be known whether it does. So it
 * asks by a line (line.h), and allocates and locks nothing. What cannot be done so is left (owed-later.c). */

static bool is_same(const struct remote_context *a, const struct remote_context *b)
{
        return a->id == b->id && atomic_load(&a->epoch) == atomic_load(&b->epoch);
}

static const struct verdict *verdict_of(const struct cancel *c)
{
        struct verdict *verdict;

        if (c->error == 0 && (!c->message || !*c->message))
                return &verdict_canceled_here;
        verdict = verdict_new(STATE_WORD_CANCELED, c->error ? c->error : ECANCELED,
                        c->message && *c->message ? c->message : CTXD_ERR_CANCELED);
        if (verdict)
                verdict->is_ours = true;
        return verdict ? verdict : &verdict_canceled_here;
}

/* One object of this process that stands for the context. Returns whether it was not done before. */
static int finish_one(struct remote_context *remote, const struct cancel *c)
{
        uint32_t state;
        int first = 0;

        if (!ctx_state(&remote->shared.wide.ctx))
                first = remote_context_set_verdict(remote, verdict_of(c));
        state = ctx_state(&remote->shared.wide.ctx); /* its deadline may have been first */
        ctx_finish(&remote->shared.wide.ctx, state ? state : STATE_WORD_CANCELED, CAUSE_SHARED);
        return first;
}

static bool finish_same(struct remote_context *remote, void *userdata)
{
        const struct cancel *c = userdata;

        if (remote != c->remote && is_same(remote, c->remote))
                finish_one(remote, c);
        return true;
}

/* The other objects of this process that stand for the context. */
static void finish_others(struct remote_context *remote, struct cancel *c)
{
        struct ctx_client *client;
        uint64_t serial = 0;

        while ((client = client_after(serial))) {
                serial = client->serial;
                client_count_each(client, finish_same, c);
                ctx_client_unref(client);
        }
        done_handle_fire(remote);
}

void remote_context_end_others(struct remote_context *remote)
{
        finish_others(remote, &(struct cancel){.member = "Cancel", .remote = remote});
}

/* Ends all that this process has derived from the context. All is done before the common handle says so
 * (law 6). */
static int finish_here(struct remote_context *remote, struct cancel *c)
{
        int first = finish_one(remote, c);

        finish_others(remote, c);
        (void) watch_owing(remote->client);
        return first;
}

/* The same in what may be a signal handler. The lists of contexts are not read there: another thread may have
 * them, and wait for malloc(). */
static int finish_unlocked(struct remote_context *remote)
{
        int first = finish_one(remote, &(struct cancel){.remote = remote});

        client_owe_later(remote);
        if (stack_is_ordinary()) {
                client_settle_later(remote->client);
                return first;
        }
        later_shared();
        watch_kick();
        return first;
}

static int send_ping(struct ctx_client *client, struct client_request *ping)
{
        sd_bus_message *m = NULL;
        int r = client->bus ? sd_bus_message_new_method_call(client->bus, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                              "org.freedesktop.DBus.Peer", "Ping")
                            : -ENOTCONN;

        if (r >= 0)
                r = client_request(client, ping, m);
        sd_bus_message_unref(m);
        return r;
}

/* Waits for the answer as long as the daemon says something at all. */
static void await(struct ctx_client *client, struct client_request *request)
{
        uint64_t began = now_monotonic_usec(), pinged = began, limit = client_limit(), until;
        struct client_request ping = {};

        while (request->is_open) {
                uint64_t now = now_monotonic_usec(), heard = client->heard_usec;

                if (heard < began)
                        heard = began;
                if (now >= heard + LINE_SILENCE_USEC || now >= limit) {
                        /* It may be this process that was stopped. */
                        client_read(client);
                        if (!request->is_open || client->heard_usec > heard)
                                continue;
                        break;
                }
                if (!ping.is_open && now >= pinged + LINE_PING_USEC) {
                        sd_bus_message_unref(ping.answer);
                        ping.answer = NULL;
                        pinged = now;
                        if (send_ping(client, &ping) < 0)
                                break;
                }
                until = ping.is_open ? heard + LINE_SILENCE_USEC : pinged + LINE_PING_USEC;
                client_wait(client, until < limit ? until : limit);
        }
        client_forget(client, &ping);
        sd_bus_message_unref(ping.answer);
}

/* client_begin() was called. 1 with the answer; 0: there was none. Or a negative errno; -ECONNRESET: the
 * connection has ended. */
static int ask(struct remote_context *remote, const struct cancel *c, int *ret_first)
{
        struct ctx_client *client = remote->client;
        struct client_request request = {};
        sd_bus_message *m = NULL;
        int r;

        r = client_cancel_message(client, c, remote->reference, &m);
        if (r < 0)
                client_set_error(client, r, NULL);
        else
                r = client_request(client, &request, m) < 0 ? -ECONNRESET : 0;
        if (r >= 0)
                await(client, &request);
        if (request.is_open)
                client_owe_cancel(client, c, &request);
        else if (r >= 0)
                r = request.answer ? client_read_answer(client, m, &request.answer) : -ECONNRESET;
        if (r > 0 && ret_first)
                r = sd_bus_message_read(request.answer, "b", ret_first);
        client_forget(client, &request);
        sd_bus_message_unref(request.answer);
        sd_bus_message_unref(m);
        return r;
}

/* As ask(); 0 also if the daemon cannot be reached. */
static int tell(struct remote_context *remote, const struct cancel *c, int *ret_first)
{
        struct ctx_client *client = remote->client;
        int r = -ECONNRESET;

        /* Whatever has ended the connection, the daemon may be there. */
        for (int i = 0; i < 2 && r == -ECONNRESET; i++) {
                uint64_t before = patience_begin(now_boottime_usec() + LINE_SILENCE_USEC);

                r = remote_context_begin(remote);
                patience_end(before);
                if (r == -ECHILD || (r == -ENOENT && remote_context_is_lost(remote)))
                        return r;
                if (r < 0)
                        break;
                r = ask(remote, c, ret_first);
                client_end(client);
                if (r != -ECONNRESET)
                        return r;
        }
        if (ret_first && ctx_state(&remote->shared.wide.ctx))
                return 0;
        lock_acquire(&client->lock);
        client_owe_cancel(client, c, NULL);
        client_end(client);
        return 0;
}

static int cancel(struct remote_context *remote, int error, const char *message)
{
        THREAD_STAYS;
        const struct verdict *verdict = remote_context_known_verdict(remote);
        struct cancel c = {.member = error == 0 ? "Cancel" : "CancelCause",
                        .error = error,
                        .message = message,
                        .remote = remote};
        bool by_line = error == 0 && (!message || !*message);
        int first = 0, r = -ENOTCONN;

        if (verdict && verdict->is_ours)
                return 0;
        if (by_line)
                r = by_line_cancel(remote, &first);
        if (r == -ENOTCONN && (!by_line || stack_is_ordinary())) {
                by_line = false;
                r = tell(remote, &c, &first);
        }
        if (r == 0 || r == -ENOTCONN)
                return by_line ? finish_unlocked(remote) : finish_here(remote, &c);
        if (r == -ENOENT)
                remote_context_unknown(remote);
        /* The daemon forgets only contexts that are done, and never uses an id again. */
        if (r == -ENOENT && ctx_state(&remote->shared.wide.ctx))
                r = 0;
        if (r < 0)
                return r;
        remote_context_finish(remote);
        return first;
}

int remote_context_cancel(struct ctx_shared *shared, int error, const char *message)
{
        /* The call that a handler has interrupted may have no time. */
        uint64_t before = patience_begin_anew(CTX_NEVER);
        int r = cancel((struct remote_context *) shared, error, message);

        patience_end(before);
        return r;
}

int remote_context_cancel_soon(struct remote_context *remote)
{
        return cancel(remote, 0, NULL);
}

int ctx_release(struct ctx *ctx)
{
        THREAD_STAYS;
        struct cancel c = {.member = "Release", .message = CTXD_CAUSE_RELEASED};
        struct remote_context *remote;
        int r = remote_context_writable(ctx, &remote);

        if (r < 0)
                return r;
        c.remote = remote;
        r = tell(remote, &c, NULL);
        if (r == 0)
                finish_here(remote, &c);
        else if (r > 0)
                remote_context_finish(remote);
        return r < 0 ? r : 0;
}
