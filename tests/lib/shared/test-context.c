/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/lib/shared/daemon.h"

/* Shared contexts against a real daemon, from several processes. */

#define LONG_USEC UINT64_C(30000000)

static void assert_cause(struct ctx *ctx, int error, const char *message)
{
        const char *said = NULL;
        int number = -1;

        ck_assert_int_eq(ctx_cause(ctx, &number, &said), 1);
        ck_assert_int_eq(number, error);
        ck_assert_str_eq(said, message);
}

START_TEST(create_and_open)
{
        struct ctx_client *client = new_client();
        const char *path = fresh_path();
        struct ctx *ctx = make(client, path), *same, *by_id;
        char expected[128];

        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_int_eq(ctx_cause(ctx, NULL, NULL), 0);
        ck_assert_int_eq(ctx_deadline(ctx, NULL), 0);
        snprintf(expected, sizeof expected, "%s#", path);
        ck_assert(strncmp(ctx_path(ctx), expected, strlen(expected)) == 0);

        same = ctx_open(client, path);
        by_id = ctx_open(client, ctx_path(ctx));
        ck_assert(same && by_id);
        ck_assert_str_eq(ctx_path(same), ctx_path(ctx));
        ck_assert_str_eq(ctx_path(by_id), ctx_path(ctx));
        ck_assert_ptr_eq(ctx_open(client, "/"), ctx_background());
        ctx_unref(same);
        ctx_unref(by_id);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(made_up_label)
{
        struct ctx_client *client = new_client();
        struct ctx *parent = make(client, fresh_path()), *a, *b;
        char path[200];

        snprintf(path, sizeof path, "%.*s/", (int) strcspn(ctx_path(parent), "#"), ctx_path(parent));
        a = make(client, path);
        b = make(client, path);
        ck_assert_str_ne(ctx_path(a), ctx_path(b));
        ck_assert(strncmp(ctx_path(a), path, strlen(path)) == 0);
        ctx_unref(a);
        ctx_unref(b);
        ctx_unref(parent);
        ctx_client_unref(client);
}
END_TEST

struct waiter {
        const char *path;
        int ready; /* written before the wait */
        struct ctx *(*derive)(struct ctx *parent);
};

/* 0 if the wait ended as it should. */
static int open_and_wait(void *userdata)
{
        const struct waiter *w = userdata;
        struct ctx_client *client = new_client();
        struct ctx *shared = ctx_open(client, w->path), *ctx;
        int r;

        ck_assert_ptr_nonnull(shared);
        ctx = w->derive ? w->derive(shared) : ctx_ref(shared);
        ck_assert_int_eq(ctx_wait(ctx, 0), 0);
        ck_assert_int_eq(write(w->ready, "r", 1), 1);
        r = ctx_wait(ctx, LONG_USEC);
        if (r != -ECANCELED || ctx_err(ctx) != -ECANCELED || ctx_err(shared) != -ECANCELED)
                return 1;
        assert_cause(ctx, EPIPE, "client went away");
        assert_cause(shared, EPIPE, "client went away");
        ctx_unref(shared);
        ctx_unref(ctx);
        ctx_client_unref(client);
        return 0;
}

static void cancel_across(struct ctx *(*derive)(struct ctx *parent))
{
        struct waiter w = {.path = fresh_path(), .derive = derive};
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, w.path);
        int fds[2];
        char byte;
        pid_t pid;

        ck_assert_int_eq(pipe(fds), 0);
        w.ready = fds[1];
        pid = run_child(open_and_wait, &w);
        ck_assert_int_eq(read(fds[0], &byte, 1), 1);
        ck_assert_int_eq(ctx_cancel_cause(ctx, EPIPE, "client went away"), 1);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(wait_child(pid), 0);
        /* The first one has won. */
        ck_assert_int_eq(ctx_cancel_cause(ctx, EIO, "too late"), 0);
        assert_cause(ctx, EPIPE, "client went away");
        close(fds[0]);
        close(fds[1]);
        ctx_unref(ctx);
        ctx_client_unref(client);
}

