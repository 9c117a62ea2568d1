/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/remote/context.h"
#include "lib/remote/mapped-page.h"
#include "proto/daemon-address.h"

/* How the library notices that the daemon is gone, and that one is there again.
 *
 * A connection begins with the call Alive. Its answer is the daemon's epoch, and a descriptor that hangs up
 * when the daemon is gone. A thread that sleeps also polls that descriptor. A thread that only looks finds
 * the end in the state page. A daemon that was stopped in good order has made its contexts done before. A
 * daemon that crashed has not. Then the contexts stay as they are until CTX_DAEMON_GRACE_USEC has passed, and
 * the library looks for a daemon that has come back: with every call that needs one; and with
 * client_try_return(), in steps that do not wait, while a thread sleeps in ctx_wait(), in the library's own
 * thread, and in the program's event loop. A daemon that has come back has another epoch. It either knows a
 * context or does not:
 *
 * - If a context has a page, the daemon knows it if it keeps the page. That can be seen without a call.
 * - If a context has no page, the daemon is asked.
 * - A context that it does not know is lost, and so is every context when the time is over: it becomes done,
 *   with the cause CTXD_CAUSE_STOPPED. */

#define STEP_USEC UINT64_C(50000)        /* the time between two steps, in the first second */
#define LATER_STEP_USEC UINT64_C(250000) /* the same later on */

static bool has_hung_up(struct ctx_client *client)
{
        struct pollfd pollfd = {.fd = atomic_load_explicit(&client->alive_fd, memory_order_acquire)};

        return pollfd.fd >= 0 && poll(&pollfd, 1, 0) > 0;
}

bool client_is_away(struct ctx_client *client)
{
        uint64_t nobody = 0;

        if (atomic_load_explicit(&client->away_since_usec, memory_order_acquire) != 0)
                return true;
        if (!has_hung_up(client))
                return false;
        atomic_compare_exchange_strong(&client->away_since_usec, &nobody, now_monotonic_usec());
        return true;
}

/* The number stays the same, because a thread may be polling it. If the daemon gives none, it never hangs
 * up. */
static void take_alive_fd(struct ctx_client *client, int given)
{
        int fd = atomic_load_explicit(&client->alive_fd, memory_order_relaxed), never = -1;

        if (fd < 0) {
                fd = given < 0 ? -1 : fcntl(given, F_DUPFD_CLOEXEC, 3);
                atomic_store_explicit(&client->alive_fd, fd, memory_order_release);
                return;
        }
        if (given < 0)
                given = never = eventfd(0, EFD_CLOEXEC);
        watch_pause_client(client);
        if (given >= 0)
                dup3(given, fd, O_CLOEXEC);
        watch_resume_client(client);
        if (never >= 0)
                close(never);
}

/* The lock is held. Takes the reference on bus. */
static void take_daemon(struct ctx_client *client, sd_bus *bus, sd_bus_message *answer)
{
        uint64_t before = atomic_load_explicit(&client->epoch, memory_order_relaxed), epoch = 0;
        int fd = -1;

        client->bus = bus;
        if (!answer || sd_bus_message_read(answer, "ht", &fd, &epoch) < 0) {
                fd = -1; /* the message owns it */
                epoch = 0;
        }
        take_alive_fd(client, fd);
        atomic_store_explicit(&client->epoch, epoch, memory_order_release);
        atomic_store_explicit(&client->away_since_usec, 0, memory_order_release);
        if (before != 0 && before != epoch) {
                client->is_another = true;
                thread_map_start_over(client);
        }
}

int client_connect(struct ctx_client *client)
{
        sd_bus_message *answer = NULL;
        char why[512], text[sizeof why + 32];
        sd_bus *bus;
        int r;

        client_drop_attempt(client);
        r = daemon_connect(client->given, false, &bus, &answer, why, sizeof why);
        if (r < 0) {
                snprintf(text, sizeof text, "Cannot reach ctxd %s", why);
                return client_set_error(client, r, text);
        }
        take_daemon(client, bus, answer);
        sd_bus_message_unref(answer);
        return 0;
}

void client_drop_attempt(struct ctx_client *client)
{
        struct client_attempt *a = &client->attempt;

        sd_bus_message_unref(a->answer);
        if (a->bus) {
                sd_bus_close(a->bus);
                sd_bus_unref(a->bus);
        }
        *a = (struct client_attempt){.place = a->place};
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct client_attempt *a = userdata;

        if (sd_bus_message_is_method_error(m, NULL) && !daemon_has_answered(sd_bus_message_get_error(m))) {
                a->failed = true;
                return 0;
        }
        if (!sd_bus_message_is_method_error(m, NULL))
                a->answer = sd_bus_message_ref(m);
        a->answered = true;
        return 0;
}

