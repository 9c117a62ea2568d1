/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "lib/ctxclient.h"
#include "lib/local/fork.h"
#include "proto/names.h"

/* The connection to the daemon.
 *
 * sd-bus is not thread-safe. So a client has one connection of sd-bus and one lock, and whoever touches the
 * connection or a message holds the lock: client_begin() ... client_end(). Nobody holds it while an answer is
 * awaited: client_wait() releases it meanwhile (request.c). So a daemon that does not answer holds up only
 * those who wait for its answer, each for as long as it likes (law 40). For signal handlers there are other
 * connections (line.h).
 *
 * Whatever goes wrong on the connection ends it, and the next call makes another one (law 43). The daemon
 * ties nothing to a connection: what it gives out, it gives to the process.
 *
 * After a fork the child has the parent's socket, and perhaps a lock that another thread of the parent held.
 * It may use neither: client_begin() compares the pids, and returns -ECHILD. */

struct line;
struct line_address;
struct mapped_page;
struct remote_context;
struct thread_map;

/* A message whose answer is awaited. */
struct client_request {
        TAILQ_ENTRY(client_request) of_client;
        uint64_t cookie;
        bool is_open; /* it was sent, and neither was it answered nor did the connection end */
        /* How it has ended: with an answer, which may be an error of the daemon; or a negative errno. The
         * answer is unreferenced by whoever has sent the request. */
        int r;
        sd_bus_message *answer;
        /* Called at the end, with the lock held. The answer is only lent. NULL: the sender waits for it. */
        void (*on_end)(struct client_request *request, int r, sd_bus_message *answer);
};

struct ctx_client {
        _Atomic uint32_t refs;    /* that of the program, and one for each context */
        pid_t pid;                /* the process that made it */
        unsigned fork_generation; /* the same, to be compared without a system call */
        /* The address that was given, which a child process finds in $CTXD_ADDRESS; NULL: the daemon was
         * searched for. */
        char *given;

        struct lock lock;
        sd_bus *bus; /* NULL: there is no connection */
        /* A thread polls this one, without the lock, for all that wait. Meanwhile nobody else reads from it,
         * or closes it. NULL: no thread does. */
        sd_bus *polled;
        _Atomic uint32_t news; /* a futex: something has been read, or that thread has stopped polling */
        unsigned n_sleepers;   /* who sleep on it */
        uint64_t heard_usec;   /* when the daemon answered last, on CLOCK_MONOTONIC */
        TAILQ_HEAD(, client_request) requests;
        TAILQ_HEAD(, owed) owed;         /* owed.c: what the daemon has to be told */
        _Atomic unsigned n_owed_cancels; /* if there are some, they have a reference on the client */
        _Atomic unsigned n_entrances;    /* the answers to Threads that are awaited */
        unsigned n_checks;               /* the answers to check-contexts.c that are awaited */
        bool has_given_back;             /* it has told the daemon that a handle was given up */
        unsigned n_surplus; /* references that client_end() gives up, since it holds no lock then */
        /* line.c: connections that nobody uses just now, and where they lead to. */
        struct line *_Atomic lines[4];
        struct line_address *_Atomic line_address;
        struct line_address *line_addresses; /* all that there were; under the lock */
        _Atomic unsigned line_generation;    /* another one with each daemon */
        _Atomic bool is_line_refused;        /* there was none when a context was made */
        _Atomic uint64_t rights;             /* with which the connection was opened */
        /* owed-later.c: of whose cancel the daemon has to be told, where the caller could not take the lock.
         * And under the lock: which of these were taken. Each with a reference. */
        struct remote_context *_Atomic owed_later;
        struct remote_context *owed_taken;
        struct mapped_page *pages;          /* mapped for as long as the client lives */
        struct thread_map *_Atomic threads; /* that of this process, once a thread has entered a context */
        struct thread_map *old_threads;     /* those that earlier daemons gave */

