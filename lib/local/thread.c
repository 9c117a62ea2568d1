/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>

#include "lib/local/thread.h"

int thread_start(void *(*fn)(void *), void *userdata, const char *name, pthread_t *ret)
{
        sigset_t all, old;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(ret, NULL, fn, userdata);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (r == 0)
                pthread_setname_np(*ret, name);
        return -r;
}
