/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/local/callback-thread.h"
#include "lib/local/found.h"

/* Contexts that end when the other side of a descriptor is gone. The service thread has all descriptors in
 * its own epoll set. A set of their own, in that one, would be served as well. But the kernel has one lock,
 * for all users, under which descriptors are added to a set that is in another one. Somebody may hold it for
 * ever, by adding a file of a file system of his own.
 *
 * The descriptor is the program's. An entry of the set belongs to the open file together with the number,
 * so the entry is gone once the file is closed; but it stays where another process still has the file. So
 * the program may have used the number again, and then the old entry cannot be removed. It does no harm:
 * the set is edge-triggered, so it is told once, and the entry has the turn in which the number was used. A
 * new turn begins when the kernel takes the number as a new entry. Several contexts may watch one
 * descriptor; they share its entry. */

enum kind {
        KIND_OTHER, /* a pipe, a terminal */
        KIND_SOCKET,
        KIND_PROCESS,
};

struct hangup {
        struct ctx_found found;
        int fd;
};

/* By number of a descriptor. */
struct slot {
        struct ctx_found *first;
        uint32_t turn;
        enum kind kind;
};

static struct lock lock = LOCK_INIT(LOCK_HANGUPS);
static struct slot *slots;
static size_t n_slots;

static uint32_t next_turn(const struct slot *slot)
{
        return (slot->turn + 1) & (uint32_t) (~HANGUP_MARK >> 32);
}

static uint64_t data_of(const struct slot *slot)
{
        return HANGUP_MARK | (uint64_t) slot->turn << 32 | (uint32_t) (slot - slots);
}

static struct cause peer_hung_up = {.refs = 1, .error = ECONNRESET, .message = "peer hung up"};
static struct cause process_exited = {.refs = 1, .error = ESRCH, .message = "process exited"};

static struct cause *cause_by_kind(enum kind kind)
{
        return kind == KIND_PROCESS ? &process_exited : &peer_hung_up;
}

/* An error of a socket alone is no hang-up: the kernel tells of messages in the error queue with it. */
static bool is_gone(enum kind kind, uint32_t events)
{
        switch (kind) {
        case KIND_SOCKET:
                return events & (EPOLLRDHUP | EPOLLHUP);
        case KIND_PROCESS:
                return events & (EPOLLIN | EPOLLHUP);
        default:
                return events & (EPOLLHUP | EPOLLERR);
        }
}

/* By a call that no filter refuses: what is said of a signal could be the filter's word. Some calls take a
 * directory of /proc as well, which cannot be polled. */
static bool is_pidfd(int fd, uint32_t mode)
{
        if (S_ISDIR(mode))
                return false;
        return waitid(P_PIDFD, (id_t) fd, NULL, WEXITED | WNOHANG | WNOWAIT) == 0 || errno == ECHILD;
}

/* Anything else is refused. Whoever has given it to the program may have a file system of his own, or has put
 * a file of it into an epoll set, and each look at such a file waits for him: the service thread would, and
 * whoever needs the lock. */
static int kind_of(int fd, enum kind *ret)
{
        struct statx st;

        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
                return -errno;
        if (S_ISSOCK(st.stx_mode))
                *ret = KIND_SOCKET;
        else if (S_ISFIFO(st.stx_mode) || S_ISCHR(st.stx_mode))
                *ret = KIND_OTHER;
        else if (is_pidfd(fd, st.stx_mode))
                *ret = KIND_PROCESS;
        else
                return -EPERM;
        return 0;
}

void hangup_serve(uint64_t data, uint32_t events)
{
        struct slot *slot;
        struct ctx_found *taken = NULL;
        enum kind kind = KIND_OTHER;

        lock_acquire(&lock);
        slot = (uint32_t) data < n_slots ? &slots[(uint32_t) data] : NULL;
        if (slot && data == data_of(slot) && is_gone(slot->kind, events)) {
                kind = slot->kind;
                LIST_OF_FOUND (slot->first, found)
                        found_take(found, &taken);
        }
        lock_release(&lock);
        found_end(taken, cause_by_kind(kind));
}

/* The lock is held, in all of these. */
static int make_slot(int fd)
{
        size_t n = n_slots ? n_slots : 64;
        struct slot *grown;

        if ((size_t) fd < n_slots)
                return 0;
        while (n <= (size_t) fd)
                n *= 2;
        grown = reallocarray(slots, n, sizeof(struct slot));
        if (!grown)
                return -ENOMEM;
        for (size_t i = 0; i < n_slots; i++)
                if (grown[i].first)
                        grown[i].first->place = &grown[i].first;
        for (size_t i = n_slots; i < n; i++)
                grown[i] = (struct slot){};
        slots = grown;
        n_slots = n;
        return 0;
}

