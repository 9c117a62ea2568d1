/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CTXCLIENT_CONTEXTS_H
#define CTXCLIENT_CONTEXTS_H

/* Contexts: make one, hand it down, end it, ask it, wait for it.
 *
 * A context is active until it is done. It becomes done once: by a cancel, by its deadline, or because its
 * parent is done. From then on it is done for ever, and it says why. Contexts form a tree: when a context is
 * done, all contexts below it are done. A parent holds no reference to its children.
 *
 * The rules for all functions of the library:
 *
 * Errors. A function that makes an object returns the object, or NULL with errno set. The other functions
 * return 0 or more, or a negative errno. They return -EINVAL for NULL and for a context of the wrong kind.
 * Parameters whose names begin with ret_ are written on success only, and may be NULL.
 *
 * Ownership. A function that makes an object gives one reference to the caller, who gives it up with the
 * unref function of that type. What is called borrowed below belongs to the library: do not unref, free or
 * close it.
 *
 * Units. Times are microseconds. A point in time is on CLOCK_BOOTTIME, which goes on while the machine is
 * suspended. UINT64_MAX means never.
 *
 * Threads. Every function may be called from any thread, at any time, where its comment does not say
 * otherwise. A thread with asynchronous cancelability (pthread_setcanceltype(3)) calls none of them.
 *
 * Signal handlers. A handler may call ctx_err() and ctx_cancel(), also for a shared context, and for a local
 * one ctx_cancel_cause() without a message, whatever it has interrupted. They may change errno.
 *
 * Signals. No function raises a signal in the calling process. The library's threads block all signals. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define CTX_CONSTRUCTOR(unref) __attribute__((__warn_unused_result__, __malloc__, __malloc__(unref, 1)))
#elif defined(__GNUC__)
#define CTX_CONSTRUCTOR(unref) __attribute__((__warn_unused_result__))
#else
#define CTX_CONSTRUCTOR(unref)
#endif
/* CTX_CLEANUP, and what is made of it, needs gcc or clang. Elsewhere it is not defined, since a guard that
 * does nothing would leak. */
#if defined(__GNUC__)
#define CTX_MUST_CHECK __attribute__((__warn_unused_result__))
#define CTX_CLEANUP(function) __attribute__((__cleanup__(function)))
#pragma GCC visibility push(default)
#else
#define CTX_MUST_CHECK
#endif

/* -- Version --------------------------------------------------------------------------------------------- */

/* The version of this header. */
#define CTX_VERSION_MAJOR 0
#define CTX_VERSION_MINOR 1
#define CTX_VERSION_MICRO 0
/* The same as one number, for comparisons: 0.1.0 is 1000, 1.2.3 is 1002003. */
#define CTX_VERSION (CTX_VERSION_MAJOR * 1000000 + CTX_VERSION_MINOR * 1000 + CTX_VERSION_MICRO)

/* The version of the library that the program runs with, as one number. It can be newer than the header. */
int ctx_version(void);

/* -- References ------------------------------------------------------------------------------------------ */

struct ctx;

/* Gives up one reference. The last one frees the context. This does not cancel: a context that nobody cancels
 * ends with its parent or at its deadline. The children live on, and are still done when the parents of this
 * context are. Takes NULL. Returns NULL. */
struct ctx *ctx_unref(struct ctx *ctx);
/* Takes one more reference. Takes NULL. Returns ctx. */
struct ctx *ctx_ref(struct ctx *ctx);

/* -- Roots ----------------------------------------------------------------------------------------------- */

/* The root of all contexts. It is never done, and it has no deadline and no values. It is not counted: it
 * needs no unref, and any number of them does no harm. */
struct ctx *ctx_background(void);
/* The same, for code that does not know yet which context it should use. */
struct ctx *ctx_todo(void);

/* -- Derived contexts ---------------------------------------------------------------------------------------
 *
 * A derived context, or child, is done at the latest when its parent is, and then has the parent's error and
 * cause. A child of a context that is done is done from the start. A program may give up the parent before
 * the child.
 *
 * All of these fail with EINVAL or ENOMEM. */

/* Done when it is cancelled. */
struct ctx *ctx_with_cancel(struct ctx *parent) CTX_CONSTRUCTOR(ctx_unref);
/* Done when it is cancelled, or when usec microseconds have passed. 0: it is done from the start. UINT64_MAX,
 * or more than the clock can hold: no deadline of its own. */
struct ctx *ctx_with_timeout(struct ctx *parent, uint64_t usec) CTX_CONSTRUCTOR(ctx_unref);
/* The same with a point in time. The deadline that counts is the earlier one of its own and its parent's. */
struct ctx *ctx_with_deadline(struct ctx *parent, uint64_t boottime_usec) CTX_CONSTRUCTOR(ctx_unref);
/* The same two, with the cause that the context gets when its own deadline passes. error: an errno value
 * above 0, or 0 for ETIMEDOUT. message: is copied; NULL or "" is the default text. A deadline of the parent
 * that is earlier brings the parent's cause. */
