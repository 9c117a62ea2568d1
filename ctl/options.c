/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "ctl/ctxctl.h"
#include "ctl/terminal.h"

/* The common options may stand before the verb and after it. */

enum {
        COMMON_VERSION = 0x1000,
        COMMON_JSON,
        COMMON_NO_PAGER,
        COMMON_NO_LEGEND,
        COMMON_NO_ASK_PASSWORD,
        COMMON_ADDRESS,
        COMMON_USER,
};

static const struct option common[] = {
                {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, COMMON_VERSION},
                {"json", required_argument, NULL, COMMON_JSON},
                {"full", no_argument, NULL, 'l'},
                {"no-pager", no_argument, NULL, COMMON_NO_PAGER},
                {"no-legend", no_argument, NULL, COMMON_NO_LEGEND},
                {"no-ask-password", no_argument, NULL, COMMON_NO_ASK_PASSWORD},
                {"address", required_argument, NULL, COMMON_ADDRESS},
                {"user", no_argument, NULL, COMMON_USER},
};

#define OWN_MAX 16

static int set_json(struct ctl *ctl, const char *mode)
{
        if (strcmp(mode, "short") == 0)
                ctl->json = JSON_SHORT;
        else if (strcmp(mode, "pretty") == 0)
                ctl->json = JSON_PRETTY;
        else if (strcmp(mode, "off") == 0)
                ctl->json = JSON_OFF;
        else
                return -1;
        return 0;
}

static const struct option *find_option(const struct option *all, int value)
{
        while (all->name && all->val != value)
                all++;
        return all->name ? all : NULL;
}

/* How many begin like that. */
static unsigned count_options(const struct option *all, const char *name, size_t length)
{
        unsigned n = 0;

        for (; all->name; all++)
                n += strncmp(all->name, name, length) == 0;
        return n;
}

/* What getopt_long() itself prints has the control characters that were given (law 50). given: as it was, if
 * it is a long one. */
static void print_bad_option(
                const struct ctl *ctl, const struct option *all, const char *given, bool lacks_value)
{
        const struct option *known = find_option(all, optopt);
        int length = (int) strcspn(given, "=");
        char text[sizeof "-x"] = {'-', (char) optopt};
        const char *verb = ctl->verb ? ctl->verb->name : "", *space = *verb ? " " : "";

        if (known)
                print_error("--%s %s; see ctxctl %s%s--help", known->name,
                                lacks_value ? "needs a value" : "takes no value", verb, space);
        else if (optopt != 0)
                print_error("there is no option '%s'; see ctxctl %s%s--help", text, verb, space);
        else
                print_error("%s '%.*s'; see ctxctl %s%s--help",
                                length > 2 && count_options(all, given + 2, (size_t) length - 2) > 1
                                                ? "more than one option begins with"
                                                : "there is no option",
                                length, given, verb, space);
}

static bool end_with(int status, int *ret_status)
{
        *ret_status = status;
        return false;
}

static bool read_all(struct ctl *ctl, int argc, char *argv[], bool leading, const struct option *own,
                option_reader *reader, void *arguments, int *ret_status)
{
        struct option all[ELEMENTSOF(common) + OWN_MAX + 1] = {};
        char letters[8 + 2 * OWN_MAX] = "+:hjl", *end = letters + 5;
        size_t n = 0;
        int o, r;

        for (; own && own->name && n < OWN_MAX; own++) {
                all[n++] = *own;
                if (own->val >= 'a' && own->val <= 'z') {
                        *end++ = (char) own->val;
                        if (own->has_arg == required_argument)
                                *end++ = ':';
                }
        }
        memcpy(all + n, common, sizeof common);
        opterr = 0;

        while ((o = getopt_long(argc, argv, leading ? letters : letters + 1, all, NULL)) != -1)
                switch (o) {
                case 'h':
                        print_help(ctl->verb);
                        return end_with(EXIT_DONE, ret_status);
                case COMMON_VERSION:
                        puts("ctxctl " CTXD_VERSION);
                        return end_with(EXIT_DONE, ret_status);
                case 'j':
                        ctl->json = isatty(STDOUT_FILENO) ? JSON_PRETTY : JSON_SHORT;
                        break;
                case COMMON_JSON:
                        if (set_json(ctl, optarg) < 0) {
                                print_error("--json= must be short, pretty or off, not '%s'", optarg);
                                return end_with(EXIT_USAGE, ret_status);
                        }
                        break;
                case 'l':
                        ctl->full = true;
                        terminal_show_all();
                        break;
                case COMMON_NO_PAGER:
                        ctl->pager = false;
                        break;
                case COMMON_NO_LEGEND:
                        ctl->legend = false;
                        break;
                case COMMON_NO_ASK_PASSWORD:
                        ctl->ask_password = false;
                        break;
                case COMMON_ADDRESS:
                        ctl->address = optarg;
                        break;
                case COMMON_USER:
                        ctl->user = true;
                        break;
                case '?':
                case ':':
                        print_bad_option(ctl, all, argv[optind - 1], o == ':');
                        return end_with(EXIT_USAGE, ret_status);
                default:
                        r = reader(arguments, o);
                        if (r > 0)
                                return end_with(r, ret_status);
                }
        return true;
}

bool read_options(struct ctl *ctl, int argc, char *argv[], const struct option *own, option_reader *reader,
                void *arguments, int *ret_status)
{
        return read_all(ctl, argc, argv, false, own, reader, arguments, ret_status);
}

bool read_leading_options(struct ctl *ctl, int argc, char *argv[], const struct option *own,
                option_reader *reader, void *arguments, int *ret_status)
{
        return read_all(ctl, argc, argv, true, own, reader, arguments, ret_status);
}

bool count_arguments(const struct ctl *ctl, int argc, int min, int max, int *ret_status)
{
        int n = argc - optind;

        if (n >= min && (max < 0 || n <= max))
                return true;
        print_error("too %s arguments; usage: ctxctl %s%s%s", n < min ? "few" : "many", ctl->verb->name,
                        *ctl->verb->usage ? " " : "", ctl->verb->usage);
        return end_with(EXIT_USAGE, ret_status);
}

bool read_arguments(struct ctl *ctl, int argc, char *argv[], int min, int max, int *ret_status)
{
        return read_options(ctl, argc, argv, NULL, NULL, NULL, ret_status) &&
               count_arguments(ctl, argc, min, max, ret_status);
}
