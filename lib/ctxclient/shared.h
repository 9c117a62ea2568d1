/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CTXCLIENT_SHARED_H
#define CTXCLIENT_SHARED_H

/* Shared contexts: those that the daemon ctxd keeps for all processes of the host.
 *
 * A shared context has a path, and every process that has the right to may open it. Here it is a context like
 * all others: all calls of the library take it, and local contexts can be derived from it. ctx_err() reads a
 * page of memory that the daemon writes, without a system call. For a context of another user, and for one
 * that the daemon has forgotten, ctx_err() may ask the daemon.
 *
 * Errors. A call that asks the daemon can return, or set in errno: -ENOENT, there is no such context, or you
 * may not read it; -EACCES, you may not do this; -EEXIST; -EALREADY, the context is done already; -EINVAL, a
 * bad name, key or argument; -EDQUOT, a limit is reached; -ESRCH, there is no such process. Where the
 * connection fails: -ECONNREFUSED, -ECONNRESET, -ENOTCONN, -EHOSTUNREACH, and -ETIMEDOUT after 25 s without
 * an answer. ctx_client_error() has the daemon's own words.
 *
 * Time. A call with a time-out, or on a context with a deadline, returns by then, also where the daemon does
 * not answer. A call that only registers something (a descriptor of a local context, a callback, a wait for a
 * lock) asks the daemon and does not wait for the answer; neither does ctx_unref(). Other calls that ask the
 * daemon wait for its answer, and hold up no other thread and no fork(2) meanwhile. Whatever fails on the
 * connection is the error of that call, and the next call makes another connection. While a call asks the
 * daemon it is no cancellation point of pthread_cancel(3).
 *
 * A cancel, or a release, is the daemon's business: it knows who was first, and who may. If it cannot be
 * reached, or says nothing at all for half a second, ctx_cancel() ends what this process has: its objects for
 * the context, and the local contexts below them, and returns 1. The daemon is told when it is back, also if
 * the context and the client are given up meanwhile; what was sent to it counts even if this process ends.
 * The daemon may then find that somebody else was first, or that this process may not cancel the context.
 * That changes nothing here: what is done stays done, with the cause that it has. Contexts of ctxd below the
 * cancelled one end when the daemon is told. If the daemon crashed and is not back within
 * CTX_DAEMON_GRACE_USEC, it is not told.
 *
 * Other users' contexts. What the mode of a context forbids, polkit may allow. The library then makes the
 * call again over the system bus, and the call takes as long as a person needs to type a password.
 *
 * When the daemon is gone. A daemon that is stopped in good order ends all its contexts with the cause "ctxd
 * was stopped". When a daemon crashes, its contexts first stay as they are. Each call that asks the daemon
 * connects again. So does, without such a call, whoever waits: a thread in a waiting call, the library's own
 * thread, or the program's loop. If a daemon comes back and knows the context, the context goes on as before.
 * If it does not know the context, or if no daemon comes back within CTX_DAEMON_GRACE_USEC, the context is
 * lost: it is done with -ECANCELED and the cause "ctxd was stopped". Everybody who waits for it is woken,
 * also those who poll ctx_drained_fd(), although nobody knows which members are left. Calls that would ask
 * the daemon about a lost context return -ENOENT.
 *
 * After a fork without exec, the child may read the contexts that it has, wait for them, derive local
 * contexts, and unref all of them. If its parent had not asked for the descriptor, or has given the context
 * up, or has ended, a wait ends up to a tenth of a second late. What needs the inherited connection returns
 * -ECHILD; so do waits for a context of another user for which the parent had not asked for the descriptor. A
 * cause that was not asked for before is not known. The child may make a client of its own. Descriptors that
 * it inherited belong to the parent, and may never become readable once that has ended: poll that of a local
 * context below.
 *
 * The rules of <ctxclient/contexts.h> for errors, ownership, units and threads hold here too. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "contexts.h"

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* -- The connection -------------------------------------------------------------------------------------- */

/* A connection to the daemon. One is enough for a program. Each context that was made with it holds a
 * reference to it, so that the client may be given up first. */
struct ctx_client;

/* How long a daemon that crashed may be away before its contexts are lost: 10 s, in which a suspend does not
 * count. */
#define CTX_DAEMON_GRACE_USEC 10000000ULL

