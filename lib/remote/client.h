/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "lib/ctxclient.h"
#include "lib/local/lock.h"
#include "proto/names.h"

/* The connection to the daemon.
 *
 * sd-bus is not thread-safe, so a client has one connection under one lock, which is held from the making of
 * a message until its reply has been read: client_begin() ... client_end(). After a fork the child shares the
 * parent's socket and, perhaps, a lock that another thread of the parent held: it may touch neither, which
 * client_begin() sees to by comparing pids (-ECHILD). */

struct mapped_page;
struct remote_context;
struct thread_map;

struct ctx_client {
        _Atomic uint32_t refs;    /* the program's, and one for each context */
        pid_t pid;                /* who made it */
        unsigned fork_generation; /* and the same without a system call */
        char *given; /* the address that was named, of which a child is told in $CTXD_ADDRESS; or NULL: it is found */

        struct lock lock;
        sd_bus *bus;
        struct mapped_page *pages;          /* mapped for as long as the client lives */
        struct thread_map *_Atomic threads; /* this process's, once a thread has entered a context */
        struct thread_map *old_threads;     /* those of daemons before */

        /* The daemon that answered last, and whether it is still there (client-away.c). */
        _Atomic uint64_t epoch; /* which one; 0: it did not say */
        _Atomic int alive_fd;   /* hangs up when it is gone; always the same number; -1: it gave none */
        _Atomic uint64_t away_since_usec; /* CLOCK_MONOTONIC; 0: nobody has seen that it is gone */
        bool is_another;        /* under the lock: not the one of before, its contexts are to be decided */
        struct client_attempt { /* under the lock: a connection that is being made, without waiting */
                sd_bus *bus;
                sd_bus_message *answer;
                bool answered, failed;
                size_t place;
        } attempt;

        struct lock contexts_lock;
        TAILQ_HEAD(client_contexts, remote_context) contexts;
        size_t n_contexts;

        /* shared-watch.c, under its lock */
        LIST_ENTRY(ctx_client) watched;
        enum {
                CLIENT_UNWATCHED,
                CLIENT_WATCHED, /* its alive_fd is in the epoll set */
                CLIENT_AWAY,    /* looked at by time */
        } watch;
        unsigned watch_generation;
        uint64_t look_usec; /* CLOCK_MONOTONIC; CTX_NEVER: not before a call has brought it back */
};

struct ctx_client *client_ref(struct ctx_client *client);
bool client_ref_if_alive(struct ctx_client *client);
bool client_is_inherited(const struct ctx_client *client); /* made before a fork, by another process */

/* 0 with the lock held and the connection open, or -errno. */
int client_begin(struct ctx_client *client);
/* The same, but does not connect: -ENOTCONN. */
int client_begin_connected(struct ctx_client *client);
void client_end(struct ctx_client *client);

/* Between the two. The reply is to be unreferenced before the end. A failure's sentence is kept for
 * ctx_client_error(), the error's name is turned into an errno. */
int client_message(struct ctx_client *client, sd_bus_message **ret, const char *member);
int client_send(struct ctx_client *client, sd_bus_message *m, sd_bus_message **ret_reply);
int client_call(struct ctx_client *client, sd_bus_message **ret_reply, const char *member, const char *types,
                ...);

/* Remembers a failure for ctx_client_error(); returns r. text NULL: strerror's. */
int client_set_error(struct ctx_client *client, int r, const char *text);

/* Appends one {sv}. */
int message_append_option(sd_bus_message *m, const char *name, const char *type, ...);

/* client-away.c */

/* The lock is held, and there is no connection. */
int client_connect(struct ctx_client *client);
void client_drop_attempt(struct ctx_client *client);
/* The daemon is gone, and nobody has found it again. */
bool client_is_away(struct ctx_client *client);
/* After another daemon than before has answered, with no lock held: each context is known to it, or lost. */
void client_check_contexts(struct ctx_client *client);
/* It is away: a step on the way back, which does not wait. The time until the next one, in µs; CTX_NEVER: it is there,
 * or there was time enough for it to come back. */
uint64_t client_try_return(struct ctx_client *client);
/* Sees that whoever sleeps on a descriptor of a context that is done by now is told. How many are not done. */
size_t client_tell_done(struct ctx_client *client);
void client_add_context(struct ctx_client *client, struct remote_context *remote);
void client_remove_context(struct ctx_client *client, struct remote_context *remote);