struct ctx *ctx_with_timeout_cause(struct ctx *parent, uint64_t usec, int error, const char *message)
                CTX_CONSTRUCTOR(ctx_unref);
struct ctx *ctx_with_deadline_cause(struct ctx *parent, uint64_t boottime_usec, int error,
                const char *message) CTX_CONSTRUCTOR(ctx_unref);
/* Has the values of its parent, but neither its deadline nor its cancellation: it is never done. */
struct ctx *ctx_without_cancel(struct ctx *parent) CTX_CONSTRUCTOR(ctx_unref);
/* Done as soon as its parent or any of the n others is done, with the error and cause of that one. Its
 * deadline is the earliest of all of them; its values are the parent's. It can be cancelled by itself. The
 * array is copied. */
struct ctx *ctx_merge(struct ctx *parent, struct ctx *const *others, size_t n) CTX_CONSTRUCTOR(ctx_unref);
/* The same context for code that must not cancel it: a cancel of this view returns -EPERM. */
struct ctx *ctx_readonly(struct ctx *parent) CTX_CONSTRUCTOR(ctx_unref);

/* -- Contexts that something outside ends -------------------------------------------------------------------
 *
 * They are as those of ctx_with_cancel(), and are done too when something happens outside of the program.
 * They need no thread each: one thread of the library serves all of them, or the program's own loop
 * (ctx_client_process()). In a child of a fork those that were made before it are not ended so. errno:
 * EINVAL, ENOMEM; the first one can also fail as pthread_create(3), eventfd(2), timerfd_create(2) and
 * epoll_create1(2) do. */

/* Done when the other side of fd hangs up, with the cause ECONNRESET, "peer hung up"; at once, if it has
 * done so already. Data that nobody has read yet does not matter.
 *   A connected socket: the peer has closed it, has shut down its sending side (so not for protocols in
 *   which a client does that and waits for an answer), or has reset the connection. A stream socket that is
 *   not connected counts as hung up. A datagram socket does not hang up.
 *   A pipe, FIFO or terminal: the last one at the other end has closed it.
 *   A pidfd: the process has exited. The cause is then ESRCH, "process exited".
 *
 * fd is borrowed. It stays open until the context is done or freed; after that the program may close it,
 * and use the number again. Several contexts may have the same fd. errno: also EBADF; EPERM: fd is none
 * of these, and has no other side; ENOSPC, as for epoll_ctl(2). */
struct ctx *ctx_with_hangup(struct ctx *parent, int fd) CTX_CONSTRUCTOR(ctx_unref);
/* Done when the process gets one of the n signals, with the cause EINTR and a message as "SIGINT received".
 * While there is such a context for a signal, the library has a handler for it (with SA_RESTART), and what
 * was set before is not called. It is set again when all contexts for the signal are done or freed, unless
 * the program has set something else: so after ^C has ended the context, a second ^C kills. A signal that
 * is ignored when the context is made stays ignored, as under nohup(1), and does not end it. A signal that
 * all threads block does not, either. EINVAL: n is 0, or one of them is no signal, cannot be caught, or
 * tells of a fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS). */
struct ctx *ctx_with_signals(struct ctx *parent, const int *signals, size_t n) CTX_CONSTRUCTOR(ctx_unref);

/* -- Values ---------------------------------------------------------------------------------------------- */

/* A key for values. Keys are compared by their address, so that two libraries never use the same key by
 * accident. The name is for people. A key must stay in place as long as contexts use it:
 *     static const struct ctx_key user_key = CTX_KEY("user"); */
struct ctx_key {
        const char *name;
};
/* clang-format off */
#define CTX_KEY(name) { name }
/* clang-format on */

/* Does what CTX_KEY does, for languages that have no C macros. The name is borrowed from the caller. -EINVAL:
 * NULL. */
int ctx_key_init(struct ctx_key *key, const char *name);
/* A context with one value more; it is done when its parent is. destroy(value) is called when the context is
 * freed, on the thread that gives up the last reference; not where this function fails. If a cancel is under
 * way and holds the context at that moment, the next ctx_unref() in the process frees it, on its thread.
 * destroy may be NULL. */
struct ctx *ctx_with_value(struct ctx *parent, const struct ctx_key *key, void *value,
                void (*destroy)(void *value)) CTX_CONSTRUCTOR(ctx_unref);
/* The value that belongs to the key in ctx, or in the nearest context above it that has the key. NULL: none
 * has it. The value is borrowed, and lives as long as ctx. */
void *ctx_value(struct ctx *ctx, const struct ctx_key *key);

