/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/lib/shared/daemon.h"

/* Where the library looks for its daemon, and what it says where there is none. The order of the real places,
 * and the real bus, are tests/e2e's. */

#define SYSTEM_SOCKET "/run/ctxd/bus"

static void is_reached_at(struct ctx_client *client, const char *address)
{
        ck_assert_msg(client, "%s", ctx_client_error(NULL));
        ck_assert_str_eq(ctx_client_address(client), address);
        ctx_client_unref(client);
}

/* errno (0: any), and the sentence. */
static void is_not_reached(struct ctx_client *client, int error, const char *const *sayings)
{
        ck_assert_ptr_null(client);
        ck_assert_int_eq(error ? errno : 0, error);
        for (; *sayings; sayings++)
                ck_assert_msg(strstr(ctx_client_error(NULL), *sayings), "\"%s\" is not in \"%s\"", *sayings,
                                ctx_client_error(NULL));
}

START_TEST(what_is_named_is_where)
{
        struct daemon other = {};

        daemon_start(&other, NULL); /* sets $CTXD_ADDRESS */
        is_reached_at(ctx_client_new(NULL), other.address);
        is_reached_at(ctx_client_new(the_daemon.address), the_daemon.address);
        daemon_stop(&other);
        is_not_reached(ctx_client_new(NULL), ENOENT,
                        (const char *[]){"Cannot reach ctxd at ", other.address, "No such file", NULL});
        is_not_reached(ctx_client_new("nonsense"), 0,
                        (const char *[]){"Cannot reach ctxd at nonsense", NULL});
        ck_assert_ptr_null(ctx_client_address(NULL));
}
END_TEST

static bool leads_to_daemon(int fd)
{
        struct ucred cred;
        socklen_t length = sizeof cred;

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) >= 0 && cred.pid == the_daemon.pid;
}

/* How many sockets of this process lead to the daemon: that of sd-bus, and a line (lib/remote/line.c). */
static int n_connections(void)
{
        int n = 0;

        for (int fd = 0; fd < 64; fd++)
                n += leads_to_daemon(fd);
        return n;
}

/* Whatever the address looks like: both connections lead there. */
START_TEST(addresses_of_all_kinds)
{
        const char *path = the_daemon.address + strlen("unix:path=");
        char addresses[4][256];

        snprintf(addresses[0], sizeof *addresses, "unix:runtime=yes,path=%s", path);
        snprintf(addresses[1], sizeof *addresses, "unix:path=/there-is-none;unix:path=%s", path);
        snprintf(addresses[2], sizeof *addresses, "unix:abstract=there-is-none;unix:path=%s;unix:path=/none",
                        path);
        snprintf(addresses[3], sizeof *addresses, "unix:path=%%2%c%s", 'f', path + 1);
        for (int i = 0; i < 4; i++) {
                int before = n_connections();
                struct ctx_client *client = ctx_client_new(addresses[i]);

                ck_assert_msg(client, "%s: %s", addresses[i], ctx_client_error(NULL));
                ck_assert_msg(n_connections() == before + 2, "%s: %d", addresses[i],
                                n_connections() - before);
                ctx_client_unref(client);
        }
}
END_TEST

/* A socket that nobody listens at, and one that is not for us. */
START_TEST(a_socket_that_refuses)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char directory[] = "/tmp/ctxd-test-lib-XXXXXX", at[128];
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(address.sun_path, sizeof address.sun_path, "%s/bus", directory);
        snprintf(at, sizeof at, "unix:path=%s", address.sun_path);
        ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, sizeof address), 0);
        is_not_reached(ctx_client_new(at), ECONNREFUSED, (const char *[]){at, "Connection refused", NULL});
        if (getuid() == 0) {
                pid_t pid;

                ck_assert_int_eq(listen(fd, 1), 0);
                ck_assert_int_eq(chmod(directory, 0755), 0);
                ck_assert_int_eq(chmod(address.sun_path, 0600), 0);
                pid = fork();
                if (pid == 0) {
                        if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
                                _exit(1);
                        is_not_reached(ctx_client_new(at), EACCES,
                                        (const char *[]){at, "Permission denied", NULL});
                        _exit(0);
                }
                ck_assert_int_eq(wait_child(pid), 0);
        }
        close(fd);
        unlink(address.sun_path);
        rmdir(directory);
}
END_TEST

static int fillers[8192];
static unsigned n_fillers;

