/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CTXCLIENT_H
#define CTXCLIENT_H

/* libctxclient: contexts, as Go's package context has them, in C.
 *
 * A context says whether work should go on: it is done once, by a cancel, by its deadline or by its parent, and
 * then says why. It is immutable but for that, counted by references, and may be used from any thread; a child is
 * done when its parent is, and a parent holds no reference to its children. The context is the first argument of
 * every call; a program calls it ctx.
 *
 * Constructors return the object, or NULL with errno set; all other calls return 0 or more, or a negative errno
 * (-EINVAL for NULL or a context of the wrong kind). Out parameters are written on success only, and may be NULL.
 * Times are microseconds; points in time are CLOCK_BOOTTIME, which counts a suspend; UINT64_MAX is "never".
 * Nothing here may be called from a signal handler but ctx_err(). */

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

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
#if defined(__GNUC__)
#define CTX_MUST_CHECK __attribute__((__warn_unused_result__))
#define CTX_CLEANUP(fn) __attribute__((__cleanup__(fn)))
#pragma GCC visibility push(default)
#else
#define CTX_MUST_CHECK
#define CTX_CLEANUP(fn)
#endif

struct ctx;

/* -- Life -------------------------------------------------------------------------------------------------------- */

/* One reference less; with the last one the context is freed (its children live on, and are cancelled with its
 * parents as before). Takes NULL. Returns NULL. It does not cancel: what nobody cancels ends with its parent, or
 * its deadline. */
struct ctx *ctx_unref(struct ctx *ctx);
/* One reference more; returns ctx. */
struct ctx *ctx_ref(struct ctx *ctx);

/* -- Roots ------------------------------------------------------------------------------------------------------- */

/* The root of all: never done, no deadline, no values. Needs no unref, takes any number of them. */
struct ctx *ctx_background(void);
/* The same, for code that does not know yet which context it should use. */
struct ctx *ctx_todo(void);

/* -- Derived contexts --------------------------------------------------------------------------------------------
 *
 * Each is done no later than its parent, with the parent's error and cause; one that is derived from a context
 * that is done is born done. errno: EINVAL, ENOMEM. */

/* Done when it is cancelled. */
struct ctx *ctx_with_cancel(struct ctx *parent) CTX_CONSTRUCTOR(ctx_unref);
/* And when the time has passed: usec from now (UINT64_MAX, or more than the clock can hold: none; 0: at once). */
struct ctx *ctx_with_timeout(struct ctx *parent, uint64_t usec) CTX_CONSTRUCTOR(ctx_unref);
/* At a point of CLOCK_BOOTTIME. The effective deadline is the earliest of its own and its parent's. */
struct ctx *ctx_with_deadline(struct ctx *parent, uint64_t boottime_usec) CTX_CONSTRUCTOR(ctx_unref);
/* With the cause that it gets when this deadline passes (where the parent's is not the earlier one). error: an
 * errno value above 0, or 0 for the default, ETIMEDOUT; message: copied, NULL for the default text. */
struct ctx *ctx_with_timeout_cause(struct ctx *parent, uint64_t usec, int error, const char *message)
                CTX_CONSTRUCTOR(ctx_unref);
struct ctx *ctx_with_deadline_cause(struct ctx *parent, uint64_t boottime_usec, int error,
                const char *message) CTX_CONSTRUCTOR(ctx_unref);
/* Keeps the values, drops deadline and cancellation: never done. */
struct ctx *ctx_without_cancel(struct ctx *parent) CTX_CONSTRUCTOR(ctx_unref);
/* Done as soon as its parent or any of the n others is, with that one's error and cause; the deadline is the
 * earliest of all; the values are the parent's. Can be cancelled by itself. */
struct ctx *ctx_merge(struct ctx *parent, struct ctx *const *others, size_t n) CTX_CONSTRUCTOR(ctx_unref);
/* The same context, for callees that may not cancel it: a cancel gives -EPERM. */
struct ctx *ctx_readonly(struct ctx *parent) CTX_CONSTRUCTOR(ctx_unref);

