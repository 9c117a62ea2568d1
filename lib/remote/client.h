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
 * sd-bus is not thread-safe. So a client has one connection and one lock, and holds the lock from the making
 * of a message until the reply has been read: client_begin() ... client_end(). After a fork the child has the
 * parent's socket, and perhaps a lock that another thread of the parent held. It may use neither:
 * client_begin() compares the pids, and returns -ECHILD. */

struct mapped_page;
struct remote_context;
struct thread_map;

struct ctx_client {
        _Atomic uint32_t refs;    /* that of the program, and one for each context */
        pid_t pid;                /* the process that made it */
        unsigned fork_generation; /* the same, to be compared without a system call */
        /* The address that was given, which a child process finds in $CTXD_ADDRESS; NULL: the daemon was
         * searched for. */
        char *given;

        struct lock lock;
        sd_bus *bus;
        struct mapped_page *pages;          /* mapped for as long as the client lives */
        struct thread_map *_Atomic threads; /* that of this process, once a thread has entered a context */
        struct thread_map *old_threads;     /* those that earlier daemons gave */

        /* The daemon that answered last, and whether it is still there (reconnect.c). */
        _Atomic uint64_t epoch; /* which daemon; 0: it did not say */
        /* Hangs up when the daemon is gone. The number stays the same. -1: the daemon gave none. */
        _Atomic int alive_fd;
        _Atomic uint64_t away_since_usec; /* CLOCK_MONOTONIC; 0: nobody has noticed that the daemon is gone */
        /* Under the lock: another daemon has answered, and the contexts have not been checked yet. */
        bool is_another;
        /* Under the lock: a connection that is being made, without waiting. */
        struct client_attempt {
                sd_bus *bus;
                sd_bus_message *answer;
                bool answered, failed;
                size_t place;
        } attempt;

        struct lock contexts_lock;
        TAILQ_HEAD(client_contexts, remote_context) contexts;
        size_t n_contexts;

        /* Used by watch.c, under its lock. */
        LIST_ENTRY(ctx_client) watched;
        enum {
                CLIENT_UNWATCHED,
                CLIENT_WATCHED, /* alive_fd is in the epoll set */
                CLIENT_AWAY,    /* alive_fd is not; the client is looked at from time to time */
        } watch;
        unsigned watch_generation;
        /* When, on CLOCK_MONOTONIC; CTX_NEVER: not before a call has found the daemon again. */
        uint64_t look_usec;
};

struct ctx_client *client_ref(struct ctx_client *client);
bool client_ref_if_alive(struct ctx_client *client);
/* Was it made before a fork, by another process? */
bool client_is_inherited(const struct ctx_client *client);

/* 0 with the lock held and the connection open; or a negative errno. */
int client_begin(struct ctx_client *client);
/* The same, but it does not connect: -ENOTCONN. */
int client_begin_connected(struct ctx_client *client);
void client_end(struct ctx_client *client);

/* To be called between the two. The caller unreferences the reply before the end. The text of an error is
 * kept for ctx_client_error(), and its name becomes an errno. */
int client_message(struct ctx_client *client, sd_bus_message **ret, const char *member);
int client_send(struct ctx_client *client, sd_bus_message *m, sd_bus_message **ret_reply);
int client_call(struct ctx_client *client, sd_bus_message **ret_reply, const char *member, const char *types,
                ...);

/* Keeps an error for ctx_client_error(), and returns r. text NULL: that of strerror(). */
int client_set_error(struct ctx_client *client, int r, const char *text);

/* Appends one entry of an a{sv}. */
int message_append_option(sd_bus_message *m, const char *name, const char *type, ...);

/* reconnect.c */

/* The lock is held, and there is no connection. */
int client_connect(struct ctx_client *client);
void client_drop_attempt(struct ctx_client *client);
/* The daemon is gone, and nobody has found it again yet. */
bool client_is_away(struct ctx_client *client);
/* Another daemon has answered than before. Finds out for each context whether that daemon knows it, or
 * whether it is lost. No lock is held. */
void client_check_contexts(struct ctx_client *client);
/* The daemon is gone: makes one step to find it again, without waiting. Returns the time until the next step,
 * in µs; CTX_NEVER if it is there, or if there was enough time for it to come back. */
uint64_t client_try_return(struct ctx_client *client);
/* Wakes those that sleep on the descriptor of a context that is done by now. Returns how many contexts are
 * not done. */
size_t client_tell_done(struct ctx_client *client);
void client_add_context(struct ctx_client *client, struct remote_context *remote);
void client_remove_context(struct ctx_client *client, struct remote_context *remote);
