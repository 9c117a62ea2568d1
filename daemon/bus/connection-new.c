/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How connections begin and end. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/bus/connection-internal.h"
#include "daemon/bus/error.h"
#include "daemon/bus/vtables.h"
#include "daemon/bus/walk.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/share.h"

/* The kernel keeps bytes of ours, too, in the socket's buffer. So a uid with a crowd of connections gets a
 * smaller buffer for each. sd-bus by itself takes 8 MiB. */
#define SEND_BUFFER (256 * 1024)
#define SEND_BUFFER_OF_CROWD (32 * 1024)
#define CROWD 256
#define AUTHENTICATION_USEC 10000000
#define CONTEXTS 64 /* that take as much memory as a connection */

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

static struct peer *connection_peer(struct endpoint *e, sd_bus_message *m)
{
        return ((struct connection *) e)->peer;
}

/* What has to be closed with the socket may take long. Until then it counts as a connection. */
static void close_before(struct connection *c)
{
        struct charge *charge = charge_move(&c->charge);

        if (!foreign_close_before(&c->receiver.look, c->receiver.fd, charge ? charge_free : NULL, charge) &&
                        charge)
                charge_free(charge);
}

struct connection *connection_free(struct connection *c)
{
        if (!c)
                return NULL;
        sd_event_source_disable_unref(c->timer);
        connection_hold(c, false); /* it need not be told when others have read */
        connection_forget_flight(c);
        taker_deinit(&c->taker);
        close_before(c);
        if (c->endpoint.bus) {
                sd_bus_close(c->endpoint.bus);
                c->endpoint.bus = sd_bus_unref(c->endpoint.bus);
                receive_close_lost(&c->receiver);
        } else {
                close(c->receiver.fd);
        }
        peer_free(c->peer);
        connection_charge_unread(c);
        charge_deinit(&c->unread);
        charge_deinit(&c->charge);
        charge_deinit(&c->incoming);
        charge_deinit(&c->incoming_fds);
        charge_deinit(&c->stalled);
        charge_deinit(&c->messages);
        charge_deinit(&c->flight);
        user_unref(&c->endpoint.service->tree->users, c->user);
        TAILQ_REMOVE(&c->endpoint.service->connections, c, connections);
        c->endpoint.service->n_connections--;
        service_freed(c->endpoint.service, CONTEXTS);
        free(c);
        return NULL;
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

        if (c->is_ending)
                return 1;
        if (!walk_has_counted(c->peer, m)) /* else it was received before */
                receive_whole(&c->receiver);
        return values_property(m, error);
}

static int bound_send_buffer(const struct connection *c, int fd)
{
        const int size = c->user->used[RESOURCE_CONNECTIONS] > CROWD ? SEND_BUFFER_OF_CROWD : SEND_BUFFER;

        return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) < 0 ? -errno : 0;
}

void connection_let_send_fds(int fd, bool may)
{
        const int value = may;

        (void) setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, sizeof value);
}

/* Else the kernel drops such a byte where the next one is received, and closes what it has brought. */
static void receive_out_of_band_in_line(int fd)
{
        const int yes = 1;

        (void) setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &yes, sizeof yes);
}

int connection_set_up(struct connection *c)
{
        struct service *s = c->endpoint.service;
        sd_bus *bus = NULL;
        char name[32];
        sd_id128_t id;
        int r;

        snprintf(name, sizeof name, ":1.%" PRIu64, ++s->last_connection);
        c->peer = peer_new(&c->endpoint, name);
        r = c->peer ? peer_identify(c->peer, c->receiver.fd) : -ENOMEM;
        if (r < 0)
                return r;
        connection_let_send_fds(c->receiver.fd, true);
        if ((r = sd_bus_new(&bus)) < 0 || (r = sd_bus_set_fd(bus, c->receiver.fd, c->receiver.fd)) < 0) {
                sd_bus_unref(bus);
                return r;
        }
        c->endpoint.bus = bus;
        if ((r = sd_id128_from_string(s->server_id, &id)) < 0 || (r = sd_bus_set_server(bus, 1, id)) < 0 ||
                        (r = sd_bus_negotiate_fds(bus, 1)) < 0 || (r = sd_bus_set_sender(bus, ":1.0")) < 0 ||
                        (r = start(c)) < 0 || (r = bound_send_buffer(c, c->receiver.fd)) < 0 ||
                        (r = sd_bus_add_filter(bus, NULL, on_message, c)) < 0 ||
                        (r = endpoint_add_objects(&c->endpoint)) < 0)
                return r;
        return sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/DBus", "org.freedesktop.DBus",
                        driver_vtable, &c->endpoint);
}

static int charge_rest(struct connection *c)
{
        struct users *users = &c->endpoint.service->tree->users;
        int r;

        if ((r = charge_init(&c->incoming, users, c->user, RESOURCE_INCOMING, 0)) < 0 ||
                        (r = charge_init(&c->incoming_fds, users, c->user, RESOURCE_DESCRIPTORS, 0)) < 0 ||
                        (r = charge_init(&c->stalled, users, c->user, RESOURCE_STALLED, 0)) < 0 ||
                        (r = charge_init(&c->messages, users, c->user, RESOURCE_MESSAGES, 0)) < 0 ||
                        (r = charge_init(&c->flight, users, c->user, RESOURCE_FLIGHT, 0)) < 0 ||
                        (r = charge_init(&c->unread, users, c->user, RESOURCE_UNREAD, 0)) < 0)
                return r;
        return taker_init(&c->taker, &c->endpoint.service->turns, c->user->uid, connection_run);
}

/* A connection is its uid's from here on. */
static struct connection *connection_new(
                struct service *s, int fd, struct user *user, const struct charge *charge)
{
        struct connection *c = calloc(1, sizeof *c);

        if (!c)
                return NULL;
        c->endpoint = (struct endpoint){.service = s,
                        .is_direct = true,
                        .peer_of = connection_peer,
                        .sent = connection_sent,
                        .send_fds = connection_send_fds,
                        .replies = connection_replies,
                        .again = connection_again};
        c->user = user;
        c->charge = *charge;
        receive_out_of_band_in_line(fd);
        c->receiver.fd = fd;
        c->receiver.look = (struct look){.foreign = engine_foreign(s->engine),
                        .party = share_party(user->uid),
                        .uid = user->uid,
                        .over = connection_on_look};
        c->authenticate_until = now_monotonic_usec() + AUTHENTICATION_USEC;
        TAILQ_INSERT_TAIL(&s->connections, c, connections);
        s->n_connections++;
        return c;
}

int connection_accept(struct service *s, int fd, uid_t uid)
{
        struct users *users = &s->tree->users;
        struct user *user = uid == TURNS_OF_NOBODY ? NULL : user_ref(users, uid);
        struct connection *c = NULL;
        struct refused refused = {};
        struct charge charge = {};
        int r = user ? tree_charge(s->tree, &charge, user, RESOURCE_CONNECTIONS, 1, &refused) : -ENOMEM;

        if (!user) {
                foreign_refuse(engine_foreign(s->engine), fd);
                return r;
        }
        if (r == -EDQUOT)
                error_log_refusal(&refused);
        if (r >= 0)
                c = connection_new(s, fd, user, &charge);
        if (!c) {
                foreign_refuse(engine_foreign(s->engine), fd);
                charge_deinit(&charge);
                user_unref(users, user);
                return r < 0 ? r : -ENOMEM;
        }
        r = charge_rest(c);
        if (r < 0)
                connection_free(c);
        else
                taker_wait(&c->taker);
        return r;
}
