/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tests/harness/process.h"
#include "tests/law/local.h"

/* For the tests of contexts that something outside ends. */

static inline void make_pair(int fds[2])
{
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static inline struct ctx *on_hangup(int fd)
{
        struct ctx *ctx = ctx_with_hangup(ctx_background(), fd);

        ck_assert_ptr_nonnull(ctx);
        return ctx;
}

/* What has happened before is through. */
static inline void settle(void)
{
        CTX_AUTO_UNREF struct ctx *ctx = NULL;
        int fds[2];

        make_pair(fds);
        ctx = on_hangup(fds[0]);
        close(fds[1]);
        ck_assert_happens(ctx_err(ctx) != 0);
        close(fds[0]);
}

static inline void outside_callback(void *userdata) {}

/* The descriptors of the library stay. */
static inline void outside_warm_up(void)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_signals(ctx_background(), (int[]){SIGUSR2}, 1);

        ctx_after_unref(ctx_after_func(ctx, outside_callback, NULL));
        ctx_cancel(ctx);
        settle();
}