/* As many connections as the kernel lets wait for a daemon that is stopped. */
static void fill_queue(void)
{
        const char *path = the_daemon.address + strlen("unix:path=");
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct rlimit limit;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = limit.rlim_max;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        ck_assert_uint_lt(strlen(path), sizeof address.sun_path);
        memcpy(address.sun_path, path, strlen(path));
        daemon_freeze();
        for (n_fillers = 0; n_fillers < sizeof fillers / sizeof *fillers; n_fillers++) {
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

                ck_assert_int_ge(fd, 0);
                fillers[n_fillers] = fd;
                if (connect(fd, (struct sockaddr *) &address, sizeof address) < 0) {
                        ck_assert_int_eq(errno, EAGAIN);
                        close(fd);
                        return;
                }
        }
        ck_abort_msg("the queue has no end");
}

static void *thaw_soon(void *userdata)
{
        nap(200000);
        daemon_thaw();
        return NULL;
}

/* The queue is full, and then it is not. */
static void while_full(void (*fn)(void))
{
        pthread_t thread;

        fill_queue();
        ck_assert_int_eq(pthread_create(&thread, NULL, thaw_soon, NULL), 0);
        fn();
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        while (n_fillers > 0)
                close(fillers[--n_fillers]);
}

static void reach(void)
{
        is_reached_at(ctx_client_new(the_daemon.address), the_daemon.address);
}

START_TEST(a_queue_that_is_full_is_tried_again)
{
        while_full(reach);
}
END_TEST

/* The line is opened after the connection of sd-bus. */
static void end_line(void)
{
        int fd = 63;

        while (fd > 0 && !leads_to_daemon(fd))
                fd--;
        ck_assert_int_eq(shutdown(fd, SHUT_RDWR), 0);
}

static struct ctx *target;

static void cancel_target(void)
{
        ck_assert_int_eq(cancel_in_handler(target), 1);
}

/* A handler asks by a line, and the one that there was has ended. */
static bool another_line_is_opened(void)
{
        struct ctx_client *client = new_client();
        int before = n_connections();
        bool is_opened;

        target = make(client, fresh_path());
        end_line();
        while_full(cancel_target);
        is_opened = n_connections() == before;
        ctx_unref(target);
        ctx_client_unref(client);
        return is_opened;
}

/* Sometimes, on a slow machine, the queue is full for longer than an answer is awaited. */
START_TEST(a_line_tries_a_full_queue_again)
{
        ck_assert_happens(another_line_is_opened());
}
END_TEST

START_TEST(ctxctl_tries_a_full_queue_again)
{
        pid_t pid;

        fill_queue();
        pid = fork();
        if (pid == 0) {
                (void) dup2(STDERR_FILENO, STDOUT_FILENO); /* which is for the results of tests */
                execl(getenv("CTXCTL_PROGRAM"), "ctxctl", "tree", NULL);
                _exit(127);
        }
        nap(200000);
        ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
        daemon_thaw();
        ck_assert_int_eq(wait_child(pid), 0);
        while (n_fillers > 0)
                close(fillers[--n_fillers]);
}
END_TEST

/* Without a name: the system's socket, then the system's bus, which a variable can name. */
START_TEST(from_the_socket_to_the_bus)
{
        struct daemon bus = {};

        if (access(SYSTEM_SOCKET, F_OK) == 0)
                return; /* this machine has a ctxd of its own, which is not to be bothered */
        daemon_start(&bus, NULL);
        ck_assert_int_eq(unsetenv("CTXD_ADDRESS"), 0);
        ck_assert_int_eq(setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address, 1), 0);
        is_reached_at(ctx_client_new(NULL), bus.address);
        daemon_stop(&bus);
        is_not_reached(ctx_client_new(NULL), ENOENT,
                        (const char *[]){"at unix:path=" SYSTEM_SOCKET ": No such file",
                                        "; nor at the system bus: ", NULL});
}
END_TEST