        /* The daemon that answered last, and whether it is still there (reconnect.c). */
        _Atomic uint64_t epoch; /* which daemon; 0: it did not say */
        /* Is readable when the daemon is gone. The number stays the same. -1: the daemon gave none. */
        _Atomic int alive_fd;
        _Atomic uint64_t away_since_usec; /* CLOCK_MONOTONIC; 0: nobody has noticed that the daemon is gone */
        /* Another daemon has answered, and not all contexts have been checked yet. Changed under the lock. */
        _Atomic bool is_another;
        /* Under the lock: a connection that is being made, without waiting. */
        struct client_attempt {
                sd_bus *bus;
                sd_bus_message *answer;
                bool answered, may_start;
                int failed;          /* a negative errno */
                uint64_t until_usec; /* when the place counts as one that does not answer; CLOCK_MONOTONIC */
                uint64_t again_usec; /* the queue was full: when it is tried again; 0: it was not */
                uint64_t pause_usec; /* before that */
                size_t place;        /* those before it have failed */
                size_t length;
                char why[512];
        } attempt;

        /* Used by client-list.c, under its lock. */
        TAILQ_ENTRY(ctx_client) of_process;
        uint64_t serial;

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
        unsigned watch_generation, watch_round;
        /* When, on CLOCK_MONOTONIC; CTX_NEVER: not before a call has found the daemon again. */
        uint64_t look_usec;
};

struct ctx_client *client_ref(struct ctx_client *client);
bool client_ref_if_alive(struct ctx_client *client);
/* Was it made before a fork, by another process? */
bool client_is_inherited(const struct ctx_client *client);
/* The same without a system call, where client_begin() comes after it: that of a fork which the C library has
 * not seen is found there. */
static inline bool client_is_of_parent(const struct ctx_client *client)
{
        return client->fork_generation != fork_generation;
}

/* 0 with the lock held and the connection open; or a negative errno. Waits for the daemon, at most as long as
 * client_limit() says. */
int client_begin(struct ctx_client *client);
/* The same without waiting. -EINPROGRESS: a connection is being made. */
int client_begin_soon(struct ctx_client *client);
void client_end(struct ctx_client *client);

/* Between the two. The caller unreferences the reply before the end. The text of an error is kept for
 * ctx_client_error(), and its name becomes an errno. The lock is released while the answer is awaited. */
int client_message(struct ctx_client *client, sd_bus_message **ret, const char *member);
int client_send(struct ctx_client *client, sd_bus_message *m, sd_bus_message **ret_reply);
int client_call(struct ctx_client *client, sd_bus_message **ret_reply, const char *member, const char *types,
                ...);
/* 1; or the errno that stands for the answer, if that is an error. If m needs an authorization that a person
 * can give, it is sent again, and the answer is replaced. */
int client_read_answer(struct ctx_client *client, sd_bus_message *m, sd_bus_message **answer);
/* The errno that stands for an error of the daemon, or 0. Keeps its text. */
int client_answer_error(struct ctx_client *client, sd_bus_message *answer);

/* request.c. The lock is held, and there is a connection. */

#define CLIENT_ANSWER_USEC UINT64_C(25000000) /* the daemon counts as one that does not answer */
/* A daemon that is there answers long before this. Who has no time, or has to go on, waits no longer. */
#define ANSWER_MOMENT_USEC UINT64_C(50000)
/* Until when to wait for an answer, on CLOCK_MONOTONIC: for that time, or this thread's patience. */
uint64_t client_limit(void);
/* Sends without waiting. */
int client_request(struct ctx_client *client, struct client_request *request, sd_bus_message *m);
/* Sends what needs no answer. */
int client_tell(struct ctx_client *client, sd_bus_message *m);
/* The request needs no answer any more. */
void client_forget(struct ctx_client *client, struct client_request *request);
/* Reads what has come, unless another thread is about to. There may be no connection. */
void client_read(struct ctx_client *client);
/* Waits until something has been read, or the connection that is being made needs a step; until_usec is on
 * CLOCK_MONOTONIC. May return early. The lock is released meanwhile, and there may be another connection, or
 * none, afterwards. */
void client_wait(struct ctx_client *client, uint64_t until_usec);
/* Ends the connection. All requests end with r. */
void client_drop(struct ctx_client *client, int r);
/* Closes one that is not the client's any more. */
void client_close(struct ctx_client *client, sd_bus *bus);

/* client-list.c */

void client_list_add(struct ctx_client *client);
/* Before the connection is closed: the descriptor of what is kept of it, for client_list_remove(), or -1. */
int client_list_keep(const struct ctx_client *client);
void client_list_remove(struct ctx_client *client, int fd);
/* The next client of this process, with a reference, by ctx_client.serial; from 0. NULL: there is none. */
struct ctx_client *client_after(uint64_t serial);
/* The first client of that daemon, or own, with a reference. */
struct ctx_client *client_first(const struct ctx_client *own, uint64_t epoch);
/* Has that daemon read all that clients said which are freed by now? Waits for that: a moment, or as long as
 * for an answer. No lock is held. */