/* Gives up one reference. Takes NULL. Returns NULL. */
struct ctx_client *ctx_client_unref(struct ctx_client *client);
/* Connects, and waits until the daemon answers. address: a D-Bus address, such as unix:path=/run/ctxd/bus.
 * NULL: the library tries $CTXD_ADDRESS (not in a setuid program), else /run/ctxd/bus. If that is missing,
 * refuses or does not answer, it tries the system bus, which starts ctxd. ctx_client_error(NULL) says for
 * each place why it failed. errno: that of the last place: ENOENT, there is no socket; ECONNREFUSED; EACCES;
 * EHOSTUNREACH, the bus knows no ctxd; and others of connect(2). */
struct ctx_client *ctx_client_new(const char *address) CTX_CONSTRUCTOR(ctx_client_unref);
/* The D-Bus address where the daemon was reached. NULL: it is not reached just now. Borrowed; it lives until
 * this thread calls the function again. */
const char *ctx_client_address(struct ctx_client *client);
/* What went wrong in the last call of this thread that failed, in the words of the daemon; "" if none failed.
 * NULL: of any client, also of one that could not be made. Borrowed; it lives until the next failure in this
 * thread, or the thread's end. */
const char *ctx_client_error(struct ctx_client *client);

/* How far the daemon sees the members of contexts, and so what ctx_cancel_wait() can promise: "bpf", all;
 * "cgroup" and "direct", some descendants may be missed (ctxd(8)). Asks the daemon. NULL with errno.
 * Borrowed; it lives until this thread calls the function again. */
const char *ctx_client_backend(struct ctx_client *client);

/* -- To make and to find shared contexts ----------------------------------------------------------------- */

/* How a context is made. Start from CTX_CREATE_OPTIONS, which sets the size, and every field to what NULL
 * options mean:
 *     struct ctx_create_options options = CTX_CREATE_OPTIONS;
 *     options.timeout_usec = 5000000;
 * Later versions of the library add fields at the end. The size tells the library which fields a program
 * knows, and each new field means at 0 what was done before it came. So a program and a library of different
 * versions work together, as long as the program asks for nothing that its library does not know: that is
 * -E2BIG. */
struct ctx_create_options {
        /* The bytes of this struct, as the program knows it. */
        size_t size;
        /* CTX_CREATE_PARENTS and others. */
        uint32_t flags;
        /* Who may do what, as for a file. CTX_MODE_INHERIT: as the parent. */
        uint32_t mode;
        /* The deadline, from now; 0: the context is done from the start; UINT64_MAX: none. */
        uint64_t timeout_usec;
        /* The deadline as a point in time; UINT64_MAX: none. If both are given the earlier one counts. */
        uint64_t deadline_usec;
        /* The cause that the context gets when this deadline passes: up to 1024 bytes of UTF-8; NULL: the
         * default text. */
        const char *cause_message;
        /* An errno value above 0, or 0 for ETIMEDOUT. */
        int cause_error;
        /* The process whose exit cancels the context; -1: this process. With CTX_CREATE_UNBOUND it is -1, and
         * no exit cancels it. */
        int owner_pidfd;
        /* Up to 64 values, each as "org.example.key=value", where a key has up to 255 bytes; the array ends
         * with NULL. NULL: no values. */
        const char *const *values;
        /* A text for people, up to 1024 bytes; NULL: none. */
        const char *description;
        /* How long after the context is done a member that is blocked is reported; 0: as ctxd is configured;
         * UINT64_MAX: never. */
        uint64_t grace_usec;
};

/* The size of the struct in its first version, by the size of a pointer and the alignment of uint64_t. */
#if UINTPTR_MAX > UINT32_MAX
#define CTX_CREATE_OPTIONS_SIZE_VER0 72
#elif defined(__i386__)
#define CTX_CREATE_OPTIONS_SIZE_VER0 56
#else
#define CTX_CREATE_OPTIONS_SIZE_VER0 64
#endif

/* Makes the ancestors that are missing. */
#define CTX_CREATE_PARENTS 0x1U
/* If there is an active context with that path, gives that one, and does not change it. -EALREADY: the one
 * with that path was cancelled, or its deadline has passed, and it was not released: work that comes late
 * must not go on under its name. */
#define CTX_CREATE_OPEN 0x2U
/* The context outlives this process. */
#define CTX_CREATE_UNBOUND 0x4U
/* With CTX_CREATE_OPEN: makes a new context whatever is done there. */
#define CTX_CREATE_REPLACE 0x8U
#define CTX_MODE_INHERIT 0xffffffffU
/* clang-format off */
#define CTX_CREATE_OPTIONS \
        { CTX_CREATE_OPTIONS_SIZE_VER0, 0, CTX_MODE_INHERIT, UINT64_MAX, UINT64_MAX, NULL, 0, -1, \
          NULL, NULL, 0 }