START_TEST(cancel_in_another_process)
{
        cancel_across(NULL);
}
END_TEST

static struct ctx *derive_cancel(struct ctx *parent)
{
        return ctx_with_cancel(parent);
}

START_TEST(cancel_reaches_local_children_elsewhere)
{
        cancel_across(derive_cancel);
        cancel_across(ctx_readonly);
}
END_TEST

/* Only read, write and exit are left: what spins here makes no system call. */
static int spin_without_calls(void *userdata)
{
        struct waiter *w = userdata;
        struct ctx_client *client = new_client();
        struct ctx *ctx = ctx_open(client, w->path), *local = ctx_with_cancel(ctx);

        if (!ctx || !local || prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) < 0)
                return 2;
        if (write(w->ready, "r", 1) != 1)
                syscall(SYS_exit, 3);
        while (ctx_err(ctx) == 0)
                ;
        syscall(SYS_exit, ctx_err(ctx) == -ECANCELED && ctx_err(local) == -ECANCELED ? 0 : 4);
        return 5;
}

START_TEST(err_makes_no_system_call)
{
        struct waiter w = {.path = fresh_path()};
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, w.path);
        int fds[2];
        char byte;
        pid_t pid;

        ck_assert_int_eq(pipe(fds), 0);
        w.ready = fds[1];
        pid = run_child(spin_without_calls, &w);
        ck_assert_int_eq(read(fds[0], &byte, 1), 1);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(wait_child(pid), 0);
        assert_cause(ctx, ECANCELED, "context canceled");
        close(fds[0]);
        close(fds[1]);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(deadline_passes)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx_client *client = new_client();
        uint64_t before = boottime_usec(), deadline = 0;
        struct ctx *ctx, *local;

        options.timeout_usec = 200000;
        options.cause_error = EHOSTDOWN;
        options.cause_message = "the build took too long";
        ctx = ctx_create(client, fresh_path(), &options);
        ck_assert_ptr_nonnull(ctx);
        local = ctx_with_timeout(ctx, LONG_USEC);
        ck_assert_int_eq(ctx_deadline(ctx, &deadline), 1);
        ck_assert_uint_ge(deadline, before + 200000);
        ck_assert_int_eq(ctx_deadline(local, &before), 1);
        ck_assert_uint_eq(before, deadline);
        ck_assert_uint_le(ctx_remaining(ctx), 200000);

        ck_assert_int_eq(ctx_wait(ctx, LONG_USEC), -ETIMEDOUT);
        ck_assert_uint_ge(boottime_usec(), deadline);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        ck_assert_int_eq(ctx_err(local), -ETIMEDOUT);
        assert_cause(ctx, EHOSTDOWN, "the build took too long");
        assert_cause(local, EHOSTDOWN, "the build took too long");
        ck_assert_int_eq(ctx_cancel(ctx), 0);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(born_done)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx_client *client = new_client();
        const char *path = fresh_path();
        struct ctx *ctx, *child;
        char below[128];

        options.timeout_usec = 0;
        ctx = ctx_create(client, path, &options);
        ck_assert_ptr_nonnull(ctx);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        ck_assert(is_readable(ctx_done_fd(ctx)));
        snprintf(below, sizeof below, "%s/below", path);
        child = make(client, below);
        ck_assert_int_eq(ctx_err(child), -ETIMEDOUT);
        ctx_unref(child);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(values_are_inherited)
{
        const char *const values[] = {
                        "org.example.user=alice", "org.example.empty=", "org.example.eq=a=b", NULL};
        const char *const more[] = {"org.example.user=bob", NULL};
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx_client *client = new_client();
        const char *path = fresh_path();
        struct ctx *ctx, *child, *local, *cut;
        char below[128];

        options.values = values;
        ctx = ctx_create(client, path, &options);
        options.values = more;
        snprintf(below, sizeof below, "%s/below", path);
        child = ctx_create(client, below, &options);
        ck_assert(ctx && child);
        local = ctx_with_cancel(child);
        cut = ctx_without_cancel(local);
        ck_assert_str_eq(ctx_value_string(ctx, "org.example.user"), "alice");
        ck_assert_str_eq(ctx_value_string(ctx, "org.example.empty"), "");
        ck_assert_str_eq(ctx_value_string(child, "org.example.user"), "bob");
        ck_assert_str_eq(ctx_value_string(child, "org.example.eq"), "a=b");
        ck_assert_str_eq(ctx_value_string(local, "org.example.user"), "bob");
        ck_assert_str_eq(ctx_value_string(cut, "org.example.user"), "bob");
        ck_assert_ptr_null(ctx_value_string(child, "org.example.none"));
        ck_assert_int_eq(errno, 0);
        ck_assert_ptr_null(ctx_value_string(ctx_background(), "org.example.user"));
        ck_assert_ptr_null(ctx_path(local));
        ctx_unref(cut);
        ctx_unref(local);
        ctx_unref(child);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

static struct ctx *try_create(struct ctx_client *client, const char *path, const char *const *values)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;

        options.values = values;
        errno = 0;
        return ctx_create(client, path, &options);
}