/* -- Values ------------------------------------------------------------------------------------------------------ */

/* A key is its address, so that two libraries cannot collide; the text is for people:
 *     static const struct ctx_key user_key = CTX_KEY("user"); */
struct ctx_key {
        const char *name;
};
/* clang-format off */
#define CTX_KEY(name) { name }
/* clang-format on */

/* A context with one value more. destroy (or NULL) is called with the value at the last unref, not on failure, on
 * the thread that gives that last reference up. */
struct ctx *ctx_with_value(struct ctx *parent, const struct ctx_key *key, void *value,
                void (*destroy)(void *value)) CTX_CONSTRUCTOR(ctx_unref);
/* The value of the nearest context, from ctx up, that sets the key; NULL if none does. It lives as long as ctx. */
void *ctx_value(struct ctx *ctx, const struct ctx_key *key);

/* -- To end one -------------------------------------------------------------------------------------------------- */

/* 1: this call did it. 0: it was done already, and nothing changed. -EPERM: a readonly view. -EINVAL: not one that
 * is cancelled by itself (background, todo, a value, without_cancel). When it returns, also with 0, every context
 * below reads done. Callbacks are not waited for. */
int ctx_cancel(struct ctx *ctx);
/* With a cause. error: an errno value above 0, or 0 for the default, ECANCELED; message: copied (where there is no
 * memory for that, the default text stands), NULL for the default text. */
int ctx_cancel_cause(struct ctx *ctx, int error, const char *message);

/* -- To ask one -------------------------------------------------------------------------------------------------- */

/* 0: active; -ECANCELED; -ETIMEDOUT: its deadline passed. Once it is not 0 it never changes. No system call; two
 * loads at any depth, and a clock read where there is a deadline. */
int ctx_err(struct ctx *ctx) CTX_MUST_CHECK;
/* 1: done, and why: as given by who cancelled, else ECANCELED or ETIMEDOUT and "context canceled" or "context
 * deadline exceeded". 0: active. The message lives as long as ctx. */
int ctx_cause(struct ctx *ctx, int *ret_error, const char **ret_message);
/* 1: it has one, the earliest from here up. 0: none. */
int ctx_deadline(struct ctx *ctx, uint64_t *ret_boottime_usec);
/* Time left, 0 if it has passed; UINT64_MAX: no deadline. */
uint64_t ctx_remaining(struct ctx *ctx);

/* -- To wait ------------------------------------------------------------------------------------------------------ */

/* A descriptor, made on first use, that is readable from the moment that the context is done. It is borrowed, and
 * lives as long as ctx does: poll it for POLLIN; never read, write or close it. When it is readable ctx_err() is not
 * 0. -EOPNOTSUPP, which poll() skips, where the context can never be done; -EMFILE, -ENFILE, -ENOMEM. For a shared
 * context the library has a thread, which makes it readable should the daemon be gone. */
int ctx_done_fd(struct ctx *ctx);
/* Waits until it is done, at most timeout_usec (UINT64_MAX: for ever; 0: looks). 0: time is up; else as ctx_err().
 * Signals do not end it. -EDEADLK: it would wait for ever for a context that is never done. Where the end is by
 * time, a suspend of the machine may make the return up to a minute late. */
int ctx_wait(struct ctx *ctx, uint64_t timeout_usec);

/* -- Callbacks ----------------------------------------------------------------------------------------------------
 *
 * fn runs once, after ctx is done (at once if it is), on a thread that the library starts with the first callback, or
 * in the program's own loop (ctx_client_process()); never on the stack of whoever cancels, and with no lock held.
 * Callbacks run one after the other in the order in which their contexts became done, so that a long one delays the
 * next. A callback that is registered keeps its context alive, until it was stopped or is over. After a fork the child
 * does not run the parent's. */
struct ctx_after;

