/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What clients do not read. */

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "daemon/bus/connection-internal.h"
#include "daemon/bus/error.h"
#include "util/clock.h"

/* We have to keep what a client does not read. So we do not read its calls while a reply waits for it (a List
 * is a megabyte). Signals cannot be held back, so a connection is closed where too many pile up. All
 * connections of one uid share that limit. Where all users together have left too much, each connection of
 * those who have more than their part may leave one message. */
#define MESSAGES_UNREAD 8192
#define MESSAGES_UNREAD_MIN 64
/* So many descriptors may be on their way before we look whether they have arrived. */
#define FLIGHT_FREE 8
/* So many connections are looked at before a descriptor is refused. */
#define FLIGHT_LOOKS 32

uint64_t connection_unread(const struct connection *c)
{
        uint64_t n;

        return sd_bus_get_n_queued_write(c->endpoint.bus, &n) < 0 ? 0 : n;
}

bool connection_leaves_too_much_unread(const struct connection *c)
{
        uint64_t share = SERVICE_MESSAGES_MAX / (c->user->used[RESOURCE_CONNECTIONS] | 1),
                 n = connection_unread(c);

        return n > MESSAGES_UNREAD || (n > MESSAGES_UNREAD_MIN && n > share) ||
               (n > 1 && pool_is_over(c->user, POOL_MESSAGES));
}

/* Bytes that it has not read of what was written. */
static int in_socket(const struct connection *c)
{
        int waiting;

        return ioctl(c->receiver.fd, SIOCOUTQ, &waiting) < 0 ? INT_MAX : waiting;
}

/* Whether the client has read all that was sent. */
static bool has_read_all(const struct connection *c)
{
        return connection_unread(c) == 0 && in_socket(c) == 0;
}

void connection_forget_flight(struct connection *c)
{
        if (c->flight.amount == 0)
                return;
        charge_resize(&c->flight, 0);
        TAILQ_REMOVE(&c->endpoint.service->flying, c, flying);
}

/* Looks at connections of this party until it may have so many more in flight. Those that were not looked at
 * this time come first the next time. */
static void look_for_arrived(struct connection *c, unsigned n)
{
        struct service *s = c->endpoint.service;
        struct connection *other = TAILQ_FIRST(&s->flying), *last = TAILQ_LAST(&s->flying, flying), *next;
        unsigned looks = 0;

        while (other && looks < FLIGHT_LOOKS && user_is_at_limit(c->user, RESOURCE_FLIGHT, n)) {
                next = other == last ? NULL : TAILQ_NEXT(other, flying);
                if (other->user->party == c->user->party) {
                        looks++;
                        if (has_read_all(other)) {
                                connection_forget_flight(other);
                        } else {
                                TAILQ_REMOVE(&s->flying, other, flying);
                                TAILQ_INSERT_TAIL(&s->flying, other, flying);
                        }
                }
                other = next;
        }
}

/* The kernel counts the descriptors that we have sent and nobody has read. It counts them for all our sockets
 * together, and when they are as many as our table may hold it refuses to send any more, to anybody. So each
 * uid may leave only some unread. Nothing tells us when they are read. So we look when a connection has
 * several, and before we refuse one, and then at others of the uid, and of its subordinate uids. */
int connection_send_fds(struct endpoint *e, unsigned n, struct refused *ret_refused)
{
        struct connection *c = (struct connection *) e;
        bool flew;
        int r;

        if (c->flight.amount > 0 &&
                        (c->flight.amount + n > FLIGHT_FREE ||
                                        user_is_at_limit(c->user, RESOURCE_FLIGHT, n)) &&
                        has_read_all(c))
                connection_forget_flight(c);
        look_for_arrived(c, n);
        flew = c->flight.amount > 0;
        r = tree_charge_resize(&c->flight, c->flight.amount + n, ret_refused);
        if (!flew && c->flight.amount > 0)
                TAILQ_INSERT_TAIL(&e->service->flying, c, flying);
        return r;
}

void connection_hold(struct connection *c, bool hold)
{
        struct service *s = c->endpoint.service;

        if (c->is_held == hold)
                return;
        c->is_held = hold;
        if (hold)
                TAILQ_INSERT_TAIL(&s->held, c, held);
        else
                TAILQ_REMOVE(&s->held, c, held);
}

/* Whatever the limits, a uid that has read all is not over its own, and a party that has read all is not over
 * that of the pool: each of its uids would get one more reply otherwise. */
static bool is_over(const struct connection *c)
{
        return (c->user->used[RESOURCE_UNREAD] > 0 && user_is_at_own_limit(c->user, RESOURCE_UNREAD, 1)) ||
               pool_is_over(c->user, POOL_UNREAD);
}

bool connection_has_to_wait(const struct connection *c)
{
        return is_over(c) && connection_unread(c) == 0 && sd_bus_is_ready(c->endpoint.bus) > 0 &&
               !c->taker.has_hung_up; /* else what it has sent would be lost */
}

bool connection_is_in_the_way(const struct connection *c)
{
        return is_over(c) && c->unread.amount > 0 && now_monotonic_usec() >= c->read_usec + UNREAD_USEC;
}

static void change(struct connection *c, uint64_t bytes)
{
        bool was_over = is_over(c), was_tight = pool_is_tight(c->user->users, POOL_UNREAD),
             more = bytes > c->unread.amount;
        struct connection *other, *next;
        struct refused refused;

        if (tree_charge_resize(&c->unread, bytes, &refused) == -EDQUOT) {
                error_log_refusal(&refused);
                charge_set(&c->unread, bytes);
        }
        if (more || (!was_over && !was_tight))
                return;
        for (other = TAILQ_FIRST(&c->endpoint.service->held); other; other = next) {
                next = TAILQ_NEXT(other, held);
                if (!is_over(other)) {
                        connection_hold(other, false);
                        taker_wait(&other->taker);
                }
        }
}

void connection_replies(struct endpoint *e, uint64_t bytes)
{
        ((struct connection *) e)->replies += bytes;
}

void connection_note_reading(struct connection *c)
{
        int before = c->in_socket;

        if (c->unread.amount == 0)
                return;
        c->in_socket = in_socket(c);
        /* Who has read all waits for us. */
        if (c->in_socket == 0 || (uint64_t) c->in_socket < (uint64_t) before + c->sent)
                c->read_usec = now_monotonic_usec();
        c->sent = 0;
}

void connection_charge_unread(struct connection *c)
{
        uint64_t n = c->endpoint.bus ? connection_unread(c) : 0;
        bool waits = n > 0;
        uint64_t bytes = waits ? c->unread.amount + c->replies : 0;

        if (n != c->messages.amount)
                charge_set(&c->messages, n);
        if (waits && c->unread.amount == 0)
                c->read_usec = now_monotonic_usec();
        c->replies = 0;
        if (bytes != c->unread.amount)
                change(c, bytes);
        connection_note_reading(c);
}
