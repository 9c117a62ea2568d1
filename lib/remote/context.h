/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>

#include "lib/local/shared.h"
#include "lib/remote/client.h"

/* A shared context as this process knows it: a slot of a state page, and what was asked of the daemon. Each
 * answer is kept, because only the state of a context changes, and that once. */

struct done_handle;
struct values;

struct remote_context {
        struct ctx_shared shared; /* the first member */
        struct ctx_client *client;
        TAILQ_ENTRY(remote_context) of_client;
        char *reference; /* path#id, so that it never means another context with the same path */
        uint64_t id;
        struct mapped_page *page;           /* NULL if it is another uid's context */
        _Atomic uint64_t epoch;             /* of the last daemon that is known to have it */
        _Atomic uint64_t own_deadline_usec; /* used if there is no page */

        /* Each of these is written once, under a lock, and read without the lock. A forked child may read
         * them too. */
        struct done_handle *_Atomic handle;
        const struct verdict *_Atomic verdict;
        struct values *_Atomic values;
        _Atomic int drained_fd; /* -1: the daemon was not asked yet */

        _Atomic int entrance; /* thread-map.c: may threads enter it? */

        /* Used by watch.c, under its lock. */
        LIST_ENTRY(remote_context) watchers;
        enum {
                WATCH_NONE,
                WATCH_LISTED,
                WATCH_FIRED, /* done, and its descendants have been told */
        } watch;
        unsigned watch_generation; /* fork_generation of the process whose thread watches it */
};

/* The done handle of a context: one for this process. */
struct done_handle {
        _Atomic uint64_t epoch; /* of the daemon; together with id it is the key */
        uint64_t id;
        int fd;
        _Atomic unsigned refs;
        bool busy; /* a thread is asking the daemon, without holding the lock */
        LIST_ENTRY(done_handle) handles;

        /* Used by watch.c, under its lock. */
        LIST_HEAD(, remote_context) watchers;
        /* fork_generation of the process that has it in its epoll set, plus 1; 0: none. */
        unsigned watch_generation;
};

/* What the daemon's Err said of a context that is done. */
struct verdict {
        uint32_t state; /* enum state_word */
        int error;
        char cause[];
};

/* The nearest context from ctx up that the daemon knows, or NULL. */
static inline struct remote_context *remote_context_above(const struct ctx *ctx)
{
        return ctx ? (struct remote_context *) ctx_shared_above(ctx->source) : NULL;
}

/* The context itself, also if ctx is a view or a value of it. NULL if ctx is a local context. */
struct remote_context *remote_context_of(struct ctx *ctx);
/* The same, if the caller may cancel it. 0, -EINVAL or -EPERM. */
int remote_context_writable(struct ctx *ctx, struct remote_context **ret);

/* Makes the object, and asks the daemon for the page. Copies reference, and takes a reference on client. 0 or
 * a negative errno. */
int remote_context_new(struct ctx_client *client, const char *reference, uint64_t id, uint64_t deadline_usec,
                struct remote_context **ret);

/* client_begin() for a call about this context. -ENOENT if it is lost: another daemon may have another
 * context with the same path and id. */
int remote_context_begin(struct remote_context *remote);
/* Calls a method of the daemon that returns a descriptor. The descriptor is the caller's. Or a negative
 * errno. */
int remote_context_ask_fd(struct remote_context *remote, const char *member);
/* The operation `attach`, also for ctx_attach(). */
int remote_context_attach(struct ctx_shared *shared, int pidfd, int signal, uint64_t kill_after_usec);
/* Asks for the verdict, if it is not known. 1: done; 0: active; or a negative errno. */
int remote_context_ask_verdict(struct remote_context *remote);
/* Another daemon answers than before, and this context seems active. Either that daemon knows it, or it is
 * lost. */
void remote_context_check(struct remote_context *remote);
/* The daemon says that there is no such context. If it is not the daemon that had it, the context is lost. */
void remote_context_unknown(struct remote_context *remote);
/* It seems active, but no daemon keeps it: there was none for too long, or another one is there instead. */
bool remote_context_is_orphan(const struct remote_context *remote);
/* No daemon will say any more when it is done. So it is made done, with CTXD_CAUSE_STOPPED, and its
 * descriptors are made readable. Returns its state, since it may have been done before. */
uint32_t remote_context_lose(struct remote_context *remote);
bool remote_context_is_lost(const struct remote_context *remote);
static inline const struct verdict *remote_context_known_verdict(const struct remote_context *remote)
{
        return atomic_load_explicit(&remote->verdict, memory_order_acquire);
}

/* The daemon says that it is done: makes the local descendants done. */
void remote_context_finish(struct remote_context *remote);

/* The verdict. NULL if the daemon cannot be asked, or says that the context is active. */
const struct verdict *remote_context_verdict(struct remote_context *remote);

/* A value. NULL: there is none, or the daemon could not be asked (errno). */
const char *remote_context_value(struct remote_context *remote, const char *key);
void values_free(struct values *values);

/* done-handle.c. This process has one done handle for each context, even if several objects stand for that
 * context. Returns a descriptor, which the caller must not close, or a negative errno. */
int done_handle_fd(struct remote_context *remote);
/* The same without asking the daemon; -1: there is none yet. */
int done_handle_known_fd(const struct remote_context *remote);
/* Makes the handle readable, if there is one, because the daemon cannot. */
void done_handle_fire(struct remote_context *remote);
/* A daemon of another epoch knows the context. */
void done_handle_confirm(struct remote_context *remote, uint64_t epoch);
/* Gives the handle up. If it is the last one in this process, the daemon is told. */
void done_handle_release(struct remote_context *remote);

/* thread-map.c. A thread enters or leaves its innermost shared context. */
void thread_map_enter(struct ctx_shared *shared);
void thread_map_leave(struct ctx_shared *shared);
void thread_map_free_all(struct thread_map *map);
/* There is another daemon. It has another thread page, and each context has to be announced to it again. The
 * client's lock is held. */
void thread_map_start_over(struct ctx_client *client);
void thread_map_reset_entrance(struct remote_context *remote);

/* watch.c. From now on the context's local descendants are made done when it is done. */
int watch_start(struct remote_context *remote);
/* From now on its descriptors are made readable if the daemon is gone. */
int watch_daemon(struct remote_context *remote);
void watch_stop(struct remote_context *remote);
/* For a program with its own event loop. No thread is started. The returned descriptor is readable when
 * watch_dispatch() has something to do, and watch_dispatch() returns whether it did something. -EBUSY: the
 * thread is running. */
int watch_take_over(void);
void watch_give_back(void);
bool watch_dispatch(void);
/* When to dispatch even if the descriptor is not readable, on CLOCK_MONOTONIC; or CTX_NEVER. */
uint64_t watch_next_usec(void);

/* To be called before and after the client's alive_fd is replaced, and when the client goes. */
void watch_pause_client(struct ctx_client *client);
void watch_resume_client(struct ctx_client *client);
void watch_remove_client(struct ctx_client *client);
