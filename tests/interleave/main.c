/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/interleave/world.h"

/* interleave [--bound=N] [--random=SECONDS [--seed=N]] [--replay=ORDER] [--list] [GROUP|PROGRAM...]
 *
 * Writes TAP. Each program runs in a process of its own. */

/* Where no bound was asked for. So the time is limited, and the same orders are tried each time. */
#define STEPS_IN_ALL 12000000

static const struct {
        const char *name;
        const struct program *programs;
} groups[] = {
                {"local", local_programs},
                {"deadline", deadline_programs},
                {"lock", lock_programs},
                {"channel", channel_programs},
                {"shared", shared_programs},
                {"remote", remote_programs},
                {"callback", callback_programs},
                {"signal", signal_programs},
                {"cancel", cancel_programs},
                {"planted", planted_programs},
};

static struct {
        unsigned bound;
        bool has_bound, list;
        double random;
        uint64_t seed;
        const char *replay;
} options;

static void crash(int signal)
{
        fail("%s", strsignal(signal));
}

static void catch_crashes(void)
{
        static char stack[65536];
        struct sigaction action = {.sa_handler = crash, .sa_flags = SA_ONSTACK | SA_NODEFER};

        sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
        sigaction(SIGSEGV, &action, NULL);
        sigaction(SIGBUS, &action, NULL);
        sigaction(SIGABRT, &action, NULL);
        sigaction(SIGFPE, &action, NULL);
        sigaction(SIGILL, &action, NULL);
}

static struct result run(const struct program *program, unsigned bound)
{
        if (options.replay)
                return explore_replay(program, options.replay);
        if (options.random > 0)
                return explore_random(program, options.seed, options.random, program->finds);
        return explore_all(program, bound, options.has_bound ? UINT64_MAX : STEPS_IN_ALL, program->finds);
}

static int test(const struct program *program, unsigned number)
{
        unsigned bound = options.has_bound ? options.bound : program->bound;
        struct result result;
        char how[100] = "";
        bool ok;

        catch_crashes();
        result = run(program, bound);
        ok = !result.has_failed;
        if (program->finds && !options.replay) {
                /* At random it may as well show in another way first. */
                ok = result.has_failed && (options.random > 0 || strstr(world->message, program->finds));
                if (!ok)
                        printf("# %s has to find: %s; %s\n", program->name, program->finds,
                                        result.has_failed ? world->message : "nothing was found");
        }
        if (result.n_orders > 0)
                snprintf(how, sizeof how, "%llu orders with up to %u preemptions%s",
                                (unsigned long long) result.n_orders, result.bound,
                                result.n_random > 0 ? ", " : "");
        if (result.n_random > 0)
                snprintf(how + strlen(how), sizeof how - strlen(how), "%llu orders at random",
                                (unsigned long long) result.n_random);
        printf("%sok %u - %s: %s, %.2f s\n", ok ? "" : "not ", number, program->name, how, result.seconds);
        fflush(stdout);
        return ok ? 0 : 1;
}

static bool is_wanted(const char *group, const char *name, int n, char *wanted[])
{
        for (int i = 0; i < n; i++)
                if (strcmp(group, wanted[i]) == 0 || strcmp(name, wanted[i]) == 0)
                        return true;
        return n == 0 && strcmp(group, "planted") != 0;
}

static bool parse(const char *argument)
{
        if (sscanf(argument, "--bound=%u", &options.bound) == 1)
                options.has_bound = true;
        else if (strncmp(argument, "--random=", 9) == 0)
                options.random = strtod(argument + 9, NULL);
        else if (strncmp(argument, "--seed=", 7) == 0)
                options.seed = strtoull(argument + 7, NULL, 10);
        else if (strncmp(argument, "--replay=", 9) == 0)
                options.replay = argument + 9;
        else if (strcmp(argument, "--list") == 0)
                options.list = true;
        else
                return false;
        return true;
}

int main(int argc, char *argv[])
{
        unsigned number = 0, failed = 0;
        int first = 1;

        for (; first < argc && argv[first][0] == '-'; first++)
                if (!parse(argv[first])) {
                        fprintf(stderr, "interleave: no option %s\n", argv[first]);
                        return 2;
                }
        coroutine_init();
        memory_init();
        for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
                for (const struct program *p = groups[i].programs; p->name; p++) {
                        int status;
                        pid_t pid;

                        if (!is_wanted(groups[i].name, p->name, argc - first, argv + first))
                                continue;
                        number++;
                        if (options.list) {
                                printf("%s %s\n", groups[i].name, p->name);
                                continue;
                        }
                        fflush(stdout);
                        pid = fork();
                        if (pid == 0)
                                _exit(test(p, number));
                        waitpid(pid, &status, 0);
                        if (WIFSIGNALED(status))
                                printf("not ok %u - %s: %s\n", number, p->name, strsignal(WTERMSIG(status)));
                        failed += status != 0;
                }
        if (!options.list)
                printf("1..%u\n", number);
        return failed > 0 || number == 0;
}
