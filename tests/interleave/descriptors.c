/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "tests/interleave/world.h"

/* The descriptors of the program and the library: eventfds, timerfds and epoll sets. Other numbers are the
 * kernel's. */

#define FIRST 1000
#define FDS_MAX 64
#define SET_MAX 8
#define PC __builtin_return_address(0)
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

enum kind { CLOSED, EVENT, TIMER, SET };

static struct descriptor {
        enum kind kind;
        bool is_semaphore;
        uint64_t count;    /* EVENT */
        uint64_t due_usec; /* TIMER */
        struct {
                int fd;
                epoll_data_t data;
        } members[SET_MAX];
        size_t n_members;
} fds[FDS_MAX];

int __real_close(int fd);
ssize_t __real_read(int fd, void *buffer, size_t size);
ssize_t __real_write(int fd, const void *buffer, size_t size);

void descriptors_reset(void)
{
        memset(fds, 0, sizeof fds);
}

/* The library's threads keep their sets, and what is in these. */
unsigned descriptors_left(void)
{
        unsigned n = 0;

        for (size_t i = 0; i < FDS_MAX; i++)
                n += fds[i].kind == EVENT || fds[i].kind == TIMER;
        for (size_t i = 0; i < FDS_MAX; i++)
                n -= fds[i].kind == SET ? (unsigned) fds[i].n_members : 0;
        return n;
}

static struct descriptor *lookup(int fd)
{
        if (fd < FIRST || fd >= FIRST + FDS_MAX)
                return NULL;
        if (fds[fd - FIRST].kind == CLOSED)
                fail("descriptor %d is used after it was closed", fd);
        return &fds[fd - FIRST];
}

static bool is_readable(const struct descriptor *d)
{
        switch (d->kind) {
        case EVENT:
                return d->count > 0;
        case TIMER:
                return d->due_usec <= world->now_usec;
        case SET:
                for (size_t i = 0; i < d->n_members; i++)
                        if (is_readable(&fds[d->members[i].fd - FIRST]))
                                return true;
                return false;
        default:
                return false;
        }
}

bool fd_is_readable(int fd)
{
        return is_readable(lookup(fd));
}

void fd_fill(int fd)
{
        struct descriptor *d = &fds[fd - FIRST];

        step(STEP_WAKE, d, PC);
        d->count += d->kind == EVENT;
}

static int open_one(enum kind kind)
{
        for (int i = 0; i < FDS_MAX; i++)
                if (fds[i].kind == CLOSED) {
                        fds[i] = (struct descriptor){.kind = kind, .due_usec = NEVER};
                        return FIRST + i;
                }
        errno = EMFILE;
        return -1;
}

int __wrap_eventfd(unsigned count, int flags)
{
        int fd = open_one(EVENT);

        if (fd >= 0) {
                lookup(fd)->count = count;
                lookup(fd)->is_semaphore = flags & EFD_SEMAPHORE;
        }
        return fd;
}

int __wrap_timerfd_create(clockid_t clock, int flags)
{
        return open_one(TIMER);
}

int __wrap_epoll_create1(int flags)
{
        return open_one(SET);
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
        struct descriptor *d = lookup(fd);
        uint64_t usec = (uint64_t) new->it_value.tv_sec * 1000000 +
                        (uint64_t) (new->it_value.tv_nsec + 999) / 1000;

        step(STEP_WAKE, d, PC);
        d = lookup(fd);
        d->due_usec = usec == 0 ? NEVER : flags & TFD_TIMER_ABSTIME ? usec : world->now_usec + usec;
        return 0;
}

int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
        struct descriptor *set = lookup(epoll);
        size_t i = 0;

        lookup(fd);
        while (i < set->n_members && set->members[i].fd != fd)
                i++;
        if (op == EPOLL_CTL_DEL && i < set->n_members) {
                set->members[i] = set->members[--set->n_members];
        } else if (op == EPOLL_CTL_ADD) {
                if (i < set->n_members || i == SET_MAX) {
                        errno = i == SET_MAX ? ENOSPC : EEXIST;
                        return -1;
                }
                set->members[i].fd = fd;
                set->members[i].data = event->data;
                set->n_members++;
        }
        return 0;
}

static long refuse(int error)
{
        errno = error;
        return -1;
}

static long write_event(int fd, uint64_t value, const void *pc)
{
        struct descriptor *d = lookup(fd);

        step(STEP_WAKE, d, pc);
        d = lookup(fd);
        if (value > UINT64_MAX - 1 - d->count)
                return refuse(EAGAIN);
        d->count += value;
        return sizeof value;
}

static long read_count(int fd, void *buffer, const void *pc)
{
        struct descriptor *d = lookup(fd);
        uint64_t value;

        step(STEP_WAKE, d, pc);
        d = lookup(fd);
        if (!is_readable(d))
                return refuse(EAGAIN);
        value = d->kind == TIMER || d->is_semaphore ? 1 : d->count;
        if (d->kind == TIMER)
                d->due_usec = NEVER;
        else
                d->count -= value;
        memcpy(buffer, &value, sizeof value);
        return sizeof value;
}

