/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* System calls that are no cancellation points, unlike the functions of the C library. A thread that is being
 * cancelled (pthread_cancel) would leave the library in the middle of a walk, or with a lock. */

static inline void raw_sleep(long nsec)
{
        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = nsec}, NULL);
}

/* Adds to an eventfd. */
static inline void raw_eventfd_write(int fd, uint64_t value)
{
        syscall(SYS_write, fd, &value, sizeof value);
}

/* Waits until the descriptor is readable, at most so long. */
static inline bool raw_wait_readable(int fd, time_t sec)
{
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};

        return syscall(SYS_ppoll, &pollfd, 1, &(struct timespec){.tv_sec = sec}, NULL, 0) > 0;
}

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#ifdef __SANITIZE_THREAD__
/* It follows descriptors, and sees only the C library's function. */
static inline void raw_close(int fd)
{
        int old;

        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
        close(fd);
        pthread_setcancelstate(old, &old);
}
#else
static inline void raw_close(int fd)
{
        syscall(SYS_close, fd);
}
#endif

/* In the child of a fork: a new eventfd with the number of the parent's, since the thread may be in a signal
 * handler, and have been about to write to it. If none can be had, that one stays, the parent may be
 * woken for nothing, and this returns false: nobody here may read from it. */
static inline bool raw_eventfd_renew(int fd)
{
        int own = fd < 0 ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        bool is_renewed;

        if (own < 0)
                return fd < 0;
        is_renewed = syscall(SYS_dup3, own, fd, O_CLOEXEC) >= 0;
        raw_close(own);
        return is_renewed;
}
