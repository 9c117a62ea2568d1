/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "daemon/bus/park.h"
#include "daemon/bus/reserve.h"
#include "daemon/bus/turns.h"
#include "daemon/engine/engine.h"
#include "daemon/model/heap.h"
#include "daemon/model/tree.h"
#include "util/socket-file.h"

/* All of bus/ in one structure: what requests work on, and everybody who is connected. A request is decoded
 * and given to the model, which authorises it. It is answered when its effects have been carried out. */

struct broker;
struct connection;
struct later_queue;
struct peer;
struct polkit;

/* Of one uid, and of all together: calls that wait for polkit, */
#define SERVICE_QUESTIONS_MAX 16
#define SERVICE_QUESTIONS_OF_ALL 256
/* bytes of messages that are not whole yet, */
#define SERVICE_INCOMING_MAX (32 << 20)
#define SERVICE_INCOMING_OF_ALL (128 << 20)
/* connections that have not read a reply, */
#define SERVICE_STALLED_MAX 256
#define SERVICE_STALLED_OF_ALL 4096
/* and messages that were not read. Each is about a kilobyte, if it is not a long reply. */
#define SERVICE_MESSAGES_MAX 32768
#define SERVICE_MESSAGES_OF_ALL 131072

struct service {
        sd_event *event;
        struct tree *tree;
        struct engine *engine;
        struct turn turn;             /* gives those who are behind their turns; the engine asks for it */
        struct turns turns;           /* of those who have called, and of chores */
        LIST_HEAD(, chore) chores;    /* of parties that are behind */
        struct taker nobodys;         /* the turns of service_turn() */
        LIST_HEAD(, walk) left_walks; /* whose peers have gone */
        LIST_HEAD(, walk) staying_walks;
        struct parking parking;
        uint32_t freed;           /* since the heap had nothing to give back */
        uint64_t kill_after_usec; /* for an attach that has a signal, but does not say when to kill */

        struct polkit *polkit;                 /* NULL without the system bus */
        struct broker *broker;                 /* the system's or the session's bus; NULL when embedded */
        TAILQ_HEAD(, connection) connections;  /* direct ones, oldest first */
        TAILQ_HEAD(flying, connection) flying; /* those to which descriptors are on their way */
        TAILQ_HEAD(, connection) held;         /* those that wait until others have read */
        uint32_t n_connections;
        uint64_t last_connection;
        int listen_fd;
        struct taker listener; /* accepts */
        struct reserve reserve;
        sd_event_source *pause_source;
        char server_id[33];
        struct socket_file socket_file;

        LIST_HEAD(, audience) audiences;
        uint32_t n_audiences;
        struct telling {
                struct news news;
                struct audience *audience; /* is told next; NULL: all were */
                struct subscription *next; /* of that audience; NULL: it was not asked yet */
                struct peer *told;         /* the last one */
        } telling;
        struct {
                uint64_t origin_id; /* the root of the cancel of which subscribers are being told */
                uint64_t looks;
                uint32_t n_blind;
        } below;
        struct {
                TAILQ_HEAD(, later_queue) queues;
                struct later_queue *of_all;  /* for those that wait for several parties */
                LIST_HEAD(, later) starters; /* each has begun an ending that goes on */
                uint64_t last;
        } laters;
};

/* Makes the engine, too. */
int service_init(struct service *s, sd_event *event, struct tree *tree);
void service_deinit(struct service *s);

/* Has the effects carried out, and sends news to those who have subscribed. Returns how many members have
 * to leave, as engine_drain() does. Contexts may be gone after this. */
uint32_t service_drain(struct service *s, const struct context *origin);
/* The same in a turn of its own, with more of what is nobody's. */
void service_turn(struct service *s);
/* Does the same until all large ends are over, and serves nobody between. It is for the end of the daemon. */
void service_finish(struct service *s);
/* So many contexts were freed, or as much memory. Sometimes it is given back in another turn. */
void service_freed(struct service *s, uint32_t contexts);
/* emit.c: sends some of the news that drains have left, and asks for another turn if there is more. The
 * budget is in units of about 50 ns. */
void service_tell(struct service *s, uint32_t budget);
bool service_is_telling(const struct service *s);

/* Listens for direct connections at path. Everybody may connect. The model decides what they may do. The
 * errors are those of socket_file_bind(). */
int service_listen(struct service *s, const char *path, const char **ret_why);
/* The same with a socket that listens already. Owns the descriptor, but not its path: that stays. */
int service_take_socket(struct service *s, int listen_fd);

/* Takes org.ctxd1 on the system bus, or on the session bus. Runs the event loop until the name is ours, so
 * direct connections are served however long the bus needs. 0: the loop was told to end. */
int service_own_name(struct service *s, bool user);
