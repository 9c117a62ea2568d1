/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "ctl/ctxctl.h"

/* Options may stand before the verb or after it; both places know the common ones. */

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
                {"no-pager", no_argument, NULL, COMMON_NO_PAGER},
                {"no-legend", no_argument, NULL, COMMON_NO_LEGEND},
                {"no-ask-password", no_argument, NULL, COMMON_NO_ASK_PASSWORD},
                {"address", required_argument, NULL, COMMON_ADDRESS},
                {"user", no_argument, NULL, COMMON_USER},
};

#define OWN_MAX 16

static int usage_error(int *ret_status)
{
        *ret_status = EXIT_USAGE;
        return OPTION_EXIT;
}

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

static int next(struct ctl *ctl, int argc, char *argv[], bool leading, const struct option *own,
                int *ret_status)
{
        struct option all[ELEMENTSOF(common) + OWN_MAX + 1] = {};
        char letters[8 + OWN_MAX] = "+hj", *end = letters + 3;
        size_t n = 0;

        for (; own && own->name && n < OWN_MAX; own++) {
                all[n++] = *own;
                if (own->val >= 'a' && own->val <= 'z')
                        *end++ = (char) own->val;
        }
        memcpy(all + n, common, sizeof common);

        for (;;) {
                int o = getopt_long(argc, argv, leading ? letters : letters + 1, all, NULL);

                switch (o) {
                case 'h':
                        print_verb_help(ctl->verb);
                        *ret_status = EXIT_DONE;
                        return OPTION_EXIT;
                case COMMON_VERSION:
                        puts("ctxctl " CTXD_VERSION);
                        *ret_status = EXIT_DONE;
                        return OPTION_EXIT;
                case 'j':
                        ctl->json = isatty(STDOUT_FILENO) ? JSON_PRETTY : JSON_SHORT;
                        break;
                case COMMON_JSON:
                        if (set_json(ctl, optarg) < 0) {
                                complain("--json= is short, pretty or off, not '%s'", optarg);
                                return usage_error(ret_status);
                        }
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
                case '?': /* getopt has said what is wrong */
                        return usage_error(ret_status);
                default:
                        return o;
                }
        }
}

int next_option(struct ctl *ctl, int argc, char *argv[], const struct option *own, int *ret_status)
{
        return next(ctl, argc, argv, false, own, ret_status);
}

int next_leading_option(struct ctl *ctl, int argc, char *argv[], const struct option *own, int *ret_status)
{
        return next(ctl, argc, argv, true, own, ret_status);
}

bool count_arguments(const struct ctl *ctl, int argc, int min, int max)
{
        int n = argc - optind;

        if (n >= min && (max < 0 || n <= max))
                return true;
        complain("%s arguments; usage: ctxctl %s%s%s", n < min ? "too few" : "too many", ctl->verb->name,
                        *ctl->verb->usage ? " " : "", ctl->verb->usage);
        return false;
}

int read_arguments(struct ctl *ctl, int argc, char *argv[], int min, int max, int *ret_status)
{
        if (next_option(ctl, argc, argv, NULL, ret_status) == OPTION_EXIT)
                return OPTION_EXIT;
        if (!count_arguments(ctl, argc, min, max))
                return usage_error(ret_status);
        return 0;
}
