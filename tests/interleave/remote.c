/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/remote/context.h"
#include "tests/interleave/tester.h"

/* Shared contexts as lib/remote/ has them, with a done handle that is there already and a client without a
 * connection, so that no daemon is asked. The library's thread that watches handles is the real one. */

struct page {
        _Atomic uint64_t word, deadline;
};

static struct page pages[2];
static struct ctx_client *client;
static LIST_HEAD(, done_handle) handles;
static int handle_fd;
static struct ctx *one, *child;
static struct ctx_after *after;
static _Atomic int n_runs;

static int settle(struct ctx_shared *shared, uint64_t word)
{
        return (int) (word & 3);
}

static int cause(struct ctx_shared *shared, int *ret_error, const char **ret_message)
{
        if (ret_error)
                *ret_error = EPIPE;
        if (ret_message)
                *ret_message = "over";
        return 1;
}

static int done_fd(struct ctx_shared *shared, uint64_t *ret_usec)
{
        return done_handle_known_fd((const struct remote_context *) shared);
}

static int watch(struct ctx_shared *shared)
{
        return watch_start((struct remote_context *) shared);
}

static void free_remote(struct ctx_shared *shared)
{
        struct remote_context *remote = (struct remote_context *) shared;

        client_remove_context(remote->client, remote);
        watch_stop(remote);
        done_handle_release(remote);
        ctx_client_unref(remote->client);
        free(remote->reference);
        free(remote);
}

static const struct ctx_shared_ops ops = {
                .settle = settle,
                .cause = cause,
                .done_fd = done_fd,
                .watch = watch,
                .free = free_remote,
};

static void make_client(void)
{
        client = calloc(1, sizeof *client);
        client->refs = 1;
        client->pid = getpid();
        client->alive_fd = -1;
        TAILQ_INIT(&client->contexts);
        TAILQ_INIT(&client->requests);
        TAILQ_INIT(&client->owed);
        client->lock.rank = LOCK_CLIENT;
        client->contexts_lock.rank = LOCK_CONTEXT_LIST;
        client_list_add(client);
}

static struct done_handle *make_handle(uint64_t id)
{
        struct done_handle *h = calloc(1, sizeof *h);

        h->id = id;
        h->fd = eventfd(0, EFD_CLOEXEC);
        h->refs = 1;
        handle_fd = h->fd;
        LIST_INSERT_HEAD(&handles, h, handles);
        return h;
}

__attribute__((noinline)) static struct ctx *make_remote(uint64_t id)
{
        struct remote_context *remote = calloc(1, sizeof *remote);
        struct page *page = &pages[id];

        ctx_shared_init(&remote->shared, &ops);
        page->word = remote->shared.given = 7 * 4;
        page->deadline = CTX_NEVER;
        remote->shared.word = &page->word;
        remote->shared.deadline_usec = &page->deadline;
        remote->client = client_ref(client);
        remote->id = id;
        remote->drained_fd = -1;
        remote->own_deadline_usec = CTX_NEVER;
        remote->reference = strdup("/one");
        remote->handle = make_handle(id);
        client_add_context(client, remote);
        return &remote->shared.wide.ctx;
}

static void with_child(void)
{
        make_client();
        one = make_remote(0);
        child = ctx_with_cancel(one);
}

static void with_watched_child(void)
{
        with_child();
        EXPECT(ctx_done_fd(child) >= 0);
}

static void callback(void *userdata)
{
        n_runs++;
}

static void with_callback(void)
{
        with_child();
        after = ctx_after_func(child, callback, NULL);
}

/* What the daemon does. */
static void end(void)
{
        atomic_store(&pages[0].word, 7 * 4 | STATE_WORD_CANCELED);
        fd_fill(handle_fd);
}

static void unref_one(void)
{
        one = ctx_unref(one);
}

static void unref_child(void)
{
        child = ctx_unref(child);
}

static void unref_both(void)
{
        unref_child();
        unref_one();
}

static void look_at_descriptor(void)
{
        bool readable = fd_is_readable(ctx_done_fd(child));

        EXPECT(!readable || ctx_err(child) == -ECANCELED);
}

static void make_descriptor(void)
{
        EXPECT(ctx_done_fd(child) >= 0);
}

static void add_callback(void)
{
        after = ctx_after_func(child, callback, NULL);
}

static void stop(void)
{
        n_runs += ctx_after_stop_wait(after);
}

/* What ctx_cancel() does in a handler if the daemon cannot be asked. */
static void owe(void)
{
        client_owe_later((struct remote_context *) one);
        n_runs++;
}

static void take_owed(void)
{
        lock_acquire(&client->lock);
        client_take_later(client);
        client_end(client);
}

static void owe_and_take(void)
{
        owe();
        take_owed();
}

static void free_all(void)
{
        ctx_after_unref(after);
        ctx_unref(child);
        ctx_unref(one);
        ctx_client_unref(client);
}

static void descriptor_is_readable(void)
{
        EXPECT(fd_is_readable(ctx_done_fd(child)));
        free_all();
}

static void it_ran(void)
{
        EXPECT(n_runs == 1);
        free_all();
}

static void all_is_owed(void)
{
        take_owed();
        EXPECT(!client_owes_later(client));
        EXPECT((n_runs > 0) == (client->n_owed_cancels > 0));
        EXPECT(client->n_owed_cancels <= (unsigned) n_runs);
        lock_acquire(&client->lock);
        client_write_off(client, true);
        client_end(client);
        free_all();
}

const struct program remote_programs[] = {
                {"unref_of_watched_with_end", with_watched_child, {unref_both, end}, free_all, .bound = 3},
                {"two_unref_of_watched_with_end", with_watched_child, {unref_one, end, unref_child}, free_all,
                                .bound = 2},
                {"descriptor_of_watched_with_end", with_watched_child, {look_at_descriptor, end},
                                descriptor_is_readable, .bound = 3},
                {"descriptor_with_end", with_child, {make_descriptor, end}, descriptor_is_readable,
                                .bound = 3},
                {"after_func_below_watched_with_end", with_child, {add_callback, end}, it_ran, .bound = 2},
                {"stop_below_watched_with_end", with_callback, {stop, end}, it_ran, .bound = 2},
                {"handler_owes_in_take", with_child, {owe_and_take}, all_is_owed, owe, .bound = 2},
                {"handler_owes_in_owe", with_child, {owe, owe_and_take}, all_is_owed, owe, .bound = 2},
                {"handler_owes_beside_take", with_child, {take_owed, owe_and_take}, all_is_owed, owe,
                                .bound = 2},
                {"two_owe_with_take", with_child, {owe, take_owed, owe}, all_is_owed, .bound = 2},
                {},
};
