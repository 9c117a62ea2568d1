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
 * Signals. No call raises SIGPIPE, whatever the descriptor is: a write that nobody can read is -EPIPE. The
 * kernel's other signals stay: SIGXFSZ for a file at its size limit, and SIGTTIN and SIGTTOU, which stop a
 * process that uses its terminal from the background.
 *
 * A signal handler ends them with -EINTR. ctx_sleep(), ctx_connect() and ctx_flock() go on instead; so do the
 * locks and the channels below.
 *
 * A thread can be cancelled (pthread_cancel) in them where poll(2) would wait, with all that the library
 * holds for the call given up: no descriptor is left open, and no child is reaped that nobody heard of.
 * ctx_flock() and ctx_spawn() are no cancellation points; ctx_sleep() need not be one.
 *
 * To wait for a context and for a descriptor together, the library polls an eventfd of its own as well, so
 * that -EMFILE, -ENFILE and -ENOMEM are possible. It keeps up to 8 of them open for the next calls. */

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
ssize_t ctx_recv(struct ctx *ctx, int fd, void *buffer, size_t size, int flags);
ssize_t ctx_send(struct ctx *ctx, int fd, const void *buffer, size_t size, int flags);
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
/* As flock(2). Where somebody else holds the lock, a thread of the library waits in place of this one; it
 * ends with the call. After an error of the context the open file has no lock, not even one that it had
 * before. Also -EAGAIN: there is no room for a thread. */
int ctx_flock(struct ctx *ctx, int fd, int operation);

/* -- Locks --------------------------------------------------------------------------------------------------
 *
 * A mutex, a condition and a semaphore for the threads of one process. Memory that is all zero is a lock in
 * its first state: unlocked, value 0. They need no destructor. They are not recursive, and they do not know
 * their owner. Who has got a mutex or a semaphore may free it at once, although the other thread has not yet
 * returned from the call that gave it; a condition, once every wait for it has returned.
 *
 * ctx_cond_wait() and ctx_sem_wait() are cancellation points of pthread_cancel(3) where they have to wait, as
 * their namesakes of POSIX are: the mutex is locked before the thread's clean-up handlers run, and a wake-up
 * goes to another thread. ctx_mutex_lock() is none. */

struct ctx_mutex {
        uint32_t word;
};
struct ctx_cond {
        uint32_t sequence;
};
struct ctx_sem {
        uint32_t value, waiters;
};
#define CTX_SEM_VALUE_MAX 0x7fffffffU
/* clang-format off */
#define CTX_MUTEX_INIT { 0 }
#define CTX_COND_INIT { 0 }
#define CTX_SEM_INIT(value) { value, 0 }
/* clang-format on */

/* These do what the macros do, for languages that have no C macros. Nobody may use the lock meanwhile.
 * -EINVAL: NULL, or a value above CTX_SEM_VALUE_MAX. */
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
/* Adds one. -EOVERFLOW: the value is CTX_SEM_VALUE_MAX. */
int ctx_sem_post(struct ctx_sem *sem);

/* -- Channels -------------------------------------------------------------------------------------------- */

/* A queue of items between threads, as Go's channels.
 *
 * ctx_chan_send(), ctx_chan_recv() and ctx_chan_select() are cancellation points of pthread_cancel(3) where
 * they have to wait. An item that a thread was given at the moment of its cancellation is the next that is
 * received. In the child of a fork a channel of the parent can only be given up. */
struct ctx_chan;

/* Gives up one reference; nobody may be in a call with the last one. The last one frees the channel, and the
 * items that nobody has received. Takes NULL. Returns NULL. */
struct ctx_chan *ctx_chan_unref(struct ctx_chan *chan);
/* Takes one more reference. Takes NULL. Returns chan. */
struct ctx_chan *ctx_chan_ref(struct ctx_chan *chan);
/* item_size: the bytes of one item; items are copied in and out. With 0 an item is only an event, and the
 * pointers to items may be NULL. capacity: how many items the channel keeps; with 0 a send waits for a
 * receive. errno: EINVAL, ENOMEM. */
struct ctx_chan *ctx_chan_new(size_t item_size, size_t capacity) CTX_CONSTRUCTOR(ctx_chan_unref);
/* 0: sent. -EPIPE: the channel is closed. After an error the item was not sent. */
int ctx_chan_send(struct ctx *ctx, struct ctx_chan *chan, const void *item) CTX_MUST_CHECK;
/* 1: received an item. 0: the channel is closed and empty. After an error no item was taken. */
int ctx_chan_recv(struct ctx *ctx, struct ctx_chan *chan, void *ret_item) CTX_MUST_CHECK;
/* As the two above, but they do not wait. -EAGAIN: the other one would. */
int ctx_chan_try_send(struct ctx_chan *chan, const void *item) CTX_MUST_CHECK;
int ctx_chan_try_recv(struct ctx_chan *chan, void *ret_item) CTX_MUST_CHECK;
/* From now on nothing can be sent. What is in the channel can still be received. -EPIPE: it was closed
 * before. */