/* Gives up the handle; the callback stays registered. Takes NULL, returns NULL. */
struct ctx_after *ctx_after_unref(struct ctx_after *after);
/* errno: EINVAL, ENOMEM, and what pthread_create, eventfd or timerfd_create gave where it is the first one. */
struct ctx_after *ctx_after_func(struct ctx *ctx, void (*fn)(void *userdata), void *userdata)
                CTX_CONSTRUCTOR(ctx_after_unref);
/* 1: stopped, it will not run. 0: it has begun, or was stopped before. */
int ctx_after_stop(struct ctx_after *after);
/* And, if it has begun, waits until it is over; -EDEADLK from inside it. */
int ctx_after_stop_wait(struct ctx_after *after);

/* -- Calls that a context ends -------------------------------------------------------------------------------------
 *
 * They return what the call of the same name returns, or a negative errno. Each looks at the context first: where it
 * is done nothing is tried. Then a call does what it can, once, and says so, also if the context ends meanwhile; its
 * error comes only where nothing was done. Whether it was the context says ctx_err(): the error is the same. A signal
 * handler ends them with -EINTR, but for ctx_sleep, ctx_connect, ctx_flock, the locks and the channels. A context
 * that is waited for with descriptors gets one (ctx_done_fd()), so that -EMFILE and -ENOMEM are possible. */

/* As poll(2), with microseconds (UINT64_MAX: no timeout): how many are ready, 0: time is up. */
int ctx_poll(struct ctx *ctx, struct pollfd *fds, nfds_t n_fds, uint64_t timeout_usec);
/* 0: it has slept as long as that, on CLOCK_BOOTTIME. */
int ctx_sleep(struct ctx *ctx, uint64_t usec);

/* In full for sockets, pipes (Linux 6.4 or newer) and whatever is non-blocking. A blocking descriptor of another kind
 * (a terminal, a pipe on an older kernel) is polled first, and can then only block if somebody else took what poll
 * saw; of a write to it at most PIPE_BUF bytes are tried. Regular files: the kernel's wait for the disk cannot be
 * ended. Any of them may read or write less than was asked for, also on a blocking descriptor. */
ssize_t ctx_read(struct ctx *ctx, int fd, void *buffer, size_t size);
ssize_t ctx_write(struct ctx *ctx, int fd, const void *buffer, size_t size);
ssize_t ctx_readv(struct ctx *ctx, int fd, const struct iovec *iov, int n_iov);
ssize_t ctx_writev(struct ctx *ctx, int fd, const struct iovec *iov, int n_iov);
/* MSG_WAITALL is no promise: what there is comes back. With MSG_DONTWAIT they are the plain calls. */
ssize_t ctx_recvmsg(struct ctx *ctx, int fd, struct msghdr *message, int flags);
ssize_t ctx_sendmsg(struct ctx *ctx, int fd, const struct msghdr *message, int flags);
/* A listening socket that several processes or threads accept from should be non-blocking. */
int ctx_accept(struct ctx *ctx, int fd, struct sockaddr *address, socklen_t *size);
int ctx_accept4(struct ctx *ctx, int fd, struct sockaddr *address, socklen_t *size, int flags);
/* If the context ends it the connection is still being made: close the socket. */
int ctx_connect(struct ctx *ctx, int fd, const struct sockaddr *address, socklen_t size);
/* For code that does not poll: shutdown(fd, SHUT_RDWR) once ctx is done, on whatever thread makes it so. fd must stay
 * open until ctx_after_stop_wait(). errno as ctx_after_func(), and EBADF. */
struct ctx_after *ctx_shutdown_on_cancel(struct ctx *ctx, int fd) CTX_CONSTRUCTOR(ctx_after_unref);

/* pid of a child (one: not 0, not -1), which is reaped only where its pid is returned; ret_status as of waitpid(2). */
pid_t ctx_waitpid(struct ctx *ctx, pid_t pid, int *ret_status);
/* As flock(2). Where somebody else holds the lock a task of the kernel's, without memory of its own, waits in our
 * place. If it returns an error of the context there is no lock on the open file, also none from before. */
int ctx_flock(struct ctx *ctx, int fd, int operation);

