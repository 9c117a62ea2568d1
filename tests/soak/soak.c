/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Creates, attaches to, cancels and releases contexts, time and again, and looks at what ctxd has of memory
 * and descriptors, with all the processes that it has started. In the end it is to be what it was when a
 * tenth was done.
 *
 *     soak CTXD [TIMES [CTXD-PROBE]] */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/names.h"
#include "tests/harness/base.h"
#include "tests/harness/bus.h"
#include "tests/harness/daemon.h"
#include "tests/harness/process.h"

#define TIMES 30000
#define LOOKS 10
#define BELOW 8 /* so many contexts are below the one that is cancelled */
/* Of an allocator that has not been everywhere yet; and what a process takes that closes for ctxd, of which
 * there are more at times. */
#define SLACK_KB 512
#define PROCESS_KB 512
#define PROCESS_FDS 8

struct use {
        uint64_t kb;
        unsigned fds, processes;
};

static void add_memory(pid_t pid, struct use *use)
{
        char path[64], line[128];
        unsigned kb;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/status", pid);
        f = fopen(path, "re");
        while (f && fgets(line, sizeof line, f))
                if (sscanf(line, "RssAnon: %u", &kb) == 1 || sscanf(line, "RssShmem: %u", &kb) == 1)
                        use->kb += kb;
        if (f)
                fclose(f);
}

static void add_family(pid_t pid, struct use *use)
{
        char path[64];
        pid_t child;
        FILE *f;

        add_memory(pid, use);
        use->fds += count_fds(pid);
        use->processes++;
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
        f = fopen(path, "re");
        while (f && fscanf(f, "%d", &child) == 1)
                add_family(child, use);
        if (f)
                fclose(f);
}

/* When all is done that it has put off. */
static struct use look(pid_t daemon)
{
        struct use use = {};

        (void) HAPPENS(process_sleeps(daemon, 0));
        nap(200000);
        add_family(daemon, &use);
        return use;
}

static void call(sd_bus *bus, const char *method, const char *types, ...)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        va_list ap;
        int r;

        va_start(ap, types);
        r = sd_bus_call_methodv(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, method, &error, NULL,
                        types, ap);
        va_end(ap);
        if (r < 0)
                give_up(error.message ? error.message : method, -r);
}

static void once(sd_bus *bus, uint64_t n, int pidfd)
{
        char path[64];

        call(bus, "Create", "sa{sv}", "soak", 0);
        for (unsigned i = 0; i < BELOW; i++) {
                snprintf(path, sizeof path, "soak/%" PRIu64 "-%u", n, i);
                if (i == 0)
                        call(bus, "Create", "sa{sv}", path, 2, "attach", "h", pidfd, "signal", "i", 0);
                else
                        call(bus, "Create", "sa{sv}", path, 0);
        }
        call(bus, "Done", "s", path);
        call(bus, "Cancel", "ss", "soak", "the end of a round");
        call(bus, "Release", "s", "soak");
}

static bool show(uint64_t n, uint64_t seconds, const struct use *use, const struct use *first)
{
        unsigned more = use->processes > first->processes ? use->processes - first->processes : 0;
        bool is_flat = more <= 4 && use->kb <= first->kb + SLACK_KB + more * PROCESS_KB &&
                       use->fds <= first->fds + more * PROCESS_FDS;

        printf("%10" PRIu64 " %7" PRIu64 " s %8" PRIu64 " KB %4u descriptors %2u processes\n", n, seconds,
                        use->kb, use->fds, use->processes);
        fflush(stdout);
        return is_flat;
}

int main(int argc, char *argv[])
{
        uint64_t times = argc > 2 ? strtoull(argv[2], NULL, 10) : TIMES, began = now_boottime_usec();
        struct daemon daemon = {.program = argv[1], .probe = argc > 3 ? argv[3] : NULL};
        struct use first = {};
        bool is_flat = true;
        sd_bus *bus;
        int pidfd;

        if (argc < 2 || times < LOOKS) {
                fprintf(stderr, "usage: %s CTXD [TIMES [CTXD-PROBE]]\n", argv[0]);
                return 2;
        }
        daemon_start(&daemon, "[Daemon]\nRetainSec=100ms\n");
        bus = bus_connect(daemon.address, false);
        sleeper(&pidfd);
        for (uint64_t n = 1; n <= times; n++) {
                once(bus, n, pidfd);
                if (n % (times / LOOKS) != 0)
                        continue;
                struct use use = look(daemon.pid);
                if (first.fds == 0)
                        first = use;
                is_flat = show(n * (BELOW + 1), (now_boottime_usec() - began) / 1000000, &use, &first);
        }
        sd_bus_flush_close_unref(bus);
        daemon_stop(&daemon);
        puts(is_flat ? "It is flat." : "It has grown.");
        return is_flat ? 0 : 1;
}
