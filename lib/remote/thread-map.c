/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/local/patience.h"
#include "lib/local/thread.h"
#include "lib/remote/context.h"
#include "lib/remote/thread-page.h"

/* Tells the daemon which context each thread works for, by stores into the thread page of this process
 * (proto/thread-page.h). When the first thread enters a context, the daemon is told of that context with a
 * call. Every further enter and leave is a few stores. If the context is done by then, there is one system
 * call more, so that the daemon looks at the page again. There may be no page: the process may not be a
 * member, or the page is full. Then the daemon does not see the thread, and everything else works. Where
 * something was missing only just now, the daemon is told again by a later enter.
 *
 * An enter waits for the daemon's answer for a moment only (law 40). Then the thread goes on, and stands in
 * the context's list: whoever reads the answer takes an entry for it. */

#define RETRY_USEC UINT64_C(250000) /* the time to the next try; twice as long with each one that fails */
#define RETRIES_MAX 8               /* from then on it stays the same: 64 s */

enum {
        ENTRANCE_UNKNOWN,
        ENTRANCE_ASKED,
        ENTRANCE_OPEN,
        ENTRANCE_CLOSED,
};

static __thread struct thread_place place __attribute__((tls_model("initial-exec")));

void thread_map_reset_entrance(struct remote_context *remote)
{
        atomic_store_explicit(&remote->entrance_tries, 0, memory_order_relaxed);
        atomic_store_explicit(&remote->entrance_usec, 0, memory_order_relaxed);
        for (int known = ENTRANCE_OPEN; known <= ENTRANCE_CLOSED; known++) {
                int entrance = known;

                atomic_compare_exchange_strong(&remote->entrance, &entrance, ENTRANCE_UNKNOWN);
        }
}

/* The daemon has said that threads of this process do not enter that context. What has failed otherwise may
 * work later. */
static bool is_final(int r)
{
        return r == -EACCES || r == -EALREADY || r == -ENOENT || r == -EINVAL || r == -EBADMSG;
}

/* The daemon looks at the page when a context becomes done. If that was before this change, it has to look
 * again. */
static void kick_if_done(const struct ctx_shared *shared, const struct thread_map *map)
{
        const uint64_t one = 1;
        int saved = errno;

        if (!shared->word || atomic_load(shared->word) == shared->given)
                return;
        /* The eventfd is full. So the daemon has not looked yet, and will. */
        if (write(map->kick, &one, sizeof one) < 0)
                errno = saved;
}

static void occupy(struct remote_context *remote, struct thread_map *map, struct thread_place *p,
                uint64_t since_usec)
{
        struct thread_entry *entry = thread_map_claim(map, p);

        if (!entry)
                return;
        __atomic_store_n(&entry->since_usec, since_usec, __ATOMIC_RELAXED);
        __atomic_store_n(&entry->context_id, remote->id, __ATOMIC_SEQ_CST);
        kick_if_done(&remote->shared, map);
}

/* The lock of the client is held, in all of these. */

static void start_waiting(struct remote_context *remote)
{
        place.waits = true;
        place.since_usec = now_boottime_usec();
        place.next = remote->entering;
        place.before = &remote->entering;
        if (place.next)
                place.next->before = &place.next;
        remote->entering = &place;
}

static void stop_waiting(struct thread_place *p)
{
        if (!p->before)
                return;
        *p->before = p->next;
        if (p->next)
                p->next->before = p->before;
        p->before = NULL;
}

static int take_map(struct ctx_client *client, sd_bus_message *answer)
{
        struct thread_map *map = NULL;
        int page, kick, r;

        r = client_answer_error(client, answer);
        if (r >= 0)
                r = sd_bus_message_read(answer, "hh", &page, &kick); /* the message owns them */
        if (r < 0 || atomic_load_explicit(&client->threads, memory_order_relaxed))
                return r;
        r = thread_map_new(page, kick, &map);
        if (r >= 0)
                atomic_store_explicit(&client->threads, map, memory_order_release);
        return r;
}

static void set_entrance(struct remote_context *remote, int r)
{
        unsigned n;

        if (r < 0 && !is_final(r)) {
                n = atomic_fetch_add_explicit(&remote->entrance_tries, 1, memory_order_relaxed);
                n = n < RETRIES_MAX ? n : RETRIES_MAX;
                atomic_store_explicit(&remote->entrance_usec, now_monotonic_usec() + (RETRY_USEC << n),
                                memory_order_relaxed);
        }
        /* From here on the context may be freed. */
        atomic_store_explicit(&remote->entrance,
                        r >= 0        ? ENTRANCE_OPEN
                        : is_final(r) ? ENTRANCE_CLOSED
                                      : ENTRANCE_UNKNOWN,
                        memory_order_release);
}

/* The answer to Threads. */
static void on_answer(struct client_request *request, int r, sd_bus_message *answer)
{
        struct remote_context *remote =
                        (struct remote_context *) ((char *) request -
                                                   offsetof(struct remote_context, entrance_request));
        struct ctx_client *client = remote->client;

        client->n_entrances--;
        if (r >= 0)
                r = take_map(client, answer);
        while (r >= 0 && remote->entering) {
                struct thread_place *p = remote->entering;

                stop_waiting(p);
                occupy(remote, atomic_load_explicit(&client->threads, memory_order_relaxed), p,
                                p->since_usec);
        }
        set_entrance(remote, r);
}

