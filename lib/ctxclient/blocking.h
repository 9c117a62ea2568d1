/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CTXCLIENT_BLOCKING_H
#define CTXCLIENT_BLOCKING_H

/* What a context ends: blocking system calls, locks, channels, groups of threads, child processes.
 *
 * A function whose first argument is a context stops waiting when that context is done. It then returns what
 * ctx_err() says: -ECANCELED or -ETIMEDOUT. Such an error can also come from the call itself, so ask
 * ctx_err() whether it was the context. The rules of <ctxclient/contexts.h> for errors, ownership, units and
 * threads hold here too. */

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "contexts.h"

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* -- Blocking calls -----------------------------------------------------------------------------------------
 *
 * Each returns what the system call of the same name returns, or a negative errno. Each looks at the context
 * first: if it is done, nothing is tried. After that the call does what it can, once, and returns what was
 * done, even if the context ends meanwhile. The context's error comes only where nothing was done: no byte,
 * lock, connection or child is lost.
 *
 * A signal handler ends them with -EINTR. ctx_sleep(), ctx_connect() and ctx_flock() go on instead; so do the
 * locks and the channels below. To wait for a context and for a descriptor together, the library makes a
 * descriptor for the context (ctx_done_fd()), so that -EMFILE, -ENFILE and -ENOMEM are possible. */

/* As poll(2), with a timeout in microseconds; UINT64_MAX: no timeout. Returns how many are ready; 0: the time
 * is up. */
int ctx_poll(struct ctx *ctx, struct pollfd *fds, nfds_t n_fds, uint64_t timeout_usec);
/* Sleeps for usec microseconds of CLOCK_BOOTTIME. 0: it has slept that long. */
int ctx_sleep(struct ctx *ctx, uint64_t usec);

/* What a context can end depends on the descriptor. Sockets, non-blocking descriptors, and pipes on Linux 6.4
 * or newer: all waiting. A blocking descriptor of another kind, such as a terminal, or a pipe on an older
 * kernel, is polled and then used: the call can still block if somebody else took what poll saw; a write
 * tries at most PIPE_BUF bytes. Regular files: nothing, since the wait for the disk is inside the kernel. Any
 * of these calls may do less than was asked for, also on a blocking descriptor. */
ssize_t ctx_read(struct ctx *ctx, int fd, void *buffer, size_t size);
ssize_t ctx_write(struct ctx *ctx, int fd, const void *buffer, size_t size);
ssize_t ctx_readv(struct ctx *ctx, int fd, const struct iovec *iov, int n_iov);
ssize_t ctx_writev(struct ctx *ctx, int fd, const struct iovec *iov, int n_iov);
/* MSG_WAITALL has no effect: the call returns what there is. With MSG_DONTWAIT they are the plain system
 * calls. */
ssize_t ctx_recvmsg(struct ctx *ctx, int fd, struct msghdr *message, int flags);
ssize_t ctx_sendmsg(struct ctx *ctx, int fd, const struct msghdr *message, int flags);
/* Make a listening socket non-blocking if several threads or processes accept from it. */
int ctx_accept(struct ctx *ctx, int fd, struct sockaddr *address, socklen_t *size);
int ctx_accept4(struct ctx *ctx, int fd, struct sockaddr *address, socklen_t *size, int flags);
/* If the context ends the call, the kernel still makes the connection: close the socket. */
int ctx_connect(struct ctx *ctx, int fd, const struct sockaddr *address, socklen_t size);
/* For code that does not poll: calls shutdown(fd, SHUT_RDWR) when ctx is done, on the thread that makes it
 * done. fd must stay open until ctx_after_stop_wait() has returned. errno: as ctx_after_func(), and EBADF. */
struct ctx_after *ctx_shutdown_on_cancel(struct ctx *ctx, int fd) CTX_CONSTRUCTOR(ctx_after_unref);

/* Waits for the end of one child: pid is above 0. The child is reaped only if its pid is returned.
 * ret_status: as waitpid(2) gives it. */
pid_t ctx_waitpid(struct ctx *ctx, pid_t pid, int *ret_status);
/* As flock(2). Where somebody else holds the lock, a task of the kernel that has no memory of its own waits
 * in place of this thread. After an error of the context the open file has no lock, not even one that it had
 * before. */
int ctx_flock(struct ctx *ctx, int fd, int operation);

/* -- Locks --------------------------------------------------------------------------------------------------
 *
 * A mutex, a condition and a semaphore for the threads of one process. Memory that is all zero is a lock in
 * its first state: unlocked, value 0. They need no destructor. They are not recursive, and they do not know
 * their owner. */

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

/* These do what the macros do, for languages that have no C macros. Nobody may use the lock meanwhile. */
int ctx_mutex_init(struct ctx_mutex *mutex);
int ctx_cond_init(struct ctx_cond *cond);
int ctx_sem_init(struct ctx_sem *sem, uint32_t value);

