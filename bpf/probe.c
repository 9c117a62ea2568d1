/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* ctxd-probe finds the threads that do not stop.
 *
 * It loads the BPF programs (membership, which ctxd keeps alive, and the sweeps), and gives up its
 * capabilities. Then it runs one loop: it takes in the records from ctxd, and while a done context is
 * watched, a timer starts the next sweep. It runs as uid 0 for one reason: only for such a sender journald
 * adds the unit, executable and user of the process that is reported. Nothing in ctxd waits for the probe.
 * It may die and be started again at any time. */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bpf/look.h"
#include "bpf/probe.h"
#include "util/log.h"
#include "proto/names.h"

static int usage(FILE *to, int status)
{
        fprintf(to, "ctxd-probe [--connect=PATH | --fd=N]\n\n"
                    "Finds and reports threads that outlive their context, for ctxd.\n\n"
                    "  --connect=PATH  ctxd's socket (default " CTXD_PROBE_SOCKET ")\n"
                    "  --fd=N          an inherited connection to ctxd\n"
                    "  --help          this text\n"
                    "  --version       the version\n");
        return status;
}

static int parse_fd(const char *text)
{
        char *end;
        long n;
        int type;
        socklen_t size = sizeof type;

        errno = 0;
        n = strtol(text, &end, 10);
        if (errno != 0 || end == text || *end || n < 0 || n > INT32_MAX)
                return -EINVAL;
        if (getsockopt((int) n, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
                return -errno;
        return type == SOCK_SEQPACKET ? (int) n : -EPROTOTYPE;
}

static int run(const char *address, int fd)
{
        struct probe probe = {};
        sigset_t mask;
        int r;

        r = sd_event_default(&probe.event);
        if (r < 0)
                return r;
        sigemptyset(&mask);
        sigaddset(&mask, SIGTERM);
        sigaddset(&mask, SIGINT);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        if ((r = sd_event_add_signal(probe.event, NULL, SIGTERM, NULL, NULL)) < 0 ||
                        (r = sd_event_add_signal(probe.event, NULL, SIGINT, NULL, NULL)) < 0 ||
                        (r = sweeper_init(&probe)) < 0 || (r = link_init(&probe, address, fd)) < 0)
                goto finish;
        (void) sd_event_set_watchdog(probe.event, true);
        r = sd_event_loop(probe.event);
        if (probe.link.error < 0)
                r = probe.link.error;

finish:
        link_deinit(&probe);
        sweeper_deinit(&probe);
        look_stop();
        backend_free(probe.backend);
        sd_event_unref(probe.event);
        return r;
}

int main(int argc, char *argv[])
{
        static const struct option options[] = {
                        {"connect", required_argument, NULL, 'c'},
                        {"fd", required_argument, NULL, 'f'},
                        {"help", no_argument, NULL, 'h'},
                        {"version", no_argument, NULL, 'v'},
                        {},
        };
        const char *address = CTXD_PROBE_SOCKET;
        int c, fd = -1, r;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
                switch (c) {
                case 'c':
                        address = optarg;
                        fd = -1;
                        break;
                case 'f':
                        fd = parse_fd(optarg);
                        if (fd < 0) {
                                log_error("--fd=%s: %s", optarg, strerror(-fd));
                                return 2;
                        }
                        address = NULL;
                        break;
                case 'h':
                        return usage(stdout, 0);
                case 'v':
                        puts("ctxd-probe " CTXD_VERSION);
                        return 0;
                default:
                        return usage(stderr, 2);
                }
        }
        if (optind < argc)
                return usage(stderr, 2);

        r = run(address, fd);
        if (r < 0)
                log_error("ctxd-probe: %s", strerror(-r));
        return r < 0 ? 1 : 0;
}
