/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>

#include "tests/lib/shared/daemon.h"
#include "tests/lib/shared/keeping-daemon.h"

/* What ctx_create() and ctx_open() ask of the daemon, and what stays if they fail. */

static struct ctx_client *connect_kept(struct kept *kept)
{
        struct ctx_client *client = ctx_client_new(kept->address);

        ck_assert_msg(client, "%s", ctx_client_error(NULL));
        return client;
}

START_TEST(one_call_each)
{
        struct ctx_client *client;
        struct ctx *made, *opened;
        struct kept kept;
        pid_t pid;

        kept_init(&kept);
        pid = keeping_daemon_start(&kept, 1, true);
        client = connect_kept(&kept);
        made = make(client, "kept");
        ck_assert_uint_eq(kept.state->n_calls, 1);
        opened = ctx_open(client, "kept");
        ck_assert_ptr_nonnull(opened);
        ck_assert_uint_eq(kept.state->n_calls, 2);
        ck_assert_str_eq(ctx_path(opened), ctx_path(made));
        ck_assert_int_eq(ctx_err(made), 0);
        ck_assert_int_eq(ctx_err(opened), 0);
        ck_assert_uint_eq(kept.state->n_calls, 2); /* both have the page */
        keeping_daemon_kill(pid);
        ctx_unref(made);
        ctx_unref(opened);
        ctx_client_unref(client);
        kept_deinit(&kept);
}
END_TEST

START_TEST(what_has_no_page_is_taken_back)
{
        struct ctx_client *client;
        struct kept kept;
        pid_t pid;

        kept_init(&kept);
        kept.state->bad_page = true;
        pid = keeping_daemon_start(&kept, 1, true);
        client = connect_kept(&kept);
        ck_assert_ptr_null(ctx_create(client, "kept", NULL));
        ck_assert_int_eq(errno, EBADMSG);
        ck_assert_str_eq(ctx_client_error(client), "The daemon's state page cannot be read");
        ck_assert_uint_eq(kept.state->n_released, 1);

        /* But not what was there before. */
        kept.state->is_found = true;
        ck_assert_ptr_null(ctx_create(client, "kept", NULL));
        ck_assert_ptr_null(ctx_open(client, "kept"));
        ck_assert_uint_eq(kept.state->n_released, 1);
        keeping_daemon_kill(pid);
        ctx_client_unref(client);
        kept_deinit(&kept);
}
END_TEST

/* From now on there is no free descriptor. Returns the limit of before. */
static struct rlimit use_up_descriptors(void)
{
        struct rlimit before, none;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
        none = before;
        none.rlim_cur = (rlim_t) fcntl(0, F_DUPFD_CLOEXEC, 3);
        close((int) none.rlim_cur);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
        return before;
}

START_TEST(without_a_descriptor_nothing_is_made)
{
        struct ctx_client *client = new_client();
        char path[64], other[64];
        struct rlimit before;
        struct ctx *ctx;

        strcpy(path, fresh_path());
        strcpy(other, fresh_path());
        before = use_up_descriptors();
        ctx = ctx_create(client, path, NULL);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        ck_assert_ptr_null(ctx);
        ck_assert_int_eq(errno, EMFILE);
        ck_assert_str_ne(ctx_client_error(client), "");

        /* The connection is as good as before, and the name is free. */
        ck_assert_ptr_null(ctx_open(client, path));
        ck_assert_int_eq(errno, ENOENT);
        ctx = make(client, path);
        ctx_unref(ctx);

        /* Once there is a page, no descriptor is needed. */
        before = use_up_descriptors();
        ctx = ctx_create(client, other, NULL);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

/* More contexts than a page has slots, so that the library has to ask for another page. */
START_TEST(more_than_a_page)
{
        enum { N = 5000 };
        static struct ctx *ctx[N];
        struct ctx_client *client = new_client();
        struct ctx *parent = make(client, fresh_path());
        char path[128];

        for (int i = 0; i < N; i++) {
                snprintf(path, sizeof path, "%.*s/%d", (int) strcspn(ctx_path(parent), "#"), ctx_path(parent),
                                i);
                ctx[i] = make(client, path);
        }
        for (int i = 0; i < N; i++)
                ck_assert_int_eq(ctx_err(ctx[i]), 0);
        ck_assert_int_eq(ctx_cancel(ctx[N - 1]), 1);
        ck_assert_int_eq(ctx_err(ctx[N - 1]), -ECANCELED);
        ck_assert_int_eq(ctx_err(ctx[0]), 0);
        ck_assert_int_eq(ctx_cancel(parent), 1);
        for (int i = 0; i < N; i++) {
                ck_assert_int_eq(ctx_err(ctx[i]), -ECANCELED);
                ctx_unref(ctx[i]);
        }
        ctx_unref(parent);
        ctx_client_unref(client);
}
END_TEST

static struct ctx *make_with(struct ctx_client *client, const char *path, uint32_t flags)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;

        options.flags = flags;
        return ctx_create(client, path, &options);
}