/* -- Locks that a context ends, for the threads of one process ----------------------------------------------------
 *
 * All zero is the start: unlocked, nobody waits, value 0. Not recursive; no owner is kept. No destructor is needed. */

struct ctx_mutex {
        uint32_t word;
};
struct ctx_cond {
        uint32_t sequence;
};
struct ctx_sem {
        uint32_t value, waiters;
};
/* clang-format off */
#define CTX_MUTEX_INIT { 0 }
#define CTX_COND_INIT { 0 }
#define CTX_SEM_INIT(value) { value, 0 }
/* clang-format on */

/* 0: locked. Where the lock is free at that moment it may be 0 although the context has just ended. */
int ctx_mutex_lock(struct ctx *ctx, struct ctx_mutex *mutex) CTX_MUST_CHECK;
/* 0, or -EBUSY. */
int ctx_mutex_trylock(struct ctx_mutex *mutex) CTX_MUST_CHECK;
/* -EPERM: it is not locked. */
int ctx_mutex_unlock(struct ctx_mutex *mutex);
/* Returns with the mutex locked, always; 0 also for no reason, as every condition does. A signal that was meant for
 * this waiter is not lost: then it is 0. */
int ctx_cond_wait(struct ctx *ctx, struct ctx_cond *cond, struct ctx_mutex *mutex) CTX_MUST_CHECK;
int ctx_cond_signal(struct ctx_cond *cond);
int ctx_cond_broadcast(struct ctx_cond *cond);
int ctx_sem_wait(struct ctx *ctx, struct ctx_sem *sem) CTX_MUST_CHECK;
/* 0, or -EAGAIN. */
int ctx_sem_trywait(struct ctx_sem *sem) CTX_MUST_CHECK;
/* -EOVERFLOW: at UINT32_MAX. */
int ctx_sem_post(struct ctx_sem *sem);

/* -- Channels ----------------------------------------------------------------------------------------------------- */

struct ctx_chan;

/* The last one frees the items that nobody has received; nobody may be in a call then. */
struct ctx_chan *ctx_chan_unref(struct ctx_chan *chan);
struct ctx_chan *ctx_chan_ref(struct ctx_chan *chan);
/* Items are copied, item_size bytes each; capacity 0: a send waits for a receive. errno: EINVAL, ENOMEM. */
struct ctx_chan *ctx_chan_new(size_t item_size, size_t capacity) CTX_CONSTRUCTOR(ctx_chan_unref);
/* 0: sent. -EPIPE: closed. With the context's error the item was not sent. */
int ctx_chan_send(struct ctx *ctx, struct ctx_chan *chan, const void *item) CTX_MUST_CHECK;
/* 1: an item. 0: closed, and nothing left. With the context's error no item was taken. */
int ctx_chan_recv(struct ctx *ctx, struct ctx_chan *chan, void *ret_item) CTX_MUST_CHECK;
/* -EPIPE: it was closed already. */
int ctx_chan_close(struct ctx_chan *chan);

/* -- Work under a context ------------------------------------------------------------------------------------------ */

/* This thread works for ctx from now on; nests, and keeps ctx alive. A thread that ends has left all. -ENOMEM.
 *
 * Under a shared context the thread is a member of it meanwhile, of the innermost one: it counts, and is reported if it
 * is still blocked a while after the context was done. The first entry of a context in this process asks the daemon
 * once; each further one is a few stores. The thread is not seen, and all else is the same, where the daemon refuses
 * (no right to attach to it, a limit), where more than 1022 threads are entered at one time, in a pid namespace that
 * the daemon does not see into, and in a forked child with the parent's client. */
int ctx_enter(struct ctx *ctx);
/* The innermost entry of ctx is taken back. */
void ctx_leave(struct ctx *ctx);
/* What this thread entered last, borrowed; background if nothing. */
struct ctx *ctx_current(void);

struct ctx_group;

