/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A bus of the test's own that everybody may use, so that callers of several uids can be told apart by the
 * daemon alone. dbus-daemon is given a configuration; dbus-broker is driven as its launcher would, over a
 * socket pair. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "harness.h"

static _Noreturn void give_up(const char *what)
{
        fprintf(stderr, "bus: %s: %s\n", what, strerror(errno));
        exit(1);
}

/* In a new process: goes when the test goes. */
static void tie_to_parent(pid_t parent)
{
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(1);
}

/* dbus-daemon turns uids away that have no name. It is shown a list of users in which those of the tests have
 * one. */
static bool name_users(void)
{
        char path[96], line[512];
        FILE *in = fopen("/etc/passwd", "re"), *out;

        snprintf(path, sizeof path, "%s/passwd", world.dir);
        out = fopen(path, "we");
        if (!in || !out)
                return false;
        fputs("ctxd-alice:x:1001:1001::/:/bin/false\nctxd-bob:x:1002:1002::/:/bin/false\n"
              "ctxd-carol:x:1003:1003::/:/bin/false\n"
              "ctxd-system:x:999:999::/:/bin/false\n",
                        out);
        while (fgets(line, sizeof line, in))
                fputs(line, out);
        fclose(in);
        fclose(out);
        return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount(path, "/etc/passwd", NULL, MS_BIND, NULL) == 0;
}

bool bus_can_name_users(void)
{
        pid_t pid;
        int status;

        pid = fork();
        if (pid == 0)
                _exit(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0
                                                ? 0
                                                : 1);
        return waitpid(pid, &status, 0) == pid && status == 0;
}

static void start_dbus_daemon(void)
{
        char config[96], ready;
        pid_t parent = getpid();
        int fds[2];
        FILE *f;

        snprintf(config, sizeof config, "%s/bus.conf", world.dir);
        f = fopen(config, "we");
        if (!f)
                give_up(config);
        fprintf(f,
                        "<busconfig>\n"
                        "  <type>session</type>\n"
                        "  <listen>unix:path=%s</listen>\n"
                        "  <auth>EXTERNAL</auth>\n"
                        "  <policy context=\"default\">\n"
                        "    <allow user=\"*\"/>\n"
                        "    <allow own=\"*\"/>\n"
                        "    <allow send_destination=\"*\" eavesdrop=\"false\"/>\n"
                        "    <allow receive_sender=\"*\" eavesdrop=\"false\"/>\n"
                        "  </policy>\n"
                        "  <limit name=\"max_connections_per_user\">4096</limit>\n"
                        "  <limit name=\"max_completed_connections\">8192</limit>\n"
                        "  <limit name=\"max_replies_per_connection\">50000</limit>\n"
                        "</busconfig>\n",
                        world.bus_path);
        fclose(f);
        if (pipe(fds) < 0)
                give_up("pipe");
        world.bus_pid = fork();
        if (world.bus_pid < 0)
                give_up("fork");
        if (world.bus_pid == 0) {
                char config_argument[128], address_argument[32];

                tie_to_parent(parent);
                close(fds[0]);
                if (getuid() == 0)
                        name_users();
                snprintf(config_argument, sizeof config_argument, "--config-file=%s", config);
                snprintf(address_argument, sizeof address_argument, "--print-address=%d", fds[1]);
                execlp("dbus-daemon", "dbus-daemon", config_argument, "--nofork", "--nopidfile", "--nosyslog",
                                address_argument, (char *) NULL);
                _exit(127);
        }
        close(fds[1]);
        if (read(fds[0], &ready, 1) != 1)
                give_up("dbus-daemon did not start");
        close(fds[0]);
}

/* "Everybody may connect, own, send and receive", in the types that dbus-broker takes a policy in. */
#define BATCH "bta(btbs)a(btssssuutt)a(btssssuutt)"
#define POLICY "(a(u(" BATCH "))a(buu(" BATCH "))a(ss)bs)"

static int append_policy(sd_bus_message *m)
{
        const uint64_t first = 1, any = UINT64_MAX, none = 0;

        return sd_bus_message_append(m, "v", POLICY, 1, UINT32_MAX, /* every uid */
                        true, first, 1, true, first, true, "", 1, true, first, "", "", "", "", 0, 0, none,
                        any, 1, true, first, "", "", "", "", 0, 0, none, any,
                        0, /* nothing for ranges of ids */
                        0, /* nor for SELinux */
                        false, "session");
}

static int listen_at(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        strcpy(address.sun_path, path);
        if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof address) < 0 || chmod(path, 0666) < 0 ||
                        listen(fd, SOMAXCONN) < 0)
                give_up(path);
        return fd;
}

static void start_dbus_broker(void)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        pid_t parent = getpid();
        int pair[2], listener, r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                give_up("socketpair");
        world.bus_pid = fork();
        if (world.bus_pid < 0)
                give_up("fork");
        if (world.bus_pid == 0) {
                char fd[16];

                tie_to_parent(parent);
                fcntl(pair[1], F_SETFD, 0);
                snprintf(fd, sizeof fd, "%d", pair[1]);
                execlp("dbus-broker", "dbus-broker", "--controller", fd, "--machine-id",
                                "0123456789abcdef0123456789abcdef", "--max-matches", "1000000",
                                "--max-objects", "1000000", "--max-bytes", "1000000000", "--max-fds", "10000",
                                (char *) NULL);
                _exit(127);
        }
        close(pair[1]);
        listener = listen_at(world.bus_path);
        if ((r = sd_bus_new(&world.controller)) < 0 ||
                        (r = sd_bus_set_fd(world.controller, pair[0], pair[0])) < 0 ||
                        (r = sd_bus_start(world.controller)) < 0 ||
                        (r = sd_bus_message_new_method_call(world.controller, &m, NULL,
                                         "/org/bus1/DBus/Broker", "org.bus1.DBus.Broker", "AddListener")) <
                                        0 ||
                        (r = sd_bus_message_append(m, "oh", "/org/bus1/DBus/Listener/0", listener)) < 0 ||
                        (r = append_policy(m)) < 0 ||
                        (r = sd_bus_call(world.controller, m, 0, &error, NULL)) < 0) {
                fprintf(stderr, "bus: dbus-broker did not start: %s\n",
                                error.message ? error.message : strerror(-r));
                exit(1);
        }
        close(listener);
}

void bus_start(void)
{
        snprintf(world.bus_path, sizeof world.bus_path, "%s/session", world.dir);
        if (world.transport == TRANSPORT_DBUS_DAEMON)
                start_dbus_daemon();
        else
                start_dbus_broker();
        snprintf(world.address, sizeof world.address, "unix:path=%s", world.bus_path);
}

void bus_await_owner(const char *name)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        for (int i = 0; i < WIDE_SEC * 100; i++) {
                _cleanup_message_ sd_bus_message *m = NULL;
                int owned;

                if (sd_bus_call_method(b, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                    "org.freedesktop.DBus", "NameHasOwner", NULL, &m, "s", name) >= 0 &&
                                sd_bus_message_read(m, "b", &owned) > 0 && owned)
                        return;
                usleep(10000);
        }
        errno = ETIMEDOUT;
        give_up(name);
}

void bus_stop(void)
{
        if (world.bus_pid <= 0)
                return;
        world.controller = sd_bus_close_unref(world.controller);
        kill(world.bus_pid, SIGTERM);
        waitpid(world.bus_pid, NULL, 0);
        world.bus_pid = 0;
        unlink(world.bus_path);
}
