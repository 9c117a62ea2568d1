/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who may read a context learns where its members stand. That is as much as the user who attached a member could
 * find out alone. So a process is told about in full only
 *
 * - while it is one user's in all of its uids: a setuid program is not,
 * - while that user is one of those who have attached members, or root has attached some,
 * - and while that user may look into it: it is dumpable. The kernel makes a process undumpable when it changes its
 *   uid or executes a file that it may not read, and a process that holds secrets does so itself.
 *
 * The owner of its files in /proc tells whether it is dumpable: its own user, or else root. Of root's own processes
 * this tells nothing; but root may look into each of them anyway.
 *
 * A thread that has entered a context by itself needs nobody who attached it: its process has said so itself. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpf/disclosure.h"
#include "bpf/sample.h"
#include "proto/probe-record.h"
#include "util/cleanup.h"
#include "util/uids.h"

static int read_uids(const struct sample *sample, uid_t ret_uids[3], uid_t *ret_owner)
{
        _cleanup_close_ int fd = -1;
        char path[64], status[4096];
        const char *line;
        struct stat st;
        ssize_t n;

        snprintf(path, sizeof path, "/proc/%u/task/%u/status", sample->pid, sample->tid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        n = read(fd, status, sizeof status - 1);
        if (n < 0)
                return -errno;
        status[n] = '\0';
        /* The first line is the command, in which a newline is escaped, so a line cannot be forged. */
        line = strstr(status, "\nUid:");
        if (!line || sscanf(line, "\nUid: %u %u %u", &ret_uids[0], &ret_uids[1], &ret_uids[2]) != 3)
                return -EBADMSG;
        *ret_owner = st.st_uid;
        return 0;
}

static bool has_attached(const struct probe_watch *watch, uid_t uid)
{
        for (uint32_t i = 0; i < watch->n_uids; i++)
                if (watch->uids[i] == uid || watch->uids[i] == 0)
                        return true;
        return watch->n_uids == 0;
}

bool disclosure_is_allowed(const struct probe_watch *watch, const struct sample *sample)
{
        uid_t uids[3], owner;

        if (read_uids(sample, uids, &owner) < 0)
                return false;
        return uids_are_all(uids, owner) && has_attached(watch, owner);
}
