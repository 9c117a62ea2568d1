/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/proc.h"
#include "ctl/attach.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/descendants.h"
#include "ctl/endings.h"

/* attach --children: a process with all that descend from it. The process comes first, and parents before
 * their children: whatever one forks once it is a member is a member by itself. So after a look at all of
 * them only those are still to be attached that were forked between the look and the attach of their parent.
 * We look again until there are none. If the parent has exited in that time as well nobody knows whose child
 * it was: that is said.
 *
 * Who is a member of another context than the process was stays there: that one was meant for it. */

#define REASONS_MAX 10

struct member_of {
        uint32_t pid;
        uint64_t start_usec;
        char *context;  /* path#id */
        bool in_target; /* in the target, or below it */
};

struct family {
        struct ctl *ctl;
        const char *target; /* path#id */
        char was_in[CTXD_PATH_ID_MAX + 1];
        const struct attach_arguments *arguments;
        struct descendants descendants;
        struct member_of *members; /* as they were at the last look, by pid */
        size_t n_members;
        bool members_are_all;
        size_t n_tried, n_gone, n_missing;
        int status;
};

static void members_free(struct family *f)
{
        for (size_t i = 0; i < f->n_members; i++)
                free(f->members[i].context);
        free(f->members);
        f->members = NULL;
        f->n_members = 0;
}

static int add_member(void *userdata, const struct ending_row *row)
{
        struct family *f = userdata;
        struct member_of *members;

        if (row->ending.n_threads > 0)
                return 0; /* it is none */
        members = reallocarray(f->members, f->n_members + 1, sizeof *members);
        if (!members)
                return -ENOMEM;
        f->members = members;
        members[f->n_members] = (struct member_of){row->pid, row->start_usec, strdup(row->context)};
        return members[f->n_members++].context ? 0 : -ENOMEM;
}

static int compare_pids(const void *key, const void *item)
{
        uint32_t pid = *(const uint32_t *) key, other = ((const struct member_of *) item)->pid;

        return (pid > other) - (pid < other);
}

static struct member_of *find_member(const struct family *f, uint32_t pid)
{
        if (f->n_members == 0)
                return NULL;
        return bsearch(&pid, f->members, f->n_members, sizeof *f->members, compare_pids);
}

static int add_to_target(void *userdata, const struct ending_row *row)
{
        struct member_of *m = find_member(userdata, row->pid);

        if (m && m->start_usec == row->start_usec && strcmp(m->context, row->context) == 0)
                m->in_target = true;
        return 0;
}

/* A path does not tell what is below the target: it may have been below an earlier one of that name. */
static int read_members(struct family *f)
{
        bool all;
        int r;

        members_free(f);
        r = endings_each(f->ctl, "/", true, add_member, f, &f->members_are_all);
        return r == 0 ? endings_each(f->ctl, f->target, true, add_to_target, f, &all) : r;
}

/* NULL: of no context, as far as is known. */
static const struct member_of *member_of(const struct family *f, const struct descendant *d)
{
        const struct member_of *m = find_member(f, (uint32_t) d->pid);

        return m && proc_nsec_to_ticks(m->start_usec * 1000) == d->start_ticks ? m : NULL;
}

static void missing(struct family *f, int status, pid_t pid, const char *format, ...)
                __attribute__((format(printf, 4, 5)));

static void missing(struct family *f, int status, pid_t pid, const char *format, ...)
{
        _cleanup_free_ char *why = NULL;
        struct proc_stat stat;
        va_list ap;

        if (f->status == EXIT_DONE)
                f->status = status;
        if (++f->n_missing > REASONS_MAX)
                return;
        va_start(ap, format);
        if (vasprintf(&why, format, ap) < 0)
                why = NULL;
        va_end(ap);
        print_error("process %d (%s): %s", (int) pid,
                        proc_stat_read(pid, &stat) < 0 ? "it has exited" : stat.comm, why ? why : "");
}

