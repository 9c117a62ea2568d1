/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <sys/epoll.h>

/* Starts a thread of the library's own. It blocks every signal: the program's signals are for the program's
 * threads. It cannot be cancelled (pthread_cancel), not even by a callback that runs on it. 0, or a negative
 * errno. */
int thread_start(void *(*fn)(void *), void *userdata, const char *name, pthread_t *ret);

/* epoll_wait(2) for such a thread. It does not return at once where a filter of system calls refuses it. */
int thread_epoll_wait(int set, struct epoll_event *events, int n, int msec);

/* From here to the end of the block this thread is not cancelled (pthread_cancel). It stands where something
 * is held that the end of the thread would leave behind. close() and waitid() are cancellation points,
 * too. */
#define THREAD_STAYS \
        __attribute__((__cleanup__(thread_may_go), __unused__)) int thread_stays_ = thread_stays()

static inline int thread_stays(void)
{
        int before = PTHREAD_CANCEL_ENABLE;

        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
        return before;
}

static inline void thread_may_go(const int *before)
{
        pthread_setcancelstate(*before, NULL);
}
