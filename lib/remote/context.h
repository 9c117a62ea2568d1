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
        struct canceler *_Atomic canceler;
        _Atomic int drained_fd; /* -1: the daemon was not asked yet */

        /* owed-later.c: its cancel is owed; and the next such context. */
        _Atomic bool is_owed;
        struct remote_context *next_owed;

        /* thread-map.c: may threads enter it? And if that is not known: not to be asked before, on
         * CLOCK_MONOTONIC. Under the client's lock: when it was asked, and which threads wait for it. */
        _Atomic int entrance;
        _Atomic unsigned entrance_tries;
        _Atomic uint64_t entrance_usec;
        uint64_t entrance_asked_usec;
        struct client_request entrance_request;
        struct thread_place *entering;

        /* check-contexts.c: a daemon is asked whether it knows it; and the last one that has said anything.
         * Under the client's lock: the request, when it was made, and how many were not answered. */
        _Atomic bool is_asked;
        _Atomic uint64_t answered_epoch;
        struct client_request check_request;
        uint64_t asked_usec;
        unsigned n_asked;

        /* Used by watch.c, under its lock. */
        LIST_ENTRY(remote_context) watchers;
        LIST_ENTRY(remote_context) inherited; /* if is_looked_at */
        bool is_looked_at;
        enum {
                WATCH_NONE,
                WATCH_ASKING, /* its handle has not come yet */
                WATCH_LISTED,
                WATCH_FIRED, /* done, and its descendants have been told */
        } watch;
        unsigned watch_generation; /* fork_generation of the process whose thread watches it */
        unsigned watch_round;
};

/* In the child of a fork the descriptor of its parent is of no use any more once the daemon has taken it
 * back: the parent has ended, or has given the context up. So whoever waits there looks at the page from time
 * to time. */
#define INHERITED_LOOK_USEC UINT64_C(100000)

/* The done handle of a context: one for this process. */
struct done_handle {
        _Atomic uint64_t epoch; /* of the daemon; together with id it is the key */
        uint64_t id;
        /* Of the context's page, which a daemon that comes back keeps; 0: it has none. */
        uint64_t page_number;
        _Atomic int fd; /* -1: it has not come yet */
        _Atomic unsigned refs;
        _Atomic bool is_fired; /* if it comes, it is made readable */
        LIST_ENTRY(done_handle) handles;

        /* The call Done, under the lock of the client that makes it. */
        struct client_request request;
        /* That client, with a reference, until there is an answer. Changed under both locks. */
        struct ctx_client *_Atomic asked;
        _Atomic uint64_t asked_usec; /* CLOCK_MONOTONIC */
        /* What came instead of the descriptor, and was not returned yet; 0: nothing. Is it no answer, but the
         * end of the connection? */
        _Atomic int error;
        _Atomic bool is_lost;

        /* Used by watch.c, under its lock. */
        LIST_HEAD(, remote_context) watchers;
        /* fork_generation of the process that has it in its epoll set, plus 1; 0: none. */
        unsigned watch_generation;
};

/* What the daemon's Err said of a context that is done; or this process, where the daemon does not answer. */
struct verdict {
        uint32_t state;  /* enum state_word */
        uint32_t mapped; /* that many bytes are the kernel's; 0: it has the memory of malloc() */
        bool is_ours;
        int error;
        char cause[];
};

