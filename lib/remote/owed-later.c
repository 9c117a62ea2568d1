/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lib/local/later.h"
#include "lib/local/thread.h"
#include "lib/remote/context.h"

/* Cancels that the daemon could not be told (law 41), and that were perhaps made in a signal handler. It may
 * have interrupted a thread that has the client's lock, or is inside malloc(). So it puts the context on a
 * list without a lock, and wakes whoever serves the library's descriptors (watch.c). If nobody does, the next
 * call takes the list that needs the daemon, or gives up a context. */

void client_owe_later(struct remote_context *remote)
{
        struct ctx_client *client = remote->client;

        if (atomic_exchange(&remote->is_owed, true))
                return;
        ctx_ref(&remote->shared.wide.ctx);
        remote->next_owed = atomic_load(&client->owed_later);
        while (!atomic_compare_exchange_weak(&client->owed_later, &remote->next_owed, remote))
                ;
}

void client_take_later(struct ctx_client *client)
{
        struct remote_context *remote = atomic_exchange(&client->owed_later, NULL), *next;

        for (; remote; remote = next) {
                client_owe_cancel(client, &(struct cancel){.member = "Cancel", .remote = remote}, NULL);
                next = remote->next_owed;
                remote->next_owed = client->owed_taken;
                client->owed_taken = remote;
        }
}

void client_end_taken(struct remote_context *list)
{
        struct ctx *dead = NULL;

        while (list) {
                struct remote_context *next = list->next_owed;

                remote_context_end_others(list);
                /* From now on it may be owed again. */
                atomic_store(&list->is_owed, false);
                ctx_drop(&list->shared.wide.ctx, &dead);
                list = next;
        }
        /* The caller may hold a lock of an outer rank, and a value's destructor is the program's. */
        later_contexts(dead);
}

void client_settle_later(struct ctx_client *client)
{
        if (client_is_inherited(client))
                return;
        lock_acquire(&client->lock);
        if (client->bus)
                client_pay(client);
        else
                client_take_later(client);
        client_end(client);
        (void) watch_owing(client);
}

void client_settle_all_later(void)
{
        THREAD_STAYS;
        struct ctx_client *client;
        uint64_t serial = 0;

        while ((client = client_after(serial))) {
                serial = client->serial;
                if (client_owes_later(client))
                        client_settle_later(client);
                ctx_client_unref(client);
        }
}

__attribute__((constructor)) static void start(void)
{
        later_settle = client_settle_all_later;
}
