/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What it takes to run a command that ends at once: `ctxctl run PATH -- true` beside `timeout 5 true`, whole
 * processes in turns, from the spawn to the exit. And what of that is the loading of ctxctl and its libraries,
 * beside `true`.
 *
 *     bench-start CTXD CTXCTL [ROUNDS] */

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include "tests/bench/common.h"

#define TARGET 1.3

extern char **environ;

static double run(posix_spawn_file_actions_t *actions, const char *const argv[])
{
        uint64_t begin = now_nsec();
        int status;
        pid_t pid;

        if (posix_spawnp(&pid, argv[0], actions, NULL, (char **) argv, environ) != 0 ||
                        waitpid(pid, &status, 0) != pid || status != 0)
                DIE(argv[0]);
        return (double) (now_nsec() - begin) / 1000;
}

int main(int argc, char *argv[])
{
        const char *program = argc > 1 ? argv[1] : "ctxd", *ctxctl = argc > 2 ? argv[2] : "ctxctl";
        const char *const commands[][6] = {
                        {ctxctl, "run", "job", "--", "true"},
                        {"timeout", "5", "true"},
                        {ctxctl, "--version"},
                        {"true"},
        };
        int rounds = argc > 3 ? atoi(argv[3]) : 500;
        posix_spawn_file_actions_t actions;
        double *usec[4];

        if (setenv("CTXD_ADDRESS", start_daemon(program, "", NULL), 1) < 0 ||
                        posix_spawn_file_actions_init(&actions) != 0 ||
                        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0) != 0)
                DIE("cannot begin");
        for (size_t i = 0; i < 4; i++)
                if (!(usec[i] = calloc((size_t) rounds, sizeof *usec[i])))
                        DIE("no memory");
        for (int n = 0; n < rounds; n++)
                for (size_t i = 0; i < 4; i++)
                        usec[i][n] = run(&actions, commands[i]);

        table("To start a command, us", "ctxctl", "beside");
        row("run job -- true; timeout 5 true", median(usec[0], (size_t) rounds),
                        median(usec[1], (size_t) rounds), TARGET, false);
        row("--version; true", median(usec[2], (size_t) rounds), median(usec[3], (size_t) rounds), 0, false);
        for (size_t i = 0; i < 4; i++)
                free(usec[i]);
        posix_spawn_file_actions_destroy(&actions);
        return 0;
}
