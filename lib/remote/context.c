/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/local/patience.h"
#include "lib/local/stack.h"
#include "lib/local/thread.h"
#include "lib/remote/context.h"
#include "lib/remote/mapped-page.h"

/* The operations of a shared context (lib/local/shared.h). */

static bool remote_context_seems_done(struct ctx_shared *shared)
{
        THREAD_STAYS;
        const struct remote_context *remote = (const struct remote_context *) shared;
        const struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);

        if (remote_context_known_verdict(remote) || ctx_is_done(&shared->wide.ctx))
                return true;
        if (shared->word)
                return atomic_load_explicit(shared->word, memory_order_acquire) != shared->given;
        return h && poll(&(struct pollfd){.fd = h->fd, .events = POLLIN}, 1, 0) > 0;
}

int remote_context_begin(struct remote_context *remote)
{
        int r = client_begin(remote->client);

        if (r < 0 || !remote_context_is_lost(remote))
                return r;
        client_end(remote->client);
        return client_set_error(remote->client, -ENOENT, "The daemon that knew this context was stopped");
}

static bool is_overdue(const struct remote_context *remote)
{
        return atomic_load_explicit(&remote->own_deadline_usec, memory_order_relaxed) <= now_boottime_usec();
}

/* The deadline has passed, as far as this process knows. The owner may have moved it since, and then only
 * the daemon knows (law 14). If the daemon does not say so in time, the deadline that is known counts (law
 * 40); and so it does in a child of a fork, which cannot ask. */
static uint32_t settle_overdue(struct remote_context *remote)
{
        uint64_t before = patience_begin_anew(now_boottime_usec() + STATE_ANSWER_USEC);
        int r = client_is_away(remote->client) ? -ENOTCONN : by_line_state(remote);

        /* There is no line for this process, but perhaps the other connection. */
        if (r == -ENOTCONN && !client_is_away(remote->client))
                r = stack_is_ordinary() ? remote_context_ask_state(remote) : -EAGAIN;
        patience_end(before);
        if (r == -ENOENT)
                remote_context_unknown(remote);
        if (remote_context_known_verdict(remote))
                return remote_context_known_verdict(remote)->state;
        if (r == -EAGAIN) /* nothing is known: whoever looks later finds out */
                return STATE_WORD_ACTIVE;
        return r > 0 || (r == 0 && !is_overdue(remote)) ? (uint32_t) r : STATE_WORD_DEADLINE_EXCEEDED;
}

/* It is done. Says how, as far as the daemon says so in time. */
static uint32_t ask_state(struct remote_context *remote)
{
        THREAD_STAYS;
        uint64_t now = now_boottime_usec(), before = patience_begin(now + STATE_ANSWER_USEC);
        const struct verdict *verdict = by_line_verdict(remote);

        if (!verdict && !client_is_away(remote->client) && stack_is_ordinary())
                verdict = remote_context_verdict(remote);
        patience_end(before);
        if (verdict)
                return verdict->state;
        return atomic_load_explicit(remote->shared.deadline_usec, memory_order_relaxed) <= now &&
                                               !remote->page
                               ? STATE_WORD_DEADLINE_EXCEEDED
                               : STATE_WORD_CANCELED;
}

/* A context of another uid has no page. Its state is that of its done handle. */
static uint32_t settle_by_handle(struct remote_context *remote)
{
        THREAD_STAYS;
        const struct verdict *verdict = remote_context_known_verdict(remote);
        struct pollfd pollfd = {.events = POLLIN};

        if (verdict)
                return verdict->state;
        pollfd.fd = done_handle_known_fd(remote);
        if (pollfd.fd >= 0 && poll(&pollfd, 1, 0) > 0) {
                /* A daemon that was stopped has written to the handle, and does not answer any more. */
                if (client_is_away(remote->client))
                        return remote_context_lose(remote);
                return ask_state(remote);
        }
        if (remote_context_is_orphan(remote))
                return remote_context_lose(remote);
        return is_overdue(remote) ? settle_overdue(remote) : STATE_WORD_ACTIVE;
}