/* A client that has found the one looks for both again. */
START_TEST(again_after_it_was_lost)
{
        struct ctx_client *client;
        struct daemon bus = {};
        struct ctx *ctx;

        if (access(SYSTEM_SOCKET, F_OK) == 0)
                return;
        daemon_start(&bus, NULL);
        ck_assert_int_eq(unsetenv("CTXD_ADDRESS"), 0);
        ck_assert_int_eq(setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address, 1), 0);
        client = ctx_client_new(NULL);
        ck_assert_msg(client, "%s", ctx_client_error(NULL));
        ctx = make(client, "a");
        daemon_kill(&bus);
        ck_assert_ptr_null(ctx_create(client, "b", NULL));
        ck_assert_int_eq(errno, ECONNREFUSED);
        ck_assert_ptr_nonnull(strstr(ctx_client_error(client), "; nor at the system bus: "));
        ck_assert_ptr_null(ctx_client_address(client));
        daemon_again(&bus);
        ck_assert_int_eq(ctx_wait(ctx, UINT64_MAX), -ECANCELED);
        ck_assert_str_eq(ctx_client_address(client), bus.address);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&bus);
}
END_TEST

static int in_a_child(void *userdata)
{
        return ctx_client_address(userdata) ? 1 : 0;
}

START_TEST(a_child_has_no_connection)
{
        struct ctx_client *client = new_client();

        ck_assert_int_eq(wait_child(run_child(in_a_child, client)), 0);
        is_reached_at(client, the_daemon.address);
}
END_TEST

/* What it prints, run by another user. */
static void from_env(const char *program, char *line, size_t size)
{
        char command[256];
        FILE *f;

        snprintf(command, sizeof command, "setpriv --reuid=65534 --regid=65534 --clear-groups %s", program);
        f = popen(command, "re");
        ck_assert_ptr_nonnull(f);
        ck_assert_ptr_nonnull(fgets(line, (int) size, f));
        line[strcspn(line, "\n")] = '\0';
        ck_assert_int_eq(pclose(f), 0);
}

static int from_env_in_a_child(void *unused)
{
        alarm(60);
        return ctx_from_env() ? 1 : 0;
}

/* Such an address makes sd-bus fork while the library connects. */
START_TEST(an_address_that_is_a_program)
{
        setenv("CTXD_CONTEXT", "/nowhere", 1);
        setenv("CTXD_ADDRESS", "unixexec:path=/bin/false", 1);
        ck_assert_int_eq(wait_child(run_child(from_env_in_a_child, NULL)), 0);
}
END_TEST

static bool is_nosuid(const char *path)
{
        struct statvfs st;

        return statvfs(path, &st) < 0 || st.f_flag & ST_NOSUID;
}

/* Whoever starts a setuid program does not say what it works for, nor whom it asks. */
START_TEST(a_setuid_program_is_not_told)
{
        const char *program = getenv("FROM_ENV_PROGRAM");
        char directory[] = "/tmp/ctxd-test-lib-XXXXXX", copy[64], command[512], line[1200];
        struct ctx_client *client = new_client();
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx *ctx;

#ifdef __SANITIZE_ADDRESS__
        program = NULL; /* its runtime does not take to it */
#endif
        if (getuid() != 0 || !program || is_nosuid("/tmp")) {
                ctx_client_unref(client);
                return;
        }
        options.mode = 0755;
        ctx = ctx_create(client, fresh_path(), &options);
        ck_assert_ptr_nonnull(ctx);
        ck_assert_int_eq(chmod(the_daemon.directory, 0711), 0);
        ck_assert_ptr_nonnull(mkdtemp(directory));
        ck_assert_int_eq(chmod(directory, 0755), 0);
        snprintf(copy, sizeof copy, "%s/from-env", directory);
        snprintf(command, sizeof command, "cp %s %s && chmod 755 %s", program, copy, copy);
        ck_assert_int_eq(system(command), 0);
        setenv("CTXD_CONTEXT", ctx_path(ctx), 1);
        from_env(copy, line, sizeof line);
        ck_assert_str_eq(line, ctx_path(ctx));
        ck_assert_int_eq(chmod(copy, 04755), 0);
        from_env(copy, line, sizeof line);
        ck_assert_str_eq(line, "background");
        unlink(copy);
        rmdir(directory);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        what_is_named_is_where,
                        addresses_of_all_kinds,
                        a_socket_that_refuses,
                        a_queue_that_is_full_is_tried_again,
                        a_line_tries_a_full_queue_again,
                        ctxctl_tries_a_full_queue_again,
                        from_the_socket_to_the_bus,
                        again_after_it_was_lost,
                        a_child_has_no_connection,
                        an_address_that_is_a_program,
                        a_setuid_program_is_not_told,
                        NULL,
        };

        return run_tests_with_daemon("shared-reach", tests);
}
