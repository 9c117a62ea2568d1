/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "daemon/manager.h"
#include "util/cleanup.h"
#include "util/heap-end.h"

static void help(void)
{
        puts("ctxd [OPTIONS...]\n"
             "\n"
             "Serve trees of contexts (org.ctxd1) to the processes of this host.\n"
             "\n"
             "  -h --help                 Show this help\n"
             "     --version              Show the version\n"
             "     --user                 Serve a user's own trees, on the session bus\n"
             "     --embedded=DIR         Serve at DIR/bus alone, without a bus and without systemd\n"
             "     --config=FILE          Read FILE and no other configuration\n"
             "     --probe-program=FILE   The ctxd-probe that --user and --embedded start\n"
             "\n"
             "See ctxd(8) and org.ctxd1(5).");
}

/* Looks for the probe beside this program (in a build directory, or what was installed and then moved), then
 * where it is installed. */
static const char *find_probe(void)
{
        static const char *const beside[] = {"ctxd-probe", "../bpf/ctxd-probe", "../libexec/ctxd-probe"};
        static char path[PATH_MAX];
        char self[PATH_MAX];
        ssize_t n;

        n = readlink("/proc/self/exe", self, sizeof self - 1);
        if (n > 0) {
                self[n] = '\0';
                for (size_t i = 0; i < ELEMENTSOF(beside); i++) {
                        char copy[PATH_MAX];

                        strcpy(copy, self);
                        n = snprintf(path, sizeof path, "%s/%s", dirname(copy), beside[i]);
                        if (n > 0 && (size_t) n < sizeof path && access(path, X_OK) == 0)
                                return path;
                }
        }
        return access(CTXD_PROBE_PROGRAM, X_OK) == 0 ? CTXD_PROBE_PROGRAM : NULL;
}

/* Returns 1 to go on, else 0 with the exit status in *ret_status. */
static int parse(int argc, char *argv[], struct manager *m, int *ret_status)
{
        enum { VERSION = 256, USER, EMBEDDED, CONFIG, PROBE };
        static const struct option options[] = {
                        {"help", no_argument, NULL, 'h'},
                        {"version", no_argument, NULL, VERSION},
                        {"user", no_argument, NULL, USER},
                        {"embedded", required_argument, NULL, EMBEDDED},
                        {"config", required_argument, NULL, CONFIG},
                        {"probe-program", required_argument, NULL, PROBE},
                        {},
        };
        int c;

        *ret_status = 2;
        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case 'h':
                        help();
                        *ret_status = 0;
                        return 0;
                case VERSION:
                        puts("ctxd " CTXD_VERSION);
                        *ret_status = 0;
                        return 0;
                case USER:
                case EMBEDDED:
                        if (m->mode != MANAGER_SYSTEM) {
                                fputs("ctxd: Use either --user or --embedded, not both\n", stderr);
                                return 0;
                        }
                        m->mode = c == USER ? MANAGER_USER : MANAGER_EMBEDDED;
                        m->directory = optarg;
                        break;
                case CONFIG:
                        m->config_file = optarg;
                        break;
                case PROBE:
                        m->probe_program = optarg;
                        break;
                default:
                        return 0;
                }
        if (optind < argc) {
                fprintf(stderr, "ctxd: Unexpected argument: %s\n", argv[optind]);
                return 0;
        }
        return 1;
}

int main(int argc, char *argv[])
{
        struct manager m = {};
        int r, status;

        if (!parse(argc, argv, &m, &status))
                return status;
        heap_end_init();
        if (!m.probe_program)
                m.probe_program = find_probe();
        r = manager_start(&m);
        if (r >= 0)
                r = manager_run(&m);
        else
                fprintf(stderr, "ctxd: It could not be started: %s\n", strerror(-r));
        manager_stop(&m);
        return r < 0 ? 1 : 0;
}