/* clang-format on */

/* Does what CTX_CREATE_OPTIONS does, for languages that have no C macros. size: the bytes of the struct as
 * the program knows it; also becomes options->size. -EINVAL: less than version 0 has. -E2BIG: more than
 * 4096. */
int ctx_create_options_init(struct ctx_create_options *options, size_t size);

/* Makes a context. Where the path ends in '/' the daemon adds a free label. The context lives until it is
 * cancelled or released, or its deadline passes, or its owner exits. options may be NULL. If a context with
 * that path is done, the path is the new one's from now on, and path#id alone means the old one. If the call
 * fails, it has made nothing. */
struct ctx *ctx_create(struct ctx_client *client, const char *path, const struct ctx_create_options *options)
                CTX_CONSTRUCTOR(ctx_unref);
/* The context of a path or of path#id, also one that is done. "/" gives the background. */
struct ctx *ctx_open(struct ctx_client *client, const char *path) CTX_MUST_CHECK;
/* The context that this process works for: the one that it is a member of, else the one that $CTXD_CONTEXT
 * names (not in a setuid program), else the background. If no daemon can be reached and none is named, it is
 * the background too. If one is named and is not there, the call fails. The connection is made once for the
 * process. */
struct ctx *ctx_from_env(void) CTX_MUST_CHECK;

/* path#id. It names this context for ever, and never another. Borrowed; it lives as long as ctx. NULL: ctx is
 * local. */
const char *ctx_path(struct ctx *ctx);
/* The value of a key in the nearest shared context, from ctx up, that has the key. The first question asks
 * the daemon. NULL with errno 0: none has it. NULL with another errno: the daemon could not be asked.
 * Borrowed; it lives as long as ctx. */
const char *ctx_value_string(struct ctx *ctx, const char *key);

/* Who cancelled a shared context, or the one that has ended this local context. 1: the uid, the pid and the
 * name of the command; each pointer may be NULL, and the name is borrowed and lives as long as that shared
 * context does. 0: it is not done; a deadline ended it, or a process that was not there any more; or it is a
 * local context that was ended here. The first question asks the daemon. -ENOENT: the daemon has released or
 * forgotten it. */
int ctx_canceled_by(struct ctx *ctx, uid_t *ret_uid, pid_t *ret_pid, const char **ret_command);

/* Says that nobody needs the context any more: cancels it if it is active, with the cause "context
 * released", and frees its path at once. ctx_unref() does neither. If the daemon does not answer, it ends
 * what this process has of the context, as ctx_cancel() does, and the daemon is told when it is back. 0;
 * -EINVAL: ctx is NULL or local; -EPERM: ctx is a readonly view; -ENOENT: the daemon that knew it is gone;
 * -EACCES: this user may not; -ECHILD: in the child of a fork. */
int ctx_release(struct ctx *ctx);

/* -- Until nobody is left -----------------------------------------------------------------------------------
 *
 * A context is drained when it is done and no member is left in it or below it: the work has really stopped.
 * If ctx_client_backend() is not "bpf", the daemon may have missed a process that was forked and left behind:
 * then nobody is left as far as the daemon sees.
 * These calls take a shared context or a view of it; for a local context they return -EINVAL. */

/* A descriptor that becomes readable when ctx is drained. Poll it for POLLIN; never read, write or close it.
 * It is made by the first call, is borrowed, and lives as long as ctx. */
int ctx_drained_fd(struct ctx *ctx);
/* Cancels ctx, and waits until it is drained, at most timeout_usec. 1 or 0, as ctx_cancel(): it is drained.
 * -ETIMEDOUT: a member is left. -ENOENT: the daemon that knew the members is gone. After these two, and after
 * every other error while it waits, ctx is done. With UINT64_MAX it waits without a limit. The daemon is
 * given 50 ms to answer, also if timeout_usec is less: with 0 the call waits for no member. A signal does not
 * end it. A process that is a member itself waits for itself. A thread can be cancelled (pthread_cancel)
 * where the call waits for members. */
int ctx_cancel_wait(struct ctx *ctx, uint64_t timeout_usec) CTX_MUST_CHECK;
/* A new descriptor, which the caller owns and closes. It may be passed on: over a socket, or to a child. It
 * is close-on-exec at first. When the last copy of all these descriptors of a context is closed, even because
 * its holder was killed, the context is cancelled with the cause "lifeline closed". A child of a fork holds a
 * copy of its own. -EALREADY: ctx is done. -EPERM: ctx is a readonly view. */
