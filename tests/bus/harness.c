/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Starting and stopping what is tested, and the descriptor count around each test. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "harness.h"

struct world world;
sd_bus *bus;

static _Noreturn void give_up(const char *what, int error)
{
        fprintf(stderr, "harness: %s: %s\n", what, strerror(error));
        exit(1);
}

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

/* READY=1 of the daemon, by which it also shows that it sends it. */
static void wait_until_ready(int notify)
{
        for (;;) {
                struct pollfd p = {.fd = notify, .events = POLLIN};
                char text[512];
                ssize_t n;

                for (int i = 0; poll(&p, 1, 100) == 0; i++)
                        if (waitpid(world.daemon, NULL, WNOHANG) != 0 || i >= WIDE_SEC * 10)
                                give_up("ctxd did not start", ETIMEDOUT);
                n = recv(notify, text, sizeof text - 1, 0);
                if (n < 0)
                        give_up("notification", errno);
                text[n] = '\0';
                if (strstr(text, "READY=1"))
                        return;
        }
}

static int listen_for_ready(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", world.dir);
        unlink(address.sun_path);
        if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof address) < 0 ||
                        chmod(address.sun_path, 0666) < 0)
                give_up("notification socket", errno);
        return fd;
}

/* getsockopt(SO_PEERPIDFD) fails as if it were not known. */
static void hide_peer_pidfds(void)
{
        struct sock_filter filter[] = {
                        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 0, 3),
                        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 77, 0, 1),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const struct sock_fprog program = {.len = ELEMENTSOF(filter), .filter = filter};

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                _exit(125);
}

static void exec_daemon(const char *config, const char *probe)
{
        const char *program = getenv("CTXD") ?: "ctxd";
        char config_argument[128], directory[96], probe_argument[512], text[192];
        const char *arguments[8] = {program, config_argument};
        pid_t parent = getppid();
        size_t n = 2;

        snprintf(config_argument, sizeof config_argument, "--config=%s", config);
        snprintf(directory, sizeof directory, "--embedded=%s/d", world.dir);
        if (world.transport == TRANSPORT_DIRECT)
                arguments[n++] = directory;
        else if (!world.system)
                arguments[n++] = "--user";
        if (probe) {
                snprintf(probe_argument, sizeof probe_argument, "--probe-program=%s", probe);
                arguments[n++] = probe_argument;
        }
        if (world.keep_log) {
                snprintf(text, sizeof text, "%s/log", world.dir);
                dup2(open(text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), STDERR_FILENO);
        }
        for (int fd = 3; fd < 100; fd++) /* check's */
                close(fd);
        if (world.table > 0 && setrlimit(RLIMIT_NOFILE, &(struct rlimit){world.table, world.table}) < 0)
                _exit(126);
        setenv("XDG_RUNTIME_DIR", world.dir, 1);
        setenv(world.system ? "DBUS_SYSTEM_BUS_ADDRESS" : "DBUS_SESSION_BUS_ADDRESS", world.address, 1);
        snprintf(text, sizeof text, "%s/notify", world.dir);
        setenv("NOTIFY_SOCKET", text, 1);
        unsetenv("WATCHDOG_USEC");
        if (world.system) { /* as its unit has it, but for the capability: no root */
                if (setgroups(0, NULL) < 0 || setresgid(DAEMON, DAEMON, DAEMON) < 0 ||
                                setresuid(DAEMON, DAEMON, DAEMON) < 0)
                        _exit(1);
                prctl(PR_SET_PDEATHSIG, SIGKILL); /* which the change of uid has taken away */
                if (getppid() != parent)
                        _exit(1);
        }
        if (world.no_pidfd)
                hide_peer_pidfds();
        execvp(program, (char **) arguments);
        _exit(127);
}

static void daemon_start(const char *config_text, const char *probe)
{
        char config[96];
        pid_t parent = getpid();
        int notify;
        FILE *f;

        snprintf(config, sizeof config, "%s/ctxd.conf", world.dir);
        f = fopen(config, "we");
        if (!f)
                give_up(config, errno);
        fprintf(f, "[Daemon]\nProbe=%s\n%s", probe ? "proc" : "off", config_text ? config_text : "");
        fclose(f);
        if (world.transport == TRANSPORT_DIRECT)
                snprintf(world.address, sizeof world.address, "unix:path=%s/d/bus", world.dir);

        notify = listen_for_ready();
        world.daemon = fork();
        if (world.daemon < 0)
                give_up("fork", errno);
        if (world.daemon == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != parent)
                        _exit(1);
                exec_daemon(config, probe);
        }
        wait_until_ready(notify);
        close(notify);
}

