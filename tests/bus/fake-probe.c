/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A probe that needs no kernel. It reports a leak for every context with members, and then says that the
 * leak is over. Tests use it to see what ctxd does with reports. */

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/probe-record.h"
#include "util/clock.h"

#define SOCKET_FD 3

static void say(const void *record, size_t size)
{
        if (send(SOCKET_FD, record, size, MSG_NOSIGNAL) != (ssize_t) size)
                _exit(1);
}

static void report(const struct probe_watch *w)
{
        static uint64_t last_id;
        struct probe_leak leak = {
                        .header = {PROBE_LEAK, sizeof leak},
                        .leak_id = ++last_id,
                        .context_id = w->context_id,
                        .kind = PROBE_LEAK_BLOCKED,
                        .backend = PROBE_BACKEND_PROC,
                        .pid = w->n_pids > 0 ? w->pids[0] : 1,
                        .tid = w->n_pids > 0 ? w->pids[0] : 1,
                        .blocked_usec = 5000000,
                        .since_done_usec = 5000000,
                        .count = 1,
                        .comm = "worker",
                        .syscall_text = "read(7)",
                        .waits_on = "pipe:[1]",
                        .why = "nobody told it",
        };
        struct probe_resolved resolved = {
                        .header = {PROBE_RESOLVED, sizeof resolved},
                        .leak_id = leak.leak_id,
                        .context_id = w->context_id,
        };
        struct probe_swept swept = {.header = {PROBE_SWEPT, sizeof swept}, .when_usec = now_boottime_usec()};

        say(&leak, sizeof leak);
        say(&resolved, sizeof resolved);
        say(&swept, sizeof swept);
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

        while (recv(SOCKET_FD, &record, sizeof record, 0) >= (ssize_t) sizeof record.header)
                if (record.header.type == PROBE_WELCOME)
                        say(&hello, sizeof hello);
                else if (record.header.type == PROBE_WATCH)
                        report(&record.watch);
        return 0;
}