static int remote_context_settle(struct ctx_shared *shared, uint64_t word)
{
        struct remote_context *remote = (struct remote_context *) shared;
        const struct verdict *verdict;

        if (!shared->word)
                return (int) settle_by_handle(remote);
        if (word == shared->given) {
                verdict = remote_context_known_verdict(remote);
                if (verdict)
                        return (int) verdict->state;
                return remote_context_is_orphan(remote) ? (int) remote_context_lose(remote)
                                                        : STATE_WORD_ACTIVE;
        }
        if (word == (shared->given | STATE_WORD_STOPPED))
                return (int) remote_context_lose(remote);
        if (word / (STATE_WORD_MASK + 1) == shared->given / (STATE_WORD_MASK + 1))
                return (int) (word & STATE_WORD_MASK);
        /* The slot belongs to another context now. So this one was done, and the daemon has freed it. The
         * daemon may still know how it ended. */
        return (int) ask_state(remote);
}

static int remote_context_cause(struct ctx_shared *shared, int *ret_error, const char **ret_message)
{
        THREAD_STAYS;
        struct ctx *ctx = &shared->wide.ctx;
        uint64_t now = now_boottime_usec(), before;
        const struct verdict *verdict;

        /* Once a deadline has passed, nobody expects this to take long (law 40). */
        before = patience_begin(ctx_deadline_usec(ctx) <= now ? now + STATE_ANSWER_USEC : CTX_NEVER);
        verdict = remote_context_verdict((struct remote_context *) shared);
        patience_end(before);
        /* The daemon does not know it any more, or cannot be asked: only the state is known. */
        if (!verdict) {
                cause_read(CAUSE_DEFAULT, ctx_state(ctx), ret_error, ret_message);
                return 1;
        }
        if (ret_error)
                *ret_error = verdict->error;
        if (ret_message)
                *ret_message = verdict->cause;
        return 1;
}

static int remote_context_done_fd(struct ctx_shared *shared, uint64_t *ret_usec)
{
        THREAD_STAYS;
        return done_handle_fd((struct remote_context *) shared, ret_usec);
}

/* Who wants to sleep is in no signal handler, whatever its stack looks like. So it can ask by the other
 * connection, where settle_overdue() could not. */
static void settle_before_sleep(struct remote_context *remote)
{
        struct ctx *ctx = &remote->shared.wide.ctx;
        uint64_t before;
        int r;

        if (remote->page || !is_overdue(remote) || client_is_of_parent(remote->client) || ctx_is_done(ctx))
                return;
        before = patience_begin_anew(now_boottime_usec() + STATE_ANSWER_USEC);
        r = remote_context_ask_state(remote);
        patience_end(before);
        if (r == -ENOENT)
                remote_context_unknown(remote);
        if (remote_context_known_verdict(remote))
                return;
        if (r != STATE_WORD_ACTIVE || is_overdue(remote))
                ctx_finish(ctx, r > 0 ? (uint32_t) r : STATE_WORD_DEADLINE_EXCEEDED, CAUSE_SHARED);
}

#define LOOK_AGAIN_USEC UINT64_C(5000000)    /* if nothing says when the daemon is gone */
#define UNCHECKED_LOOK_USEC UINT64_C(250000) /* if it has not said yet whether it knows the context */

static bool remote_context_before_sleep(struct ctx_shared *shared, int *ret_fd, uint64_t *ret_usec)
{
        THREAD_STAYS;
        struct remote_context *remote = (struct remote_context *) shared;
        struct ctx_client *client = remote->client;
        bool is_kept = remote->page && mapped_page_is_kept(remote->page) &&
                       atomic_load_explicit(shared->keeper, memory_order_relaxed) != 0;

        settle_before_sleep(remote);
        /* It is cheaper to look at the page: does the daemon that we know keep it? */
        if (!(is_kept && mapped_page_epoch(remote->page) ==
                                            atomic_load_explicit(&client->epoch, memory_order_acquire)) &&
                        (client_is_away(client) || remote_context_is_unchecked(remote))) {
                uint64_t usec = client_try_return(client);

                if (client_is_away(client)) {
                        *ret_fd = -1;
                        *ret_usec = usec < LOOK_AGAIN_USEC ? usec : LOOK_AGAIN_USEC;
                        return is_kept;
                }
        }
        *ret_fd = atomic_load_explicit(&client->alive_fd, memory_order_acquire);
        *ret_usec = client_is_inherited(client)           ? INHERITED_LOOK_USEC
                    : remote_context_is_unchecked(remote) ? UNCHECKED_LOOK_USEC
                    : *ret_fd < 0                         ? LOOK_AGAIN_USEC
                                                          : CTX_NEVER;
        return true;
}

