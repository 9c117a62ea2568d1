/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/ctxctl.h"
#include "ctl/pager.h"

#define WORD_MAX 32

#define HELP_CREATE                                                                                     \
        "  -p --parents            Make missing ancestors\n"                                            \
        "     --open               Be content with an active context of that path\n"                    \
        "     --timeout=TIME       Deadline from now (5s, 1min 30s, 500ms; a bare number is seconds)\n" \
        "     --cause=TEXT         Cause when that deadline passes\n"                                   \
        "     --value=KEY=VALUE    Value; may be given more than once\n"                                \
        "     --mode=OCTAL         Who may, as for a file (default: the parent's)\n"                    \
        "     --grace=TIME         After how long a blocked member is reported; infinity: never\n"      \
        "     --owner=PID          Cancel it when this process exits\n"                                 \
        "     --description=TEXT   Text for people\n"

#define HELP_RUN                                                                                           \
        "  -p --parents            Make missing ancestors\n"                                               \
        "     --timeout=TIME       Deadline from now\n"                                                    \
        "     --signal=SIGNAL      What the members get on cancel (default SIGTERM); none: nothing, nor\n" \
        "                          SIGKILL later\n"                                                        \
        "     --kill-after=TIME    SIGKILL to what is left, so long after the cancel; infinity: never\n"   \
        "     --grace=TIME         After how long a blocked member is reported; infinity: never\n"         \
        "     --value=KEY=VALUE    Value; may be given more than once\n"                                   \
        "     --scope              In a systemd scope of its own, which nothing that it starts gets\n"     \
        "                          out of\n"

#define HELP_CANCEL                                                                                 \
        "     --error=ERROR        Error number of the cause: a number, or a name such as EPIPE\n"  \
        "     --wait[=TIME]        Show what is left until all members have left, or the time is\n" \
        "                          up: then list who did not stop, with exit status 3\n"            \
        "     --timeout=TIME       The same time, by itself\n"

static const struct verb verbs[] = {
                {"list", "[PREFIX]", "List contexts", NULL, verb_list},
                {"tree", "[PREFIX]", "Show contexts and their processes as a tree", NULL, verb_tree},
                {"status", "[PATH...]", "Show a context, or the service", NULL, verb_status},
                {"values", "PATH", "Show a context's values, with the inherited ones", NULL, verb_values},
                {"members", "PATH", "List the processes that run under a context", NULL, verb_members},
                {"processes", "PATH", "The same", NULL, verb_members, .alias = true},
                {"leaks", "[PREFIX]", "Show who did not stop, and where it is stuck", NULL, verb_leaks},
                {"preview", "PATH", "Show what a cancel would hit", NULL, verb_preview},
                {"monitor", "[PREFIX]", "Print what happens, a line each", NULL, verb_monitor},
                {"create", "[OPTIONS] PATH", "Create a context; a path that ends in / gets a free name",
                                HELP_CREATE, verb_create},
                {"cancel", "[OPTIONS] PATH [REASON]", "Cancel a context and all below it", HELP_CANCEL,
                                verb_cancel},
                {"wait", "[--timeout=TIME] PATH", "Wait until a context is done",
                                "     --timeout=TIME       How long to wait; exit status 1 if it is still "
                                "active then\n",
                                verb_wait},
                {"extend", "PATH [+]TIME", "Move a deadline: from now, or with + from where it is", NULL,
                                verb_extend},
                {"release", "PATH...", "Give a context's name free; cancels it if it is active", NULL,
                                verb_release},
                {"attach", "[OPTIONS] PATH PID...", "Make processes members of a context",
                                "     --signal=SIGNAL      What they get on cancel (default: none)\n"
                                "     --kill-after=TIME    SIGKILL to what is left, so long after the "
                                "cancel\n",
                                verb_attach},
                {"current", "", "Show the context that ctxctl itself runs under", NULL, verb_current},
                {"run", "[OPTIONS] PATH -- COMMAND...", "Run a command under a context", HELP_RUN, verb_run},
                {"selftest", "[--timeout=TIME]", "Plant a leak, and see that it is found",
                                "     --timeout=TIME       How long to wait for the report (default 30s)\n",
                                verb_selftest},
};

void complain(const char *format, ...)
{
        va_list ap;

        pager_pause(); /* what was printed so far comes first */
        fputs("ctxctl: ", stderr);
        va_start(ap, format);
        vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
}