/* What is made once and kept is made before counting. */
static bool keeps_pages;

static void warm_up(void)
{
        /* One that does not authenticate for a while has a time limit, and the loop a descriptor for that
         * clock. */
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

/* It waits for something to do. Whoever has been given something is running, though he may not have a CPU yet. */
static bool sleeps(pid_t pid)
{
        char path[48], text[512];
        const char *end;
        size_t n;
        FILE *f;

        if (pid <= 0)
                return true;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        f = fopen(path, "re");
        n = f ? fread(text, 1, sizeof text - 1, f) : 0;
        text[n] = '\0';
        if (f)
                fclose(f);
        end = strrchr(text, ')');
        return end && end[1] == ' ' && end[2] == 'S';
}

/* The count, once it has stayed the same for a while in which neither the bus nor the daemon had anything to do. */
unsigned settled_fds(void)
{
        unsigned fds = daemon_fds();

        for (int i = 0, same = 0; i < WIDE_SEC * 100 && same < 20; i++) {
                unsigned now;

                usleep(10000);
                now = daemon_fds();
                same = now == fds && sleeps(world.bus_pid) && sleeps(world.daemon) ? same + 1 : 0;
                fds = now;
        }
        return fds;
}

void world_start(const char *config, const char *probe)
{
        signal(SIGPIPE, SIG_IGN);
        strcpy(world.dir, "/tmp/ctxd-bus-XXXXXX");
        if (!mkdtemp(world.dir) || chmod(world.dir, 0755) < 0)
                give_up(world.dir, errno);
        if (world.transport != TRANSPORT_DIRECT)
                bus_start();
        daemon_start(config, probe);
        warm_up();
        world.fds = settled_fds();
}

void start_plain(void)
{
        world_start("RetainSec=1s\n", NULL);
}

void start_retaining(void)
{
        keeps_pages = true; /* as long as one of the contexts that they were asked for */
        world_start("RetainSec=10min\n", NULL);
}

static void remove_dir(const char *path)
{
        DIR *d = opendir(path);
        struct dirent *e;

        if (!d)
                return;
        while ((e = readdir(d))) {
                char name[PATH_MAX];

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                snprintf(name, sizeof name, "%s/%s", path, e->d_name);
                if (unlink(name) < 0 && errno == EISDIR)
                        remove_dir(name);
        }
        closedir(d);
        rmdir(path);
}

void world_stop(void)
{
        int status;

        /* Where a test that failed has left it stopped. Not after SIGTERM: it would take away the stop that the
         * leak sanitizer asks for when the daemon ends, and that one would wait for ever. */
        kill(world.daemon, SIGCONT);
        /* This is how it is stopped: it has to end well, and sanitizers have their say. */
        kill(world.daemon, SIGTERM);
        if (waitpid(world.daemon, &status, 0) != world.daemon || !WIFEXITED(status) ||
                        WEXITSTATUS(status) != 0) {
                fprintf(stderr, "harness: ctxd ended with status 0x%x\n", status);
                exit(1);
        }
        world.daemon = 0;
        if (world.polkitd > 0)
                polkitd_stop();
        bus_stop();
        keeps_pages = world.keep_log = world.no_pidfd = false;
        world.table = 0;
        remove_dir(world.dir);
}

unsigned daemon_fds(void)
{
        char path[48];
        unsigned n = 0;
        DIR *d;

        snprintf(path, sizeof path, "/proc/%d/fd", world.daemon);
        d = opendir(path);
        if (!d)
                return 0;
        while (readdir(d))
                n++;
        closedir(d);
        return n - 2;
}

char *daemon_log(void)
{
        _cleanup_free_ char *text = NULL;
        char path[96];
        size_t size = 0;
        FILE *f;

        snprintf(path, sizeof path, "%s/log", world.dir);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        ck_assert_int_ge(getdelim(&text, &size, '\0', f), 0);
        fclose(f);
        return TAKE_PTR(text);
}

static void describe_fds(void)
{
        for (int fd = 0; fd < 200; fd++) {
                char path[64], target[256];
                ssize_t n;

                snprintf(path, sizeof path, "/proc/%d/fd/%d", world.daemon, fd);
                n = readlink(path, target, sizeof target - 1);
                if (n > 0)
                        fprintf(stderr, "  %d %.*s\n", fd, (int) n, target);
        }
}

/* It may pass that number on its way to another one: it has to stay there. */
void expect_fds(unsigned expected)
{
        unsigned fds = 0;

        for (int i = 0, same = 0; i < WIDE_SEC * 50 && same < 3; i++) {
                usleep(20000);
                fds = daemon_fds();
                same = fds == expected ? same + 1 : 0;
        }
        if (fds != expected)
                describe_fds();
        ck_assert_uint_eq(fds, expected);
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
                                OK(bus, "Release", "s", path);
                ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
                READ(m, "b", &truncated);
        }
}

