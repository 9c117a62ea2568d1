/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Everybody who may read a context can see the reports about its members. They must not tell more than who
 * reads them can find out alone. So more than the fact is told only to root and to the user whose process it
 * is, and only if
 *
 * - all of its uids are those of one user. This leaves out a setuid program.
 * - that user has attached a member to the context, or root has.
 * - that user may look into the process, which means that it is dumpable. The kernel makes a process
 *   undumpable when it changes its uid, or when it executes a file that it may not read. A process that holds
 *   secrets makes itself undumpable.
 *
 * Whether a process is dumpable shows in /proc: its files belong to its effective user if it is, and to root
 * if it is not. For a process of root's own there is no difference, but root may look into every process
 * anyway, and nobody else is told.
 *
 * Where nobody has attached a member, the threads have entered the context by themselves, and their own
 * process wanted that. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bpf/disclosure.h"
#include "bpf/look.h"
#include "bpf/sample.h"
#include "proto/probe-record.h"
#include "util/uids.h"

static int read_uids(const struct sample *sample, uid_t ret_uids[3], uid_t *ret_owner)
{
        char path[64], status[4096];
        const char *line;
        ssize_t n;

        snprintf(path, sizeof path, "/proc/%u/task/%u/status", sample->pid, sample->tid);
        n = look_file(path, (pid_t) sample->pid, sample->uid, status, sizeof status, ret_owner);
        if (n < 0)
                return (int) n;
        /* The first line has the name of the command. Newlines in it are escaped, so no process can forge a
         * line. */
        line = strstr(status, "\nUid:");
        if (!line || sscanf(line, "\nUid: %u %u %u", &ret_uids[0], &ret_uids[1], &ret_uids[2]) != 3)
                return -EBADMSG;
        return 0;
}

static bool has_attached(const struct probe_watch *watch, uid_t uid)
{
        for (uint32_t i = 0; i < watch->n_uids; i++)
                if (watch->uids[i] == uid || watch->uids[i] == 0)
                        return true;
        return watch->n_uids == 0;
}

uint32_t disclosure_reader(const struct probe_watch *watch, const struct sample *sample)
{
        uid_t uids[3], owner;

        if (read_uids(sample, uids, &owner) < 0 || !uids_are_all(uids, owner) || !has_attached(watch, owner))
                return PROBE_NOBODY;
        return owner;
}