#define HELP_COMMON                                                                                \
        "  -h --help               Show this\n"                                                    \
        "     --version            Show the version\n"                                             \
        "     --json=MODE          Output as JSON: short, pretty, off\n"                           \
        "  -j                      --json=pretty on a terminal, --json=short elsewhere\n"          \
        "     --no-pager           Do not pipe output into a pager\n"                              \
        "     --no-legend          Do not print headers and footers\n"                             \
        "     --no-ask-password    Do not ask for a password where polkit wants one\n"             \
        "     --address=ADDRESS    D-Bus address of the daemon, such as unix:path=/run/ctxd/bus\n" \
        "     --user               The daemon of the session bus\n"

static void print_help(void)
{
        puts("ctxctl [OPTIONS] COMMAND ...\n\nLook at, make and cancel the contexts of ctxd.\n\nCommands:");
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (!verbs[i].alias) {
                        int width = printf("  %s%s%s", verbs[i].name, *verbs[i].usage ? " " : "",
                                        verbs[i].usage);
                        printf("%*s%s\n", width < 38 ? 38 - width : 2, "", verbs[i].summary);
                }
        fputs("\nOptions:\n" HELP_COMMON
              "\nA PATH is labels joined by /; path#id is that context or none; ~ is your own tree.\n"
              "See ctxctl COMMAND --help for a command's options, and ctxctl(1).\n",
                        stdout);
}

void print_verb_help(const struct verb *verb)
{
        if (!verb) {
                print_help();
                return;
        }
        printf("ctxctl %s%s%s\n\n%s.\n\nOptions:\n", verb->name, *verb->usage ? " " : "", verb->usage,
                        verb->summary);
        if (verb->options)
                fputs(verb->options, stdout);
        fputs(HELP_COMMON, stdout);
}

static const struct verb *find_verb(const char *name)
{
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        return NULL;
}

/* How many letters have to be added, left out, replaced or swapped to make one of the other; short words. */
static unsigned distance(const char *a, const char *b)
{
        size_t n = strlen(a), m = strlen(b);
        unsigned rows[WORD_MAX + 1][WORD_MAX + 1];

        if (n > WORD_MAX || m > WORD_MAX)
                return UINT_MAX;
        for (size_t i = 0; i <= n; i++)
                for (size_t k = 0; k <= m; k++) {
                        unsigned best = i == 0 ? (unsigned) k : (unsigned) i;

                        if (i > 0 && k > 0) {
                                best = rows[i - 1][k - 1] + (a[i - 1] != b[k - 1]);
                                best = rows[i - 1][k] + 1 < best ? rows[i - 1][k] + 1 : best;
                                best = rows[i][k - 1] + 1 < best ? rows[i][k - 1] + 1 : best;
                        }
                        if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
                                best = rows[i - 2][k - 2] + 1 < best ? rows[i - 2][k - 2] + 1 : best;
                        rows[i][k] = best;
                }
        return rows[n][m];
}

static void unknown_verb(const char *name)
{
        const struct verb *nearest = NULL;
        unsigned least = 3; /* what is farther off was meant to be something else */

        for (size_t i = 0; i < ELEMENTSOF(verbs); i++) {
                unsigned d = strncmp(verbs[i].name, name, strlen(name)) == 0 ? 0
                                                                             : distance(name, verbs[i].name);

                if (*name && d < least && d < strlen(verbs[i].name) / 2 + 1) {
                        nearest = &verbs[i];
                        least = d;
                }
        }
        if (nearest)
                complain("there is no command '%s'; did you mean '%s'?", name, nearest->name);
        else
                complain("there is no command '%s'; see ctxctl --help", name);
}

int main(int argc, char *argv[])
{
        struct ctl ctl = {.legend = true, .pager = true, .ask_password = true};
        int o, status;

        setlocale(LC_ALL, "");

        o = next_leading_option(&ctl, argc, argv, NULL, &status);
        if (o == OPTION_EXIT)
                return status;
        if (optind >= argc) {
                complain("what is to be done? See ctxctl --help");
                return EXIT_USAGE;
        }
        ctl.verb = find_verb(argv[optind]);
        if (!ctl.verb) {
                unknown_verb(argv[optind]);
                return EXIT_USAGE;
        }
        argc -= optind;
        argv += optind;
        argv[0] = program_invocation_short_name; /* what getopt_long() begins its messages with */
        optind = 0;                              /* getopt_long() starts anew, after the verb's name */

        status = ctl.verb->run(&ctl, argc, argv);

        bus_disconnect(&ctl);
        pager_close();
        if (fflush(stdout) != 0 && status == EXIT_DONE) {
                complain("cannot write: %m");
                status = EXIT_FAILED;
        }
        return status;
}