static struct ctx *open_same(struct ctx_client *client, const char *path, struct ctx *same)
{
        struct ctx *ctx = ctx_open(client, path);

        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        ck_assert_str_eq(ctx_path(ctx), ctx_path(same));
        return ctx;
}

START_TEST(the_name_of_a_done_one_is_free)
{
        struct ctx_client *client = new_client();
        const char *path = fresh_path(), *message;
        struct ctx *old = make(client, path), *new, *opened;

        ck_assert_int_eq(ctx_cancel_cause(old, 0, "the old one"), 1);
        ck_assert_ptr_null(make_with(client, path, CTX_CREATE_OPEN));
        ck_assert_int_eq(errno, EALREADY);
        ctx_unref(open_same(client, path, old)); /* as long as nobody has taken the name */
        new = make(client, path);
        ck_assert_str_ne(ctx_path(new), ctx_path(old));
        ck_assert_int_eq(strncmp(ctx_path(new), path, strlen(path)), 0);
        ck_assert_int_eq(ctx_path(new)[strlen(path)], '#');
        ctx_unref(open_same(client, path, new));

        opened = open_same(client, ctx_path(old), old);
        ck_assert_int_eq(ctx_err(opened), -ECANCELED);
        ck_assert_int_eq(ctx_cause(opened, NULL, &message), 1);
        ck_assert_str_eq(message, "the old one");
        ck_assert_int_eq(ctx_cancel(opened), 0);
        ck_assert_int_eq(ctx_release(opened), 0);
        ck_assert_int_eq(ctx_err(new), 0);
        ctx_unref(opened);
        ctx_unref(old);

        /* With the flag a new one is made, whatever is done there; an active one is only opened. */
        opened = make_with(client, path, CTX_CREATE_OPEN | CTX_CREATE_REPLACE);
        ck_assert_str_eq(ctx_path(opened), ctx_path(new));
        ck_assert_int_eq(ctx_cancel(opened), 1);
        ctx_unref(opened);
        opened = make_with(client, path, CTX_CREATE_OPEN | CTX_CREATE_REPLACE);
        ck_assert_msg(opened, "%s", ctx_client_error(client));
        ck_assert_str_ne(ctx_path(opened), ctx_path(new));
        ck_assert_int_eq(ctx_err(opened), 0);
        ctx_unref(opened);
        ctx_unref(new);
        ctx_client_unref(client);
}
END_TEST

static int make_in_child(void *path)
{
        return make(new_client(), path) ? 0 : 1;
}

/* Whose owner has exited is done by itself, and may be opened anew. */
START_TEST(a_name_whose_owner_is_gone)
{
        struct ctx_client *client = new_client();
        char path[64];
        struct ctx *ctx, *old;

        strcpy(path, fresh_path());
        ck_assert_int_eq(wait_child(run_child(make_in_child, path)), 0);
        old = ctx_open(client, path);
        ck_assert_ptr_nonnull(old);
        ck_assert_int_eq(ctx_wait(old, UINT64_C(60000000)), -ECANCELED);
        ctx = make_with(client, path, CTX_CREATE_OPEN);
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_str_ne(ctx_path(ctx), ctx_path(old));
        ctx_unref(ctx);
        ctx_unref(old);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        one_call_each,
                        what_has_no_page_is_taken_back,
                        without_a_descriptor_nothing_is_made,
                        more_than_a_page,
                        the_name_of_a_done_one_is_free,
                        a_name_whose_owner_is_gone,
                        NULL,
        };

        return run_tests_with_daemon("shared-create", tests);
}
