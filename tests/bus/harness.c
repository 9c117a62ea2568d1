/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Starts and stops the bus and the daemon, and counts the daemon's descriptors around each test. */

#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "harness.h"

struct world world;
sd_bus *bus;

void world_choose(const char *name)
{
        static const char *const names[] = {"direct", "dbus-daemon", "dbus-broker"};

        for (size_t i = 0; name && i < ELEMENTSOF(names); i++) {
                char path[64];

                if (strcmp(name, names[i]) != 0)
                        continue;
                world.transport = (enum transport) i;
                snprintf(path, sizeof path, "/usr/bin/%s", name);
                if (i > 0 && access(path, X_OK) < 0) {
                        printf("1..0 # SKIP %s is not installed\n", name);
                        exit(0);
                }
                return;
        }
        fprintf(stderr, "one of direct, dbus-daemon, dbus-broker is wanted\n");
        exit(2);
}

/* Lets a system call fail as if the kernel did not know this option of a socket. */
static void hide_option(uint32_t call, uint32_t option)
{
        struct sock_filter filter[] = {
                        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
                        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, option, 0, 1),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const struct sock_fprog program = {.len = ELEMENTSOF(filter), .filter = filter};

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                _exit(125);
}

/* Runs in the child that becomes ctxd. */
static void prepare(const struct daemon *d)
{
        pid_t parent = getppid();

        if (world.table > 0 && setrlimit(RLIMIT_NOFILE, &(struct rlimit){world.table, world.table}) < 0)
                _exit(126);
        /* As its unit does it, but without the capability: the daemon is not root. */
        if (world.uid > 0) {
                if (setgroups(0, NULL) < 0 || setresgid(world.uid, world.uid, world.uid) < 0 ||
                                setresuid(world.uid, world.uid, world.uid) < 0)
                        _exit(1);
                tie_to_parent(parent);
        }
        if (world.no_pidfd)
                hide_option(SYS_getsockopt, 77); /* SO_PEERPIDFD */
        if (world.no_rights)
                hide_option(SYS_setsockopt, 83); /* SO_PASSRIGHTS */
}

/* The daemon makes some things once and keeps them. They are made before the descriptors are counted. */
static bool keeps_pages;

static void warm_up(void)
{
        /* A client that does not authenticate gets a time limit, for which the event loop needs a
         * descriptor. */
        int fd, silent = connect_socket();

        bus = connect_bus();
        OK(bus, "Create", "sa{sv}", "warm", 1, "timeout-usec", "t", UINT64_C(3600000000));
        close(silent);
        if (keeps_pages)
                OK(bus, "Page", "s", "warm");
        fd = done_handle(bus, "warm");
        close(fd);
        release_all();
        bus = sd_bus_flush_close_unref(bus);
}

void stop_daemon(void)
{
        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        ck_assert_happens(task_state(world.daemon.pid, world.daemon.pid) == 'T');
}

unsigned settled_fds(void)
{
        return daemon_settled_fds(&world.daemon, world.bus.pid);
}

void world_bus_start(void)
{
        bus_start(&world.bus, world.transport == TRANSPORT_DBUS_DAEMON ? "dbus-daemon" : "dbus-broker",
                        world.daemon.directory);
}

void world_prepare(const char *config, const char *probe)
{
        char text[512];

        signal(SIGPIPE, SIG_IGN);
        snprintf(text, sizeof text, "[Daemon]\nProbe=%s\n%s", probe ? "proc" : "off", config);
        daemon_configure(&world.daemon, text);
        if (world.uid > 0 && chown(world.daemon.directory, world.uid, world.uid) < 0)
                give_up(world.daemon.directory, errno);
        if (world.transport != TRANSPORT_DIRECT) {
                world_bus_start();
                world.daemon.bus = world.bus.address;
        }
        world.daemon.probe = probe;
        world.daemon.prepare = prepare;
}

void world_start(const char *config, const char *probe)
{
        world_prepare(config, probe);
        daemon_again(&world.daemon);
        warm_up();
        world.fds = settled_fds();
}

