/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* polkitd looks for actions, rules and users in fixed places. So the test moves into a mount namespace
 * where these places are its own and /run is empty. It neither reads nor changes anything of the machine. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "harness.h"

static const char rules[] =
                "polkit.addRule(function(action, subject) {\n"
                "        if (action.id.indexOf('org.ctxd1.') != 0)\n"
                "                return polkit.Result.NOT_HANDLED;\n"
                "        switch (subject.user) {\n"
                "        case 'ctxd-alice':\n"
                "                return polkit.Result.YES;\n"
                "        case 'ctxd-carol':\n"
                "                return polkit.Result.AUTH_ADMIN;\n"
                "        case 'ctxd-dave':\n"
                "                if (action.id == 'org.ctxd1.read')\n"
                "                        return polkit.Result.YES;\n"
                "                break;\n"
                "        case 'ctxd-erin':\n"
                "                if (action.id == 'org.ctxd1.create-first-label')\n"
                "                        return polkit.Result.YES;\n"
                "                break;\n"
                "        case 'ctxd-frank':\n"
                "                if (action.id == 'org.ctxd1.manage' && action.lookup('verb') == 'Cancel' "
                "&&\n"
                "                                action.lookup('context').indexOf('jobs/') == 0)\n"
                "                        return polkit.Result.YES;\n"
                "                break;\n"
                "        }\n"
                "        return polkit.Result.NO;\n"
                "});\n";

static const char users[] = "ctxd-alice:x:1001:1001::/:/bin/false\n"
                            "ctxd-bob:x:1002:1002::/:/bin/false\n"
                            "ctxd-carol:x:1003:1003::/:/bin/false\n"
                            "ctxd-dave:x:1004:1004::/:/bin/false\n"
                            "ctxd-erin:x:1005:1005::/:/bin/false\n"
                            "ctxd-frank:x:1006:1006::/:/bin/false\n"
                            "ctxd:x:990:990::/:/bin/false\n";

static const char *polkitd_program(void)
{
        static const char *const programs[] = {"/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd"};

        for (size_t i = 0; i < ELEMENTSOF(programs); i++)
                if (access(programs[i], X_OK) == 0)
                        return programs[i];
        return NULL;
}

/* Writes a new file with that text, followed by the contents of the other file. */
static void write_file(const char *path, const char *text, const char *other)
{
        FILE *out = fopen(path, "we"), *in = other ? fopen(other, "re") : NULL;
        char line[1024];

        if (!out || (other && !in))
                give_up(other ? other : path, errno);
        fputs(text, out);
        while (in && fgets(line, sizeof line, in))
                fputs(line, out);
        if (in)
                fclose(in);
        if (fclose(out) != 0)
                give_up(path, errno);
}

static void make_dir(const char *path)
{
        if (mkdir(path, 0755) < 0)
                give_up(path, errno);
}

static void put_over(const char *what, const char *path)
{
        if (mount(what, path, NULL, MS_BIND, NULL) < 0)
                give_up(path, errno);
}

/* Makes the variable name a copy of its program, in a place that every user can reach. The directory of the
 * build may be closed to them. */
static void use_copy(const char *variable, const char *path)
{
        const char *program = getenv(variable);
        _cleanup_close_ int in = -1, out = -1;
        ssize_t n;

        if (!program || !strchr(program, '/'))
                return; /* $PATH has it */
        in = open(program, O_RDONLY | O_CLOEXEC);
        out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
        if (in < 0 || out < 0)
                give_up(program, errno);
        while ((n = sendfile(out, in, NULL, 1 << 30)) > 0)
                ;
        if (n < 0)
                give_up(path, errno);
        setenv(variable, path, 1);
}

static bool skip(const char *why)
{
        printf("1..0 # SKIP %s\n", why);
        return false;
}