static long close_one(int fd, const void *pc)
{
        step(STEP_WAKE, lookup(fd), pc);
        lookup(fd)->kind = CLOSED;
        for (size_t i = 0; i < FDS_MAX; i++)
                for (size_t j = 0; j < fds[i].n_members; j++)
                        if (fds[i].members[j].fd == fd)
                                fds[i].members[j] = fds[i].members[--fds[i].n_members];
        return 0;
}

int __wrap_eventfd_write(int fd, eventfd_t value)
{
        cancellation_point();
        return write_event(fd, value, PC) < 0 ? -1 : 0;
}

ssize_t __wrap_write(int fd, const void *buffer, size_t size)
{
        if (!lookup(fd))
                return __real_write(fd, buffer, size);
        cancellation_point();
        return write_event(fd, *(const uint64_t *) buffer, PC);
}

ssize_t __wrap_read(int fd, void *buffer, size_t size)
{
        if (!lookup(fd))
                return __real_read(fd, buffer, size);
        cancellation_point();
        return read_count(fd, buffer, PC);
}

int __wrap_close(int fd)
{
        if (!lookup(fd))
                return __real_close(fd);
        cancellation_point();
        return (int) close_one(fd, PC);
}

static int n_readable(struct pollfd *polled, nfds_t n)
{
        int readable = 0;

        for (nfds_t i = 0; i < n; i++) {
                polled[i].revents =
                                is_readable(lookup(polled[i].fd)) ? (short) (polled[i].events & POLLIN) : 0;
                readable += polled[i].revents != 0;
        }
        return readable;
}

struct polling {
        struct pollfd *fds;
        nfds_t n;
};

static bool any_is_readable(struct thread *thread)
{
        const struct polling *polling = thread->ready_data;

        return n_readable(polling->fds, polling->n) > 0;
}

static int poll_until(struct pollfd *polled, nfds_t n, uint64_t until_usec, const void *pc)
{
        struct polling polling = {.fds = polled, .n = n};
        int readable;

        step(STEP_WAIT, n > 0 ? lookup(polled[0].fd) : NULL, pc);
        readable = n_readable(polled, n);
        if (readable > 0 || until_usec <= world->now_usec)
                return readable;
        thread_about_to_block()->is_ready = any_is_readable;
        world->current->ready_data = &polling;
        world->current->until_usec = until_usec;
        if (thread_block() == EINTR)
                return (int) refuse(EINTR);
        return n_readable(polled, n);
}

static int poll_cancellable(struct pollfd *polled, nfds_t n, uint64_t until_usec, const void *pc)
{
        int r;

        cancellation_begin();
        r = poll_until(polled, n, until_usec, pc);
        cancellation_end();
        return r;
}

static uint64_t after_msec(int msec)
{
        return msec < 0 ? NEVER : world->now_usec + (uint64_t) msec * 1000;
}

static uint64_t after_timespec(const struct timespec *ts)
{
        return ts ? world->now_usec + (uint64_t) ts->tv_sec * 1000000 + (uint64_t) ts->tv_nsec / 1000 : NEVER;
}

int __wrap_poll(struct pollfd *polled, nfds_t n, int msec)
{
        return poll_cancellable(polled, n, after_msec(msec), PC);
}

int __wrap_ppoll(struct pollfd *polled, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
        return poll_cancellable(polled, n, after_timespec(ts), PC);
}

/* The number of an eventfd gets another one, of which only the count is told apart. */
static long dup_over(int from, int to, const void *pc)
{
        if (!lookup(from) || !lookup(to))
                return dup3(from, to, 0);
        step(STEP_WAKE, lookup(to), pc);
        lookup(to)->count = lookup(from)->count;
        return to;
}

bool descriptor_syscall(long number, const long a[6], const void *pc, long *ret)
{
        switch (number) {
        case SYS_write:
                *ret = lookup((int) a[0]) ? write_event((int) a[0], *(const uint64_t *) a[1], pc)
                                          : __real_write((int) a[0], (const void *) a[1], (size_t) a[2]);
                return true;
        case SYS_read:
                *ret = lookup((int) a[0]) ? read_count((int) a[0], (void *) a[1], pc)
                                          : __real_read((int) a[0], (void *) a[1], (size_t) a[2]);
                return true;
        case SYS_close:
                *ret = lookup((int) a[0]) ? close_one((int) a[0], pc) : __real_close((int) a[0]);
                return true;
        case SYS_dup3:
                *ret = dup_over((int) a[0], (int) a[1], pc);
                return true;
        case SYS_ppoll:
                *ret = poll_until((struct pollfd *) a[0], (nfds_t) a[1],
                                after_timespec((const struct timespec *) a[2]), pc);
                return true;
        case SYS_epoll_ctl:
                *ret = __wrap_epoll_ctl((int) a[0], (int) a[1], (int) a[2], (struct epoll_event *) a[3]);
                return true;
        default:
                return false;
        }
}

int __wrap_epoll_wait(int epoll, struct epoll_event *events, int n, int msec)
{
        struct pollfd polled = {.fd = epoll, .events = POLLIN};
        struct descriptor *set = lookup(epoll);
        int found = 0;

        if (poll_cancellable(&polled, 1, after_msec(msec), PC) <= 0)
                return 0;
        for (size_t i = 0; i < set->n_members && found < n; i++)
                if (is_readable(&fds[set->members[i].fd - FIRST]))
                        events[found++] =
                                        (struct epoll_event){.events = EPOLLIN, .data = set->members[i].data};
        return found;
}