/* Cancels what still runs, and gives the handle up. */
struct ctx_group *ctx_group_unref(struct ctx_group *group);
/* Threads that begin and end together, under a context of their own. errno: EINVAL, ENOMEM. */
struct ctx_group *ctx_group_new(struct ctx *parent) CTX_CONSTRUCTOR(ctx_group_unref);
/* The group's context, borrowed. */
struct ctx *ctx_group_ctx(struct ctx_group *group);
/* Runs fn on a thread of its own, which has entered the group's context. The first that returns a negative errno
 * cancels the context, with that as the cause. Or what pthread_create gave. */
int ctx_group_go(struct ctx_group *group, int (*fn)(struct ctx *ctx, void *userdata), void *userdata);
/* Waits until all have ended, then cancels the context. 0, or the first error. Not from one of its threads. */
int ctx_group_wait(struct ctx_group *group);

/* -- Shared contexts ----------------------------------------------------------------------------------------------
 *
 * Those that ctxd keeps: named by a path, seen by every process that may, and each a context like all others here, so
 * that all other calls take them, and local contexts are derived from them. ctx_err() reads a page that the daemon
 * writes: no system call. (For a context of another user, and one that was forgotten, it may take a call.)
 *
 * A call that asks the daemon returns -errno: -ENOENT no such context (or you may not read it), -EACCES you may not,
 * -EEXIST, -EALREADY it is done already, -EINVAL a bad name, key or argument, -EDQUOT a limit is reached, -ESRCH no
 * such process; and what the connection gave: -ECONNREFUSED, -ECONNRESET, -ENOTCONN, -EHOSTUNREACH, -ETIMEDOUT after
 * 25 s without an answer. ctx_client_error() has the daemon's sentence. What is another user's polkit may allow: then
 * the call is made again over the system bus, and takes as long as whoever is asked for a password.
 *
 * If the daemon goes away (CTX_DAEMON_GRACE_USEC): a stop in good order ends all contexts, with the cause "ctxd was
 * stopped". After a crash they stay as they were; each call that asks the daemon connects again, and so does, without
 * any call, whoever waits, the library's thread, or the program's loop. A daemon that comes back and knows a context
 * goes on with it, as if nothing had been. If it does not know it, or there is none for CTX_DAEMON_GRACE_USEC, the
 * context is lost: done, -ECANCELED, with the cause "ctxd was stopped"; all that wait for it are woken, also for its
 * descriptor of ctx_drained_fd(), though nobody knows who is left; and calls that would ask the daemon about it give
 * -ENOENT.
 *
 * After a fork without exec the child may read the contexts that it has, wait where the parent had asked for the
 * descriptor, derive local ones and unreference all; whatever needs the inherited connection gives -ECHILD. It may
 * make a client of its own. A handle that it inherited is the parent's: it ends with the parent. */

/* A connection to the daemon; one for a program is enough. */
struct ctx_client;

/* How long a daemon that crashed may be away before what it kept reads done; 10 s, not counting a suspend. */
#define CTX_DAEMON_GRACE_USEC UINT64_C(10000000)

/* One reference less. Contexts hold their own, so that the order does not matter. Takes NULL, returns NULL. */
struct ctx_client *ctx_client_unref(struct ctx_client *client);
/* address: a D-Bus address, such as unix:path=/run/ctxd/bus. NULL: $CTXD_ADDRESS (not in a setuid program), else
 * /run/ctxd/bus, else, where that is not there, refuses, or does not answer, the system bus, which starts ctxd.
 * Connects, and waits until the daemon answers; ctx_client_error(NULL) says for each place why it did not. errno: the
 * last one's, ENOENT (no socket), ECONNREFUSED, EACCES, EHOSTUNREACH (the bus knows of no ctxd) and others of
 * connect(2). */
struct ctx_client *ctx_client_new(const char *address) CTX_CONSTRUCTOR(ctx_client_unref);
/* Where the daemon was reached: a D-Bus address. Lives until this thread's next call of it; NULL: nowhere, just now. */
const char *ctx_client_address(struct ctx_client *client);
/* What went wrong in the last call of this thread that failed, as the daemon said it; "" if none did. With NULL: of
 * any client, also of one that could not be made. Lives until the thread's next failure, or its end. */