int ctx_chan_close(struct ctx_chan *chan);
/* A descriptor, borrowed, for poll(2) and event loops: readable while a receive would not wait, because there
 * is an item, a sender waits, or the channel is closed. Do not read it. Somebody else may be faster: then
 * receive with ctx_chan_try_recv(). The first call makes it, and from then on sends and receives that change
 * what it says take a system call. It lives as long as the channel. There is none for sending.
 * -EMFILE, -ENFILE, -ENOMEM. */
int ctx_chan_fd(struct ctx_chan *chan);

#define CTX_CHAN_SEND 1
#define CTX_CHAN_RECV 2

/* One operation of a select. */
struct ctx_chan_case {
        /* NULL: this case never happens. */
        struct ctx_chan *chan;
        /* CTX_CHAN_SEND or CTX_CHAN_RECV. */
        int op;
        /* Written if this case has happened: what ctx_chan_send() or ctx_chan_recv() would have returned. So
         * -EPIPE and 0 say that the channel is closed. */
        int result;
        /* For CTX_CHAN_SEND. */
        const void *send_item;
        /* For CTX_CHAN_RECV. */
        void *ret_item;
};

/* Waits until one of n operations can happen, and does that one. Returns its index, or an error; after an
 * error none has happened. If several can happen, chance decides. The same channel may be in several cases;
 * a send and a receive of one call do not meet each other. -EINVAL: an op or item is wrong. -ENOMEM: for more
 * than 8 cases memory is needed. -EDEADLK: no case has a channel, and ctx is never done. */
int ctx_chan_select(struct ctx *ctx, struct ctx_chan_case *cases, size_t n) CTX_MUST_CHECK;
/* The same without waiting. -EAGAIN: none of them can happen now. */
int ctx_chan_try_select(struct ctx_chan_case *cases, size_t n) CTX_MUST_CHECK;

/* -- Groups of threads ----------------------------------------------------------------------------------- */

/* Threads that begin and end together, under a context of their own. In the child of a fork a group of the
 * parent has no threads: it can only be given up. */
struct ctx_group;

/* Gives up the handle, and cancels the group's context, so that what still runs is told to stop. Takes NULL.
 * Returns NULL. */
struct ctx_group *ctx_group_unref(struct ctx_group *group);
/* errno: EINVAL, ENOMEM. */
struct ctx_group *ctx_group_new(struct ctx *parent) CTX_CONSTRUCTOR(ctx_group_unref);
/* The group's context, borrowed. It lives as long as the group. */
struct ctx *ctx_group_ctx(struct ctx_group *group);
/* From now on at most n threads run fn at one time; 0, as at first: no limit. */
int ctx_group_set_limit(struct ctx_group *group, unsigned n);
/* Runs fn(ctx, userdata) on a new thread, which has entered the group's context. The first fn that returns a
 * negative errno cancels the group's context, with that error as the cause. A thread that ends inside fn, by
 * pthread_exit(3) or pthread_cancel(3), has returned -ECANCELED.
 *
 * If there is a limit, the call first waits for room. The end of the group's context ends that wait, with its
 * error. Otherwise it fails as pthread_create(3) does. -ECHILD: the group is that of the parent of a fork.
 * After an error fn does not run. */
int ctx_group_go(struct ctx_group *group, int (*fn)(struct ctx *ctx, void *userdata), void *userdata);
/* The same, and *ret_result becomes what fn has returned, before ctx_group_wait() returns. If the group is
 * given up before that, nothing is written any more. */
int ctx_group_go_result(struct ctx_group *group, int (*fn)(struct ctx *ctx, void *userdata), void *userdata,
                int *ret_result);
/* As ctx_group_go(), without waiting. 1: fn runs. 0: there is no room. */
int ctx_group_try_go(struct ctx_group *group, int (*fn)(struct ctx *ctx, void *userdata),
                void *userdata) CTX_MUST_CHECK;
/* The group has failed: cancels its context with error, an errno above 0, and message as the cause. For its
 * threads, in place of a plain negative errno, and for others. message is copied, and may be NULL. 1: this
 * was the first failure; 0: there was one before, and nothing changes. */
int ctx_group_fail(struct ctx_group *group, int error, const char *message);
/* Why the group has failed. 1: it has, and both values are written; each may be NULL. 0: it has not. The
 * message is that of ctx_group_fail(), or what the errno means. If fn has returned the error of the group's
 * context, which was done before, error and message are the cause of that. The message is borrowed, and lives
 * as long as the group. */
int ctx_group_cause(struct ctx_group *group, int *ret_error, const char **ret_message);
/* Waits, without a limit, until all threads of the group have ended and are joined: their destructors of
 * thread-specific data have run, too. Then cancels the group's context. 0, or the first error. It may be
 * called again. -EDEADLK: called by a thread of the group. -ECHILD: as ctx_group_go(). Where it waits it is a
 * cancellation point of pthread_cancel(3). */
int ctx_group_wait(struct ctx_group *group);
/* The same, but the end of ctx ends the wait, with its error. Then the group goes on, and can be waited for
 * again. ctx may be done already: the call then says how the group has ended, if it has. */
