/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>

#include "tests/lib/shared/daemon.h"

/* A child of a fork waits for a context, and the process that has it of the daemon is gone by then, or has
 * given it up; or it had never asked for the descriptor. As in a server that forks its workers, and in a
 * daemon that leaves its shell. */

#define NEVER UINT64_MAX

/* Three processes: the test, the parent, which has the context, and the child, which waits. */
struct family {
        struct ctx *(*get)(struct ctx_client *client, const char *path);
        bool asks;   /* the parent asks for the descriptor */
        bool unrefs; /* the parent gives the context up, and stays */
        int (*wait)(struct ctx *ctx);
        char path[200];
        int ready[2], result[2];
};

static int wait_for_it(struct ctx *ctx)
{
        return ctx_wait(ctx, NEVER);
}

static int wait_below(struct ctx *ctx)
{
        CTX_AUTO_CANCEL struct ctx *local = ctx_with_cancel(ctx);

        return ctx_sleep(local, NEVER);
}

static int read_below(struct ctx *ctx)
{
        CTX_AUTO_CANCEL struct ctx *local = ctx_with_cancel(ctx);
        int fds[2];
        char byte;

        return pipe(fds) < 0 ? -errno : (int) ctx_read(local, fds[0], &byte, 1);
}

static int lock_below(struct ctx *ctx)
{
        CTX_AUTO_CANCEL struct ctx *local = ctx_with_cancel(ctx);
        struct ctx_mutex mutex = CTX_MUTEX_INIT;

        return ctx_mutex_trylock(&mutex) < 0 ? -EIO : ctx_mutex_lock(local, &mutex);
}

static int poll_below(struct ctx *ctx)
{
        CTX_AUTO_CANCEL struct ctx *local = ctx_with_cancel(ctx);
        struct pollfd fd = {.fd = ctx_done_fd(local), .events = POLLIN};

        return fd.fd < 0 ? fd.fd : poll(&fd, 1, -1) != 1 ? -EIO : ctx_err(local);
}

static void post(void *userdata)
{
        ctx_sem_post(userdata);
}

static int call_back(struct ctx *ctx)
{
        CTX_AUTO_CANCEL struct ctx *local = ctx_with_cancel(ctx);
        struct ctx_sem sem = CTX_SEM_INIT(0);
        CTX_AUTO_AFTER_STOP struct ctx_after *after = ctx_after_func(local, post, &sem);
        int r = after ? ctx_sem_wait(ctx_background(), &sem) : -errno;

        return r < 0 ? r : ctx_err(local);
}

static _Noreturn void be_child(const struct family *f, struct ctx *ctx)
{
        int r;

        alarm(10 * WIDE_SEC); /* nobody else ends it */
        if (write(f->ready[1], "x", 1) != 1)
                _exit(1);
        r = f->wait(ctx);
        _exit(write(f->result[1], &r, sizeof(r)) != sizeof(r));
}

static int be_parent(void *userdata)
{
        const struct family *f = userdata;
        struct ctx_client *client = ctx_client_new(NULL);
        struct ctx *ctx = client ? f->get(client, f->path) : NULL;
        pid_t pid;

        if (!ctx || (f->asks && ctx_done_fd(ctx) < 0))
                return 1;
        wait_for_other_threads();
        pid = fork();
        if (pid == 0)
                be_child(f, ctx);
        if (f->unrefs) {
                ctx_unref(ctx);
                ctx_client_unref(client);
                pause();
        }
        return pid < 0;
}

static void family_start(struct family *f, pid_t *ret_parent)
{
        char byte;

        ck_assert_int_eq(pipe(f->ready), 0);
        ck_assert_int_eq(pipe(f->result), 0);
        *ret_parent = run_child(be_parent, f);
        ck_assert_int_eq(read(f->ready[0], &byte, 1), 1);
        if (!f->unrefs)
                ck_assert_int_eq(wait_child(*ret_parent), 0);
        nap(50000); /* so that the child sleeps, and the daemon has noticed */
}

static void family_end(struct family *f)
{
        int r = 0;

        ck_assert(becomes_readable(f->result[0]));
        ck_assert_int_eq(read(f->result[0], &r, sizeof(r)), sizeof(r));
        ck_assert_int_eq(r, -ECANCELED);
        for (int i = 0; i < 2; i++) {
                close(f->ready[i]);
                close(f->result[i]);
        }
}

static int (*const waits[])(struct ctx *) = {
                wait_for_it, wait_below, read_below, lock_below, poll_below, call_back};

#define N_WAITS (sizeof(waits) / sizeof(waits[0]))

START_TEST(law_25_what_the_parent_had_ends)
{
        struct ctx_client *client = new_client();

        for (size_t i = 0; i < 4 * N_WAITS; i++) {
                struct family f = {.get = ctx_open, .wait = waits[i / 4], .asks = i % 2, .unrefs = i / 2 % 2};
                struct ctx *ctx;
                pid_t parent;

                strcpy(f.path, fresh_path());
                ctx = make(client, f.path);
                family_start(&f, &parent);
                ck_assert_int_eq(ctx_cancel(ctx), 1);
                family_end(&f);
                if (f.unrefs) {
                        kill(parent, SIGKILL);
                        ck_assert_int_eq(wait_child(parent), 128 + SIGKILL);
                }
                ctx_unref(ctx);
        }
        ctx_client_unref(client);
}
END_TEST

static struct ctx *create(struct ctx_client *client, const char *path)
{
        return ctx_create(client, path, NULL);
}

START_TEST(law_28_the_owners_children_hear_of_its_exit)
{
        for (size_t i = 0; i < N_WAITS; i++) {
                struct family f = {.get = create, .wait = waits[i], .asks = true};
                pid_t parent;

                strcpy(f.path, fresh_path());
                family_start(&f, &parent);
                family_end(&f);
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_25_what_the_parent_had_ends,
                        law_28_the_owners_children_hear_of_its_exit,
                        NULL,
        };

        return run_tests_with_daemon("shared-orphan", tests);
}
