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
#include "util/printable.h"
#include "ctl/bus.h"
#include "ctl/ctxctl.h"
#include "ctl/live.h"
#include "ctl/pager.h"
#include "ctl/terminal.h"

#define WORD_MAX 32

#define HELP_PARENTS "  -p --parents            Also create the ancestors that do not exist\n"
#define HELP_TIMEOUT \
        "     --timeout=TIME       The deadline, from now (5s, 1min 30s, 500ms; without a unit: seconds)\n"
#define HELP_VALUE "     --value=KEY=VALUE    A value of the context; may be given more than once\n"
#define HELP_GRACE \
        "     --grace=TIME         Report who is blocked this long after the end; infinity: never\n"
#define HELP_KILL_AFTER \
        "     --kill-after=TIME    Kill who is left this long after the cancel; infinity: never\n"
#define HELP_REPLACE "     --replace            Make a new one, whatever is done there\n"

#define HELP_CREATE                                                                                      \
        HELP_PARENTS                                                                                     \
        "     --open               If an active context has that path, use it as it is\n" HELP_REPLACE   \
                        HELP_TIMEOUT                                                                     \
        "     --cause=TEXT         The cause if the deadline passes\n" HELP_VALUE                        \
        "     --mode=OCTAL         Who may do what, as for a file (default: as the parent)\n" HELP_GRACE \
        "     --owner=PID          Cancel the context when this process exits\n"                         \
        "     --description=TEXT   A text for people\n"

#define HELP_RUN                                                                                            \
        HELP_PARENTS HELP_REPLACE HELP_TIMEOUT                                                              \
                        "  -s --signal=SIGNAL      The signal for the members on cancel (default: "         \
                        "SIGTERM);\n"                                                                       \
                        "                          none: no signal, and no kill\n"                          \
                        "  -k --kill-after=TIME    Kill who is left this long after the cancel; infinity: " \
                        "never\n" HELP_GRACE HELP_VALUE "     --scope              Use a systemd scope, "   \
                        "which no process of the command can leave\n"                                       \
                        "     --owner=PID          Cancel the context when this process exits\n"            \
                        "     --bind               Cancel the context when the caller of ctxctl exits\n"    \
                        "     --no-wait            Do not wait for what the command leaves behind\n"        \
                        "     --preserve-status    Exit as the command did, also after a cancel or a "      \
                        "deadline\n"                                                                        \
                        "     --print-id           Print PATH#ID on standard error before the command is "  \
                        "run\n"                                                                             \
                        "     --foreground         Nothing: the command is in the foreground with or "      \
                        "without it\n"

#define HELP_LEAKS                                                         \
        "  -a --all                Also show those that have left since\n" \
        "     --long               The same as --full: all that is known of each, such as the stack\n"

#define HELP_TREE "     --watch[=TIME]       Draw it again after each TIME (default: 1s), until q or ^C\n"

#define HELP_TOP                                                            \
        "  -d --delay=TIME         Refresh after this time (default: 1s)\n" \
        "  -n --iterations=N       End after N times\n"                     \
        "  -b --batch              Leave the terminal alone: print, and print again\n"

#define HELP_CANCEL                                                                                 \
        "     --error=ERROR        The error number of the cause, or its name, such as EPIPE\n"     \
        "     --wait[=TIME]        Wait until all members have left, and show who is left; after\n" \
        "                          TIME list who did not stop, and exit with 3\n"                   \
        "     --timeout=TIME       TIME for --wait, as an option of its own\n"

#define HELP_STATUS "  -n --lines=N            So many lines of the journal (default: 10)\n"

#define HELP_ATTACH                                                                                    \
        "     --children           Also all that descend from them already (default: what they fork\n" \
        "                          from now on; where BPF is refused, all)\n"                          \
        "     --signal=SIGNAL      The signal for them on cancel (default: none)\n" HELP_KILL_AFTER

static int verb_help(struct ctl *ctl, int argc, char *argv[]);

static const struct verb verbs[] = {
                {"list", "[PREFIX]", "List contexts", NULL, verb_list},
                {"tree", "[OPTIONS] [PREFIX]", "Show contexts and their processes as a tree", HELP_TREE,
                                verb_tree},
                {"top", "[OPTIONS] [PREFIX]", "Show the tree live, with what its processes use", HELP_TOP,
                                verb_top},
                {"status", "[OPTIONS] [PATH...]", "Show a context and its log, or the service", HELP_STATUS,
                                verb_status},
                {"values", "PATH", "Show the values of a context, also the inherited ones", NULL,
                                verb_values},
                {"members", "PATH", "List the processes in a context and below it", NULL, verb_members},
                {"processes", "PATH", "The same as members", NULL, verb_members, .alias = true},
                {"leaks", "[OPTIONS] [PREFIX]", "Show who did not stop, and where it is blocked", HELP_LEAKS,
                                verb_leaks},
                {"preview", "PATH", "Show what a cancel would end", NULL, verb_preview},
                {"monitor", "[PREFIX]", "Print what happens, one event in each line", NULL, verb_monitor},
                {"create", "[OPTIONS] PATH", "Create a context; if PATH ends in /, with a free name below it",
                                HELP_CREATE, verb_create},
                {"cancel", "[OPTIONS] PATH [REASON]", "Cancel a context and all below it", HELP_CANCEL,
                                verb_cancel},
                {"wait", "[--timeout=TIME] PATH", "Wait until a context is done",
                                "     --timeout=TIME       Exit with 1 if it is still active after this "
                                "time\n",
                                verb_wait},
                {"extend", "PATH [+]TIME", "Set a deadline from now, or with + move it by TIME", NULL,
                                verb_extend},
                {"release", "PATH...", "Free the name of a context; cancel it if it is active", NULL,
                                verb_release},
                {"attach", "[OPTIONS] PATH PID...", "Make running processes members of a context",
                                HELP_ATTACH, verb_attach},
                {"current", "", "Print the context that ctxctl itself is a member of", NULL, verb_current},
                {"run", "[OPTIONS] PATH -- COMMAND...", "Run a command in a context", HELP_RUN, verb_run},
                {"selftest", "[--timeout=TIME]", "Make a leak, and check that it is found",
                                "     --timeout=TIME       Wait this long for the report (default: 30s)\n",
                                verb_selftest},
                {"help", "[COMMAND]", "Print the help of a command, or this one", NULL, verb_help},
};

