/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How long ctxctl run PATH -- true takes as a whole, beside timeout 5 true, which does the least that such
 * a program can do. They take turns. timeout beside itself says how large the noise is. What it takes to load
 * ctxctl alone, and to run a program that does nothing, says where the time goes.
 *
 *     CTXCTL_PROGRAM=... bench-command CTXD [ROUNDS]  */

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/common.h"
#include "util/cleanup.h"

#define ROUNDS_MAX 5000

/* While the second one runs, ctxd does what is left to do after the first. */
enum kind { KIND_RUN, KIND_LOAD, KIND_TIMEOUT, KIND_TIMEOUT_AGAIN, KIND_TRUE, KINDS };

static char *const commands[KINDS][8] = {
                [KIND_RUN] = {"ctxctl", "run", "bench", "--", "true", NULL},
                [KIND_TIMEOUT] = {"timeout", "5", "true", NULL},
                [KIND_TIMEOUT_AGAIN] = {"timeout", "5", "true", NULL},
                [KIND_LOAD] = {"ctxctl", "--version", NULL},
                [KIND_TRUE] = {"true", NULL},
};

static double values[KINDS][ROUNDS_MAX];

static double run(const char *ctxctl, char *const argv[], const posix_spawn_file_actions_t *actions)
{
        uint64_t begin = now_nsec();
        int status, r;
        pid_t pid;

        r = strcmp(argv[0], "ctxctl") == 0 ? posix_spawn(&pid, ctxctl, actions, NULL, argv, environ)
                                           : posix_spawnp(&pid, argv[0], actions, NULL, argv, environ);
        if (r != 0) {
                errno = r;
                DIE(argv[0]);
        }
        if (waitpid(pid, &status, 0) != pid || status != 0)
                DIE("a command has failed");
        return (double) (now_nsec() - begin) / 1e6;
}

int main(int argc, char *argv[])
{
        const char *ctxctl = getenv("CTXCTL_PROGRAM");
        size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 500;
        posix_spawn_file_actions_t actions;

        if (argc < 2 || !ctxctl || rounds < 1 || rounds > ROUNDS_MAX) {
                fprintf(stderr, "usage: CTXCTL_PROGRAM=... %s CTXD [ROUNDS]\n", argv[0]);
                return 2;
        }
        pin();
        setenv("CTXD_ADDRESS", start_daemon(argv[1], NULL, NULL), true);
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        for (size_t i = 0; i < rounds; i++)
                for (size_t kind = 0; kind < KINDS; kind++)
                        values[kind][i] = run(ctxctl, commands[kind], &actions);
        posix_spawn_file_actions_destroy(&actions);
        table("a command as a whole, ms; medians", "", "timeout 5 true");
        row("ctxctl run PATH -- true", median(values[KIND_RUN], rounds), median(values[KIND_TIMEOUT], rounds),
                        1.3, false);
        row("  the fastest quarter of each", percentile(values[KIND_RUN], rounds, 25),
                        percentile(values[KIND_TIMEOUT], rounds, 25), 0, false);
        row("  timeout 5 true, once more: the noise", median(values[KIND_TIMEOUT_AGAIN], rounds),
                        median(values[KIND_TIMEOUT], rounds), 0, false);
        row("  ctxctl --version: to load it alone", median(values[KIND_LOAD], rounds),
                        median(values[KIND_TIMEOUT], rounds), 0, false);
        row("  true", median(values[KIND_TRUE], rounds), median(values[KIND_TIMEOUT], rounds), 0, false);
        return 0;
}