/* The number is that of another file now. What has watched it finds nothing any more. */
static void begin_turn(struct slot *slot, enum kind kind)
{
        while (slot->first)
                found_remove(slot->first);
        slot->turn = next_turn(slot);
        slot->kind = kind;
}

/* As long as one of them is active, the number is that of one file. Else the entry of another file, which is
 * still open elsewhere, may have the same turn. */
static bool is_in_use(const struct slot *slot)
{
        LIST_OF_FOUND (slot->first, found)
                if (!ctx_is_done(&found->wide.ctx) && atomic_load(&found->wide.ctx.child.refs) > 0 &&
                                now_boottime_usec() < ctx_local_deadline(&found->wide.ctx))
                        return true;
        return false;
}

static int add(struct hangup *h, enum kind kind)
{
        struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET | (kind == KIND_PROCESS ? EPOLLIN : 0)};
        struct slot *slot;
        int r;

        r = make_slot(h->fd);
        if (r < 0)
                return r;
        slot = &slots[h->fd];
        event.data.u64 = HANGUP_MARK | (uint64_t) next_turn(slot) << 32 | (uint32_t) h->fd;
        r = service_thread_watch(EPOLL_CTL_ADD, h->fd, &event);
        if (r == 0) {
                begin_turn(slot, kind);
        } else if (r == -EEXIST) {
                bool is_same = is_in_use(slot);

                /* Told again, if the other side is gone already. */
                if (is_same)
                        event.data.u64 = data_of(slot);
                r = service_thread_watch(EPOLL_CTL_MOD, h->fd, &event);
                if (r == 0 && !is_same)
                        begin_turn(slot, kind);
        }
        if (r < 0)
                return r;
        found_insert(&h->found, &slot->first);
        return 0;
}

static void leave(struct ctx_found *found)
{
        int fd = ((struct hangup *) found)->fd;

        lock_acquire(&lock);
        if (found->place) {
                found_remove(found);
                /* In the turn of this context the number is in the set for no one else. By now the program
                 * may use it for something else, which is none of a thread sanitizer's business. */
                if (!slots[fd].first)
                        service_thread_unwatch(fd);
        }
        lock_release(&lock);
}

/* The bits of poll are those of epoll. */
static bool is_gone_now(int fd, enum kind kind)
{
        struct pollfd pollfd = {.fd = fd, .events = POLLRDHUP | (kind == KIND_PROCESS ? POLLIN : 0)};

        return poll(&pollfd, 1, 0) > 0 && is_gone(kind, (uint32_t) pollfd.revents);
}

static int watch(struct hangup *h, enum kind kind)
{
        int r = service_thread_start();

        if (r < 0)
                return r;
        lock_acquire(&lock);
        r = add(h, kind);
        lock_release(&lock);
        return r;
}

struct ctx *ctx_with_hangup(struct ctx *parent, int fd)
{
        enum kind kind = KIND_OTHER;
        struct hangup *h;
        struct ctx *ctx;
        bool gone;
        int r;

        r = parent ? kind_of(fd, &kind) : -EINVAL;
        if (r < 0) {
                errno = -r;
                return NULL;
        }
        /* Before anything is made that would be left if the thread is cancelled here. */
        gone = is_gone_now(fd, kind);
        h = (struct hangup *) ctx_alloc(sizeof(struct hangup), CTX_KIND_FOUND, parent);
        if (!h)
                return NULL;
        ctx = &h->found.wide.ctx;
        h->found.leave = leave;
        h->found.place = NULL;
        h->fd = fd;
        ctx_link(ctx, parent);
        if (ctx_state(ctx))
                return ctx;
        if (gone) {
                ctx_end(ctx, STATE_WORD_CANCELED, cause_ref(cause_by_kind(kind)));
                return ctx;
        }
        r = watch(h, kind);
        if (r < 0) {
                ctx_unref(ctx);
                errno = -r;
                return NULL;
        }
        return ctx;
}

/* The child gets a set of its own, once it needs one. */
static void after_fork_in_child(void)
{
        for (size_t i = 0; i < n_slots; i++)
                begin_turn(&slots[i], KIND_OTHER);
}

FORK_PART(.lock = &lock, .in_child = after_fork_in_child)