/* A daemon may close its connections a little before it has ended. */
#define GOING_MSEC 200

static bool remote_context_has_no_daemon(struct ctx_shared *shared)
{
        THREAD_STAYS;
        struct remote_context *remote = (struct remote_context *) shared;
        struct pollfd pollfd = {.events = POLLIN};
        uint64_t now = now_boottime_usec();
        int timeout = GOING_MSEC;

        if (remote->page && !mapped_page_is_kept(remote->page))
                return true;
        if (patience_until_usec < now + GOING_MSEC * UINT64_C(1000))
                timeout = patience_until_usec > now ? (int) ((patience_until_usec - now) / 1000) : 0;
        pollfd.fd = atomic_load_explicit(&remote->client->alive_fd, memory_order_acquire);
        return pollfd.fd >= 0 && poll(&pollfd, 1, timeout) > 0;
}

static int remote_context_watch_daemon(struct ctx_shared *shared)
{
        THREAD_STAYS;
        return watch_daemon((struct remote_context *) shared);
}

static int remote_context_watch(struct ctx_shared *shared)
{
        THREAD_STAYS;
        return watch_start((struct remote_context *) shared);
}

void remote_context_finish(struct remote_context *remote)
{
        struct ctx *ctx = &remote->shared.wide.ctx;
        uint32_t state = ctx_state(ctx);

        if (!state)
                state = ask_state(remote);
        ctx_finish(ctx, state, CAUSE_SHARED);
}

static const char *remote_context_path(struct ctx_shared *shared)
{
        return ((struct remote_context *) shared)->reference;
}

static const char *remote_context_address(struct ctx_shared *shared)
{
        return ((struct remote_context *) shared)->client->given;
}

static void destroy(struct remote_context *remote)
{
        verdict_free(remote_context_known_verdict(remote));
        values_free(atomic_load_explicit(&remote->values, memory_order_acquire));
        free(remote->canceler);
        if (remote->drained_fd >= 0)
                close(remote->drained_fd);
        ctx_client_unref(remote->client);
        free(remote->reference);
        free(remote);
}

static void remote_context_free(struct ctx_shared *shared)
{
        THREAD_STAYS;
        struct remote_context *remote = (struct remote_context *) shared;

        client_remove_context(remote->client, remote);
        thread_map_forget(remote);
        remote_context_forget_check(remote);
        watch_stop(remote);
        done_handle_release(remote);
        destroy(remote);
}

static const struct ctx_shared_ops ops = {
                .settle = remote_context_settle,
                .cause = remote_context_cause,
                .done_fd = remote_context_done_fd,
                .before_sleep = remote_context_before_sleep,
                .has_no_daemon = remote_context_has_no_daemon,
                .watch_daemon = remote_context_watch_daemon,
                .watch = remote_context_watch,
                .cancel = remote_context_cancel,
                .extend = remote_context_extend,
                .attach = remote_context_attach,
                .seems_done = remote_context_seems_done,
                .path = remote_context_path,
                .address = remote_context_address,
                .enter = thread_map_enter,
                .leave = thread_map_leave,
                .free = remote_context_free,
};

int remote_context_new(struct ctx_client *client, const struct opened *opened, struct remote_context **ret)
{
        struct remote_context *remote = calloc(1, sizeof *remote);

        if (!remote)
                return -ENOMEM;
        ctx_shared_init(&remote->shared, &ops);
        remote->client = client_ref(client);
        remote->id = opened->id;
        remote->epoch = remote->answered_epoch = opened->epoch;
        remote->drained_fd = -1;
        remote->own_deadline_usec = opened->deadline_usec;
        remote->shared.deadline_usec = &remote->own_deadline_usec;
        remote->reference = strdup(opened->reference);
        if (!remote->reference) {
                destroy(remote);
                return -ENOMEM;
        }
        /* Only the owner of a context gets its page. Without one, everything works by the handle and by
         * Err. */
        if (opened->slot) {
                remote->shared.word = (const _Atomic uint64_t *) &opened->slot->word;
                remote->shared.deadline_usec = (const _Atomic uint64_t *) &opened->slot->deadline_usec;
                remote->shared.given = opened->word;
                remote->shared.keeper = mapped_page_keeper(opened->page);
                remote->page = opened->page;
        }
        client_add_context(client, remote);
        *ret = remote;
        return 0;
}