const char *ctx_client_error(struct ctx_client *client);

/* -- In a loop of one's own ------------------------------------------------------------------------------------------
 *
 * For a program that is to have no thread but its own. The first of these calls takes what the library would do on its
 * threads into the loop, for the whole process and for good, and must come before there is such a thread: before the
 * first callback, the first ctx_done_fd() of a local context under a shared one, and the first wait for a lock or a
 * channel under a shared one; -EBUSY: it is too late. (The thread that ctx_done_fd() of a shared context itself has
 * started ends then.) There is one loop in a process; all clients have the same descriptor.
 *
 * From then on these happen on the thread that is in ctx_client_process(), and not before it is called: callbacks; the
 * news that a shared context is done, for the descriptors of local contexts below it, and for threads that wait for a
 * lock or a channel under it; and the search for a daemon that is gone, with its outcome for all descriptors. So the
 * loop's own thread must not wait for these without a limit: nobody would tell it. All else, ctx_err(), ctx_wait() and
 * the calls on descriptors among it, needs no loop.
 *
 * -ECHILD: a client from before a fork. A child of a fork has no loop, until it takes its own client into one. */

/* An epoll descriptor that is readable when ctx_client_process() has something to do. Borrowed, the process's until it
 * ends: poll it, or add it to another epoll set; never change or close it. -EMFILE, -ENFILE, -ENOMEM. */
int ctx_client_get_fd(struct ctx_client *client);
/* What to poll it for: POLLIN. */
int ctx_client_get_events(struct ctx_client *client);
/* When to call ctx_client_process() although the descriptor is not readable. 1: at that time, in microseconds of
 * CLOCK_MONOTONIC (not CLOCK_BOOTTIME: it is for the timers of loops). 0: UINT64_MAX, never; deadlines make the
 * descriptor readable, so that there is a time only where the kernel did not take one, and while the daemon is looked
 * for. Ask before each poll. */
int ctx_client_get_timeout(struct ctx_client *client, uint64_t *ret_monotonic_usec);
/* Runs what is due, without waiting: 1. 0: there was nothing. -EBUSY: from inside a callback, or while another thread
 * is in it. Callbacks run in it; they may give up the client. It may ask the daemon (of a context without a page). */
int ctx_client_process(struct ctx_client *client);

struct sd_event; /* systemd's; sd_event * is a pointer to it */

/* Does all of this in an sd-event loop (NULL: the thread's default one), as one of its sources, of that priority (0:
 * SD_EVENT_PRIORITY_NORMAL). Until it is detached it holds a reference on the client, and on the loop. Both calls on
 * the loop's thread. -EBUSY also: one client is attached already. Or what sd_event_add_io() gave. */
int ctx_client_attach_event(struct ctx_client *client, struct sd_event *event, int64_t priority);
/* 1: detached; the program goes on with ctx_client_process(), or attaches again: no thread takes over. 0: it was not
 * attached. Also from inside a callback. */
int ctx_client_detach_event(struct ctx_client *client);

/* -- To make and find them ------------------------------------------------------------------------------------------- */

/* How a context is made. Start from CTX_CREATE_OPTIONS, which sets the size, and every field to what NULL means:
 *     struct ctx_create_options options = CTX_CREATE_OPTIONS;
 *     options.timeout_usec = 5000000;
 * Later versions of the library add fields at the end; the size tells it which ones a program knows. A program that
 * knows more than the library gets -E2BIG. */
struct ctx_create_options {
        size_t size;
        uint32_t flags;            /* CTX_CREATE_... */
        uint32_t mode;             /* who may, as for a file; CTX_MODE_INHERIT: the parent's */
        uint64_t timeout_usec;     /* deadline from now; UINT64_MAX: none; 0: at once */
        uint64_t deadline_usec;    /* CLOCK_BOOTTIME; UINT64_MAX: none. The earlier one counts */
        const char *cause_message; /* cause when that deadline passes; NULL: the default */
        int cause_error;           /* an errno value above 0, or 0: ETIMEDOUT */
        int owner_pidfd; /* whose exit cancels it; -1: the calling process's, or with CTX_CREATE_UNBOUND
                                     * nobody's */
        const char *const *values; /* "org.example.key=value", NULL at the end; or NULL */
        const char *description;   /* for people; or NULL */
        uint64_t grace_usec; /* after how long a blocked member is reported; 0: as configured; UINT64_MAX: never */
};