void test_setup(void)
{
        kill(world.daemon, SIGCONT);
        bus = connect_bus();
        release_all(); /* what a test that failed has left */
}

void test_teardown(void)
{
        ck_assert_int_eq(
                        waitpid(world.daemon, NULL, WNOHANG), -1); /* no child of ours: so it is looked for */
        ck_assert_int_eq(kill(world.daemon, 0), 0);
        release_all();
        bus = sd_bus_flush_close_unref(bus);
        expect_fds(world.fds);
}

void add_tests(Suite *s, const char *name, void (*start)(void), const TTest *const *tests, size_t n)
{
        TCase *c = tcase_create(name);

        tcase_set_timeout(c, 120);
        tcase_add_unchecked_fixture(c, start, world_stop);
        tcase_add_checked_fixture(c, test_setup, test_teardown);
        for (size_t i = 0; i < n; i++)
                tcase_add_test(c, tests[i]);
        suite_add_tcase(s, c);
}

static void print_failures(SRunner *runner)
{
        TestResult **failures = srunner_failures(runner);

        for (int i = 0; i < srunner_ntests_failed(runner); i++)
                fprintf(stderr, "%s:%d: %s: %s\n", tr_lfile(failures[i]), tr_lno(failures[i]),
                                tr_tcname(failures[i]), tr_msg(failures[i]));
        free(failures);
}

int run_suites(Suite *const *suites, size_t n)
{
        SRunner *runner = srunner_create(suites[0]);
        int failed;

        for (size_t i = 1; i < n; i++)
                srunner_add_suite(runner, suites[i]);
        srunner_set_tap(runner, "-");
        srunner_run_all(runner, CK_SILENT);
        failed = srunner_ntests_failed(runner);
        /* What fails before the tests of a case is no test of its own in TAP. */
        if (srunner_ntests_run(runner) == 0 || failed)
                print_failures(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int open_pidfd(pid_t pid)
{
        int fd = (int) syscall(SYS_pidfd_open, pid, 0);

        ck_assert_int_ge(fd, 0);
        return fd;
}

pid_t spawn(void (*fn)(void *userdata), void *userdata)
{
        pid_t parent = getpid(), pid;
        sigset_t term, before;

        /* Check's handler for SIGTERM takes the whole group along: a child that is cancelled before it has
         * got rid of it must not run it. */
        sigemptyset(&term);
        sigaddset(&term, SIGTERM);
        sigaddset(&term, SIGINT);
        sigprocmask(SIG_BLOCK, &term, &before);
        pid = fork();
        if (pid != 0)
                sigprocmask(SIG_SETMASK, &before, NULL);
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != parent)
                        _exit(1);
                bus = NULL; /* the parent's */
                signal(SIGTERM, SIG_DFL);
                signal(SIGINT, SIG_DFL);
                sigprocmask(SIG_SETMASK, &before, NULL);
                fn(userdata);
                _exit(0);
        }
        return pid;
}

void wait_for(pid_t pid)
{
        int status;

        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                        "another process of the test failed: 0x%x", status);
}

struct other {
        uid_t uid;
        void (*fn)(void *userdata);
        void *userdata;
};

static void become(void *userdata)
{
        const struct other *o = userdata;

        ck_assert_int_eq(setgroups(0, NULL), 0);
        ck_assert_int_eq(setresgid(o->uid, o->uid, o->uid), 0);
        ck_assert_int_eq(setresuid(o->uid, o->uid, o->uid), 0);
        prctl(PR_SET_DUMPABLE, 1);
        o->fn(o->userdata);
}

void run_as(uid_t uid, void (*fn)(void *userdata), void *userdata)
{
        struct other o = {uid, fn, userdata};

        wait_for(spawn(become, &o));
}

static void sleep_for_ever(void *userdata)
{
        for (;;)
                pause();
}

pid_t sleeper(int *ret_pidfd)
{
        pid_t pid = spawn(sleep_for_ever, NULL);

        if (ret_pidfd)
                *ret_pidfd = open_pidfd(pid);
        return pid;
}

void end_process(pid_t pid)
{
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
}

uint64_t now_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}
