/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>

#include "lib/local/shared.h"
#include "lib/remote/client.h"

/* A shared context, as this process knows it: a slot of a state page, and what was asked of the daemon once.
 * Each answer is kept, since nothing of a context changes but its state, which changes once. */

struct done_handle;
struct values;

struct remote_context {
        struct ctx_shared shared; /* first */
        struct ctx_client *client;
        TAILQ_ENTRY(remote_context) of_client;
        char *reference; /* path#id: never somebody else of the same name */
        uint64_t id;
        struct mapped_page *page;           /* or NULL: another uid's */
        _Atomic uint64_t epoch;             /* of the daemon that was seen to know it last */
        _Atomic uint64_t own_deadline_usec; /* where there is no page to read it from */

        /* Each is written once, under a lock, and then read without it: also in a forked child, whose copy of
         * the lock may be held for ever. */
        struct done_handle *_Atomic handle;
        const struct verdict *_Atomic verdict;
        struct values *_Atomic values;
        _Atomic int drained_fd; /* -1: not asked for yet */

        _Atomic int entrance; /* shared-threads.c: may threads enter it? */

        /* shared-watch.c, under its lock */
        LIST_ENTRY(remote_context) watchers;
        enum {
                WATCH_NONE,
                WATCH_LISTED,
                WATCH_FIRED, /* done, and told */
        } watch;
        unsigned watch_generation; /* fork_generation of the process whose thread it is that watches */
};

/* The done handle of a context, in this process. */
struct done_handle {
        _Atomic uint64_t epoch; /* of the daemon; with id the key */
        uint64_t id;
        int fd;
        _Atomic unsigned refs;
        bool busy; /* the daemon is being asked, without the lock */
        LIST_ENTRY(done_handle) handles;

        /* shared-watch.c, under its lock */
        LIST_HEAD(, remote_context) watchers;
        unsigned watch_generation; /* where it is in the epoll set; plus 1, 0: nowhere */
};

/* What Err said of a done context. */
struct verdict {
        uint32_t state; /* enum state_word */
        int error;
        char cause[];
};

/* The context from ctx up that the daemon knows, or NULL. */
static inline struct remote_context *remote_context_above(const struct ctx *ctx)
{
        return ctx ? (struct remote_context *) ctx_shared_above(ctx->source) : NULL;
}

/* ctx itself, or a view or value of it; not a local context below it: NULL. */
struct remote_context *remote_context_of(struct ctx *ctx);
/* The same, for those who may cancel it. 0, -EINVAL, or -EPERM. */
int remote_context_writable(struct ctx *ctx, struct remote_context **ret);

/* Asks for the page and makes the object. reference is copied; takes a reference on client. 0, or -errno. */
int remote_context_new(struct ctx_client *client, const char *reference, uint64_t id, uint64_t deadline_usec,
                struct remote_context **ret);

/* client_begin() for a call about it. -ENOENT: it is lost, and of another daemon's contexts it may be the namesake. */
int remote_context_begin(struct remote_context *remote);
/* A descriptor of the caller's own that the daemon gives for the context, or -errno. */
int remote_context_ask_fd(struct remote_context *remote, const char *member);
/* ops->attach, for ctx_attach() as well. */
int remote_context_attach(struct ctx_shared *shared, int pidfd, int signal, uint64_t kill_after_usec);
/* Err, if it is not known yet. 1: done; 0: active; -errno. */
int remote_context_ask_verdict(struct remote_context *remote);
/* Another daemon answers than before, and by what is here it is active: it knows it, or it is lost. */
void remote_context_check(struct remote_context *remote);
/* The daemon has said that there is no such context. If it is another one than before, it is lost. */
void remote_context_unknown(struct remote_context *remote);
/* It reads active, and nobody keeps it: for long enough, or because another daemon is there instead. */
bool remote_context_is_orphan(const struct remote_context *remote);
/* Nobody will tell when it is done: so it is, with CTXD_CAUSE_STOPPED, and whoever sleeps on a descriptor is told. Its
 * state: it may have been done before. */
uint32_t remote_context_lose(struct remote_context *remote);
bool remote_context_is_lost(const struct remote_context *remote);
static inline const struct verdict *remote_context_known_verdict(const struct remote_context *remote)
{
        return atomic_load_explicit(&remote->verdict, memory_order_acquire);
}

/* The daemon has said that it is done: the local descendants are, too. */
void remote_context_finish(struct remote_context *remote);

/* Err, kept. NULL where the daemon cannot be asked, or says that it is active. */
const struct verdict *remote_context_verdict(struct remote_context *remote);

/* A value, as Values said. NULL: none, or it could not be asked (errno). */
const char *remote_context_value(struct remote_context *remote, const char *key);
void values_free(struct values *values);

/* shared-handle.c: the done handle, one for each process and context, however many objects stand for it here.
 * A borrowed descriptor, or -errno. */
int done_handle_fd(struct remote_context *remote);
/* The same without asking; -1: there is none yet. */
int done_handle_known_fd(const struct remote_context *remote);
/* Makes it readable, where there is one, and the daemon cannot. */
void done_handle_fire(struct remote_context *remote);
/* A daemon of another epoch knows the context. */
void done_handle_confirm(struct remote_context *remote, uint64_t epoch);
/* Gives it up; the last one in this process tells the daemon. */
void done_handle_release(struct remote_context *remote);

/* shared-threads.c: ctx_enter() and ctx_leave(), of the innermost shared context of a thread */
void thread_map_enter(struct ctx_shared *shared);
void thread_map_leave(struct ctx_shared *shared);
void thread_map_free_all(struct thread_map *map);
/* Another daemon: it has another page (under the client's lock), and has to be told of each context anew. */
void thread_map_start_over(struct ctx_client *client);
void thread_map_reset_entrance(struct remote_context *remote);

/* shared-watch.c */
int watch_start(struct remote_context *remote);
/* Sees that it is told at its descriptors if the daemon is gone. */
int watch_daemon(struct remote_context *remote);
void watch_stop(struct remote_context *remote);
/* For a program with a loop of its own: no thread is started, and the descriptor returned is readable when
 * watch_dispatch() has something to do, which says whether it did. -EBUSY: there is a thread. */
int watch_take_over(void);
void watch_give_back(void);
bool watch_dispatch(void);
/* When to dispatch although the descriptor is not readable, on CLOCK_MONOTONIC; CTX_NEVER. */
uint64_t watch_next_usec(void);

/* Of a client: while its alive_fd is being changed, and when it goes. */
void watch_pause_client(struct ctx_client *client);
void watch_resume_client(struct ctx_client *client);
void watch_remove_client(struct ctx_client *client);