static int begin_attempt(struct client_attempt *a, const struct daemon_place *place)
{
        sd_bus_message *question = NULL;
        int r;

        r = daemon_place_connect(place, &a->bus);
        if (r >= 0)
                r = daemon_alive_message(a->bus, &question);
        /* The daemon may have been stopped on purpose. So the call does not start it. */
        if (r >= 0)
                r = sd_bus_message_set_auto_start(question, 0);
        if (r >= 0)
                r = sd_bus_call_async(a->bus, NULL, question, on_answer, a, 0);
        sd_bus_message_unref(question);
        return r;
}

/* The lock is held. */
static void step(struct ctx_client *client)
{
        struct daemon_place places[DAEMON_PLACES_MAX];
        size_t n = daemon_places(client->given, false, places);
        struct client_attempt *a = &client->attempt;
        int r = 0;

        for (size_t i = 0; i < n && !a->bus; i++) {
                r = begin_attempt(a, places + a->place % n);
                if (r < 0) {
                        client_drop_attempt(client);
                        a->place++;
                }
        }
        if (!a->bus)
                return;
        do
                r = sd_bus_process(a->bus, NULL);
        while (r > 0 && !a->answered && !a->failed);
        if (a->answered) {
                sd_bus *bus = a->bus;

                a->bus = NULL;
                take_daemon(client, bus, a->answer);
                client_drop_attempt(client);
                a->place = 0;
        } else if (r < 0 || a->failed) {
                client_drop_attempt(client);
                a->place++;
        }
}

uint64_t client_try_return(struct ctx_client *client)
{
        uint64_t since = atomic_load_explicit(&client->away_since_usec, memory_order_acquire), passed;
        bool is_another = false;

        if (since == 0)
                return CTX_NEVER;
        passed = now_monotonic_usec() - since;
        if (passed >= CTX_DAEMON_GRACE_USEC)
                return CTX_NEVER;
        /* If another thread has the lock, it is in a call, and finds the daemon itself. */
        if (!client_is_inherited(client) && lock_try_acquire(&client->lock)) {
                if (!has_hung_up(client)) {
                        atomic_store_explicit(&client->away_since_usec, 0, memory_order_release);
                } else {
                        if (client->bus) {
                                sd_bus_close(client->bus);
                                client->bus = sd_bus_unref(client->bus);
                        }
                        step(client);
                }
                is_another = client->is_another;
                client->is_another = false;
                lock_release(&client->lock);
        }
        if (is_another)
                client_check_contexts(client);
        if (atomic_load_explicit(&client->away_since_usec, memory_order_acquire) == 0)
                return CTX_NEVER;
        return passed < 1000000 ? STEP_USEC : LATER_STEP_USEC;
}

void client_add_context(struct ctx_client *client, struct remote_context *remote)
{
        lock_acquire(&client->contexts_lock);
        TAILQ_INSERT_TAIL(&client->contexts, remote, of_client);
        client->n_contexts++;
        lock_release(&client->contexts_lock);
}

void client_remove_context(struct ctx_client *client, struct remote_context *remote)
{
        /* In a child of a fork, the lock may be held for ever, and the list may be half changed. Nobody reads
         * it there. */
        if (client_is_inherited(client))
                return;
        lock_acquire(&client->contexts_lock);
        TAILQ_REMOVE(&client->contexts, remote, of_client);
        client->n_contexts--;
        lock_release(&client->contexts_lock);
}

/* Takes the next context of the list, with a reference, and moves it to the end. NULL: it is being freed. */
static struct remote_context *take_next(struct ctx_client *client)
{
        struct remote_context *remote;

        lock_acquire(&client->contexts_lock);
        remote = TAILQ_FIRST(&client->contexts);
        if (remote) {
                TAILQ_REMOVE(&client->contexts, remote, of_client);
                TAILQ_INSERT_TAIL(&client->contexts, remote, of_client);
                if (!ctx_ref_if_alive(&remote->shared.wide.ctx))
                        remote = NULL;
        }
        lock_release(&client->contexts_lock);
        return remote;
}

/* Calls fn for each context. Returns how often it returned true. */
static size_t count_each(struct ctx_client *client, bool (*fn)(struct remote_context *remote))
{
        size_t n, n_yes = 0;

        if (client_is_inherited(client))
                return 0;
        lock_acquire(&client->contexts_lock);
        n = client->n_contexts;
        lock_release(&client->contexts_lock);
        for (; n > 0; n--) {
                struct remote_context *remote = take_next(client);

                if (!remote)
                        continue;
                n_yes += fn(remote);
                ctx_unref(&remote->shared.wide.ctx);
        }
        return n_yes;
}

static bool is_active(struct remote_context *remote)
{
        if (!ctx_state(&remote->shared.wide.ctx))
                return true;
        done_handle_fire(remote); /* for example, its deadline has passed while there was no daemon */
        return false;
}

size_t client_tell_done(struct ctx_client *client)
{
        return count_each(client, is_active);
}

static bool decide(struct remote_context *remote)
{
        if (is_active(remote))
                remote_context_check(remote);
        return true;
}

void client_check_contexts(struct ctx_client *client)
{
        count_each(client, decide);
}