bool polkit_enter(void)
{
        /* polkitd watches those of /run/systemd. */
        static const char *const dirs[] = {"/run/ctxd", "/run/systemd", "/run/systemd/seats",
                        "/run/systemd/sessions", "/run/systemd/users", "/run/systemd/machines", "/run/test",
                        "/run/test/actions", "/run/test/rules", "/run/test/none"};

        if (getuid() != 0)
                return skip("only root can be several users");
        if (!polkitd_program() || access("/etc/polkit-1/rules.d", F_OK) < 0)
                return skip("polkitd is not installed");
        if (!bus_can_name_users())
                return skip("no mount namespace, in which polkitd would find the rules");

        umask(022);
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                        mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") < 0)
                give_up("mount namespace", errno);
        for (size_t i = 0; i < ELEMENTSOF(dirs); i++)
                make_dir(dirs[i]);
        if (chown("/run/ctxd", DAEMON, DAEMON) < 0)
                give_up("/run/ctxd", errno);
        write_file("/run/test/actions/org.ctxd1.policy", "", getenv("POLICY"));
        write_file("/run/test/rules/10-test.rules", rules, NULL);
        write_file("/run/test/passwd", users, "/etc/passwd");
        put_over("/run/test/actions", "/usr/share/polkit-1/actions");
        put_over("/run/test/rules", "/etc/polkit-1/rules.d");
        put_over("/run/test/none", "/usr/share/polkit-1/rules.d");
        put_over("/run/test/passwd", "/etc/passwd");
        use_copy("CTXD_PROGRAM", "/run/test/ctxd");
        use_copy("CTXCTL_PROGRAM", "/run/test/ctxctl");
        return true;
}

/* polkitd changes its uid, so the kernel does not tell it of the death of its parent. While it is stopped
 * it does not see either that the bus is gone. So it has a parent that ends with the test and kills it. */
static _Noreturn void keep_polkitd(pid_t parent, int tell)
{
        sigset_t signals, before;
        pid_t pid;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, &before);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
                _exit(1);
        pid = fork();
        if (pid == 0) {
                int null = open("/dev/null", O_RDWR | O_CLOEXEC);

                sigprocmask(SIG_SETMASK, &before, NULL);
                dup2(null, STDOUT_FILENO);
                dup2(null, STDERR_FILENO);
                setenv("DBUS_SYSTEM_BUS_ADDRESS", world.daemon.address, 1);
                execl(polkitd_program(), "polkitd", "--no-debug", (char *) NULL);
                _exit(127);
        }
        if (write(tell, &pid, sizeof pid) != sizeof pid)
                _exit(1);
        for (;;) {
                int signal;

                sigwait(&signals, &signal);
                if (signal == SIGTERM)
                        kill(pid, SIGKILL);
                if (waitpid(pid, NULL, signal == SIGTERM ? 0 : WNOHANG) == pid)
                        _exit(0);
        }
}

void polkitd_start(void)
{
        pid_t parent = getpid();
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                give_up("pipe", errno);
        world.polkitds_keeper = fork();
        if (world.polkitds_keeper < 0)
                give_up("fork", errno);
        if (world.polkitds_keeper == 0)
                keep_polkitd(parent, fds[1]);
        close(fds[1]);
        if (read(fds[0], &world.polkitd, sizeof world.polkitd) != sizeof world.polkitd)
                give_up("polkitd did not start", errno);
        close(fds[0]);
        bus_await_owner(&world.bus, "org.freedesktop.PolicyKit1");
}

void polkitd_stop(void)
{
        kill(world.polkitds_keeper, SIGTERM);
        waitpid(world.polkitds_keeper, NULL, 0);
        world.polkitd = world.polkitds_keeper = 0;
}

static bool all_stopped(void)
{
        char path[64], line[512];
        bool stopped = true;
        struct dirent *e;
        DIR *d;

        snprintf(path, sizeof path, "/proc/%d/task", world.polkitd);
        d = opendir(path);
        ck_assert_ptr_nonnull(d);
        while ((e = readdir(d))) {
                char stat[96 + sizeof e->d_name], *end;
                FILE *f;

                snprintf(stat, sizeof stat, "%s/%s/stat", path, e->d_name);
                f = e->d_name[0] == '.' ? NULL : fopen(stat, "re");
                if (!f)
                        continue;
                end = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
                stopped = stopped && end && end[2] == 'T';
                fclose(f);
        }
        closedir(d);
        return stopped;
}

void polkit_thinks(void)
{
        kill(world.polkitd, SIGSTOP);
        ck_assert_happens(all_stopped());
}

void polkit_answers(void)
{
        kill(world.polkitd, SIGCONT);
}

void start_without_polkit(void)
{
        world.daemon.system = true;
        world.uid = DAEMON;
        start_retaining();
}

void start_polkit(void)
{
        start_without_polkit();
        polkitd_start();
}
