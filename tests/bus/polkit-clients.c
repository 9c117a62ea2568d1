/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* ctxctl and the library call on the direct socket first, and on the bus if polkit has to be asked. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "harness.h"
#include "lib/ctxclient.h"

struct command {
        const char *arguments[6];
        const char *address; /* $CTXD_ADDRESS, or NULL */
        int status;
        const char *says; /* on standard output or error */
};

static void be_a_client(const char *address)
{
        setenv("DBUS_SYSTEM_BUS_ADDRESS", world.daemon.address, 1);
        if (address)
                setenv("CTXD_ADDRESS", address, 1);
        else
                unsetenv("CTXD_ADDRESS");
}

/* Without a terminal, so that nobody is asked for a password. */
static void exec_ctxctl(const struct command *c, int output)
{
        const char *program = getenv("CTXCTL_PROGRAM"), *arguments[8] = {program};
        int null = open("/dev/null", O_RDONLY);

        for (size_t i = 0; c->arguments[i]; i++)
                arguments[i + 1] = c->arguments[i];
        be_a_client(c->address);
        dup2(null, STDIN_FILENO);
        dup2(output, STDOUT_FILENO);
        dup2(output, STDERR_FILENO);
        execv(program, (char **) arguments);
        _exit(99);
}

static void run_ctxctl(void *userdata)
{
        const struct command *c = userdata;
        char text[2048] = "";
        size_t length = 0;
        int fds[2], status;
        ssize_t n;
        pid_t pid;

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0)
                exec_ctxctl(c, fds[1]);
        close(fds[1]);
        while (length < sizeof text - 1 && (n = read(fds[0], text + length, sizeof text - 1 - length)) > 0)
                length += (size_t) n;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == c->status, "ctxctl %s: %x, not %d: %s",
                        c->arguments[0], status, c->status, text);
        ck_assert_msg(strstr(text, c->says) != NULL, "ctxctl %s: %s", c->arguments[0], text);
        close(fds[0]);
}

static void ctxctl_as(uid_t uid, struct command command)
{
        run_as(uid, run_ctxctl, &command);
}

START_TEST(ctxctl_asks_again)
{
        char on_bus[160];

        snprintf(on_bus, sizeof on_bus, "--address=%s", world.daemon.address);
        create(bus, "secret");
        create(bus, "secret/child");
        ctxctl_as(BOB, (struct command){{"cancel", "secret"}, NULL, 4, "no context secret"});
        ctxctl_as(BOB, (struct command){{"status", "secret"}, NULL, 4, "no context secret"});
        ctxctl_as(BOB, (struct command){{"create", "bobs"}, NULL, 5, "first labels"});
        ctxctl_as(CAROL, (struct command){{"cancel", "secret"}, NULL, 5, "authentication is required"});
        ctxctl_as(CAROL, (struct command){{"--no-ask-password", "cancel", "secret"}, NULL, 5,
                                         "authentication is required"});
        ctxctl_as(CAROL, (struct command){{on_bus, "cancel", "secret"}, NULL, 5,
                                         "authentication is required"});
        EXPECT_ACTIVE(bus, "secret");
        ctxctl_as(ALICE, (struct command){{"status", "secret/child"}, NULL, 0, "active"});
        ctxctl_as(ALICE, (struct command){{"tree", "secret"}, NULL, 0, "child"});
        ctxctl_as(ALICE, (struct command){{on_bus, "status", "secret"}, NULL, 0, "active"});
        ctxctl_as(ALICE, (struct command){{"status", "nowhere"}, NULL, 4, "no context nowhere"});
        ctxctl_as(ALICE, (struct command){{"create", "alices"}, "unix:path=" CTXD_SYSTEM_SOCKET, 0,
                                         "alices#"});
        ctxctl_as(ALICE, (struct command){{"--no-ask-password", "cancel", "--wait=1min", "secret", "no more"},
                                         NULL, 0, ""});
        EXPECT_ERR(bus, "secret", "context canceled", ECANCELED, ECANCELED, "no more");
}
END_TEST

static struct ctx_client *connect_client(void)
{
        struct ctx_client *client;