static void *fail_elsewhere(void *userdata)
{
        struct ctx_client *client = userdata;

        ck_assert_str_eq(ctx_client_error(client), "");
        ck_assert_ptr_null(ctx_open(client, "another"));
        ck_assert_ptr_nonnull(strstr(ctx_client_error(client), "another"));
        return NULL;
}

START_TEST(errors_have_numbers_and_sentences)
{
        const char *const undotted[] = {"user=alice", NULL}, *const unassigned[] = {"org.example.user", NULL};
        struct ctx_client *client = new_client();
        const char *path = fresh_path();
        struct ctx *ctx = make(client, path);
        pthread_t thread;

        ck_assert_ptr_null(ctx_open(client, "absent"));
        ck_assert_int_eq(errno, ENOENT);
        ck_assert_ptr_nonnull(strstr(ctx_client_error(client), "absent"));
        pthread_create(&thread, NULL, fail_elsewhere, client);
        pthread_join(thread, NULL);
        ck_assert_ptr_nonnull(strstr(ctx_client_error(client), "absent"));

        ck_assert_ptr_null(try_create(client, path, NULL));
        ck_assert_int_eq(errno, EEXIST);
        ck_assert_ptr_null(try_create(client, "a//b", NULL));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_null(try_create(client, "\xff", NULL));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_null(try_create(client, fresh_path(), undotted));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_nonnull(strstr(ctx_client_error(client), "dot"));
        ck_assert_ptr_null(try_create(client, fresh_path(), unassigned));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_null(try_create(client, "not/there", NULL));
        ck_assert_int_eq(errno, ENOENT);
        ck_assert_ptr_null(ctx_create(NULL, path, NULL));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_null(ctx_client_new("unix:path=/nonexistent/ctxd"));
        ck_assert_int_eq(errno, ENOENT);
        ck_assert_int_eq(ctx_extend(ctx_background(), 1), -EINVAL);
        ck_assert_int_eq(ctx_release(NULL), -EINVAL);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(options_have_a_size)
{
        struct {
                struct ctx_create_options options;
                uint64_t later;
        } options = {CTX_CREATE_OPTIONS, 1};
        struct ctx_client *client = new_client();

        options.options.size = 8;
        ck_assert_ptr_null(ctx_create(client, fresh_path(), &options.options));
        ck_assert_int_eq(errno, EINVAL);
        options.options.size = sizeof options;
        ck_assert_ptr_null(ctx_create(client, fresh_path(), &options.options));
        ck_assert_int_eq(errno, E2BIG);
        options.options.size = sizeof options.options;
        options.options.flags = 1u << 31;
        ck_assert_ptr_null(ctx_create(client, fresh_path(), &options.options));
        ck_assert_int_eq(errno, EINVAL);
        ctx_client_unref(client);
}
END_TEST

START_TEST(an_old_one_never_means_the_new_one)
{
        struct ctx_client *client = new_client();
        const char *path = fresh_path();
        struct ctx *old = make(client, path), *new, *again;

        ck_assert_int_eq(ctx_release(old), 0);
        ck_assert_int_eq(ctx_err(old), -ECANCELED);
        new = make(client, path);
        ck_assert_str_ne(ctx_path(old), ctx_path(new));
        again = ctx_open(client, ctx_path(old));
        ck_assert_ptr_nonnull(again);
        ck_assert_int_eq(ctx_err(again), -ECANCELED);
        ck_assert_int_eq(ctx_cancel(old), 0);
        ck_assert_int_eq(ctx_cancel(again), 0);
        ck_assert_int_eq(ctx_err(new), 0);
        ctx_unref(again);
        again = ctx_open(client, path);
        ck_assert_str_eq(ctx_path(again), ctx_path(new));
        ctx_unref(again);
        ctx_unref(new);
        ctx_unref(old);
        ctx_client_unref(client);
}
END_TEST

/* Its slot of the page goes to others at once; a reader that has not looked meanwhile must not be fooled. */
START_TEST(a_forgotten_one_stays_done)
{
        struct daemon daemon = {};
        struct ctx *old, *keeper, *others[200];
        struct ctx_client *client;

        daemon_start(&daemon, "[Daemon]\nRetainSec=10ms\n");
        client = new_client();
        keeper = make(client, fresh_path()); /* or the page itself would go */
        for (int round = 0; round < 3; round++) {
                struct ctx *witness;
                char reference[200];

                old = make(client, fresh_path());
                witness = ctx_open(client, ctx_path(old));
                strcpy(reference, ctx_path(old));
                ck_assert_int_eq(ctx_release(old), 0);
                ctx_unref(old);
                for (int i = 0; (old = ctx_open(client, reference)) && i < 1000; i++) {
                        ctx_unref(old);
                        usleep(10000);
                }
                ck_assert_ptr_null(old);
                ck_assert_int_eq(errno, ENOENT);
                for (int i = 0; i < 200; i++)
                        others[i] = make(client, fresh_path());
                ck_assert_int_eq(ctx_err(witness), -ECANCELED);
                ck_assert_int_eq(ctx_cause(witness, NULL, NULL), 1);
                ck_assert_int_eq(ctx_cancel(witness), 0);
                for (int i = 0; i < 200; i++) {
                        ck_assert_int_eq(ctx_err(others[i]), 0);
                        ck_assert_int_eq(ctx_cancel(others[i]), 1);
                        ctx_unref(others[i]);
                }
                ctx_unref(witness);
        }
        ck_assert_int_eq(ctx_err(keeper), 0);
        ctx_unref(keeper);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

START_TEST(one_handle_for_a_process)
{
        struct ctx_client *client = new_client(), *second = new_client();
        struct ctx *first = make(client, fresh_path()), *a, *b, *c;
        unsigned here, there, with_one;
        const char *path;
        int fd;

        ck_assert_int_ge(ctx_done_fd(first), 0); /* the library's own descriptor */
        ctx_unref(first);
        here = count_fds(getpid());
        there = daemon_settled_fds(&the_daemon, 0);
        path = fresh_path();
        a = make(client, path);
        b = ctx_open(client, path);
        c = ctx_open(second, path);
        fd = ctx_done_fd(a);
        ck_assert_int_ge(fd, 0);
        with_one = daemon_settled_fds(&the_daemon, 0);
        ck_assert_int_eq(ctx_done_fd(b), fd);
        ck_assert_int_eq(ctx_done_fd(c), fd);
        ck_assert_int_eq(ctx_done_fd(a), fd);
        ck_assert_uint_eq(daemon_settled_fds(&the_daemon, 0), with_one);
        ck_assert_uint_eq(count_fds(getpid()), here + 1);
        /* Each gives its own up; the last one tells the daemon. */
        ctx_unref(a);
        ctx_unref(b);
        ck_assert(!is_readable(fd));
        ck_assert_int_eq(ctx_cancel(c), 1);
        ck_assert(is_readable(fd));
        ctx_unref(c);
        ck_assert_uint_eq(count_fds(getpid()), here);

        a = make(client, fresh_path());
        ck_assert_int_ge(ctx_done_fd(a), 0);
        with_one = daemon_settled_fds(&the_daemon, 0);
        ctx_unref(a);
        ck_assert_uint_lt(daemon_settled_fds(&the_daemon, 0), with_one);
        ck_assert_uint_le(daemon_settled_fds(&the_daemon, 0), there + 2); /* a page, a pidfd of ours */
        ctx_client_unref(second);
        ctx_client_unref(client);
}
END_TEST

START_TEST(local_child_is_told)
{
        struct ctx_client *client = new_client();
        struct ctx *shared = make(client, fresh_path()), *local = ctx_with_cancel(shared),
                   *deeper = ctx_with_cancel(local);
        struct ctx *sibling = ctx_with_cancel(shared);
        int fd = ctx_done_fd(deeper);
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ctx_cancel(sibling), 1);
        ck_assert_int_eq(ctx_err(shared), 0);
        ck_assert_int_eq(ctx_err(deeper), 0);
        ck_assert(!is_readable(fd));
        ck_assert_int_eq(ctx_cancel(shared), 1);
        ck_assert_int_eq(ctx_err(deeper), -ECANCELED);
        ck_assert_int_eq(poll(&pollfd, 1, 20000), 1);
        assert_cause(deeper, ECANCELED, "context canceled");
        ctx_unref(sibling);
        ctx_unref(deeper);
        ctx_unref(local);
        ctx_unref(shared);
        ctx_client_unref(client);
}
END_TEST

static void write_byte(void *userdata)
{
        int *fd = userdata;

        ck_assert_int_eq(write(*fd, "x", 1), 1);
}

static int cancel_it(void *userdata)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = ctx_open(client, userdata);

        return ctx && ctx_cancel(ctx) == 1 ? 0 : 1;
}