static int send_threads(struct remote_context *remote)
{
        struct ctx_client *client = remote->client;
        sd_bus_message *m = NULL;
        int r = client_message(client, &m, "Threads");

        if (r >= 0)
                r = sd_bus_message_append(m, "s", remote->reference);
        remote->entrance_request = (struct client_request){.on_end = on_answer};
        if (r >= 0)
                r = client_request(client, &remote->entrance_request, m);
        sd_bus_message_unref(m);
        if (r < 0)
                return r;
        client->n_entrances++;
        remote->entrance_asked_usec = now_monotonic_usec();
        atomic_store_explicit(&remote->entrance, ENTRANCE_ASKED, memory_order_release);
        return 0;
}

static int entrance_of(struct remote_context *remote)
{
        return atomic_load_explicit(&remote->entrance, memory_order_acquire);
}

static bool may_ask(struct remote_context *remote)
{
        return entrance_of(remote) == ENTRANCE_UNKNOWN &&
               now_monotonic_usec() >= atomic_load_explicit(&remote->entrance_usec, memory_order_relaxed);
}

/* Asks whether threads may enter, unless that was done, and waits a moment. */
static void ask(struct remote_context *remote)
{
        struct ctx_client *client = remote->client;
        uint64_t limit;
        int r = 0;

        client_read(client);
        if (may_ask(remote))
                r = send_threads(remote);
        if (r < 0)
                set_entrance(remote, r);
        limit = client_limit();
        if (limit > remote->entrance_asked_usec + ANSWER_MOMENT_USEC)
                limit = remote->entrance_asked_usec + ANSWER_MOMENT_USEC;
        while (entrance_of(remote) == ENTRANCE_ASKED && now_monotonic_usec() < limit)
                client_wait(client, limit);
}

/* No lock is held. Returns true if the thread has to enter by itself. */
static bool try_entrance(struct remote_context *remote)
{
        struct ctx_client *client = remote->client;
        bool is_open = false, is_missing = false;
        uint64_t before;
        int r;

        if (entrance_of(remote) == ENTRANCE_UNKNOWN && !may_ask(remote))
                return false;
        before = patience_begin_ctx(ctx_current());
        (void) patience_begin(now_boottime_usec() + ANSWER_MOMENT_USEC);
        r = remote_context_begin(remote);
        if (r >= 0) {
                ask(remote);
                is_open = entrance_of(remote) == ENTRANCE_OPEN;
                is_missing = entrance_of(remote) == ENTRANCE_ASKED;
                if (is_missing)
                        start_waiting(remote);
                client_end(client);
        } else {
                lock_acquire(&client->lock);
                if (entrance_of(remote) == ENTRANCE_UNKNOWN)
                        set_entrance(remote, r);
                client_end(client);
        }
        patience_end(before);
        if (is_missing)
                (void) watch_owing(client);
        return is_open;
}

void thread_map_forget(struct remote_context *remote)
{
        struct ctx_client *client = remote->client;

        if (entrance_of(remote) != ENTRANCE_ASKED || client_is_inherited(client))
                return;
        lock_acquire(&client->lock);
        if (remote->entrance_request.is_open) {
                client_forget(client, &remote->entrance_request);
                client->n_entrances--;
        }
        client_end(client);
}

static void know_this_thread(void)
{
        if (place.tid != 0 && place.fork_generation == fork_generation)
                return;
        place = (struct thread_place){
                        .tid = (uint32_t) syscall(SYS_gettid), .fork_generation = fork_generation};
}

void thread_map_enter(struct ctx_shared *shared)
{
        THREAD_STAYS;
        struct remote_context *remote = (struct remote_context *) shared;
        struct ctx_client *client = remote->client;
        struct thread_map *map;
        int entrance;

        if (client->fork_generation != fork_generation)
                return;
        know_this_thread();
        entrance = entrance_of(remote);
        if (entrance != ENTRANCE_OPEN && (entrance == ENTRANCE_CLOSED || !try_entrance(remote)))
                return;
        map = atomic_load_explicit(&client->threads, memory_order_acquire);
        if (map)
                occupy(remote, map, &place, now_boottime_usec());
}

/* Another thread may just be taking an entry for this one. */
static void leave_list(struct ctx_client *client)
{
        lock_acquire(&client->lock);
        stop_waiting(&place);
        client_end(client);
        place.waits = false;
}

void thread_map_leave(struct ctx_shared *shared)
{
        THREAD_STAYS;
        struct remote_context *remote = (struct remote_context *) shared;
        struct thread_map *map;
        struct thread_entry *entry;

        if (remote->client->fork_generation != fork_generation || place.fork_generation != fork_generation)
                return;
        if (place.waits)
                leave_list(remote->client);
        if (!place.held)
                return;
        map = atomic_load_explicit(&remote->client->threads, memory_order_acquire);
        if (!map || place.serial != map->serial)
                return;
        place.held = false;
        entry = &map->page->entries[place.index];
        __atomic_store_n(&entry->context_id, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&entry->tid, 0, __ATOMIC_RELEASE);
        kick_if_done(shared, map);
}