void start_plain(void)
{
        world_start("RetainSec=1s\n", NULL);
}

void start_retaining(void)
{
        /* The daemon keeps a page as long as one of its contexts. */
        keeps_pages = true;
        world_start("RetainSec=10min\n", NULL);
}

void world_stop(void)
{
        /* The daemon must end well. Sanitizers report through its exit status. */
        int status = daemon_stop(&world.daemon);

        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                fprintf(stderr, "harness: ctxd ended with status 0x%x\n", status);
                exit(1);
        }
        if (world.polkitd > 0)
                polkitd_stop();
        bus_stop(&world.bus);
        keeps_pages = world.no_pidfd = world.no_rights = false;
        world.table = world.uid = 0;
}

char *daemon_log(void)
{
        _cleanup_free_ char *text = NULL;
        char path[96];
        size_t size = 0;
        FILE *f;

        snprintf(path, sizeof path, "%s/log", world.daemon.directory);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        ck_assert_int_ge(getdelim(&text, &size, '\0', f), 0);
        fclose(f);
        return TAKE_PTR(text);
}

unsigned logged(const char *what)
{
        _cleanup_free_ char *log = daemon_log();
        char line[96];
        unsigned n = 0;

        snprintf(line, sizeof line, "reached the limit on %s:", what);
        for (const char *p = log; (p = strstr(p, line)); p++)
                n++;
        return n;
}

static void describe_fds(void)
{
        for (int fd = 0; fd < 200; fd++) {
                char path[64], target[256];
                ssize_t n;

                snprintf(path, sizeof path, "/proc/%d/fd/%d", world.daemon.pid, fd);
                n = readlink(path, target, sizeof target - 1);
                if (n > 0)
                        fprintf(stderr, "  %d %.*s\n", fd, (int) n, target);
        }
}

/* The number may be there for a moment on the way to another one. It has to stay. */
void expect_fds(unsigned expected)
{
        unsigned same = 0;
        bool stays = HAPPENS((same = daemon_fds(&world.daemon) == expected ? same + 1 : 0) >= 10);

        if (!stays)
                describe_fds();
        ck_assert(stays);
}

/* What is done may be forgotten meanwhile. */
static void release(const char *path)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;

        ck_assert_int_ge(sd_bus_message_new_method_call(bus, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                         CTXD_MANAGER_INTERFACE, "Release"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", path), 0);
        reply = send_call(bus, m, &error);
        ck_assert_msg(reply || strcmp(error.name, CTXD_ERROR_NO_SUCH_CONTEXT) == 0, "Release was refused: %s",
                        error.message);
}

void release_all(void)
{
        int truncated = 1;

        while (truncated) {
                _cleanup_message_ sd_bus_message *m = CALL(bus, "List", "ssu", "/", "", 0);
                const char *path;

                ck_assert_int_gt(sd_bus_message_enter_container(m, 'a', "(ststts)"), 0);
                while (sd_bus_message_read(m, "(ststts)", &path, NULL, NULL, NULL, NULL, NULL) > 0)
                        if (!strchr(path, '/'))
                                release(path);
                ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
                READ(m, "b", &truncated);
        }
}

void test_setup(void)
{
        kill(world.daemon.pid, SIGCONT);
        bus = connect_bus();
        release_all(); /* what a test that failed has left */
}

void test_teardown(void)
{
        ck_assert_int_eq(waitpid(world.daemon.pid, NULL, WNOHANG),
                        -1); /* no child of ours: so it is looked for */
        ck_assert_int_eq(kill(world.daemon.pid, 0), 0);
        release_all();
        bus = sd_bus_flush_close_unref(bus);
        expect_fds(world.fds);
}

void add_tests(Suite *s, const char *name, void (*start)(void), const TTest *const *tests)
{
        TCase *c = add_case(s, name, tests);

        tcase_add_unchecked_fixture(c, start, world_stop);
        tcase_add_checked_fixture(c, test_setup, test_teardown);
}
