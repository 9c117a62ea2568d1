/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "daemon/bus/connection.h"
#include "daemon/bus/error.h"
#include "daemon/bus/receive.h"
#include "daemon/bus/vtables.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* A connection is served until it reaches one of these two limits. Then others are served. */
#define MESSAGES_AT_ONCE 64
#define SLICE_USEC 1000
/* We have to keep what a client does not read. So we do not read its calls while a reply waits for it (a List
 * is a megabyte). Signals cannot be held back, so a connection is closed where too many pile up. All
 * connections of one uid share that limit. */
#define MESSAGES_UNREAD 8192
#define MESSAGES_UNREAD_OF_USER 32768
#define MESSAGES_UNREAD_MIN 64
/* The kernel keeps bytes of ours, too, in the socket's buffer. So a uid with a crowd of connections gets a
 * smaller buffer for each. sd-bus by itself takes 8 MiB. */
#define SEND_BUFFER (256 * 1024)
#define SEND_BUFFER_OF_CROWD (32 * 1024)
#define CROWD 256
#define AUTHENTICATION_USEC 10000000
/* So many descriptors may be on their way before we look whether they have arrived. */
#define FLIGHT_FREE 8

struct connection {
        struct endpoint endpoint; /* first: the vtables' userdata */
        struct peer *peer;
        struct user *user;
        struct charge charge, incoming, incoming_fds, stalled, flight;
        struct receiver receiver;
        uint64_t authenticate_until; /* 0: it is authenticated */
        /* sd-bus may have more messages that we have not asked for. They need not be in the socket any more,
         * so it does not wake us. But the socket can be written to, and that wakes us. */
        bool more;
        sd_event_source *io, *timer;
        LIST_ENTRY(connection) connections;
};

static struct peer *connection_peer(struct endpoint *e, sd_bus_message *m)
{
        return ((struct connection *) e)->peer;
}

struct connection *connection_free(struct connection *c)
{
        if (!c)
                return NULL;
        sd_event_source_disable_unref(c->io);
        sd_event_source_disable_unref(c->timer);
        if (c->endpoint.bus) {
                sd_bus_close(c->endpoint.bus);
                sd_bus_unref(c->endpoint.bus);
                receive_close_lost(&c->receiver);
        }
        peer_free(c->peer);
        charge_deinit(&c->charge);
        charge_deinit(&c->incoming);
        charge_deinit(&c->incoming_fds);
        charge_deinit(&c->stalled);
        charge_deinit(&c->flight);
        user_unref(&c->endpoint.service->tree->users, c->user);
        LIST_REMOVE(c, connections);
        c->endpoint.service->n_connections--;
        free(c);
        return NULL;
}

static uint64_t unread(const struct connection *c)
{
        uint64_t n;

        return sd_bus_get_n_queued_write(c->endpoint.bus, &n) < 0 ? 0 : n;
}