/* Who has cancelled a context. */
struct canceler {
        uid_t uid;
        pid_t pid;
        char command[];
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

/* What the daemon has said of a context (Open in proto/org.ctxd1.xml). */
struct opened {
        char reference[CTXD_PATH_ID_MAX + 1];
        uint64_t id;
        uint64_t epoch; /* of that daemon */
        uint64_t deadline_usec;
        uint64_t word;
        const struct state_slot *slot; /* NULL: it is not for this uid */
        struct mapped_page *page;
};

/* Makes the object, which takes a reference on client. 0 or -ENOMEM. */
int remote_context_new(struct ctx_client *client, const struct opened *opened, struct remote_context **ret);

/* client_begin() for a call about this context. -ENOENT if it is lost: another daemon may have another
 * context with the same path and id. */
int remote_context_begin(struct remote_context *remote);
/* Calls a method of the daemon that returns a descriptor. The descriptor is the caller's. Or a negative
 * errno. */
int remote_context_ask_fd(struct remote_context *remote, const char *member);
/* The operation `extend`. */
int remote_context_extend(struct ctx_shared *shared, uint64_t deadline_usec);
/* The operation `attach`, also for ctx_attach(). */
int remote_context_attach(struct ctx_shared *shared, int pidfd, int signal, uint64_t kill_after_usec);
/* Asks for the verdict, if it is not known. 1: done; 0: active; or a negative errno. */
int remote_context_ask_verdict(struct remote_context *remote);
/* Asks for the state, enum state_word, and for the deadline as it is now; or a negative errno. */
int remote_context_ask_state(struct remote_context *remote);
/* Another daemon answers than before. If it keeps the context's page, it knows the context. */
void remote_context_check(struct remote_context *remote);
/* The daemon of that epoch knows the context. */
void remote_context_confirm(struct remote_context *remote, uint64_t epoch);
/* Takes the answer to Err: 1: done; 0: active; or a negative errno. */
int remote_context_read_verdict(struct remote_context *remote, sd_bus_message *m);
/* check-contexts.c. There is no reference on the context left: the answer is not needed any more. */
void remote_context_forget_check(struct remote_context *remote);
/* Another daemon answers than before, and has not said yet whether it knows this context. */
bool remote_context_is_unchecked(const struct remote_context *remote);
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

/* How long the state of a context waits for the daemon's word on how the context has ended. */
#define STATE_ANSWER_USEC UINT64_C(500000)
/* cancel-call.c. The operation `cancel`. */
int remote_context_cancel(struct ctx_shared *shared, int error, const char *message);
/* A plain one, for as long as the thread has patience. */
int remote_context_cancel_soon(struct remote_context *remote);
/* Makes done what else this process has of the context. No lock is held, and the caller is no signal
 * handler. */
void remote_context_end_others(struct remote_context *remote);

/* by-line.c: what a signal handler may ask (line.h). */

/* Cancels. 1 with the answer; 0: the daemon does not answer; or a negative errno. -ENOTCONN: it cannot be
 * reached. */
int by_line_cancel(struct remote_context *remote, int *ret_first);
/* As remote_context_verdict() and remote_context_ask_state(). */
const struct verdict *by_line_verdict(struct remote_context *remote);
int by_line_state(struct remote_context *remote);
/* The first verdict stays: 1. Else 0. Takes ownership. */
int remote_context_set_verdict(struct remote_context *remote, const struct verdict *verdict);
/* NULL: there is no memory. */
struct verdict *verdict_new(uint32_t state, int error, const char *cause);
/* The same without malloc(). */
struct verdict *verdict_map(uint32_t state, int error, const char *cause);
void verdict_free(const struct verdict *verdict);
uint32_t verdict_state(int code); /* of the answer to Err */
/* A cancel of this process that the daemon has not answered. */
extern const struct verdict verdict_canceled_here;
/* The daemon says that it is done: makes the local descendants done. */
void remote_context_finish(struct remote_context *remote);

/* The verdict. NULL if the daemon cannot be asked, or says that the context is active. */
const struct verdict *remote_context_verdict(struct remote_context *remote);

/* A value. NULL: there is none, or the daemon could not be asked (errno). */
const char *remote_context_value(struct remote_context *remote, const char *key);
void values_free(struct values *values);

/* done-handle.c. This process has one done handle for each context, even if several objects stand for that
 * context. Returns a descriptor, which the caller must not close, or a negative errno. Waiting is as with
 * done_fd() of lib/local/shared.h. */
int done_handle_fd(struct remote_context *remote, uint64_t *ret_usec);
/* The same for a context without a page, when it is opened. It waits, and may ask a person for an
 * authorization. */
int done_handle_open(struct remote_context *remote);
/* Without asking the daemon; -1: there is none yet. */
int done_handle_known_fd(const struct remote_context *remote);
/* Makes the handle readable, if there is one, because the daemon cannot. */
void done_handle_fire(struct remote_context *remote);
/* A daemon of another epoch knows the context. */
void done_handle_confirm(struct remote_context *remote, uint64_t epoch);
/* Gives the handle up. If it is the last one in this process, the daemon is told. Waits for nothing. */
void done_handle_release(struct remote_context *remote);

/* thread-map.c. A thread enters or leaves its innermost shared context. */
void thread_map_enter(struct ctx_shared *shared);
void thread_map_leave(struct ctx_shared *shared);
void thread_map_free_all(struct thread_map *map);
/* There is no reference on the context left: the answer is not needed any more. */
void thread_map_forget(struct remote_context *remote);
/* There is another daemon. It has another thread page, and each context has to be announced to it again. The
 * client's lock is held. */
void thread_map_start_over(struct ctx_client *client);
void thread_map_reset_entrance(struct remote_context *remote);

/* watch.c. From now on the context's local descendants are made done when it is done. Waits a moment at
 * most. */
int watch_start(struct remote_context *remote);
/* From now on its descriptors are made readable if the daemon is gone. */
int watch_daemon(struct remote_context *remote);
/* The daemon has to be told something (owed.c), or does not answer an enter (thread-map.c): somebody looks
 * for it, or for its answer. */
int watch_owing(struct ctx_client *client);
/* The same for all clients, as soon as somebody serves the set. May be called in a signal handler. */
void watch_kick(void);
/* There may be no line for a handler, and no thread can be started then. So one is, if nobody serves the set;
 * it needs no descriptor. */
void watch_for_kicks(void);
void watch_stop(struct remote_context *remote);
/* For a program with its own event loop. No thread is started. The returned descriptor is readable when
 * watch_dispatch() has something to do, and watch_dispatch() returns whether it did something. -EBUSY: the
 * thread is running. */
int watch_take_over(void);
void watch_give_back(void);
bool watch_dispatch(void);
/* When to dispatch even if the descriptor is not readable, on CLOCK_MONOTONIC; or CTX_NEVER. */
uint64_t watch_next_usec(void);

/* The client's alive_fd becomes another file, a copy of that one, with the same number. Nobody puts the old
 * one into the set meanwhile: if the child of a fork has it, too, it would stay there, and nothing leads to
 * it. 0 or a negative errno. */
int watch_replace_alive_fd(struct ctx_client *client, int given);
/* It is to be looked after, though its daemon is there: that has not said yet which contexts it knows. */
void watch_client_again(struct ctx_client *client);
/* The client goes. */
void watch_remove_client(struct ctx_client *client);