START_TEST(callback_runs_on_a_cancel_elsewhere)
{
        struct ctx_client *client = new_client();
        const char *path = fresh_path();
        struct ctx *shared = make(client, path), *local = ctx_with_cancel(shared);
        struct ctx_after *on_shared, *on_local;
        char bytes[2];
        int fds[2];

        ck_assert_int_eq(pipe(fds), 0);
        on_shared = ctx_after_func(shared, write_byte, &fds[1]);
        on_local = ctx_after_func(local, write_byte, &fds[1]);
        ck_assert(on_shared && on_local);
        ck_assert_int_eq(wait_child(run_child(cancel_it, (void *) path)), 0);
        ck_assert_int_eq(read(fds[0], bytes, 1), 1);
        ck_assert_int_eq(read(fds[0], bytes, 1), 1);
        ck_assert_int_eq(ctx_after_stop(on_local), 0);
        ctx_after_unref(on_shared);
        ctx_after_unref(on_local);
        ctx_unref(local);
        ctx_unref(shared);
        ctx_client_unref(client);
}
END_TEST

START_TEST(readonly_may_not)
{
        struct ctx_client *client = new_client();
        struct ctx *shared = make(client, fresh_path()), *view = ctx_readonly(shared);

        ck_assert_int_eq(ctx_cancel(view), -EPERM);
        ck_assert_int_eq(ctx_release(view), -EPERM);
        ck_assert_int_eq(ctx_extend(view, 1), -EPERM);
        ck_assert_str_eq(ctx_path(view), ctx_path(shared));
        ck_assert_int_eq(ctx_err(shared), 0);
        ctx_unref(view);
        ctx_unref(shared);
        ctx_client_unref(client);
}
END_TEST