bool client_others_were_read(uint64_t epoch, bool soon);

/* owed.c: what the daemon could not be told. */

/* How a context is ended. */
struct cancel {
        const char *member; /* of the daemon: "Cancel", "CancelCause" or "Release" */
        int error;
        const char *message;                 /* NULL: none */
        const struct remote_context *remote; /* which one */
};

/* A cancel that was not answered: it was sent as *sent, or (NULL) not at all. The lock is held. */
void client_owe_cancel(struct ctx_client *client, const struct cancel *c, struct client_request *sent);
/* A handle is given up. The lock is held; there may be no connection. */
void client_give_back(struct ctx_client *client, uint64_t epoch, const char *reference);
/* There is a connection: tells what is owed. The lock is held. */
void client_pay(struct ctx_client *client);
/* No daemon came back in time, or (all) the client goes. */
void client_write_off(struct ctx_client *client, bool all);
int client_cancel_message(struct ctx_client *client, const struct cancel *c, const char *reference,
                sd_bus_message **ret);

/* What sd_bus_process() says of a message whose descriptor could not be received is -EXFULL, and from systemd
 * 256 on -ECHRNG. */
static inline int client_bus_error(int r)
{
        return r == -EXFULL || r == -ECHRNG ? -EMFILE : r;
}

/* owed-later.c: the same for a caller that may be a signal handler. */

/* A cancel of the context, which was ended here. */
void client_owe_later(struct remote_context *remote);
static inline bool client_owes_later(const struct ctx_client *client)
{
        return atomic_load_explicit(&client->owed_later, memory_order_relaxed) != NULL;
}
/* Owes it as client_owe_cancel() does. The lock is held. */
void client_take_later(struct ctx_client *client);
/* Ends elsewhere in this process what was taken. client_end() calls it. No lock is held. */
void client_end_taken(struct remote_context *list);
/* Sees to it that the daemon is told. No lock is held, and the caller is no signal handler. */
void client_settle_later(struct ctx_client *client);
void client_settle_all_later(void);

/* Keeps an error for ctx_client_error(), and returns r. text NULL: that of strerror(). */
int client_set_error(struct ctx_client *client, int r, const char *text);
/* The same for an error of the daemon; text may be NULL. Returns the errno that stands for it. */
int client_named_error(struct ctx_client *client, const char *name, const char *text);

/* Appends one entry of an a{sv}. */
int message_append_option(sd_bus_message *m, const char *name, const char *type, ...);

/* reconnect.c */

/* The lock is held, and there is no connection. One step to make one, without waiting. 1: there is one now.
 * 0: client_wait(), and call this again. A negative errno: there is no daemon; client->attempt.why says why.
 * With may_start the bus starts the daemon. */
int client_connect_step(struct ctx_client *client, bool may_start);
void client_drop_attempt(struct ctx_client *client);
/* The daemon is gone, and nobody has found it again yet. */
bool client_is_away(struct ctx_client *client);
/* check-contexts.c. If another daemon has answered than before, finds out for each context whether that
 * daemon knows it, or whether it is lost. Waits that long at most. Where it does not say so in time, this has
 * to be called again: is_another is set then. No lock is held. */
void client_check_contexts(struct ctx_client *client, uint64_t usec);
/* This thread does that just now. */
bool client_is_checking(void);
/* The daemon is gone: makes one step to find it again, without waiting. Or it is another one that has not
 * said which contexts it knows: asks again. Returns the time until the next step, in µs; CTX_NEVER if nothing
 * is left to do, or if there was enough time for it to come back. */
uint64_t client_try_return(struct ctx_client *client);
/* Calls fn for each context, with a reference on it and without a lock. Returns how often it returned
 * true. */
size_t client_count_each(struct ctx_client *client, bool (*fn)(struct remote_context *remote, void *userdata),
                void *userdata);
/* Wakes those that sleep on the descriptor of a context that is done by now. Returns how many contexts are
 * not done. */
size_t client_tell_done(struct ctx_client *client);
void client_add_context(struct ctx_client *client, struct remote_context *remote);
void client_remove_context(struct ctx_client *client, struct remote_context *remote);
