/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/local/patience.h"
#include "lib/remote/context.h"

/* Another daemon answers than before. Finds out which contexts it knows.
 *
 * For each context without a page it is asked with a call of its own, whose answer is taken whenever it
 * comes and whoever reads it. So a call that has no time, and a thread that has to go on, need not wait for
 * it; and a daemon that is slow is not asked ever more. Nobody is asked for an authorization: the daemon may
 * be asked often, and by the library's thread. */

/* After that time it is asked again, and then after twice that time, and so on. */
#define ASK_AGAIN_USEC UINT64_C(500000)
#define DOUBLED_MAX 6

static __thread bool checks __attribute__((tls_model("initial-exec")));

bool client_is_checking(void)
{
        return checks;
}

/* The client's lock is held, in all of these. */

static void take_answer(struct remote_context *remote, sd_bus_message *answer)
{
        uint64_t epoch = atomic_load_explicit(&remote->client->epoch, memory_order_acquire);
        int r = client_answer_error(remote->client, answer);

        if (r >= 0)
                r = remote_context_read_verdict(remote, answer);
        if (r == -ENOMEM) /* asked again */
                return;
        if (r == -ENOENT)
                remote_context_unknown(remote);
        else if (r > 0)
                done_handle_fire(remote);
        if (r >= 0)
                remote_context_confirm(remote, epoch);
        atomic_store_explicit(&remote->answered_epoch, epoch, memory_order_release);
}

static void end_check(struct remote_context *remote)
{
        remote->client->n_checks--;
        /* From here on the context may be freed. */
        atomic_store_explicit(&remote->is_asked, false, memory_order_release);
}

static void on_answer(struct client_request *request, int r, sd_bus_message *answer)
{
        struct remote_context *remote =
                        (struct remote_context *) ((char *) request -
                                                   offsetof(struct remote_context, check_request));

        if (r >= 0) {
                remote->n_asked = 0;
                take_answer(remote, answer);
        }
        end_check(remote);
}

static bool waits_for_answer(struct remote_context *remote)
{
        unsigned n = remote->n_asked < DOUBLED_MAX ? remote->n_asked : DOUBLED_MAX;

        return atomic_load_explicit(&remote->is_asked, memory_order_relaxed) &&
               now_monotonic_usec() < remote->asked_usec + (ASK_AGAIN_USEC << n) / 2;
}

static void ask(struct remote_context *remote)
{
        struct ctx_client *client = remote->client;
        sd_bus_message *m = NULL;
        int r;

        if (waits_for_answer(remote))
                return;
        if (remote->check_request.is_open) {
                client_forget(client, &remote->check_request);
                end_check(remote);
        }
        r = client_message(client, &m, "Err");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", remote->reference);
        remote->check_request = (struct client_request){.on_end = on_answer};
        if (r >= 0)
                r = client_request(client, &remote->check_request, m);
        sd_bus_message_unref(m);
        if (r < 0)
                return;
        client->n_checks++;
        remote->n_asked++;
        remote->asked_usec = now_monotonic_usec();
        atomic_store_explicit(&remote->is_asked, true, memory_order_release);
}

/* No lock is held, from here on. */

void remote_context_forget_check(struct remote_context *remote)
{
        struct ctx_client *client = remote->client;

        if (!atomic_load_explicit(&remote->is_asked, memory_order_acquire) || client_is_inherited(client))
                return;
        lock_acquire(&client->lock);
        if (remote->check_request.is_open) {
                client_forget(client, &remote->check_request);
                end_check(remote);
        }
        client_end(client);
}

static bool is_unchecked(struct remote_context *remote, void *userdata)
{
        return remote_context_is_unchecked(remote) && !ctx_is_done(&remote->shared.wide.ctx);
}

static bool check(struct remote_context *remote, void *userdata)
{
        if (remote->page && !ctx_state(&remote->shared.wide.ctx)) {
                remote_context_check(remote);
                return false;
        }
        if (!is_unchecked(remote, NULL)) {
                if (remote_context_known_verdict(remote) || remote->page)
                        done_handle_fire(remote); /* for example, its deadline has passed meanwhile */
                return false;
        }
        if (client_begin_soon(remote->client) >= 0) {
                ask(remote);
                client_end(remote->client);
        }
        return true;
}

static void await_answers(struct ctx_client *client)
{
        uint64_t limit = client_limit();

        if (client_begin_soon(client) < 0)
                return;
        client_read(client);
        while (client->n_checks > 0 && now_monotonic_usec() < limit)
                client_wait(client, limit);
        client_end(client);
}

void client_check_contexts(struct ctx_client *client, uint64_t usec)
{
        uint64_t before;

        if (!client->is_another || checks || !atomic_exchange(&client->is_another, false))
                return;
        checks = true;
        before = patience_begin(now_boottime_usec() + usec);
        if (client_count_each(client, check, NULL) > 0)
                await_answers(client);
        patience_end(before);
        checks = false;
        if (client_count_each(client, is_unchecked, NULL) == 0)
                return;
        client->is_another = true;
        watch_client_again(client);
}