struct owned {
        const char *path;
        uint32_t flags;
};

static int create_and_exit(void *userdata)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        const struct owned *o = userdata;

        options.flags = o->flags;
        return ctx_create(new_client(), o->path, &options) ? 0 : 1;
}

START_TEST(exit_of_the_creator_cancels)
{
        char bound[64], unbound[64];
        struct owned a = {.path = strcpy(bound, fresh_path())};
        struct owned b = {.path = strcpy(unbound, fresh_path()), .flags = CTX_CREATE_UNBOUND};
        struct ctx_client *client = new_client();
        struct ctx *ctx;

        ck_assert_int_eq(wait_child(run_child(create_and_exit, &a)), 0);
        ck_assert_int_eq(wait_child(run_child(create_and_exit, &b)), 0);
        ctx = ctx_open(client, bound);
        ck_assert_ptr_nonnull(ctx);
        ck_assert_int_eq(ctx_wait(ctx, LONG_USEC), -ECANCELED);
        ctx_unref(ctx);
        ctx = ctx_open(client, unbound);
        ck_assert_ptr_nonnull(ctx);
        ck_assert_int_eq(ctx_wait(ctx, 50000), 0);
        ck_assert_int_eq(ctx_release(ctx), 0);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(extend_moves_a_deadline)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx_client *client = new_client();
        uint64_t deadline, wanted;
        struct ctx *ctx;

        options.timeout_usec = LONG_USEC;
        ctx = ctx_create(client, fresh_path(), &options);
        ck_assert_int_eq(ctx_deadline(ctx, &deadline), 1);
        wanted = deadline + LONG_USEC;
        ck_assert_int_eq(ctx_extend(ctx, wanted), 0);
        ck_assert_int_eq(ctx_deadline(ctx, &deadline), 1);
        ck_assert_uint_eq(deadline, wanted);
        ck_assert_int_eq(ctx_extend(ctx, boottime_usec()), 0);
        ck_assert_int_eq(ctx_wait(ctx, LONG_USEC), -ETIMEDOUT);
        ck_assert_int_eq(ctx_extend(ctx, wanted), -EALREADY);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

/* Every slot of the descriptor table but the ones for output, at the instant of the cancel: the connection
 * too. */
START_TEST(state_outlives_the_connection)
{
        struct ctx_client *client = new_client();
        const char *path = fresh_path();
        struct ctx *ctx = make(client, path);
        pid_t pid;

        ck_assert_int_eq(ctx_err(ctx), 0);
        /* The child makes its own connection before ours is gone. */
        pid = run_child(cancel_it, (void *) path);
        for (int fd = 3; fd < 64; fd++) {
                char link[64], name[32];
                ssize_t n;

                snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
                n = readlink(name, link, sizeof link - 1);
                if (n > 7 && strncmp(link, "socket:", 7) == 0) {
                        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

                        dup3(null, fd, O_CLOEXEC);
                        close(null);
                }
        }
        ck_assert_int_eq(wait_child(pid), 0);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_cause(ctx, NULL, NULL), 1);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(reconnects_to_a_new_daemon)
{
        struct ctx_client *client;
        struct daemon daemon = {};
        struct ctx *ctx, *new;

        daemon_start(&daemon, NULL);
        client = new_client();
        ctx = make(client, "a");
        daemon_restart(&daemon);
        new = make(client, "b");
        ck_assert_int_eq(ctx_cancel(new), 1);
        ctx_unref(new);
        ctx_unref(ctx);
        daemon_stop(&daemon);
        ck_assert_ptr_null(ctx_open(client, "b"));
        ck_assert_int_ne(errno, 0);
        ck_assert_str_ne(ctx_client_error(client), "");
        ctx_client_unref(client);
}
END_TEST

static int cancel_by_path(void *userdata)
{
        struct ctx_client *client = ctx_client_new(NULL);
        struct ctx *ctx = ctx_open(client, userdata);

        return ctx_cancel(ctx) == 1 ? 0 : 1;
}

START_TEST(who_cancelled)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path()), *local = ctx_with_cancel(ctx),
                   *own = ctx_with_cancel(ctx);
        char path[128];
        const char *command = NULL;
        uid_t uid = 12345;
        pid_t pid, by = 0;

        snprintf(path, sizeof path, "%s", ctx_path(ctx));
        ck_assert_int_eq(ctx_canceled_by(ctx, &uid, &by, &command), 0);
        ck_assert_int_eq(ctx_cancel(own), 1);
        pid = run_child(cancel_by_path, path);
        ck_assert_int_eq(wait_child(pid), 0);
        ck_assert_int_eq(ctx_canceled_by(ctx, &uid, &by, &command), 1);
        ck_assert_uint_eq(uid, getuid());
        ck_assert_int_eq(by, pid);
        ck_assert_int_eq(strncmp(command, "test-shared", 11), 0);
        by = 0;
        ck_assert_int_eq(ctx_canceled_by(local, NULL, &by, NULL), 1);
        ck_assert_int_eq(by, pid);
        ck_assert_int_eq(ctx_canceled_by(own, &uid, &by, &command), 0);
        ck_assert_int_eq(ctx_canceled_by(ctx_background(), NULL, NULL, NULL), 0);
        ck_assert_int_eq(ctx_canceled_by(NULL, NULL, NULL, NULL), -EINVAL);
        ctx_unref(own);
        ctx_unref(local);
        ctx_unref(ctx);

        options.timeout_usec = 0;
        ctx = ctx_create(client, fresh_path(), &options);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        ck_assert_int_eq(ctx_canceled_by(ctx, &uid, &by, &command), 0);
        ctx_unref(ctx);

        /* Where the daemon has it no more, it is not another one's that is said. */
        ctx = make(client, "t-who");
        ck_assert_int_eq(ctx_release(ctx), 0);
        local = make(client, "t-who");
        ck_assert_int_eq(ctx_cancel(local), 1);
        ck_assert_int_eq(ctx_canceled_by(ctx, &uid, &by, &command), -ENOENT);
        ck_assert_int_eq(ctx_canceled_by(local, &uid, &by, &command), 1);
        ck_assert_int_eq(by, getpid());
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(how_far_the_daemon_sees)
{
        struct ctx_client *client = new_client();
        const char *backend = ctx_client_backend(client);

        ck_assert_ptr_nonnull(backend);
        ck_assert_msg(strcmp(backend, "bpf") == 0 || strcmp(backend, "cgroup") == 0 ||
                                        strcmp(backend, "direct") == 0,
                        "%s", backend);
        ck_assert(!ctx_client_backend(NULL) && errno == EINVAL);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        create_and_open,
                        made_up_label,
                        cancel_in_another_process,
                        cancel_reaches_local_children_elsewhere,
                        err_makes_no_system_call,
                        deadline_passes,
                        born_done,
                        values_are_inherited,
                        errors_have_numbers_and_sentences,
                        options_have_a_size,
                        an_old_one_never_means_the_new_one,
                        a_forgotten_one_stays_done,
                        one_handle_for_a_process,
                        local_child_is_told,
                        callback_runs_on_a_cancel_elsewhere,
                        readonly_may_not,
                        exit_of_the_creator_cancels,
                        extend_moves_a_deadline,
                        state_outlives_the_connection,
                        reconnects_to_a_new_daemon,
                        who_cancelled,
                        how_far_the_daemon_sees,
                        NULL,
        };

        return run_tests_with_daemon("shared-context", tests);
}
