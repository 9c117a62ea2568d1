/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/lib/shared/daemon.h"

struct daemon the_daemon;

static bool answers(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

        strcpy(address.sun_path, path);
        r = connect(fd, (struct sockaddr *) &address, sizeof address);
        close(fd);
        return r == 0;
}

static void write_configuration(const struct daemon *daemon, const char *text)
{
        char path[128];
        FILE *f;

        snprintf(path, sizeof path, "%s/ctxd.conf", daemon->directory);
        f = fopen(path, "w");
        if (!f || fputs(text, f) < 0 || fclose(f) != 0)
                abort();
}

static void hand_over(int fd)
{
        char pid[16];

        snprintf(pid, sizeof pid, "%d", getpid());
        setenv("LISTEN_PID", pid, 1);
        setenv("LISTEN_FDS", "1", 1);
        setenv("LISTEN_FDNAMES", "bus", 1);
        if (fd == 3)
                fcntl(3, F_SETFD, 0);
        else
                dup2(fd, 3);
}

static void launch(struct daemon *daemon)
{
        char socket[100], embedded[128], config[128], output[128];
        const char *program = getenv("CTXD_PROGRAM");

        snprintf(socket, sizeof socket, "%s/bus", daemon->directory);
        snprintf(embedded, sizeof embedded, "--embedded=%s", daemon->directory);
        snprintf(config, sizeof config, "--config=%s/ctxd.conf", daemon->directory);
        snprintf(output, sizeof output, "%s/log", daemon->directory);
        snprintf(daemon->address, sizeof daemon->address, "unix:path=%s", socket);

        daemon->pid = fork();
        if (daemon->pid == 0) {
                int fd = open(output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

                prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is killed leaves nobody behind */
                dup2(fd, STDOUT_FILENO);
                dup2(fd, STDERR_FILENO);
                if (daemon->given > 0)
                        hand_over(daemon->given);
                execl(program, program, embedded, config, NULL);
                _exit(127);
        }
        for (int i = 0; !answers(socket); i++) {
                if (i == 6000 || waitpid(daemon->pid, NULL, WNOHANG) != 0) {
                        fprintf(stderr, "%s did not come up; see %s\n", program, output);
                        exit(1);
                }
                usleep(10000);
        }
}

void daemon_start(struct daemon *daemon, const char *configuration)
{
        strcpy(daemon->directory, "/tmp/ctxd-test-lib-XXXXXX");
        if (!getenv("CTXD_PROGRAM") || !mkdtemp(daemon->directory)) {
                printf("1..0 # SKIP there is no $CTXD_PROGRAM, or no directory for it\n");
                exit(77);
        }
        write_configuration(daemon, configuration ? configuration : "[Daemon]\n");
        launch(daemon);
        setenv("CTXD_ADDRESS", daemon->address, 1);
}

void daemon_kill(struct daemon *daemon)
{
        kill(daemon->pid, SIGKILL);
        waitpid(daemon->pid, NULL, 0);
}

void daemon_again(struct daemon *daemon)
{
        launch(daemon);
}

void daemon_restart(struct daemon *daemon)
{
        daemon_kill(daemon);
        daemon_again(daemon);
}

void daemon_stop(struct daemon *daemon)
{
        static const char *const files[] = {"bus", "ctxd.conf", "log", "probe"};
        char path[128];

        kill(daemon->pid, SIGTERM);
        waitpid(daemon->pid, NULL, 0);
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
                snprintf(path, sizeof path, "%s/%s", daemon->directory, files[i]);
                unlink(path);
        }
        rmdir(daemon->directory);
}

struct ctx_client *new_client(void)
{
        struct ctx_client *client = ctx_client_new(NULL);

        ck_assert_msg(client, "%s", ctx_client_error(NULL));
        return client;
}

const char *fresh_path(void)
{
        static char path[64];
        static unsigned n;

        snprintf(path, sizeof path, "t-%d-%u", getpid(), n++);
        return path;
}

struct ctx *make(struct ctx_client *client, const char *path)
{
        struct ctx *ctx = ctx_create(client, path, NULL);

        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        return ctx;
}

uint64_t boottime_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

bool is_readable(int fd)
{
        return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

unsigned count_fds(pid_t pid)
{
        char path[64];
        unsigned n = 0;
        DIR *dir;

        snprintf(path, sizeof path, "/proc/%d/fd", pid);
        dir = opendir(path);
        ck_assert_ptr_nonnull(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

unsigned count_threads(void)
{
        DIR *dir = opendir("/proc/self/task");
        const struct dirent *entry;
        unsigned n = 0;

        ck_assert_ptr_nonnull(dir);
        while ((entry = readdir(dir)))
                n += entry->d_name[0] != '.';
        closedir(dir);
        return n;
}

static char task_state(pid_t pid, pid_t tid)
{
        char path[96], text[512] = "";
        const char *end;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
        f = fopen(path, "re");
        if (f) {
                (void) !fread(text, 1, sizeof text - 1, f);
                fclose(f);
        }
        end = strrchr(text, ')');
        return end && end[1] == ' ' ? end[2] : 'X';
}

static bool others_sleep(pid_t pid, pid_t self)
{
        bool all = true;
        char path[64];
        const struct dirent *entry;
        DIR *dir;

        snprintf(path, sizeof path, "/proc/%d/task", pid);
        dir = opendir(path);
        ck_assert_ptr_nonnull(dir);
        while ((entry = readdir(dir))) {
                pid_t tid = atoi(entry->d_name);

                if (tid > 0 && tid != self)
                        all = all && task_state(pid, tid) == 'S';
        }
        closedir(dir);
        return all;
}

unsigned settled_fds(pid_t pid)
{
        unsigned fds = count_fds(pid);

        for (unsigned i = 0, same = 0; i < 6000 && same < 10; i++) {
                unsigned now;

                usleep(10000);
                now = count_fds(pid);
                same = now == fds && others_sleep(pid, 0) ? same + 1 : 0;
                fds = now;
        }
        return fds;
}

void wait_for_other_threads(void)
{
        for (unsigned i = 0, same = 0; i < 6000 && same < 10; i++) {
                usleep(10000);
                same = others_sleep(getpid(), gettid()) ? same + 1 : 0;
        }
}

pid_t run_child(int (*fn)(void *userdata), void *userdata)
{
        pid_t pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid == 0)
                _exit(fn(userdata));
        return pid;
}

int wait_child(pid_t pid)
{
        int status;

        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

const char *the_configuration;

static void start(void)
{
        daemon_start(&the_daemon, the_configuration);
}

static void stop(void)
{
        daemon_stop(&the_daemon);
}

int run_tests(const char *name, const TTest *const *tests)
{
        Suite *suite = suite_create(name);
        TCase *tcase = tcase_create(name);
        SRunner *runner;
        int failed;

        setvbuf(stdout, NULL, _IOLBF, 0);
        tcase_set_timeout(tcase, 60);
        tcase_add_unchecked_fixture(tcase, start, stop);
        for (; *tests; tests++)
                tcase_add_test(tcase, *tests);
        suite_add_tcase(suite, tcase);
        runner = srunner_create(suite);
        srunner_set_tap(runner, "-");
        srunner_run_all(runner, CK_SILENT);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? 1 : 0;
}