/* -- To end a context ------------------------------------------------------------------------------------ */

/* Ends ctx and all contexts below it. When the call returns 1 or 0, all of them are done. Callbacks run
 * later, on another thread. 1: this call ended it. 0: it was done before, and nothing changed. -EPERM: ctx is
 * a readonly view. -EINVAL: ctx cannot be cancelled by itself (background, todo, a value, without_cancel).
 *
 * In a signal handler that has interrupted a call of the library, ctx itself is done when the cancel returns.
 * The contexts below it in this process, descriptors and waits follow as soon as the interrupted call goes
 * on. -ENOMEM: only there, and ctx is not done. */
int ctx_cancel(struct ctx *ctx);
/* The same with a cause. error: an errno value above 0, or 0 for ECANCELED. message: is copied; NULL or "" is
 * the default text, which is also used where there is no memory for the copy. */
int ctx_cancel_cause(struct ctx *ctx, int error, const char *message);

/* Moves the deadline of an active context, or gives it one: to an earlier or a later time. UINT64_MAX: it has
 * none any more. A time that has passed makes it done. The contexts below follow, as far as they have no
 * earlier deadline of their own; and so do descriptors, waits and callbacks. -EALREADY: ctx is done. -EINVAL:
 * that is later than the deadline above ctx; or ctx has no deadline by itself (background, todo, a value,
 * without_cancel). -EPERM: ctx is a readonly view. -ENOMEM. An earlier deadline may need a thread of the
 * library: see ctx_after_func().
 *
 * For a context of ctxd the daemon is asked, and only the uid that owns the context may. Others who have the
 * context see it: those of the same uid at once; those of another uid no later than at the deadline that they
 * know, when the library asks the daemon before it says that the deadline has passed. If the daemon does not
 * answer then, and in a child of a fork of such a process, which cannot ask, the deadline counts that is
 * known. */
int ctx_extend(struct ctx *ctx, uint64_t boottime_usec);

/* -- To ask a context ------------------------------------------------------------------------------------ */

/* 0: active. -ECANCELED: it was cancelled. -ETIMEDOUT: its deadline passed. An answer other than 0 never
 * changes. The call is cheap: two loads from memory, however deep the context is in the tree, and a look at
 * the clock where there is a deadline; no system call. */
int ctx_err(struct ctx *ctx) CTX_MUST_CHECK;
/* Why the context is done. 1: it is done, and both values are written. 0: it is active. The error and the
 * message are those of whoever cancelled, else ECANCELED and "context canceled", or ETIMEDOUT and "context
 * deadline exceeded". The message is borrowed, and lives as long as ctx. */
int ctx_cause(struct ctx *ctx, int *ret_error, const char **ret_message);
/* 1: it has a deadline: the earliest from ctx up. 0: it has none. */
int ctx_deadline(struct ctx *ctx, uint64_t *ret_boottime_usec);
/* The time that is left until the deadline. 0: it has passed. UINT64_MAX: there is no deadline. */
uint64_t ctx_remaining(struct ctx *ctx);

/* -- To wait for a context ------------------------------------------------------------------------------- */

/* A descriptor that becomes readable when the context is done, and stays so. Poll it for POLLIN; never read,
 * write or close it. When it is readable, ctx_err() is not 0. It is made by the first call, is borrowed, and
 * lives as long as ctx. -EOPNOTSUPP: the context can never be done; poll(2) skips this number as a
 * descriptor. Also -EMFILE, -ENFILE, -ENOMEM. The descriptor of a context of ctxd starts a thread of the
 * library, which makes it readable should the daemon be gone. */
int ctx_done_fd(struct ctx *ctx);
/* Waits until the context is done, at most timeout_usec. 0: the time is up. Else the answer of ctx_err().
 * With 0 it does not wait; with UINT64_MAX it waits without a limit. A signal does not end it. -EDEADLK: it
 * would wait for ever, because the context can never be done. After a suspend of the machine the call may
 * return up to a minute late. */
int ctx_wait(struct ctx *ctx, uint64_t timeout_usec);

/* -- Callbacks ------------------------------------------------------------------------------------------- */

/* A callback that is registered with a context. */
struct ctx_after;

