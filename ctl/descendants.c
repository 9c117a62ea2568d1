/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/proc.h"
#include "ctl/descendants.h"

static bool is_known(const struct descendants *d, pid_t pid, uint64_t start_ticks)
{
        for (size_t i = 0; i < d->n; i++)
                if (d->items[i].pid == pid && d->items[i].start_ticks == start_ticks)
                        return true;
        return false;
}

static int add(struct descendants *d, pid_t pid, uint64_t start_ticks)
{
        if (d->n == d->allocated) {
                size_t n = d->allocated ? 2 * d->allocated : 64;
                struct descendant *items = reallocarray(d->items, n, sizeof *items);

                if (!items)
                        return -ENOMEM;
                d->items = items;
                d->allocated = n;
        }
        d->items[d->n++] = (struct descendant){.pid = pid, .start_ticks = start_ticks};
        return 0;
}

int descendants_begin(struct descendants *d, pid_t pid)
{
        struct proc_stat stat, above;
        int r = proc_stat_read(pid, &stat);

        if (r < 0)
                return r;
        *d = (struct descendants){.began_ticks = proc_nsec_to_ticks(now_boottime_usec() * 1000)};
        for (pid_t p = stat.ppid; p > 0 && d->n_ancestors < ANCESTORS_MAX; p = above.ppid) {
                d->ancestors[d->n_ancestors++] = p;
                if (proc_stat_read(p, &above) < 0)
                        break;
        }
        return add(d, pid, stat.start_ticks);
}

struct family {
        struct descendants *d;
        pid_t parent;
};

static int add_child(void *userdata, pid_t child)
{
        struct family *f = userdata;
        struct proc_stat stat;

        /* The pid may be another process's by now. */
        if (child == getpid() || proc_stat_read(child, &stat) < 0 || stat.ppid != f->parent ||
                        proc_is_dead(&stat) || is_known(f->d, child, stat.start_ticks))
                return 0;
        return add(f->d, child, stat.start_ticks);
}

int descendants_look(struct descendants *d)
{
        struct proc_stat stat;
        int r = 0;

        /* The list grows meanwhile. */
        for (size_t i = 0; i < d->n && r >= 0; i++) {
                struct family f = {d, d->items[i].pid};

                if (proc_stat_read(f.parent, &stat) >= 0 && stat.start_ticks == d->items[i].start_ticks)
                        r = proc_each_child(f.parent, add_child, &f);
        }
        return r < 0 ? r : 0;
}

struct search {
        struct descendants *d;
        pid_t parent;
        void (*cb)(void *userdata, pid_t pid);
        void *userdata;
};

static int look_at_orphan(void *userdata, pid_t child)
{
        const struct search *s = userdata;
        struct proc_stat stat;

        if (child != getpid() && proc_stat_read(child, &stat) >= 0 && stat.ppid == s->parent &&
                        !proc_is_dead(&stat) && stat.start_ticks >= s->d->began_ticks &&
                        !is_known(s->d, child, stat.start_ticks)) {
                (void) add(s->d, child, stat.start_ticks); /* a child may be listed twice */
                s->cb(s->userdata, child);
        }
        return 0;
}

void descendants_each_orphan(struct descendants *d, void (*cb)(void *userdata, pid_t pid), void *userdata)
{
        struct search s = {.d = d, .cb = cb, .userdata = userdata};
        bool has_first = false;

        for (size_t i = 0; i < d->n_ancestors; i++) {
                s.parent = d->ancestors[i];
                has_first |= s.parent == 1;
                (void) proc_each_child(s.parent, look_at_orphan, &s);
        }
        s.parent = 1;
        if (!has_first)
                (void) proc_each_child(1, look_at_orphan, &s);
}

void descendants_deinit(struct descendants *d)
{
        free(d->items);
        *d = (struct descendants){};
}
