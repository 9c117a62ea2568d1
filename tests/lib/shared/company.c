/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "tests/lib/shared/company.h"

#define STOPPED "ctxd was stopped"

void is_lost(struct ctx *ctx)
{
        const char *message;
        int error;

        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_cause(ctx, &error, &message), 1);
        ck_assert_int_eq(error, ECANCELED);
        ck_assert_str_eq(message, STOPPED);
}

static struct ctx_mutex locked = {1};

static void *in_wait(void *userdata)
{
        struct waiter *w = userdata;

        w->r = ctx_wait(w->ctx, UINT64_MAX);
        return NULL;
}

static void *in_poll(void *userdata)
{
        struct waiter *w = userdata;
        int fds[2];

        ck_assert_int_eq(pipe(fds), 0);
        w->r = ctx_poll(w->ctx, &(struct pollfd){.fd = fds[0], .events = POLLIN}, 1, UINT64_MAX);
        close(fds[0]);
        close(fds[1]);
        return NULL;
}

static void *in_read(void *userdata)
{
        struct waiter *w = userdata;
        int fds[2];
        char byte;

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        w->r = (int) ctx_read(w->ctx, fds[0], &byte, 1);
        close(fds[0]);
        close(fds[1]);
        return NULL;
}

static void *in_lock(void *userdata)
{
        struct waiter *w = userdata;

        w->r = ctx_mutex_lock(w->ctx, &locked);
        return NULL;
}

static void *(*const ways[N_WAYS])(void *) = {in_wait, in_poll, in_read, in_lock};

void start_waiting(struct waiter waiters[N_WAYS], struct ctx *ctx)
{
        for (size_t i = 0; i < N_WAYS; i++) {
                waiters[i] = (struct waiter){.ctx = ctx};
                ck_assert_int_eq(pthread_create(&waiters[i].thread, NULL, ways[i], waiters + i), 0);
        }
}

static void have_waited(struct waiter *waiters)
{
        for (size_t i = 0; i < N_WAYS; i++) {
                ck_assert_int_eq(pthread_join(waiters[i].thread, NULL), 0);
                ck_assert_msg(waiters[i].r == -ECANCELED, "way %zu: %d", i, waiters[i].r);
        }
}

void count(void *userdata)
{
        atomic_fetch_add((_Atomic int *) userdata, 1);
}

void gather(struct company *c, struct ctx *ctx, struct ctx *other)
{
        *c = (struct company){.ctx = ctx};
        c->local = ctx_with_cancel(ctx);
        c->merge = ctx_merge(ctx_background(), (struct ctx *[]){ctx, other}, 2);
        c->done_fd = ctx_done_fd(ctx);
        c->local_fd = ctx_done_fd(c->local);
        c->drained_fd = ctx_drained_fd(ctx);
        ck_assert_int_ge(c->done_fd, 0);
        ck_assert_int_ge(c->local_fd, 0);
        ck_assert_int_ge(c->drained_fd, 0);
        c->after = ctx_after_func(c->local, count, &c->called);
        ck_assert_ptr_nonnull(c->after);
        start_waiting(c->own, ctx);
        start_waiting(c->below, c->local);
        start_waiting(c->merged, c->merge);
}

void nobody_was_told(struct company *c, uint64_t since_usec)
{
        bool told = is_readable(c->done_fd) || is_readable(c->local_fd) || is_readable(c->drained_fd) ||
                    c->called || ctx_err(c->ctx) || ctx_err(c->local);

        ck_assert(!told || boottime_usec() - since_usec > CTX_DAEMON_GRACE_USEC * 9 / 10);
}

void all_were_told(struct company *c)
{
        have_waited(c->own);
        have_waited(c->below);
        have_waited(c->merged);
        ck_assert(becomes_readable(c->done_fd));
        ck_assert(becomes_readable(c->local_fd));
        ck_assert(becomes_readable(c->drained_fd));
        while (c->called == 0)
                usleep(1000);
        ck_assert_int_eq(ctx_after_stop_wait(c->after), 0);
        ck_assert_int_eq(c->called, 1);
        is_lost(c->ctx);
        is_lost(c->local);
        is_lost(c->merge);
        ctx_after_unref(c->after);
        ctx_unref(c->merge);
        ctx_unref(c->local);
        ctx_unref(c->ctx);
}

uint64_t wait_for_go(struct stage *s)
{
        uint64_t since = boottime_usec();
        char byte;

        if (write(s->ready[1], "r", 1) != 1)
                _exit(100);
        (void) !read(s->go[0], &byte, 1); /* the end of file is for all */
        return since;
}

struct ctx *show(struct ctx_client *client)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx *ctx;

        options.mode = 0755;
        ctx = ctx_create(client, "shown", &options);
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        return ctx;
}
