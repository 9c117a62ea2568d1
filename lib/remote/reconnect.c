/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/local/patience.h"
#include "lib/remote/context.h"
#include "lib/remote/line.h"
#include "lib/remote/mapped-page.h"
#include "proto/daemon-address.h"

/* How the library notices that the daemon is gone, and that one is there again.
 *
 * A connection begins with the call Alive. Its answer is the daemon's epoch, and a descriptor that is
 * readable when the daemon is gone. A thread that sleeps also polls that descriptor. A thread that only looks
 * finds the end in the state page. A daemon that was stopped in good order has made its contexts done before.
 * A daemon that crashed has not. Then the contexts stay as they are until CTX_DAEMON_GRACE_USEC has passed,
 * and the library looks for a daemon that has come back: with every call that needs one; and with
 * client_try_return(), in steps that do not wait, while a thread sleeps in ctx_wait(), in the library's own
 * thread, and in the program's event loop. A daemon that has come back has another epoch. It either knows a
 * context or does not:
 *
 * - If a context has a page, the daemon knows it if it keeps the page. That can be seen without a call.
 * - If a context has no page, the daemon is asked (check-contexts.c).
 * - A context that it does not know is lost, and so is every context when the time is over: it becomes done,
 *   with the cause CTXD_CAUSE_STOPPED. */

#define STEP_USEC UINT64_C(50000)        /* the time between two steps, in the first second */
#define LATER_STEP_USEC UINT64_C(250000) /* the same later on */
#define MOMENT_USEC UINT64_C(2000)       /* an answer usually comes within a fiftieth of this */
/* Where the daemon's queue of those who connect is full, it is asked again so soon, at first and at last. */
#define FULL_MIN_USEC UINT64_C(100)
#define FULL_MAX_USEC UINT64_C(10000)

static bool has_ended(struct ctx_client *client)
{
        struct pollfd pollfd = {.events = POLLIN};

        pollfd.fd = atomic_load_explicit(&client->alive_fd, memory_order_acquire);

        return pollfd.fd >= 0 && poll(&pollfd, 1, 0) > 0;
}

bool client_is_away(struct ctx_client *client)
{
        uint64_t nobody = 0;

        if (atomic_load_explicit(&client->away_since_usec, memory_order_acquire) != 0)
                return true;
        if (!has_ended(client))
                return false;
        atomic_compare_exchange_strong(&client->away_since_usec, &nobody, now_monotonic_usec());
        return true;
}

/* The number stays the same, because a thread may be polling it. If the daemon gives none, it is never
 * readable. */
static int take_alive_fd(struct ctx_client *client, int given)
{
        int fd = atomic_load_explicit(&client->alive_fd, memory_order_relaxed), never = -1, r = 0;

        if (fd < 0) {
                fd = given < 0 ? -1 : fcntl(given, F_DUPFD_CLOEXEC, 3);
                atomic_store_explicit(&client->alive_fd, fd, memory_order_release);
                return given >= 0 && fd < 0 ? -errno : 0;
        }
        if (given < 0)
                given = never = eventfd(0, EFD_CLOEXEC);
        if (given < 0)
                return -errno;
        r = watch_replace_alive_fd(client, given);
        if (never >= 0)
                close(never);
        return r;
}

/* The lock is held. What the daemon could not be told before, it is told now. A daemon whose end would not be
 * noticed is not taken. */
static int take_daemon(struct ctx_client *client, struct client_attempt *a)
{
        uint64_t before = atomic_load_explicit(&client->epoch, memory_order_relaxed), epoch = 0;
        int fd = -1, r;

        if (!a->answer || sd_bus_message_read(a->answer, "ht", &fd, &epoch) < 0) {
                fd = -1; /* the message owns it */
                epoch = 0;
        }
        r = take_alive_fd(client, fd);
        if (r < 0)
                return r;
        client->bus = a->bus;
        a->bus = NULL;
        atomic_store_explicit(&client->epoch, epoch, memory_order_release);
        atomic_store_explicit(&client->away_since_usec, 0, memory_order_release);
        if (before != 0 && before != epoch) {
                client->is_another = true;
                thread_map_start_over(client);
        }
        line_prepare(client, before != epoch || epoch == 0);
        client_pay(client);
        return 0;
}