/* 0: locked. If the lock is free at that moment the answer may be 0 although the context has just ended. */
int ctx_mutex_lock(struct ctx *ctx, struct ctx_mutex *mutex) CTX_MUST_CHECK;
/* 0: locked. -EBUSY: somebody has it. */
int ctx_mutex_trylock(struct ctx_mutex *mutex) CTX_MUST_CHECK;
/* -EPERM: it is not locked. */
int ctx_mutex_unlock(struct ctx_mutex *mutex);
/* Unlocks the mutex and waits for a signal. When it returns the mutex is locked again, whatever it returns.
 * 0: there was a signal, or there was no reason, as with every condition: look at what you wait for, in a
 * loop. A signal that was meant for this thread is never lost: if there was one, the answer is 0. */
int ctx_cond_wait(struct ctx *ctx, struct ctx_cond *cond, struct ctx_mutex *mutex) CTX_MUST_CHECK;
/* Wakes one waiter, or all. */
int ctx_cond_signal(struct ctx_cond *cond);
int ctx_cond_broadcast(struct ctx_cond *cond);
/* Waits until the value is above 0, and takes one off. */
int ctx_sem_wait(struct ctx *ctx, struct ctx_sem *sem) CTX_MUST_CHECK;
/* 0: took one off. -EAGAIN: the value is 0. */
int ctx_sem_trywait(struct ctx_sem *sem) CTX_MUST_CHECK;
/* Adds one. -EOVERFLOW: the value is UINT32_MAX. */
int ctx_sem_post(struct ctx_sem *sem);

/* -- Channels -------------------------------------------------------------------------------------------- */

/* A queue of items between threads, as Go's channels. */
struct ctx_chan;

/* Gives up one reference; nobody may be in a call with the last one. The last one frees the channel, and the
 * items that nobody has received. Takes NULL. Returns NULL. */
struct ctx_chan *ctx_chan_unref(struct ctx_chan *chan);
/* Takes one more reference. Takes NULL. Returns chan. */
struct ctx_chan *ctx_chan_ref(struct ctx_chan *chan);
/* item_size: the bytes of one item; items are copied in and out. capacity: how many items the channel keeps;
 * with 0 a send waits for a receive. errno: EINVAL, ENOMEM. */
struct ctx_chan *ctx_chan_new(size_t item_size, size_t capacity) CTX_CONSTRUCTOR(ctx_chan_unref);
/* 0: sent. -EPIPE: the channel is closed. After an error the item was not sent. */
int ctx_chan_send(struct ctx *ctx, struct ctx_chan *chan, const void *item) CTX_MUST_CHECK;
/* 1: received an item. 0: the channel is closed and empty. After an error no item was taken. ret_item must
 * not be NULL. */
int ctx_chan_recv(struct ctx *ctx, struct ctx_chan *chan, void *ret_item) CTX_MUST_CHECK;
/* From now on nothing can be sent. What is in the channel can still be received. -EPIPE: it was closed
 * before. */
int ctx_chan_close(struct ctx_chan *chan);

/* -- Groups of threads ----------------------------------------------------------------------------------- */

/* Threads that begin and end together, under a context of their own. */
struct ctx_group;

/* Gives up the handle, and cancels the group's context, so that what still runs is told to stop. Takes NULL.
 * Returns NULL. */
struct ctx_group *ctx_group_unref(struct ctx_group *group);
/* errno: EINVAL, ENOMEM. */
struct ctx_group *ctx_group_new(struct ctx *parent) CTX_CONSTRUCTOR(ctx_group_unref);
/* The group's context, borrowed. It lives as long as the group. */
struct ctx *ctx_group_ctx(struct ctx_group *group);
/* Runs fn(ctx, userdata) on a new thread, which has entered the group's context. The first fn that returns a
 * negative errno cancels the group's context, with that error as the cause. Fails as pthread_create(3)
 * does. */
int ctx_group_go(struct ctx_group *group, int (*fn)(struct ctx *ctx, void *userdata), void *userdata);
/* Waits, without a limit, until all threads of the group have ended, and then cancels the group's context. 0,
 * or the first error. A thread of the group must not call it. */
int ctx_group_wait(struct ctx_group *group);

/* -- Child processes ------------------------------------------------------------------------------------- */

/* How a process is started, or attached (ctx_attach() in <ctxclient/shared.h>). Start from CTX_SPAWN_OPTIONS,
 * which sets the size, and every field to what NULL options mean:
 *     struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
 *     options.kill_after_usec = 5000000;
 * Later versions of the library add fields at the end. The size tells the library which fields a program
 * knows, and each new field means at 0 what was done before it came. So a program and a library of different
 * versions work together, as long as the program asks for nothing that its library does not know: that is
 * -E2BIG. */