int ctx_group_wait_for(struct ctx *ctx, struct ctx_group *group);

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
         * for ctx_attach(). A process that is stopped gets SIGCONT, too. */
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
        /* CTX_SPAWN_TREE, or 0. ctx_spawn() alone. */
        uint64_t flags;
};

/* The size of the struct in its first version, by the size of a pointer and the alignment of uint64_t. */
#if UINTPTR_MAX > UINT32_MAX
#define CTX_SPAWN_OPTIONS_SIZE_VER0 48
#elif defined(__i386__)
#define CTX_SPAWN_OPTIONS_SIZE_VER0 36
#else
#define CTX_SPAWN_OPTIONS_SIZE_VER0 40
#endif
/* With flags. */
#define CTX_SPAWN_OPTIONS_SIZE_VER1 (CTX_SPAWN_OPTIONS_SIZE_VER0 + 8)

/* The child and what it forks end together, also under a local context. The child leads a process group of
 * its own, and so cannot read from a terminal. What the library sends it goes to the whole group; and what is
 * left of the group when the child has ended gets SIGKILL from ctx_task_wait(). The library sees the
 * processes of the group, and no others: one that has left it (setsid(2), a shell with job control) runs on.
 * Only a context of ctxd sees them all. */
#define CTX_SPAWN_TREE 0x1U

#define CTX_SIGNAL_DEFAULT (-1)
#define CTX_KILL_AFTER_DEFAULT 0xfffffffffffffffeULL
/* clang-format off */
#define CTX_SPAWN_OPTIONS \
        { CTX_SPAWN_OPTIONS_SIZE_VER1, CTX_SIGNAL_DEFAULT, { -1, -1, -1 }, CTX_KILL_AFTER_DEFAULT, \
          NULL, NULL, 0 }
/* clang-format on */

/* Does what CTX_SPAWN_OPTIONS does, for languages that have no C macros. size: the bytes of the struct as the
 * program knows it; also becomes options->size. -EINVAL: less than version 0 has. -E2BIG: more than 4096. */
int ctx_spawn_options_init(struct ctx_spawn_options *options, size_t size);

/* A child process. */
struct ctx_task;

/* Gives up the task. A process that was not waited for runs on, as a child of this process, whatever becomes
 * of a local context; one of ctxd still ends it. What waits for the task, or signals it, must be over. Takes
 * NULL. Returns NULL. */
struct ctx_task *ctx_task_unref(struct ctx_task *task);
/* Starts a command: argv[0] is looked up in $PATH, and argv ends with NULL. options may be NULL.
 *
 * The nearest context of ctxd, from ctx up, has the child as a member before it execs; $CTXD_CONTEXT and
 * $CTXD_ADDRESS tell the child so. When that context is done, ctxd sends the signal to the child and to all
 * processes that it has forked. If a local context in between is done, or there is no context of ctxd, the
 * library sends the signal, to the child alone (or its group: CTX_SPAWN_TREE), and only until the task is
 * given up; it does so also while a callback of the program runs. What it needs for that, SIGKILL included,
 * it takes here, so that it also works in a process that has no descriptor left at the cancel.
 *
 * Signal handlers of the child are reset, and none of them runs in it; it blocks no signal. The child gets
 * the descriptors 0, 1 and 2, and those without FD_CLOEXEC. Handlers of pthread_atfork(3) are not called. If
 * this process dies before the child is a member, so does the child.
 *
 * errno: ECANCELED or ETIMEDOUT where ctx is done and nothing was started; what exec gave, such as ENOENT and
 * EACCES; EINVAL, E2BIG for the options; and under a context of ctxd what a call to the daemon gives. */
struct ctx_task *ctx_spawn(struct ctx *ctx, char *const argv[], const struct ctx_spawn_options *options)
                CTX_CONSTRUCTOR(ctx_task_unref);
/* Waits, without a limit, until the process has ended, and reaps it. ret_status: as waitpid(2) gives it. It
 * may be called again. -ECHILD: somebody else has reaped the process. This and the next one are cancellation
 * points of pthread_cancel(3) where they wait; the process is not reaped then. */
int ctx_task_wait(struct ctx_task *task, int *ret_status);
/* The same, until ctx is done, which need not be the context that the process runs under. After an error of
 * the context the process runs on, and can be waited for again. -EINTR: a signal handler ran. */
int ctx_task_wait_for(struct ctx *ctx, struct ctx_task *task, int *ret_status) CTX_MUST_CHECK;
/* The pid. It may be another process's once this one was waited for: signal it with ctx_task_kill(). */
pid_t ctx_task_pid(struct ctx_task *task);
/* A descriptor of the process, borrowed. It is readable when the process has ended, and lives as long as the
 * task. */
int ctx_task_pidfd(struct ctx_task *task);
/* Sends a signal, to no other process ever; with CTX_SPAWN_TREE to the whole group. 0: only looks. 0 is also
 * the answer for a process that has ended and was not waited for. -ESRCH: it was. -EINVAL: there is no such
 * signal. -EPERM: the process has become another user. */
int ctx_task_kill(struct ctx_task *task, int signal);

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