void client_drop_attempt(struct ctx_client *client)
{
        struct client_attempt *a = &client->attempt;
        sd_bus *bus = a->bus;

        sd_bus_message_unref(a->answer);
        a->answer = NULL;
        a->bus = NULL;
        a->answered = false;
        a->failed = 0;
        a->again_usec = a->pause_usec = 0;
        client_close(client, bus);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct client_attempt *a = userdata;

        if (sd_bus_message_is_method_error(m, NULL) && !daemon_has_answered(sd_bus_message_get_error(m))) {
                a->failed = -sd_bus_message_get_errno(m);
                a->answer = sd_bus_message_ref(m);
                return 0;
        }
        if (!sd_bus_message_is_method_error(m, NULL))
                a->answer = sd_bus_message_ref(m);
        a->answered = true;
        return 0;
}

/* Nothing says when there is room in a queue that is full. So it is tried again after pauses, which become
 * longer. 0: not yet. */
static int try_again(struct client_attempt *a)
{
        uint64_t now = now_monotonic_usec();

        if (now >= a->until_usec)
                return -EAGAIN;
        a->pause_usec = a->pause_usec == 0                  ? FULL_MIN_USEC
                        : a->pause_usec * 2 < FULL_MAX_USEC ? a->pause_usec * 2
                                                            : FULL_MAX_USEC;
        a->again_usec = now + a->pause_usec;
        return 0;
}

/* 1: go on with it; 0: not yet; or a negative errno. */
static int begin_attempt(struct client_attempt *a, const struct daemon_place *place)
{
        sd_bus_message *question = NULL;
        int r;

        if (a->again_usec > now_monotonic_usec())
                return 0;
        if (a->again_usec == 0)
                a->until_usec = now_monotonic_usec() + CLIENT_ANSWER_USEC;
        r = daemon_place_connect(place, &a->bus);
        if (r == -EAGAIN)
                return try_again(a);
        if (r >= 0)
                r = daemon_alive_message(a->bus, &question);
        if (r >= 0)
                r = sd_bus_message_set_auto_start(question, a->may_start);
        if (r >= 0)
                r = sd_bus_call_async(a->bus, NULL, question, on_answer, a, CLIENT_ANSWER_USEC);
        sd_bus_message_unref(question);
        return r < 0 ? r : 1;
}

/* 1: the daemon has answered; 0: not yet; or a negative errno. */
static int go_on(struct client_attempt *a)
{
        int r;

        do {
                r = sd_bus_process(a->bus, NULL);
                if (r >= 0 && sd_bus_is_open(a->bus) <= 0)
                        r = -ECONNRESET;
        } while (r > 0 && !a->answered && !a->failed);
        if (a->answered)
                return 1;
        if (r >= 0 && a->failed)
                return a->failed;
        if (r < 0)
                return client_bus_error(r);
        return now_monotonic_usec() < a->until_usec ? 0 : -ETIMEDOUT;
}

/* Appends to what the error says. */
static void note_failure(struct client_attempt *a, const struct daemon_place *place, int r)
{
        const sd_bus_error *error = a->answer ? sd_bus_message_get_error(a->answer) : NULL;
        size_t room = sizeof a->why - a->length;
        int n;

        n = snprintf(a->why + a->length, room, "%s %s: %s", a->place == 0 ? "at" : "; nor at",
                        daemon_place_name(place),
                        error && error->message ? error->message : strerrordesc_np(-r));
        if (n > 0)
                a->length += (size_t) n < room ? (size_t) n : room - 1;
}

