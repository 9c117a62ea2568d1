/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "lib/local/stack.h"
#include "lib/remote/context.h"
#include "lib/remote/line.h"
#include "lib/remote/mapped-page.h"

/* What ctx_err() and ctx_cancel() ask the daemon of a shared context. They may be in a signal handler, so
 * they ask by a line. */

static const char lost[] = "The daemon that knew this context was stopped";

static int lose(struct remote_context *remote)
{
        remote_context_lose(remote);
        return client_set_error(remote->client, -ENOENT, lost);
}

/* Is the daemon of that epoch the one that has taken the place of ours? A line may also lead to one that was
 * there before, or to another one that has the address now while ours goes on: their paths and ids have
 * nothing to do with ours. */
static bool is_next(struct ctx_client *client, uint64_t epoch)
{
        return epoch == atomic_load_explicit(&client->epoch, memory_order_acquire) || client_is_away(client);
}

/* Does the daemon of that epoch, at the other end, know the context? 1; -ENOENT: the context is lost; 0: it
 * does not say so; -ECONNRESET: it is not the one to be asked. */
static int is_known(struct remote_context *remote, struct line *line, uint64_t epoch)
{
        const struct mapped_page *page = remote->page;
        int r;

        /* A page that is kept says which daemon it is, unless that one is too old to say it of itself. */
        if (page && epoch != 0 && mapped_page_is_kept(page))
                return mapped_page_epoch(page) == epoch ? 1 : -ECONNRESET;
        if (epoch == atomic_load_explicit(&remote->epoch, memory_order_acquire))
                return 1;
        if (!is_next(remote->client, epoch))
                return -ECONNRESET;
        if (page)
                return mapped_page_epoch(page) == epoch ? 0 : lose(remote);
        r = line_call(remote->client, line, "Err", "s", remote->reference);
        return r == -ENOENT ? lose(remote) : r < 0 && r != -ECONNRESET ? 0 : r;
}

/* 1 with a line to a daemon that knows the context, 0 or a negative errno as is_known(). */
static int begin(struct remote_context *remote, bool new, struct line **ret)
{
        struct ctx_client *client = remote->client;
        struct line *line;
        uint64_t epoch;
        int r;

        if (remote_context_is_lost(remote))
                return client_set_error(client, -ENOENT, lost);
        line = new ? line_open_new(client) : line_take(client);
        r = line ? line_epoch(line, &epoch) : -ENOTCONN;
        if (r > 0)
                r = is_known(remote, line, epoch);
        if (r > 0)
                *ret = line;
        else if (r == -ECONNRESET)
                line_drop(line);
        else if (line)
                line_give(client, line);
        return r;
}

/* No line may have been left for a handler meanwhile. */
static void give_back(struct ctx_client *client, struct line *line)
{
        line_give(client, line);
        if (client_owes_later(client) && stack_is_ordinary())
                client_settle_later(client);
}

/* On success the caller reads the answer, and gives the line back. -ENOTCONN: the daemon cannot be
 * reached. */
static int ask(struct remote_context *remote, const char *member, const char *types, struct line **ret)
{
        struct ctx_client *client = remote->client;
        struct line *line;
        int r = 0;

        /* Whatever has ended the line, the daemon may be there. And a handler may have forked. */
        for (int i = 0; i < 3; i++) {
                if (client_is_inherited(client))
                        return client_set_error(client, -ECHILD,
                                        "This connection belongs to the process that made it, before a fork");
                r = begin(remote, i > 0, &line);
                if (r > 0) {
                        r = line_call(client, line, member, types, remote->reference);
                        if (r < 0 && line_wants_authorization(line)) {
                                line_give(client, line);
                                r = line_call_interactively(client, member, types, remote->reference, &line);
                        }
                        if (r > 0)
                                *ret = line;
                        else if (line)
                                line_give(client, line);
                }
                if (r != -ECONNRESET)
                        return r;
        }
        return -ENOTCONN;
}

int by_line_cancel(struct remote_context *remote, int *ret_first)
{
        struct line *line;
        int r = ask(remote, "Cancel", "ss", &line);

        if (r <= 0)
                return r;
        *ret_first = line_read_u32(line) != 0;
        give_back(remote->client, line);
        return 1;
}

static struct verdict *read_verdict(struct line *line)
{
        int code, error;

        (void) line_read_string(line);
        code = (int) line_read_u32(line);
        error = (int) line_read_u32(line);
        return code == 0 ? NULL : verdict_map(verdict_state(code), error, line_read_string(line));
}

const struct verdict *by_line_verdict(struct remote_context *remote)
{
        const struct verdict *verdict = remote_context_known_verdict(remote);
        struct line *line;

        if (verdict || ask(remote, "Err", "s", &line) <= 0)
                return remote_context_known_verdict(remote);
        verdict = read_verdict(line);
        give_back(remote->client, line);
        if (verdict)
                remote_context_set_verdict(remote, verdict);
        return remote_context_known_verdict(remote);
}

int by_line_state(struct remote_context *remote)
{
        struct line *line;
        uint64_t deadline_usec;
        uint32_t state;
        int r = ask(remote, "Open", "sb", &line);

        if (r <= 0)
                return r < 0 ? r : -ETIMEDOUT;
        (void) line_read_string(line);
        (void) line_read_u64(line); /* the id */
        (void) line_read_u32(line); /* was it made? */
        state = line_read_u32(line);
        deadline_usec = line_read_u64(line);
        give_back(remote->client, line);
        if (!remote->shared.word)
                atomic_store_explicit(&remote->own_deadline_usec, deadline_usec, memory_order_relaxed);
        return (int) (state & STATE_WORD_MASK);
}