#define CTX_CREATE_PARENTS (UINT32_C(1) << 0) /* make missing ancestors */
#define CTX_CREATE_OPEN \
        (UINT32_C(1) << 1) /* an active context of that path will do; it is then not changed */
#define CTX_CREATE_UNBOUND (UINT32_C(1) << 2) /* it outlives this process */
#define CTX_MODE_INHERIT UINT32_MAX
/* clang-format off */
#define CTX_CREATE_OPTIONS \
        { sizeof(struct ctx_create_options), 0, CTX_MODE_INHERIT, UINT64_MAX, UINT64_MAX, NULL, 0, -1, NULL, NULL, 0 }
/* clang-format on */

/* Makes a context. A path that ends in '/' gets a free label. It lives until it is cancelled, released, past its
 * deadline, or this process is gone. options may be NULL. */
struct ctx *ctx_create(struct ctx_client *client, const char *path, const struct ctx_create_options *options)
                CTX_CONSTRUCTOR(ctx_unref);
/* The context of that path, or path#id, also one that is done already. "/" gives the background. */
struct ctx *ctx_open(struct ctx_client *client, const char *path) CTX_MUST_CHECK;
/* What this process works for: the context that it is a member of, else the one that $CTXD_CONTEXT names (not in a
 * setuid program), else the background; so too where no daemon can be reached and none is named. A named one that is
 * not there is an error. The connection is one for the process. */
struct ctx *ctx_from_env(void) CTX_MUST_CHECK;

/* path#id, which names this context or none, for ever; lives as long as ctx. NULL for a local one. */
const char *ctx_path(struct ctx *ctx);
/* The value of a key, as ctx or the nearest shared context above it has it. NULL with errno 0: none sets it; with
 * another errno: it could not be asked (the first question asks the daemon). Lives as long as ctx. */
const char *ctx_value_string(struct ctx *ctx, const char *key);

/* Moves the deadline; the owner's uid alone may, never past the parent's, never on a done context. */
int ctx_extend(struct ctx *ctx, uint64_t boottime_usec);
/* Nobody needs it any more: cancels it if it is active, and gives its path free at once. ctx_unref() does not. */
int ctx_release(struct ctx *ctx);

/* -- Until nobody is left ----------------------------------------------------------------------------------------
 *
 * For a shared context itself (-EINVAL: a local one), or a view of it. */

/* A descriptor that is readable once ctx is done and no member is left, in it or below it: the work has stopped. Made
 * on first use, borrowed, lives as long as ctx does: poll it for POLLIN; never read, write or close it. */
int ctx_drained_fd(struct ctx *ctx);
/* ctx_cancel(), and waits until nobody is left, at most timeout_usec (UINT64_MAX: for ever; 0: looks). As
 * ctx_cancel(), 1 or 0, once all have left. -ETIMEDOUT: somebody has not left, and ctx is done all the same; so it is
 * if another error came while it waited: -ENOENT, the daemon that knew who is left is gone. Signals do not end it. Who
 * is a member itself waits for itself. */
int ctx_cancel_wait(struct ctx *ctx, uint64_t timeout_usec) CTX_MUST_CHECK;
/* A new descriptor, which is the caller's to close and to hand on: to a child that inherits it (it is close-on-exec as
 * it comes), or over a socket. When the last copy of all that were given out for this context is closed, however its
 * holder ended, the context is cancelled with the cause "lifeline closed". A child of a fork holds its copy like
 * everybody else. -EALREADY: ctx is done; -EPERM: a readonly view. */
int ctx_lifeline_fd(struct ctx *ctx) CTX_MUST_CHECK;

/* -- Processes under a context ------------------------------------------------------------------------------------ */