int client_connect_step(struct ctx_client *client, bool may_start)
{
        struct daemon_place places[DAEMON_PLACES_MAX];
        size_t n = daemon_places(client->given, false, places);
        struct client_attempt *a = &client->attempt;
        int r = -ENXIO;

        if (client->polled) /* whoever polls makes the next step */
                return 0;
        if ((a->bus || a->again_usec > 0) && may_start && !a->may_start)
                client_drop_attempt(client);
        if (!a->bus && a->again_usec == 0) {
                a->may_start = may_start;
                a->place = a->length = 0;
        }
        while (a->place < n) {
                r = a->bus ? 1 : begin_attempt(a, places + a->place);
                if (r > 0)
                        r = go_on(a);
                if (r == 0)
                        return 0;
                if (r > 0)
                        r = take_daemon(client, a);
                if (r == 0) {
                        client_drop_attempt(client);
                        return 1;
                }
                note_failure(a, places + a->place, r);
                client_drop_attempt(client);
                a->place++;
        }
        return r;
}

uint64_t client_try_return(struct ctx_client *client)
{
        uint64_t since = atomic_load_explicit(&client->away_since_usec, memory_order_acquire), passed;

        if (client_is_inherited(client))
                return since == 0 || now_monotonic_usec() - since >= CTX_DAEMON_GRACE_USEC ? CTX_NEVER
                                                                                           : LATER_STEP_USEC;
        if (since == 0) {
                client_check_contexts(client, MOMENT_USEC);
                return client->is_another ? LATER_STEP_USEC : CTX_NEVER;
        }
        passed = now_monotonic_usec() - since;
        lock_acquire(&client->lock);
        if (passed >= CTX_DAEMON_GRACE_USEC) {
                client_write_off(client, false);
                client_end(client);
                return CTX_NEVER;
        }
        if (!has_ended(client)) {
                atomic_store_explicit(&client->away_since_usec, 0, memory_order_release);
        } else {
                if (client->bus)
                        client_drop(client, -ECONNRESET);
                /* The daemon may have been stopped on purpose. So it is not started. */
                (void) client_connect_step(client, false);
        }
        client_end(client);
        client_check_contexts(client, MOMENT_USEC);
        if (atomic_load_explicit(&client->away_since_usec, memory_order_acquire) == 0 && !client->is_another)
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

/* The context behind that one, with a reference; the reference on that one is given up. What is being freed
 * is stepped over. */
static struct remote_context *take_next(struct ctx_client *client, struct remote_context *previous)
{
        struct remote_context *remote;

        lock_acquire(&client->contexts_lock);
        remote = previous ? TAILQ_NEXT(previous, of_client) : TAILQ_FIRST(&client->contexts);
        while (remote && !ctx_ref_if_alive(&remote->shared.wide.ctx))
                remote = TAILQ_NEXT(remote, of_client);
        lock_release(&client->contexts_lock);
        if (previous)
                ctx_unref(&previous->shared.wide.ctx);
        return remote;
}

/* Other threads may do the same at the same time. New contexts are at the end of the list, and those that
 * were there at the beginning are enough. */
size_t client_count_each(struct ctx_client *client, bool (*fn)(struct remote_context *remote, void *userdata),
                void *userdata)
{
        struct remote_context *remote;
        size_t n, n_yes = 0;

        if (client_is_inherited(client))
                return 0;
        lock_acquire(&client->contexts_lock);
        n = client->n_contexts;
        lock_release(&client->contexts_lock);
        remote = take_next(client, NULL);
        for (; remote && n > 0; n--) {
                n_yes += fn(remote, userdata);
                remote = take_next(client, remote);
        }
        if (remote)
                ctx_unref(&remote->shared.wide.ctx);
        return n_yes;
}

static bool is_active(struct remote_context *remote, void *userdata)
{
        if (!ctx_state(&remote->shared.wide.ctx))
                return true;
        done_handle_fire(remote); /* for example, its deadline has passed while there was no daemon */
        return false;
}

size_t client_tell_done(struct ctx_client *client)
{
        return client_count_each(client, is_active, NULL);
}