struct ctx_spawn_options {
        /* The bytes of this struct, as the program knows it. */
        size_t size;
        /* What the process gets on a cancel; 0: no signal. CTX_SIGNAL_DEFAULT: SIGTERM for ctx_spawn(), none
         * for ctx_attach(). */
        int signal;
        /* The descriptors that become 0, 1 and 2 of the child; -1: the one of this process. ctx_spawn()
         * alone. */
        int fds[3];
        /* How long after the cancel SIGKILL follows; UINT64_MAX: never. CTX_KILL_AFTER_DEFAULT: as ctxd is
         * configured, which is 10 s at first, and 10 s where this library sends the signal; never where there
         * is no signal. */
        uint64_t kill_after_usec;
        /* The environment of the child; NULL: this process's. ctx_spawn() alone. */
        char *const *env;
        /* The working directory of the child; NULL: this process's. ctx_spawn() alone. */
        const char *directory;
};

/* The size of the struct in its first version, by the size of a pointer and the alignment of uint64_t. */
#if UINTPTR_MAX > UINT32_MAX
#define CTX_SPAWN_OPTIONS_SIZE_VER0 48
#elif defined(__i386__)
#define CTX_SPAWN_OPTIONS_SIZE_VER0 36
#else
#define CTX_SPAWN_OPTIONS_SIZE_VER0 40
#endif

#define CTX_SIGNAL_DEFAULT (-1)
#define CTX_KILL_AFTER_DEFAULT 0xfffffffffffffffeULL
/* clang-format off */
#define CTX_SPAWN_OPTIONS \
        { CTX_SPAWN_OPTIONS_SIZE_VER0, CTX_SIGNAL_DEFAULT, { -1, -1, -1 }, CTX_KILL_AFTER_DEFAULT, \
          NULL, NULL }
/* clang-format on */

/* Does what CTX_SPAWN_OPTIONS does, for languages that have no C macros. size: the bytes of the struct as the
 * program knows it; also becomes options->size. -EINVAL: less than version 0 has. -E2BIG: more than 4096. */
int ctx_spawn_options_init(struct ctx_spawn_options *options, size_t size);

/* A child process. */
struct ctx_task;

/* Gives up the task. A process that was not waited for runs on, as a child of this process. Takes NULL.
 * Returns NULL. */
struct ctx_task *ctx_task_unref(struct ctx_task *task);
/* Starts a command: argv[0] is looked up in $PATH, and argv ends with NULL. options may be NULL.
 *
 * The nearest context of ctxd, from ctx up, has the child as a member before it execs; $CTXD_CONTEXT and
 * $CTXD_ADDRESS tell the child so. When that context is done, ctxd sends the signal to the child and to all
 * processes that it has forked. If a local context in between is done, or there is no context of ctxd, the
 * library sends the signal, to the child alone, and only until the task is given up; it does so also while a
 * callback of the program runs.
 *
 * Signal handlers of the child are reset. The child gets the descriptors 0, 1 and 2, and those without
 * FD_CLOEXEC.
 *
 * errno: ECANCELED or ETIMEDOUT where ctx is done and nothing was started; what exec gave, such as ENOENT and
 * EACCES; EINVAL, E2BIG for the options; and under a context of ctxd what a call to the daemon gives. */
struct ctx_task *ctx_spawn(struct ctx *ctx, char *const argv[], const struct ctx_spawn_options *options)
                CTX_CONSTRUCTOR(ctx_task_unref);
/* Waits, without a limit, until the process has ended, and reaps it. ret_status: as waitpid(2) gives it. It
 * may be called again. -ECHILD: somebody else has reaped the process. */
int ctx_task_wait(struct ctx_task *task, int *ret_status);
/* A descriptor of the process, borrowed. It is readable when the process has ended, and lives as long as the
 * task. */
int ctx_task_pidfd(struct ctx_task *task);

/* -- Guards for a block: see <ctxclient/contexts.h> ------------------------------------------------------ */

#if defined(__GNUC__)

/* ctx_chan_unref(). */
#define CTX_AUTO_CHAN_UNREF CTX_CLEANUP(ctx_chan_unrefp_)
/* ctx_group_unref(). */
#define CTX_AUTO_GROUP_UNREF CTX_CLEANUP(ctx_group_unrefp_)
/* ctx_task_unref(). */
#define CTX_AUTO_TASK_UNREF CTX_CLEANUP(ctx_task_unrefp_)

static inline void ctx_chan_unrefp_(struct ctx_chan **chan)
{
        ctx_chan_unref(*chan);
}

static inline void ctx_group_unrefp_(struct ctx_group **group)
{
        ctx_group_unref(*group);
}

static inline void ctx_task_unrefp_(struct ctx_task **task)
{
        ctx_task_unref(*task);
}

#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
