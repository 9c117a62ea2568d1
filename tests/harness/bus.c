/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/harness/base.h"
#include "tests/harness/bus.h"

static bool own_mounts(void)
{
        return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* Gives the uids of the tests a name: dbus-daemon sees a list of users of its own. */
static void name_users(const char *bus_path)
{
        char path[128], line[512];
        FILE *in = fopen("/etc/passwd", "re"), *out;

        snprintf(path, sizeof path, "%s.passwd", bus_path);
        out = fopen(path, "we");
        if (!in || !out)
                return;
        fputs("ctxd-alice:x:1001:1001::/:/bin/false\nctxd-bob:x:1002:1002::/:/bin/false\n"
              "ctxd-carol:x:1003:1003::/:/bin/false\n"
              "ctxd-system:x:999:999::/:/bin/false\n",
                        out);
        while (fgets(line, sizeof line, in))
                fputs(line, out);
        fclose(in);
        fclose(out);
        if (own_mounts())
                (void) mount(path, "/etc/passwd", NULL, MS_BIND, NULL);
}

bool bus_can_name_users(void)
{
        pid_t pid = fork_tied();
        int status;

        if (pid == 0)
                _exit(own_mounts() ? 0 : 1);
        return waitpid(pid, &status, 0) == pid && status == 0;
}

static void start_dbus_daemon(struct private_bus *b)
{
        char config[128], config_argument[160], address_argument[32], ready;
        int fds[2];
        FILE *f;

        snprintf(config, sizeof config, "%s.conf", b->path);
        f = fopen(config, "we");
        if (!f)
                give_up(config, errno);
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
                        b->path);
        fclose(f);
        if (pipe(fds) < 0)
                give_up("pipe", errno);
        b->pid = fork_tied();
        if (b->pid == 0) {
                close(fds[0]);
                if (getuid() == 0)
                        name_users(b->path);
                snprintf(config_argument, sizeof config_argument, "--config-file=%s", config);
                snprintf(address_argument, sizeof address_argument, "--print-address=%d", fds[1]);
                execlp("dbus-daemon", "dbus-daemon", config_argument, "--nofork", "--nopidfile", "--nosyslog",
                                address_argument, (char *) NULL);
                _exit(127);
        }
        close(fds[1]);
        if (read(fds[0], &ready, 1) != 1)
                give_up("dbus-daemon did not start", errno);
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
                give_up(path, errno);
        return fd;
}

static void start_dbus_broker(struct private_bus *b)
{
        sd_bus_message *m = NULL;
        int pair[2], listener, r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                give_up("socketpair", errno);
        b->pid = fork_tied();
        if (b->pid == 0) {
                char fd[16];

                fcntl(pair[1], F_SETFD, 0);
                snprintf(fd, sizeof fd, "%d", pair[1]);
                execlp("dbus-broker", "dbus-broker", "--controller", fd, "--machine-id",
                                "0123456789abcdef0123456789abcdef", "--max-matches", "1000000",
                                "--max-objects", "1000000", "--max-bytes", "1000000000", "--max-fds", "10000",
                                (char *) NULL);
                _exit(127);
        }
        close(pair[1]);
        listener = listen_at(b->path);
        if ((r = sd_bus_new(&b->controller)) < 0 ||
                        (r = sd_bus_set_fd(b->controller, pair[0], pair[0])) < 0 ||
                        (r = sd_bus_start(b->controller)) < 0 ||
                        (r = sd_bus_message_new_method_call(b->controller, &m, NULL, "/org/bus1/DBus/Broker",
                                         "org.bus1.DBus.Broker", "AddListener")) < 0 ||
                        (r = sd_bus_message_append(m, "oh", "/org/bus1/DBus/Listener/0", listener)) < 0 ||
                        (r = append_policy(m)) < 0 ||
                        (r = sd_bus_call(b->controller, m, WIDE_SEC * UINT64_C(1000000), NULL, NULL)) < 0)
                give_up("dbus-broker did not start", -r);
        sd_bus_message_unref(m);
        close(listener);
}

void bus_start(struct private_bus *b, const char *program, const char *directory)
{
        snprintf(b->path, sizeof b->path, "%s/%s", directory, program);
        snprintf(b->address, sizeof b->address, "unix:path=%s", b->path);
        if (strcmp(program, "dbus-daemon") == 0)
                start_dbus_daemon(b);
        else
                start_dbus_broker(b);
}

void bus_stop(struct private_bus *b)
{
        if (b->pid <= 0)
                return;
        b->controller = sd_bus_close_unref(b->controller);
        kill(b->pid, SIGTERM);
        waitpid(b->pid, NULL, 0);
        b->pid = 0;
        unlink(b->path);
}

sd_bus *bus_connect(const char *address, bool is_bus)
{
        sd_bus *bus = NULL;
        int r;

        if ((r = sd_bus_new(&bus)) < 0 || (r = sd_bus_set_address(bus, address)) < 0 ||
                        (r = sd_bus_set_bus_client(bus, is_bus)) < 0 ||
                        (r = sd_bus_negotiate_fds(bus, 1)) < 0 || (r = sd_bus_start(bus)) < 0)
                give_up(address, -r);
        return bus;
}

static bool is_owned(sd_bus *bus, const char *name)
{
        return sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                               "org.freedesktop.DBus", "GetNameOwner", NULL, NULL, "s", name) >= 0;
}

void bus_await_owner(const struct private_bus *b, const char *name)
{
        sd_bus *bus = bus_connect(b->address, true);

        if (!HAPPENS(is_owned(bus, name)))
                give_up(name, ETIMEDOUT);
        sd_bus_flush_close_unref(bus);
}