int ctx_lifeline_fd(struct ctx *ctx) CTX_MUST_CHECK;

/* -- Members --------------------------------------------------------------------------------------------- */

/* Declared in <ctxclient/blocking.h>. */
struct ctx_spawn_options;

/* Makes a running process a member of the nearest shared context from ctx up, with all its threads, and with
 * all that it will fork. The caller must have the right to signal the process. A process that is a member
 * already moves only to a context below the one it is in, unless the caller may write to that one. pidfd
 * stays the caller's. options may be NULL; of its fields the signal and kill_after_usec count. -EINVAL: there
 * is no shared context. -EALREADY: the context is done. */
int ctx_attach(struct ctx *ctx, int pidfd, const struct ctx_spawn_options *options);

/* -- The library in the program's own loop ------------------------------------------------------------------
 *
 * For a program that wants no thread but its own. The first of these calls moves what the library would do on
 * its own threads into the program's loop. That holds for the whole process, and for good. It must come
 * before the library has such a thread, or it returns -EBUSY. The library starts one for the first callback,
 * for the first process that ctx_spawn() starts under a local context, for ctx_with_hangup() and
 * ctx_with_signals(), for the first ctx_done_fd() of a local context under a shared one, and for the first
 * wait for a lock or a channel under a shared context. (The thread that ctx_done_fd() of a shared context
 * itself has started is no hindrance: it ends then.) There is one loop in a process, and all clients have the
 * same descriptor.
 *
 * From then on the following happens inside ctx_client_process(), on the thread that calls it: callbacks; the
 * end of contexts by a hang-up or a signal; the news that a shared context is done, for the descriptors of
 * local contexts below it and for threads that wait for a lock or a channel under it; and the search for a
 * daemon that is gone, with its outcome for all descriptors. So the loop's own thread must not wait for one
 * of these without a limit: nobody would wake it. Everything else needs no loop: ctx_err(), ctx_wait(), and
 * the calls on descriptors, see a shared context by themselves.
 *
 * -ECHILD: the client is from before a fork. The child has no loop until it takes a client of its own into
 * one. */

/* An epoll descriptor that is readable when ctx_client_process() has something to do. It is borrowed, and
 * lives as long as the process. Poll it, or add it to another epoll set; never change or close it. Also
 * -EMFILE, -ENFILE, -ENOMEM. */
int ctx_client_get_fd(struct ctx_client *client);
/* What to poll it for: POLLIN. */
int ctx_client_get_events(struct ctx_client *client);
/* When to call ctx_client_process() even if the descriptor is not readable. Ask before each poll. 1: at that
 * time, in microseconds of CLOCK_MONOTONIC, which is what loops have timers for, and not of CLOCK_BOOTTIME.
 * 0: never, and the time is UINT64_MAX; deadlines make the descriptor readable. There is a time only where
 * the kernel refused a timer, and while the library looks for a daemon that is gone. */
int ctx_client_get_timeout(struct ctx_client *client, uint64_t *ret_monotonic_usec);
/* Runs what is due, and does not wait for more. 1: something was done. 0: there was nothing to do. -EBUSY:
 * called by a callback, or while another thread is in it. Callbacks run inside this call, and may give up the
 * client. For a context that has no page of memory it may ask the daemon. */
int ctx_client_process(struct ctx_client *client);

/* systemd's type; sd_event * is a pointer to it. */
struct sd_event;

/* Does all of this in a loop of sd-event; NULL: the thread's default loop. priority is that of the event
 * source; 0 is SD_EVENT_PRIORITY_NORMAL. The source holds a reference to the client and to the loop until it
 * is detached. Call this, and the detach, on the loop's thread. -EBUSY: also where a client is attached
 * already. Fails as sd_event_add_io(3) does. */
int ctx_client_attach_event(struct ctx_client *client, struct sd_event *event, int64_t priority);
/* 1: detached. 0: it was not attached. A callback may call this. No thread takes over: the program goes on
 * with ctx_client_process(), or attaches again. */
int ctx_client_detach_event(struct ctx_client *client);

/* -- Guards for a block: see <ctxclient/contexts.h> ------------------------------------------------------ */

#if defined(__GNUC__)

/* ctx_client_unref(). */
#define CTX_AUTO_CLIENT_UNREF CTX_CLEANUP(ctx_client_unrefp_)

static inline void ctx_client_unrefp_(struct ctx_client **client)
{
        ctx_client_unref(*client);
}

#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
