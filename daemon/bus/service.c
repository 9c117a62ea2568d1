/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/bus/broker.h"
#include "daemon/bus/chore.h"
#include "daemon/bus/connection.h"
#include "daemon/bus/later.h"
#include "daemon/bus/peer.h"
#include "daemon/bus/receive.h"
#include "daemon/bus/service.h"
#include "daemon/bus/vtables.h"
#include "daemon/bus/walk.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/heap-end.h"
#include "util/log.h"

/* Where memory ends while sd-bus adds an object, it forgets those above it, and aborts when the bus is
 * closed. So it is looked for first: what all objects take, several times. */
#define OBJECTS_BYTES (64 * 1024)

static bool has_memory(void)
{
        void *volatile bytes = malloc(OBJECTS_BYTES);

        free(bytes);
        return bytes;
}

int endpoint_add_objects(struct endpoint *e)
{
        int r;

        if (!has_memory())
                return -ENOMEM;
        r = sd_bus_add_object_vtable(e->bus, NULL, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, manager_vtable, e);
        if (r >= 0)
                r = sd_bus_add_object(e->bus, NULL, CTXD_OBJECT, walk_count, e);
        if (r >= 0)
                r = sd_bus_add_fallback_vtable(e->bus, NULL, CTXD_CONTEXT_OBJECT, CTXD_CONTEXT_INTERFACE,
                                context_vtable, context_find, e);
        if (r >= 0)
                r = sd_bus_add_node_enumerator(e->bus, NULL, CTXD_CONTEXT_OBJECT, context_enumerate, e);
        return r;
}

/* So much is told in a turn, and before a reply. What was not told in time for that waits for turns alone, so
 * that nobody who calls pays for the news of others. It is the same with facts, and with later replies. */
#define TELL_IN_TURN 1000
#define TELL_IN_CALL 1000
#define REPLIES_IN_TURN 16
#define COLLECT 256
#define FREED 1024 /* then the heap may have something to give back */

void service_freed(struct service *s, uint32_t contexts)
{
        s->freed += contexts;
        if (s->freed >= FREED)
                turn_again(&s->turn);
}

/* While others are told, thousands of contexts wait to be freed. */
static void collect(struct service *s, bool in_turn)
{
        uint32_t n = engine_collect(s->engine, COLLECT);

        if (n < COLLECT && s->freed >= FREED && in_turn && !heap_end_give_back())
                s->freed = 0;
        if (n == COLLECT)
                turn_again(&s->turn);
        service_freed(s, n);
}

static uint32_t drain_and_tell(struct service *s, const struct context *origin, bool in_turn, uint32_t budget)
{
        uint32_t n;

        if (in_turn)
                engine_begin_turn(s->engine);
        n = engine_drain(s->engine, origin);
        service_tell(s, budget);
        laters_reply(s, in_turn ? REPLIES_IN_TURN : 0);
        if (!service_is_telling(s))
                collect(s, in_turn);
        return n;
}

uint32_t service_drain(struct service *s, const struct context *origin)
{
        return drain_and_tell(s, origin, false, service_is_telling(s) ? 0 : TELL_IN_CALL);
}

void service_turn(struct service *s)
{
        drain_and_tell(s, NULL, true, TELL_IN_TURN);
}

void service_finish(struct service *s)
{
        chores_end(s);
        do
                drain_and_tell(s, NULL, true, TELL_IN_TURN);
        while (tree_advance(s->tree, now_boottime_usec()) || laters_are_due(s) || service_is_telling(s));
        engine_signals_finish(s->engine);
        walks_finish(s);
        connections_send_rest(s);
}

static int on_turn(sd_event_source *source, void *userdata)
{
        chores_begin(userdata);
        return 0;
}

/* Else who has sent a descriptor would wait until all turns are over, and perhaps for those after them. */
static void take_answers(void *owner)
{
        foreign_take_answers(engine_foreign(((struct service *) owner)->engine));
}

int service_init(struct service *s, sd_event *event, struct tree *tree)
{
        sd_id128_t id;
        int r;

        *s = (struct service){.tree = tree,
                        .turns.set = EPOLL_SET_NONE,
                        .listen_fd = -1,
                        .socket_file = SOCKET_FILE_NONE};
        reserve_init(&s->reserve);
        TAILQ_INIT(&s->connections);
        TAILQ_INIT(&s->held);
        TAILQ_INIT(&s->flying);
        LIST_INIT(&s->audiences);
        LIST_INIT(&s->left_walks);
        LIST_INIT(&s->staying_walks);
        r = laters_init(s);
        if (r >= 0)
                r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        sd_id128_to_string(id, s->server_id);
        s->event = sd_event_ref(event);
        r = turn_init(&s->turn, event, "drain", on_turn, s);
        if (r >= 0)
                r = turns_init(&s->turns, event);
        if (r >= 0)
                r = chores_init(s);
        if (r >= 0)
                r = park_init(&s->parking, event);
        s->turns.answers = take_answers;
        s->turns.answers_owner = s;
        return r < 0 ? r : engine_new(&s->engine, event, tree, &s->turn);
}

void service_deinit(struct service *s)
{
        while (!TAILQ_EMPTY(&s->connections))
                connection_free(TAILQ_FIRST(&s->connections));
        s->broker = broker_free(s->broker);
        taker_deinit(&s->listener);
        s->pause_source = sd_event_source_disable_unref(s->pause_source);
        if (s->listen_fd >= 0 && s->socket_file.directory < 0) {
                /* systemd's stays open, for those who connect until the next daemon is there. An older one
                 * would not know that it refuses descriptors. */
                connection_let_send_fds(s->listen_fd, true);
                (void) listen(s->listen_fd, SOMAXCONN);
                close(s->listen_fd);
        } else if (s->listen_fd >= 0) {
                /* Nobody else has it, and what waits in it can take for ever to close (heir.h). */
                (void) shutdown(s->listen_fd, SHUT_RDWR);
        }
        socket_file_remove(&s->socket_file);
        reserve_deinit(&s->reserve);
        walks_deinit(s);
        chores_end(s);
        s->engine = engine_free(s->engine);
        chores_deinit(s);
        turns_deinit(&s->turns);
        turn_deinit(&s->turn);
        laters_deinit(s);
        s->event = sd_event_unref(s->event);
}

int service_own_name(struct service *s, bool user)
{
        int r = broker_new(s, user, &s->broker);

        while (r >= 0 && (r = broker_owns_name(s->broker)) == 0 &&
                        sd_event_get_state(s->event) != SD_EVENT_FINISHED)
                r = sd_event_run(s->event, UINT64_MAX);
        return r;
}
