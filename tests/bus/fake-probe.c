/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A probe that needs no kernel. It reports a leak for every context with members, and then says that the
 * leak is over. Tests use it to see what ctxd does with reports. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/probe-record.h"
#include "util/clock.h"

#define SOCKET_FD 3

static void say(const void *record, size_t size)
{
        if (send(SOCKET_FD, record, size, MSG_NOSIGNAL) != (ssize_t) size)
                _exit(1);
}

static uint32_t owner_of(uint32_t pid)
{
        char path[64];
        struct stat st;

        snprintf(path, sizeof path, "/proc/%u", pid);
        return stat(path, &st) == 0 ? st.st_uid : PROBE_NOBODY;
}

/* As many as one user may have, of threads that are not there. */
static void report_many(const struct probe_leak *one)
{
        for (unsigned i = 1; i <= 500; i++) {
                struct probe_leak leak = *one;

                leak.leak_id = (UINT64_C(1) << 33) + i;
                leak.tid = leak.pid + i;
                say(&leak, sizeof leak);
        }
}

/* Threads that are only counted; there is no end of it. */
static void report_more(const struct probe_watch *w)
{
        struct probe_leak more = {
                        .header = {PROBE_LEAK, sizeof more},
                        .leak_id = UINT64_C(1) << 32,
                        .context_id = w->context_id,
                        .kind = PROBE_LEAK_MORE,
                        .backend = PROBE_BACKEND_PROC,
                        .reader = PROBE_NOBODY,
                        .kernel_reader = PROBE_NOBODY,
                        .blocked_usec = UINT64_MAX,
                        .since_done_usec = 5000000,
                        .count = 4224,
        };

        say(&more, sizeof more);
}

static void report(const struct probe_watch *w)
{
        static uint64_t last_id;
        uint32_t uid = w->n_pids > 0 ? owner_of(w->pids[0]) : 0;
        struct probe_leak leak = {
                        .header = {PROBE_LEAK, sizeof leak},
                        .leak_id = ++last_id,
                        .context_id = w->context_id,
                        .kind = PROBE_LEAK_BLOCKED,
                        .backend = PROBE_BACKEND_PROC,
                        .pid = w->n_pids > 0 ? w->pids[0] : 1,
                        .tid = w->n_pids > 0 ? w->pids[0] : 1,
                        .uid = uid,
                        .reader = uid,
                        .kernel_reader = PROBE_NOBODY,
                        .blocked_usec = 5000000,
                        .since_done_usec = 5000000,
                        .count = 1,
                        .comm = "worker",
                        .syscall_text = "read(7)",
                        .waits_on = "pipe:[1]",
                        .why = "nobody told it",
                        .kernel_stack = "pipe_read+0x1",
                        .stack = "main",
        };
        struct probe_resolved resolved = {
                        .header = {PROBE_RESOLVED, sizeof resolved},
                        .leak_id = leak.leak_id,
                        .context_id = w->context_id,
        };
        struct probe_swept swept = {.header = {PROBE_SWEPT, sizeof swept}, .when_usec = now_boottime_usec()};

        say(&leak, sizeof leak);
        say(&resolved, sizeof resolved);
        if (strcmp(w->path, "crowded") == 0)
                report_more(w);
        if (strcmp(w->path, "many") == 0)
                report_many(&leak);
        say(&swept, sizeof swept);
}

/* One that cannot end: it has a file whose close hangs. */
static void hold_file(void)
{
        const char *path = getenv("PROBE_HOLDS");

        if (path && open(path, O_RDONLY) < 0)
                _exit(1);
}

int main(void)
{
        struct probe_hello hello = {
                        .header = {PROBE_HELLO, sizeof hello},
                        .version = PROBE_PROTOCOL_VERSION,
                        .backend = PROBE_BACKEND_PROC,
                        .reason = "a test speaks",
        };
        union {
                struct probe_header header;
                struct probe_watch watch;
                char bytes[65536];
        } record;

        hold_file();
        while (recv(SOCKET_FD, &record, sizeof record, 0) >= (ssize_t) sizeof record.header)
                if (record.header.type == PROBE_WELCOME)
                        say(&hello, sizeof hello);
                else if (record.header.type == PROBE_WATCH)
                        report(&record.watch);
        return 0;
}
