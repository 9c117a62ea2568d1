/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Creates, attaches to, cancels and releases contexts, time and again, and looks at what ctxd has of memory
 * and descriptors, with all the processes that it has started. In the end it is to be what it was when a
 * tenth was done.
 *
 *     soak CTXD [TIMES [CTXD-PROBE]] */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/names.h"
#include "tests/harness/base.h"
#include "tests/harness/bus.h"
#include "tests/harness/daemon.h"

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

static sd_bus_message *call(sd_bus *bus, sd_bus_message *m)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int r = sd_bus_call(bus, m, 0, &error, &reply);

        if (r < 0)
                give_up(error.message ? error.message : "a call", -r);
        sd_bus_message_unref(m);
        return reply;
}

static sd_bus_message *method(sd_bus *bus, const char *name)
{
        sd_bus_message *m;
        int r = sd_bus_message_new_method_call(
                        bus, &m, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, name);

        if (r < 0)
                give_up("a message", -r);
        return m;
}

static void must(int r)
{
        if (r < 0)
                give_up("a message", -r);
}

static int sleeper(void)
{
        pid_t pid = fork_tied();

        while (pid == 0)
                pause();
        return pid < 0 ? -1 : (int) syscall(SYS_pidfd_open, pid, 0);
}

/* Makes the context, and those above it; has the process attached to it unless that is -1. */
static void create(sd_bus *bus, const char *path, int pidfd)
{
        sd_bus_message *m = method(bus, "Create");

        if (pidfd < 0)
                must(sd_bus_message_append(m, "sa{sv}", path, 1, "parents", "b", 1));
        else
                must(sd_bus_message_append(m, "sa{sv}", path, 3, "parents", "b", 1, "attach", "h", pidfd,
                                "signal", "i", 0));
        sd_bus_message_unref(call(bus, m));
}

static void call_with(sd_bus *bus, const char *name, const char *path, const char *reason)
{
        sd_bus_message *m = method(bus, name);

        must(sd_bus_message_append(m, reason ? "ss" : "s", path, reason));
        sd_bus_message_unref(call(bus, m));
}

static void once(sd_bus *bus, uint64_t n, int pidfd)
{
        char path[64];

        create(bus, "soak", -1);
        for (unsigned i = 0; i < BELOW; i++) {
                snprintf(path, sizeof path, "soak/%" PRIu64 "-%u", n, i);
                create(bus, path, i == 0 ? pidfd : -1);
        }
        call_with(bus, "Done", path, NULL);
        call_with(bus, "Cancel", "soak", "the end of a round");
        call_with(bus, "Release", "soak", NULL);
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
        int pidfd = sleeper();
        sd_bus *bus;

        if (argc < 2 || times < LOOKS || pidfd < 0) {
                fprintf(stderr, "usage: %s CTXD [TIMES [CTXD-PROBE]]\n", argv[0]);
                return 2;
        }
        daemon_start(&daemon, "[Daemon]\nRetainSec=100ms\n");
        bus = bus_connect(daemon.address, false);
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
