/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "daemon/model/heap.h"
#include "util/epoll-set.h"
#include "util/turn.h"

/* Whose turn it is (law 48). Whoever has something to be done, such as a connection with a call in its
 * socket, is a taker of turns. Takers wait in a queue of their uid, and uids take turns: the next one is the
 * uid that has had the least time since it began to wait. The time that a turn takes is counted for its uid.
 * So a uid with thousands of connections gets as much as one with a single connection, and who asks seldom is
 * always next. Subordinate uids take the turns of one, a block of 65,536 together (util/share.h).
 *
 * Takers' sockets are watched in an epoll set of our own (util/epoll-set.h). sd-event would look at every one
 * that is ready each time before it serves one of them. */

#define TURN_USEC 30   /* how long one turn may take, roughly; then others are looked for */
#define TURNS_USEC 200 /* and all of them, before the rest of the daemon comes */
#define TURNS_WALKS 4  /* so many walks of one uid are under way; before more begin, it waits for these */

struct share;
struct turns;

struct taker {
        struct share *share;         /* NULL: not in use */
        void (*run)(struct taker *); /* may end this taker, and others */
        bool is_walk;                /* it is a part of a call that goes through a large tree */
        bool waits;                  /* for its turn */
        bool has_hung_up;            /* the other end of its socket: nothing is watched any more */
        int fd;                      /* that is watched, borrowed; -1: none */
        uint32_t events;
        TAILQ_ENTRY(taker) takers;
};

struct turns {
        struct turn turn;
        struct epoll_set set; /* of takers' sockets */
        struct share *shares; /* by uid */
        uint32_t n_shares;
        struct heap waiting; /* shares of which a taker waits, by what they have spent */
        uint64_t spent;      /* what the share had spent whose turn it was last */
        bool is_taking;
        void (*fetch)(void *owner); /* looks for more calls before each turn; NULL: there is no bus */
        void *fetch_owner;
        void (*answers)(void *owner); /* takes those for which takers wait, between turns; or NULL */
        void *answers_owner;
};

int turns_init(struct turns *t, sd_event *event);
void turns_deinit(struct turns *t); /* no taker is left */

/* Shares that are no uid's: a uid, for those who connect; and a party, for what the daemon does for all. */
#define TURNS_OF_NOBODY ((uid_t) -1)
#define TURNS_OF_DAEMON (UINT32_MAX - 1)

/* 0 or -ENOMEM. The rest of *taker is zero. */
int taker_init(struct taker *taker, struct turns *t, uid_t uid, void (*run)(struct taker *));
/* The same for a party (util/share.h). */
int taker_init_party(struct taker *taker, struct turns *t, uint32_t party, void (*run)(struct taker *));
void taker_deinit(struct taker *taker);

/* It has something to do: it gets a turn. */
void taker_wait(struct taker *taker);
/* It gets a turn when one of these events comes, or the other end hangs up. 0: only then. */
int taker_watch(struct taker *taker, int fd, uint32_t events);
/* Something was done for it that was not its turn. */
void taker_spend(struct taker *taker, uint64_t usec);
/* The same for a uid, if it has takers. */
void turns_spend(struct turns *t, uid_t uid, uint64_t usec);
/* Whether as many walks of its uid are under way as there may be. */
bool taker_must_pause(const struct taker *taker);