static bool leaves_too_much_unread(const struct connection *c)
{
        uint64_t share = MESSAGES_UNREAD_OF_USER / (c->user->used[RESOURCE_CONNECTIONS] | 1), n = unread(c);

        return n > MESSAGES_UNREAD || (n > MESSAGES_UNREAD_MIN && n > share);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

static int wake_at(struct connection *c, uint64_t usec)
{
        int r;

        if (!c->timer)
                return sd_event_add_time(
                                c->endpoint.service->event, &c->timer, CLOCK_MONOTONIC, usec, 1, on_timer, c);
        r = sd_event_source_set_time(c->timer, usec);
        return r < 0 ? r : sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* Watches the socket and the time for what sd-bus waits for now. */
static int connection_watch(struct connection *c)
{
        sd_bus *bus = c->endpoint.bus;
        uint64_t until;
        int events, r;

        if (unread(c) > 0) {
                if (c->timer && (r = sd_event_source_set_enabled(c->timer, SD_EVENT_OFF)) < 0)
                        return r;
                return sd_event_source_set_io_events(c->io, EPOLLOUT);
        }
        events = sd_bus_get_events(bus);
        if (events < 0)
                return events;
        r = sd_event_source_set_io_events(c->io,
                        (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT || c->more ? EPOLLOUT : 0u));
        if (r < 0)
                return r;
        r = sd_bus_get_timeout(bus, &until);
        if (r < 0)
                return r;
        if (r == 0)
                until = UINT64_MAX;
        if (c->authenticate_until > 0 && c->authenticate_until < until)
                until = c->authenticate_until;
        if (until == UINT64_MAX)
                return c->timer ? sd_event_source_set_enabled(c->timer, SD_EVENT_OFF) : 0;
        return wake_at(c, until);
}

/* Charges what the client makes us wait for: the end of its authentication, the rest of a message, the
 * reading of a reply. */
static int connection_account(struct connection *c, bool called)
{
        struct refused refused;
        bool stalled = unread(c) > 0 && (called || c->stalled.amount > 0);
        int r = 0;

        if (c->authenticate_until > 0) {
                if (sd_bus_is_ready(c->endpoint.bus) > 0)
                        c->authenticate_until = 0;
                else if (now_monotonic_usec() >= c->authenticate_until)
                        return -ETIMEDOUT;
        }
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

static void connection_process(struct connection *c)
{
        uint64_t until = now_monotonic_usec() + SLICE_USEC;
        sd_bus *bus = c->endpoint.bus;
        bool called = false;
        int r = 1;

        receive_begin(&c->receiver);
        for (int i = 0; i < MESSAGES_AT_ONCE && r > 0; i++) {
                if (i > 0 && (unread(c) > 0 || now_monotonic_usec() > until))
                        break;
                if (!c->receiver.ready && sd_bus_is_ready(bus) > 0)
                        receive_ready(&c->receiver);
                r = sd_bus_process(bus, NULL);
                called = called || r > 0;
                if (r >= 0 && (sd_bus_is_open(bus) <= 0 || receive_has_lost(&c->receiver)))
                        r = -ECONNRESET;
        }
        receive_end();
        if (r >= 0 && leaves_too_much_unread(c)) {
                log_warning("Uid %u (pid %d) does not read its replies: its connection is closed",
                                c->peer->caller.uid, c->peer->caller.pid);
                r = -ENOBUFS;
        }
        c->more = r > 0;
        if (r >= 0)
                r = connection_account(c, called);
        if (r >= 0)
                r = connection_watch(c);
        if (r < 0)
                connection_free(c);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        connection_process(userdata);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        connection_process(userdata);
        return 0;
}

/* A signal was queued for this connection outside of a request of its own. */
static void connection_sent(struct endpoint *e)
{
        struct connection *c = (struct connection *) e;

        /* If this fails on_io() will meet the error. If the socket is full it may never be ready
                 * again, so only the timer can wake us. */
        if (connection_watch(c) < 0)
                sd_event_source_set_io_events(c->io, EPOLLIN | EPOLLOUT);
        else if (leaves_too_much_unread(c))
                (void) wake_at(c, 0);
}

/* Whether the client has read all that was sent. */
static bool has_read_all(const struct connection *c)
{
        int waiting;

        return unread(c) == 0 && ioctl(c->receiver.fd, SIOCOUTQ, &waiting) >= 0 && waiting == 0;
}

/* The kernel counts the descriptors that we have sent and nobody has read. It counts them for all our sockets
 * together, and when they are as many as our table may hold it refuses to send any more, to anybody. So each
 * uid may leave only some unread. Nothing tells us when they are read. So we look when a connection has
 * several, and at all connections of the uid before we refuse one. */
static int connection_send_fds(struct endpoint *e, unsigned n, struct refused *ret_refused)
{
        struct connection *c = (struct connection *) e, *other;

        if (c->flight.amount + n > FLIGHT_FREE && has_read_all(c))
                charge_resize(&c->flight, 0);
        if (user_is_at_limit(c->user, RESOURCE_FLIGHT, n))
                LIST_FOREACH (other, &e->service->connections, connections)
                        if (other->user == c->user && other->flight.amount > 0 && has_read_all(other))
                                charge_resize(&other->flight, 0);
        return tree_charge_resize(&c->flight, c->flight.amount + n, ret_refused);
}

/* sd-bus already receives here, if the client has sent its authentication before it was accepted. */
static int start(struct connection *c)
{
        int r;

        receive_begin(&c->receiver);
        r = sd_bus_start(c->endpoint.bus);
        receive_end();
        return r;
}

/* A filter: it is called for each message, before anybody handles it. */
static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct connection *c = userdata;

        receive_whole(&c->receiver);
        return 0;
}

static int peer_identify(struct peer *p, int fd)
{
        struct ucred cred;
        socklen_t length = sizeof cred;
        gid_t *gids;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) < 0)
                return -errno;
        p->caller.uid = cred.uid;
        p->caller.gid = cred.gid;
        p->caller.pid = cred.pid;

        length = sizeof p->pidfd;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &p->pidfd, &length) < 0) {
                p->pidfd = -1;
                /* Before Linux 6.5. Other errors mean that it has gone. */
                if (errno == ENOPROTOOPT)
                        peer_find_process(p);
        }

        length = 64 * sizeof *gids;
        for (;;) {
                gids = malloc(length);
                if (!gids)
                        return -ENOMEM;
                if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &length) >= 0)
                        break;
                free(gids);
                if (errno != ERANGE)
                        return -errno;
        }
        p->gids = gids;
        p->caller.gids = gids;
        p->caller.n_gids = length / sizeof *gids;
        peer_read_comm(p);
        return 0;
}