/* Gives up the handle. The callback stays registered. Takes NULL. Returns NULL. */
struct ctx_after *ctx_after_unref(struct ctx_after *after);
/* Calls fn(userdata) once when ctx is done; soon, if it is done already. The callback runs on a thread that
 * the library starts for callbacks, with all signals blocked, or in the program's own loop
 * (ctx_client_process()). It never runs inside a call that cancels, and no lock of the library is held.
 * Callbacks run at the same time, in no
 * order that can be relied on: the library starts one more thread when a callback waits and all threads are
 * in theirs. So a callback may block, and delays no other; but while 1000 block, the next one waits. In the
 * program's own loop they run one by one. A callback may fork: in the child it goes on, and its thread ends
 * when it returns. Otherwise a child after a fork does not run the callbacks of its parent. A registered
 * callback holds a reference to its context until it was stopped or has returned.
 *
 * An exception of C++ that leaves a callback ends the program, by std::terminate(). In the program's own
 * loop it leaves ctx_client_process() instead: the callback counts as returned, and the next call runs the
 * others. (sd-event is not made for exceptions: catch them in the callback there.)
 *
 * errno: EINVAL, ENOMEM; the first callback can also fail as pthread_create(3), eventfd(2),
 * timerfd_create(2) and epoll_create1(2) do. Where later a further thread is refused, the callback waits
 * for one of those that there are. */
struct ctx_after *ctx_after_func(struct ctx *ctx, void (*fn)(void *userdata), void *userdata)
                CTX_CONSTRUCTOR(ctx_after_unref);
/* 1: the callback is stopped and will not run. 0: it has begun, or it was stopped before. */
int ctx_after_stop(struct ctx_after *after);
/* The same; and if the callback has begun, waits until it has returned. -EDEADLK: called by the callback
 * itself. Two callbacks that wait for each other wait for ever. A child of a fork does not wait for a
 * callback that runs in its parent. */
int ctx_after_stop_wait(struct ctx_after *after);

/* -- The context of a thread ----------------------------------------------------------------------------- */

/* From now on this thread works for ctx. Calls nest. The thread holds a reference to ctx until it leaves;
 * when a thread ends, it has left all. -ENOMEM, -EAGAIN.
 *
 * Under a context of ctxd the thread is a member of that context meanwhile: of the one that it entered last.
 * A member counts as work that has to stop, and is reported if it is still blocked some time after the
 * context is done. The first entry of a context in a process asks the daemon, and waits 50 ms for it at most:
 * if the answer comes later, the thread becomes a member then. The following ones cost a few stores to
 * memory. In some cases the daemon does not see the thread, and all else is the same: where the
 * daemon refuses (no right to attach to the context, a limit), for more than 1022 threads at one time, in a
 * pid namespace that the daemon does not see into, and in a child of a fork that uses its parent's client. */
int ctx_enter(struct ctx *ctx);
/* Takes back this thread's last entry of ctx. */
void ctx_leave(struct ctx *ctx);
/* The context that this thread has entered last, borrowed; the background if there is none. */
struct ctx *ctx_current(void);

/* -- Guards for a block -------------------------------------------------------------------------------------
 *
 * A variable with one of these is given up at the end of its block, whichever way the block is left:
 *     CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout(parent, 5000000);
 * Every type of the library that has an unref has a guard. The inline functions, whose names end in _, are
 * for the guards alone. */

#if defined(__GNUC__)

/* ctx_unref(). */
#define CTX_AUTO_UNREF CTX_CLEANUP(ctx_unrefp_)
/* ctx_cancel() and ctx_unref(). */
#define CTX_AUTO_CANCEL CTX_CLEANUP(ctx_cancelp_)
/* ctx_after_unref(). */
#define CTX_AUTO_AFTER_UNREF CTX_CLEANUP(ctx_after_unrefp_)
/* ctx_after_stop_wait() and ctx_after_unref(): after the block the callback does not run any more. */
#define CTX_AUTO_AFTER_STOP CTX_CLEANUP(ctx_after_stopp_)
/* ctx_enter() here, and ctx_leave() at the end of the block. Where the entry fails the thread is not
 * entered. */
#define CTX_SCOPE(context) CTX_SCOPE_1_(context, __LINE__)

#define CTX_SCOPE_1_(context, line) CTX_SCOPE_2_(context, line)
#define CTX_SCOPE_2_(context, line) \
        CTX_CLEANUP(ctx_leavep_)    \
        __attribute__((__unused__)) struct ctx *ctx_scope_##line##_ = ctx_entered_(context)

static inline void ctx_unrefp_(struct ctx **ctx)
{
        if (*ctx)
                ctx_unref(*ctx);
}

static inline void ctx_cancelp_(struct ctx **ctx)
{
        if (!*ctx)
                return;
        ctx_cancel(*ctx);
        ctx_unref(*ctx);
}

static inline void ctx_after_unrefp_(struct ctx_after **after)
{
        ctx_after_unref(*after);
}

static inline void ctx_after_stopp_(struct ctx_after **after)
{
        if (*after)
                ctx_after_stop_wait(*after);
        ctx_after_unref(*after);
}

static inline void ctx_leavep_(struct ctx **ctx)
{
        if (*ctx)
                ctx_leave(*ctx);
}

static inline struct ctx *ctx_entered_(struct ctx *ctx)
{
        return ctx_enter(ctx) < 0 ? NULL : ctx;
}

#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
