/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "daemon/bus/connection-internal.h"
#include "daemon/bus/error.h"
#include "daemon/bus/send.h"
#include "util/clock.h"
#include "util/log.h"

/* A turn of a connection ends at this limit, or when its time is over. */
#define MESSAGES_AT_ONCE 64
#define ALONE 7
/* How long a client may wait for a look at its descriptors. */
#define LOOK_USEC 10000000

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        taker_wait(&((struct connection *) userdata)->taker);
        return 0;
}

static int wake_at(struct connection *c, uint64_t usec)
{
        int r;

        if (!c->timer)
                return sd_event_add_time(
                                c->endpoint.service->event, &c->timer, CLOCK_MONOTONIC, usec, 1, on_timer, c);
        r = sd_event_source_set_time(c->timer, usec);
        return r < 0 ? r : sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* Later than that only if it was so before: what it is sent meanwhile does not put that off. */
static int wake_within(struct connection *c, uint64_t usec)
{
        if (c->timer && sd_event_source_get_enabled(c->timer, NULL) > 0)
                return 0;
        return wake_at(c, now_monotonic_usec() + usec);
}

static int wake_never(struct connection *c)
{
        return c->timer ? sd_event_source_set_enabled(c->timer, SD_EVENT_OFF) : 0;
}

/* While a look at descriptors is waited for, the socket would wake us for what we do not receive yet. */
static int watch_nothing_until_look(struct connection *c)
{
        int r;

        if (c->look_until == 0)
                c->look_until = now_monotonic_usec() + LOOK_USEC;
        r = taker_watch(&c->taker, c->receiver.fd, 0);
        return r < 0 ? r : wake_at(c, c->look_until);
}

/* Watches the socket and the time for what sd-bus waits for now. */
static int connection_watch(struct connection *c)
{
        sd_bus *bus = c->endpoint.bus;
        uint64_t until;
        int events, r;

        if (receive_waits(&c->receiver))
                return watch_nothing_until_look(c);
        c->look_until = 0;
        if (c->is_held || connection_unread(c) > 0) {
                r = taker_watch(&c->taker, c->receiver.fd, connection_unread(c) > 0 ? EPOLLOUT : 0);
                if (r >= 0)
                        r = c->unread.amount > 0 ? wake_within(c, UNREAD_USEC) : wake_never(c);
                return r;
        }
        events = sd_bus_get_events(bus);
        if (events < 0)
                return events;
        /* It gets another turn. To watch meanwhile what is ready would be to be told so again and again. */
        if (c->more && c->taker.fd >= 0)
                r = 0;
        else
                r = taker_watch(&c->taker, c->receiver.fd,
                                (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u));
        if (r < 0)
                return r;
        if (c->more)
                taker_wait(&c->taker);
        r = sd_bus_get_timeout(bus, &until);
        if (r < 0)
                return r;
        if (r == 0)
                until = UINT64_MAX;
        if (c->authenticate_until > 0 && c->authenticate_until < until)
                until = c->authenticate_until;
        if (until == UINT64_MAX)
                return wake_never(c);
        return wake_at(c, until);
}

/* Charges what the client makes us wait for: the end of its authentication, the rest of a message, the
 * reading of a reply. */
static int connection_account(struct connection *c, bool is_full)
{
        struct refused refused;
        bool stalled = c->answered && (is_full || c->stalled.amount > 0);
        int r = 0;

        if (c->authenticate_until > 0) {
                if (sd_bus_is_ready(c->endpoint.bus) > 0)
                        c->authenticate_until = 0;
                else if (now_monotonic_usec() >= c->authenticate_until)
                        return -ETIMEDOUT;
        }
        if (receive_waits(&c->receiver) && c->look_until > 0 && now_monotonic_usec() >= c->look_until)
                return -ETIMEDOUT;
        if (c->incoming.amount != c->receiver.bytes)
                r = tree_charge_resize(&c->incoming, c->receiver.bytes, &refused);
        if (r >= 0 && c->incoming_fds.amount != c->receiver.fds)
                r = tree_charge_resize(&c->incoming_fds, c->receiver.fds, &refused);
        if (r >= 0 && c->stalled.amount != stalled)
                r = tree_charge_resize(&c->stalled, stalled, &refused);
        if (r == -EDQUOT)
                error_log_refusal(&refused);
        return r;
}

/* A client that waits for each answer has sent nothing behind its call, and to find that out is a system
 * call. So it is not looked for, but once in a while: if there is something, the socket wakes us again. But
 * while a large end or a walk is under way, a slice of that would come between. */
static bool is_alone(struct connection *c)
{
        const struct tree *t = c->endpoint.service->tree;
        uint64_t n;

        if (c->alone == 0 || !TAILQ_EMPTY(&t->endings) || !LIST_EMPTY(&t->cursors) ||
                        sd_bus_get_n_queued_read(c->endpoint.bus, &n) < 0 || n > 0)
                return false;
        c->alone--;
        return true;
}

static int connection_process(struct connection *c)
{
        uint64_t until = now_monotonic_usec() + TURN_USEC;
        sd_bus *bus = c->endpoint.bus;
        bool called = false, is_full;
        int r = 1;

        connection_hold(c, connection_has_to_wait(c));
        if (c->is_held)
                return connection_watch(c);
        receive_begin(&c->receiver);
        send_begin(c->receiver.fd);
        /* sd-bus would go on with the next call where it has written only a part of a reply. */
        if (connection_unread(c) > 0)
                receive_nothing(&c->receiver);
        connection_note_reading(c);
        for (int i = 0; i < MESSAGES_AT_ONCE && r > 0; i++) {
                if (i > 0 && (connection_unread(c) > 0 || taker_must_pause(&c->taker) ||
                                             connection_has_to_wait(c) || now_monotonic_usec() > until))
                        break;
                if (i == 1 && is_alone(c)) {
                        r = 0;
                        break;
                }
                if (!c->receiver.ready && sd_bus_is_ready(bus) > 0)
                        receive_ready(&c->receiver);
                r = sd_bus_process(bus, NULL);
                called = called || r > 0;
                if (i == 1)
                        c->alone = r == 0 && c->receiver.ready ? ALONE : 0;
                if (r >= 0 && (sd_bus_is_open(bus) <= 0 || receive_has_lost(&c->receiver)))
                        r = -ECONNRESET;
        }
        receive_end();
        c->sent = send_end();
        c->answered = connection_unread(c) > 0 && (called || c->answered);
        is_full = c->sent < SEND_TURN; /* else it may read as fast as we send */
        if (r >= 0 && (connection_leaves_too_much_unread(c) || connection_is_in_the_way(c))) {
                log_warning("Uid %u (pid %d) does not read its replies: its connection is closed",
                                c->peer->caller.uid, c->peer->caller.pid);
                r = -ECONNRESET; /* memory is not short for that */
        }
        c->more = r > 0;
        connection_charge_unread(c);
        if (r >= 0)
                r = connection_account(c, is_full);
        return r < 0 ? r : connection_watch(c);
}

static void send_rest(struct connection *c)
{
        sd_bus *bus = c->endpoint.bus;

        c->is_ending = true;
        receive_begin(&c->receiver);
        receive_nothing(&c->receiver);
        while (bus && connection_unread(c) > 0 && sd_bus_process(bus, NULL) > 0)
                ;
        receive_end();
}

void connections_send_rest(struct service *s)
{
        struct connection *c;

        TAILQ_FOREACH (c, &s->connections, connections)
                send_rest(c);
}

/* Nothing is made for a connection before it has said something: a client speaks first. So those that only
 * connect, and those that have gone, cost next to nothing. */
static int begin(struct connection *c)
{
        char byte;
        ssize_t n = recv(c->receiver.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        int r;

        if (n > 0) {
                r = connection_set_up(c);
                return r < 0 ? r : connection_process(c);
        }
        if (n == 0 || errno != EAGAIN)
                return -ECONNRESET;
        if (now_monotonic_usec() >= c->authenticate_until)
                return -ETIMEDOUT;
        r = taker_watch(&c->taker, c->receiver.fd, EPOLLIN);
        return r < 0 ? r : wake_at(c, c->authenticate_until);
}

/* A client has hung up, and has left something unread. */
static bool has_to_drop(const struct connection *c)
{
        uint64_t n;

        return c->taker.has_hung_up && c->endpoint.bus && connection_unread(c) > 0 &&
               sd_bus_get_n_queued_read(c->endpoint.bus, &n) >= 0 && n == 0;
}

/* That may be megabytes, and to free them in one go takes long. Returns whether there is more. */
static bool drop_some(struct connection *c)
{
        receive_begin(&c->receiver);
        receive_nothing(&c->receiver);
        send_begin_nowhere(c->receiver.fd);
        while (connection_unread(c) > 0 && sd_bus_process(c->endpoint.bus, NULL) > 0)
                ;
        receive_end();
        return send_end() > 0 && connection_unread(c) > 0;
}

/* A client that has hung up gets this turn for what it has sent, and no other one: if it has sent more than a
 * turn's work, that is dropped. Where memory is short, root is served with that which is kept for it. */
void connection_run(struct taker *taker)
{
        struct connection *c = connection_of_taker(taker);
        struct service *s = c->endpoint.service;
        bool lent = reserve_lend(&s->reserve, c->user->uid), drops = has_to_drop(c);
        int r = 0;

        if (!drops) {
                r = c->endpoint.bus ? connection_process(c) : begin(c);
                reserve_note(&s->reserve, &s->tree->users, r);
        }
        if (drops && drop_some(c))
                taker_wait(taker);
        else if (r < 0 || taker->has_hung_up)
                connection_free(c);
        if (lent)
                reserve_refill(&s->reserve);
}

/* There is an answer about its descriptors, and it can receive again. */
void connection_on_look(struct look *l)
{
        struct connection *c =
                        (struct connection *) ((char *) l - offsetof(struct connection, receiver.look));

        if (connection_watch(c) < 0)
                taker_wait(&c->taker); /* meets the error */
}

/* A signal was queued for this connection outside of a request of its own. */
void connection_sent(struct endpoint *e)
{
        struct connection *c = (struct connection *) e;

        connection_charge_unread(c);
        /* If the socket is full it may never be ready again. */
        if (connection_watch(c) < 0 || connection_leaves_too_much_unread(c))
                taker_wait(&c->taker);
}

int connection_again(struct endpoint *e, sd_bus_message *m)
{
        int r = sd_bus_enqueue_for_read(e->bus, m);

        taker_wait(&((struct connection *) e)->taker);
        return r < 0 ? r : 1;
}