        be_a_client(NULL);
        client = ctx_client_new(NULL);
        ck_assert_ptr_nonnull(client);
        return client;
}

static void alice_opens(void *userdata)
{
        struct ctx_client *client = connect_client();
        struct ctx *ctx;

        ctx = ctx_open(client, "secret");
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_int_eq(ctx_cancel_cause(ctx, EPIPE, "polkit said so"), 1);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ctx_unref(ctx);
        errno = 0;
        ck_assert_ptr_null(ctx_open(client, "nowhere"));
        ck_assert_int_eq(errno, ENOENT);
        ctx = ctx_create(client, "alices", NULL);
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        ctx_unref(ctx);
        ctx_client_unref(client);
}

static void opens_in_vain(void *userdata)
{
        const int *error = userdata;
        struct ctx_client *client = connect_client();

        errno = 0;
        ck_assert_ptr_null(ctx_open(client, "secret"));
        ck_assert_int_eq(errno, *error);
        errno = 0;
        ck_assert_ptr_null(ctx_create(client, "mine", NULL));
        ck_assert_int_eq(errno, EACCES);
        ck_assert_uint_ge(strlen(ctx_client_error(client)), 10);
        ctx_client_unref(client);
}

START_TEST(the_library_asks_again)
{
        create(bus, "secret");
        run_as(BOB, opens_in_vain, &(int){ENOENT});
        run_as(CAROL, opens_in_vain, &(int){EACCES});
        EXPECT_ACTIVE(bus, "secret");
        run_as(ALICE, alice_opens, NULL);
        EXPECT_ERR(bus, "secret", "context canceled", ECANCELED, EPIPE, "polkit said so");
}
END_TEST

static void *cancel_secret(void *userdata)
{
        struct ctx *ctx = ctx_open(userdata, "secret");

        ck_assert_ptr_nonnull(ctx);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ctx_unref(ctx);
        return NULL;
}

/* Root lets polkit answer when the other thread has done its calls. */
static void alice_has_threads(void *userdata)
{
        const int *pipes = userdata;
        struct ctx_client *client = connect_client();
        struct ctx *own;
        pthread_t thread;

        ck_assert_int_eq(pthread_create(&thread, NULL, cancel_secret, client), 0);
        for (int i = 0; i < 20; i++) { /* whenever the other one asks */
                own = ctx_create(client, "~/", NULL);
                ck_assert_msg(own, "%s", ctx_client_error(client));
                ck_assert_int_eq(ctx_cancel(own), 1);
                ctx_unref(own);
                usleep(5000);
        }
        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ctx_client_unref(client);
}

static void be_alice(void *userdata)
{
        run_as(ALICE, alice_has_threads, userdata);
}

START_TEST(other_threads_go_on_while_polkit_thinks)
{
        int pipes[2];
        pid_t alice;
        char byte;

        create(bus, "secret");
        ck_assert_int_eq(pipe(pipes), 0);
        polkit_thinks();
        alice = spawn(be_alice, pipes);
        ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
        EXPECT_ACTIVE(bus, "secret");
        polkit_answers();
        wait_for(alice);
        ck_assert_int_eq(code_of(bus, "secret"), ECANCELED);
        close(pipes[0]);
        close(pipes[1]);
}
END_TEST

static void alice_warms_up(void *userdata)
{
        struct ctx_client *client = connect_client();
        struct ctx *ctx = ctx_create(client, "~", NULL);

        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        ck_assert_int_eq(ctx_release(ctx), 0);
        ctx_unref(ctx);
        ctx_client_unref(client);
}

/* The daemon makes something for the library's first call and keeps it, such as a user's state page. */
static void start_for_clients(void)
{
        start_polkit();
        run_as(ALICE, alice_warms_up, NULL);
        world.fds = settled_fds();
}

Suite *suite_polkit_clients(void)
{
        Suite *s = suite_create("polkit's clients");

        ADD_TESTS(s, "polkit's clients", start_for_clients, ctxctl_asks_again, the_library_asks_again,
                        other_threads_go_on_while_polkit_thinks);
        return s;
}
