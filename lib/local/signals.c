/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/local/callback-thread.h"
#include "lib/local/found.h"

/* Contexts that end when the process gets a signal. While there is such a context for a signal, its
 * disposition is on_signal(), which notes the signal and wakes the service thread. That makes the contexts
 * done and puts the earlier disposition back, so that the next signal does what it did before: a second ^C
 * kills. A context that is done for another reason leaves with its last unref. If a signal comes before
 * that, it is sent again, with the earlier disposition.
 *
 * A signal that is ignored stays so, as the shell's nohup wants it, and ends no context. */

#define SIGNALS 65

struct signals {
        struct ctx_found found;
        uint64_t mask; /* signal s: bit s - 1 */
};

struct slot {
        struct sigaction before; /* valid while the handler is installed */
        bool installed;
        _Atomic bool arrived;
};

static struct lock lock = LOCK_INIT(LOCK_SIGNALS);
static struct slot slots[SIGNALS];
static struct ctx_found *first;
static int wake_fd = -1;
static pid_t pid; /* of the process in which the handlers work */

static uint64_t bit(int s)
{
        return UINT64_C(1) << (s - 1);
}

/* A child of vfork() has the handlers too, and the memory of its parent. */
static void on_signal(int s)
{
        uint64_t one = 1;
        int error = errno;

        if (getpid() == pid) {
                atomic_store(&slots[s].arrived, true);
                (void) !write(wake_fd, &one, sizeof(one));
        } else {
                sigaction(s, &slots[s].before, NULL);
                raise(s); /* comes when this handler returns */
        }
        errno = error;
}

static bool is_ours(const struct sigaction *action)
{
        return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == on_signal;
}

/* The lock is held, in all of these. */
static int install(int s)
{
        struct sigaction ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK}, before;

        if (sigaction(s, NULL, &before) < 0)
                return -errno;
        if ((is_ours(&before) && slots[s].installed) ||
                        (!(before.sa_flags & SA_SIGINFO) && before.sa_handler == SIG_IGN))
                return 0;
        /* The program may have kept ours, and set it again later. */
        slots[s].before = is_ours(&before) ? (struct sigaction){.sa_handler = SIG_DFL} : before;
        slots[s].installed = true;
        sigfillset(&ours.sa_mask);
        return sigaction(s, &ours, NULL) < 0 ? -errno : 0;
}

/* If the program has set another one meanwhile, that stays. */
static void restore(int s)
{
        struct sigaction now;

        if (sigaction(s, NULL, &now) == 0 && is_ours(&now))
                sigaction(s,
                                slots[s].installed ? &slots[s].before
                                                   : &(struct sigaction){.sa_handler = SIG_DFL},
                                NULL);
        slots[s].installed = false;
}

/* Is there a context for it that is not done, as far as can be seen under the lock? */
static bool is_awaited(int s)
{
        LIST_OF_FOUND (first, found) {
                const struct ctx *ctx = &found->wide.ctx;

                if (((struct signals *) found)->mask & bit(s) && atomic_load(&ctx->child.refs) > 0 &&
                                !ctx_is_done(ctx) && now_boottime_usec() < ctx_local_deadline(ctx))
                        return true;
        }
        return false;
}

static void restore_all(uint64_t mask)
{
        for (int s = 1; s < SIGNALS; s++)
                if (mask & bit(s) && !is_awaited(s))
                        restore(s);
}

static struct cause *signal_cause(int s)
{
        char text[40];

        if (sigabbrev_np(s))
                snprintf(text, sizeof(text), "SIG%s received", sigabbrev_np(s));
        else
                snprintf(text, sizeof(text), "signal %d received", s);
        return cause_new(EINTR, text);
}

static void end_contexts(int s)
{
        struct ctx_found *taken = NULL;
        struct cause *cause = signal_cause(s);
        uint64_t mask = bit(s);
        unsigned n;

        lock_acquire(&lock);
        LIST_OF_FOUND (first, found) {
                if (!(((struct signals *) found)->mask & bit(s)))
                        continue;
                mask |= ((struct signals *) found)->mask;
                found_take(found, &taken);
        }
        lock_release(&lock);
        n = found_end(taken, cause);
        cause_drop(cause, 1);
        lock_acquire(&lock);
        restore_all(mask);
        lock_release(&lock);
        if (n == 0)
                kill(pid, s);
}

static bool serve(void)
{
        uint64_t count;

        (void) !read(wake_fd, &count, sizeof(count));
        for (int s = 1; s < SIGNALS; s++)
                if (atomic_exchange(&slots[s].arrived, false))
                        end_contexts(s);
        return true;
}

static int start(void)
{
        int r;

        if (wake_fd >= 0)
                return 0;
        r = service_thread_start();
        if (r < 0)
                return r;
        pid = getpid();
        wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (wake_fd < 0)
                return -errno;
        r = service_thread_add(wake_fd, serve);
        if (r < 0) {
                close(wake_fd);
                wake_fd = -1;
        }
        return r;
}

static void leave(struct ctx_found *found)
{
        lock_acquire(&lock);
        if (found->place) {
                found_remove(found);
                restore_all(((struct signals *) found)->mask);
        }
        lock_release(&lock);
}

static int listen_for(struct signals *signals)
{
        int r;

        lock_acquire(&lock);
        r = start();
        if (r == 0)
                found_insert(&signals->found, &first);
        for (int s = 1; r == 0 && s < SIGNALS; s++)
                if (signals->mask & bit(s))
                        r = install(s);
        lock_release(&lock);
        return r;
}

/* Those that say that the thread itself has made a mistake, or that cannot be caught, end no context. */
static int take_signals(const int *list, size_t n, uint64_t *ret_mask)
{
        const uint64_t refused = bit(SIGKILL) | bit(SIGSTOP) | bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) |
                                 bit(SIGILL) | bit(SIGTRAP) | bit(SIGSYS);
        uint64_t mask = 0;

        for (size_t i = 0; i < n; i++) {
                if (list[i] < 1 || list[i] > SIGRTMAX || (list[i] > SIGSYS && list[i] < SIGRTMIN) ||
                                refused & bit(list[i]))
                        return -EINVAL;
                mask |= bit(list[i]);
        }
        *ret_mask = mask;
        return mask ? 0 : -EINVAL;
}

struct ctx *ctx_with_signals(struct ctx *parent, const int *list, size_t n)
{
        struct signals *signals;
        uint64_t mask;
        int r;

        r = parent && list ? take_signals(list, n, &mask) : -EINVAL;
        if (r < 0) {
                errno = -r;
                return NULL;
        }
        signals = (struct signals *) ctx_alloc(sizeof(struct signals), CTX_KIND_FOUND, parent);
        if (!signals)
                return NULL;
        signals->found.leave = leave;
        signals->found.place = NULL;
        signals->mask = mask;
        ctx_link(&signals->found.wide.ctx, parent);
        r = ctx_state(&signals->found.wide.ctx) ? 0 : listen_for(signals);
        if (r < 0) {
                ctx_unref(&signals->found.wide.ctx);
                errno = -r;
                return NULL;
        }
        return &signals->found.wide.ctx;
}

/* The contexts are those of the parent process, and its signals too. */
static void after_fork_in_child(void)
{
        for (int s = 1; s < SIGNALS; s++) {
                if (slots[s].installed)
                        restore(s);
                atomic_store(&slots[s].arrived, false);
        }
        while (first)
                found_remove(first);
        if (wake_fd >= 0)
                close(wake_fd);
        wake_fd = -1;
}

FORK_PART(.lock = &lock, .in_child = after_fork_in_child)
