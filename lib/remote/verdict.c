/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "lib/remote/mapped-page.h"
#include "lib/remote/context.h"

/* How a shared context ended: as the daemon says, asked once; or because there is no daemon any more that would ever
 * say so (client-away.c). */

static uint32_t state_of_code(int code)
{
        switch (code) {
        case 0:
                return STATE_WORD_ACTIVE;
        case ETIMEDOUT:
                return STATE_WORD_DEADLINE_EXCEEDED;
        default:
                return STATE_WORD_CANCELED;
        }
}

static int read_verdict(sd_bus_message *m, struct verdict **ret)
{
        const char *err, *cause;
        struct verdict *verdict;
        int code, error, r;

        r = sd_bus_message_read(m, "siis", &err, &code, &error, &cause);
        if (r < 0)
                return r;
        if (code == 0)
                return -EAGAIN;
        verdict = malloc(sizeof *verdict + strlen(cause) + 1);
        if (!verdict)
                return -ENOMEM;
        verdict->state = state_of_code(code);
        verdict->error = error;
        strcpy(verdict->cause, cause);
        *ret = verdict;
        return 0;
}

/* The end of what nobody keeps any more. */
static const struct verdict stopped = {
                .state = STATE_WORD_CANCELED, .error = ECANCELED, .cause = CTXD_CAUSE_STOPPED};

/* The first one stays. Takes the verdict. */
static void set_verdict(struct shared *shared, const struct verdict *verdict)
{
        const struct verdict *none = NULL;

        if (!atomic_compare_exchange_strong_explicit(
                            &shared->verdict, &none, verdict, memory_order_acq_rel, memory_order_relaxed) &&
                        verdict != &stopped)
                free((void *) verdict);
}

int shared_ask(struct shared *shared)
{
        sd_bus_message *reply = NULL;
        struct verdict *verdict;
        int r = 0;

        if (shared_known_verdict(shared))
                return 1;
        r = client_begin(shared->client);
        if (r < 0)
                return r;
        /* Two threads may have come here: the client's lock lets one ask, the other finds the answer. */
        if (!shared_known_verdict(shared)) {
                r = client_call(shared->client, &reply, "Err", "s", shared->reference);
                if (r >= 0)
                        r = read_verdict(reply, &verdict);
                if (r >= 0)
                        set_verdict(shared, verdict);
                sd_bus_message_unref(reply);
        }
        client_end(shared->client);
        return r == -EAGAIN ? 0 : r < 0 ? r : 1;
}

const struct verdict *shared_verdict(struct shared *shared)
{
        (void) shared_ask(shared);
        return shared_known_verdict(shared);
}

/* In a child of a fork the descriptors are the parent's. */
uint32_t shared_lose(struct shared *shared)
{
        set_verdict(shared, &stopped);
        handle_fire(shared);
        if (shared->drained_fd >= 0 && !client_is_inherited(shared->client))
                eventfd_write(shared->drained_fd, UINT64_MAX - 1);
        return shared_known_verdict(shared)->state;
}

bool shared_is_lost(const struct shared *shared)
{
        return shared_known_verdict(shared) == &stopped;
}

void shared_is_unknown(struct shared *shared)
{
        if (atomic_load_explicit(&shared->epoch, memory_order_acquire) !=
                        atomic_load_explicit(&shared->client->epoch, memory_order_acquire))
                shared_lose(shared);
}

static uint64_t since(const struct ctx_client *client)
{
        return atomic_load_explicit(&client->away_since_usec, memory_order_acquire);
}

bool shared_is_orphan(const struct shared *shared)
{
        struct ctx_client *client = shared->client;
        uint64_t ours = atomic_load_explicit(&client->epoch, memory_order_acquire), theirs;

        if (!shared->page)
                return client_is_away(client) && monotonic_usec() - since(client) >= CTX_DAEMON_GRACE_USEC;
        theirs = page_epoch(shared->page);
        if (page_is_kept(shared->page))
                return false;
        /* If we talk to another daemon, and it is there, it does not keep the page. */
        return theirs == 0 || (ours != 0 && ours != theirs && !client_is_away(client)) ||
               page_orphaned_usec(shared->page) >= CTX_DAEMON_GRACE_USEC;
}

void shared_decide(struct shared *shared)
{
        uint64_t epoch = atomic_load_explicit(&shared->client->epoch, memory_order_acquire);
        int r = 0;

        if (!shared->page) {
                r = shared_ask(shared);
                if (r == -ENOENT)
                        shared_is_unknown(shared);
                else if (r > 0)
                        handle_fire(shared);
        } else if (page_epoch(shared->page) != epoch) {
                return; /* that daemon has gone, too */
        }
        if (r < 0)
                return;
        atomic_store_explicit(&shared->epoch, epoch, memory_order_release);
        handle_confirm(shared, epoch);
        threads_forget(shared);
}
