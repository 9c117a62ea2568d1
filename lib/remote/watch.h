/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/remote/context.h"

/* What watch.c, watch-client.c and watch-look.c share: the epoll set, and who is in it. */

/* In the data of an event: it is for a client and not a handle. Alone, it only wakes whoever serves the
 * set. */
#define CLIENT_MARK UINT64_C(1)

LIST_HEAD(watcher_list, remote_context);
LIST_HEAD(client_list, ctx_client);

extern struct lock watch_lock;
/* Under that lock: */
extern int watch_epoll_fd;
extern struct client_list watch_clients;
extern struct watcher_list watch_asking;    /* WATCH_ASKING */
extern struct watcher_list watch_inherited; /* WATCH_LISTED, by a descriptor of the parent's */

static inline int watch_alive_fd(const struct ctx_client *client)
{
        return atomic_load_explicit(&client->alive_fd, memory_order_acquire);
}

/* Is something looked for on its connection? */
static inline bool watch_is_owing(const struct ctx_client *client)
{
        return client->n_owed_cancels > 0 || client->n_entrances > 0;
}

/* watch.c. The lock is held. Adds the handle to the set for this context; if it has not come yet, it is
 * looked for. */
int watch_add(struct remote_context *remote, struct done_handle *h);
/* The lock is not held. The context has become done, and is in no list any more. */
void watch_end(struct remote_context *remote);

/* watch-client.c. The lock is held. */
void watch_add_client(struct ctx_client *client);
void watch_remove_alive_fd(struct ctx_client *client);
/* A client whose daemon is gone and that has to be looked at now, with a reference. The lock is not held. */
struct ctx_client *watch_take_away_client(uint64_t now);
/* Makes known which contexts are done by now. If some are not, looks for the daemon. Gives the reference up.
 * The lock is not held. */
void watch_look_after(struct ctx_client *client);

/* watch-look.c */

#define WATCH_LOOK_FIRST_USEC UINT64_C(1000) /* then twice that time, and so on */
/* Somebody has to look after that time, or before. The lock is held. */
int watch_look_within(uint64_t usec);
/* The lock is not held. */
bool watch_has_to_look(void);
/* Adds to the new set what watch_kick() writes to. The lock is held. */
void watch_add_kick(void);
/* Does what somebody was woken for by watch_kick(). The lock is not held. */
void watch_serve_kick(void);
void watch_look(void);
/* In a forked child: the timer is the parent's. */
void watch_forget_timer(void);