/* Size and additions as above. */
struct ctx_spawn_options {
        size_t size;
        int signal;               /* on cancel; 0: none; CTX_SIGNAL_DEFAULT: SIGTERM for ctx_spawn(), none for
                                   * ctx_attach() */
        int fds[3];               /* what becomes 0, 1 and 2 (ctx_spawn() alone); -1: the same as here */
        uint64_t kill_after_usec; /* SIGKILL, so long after the cancel; UINT64_MAX: never; CTX_KILL_AFTER_DEFAULT: as
                                   * configured, or never without a signal */
        char *const *env;         /* NULL: this process's */
        const char *directory; /* NULL: this process's */
};

#define CTX_SIGNAL_DEFAULT (-1)
#define CTX_KILL_AFTER_DEFAULT (UINT64_MAX - 1)
/* clang-format off */
#define CTX_SPAWN_OPTIONS \
        { sizeof(struct ctx_spawn_options), CTX_SIGNAL_DEFAULT, { -1, -1, -1 }, CTX_KILL_AFTER_DEFAULT, NULL, NULL }
/* clang-format on */

/* A child process. */
struct ctx_task;

/* Gives the task up. What was not waited for runs on, a child of this process; takes NULL, returns NULL. */
struct ctx_task *ctx_task_unref(struct ctx_task *task);
/* Starts a command (argv[0] is looked up in $PATH) under ctx, as a member of the nearest shared context from ctx up
 * before it execs; $CTXD_CONTEXT and $CTXD_ADDRESS tell it so. On cancel it, and all that it has forked, get the
 * signal. Where a local context between is cancelled, or there is no shared one, this library signals the process
 * itself, for as long as the task is not given up, and waits for no callback of the program's with that. Signal
 * handlers are reset, and no descriptor but 0 to 2 and those without FD_CLOEXEC goes along. errno: ECANCELED or
 * ETIMEDOUT where ctx is done; what exec gave (ENOENT, EACCES); and as above. options may be NULL. */
struct ctx_task *ctx_spawn(struct ctx *ctx, char *const argv[], const struct ctx_spawn_options *options)
                CTX_CONSTRUCTOR(ctx_task_unref);
/* Waits until it ends, and reaps it; the status is as waitpid(2) gives it. May be called again, from any thread.
 * -ECHILD: somebody else has reaped it. */
int ctx_task_wait(struct ctx_task *task, int *ret_status);
/* Borrowed: readable when the process has ended. */
int ctx_task_pidfd(struct ctx_task *task);

/* Makes a running process, with all its threads and all that it will fork, a member of the nearest shared context from
 * ctx up (-EINVAL: there is none). -EALREADY: it is done. Only a process that the caller may signal; a member moves
 * only to a context below its own, or with the right to write to that one. options may be NULL. */
int ctx_attach(struct ctx *ctx, int pidfd, const struct ctx_spawn_options *options);

/* -- Scope guards ------------------------------------------------------------------------------------------------ */

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

/* A variable that is unreferenced, or cancelled and then unreferenced, at the end of its block:
 *     CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout(parent, 5000000); */
#define CTX_AUTO_UNREF CTX_CLEANUP(ctx_unrefp_)
#define CTX_AUTO_CANCEL CTX_CLEANUP(ctx_cancelp_)

static inline void ctx_leavep_(struct ctx **ctx)
{
        if (*ctx)
                ctx_leave(*ctx);
}

static inline struct ctx *ctx_entered_(struct ctx *ctx)
{
        return ctx_enter(ctx) < 0 ? NULL : ctx;
}

/* The rest of the block works for ctx. */
#define CTX_SCOPE(context) CTX_SCOPE_1_(context, __LINE__)
#define CTX_SCOPE_1_(context, line) CTX_SCOPE_2_(context, line)
#define CTX_SCOPE_2_(context, line) \
        CTX_CLEANUP(ctx_leavep_)    \
        __attribute__((__unused__)) struct ctx *ctx_scope_##line##_ = ctx_entered_(context)

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
