/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "lib/local/thread.h"
#include "lib/remote/context.h"
#include "lib/remote/mapped-page.h"

/* How a shared context ended. Either the daemon says so, and is asked once; or no daemon is there any more
 * that would say so (reconnect.c). */

uint32_t verdict_state(int code)
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

struct verdict *verdict_new(uint32_t state, int error, const char *cause)
{
        struct verdict *verdict = malloc(sizeof *verdict + strlen(cause) + 1);

        if (!verdict)
                return NULL;
        *verdict = (struct verdict){.state = state, .error = error};
        strcpy(verdict->cause, cause);
        return verdict;
}

struct verdict *verdict_map(uint32_t state, int error, const char *cause)
{
        size_t size = sizeof(struct verdict) + strlen(cause) + 1;
        struct verdict *verdict =
                        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (verdict == MAP_FAILED)
                return NULL;
        *verdict = (struct verdict){.state = state, .error = error, .mapped = (uint32_t) size};
        strcpy(verdict->cause, cause);
        return verdict;
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
        verdict = verdict_new(verdict_state(code), error, cause);
        if (!verdict)
                return -ENOMEM;
        *ret = verdict;
        return 0;
}

/* For a context that no daemon keeps any more. */
static const struct verdict stopped = {
                .state = STATE_WORD_CANCELED, .error = ECANCELED, .cause = CTXD_CAUSE_STOPPED};

const struct verdict verdict_canceled_here = {.state = STATE_WORD_CANCELED,
                .is_ours = true,
                .error = ECANCELED,
                .cause = CTXD_ERR_CANCELED};

void verdict_free(const struct verdict *verdict)
{
        if (!verdict || verdict == &stopped || verdict == &verdict_canceled_here)
                return;
        if (verdict->mapped)
                munmap((void *) verdict, verdict->mapped);
        else
                free((void *) verdict);
}

int remote_context_set_verdict(struct remote_context *remote, const struct verdict *verdict)
{
        const struct verdict *none = NULL;

        if (atomic_compare_exchange_strong_explicit(
                            &remote->verdict, &none, verdict, memory_order_acq_rel, memory_order_relaxed))
                return 1;
        verdict_free(verdict);
        return 0;
}

int remote_context_read_verdict(struct remote_context *remote, sd_bus_message *m)
{
        struct verdict *verdict;
        int r = read_verdict(m, &verdict);

        if (r >= 0)
                remote_context_set_verdict(remote, verdict);
        return r == -EAGAIN ? 0 : r < 0 ? r : 1;
}

int remote_context_ask_verdict(struct remote_context *remote)
{
        sd_bus_message *reply = NULL;
        int r;

        if (remote_context_known_verdict(remote))
                return 1;
        r = client_begin(remote->client);
        if (r < 0)
                return r;
        r = 1; /* another thread may have been faster */
        if (!remote_context_known_verdict(remote)) {
                r = client_call(remote->client, &reply, "Err", "s", remote->reference);
                if (r >= 0)
                        r = remote_context_read_verdict(remote, reply);
                sd_bus_message_unref(reply);
        }
        client_end(remote->client);
        return r;
}

int remote_context_ask_state(struct remote_context *remote)
{
        sd_bus_message *reply = NULL;
        uint64_t id, deadline_usec;
        uint32_t state = 0;
        int is_made, r;

        r = remote_context_begin(remote);
        if (r < 0)
                return r;
        r = client_call(remote->client, &reply, "Open", "sb", remote->reference, false);
        if (r >= 0)
                r = sd_bus_message_read(reply, "stbut", NULL, &id, &is_made, &state, &deadline_usec);
        if (r >= 0 && !remote->shared.word)
                atomic_store_explicit(&remote->own_deadline_usec, deadline_usec, memory_order_relaxed);
        sd_bus_message_unref(reply);
        client_end(remote->client);
        return r < 0 ? r : (int) (state & STATE_WORD_MASK);
}

const struct verdict *remote_context_verdict(struct remote_context *remote)
{
        (void) remote_context_ask_verdict(remote);
        return remote_context_known_verdict(remote);
}

/* In a child of a fork the descriptors belong to the parent. */
uint32_t remote_context_lose(struct remote_context *remote)
{
        THREAD_STAYS;
        remote_context_set_verdict(remote, &stopped);
        done_handle_fire(remote);
        if (remote->drained_fd >= 0 && !client_is_inherited(remote->client))
                eventfd_write(remote->drained_fd, UINT64_MAX - 1);
        return remote_context_known_verdict(remote)->state;
}

bool remote_context_is_lost(const struct remote_context *remote)
{
        return remote_context_known_verdict(remote) == &stopped;
}

static bool is_of_another_daemon(const struct remote_context *remote)
{
        return atomic_load_explicit(&remote->epoch, memory_order_acquire) !=
               atomic_load_explicit(&remote->client->epoch, memory_order_acquire);
}

void remote_context_unknown(struct remote_context *remote)
{
        if (is_of_another_daemon(remote))
                remote_context_lose(remote);
}

bool remote_context_is_unchecked(const struct remote_context *remote)
{
        return !remote->page && is_of_another_daemon(remote) && !remote_context_known_verdict(remote) &&
               atomic_load_explicit(&remote->answered_epoch, memory_order_acquire) !=
                               atomic_load_explicit(&remote->client->epoch, memory_order_acquire);
}

static uint64_t since(const struct ctx_client *client)
{
        return atomic_load_explicit(&client->away_since_usec, memory_order_acquire);
}

bool remote_context_is_orphan(const struct remote_context *remote)
{
        struct ctx_client *client = remote->client;
        uint64_t ours = atomic_load_explicit(&client->epoch, memory_order_acquire), theirs;

        if (!remote->page)
                return client_is_away(client) &&
                       now_monotonic_usec() - since(client) >= CTX_DAEMON_GRACE_USEC;
        theirs = mapped_page_epoch(remote->page);
        if (mapped_page_is_kept(remote->page))
                return false;
        if (theirs == 0 || mapped_page_orphaned_usec(remote->page) >= CTX_DAEMON_GRACE_USEC)
                return true;
        /* If another daemon is there, to which the client is connected, it does not keep this page. A daemon
         * may have taken it over since the first look, and the client may have come to that one. */
        return ours != 0 && ours != theirs && !client_is_away(client) && !mapped_page_is_kept(remote->page) &&
               ours == atomic_load_explicit(&client->epoch, memory_order_acquire);
}

void remote_context_confirm(struct remote_context *remote, uint64_t epoch)
{
        atomic_store_explicit(&remote->epoch, epoch, memory_order_release);
        done_handle_confirm(remote, epoch);
        thread_map_reset_entrance(remote);
}

void remote_context_check(struct remote_context *remote)
{
        uint64_t epoch = atomic_load_explicit(&remote->client->epoch, memory_order_acquire);

        /* If it is another one, that daemon is gone as well. */
        if (mapped_page_epoch(remote->page) == epoch)
                remote_context_confirm(remote, epoch);
}