void print_error(const char *format, ...)
{
        _cleanup_free_ char *text = NULL, *shown = NULL;
        va_list ap;

        live_end();     /* an error on the alternate screen would be lost */
        fflush(stdout); /* what was printed before comes first */
        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        shown = text ? printable_new(text, false) : NULL;
        fprintf(stderr, "ctxctl: %s\n", shown ? shown : "out of memory");
}

#define HELP_COMMON                                                                                    \
        "  -h --help               Print this help\n"                                                  \
        "     --version            Print the version\n"                                                \
        "     --json=MODE          Print JSON: short, pretty or off\n"                                 \
        "  -j                      --json=pretty on a terminal, --json=short elsewhere\n"              \
        "  -l --full               Cut no line, and show threads as well\n"                            \
        "     --no-pager           Do not use a pager\n"                                               \
        "     --no-legend          Do not print headers and footers\n"                                 \
        "     --no-ask-password    Do not ask for a password if polkit wants one\n"                    \
        "     --address=ADDRESS    The D-Bus address of the daemon, such as unix:path=/run/ctxd/bus\n" \
        "     --user               Use your own daemon (systemctl --user start ctxd)\n"

static void print_program_help(void)
{
        puts("ctxctl [OPTIONS] COMMAND ...\n\nShow, create and cancel the contexts of ctxd.\n\nCommands:");
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (!verbs[i].alias) {
                        int width = printf("  %s%s%s", verbs[i].name, *verbs[i].usage ? " " : "",
                                        verbs[i].usage);
                        printf("%*s%s\n", width < 38 ? 38 - width : 2, "", verbs[i].summary);
                }
        fputs("\nOptions:\n" HELP_COMMON
              "\nA PATH is labels with / between them, such as web/req-17. path#id is the "
              "context with that id, or none.\n~ is your own tree. See ctxctl COMMAND --help for the options "
              "of a "
              "command, and man ctxctl.\n",
                        stdout);
}

void print_help(const struct verb *verb)
{
        if (!verb) {
                print_program_help();
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

/* How many letters must be added, removed, replaced or swapped to turn one word into the other. */
static unsigned edit_distance(const char *a, const char *b)
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

static void print_unknown_verb(const char *name)
{
        const struct verb *nearest = NULL;
        unsigned least = 3; /* a word that differs more was not meant */

        for (size_t i = 0; i < ELEMENTSOF(verbs); i++) {
                unsigned d = strncmp(verbs[i].name, name, strlen(name)) == 0
                                             ? 0
                                             : edit_distance(name, verbs[i].name);

                if (*name && d < least && d < strlen(verbs[i].name) / 2 + 1) {
                        nearest = &verbs[i];
                        least = d;
                }
        }
        if (nearest)
                print_error("there is no command '%s'; did you mean '%s'?", name, nearest->name);
        else
                print_error("there is no command '%s'; see ctxctl --help", name);
}

static int verb_help(struct ctl *ctl, int argc, char *argv[])
{
        const struct verb *verb = NULL;
        int r;

        if (!read_arguments(ctl, argc, argv, 0, 1, &r))
                return r;
        if (optind < argc) {
                verb = find_verb(argv[optind]);
                if (!verb) {
                        print_unknown_verb(argv[optind]);
                        return EXIT_USAGE;
                }
        }
        print_help(verb);
        return EXIT_DONE;
}

int main(int argc, char *argv[])
{
        struct ctl ctl = {.legend = true,
                        .pager = true,
                        .ask_password = true,
                        .answers_until_usec = UINT64_MAX};
        int status;

        /* For the characters that there are, and their width. Nothing else that is printed depends on it, and
         * to load all of it takes as long as a call. */
        setlocale(LC_CTYPE, "");
        if (!terminal_has_utf8())
                printable_in_ascii();

        if (!read_leading_options(&ctl, argc, argv, NULL, NULL, NULL, &status))
                return status;
        if (optind >= argc) {
                print_error("a command is missing; see ctxctl --help");
                return EXIT_USAGE;
        }
        ctl.verb = find_verb(argv[optind]);
        if (!ctl.verb) {
                print_unknown_verb(argv[optind]);
                return EXIT_USAGE;
        }
        argc -= optind;
        argv += optind;
        optind = 0; /* getopt_long() starts again, after the verb */
        ctl.argv = argv + 1;

        status = ctl.verb->run(&ctl, argc, argv);

        bus_disconnect(&ctl);
        pager_close();
        if (fflush(stdout) != 0 && status == EXIT_DONE) {
                print_error("cannot write: %m");
                status = EXIT_FAILED;
        }
        return status;
}