static int connection_charge(struct connection *c)
{
        struct tree *t = c->endpoint.service->tree;
        struct refused refused;
        int r;

        c->user = user_ref(&t->users, c->peer->caller.uid);
        if (!c->user)
                return -ENOMEM;
        r = tree_charge(t, &c->charge, c->user, RESOURCE_CONNECTIONS, 1, &refused);
        if (r == -EDQUOT)
                error_log_refusal(&refused);
        if (r >= 0)
                r = charge_init(&c->incoming, &t->users, c->user, RESOURCE_INCOMING, 0);
        if (r >= 0)
                r = charge_init(&c->incoming_fds, &t->users, c->user, RESOURCE_DESCRIPTORS, 0);
        if (r >= 0)
                r = charge_init(&c->stalled, &t->users, c->user, RESOURCE_STALLED, 0);
        if (r >= 0)
                r = charge_init(&c->flight, &t->users, c->user, RESOURCE_FLIGHT, 0);
        return r;
}

static int bound_send_buffer(const struct connection *c, int fd)
{
        const int size = c->user->used[RESOURCE_CONNECTIONS] > CROWD ? SEND_BUFFER_OF_CROWD : SEND_BUFFER;

        return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) < 0 ? -errno : 0;
}

int connection_accept(struct service *s, int fd)
{
        _cleanup_close_ int owned = fd;
        struct connection *c;
        char name[32];
        int r;

        c = calloc(1, sizeof *c);
        if (!c)
                return -ENOMEM;
        c->endpoint = (struct endpoint){.service = s,
                        .peer_of = connection_peer,
                        .sent = connection_sent,
                        .send_fds = connection_send_fds};
        c->receiver.fd = fd;
        c->authenticate_until = now_monotonic_usec() + AUTHENTICATION_USEC;
        LIST_INSERT_HEAD(&s->connections, c, connections);
        s->n_connections++;

        snprintf(name, sizeof name, ":1.%" PRIu64, ++s->last_connection);
        c->peer = peer_new(&c->endpoint, name);
        r = c->peer ? peer_identify(c->peer, fd) : -ENOMEM;
        if (r < 0)
                goto fail;
        r = connection_charge(c);
        if (r < 0)
                goto fail;

        if ((r = sd_bus_new(&c->endpoint.bus)) < 0 || (r = sd_bus_set_fd(c->endpoint.bus, fd, fd)) < 0)
                goto fail;
        TAKE_FD(owned);
        sd_id128_t id;
        if ((r = sd_id128_from_string(s->server_id, &id)) < 0 ||
                        (r = sd_bus_set_server(c->endpoint.bus, 1, id)) < 0 ||
                        (r = sd_bus_negotiate_fds(c->endpoint.bus, 1)) < 0 ||
                        (r = sd_bus_set_sender(c->endpoint.bus, ":1.0")) < 0 || (r = start(c)) < 0 ||
                        (r = bound_send_buffer(c, fd)) < 0 ||
                        (r = sd_bus_add_filter(c->endpoint.bus, NULL, on_message, c)) < 0 ||
                        (r = endpoint_add_objects(&c->endpoint)) < 0 ||
                        (r = sd_bus_add_object_vtable(c->endpoint.bus, NULL, "/org/freedesktop/DBus",
                                         "org.freedesktop.DBus", driver_vtable, &c->endpoint)) < 0 ||
                        (r = sd_event_add_io(s->event, &c->io, fd, EPOLLIN, on_io, c)) < 0 ||
                        (r = connection_watch(c)) < 0)
                goto fail;
        return 0;
fail:
        connection_free(c);
        return r;
}