/* 0; or a positive exit status: the others would fail as well. */
static int attach_one(struct family *f, const struct descendant *d)
{
        _cleanup_close_ int pidfd = pidfd_open_process(d->pid);
        struct proc_stat stat;
        char about[32];
        int r;

        f->n_tried++;
        if (pidfd < 0 || proc_stat_read(d->pid, &stat) < 0 || stat.start_ticks != d->start_ticks) {
                f->n_gone++;
                return 0;
        }
        snprintf(about, sizeof about, "process %d", (int) d->pid);
        f->ctl->about = about;
        r = attach_process(f->ctl, f->target, pidfd, f->arguments, CTXD_ERROR_NO_SUCH_PROCESS);
        f->ctl->about = NULL;
        if (r == BUS_EXPECTED) {
                f->n_gone++;
                return 0;
        }
        if (r == EXIT_DONE)
                return 0;
        f->n_missing++;
        if (f->status == EXIT_DONE)
                f->status = r;
        return r == EXIT_NOT_ALLOWED ? 0 : r;
}

static int attach_descendant(struct family *f, const struct descendant *d)
{
        const struct member_of *m = member_of(f, d);

        if (m && m->in_target)
                return 0;
        if (m && strcmp(m->context, f->was_in) != 0)
                missing(f, EXIT_FAILED, d->pid, "it is a member of %s, and stays there", m->context);
        else if (!m && !f->members_are_all)
                missing(f, EXIT_FAILED, d->pid,
                                "there are too many members to know whether it is one elsewhere");
        else
                return attach_one(f, d);
        return 0;
}

static void found_orphan(void *userdata, pid_t pid)
{
        struct family *f = userdata;

        missing(f, EXIT_FAILED, pid, "if its parent was one that has just exited, it should be a member");
}

/* Looks, and attaches those that are new, until all of these were members. They were forked by members then,
 * and so are those that nobody has seen yet. */
static int attach_descendants(struct family *f)
{
        struct descendants *d = &f->descendants;
        size_t done = 1, before; /* the process itself is */
        int r;

        do {
                if (descendants_look(d) < 0) {
                        print_error("cannot look for the children of a process");
                        return EXIT_FAILED;
                }
                before = f->n_tried;
                r = done < d->n ? read_members(f) : 0;
                for (; r == 0 && done < d->n; done++)
                        r = attach_descendant(f, d->items + done);
        } while (r == 0 && before != f->n_tried);
        return r;
}

static int attach_family(struct family *f, pid_t pid)
{
        struct descendants *d = &f->descendants;
        const struct member_of *m;
        int r = descendants_begin(d, pid);

        if (r < 0) {
                print_error("cannot read process %d: %s", (int) pid, strerror(-r));
                return EXIT_FAILED;
        }
        /* Before the process is one: those that are here now are known, whatever becomes of their parents. */
        r = descendants_look(d);
        if (r < 0) {
                print_error("cannot look for the children of process %d: %s", (int) pid, strerror(-r));
                return EXIT_FAILED;
        }
        r = read_members(f);
        if (r > 0)
                return r;
        m = member_of(f, d->items);
        snprintf(f->was_in, sizeof f->was_in, "%s", m ? m->context : "");
        r = attach_one(f, d->items);
        if (r == 0 && f->n_gone > 0) {
                print_error("process %d has exited", (int) pid);
                return EXIT_FAILED;
        }
        if (r > 0 || f->status != EXIT_DONE)
                return f->status;
        r = attach_descendants(f);
        if (f->n_gone > 0)
                descendants_each_orphan(d, found_orphan, f);
        if (f->n_missing > 0)
                print_error("%zu process%s of those that descend from %d %s not become %s of %s",
                                f->n_missing, f->n_missing == 1 ? "" : "es", (int) pid,
                                f->n_missing == 1 ? "has" : "have",
                                f->n_missing == 1 ? "a member" : "members", f->target);
        return r > 0 ? r : f->status;
}

int attach_with_children(
                struct ctl *ctl, const char *path, pid_t pid, const struct attach_arguments *arguments)
{
        char target[CTXD_PATH_ID_MAX + 1];
        struct family f = {.ctl = ctl, .target = target, .arguments = arguments};
        int r = contexts_pin(ctl, path, target);

        if (r == 0)
                r = attach_family(&f, pid);
        members_free(&f);
        descendants_deinit(&f.descendants);
        return r;
}
