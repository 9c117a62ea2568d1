/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "lib/local/raw.h"
#include "lib/local/thread.h"

#define REFUSED_NSEC 10000000

struct start {
        void *(*fn)(void *);
        void *userdata;
        const char *name;
};

/* A thread names itself. To name another one takes a descriptor for a moment. */
static void *run(void *userdata)
{
        struct start start = *(struct start *) userdata;

        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        free(userdata);
        prctl(PR_SET_NAME, start.name);
        return start.fn(start.userdata);
}

int thread_start(void *(*fn)(void *), void *userdata, const char *name, pthread_t *ret)
{
        struct start *start = malloc(sizeof(struct start));
        sigset_t all, old;
        int r;

        if (!start)
                return -ENOMEM;
        *start = (struct start){.fn = fn, .userdata = userdata, .name = name};
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(ret, NULL, run, start);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (r != 0)
                free(start);
        return -r;
}

int thread_epoll_wait(int set, struct epoll_event *events, int n, int msec)
{
        int r = epoll_wait(set, events, n, msec);

        /* A filter may know only one of the two. */
        if (r < 0 && errno != EINTR)
                r = epoll_pwait(set, events, n, msec, NULL);
        if (r < 0 && errno != EINTR && msec != 0)
                raw_sleep(REFUSED_NSEC);
        return r;
}
