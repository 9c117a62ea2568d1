/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* How a member ends when its context is done. A context has few policies, because members that were attached
 * alike share one. */
struct policy {
        int signal;               /* 0: none */
        uint64_t kill_after_usec; /* after done; UINT64_MAX: never */
        uid_t uid;                /* who attached; a member that this uid may not signal gets no signal */
};

/* Whether the end of its context reaches a member by a signal. */
enum unsignalled {
        UNSIGNALLED_NO,      /* it does, or has done so */
        UNSIGNALLED_WITHOUT, /* who has attached it wanted none */
        UNSIGNALLED_HELPER,  /* one that had its signal has forked it to clean up: it is only killed */
        UNSIGNALLED_USER,    /* who has attached it might not signal it: it runs as another user */
        UNSIGNALLED_REFUSED, /* the kernel does not let us */
        UNSIGNALLED_MISSED,  /* one of these was so when its context ended, and is not now */
};

struct member_ending {
        struct policy policy;
        enum unsignalled unsignalled;
};

#define CONTEXT_POLICIES_MAX 32
