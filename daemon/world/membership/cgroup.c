/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "daemon/world/membership/internal.h"
#include "util/cgroup.h"
#include "util/cleanup.h"
#include "util/proc.h"
#include "util/watch.h"

/* Without BPF, an attached process that has a control group of its own is known by that group. Every process
 * in the group is a member, whoever has forked it. `ctxctl run --scope` makes such a group. A service has
 * one, and it counts if the service's main process is attached.
 *
 * A group is a process's own if nobody but the process and its descendants is in it at the time of the
 * attach. The root group is not, nor that of a session with its shell, nor that of a service of which another
 * process is attached. When a group has emptied, the kernel says so (cgroup.events), so nobody has to
 * look. */

#define CROWD_MAX 512 /* a group with more processes than these is nobody's own */
#define DEPTH_MAX 64  /* so many ancestors of a process are looked at */

struct own_cgroup {
        struct attached *attached;
        struct membership *membership;
        int events;
        struct watch changed;
        bool is_populated;
        UT_hash_handle hh;
        char directory[]; /* the key */
};

struct crowd {
        pid_t pid;
        unsigned n;
        bool found;
        pid_t kin[CROWD_MAX]; /* those that were found to descend from it; it is the first one */
        unsigned n_kin;
};

static bool is_kin(const struct crowd *c, pid_t pid)
{
        for (unsigned i = 0; i < c->n_kin; i++)
                if (c->kin[i] == pid)
                        return true;
        return false;
}

/* Goes up from it until it meets one that is known, so that no process is read twice. */
static bool descends(struct crowd *c, pid_t pid)
{
        pid_t way[DEPTH_MAX];
        struct proc_stat stat;
        unsigned n = 0;

        for (; n < DEPTH_MAX && pid > 1 && !is_kin(c, pid); n++) {
                if (proc_stat_read(pid, &stat) < 0)
                        return false;
                way[n] = pid;
                pid = stat.ppid;
        }
        if (!is_kin(c, pid))
                return false;
        while (n > 0 && c->n_kin < CROWD_MAX)
                c->kin[c->n_kin++] = way[--n];
        return true;
}

static int look_at_one(void *userdata, pid_t pid)
{
        struct crowd *c = userdata;

        if (pid == c->pid)
                c->found = true;
        else if (pid == getpid() || !descends(c, pid))
                return -EBUSY;
        return ++c->n > CROWD_MAX ? -EBUSY : 0;
}

static bool is_own(const char *directory, const struct process *p)
{
        struct crowd crowd = {.pid = process_pid(p), .kin = {process_pid(p)}, .n_kin = 1};

        return cgroup_each(directory, look_at_one, &crowd) == 0 && crowd.found &&
               !proc_pidfd_exited(process_pidfd(p));
}

bool own_cgroup_is_populated(const struct own_cgroup *g)
{
        return g->is_populated;
}

static void events_ready(struct watch *w)
{
        struct own_cgroup *g = (struct own_cgroup *) ((char *) w - offsetof(struct own_cgroup, changed));
        struct membership *m = g->membership;

        g->is_populated = cgroup_events_populated(g->events) == 1;
        if (g->is_populated)
                (void) watch_again(w);
        else
                attached_cgroup_emptied(m, g->attached); /* this frees g */
        facts_wake(&m->world->facts);
}

struct own_cgroup *own_cgroup_new(struct membership *m, struct attached *a, struct process *p)
{
        _cleanup_free_ char *directory = NULL;
        struct own_cgroup *g;
        size_t length;

        if (cgroup_of(process_pid(p), &directory) < 0 || !is_own(directory, p))
                return NULL;
        HASH_FIND_STR(m->cgroups, directory, g);
        /* It is that of another attached process already. */
        if (g)
                return NULL;
        length = strlen(directory);
        g = calloc(1, sizeof *g + length + 1);
        if (!g)
                return NULL;
        memcpy(g->directory, directory, length);
        g->attached = a;
        g->membership = m;
        g->events = cgroup_events_open(directory);
        /* The file is watched first and then read, so that no change between the two is missed. */
        g->changed.ready = events_ready;
        if (g->events < 0 || watch_begin(m->world->watches, &g->changed, g->events, EPOLLPRI) < 0)
                goto fail;
        g->is_populated = cgroup_events_populated(g->events) == 1;
        if (!g->is_populated)
                goto fail;
        HASH_ADD_STR(m->cgroups, directory, g);
        if (!g->hh.tbl)
                goto fail;
        return g;

fail:
        watch_end(&g->changed);
        closep(&g->events);
        free(g);
        return NULL;
}

struct own_cgroup *own_cgroup_free(struct own_cgroup *g)
{
        if (!g)
                return NULL;
        HASH_DEL(g->membership->cgroups, g);
        watch_end(&g->changed);
        close(g->events);
        free(g);
        return NULL;
}

const char *own_cgroup_directory(const struct own_cgroup *g)
{
        return g->directory;
}

struct attached *own_cgroup_owner(struct membership *m, pid_t pid)
{
        _cleanup_free_ char *directory = NULL;
        struct own_cgroup *g;
        char *end;

        if (!m->cgroups || cgroup_of(pid, &directory) < 0)
                return NULL;
        /* Looks for this group, and then for the groups above it, the nearest first. */
        while ((end = strrchr(directory, '/'))) {
                HASH_FIND_STR(m->cgroups, directory, g);
                if (g)
                        return g->attached;
                *end = '\0';
        }
        return NULL;
}
