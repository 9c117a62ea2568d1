/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/internal.h"
#include "util/proc.h"

/* Tells who the members of a context or of a subtree are, and which leaks they have. */

void members_look(struct engine *e, struct anchor *a)
{
        struct context *c = a->context;

        if (a->n_threads > 0 || membership_live(e->membership, a) > 0)
                return;
        if (!context_is_done(c)) {
                membership_trim(e->membership, a);
                if (!a->slot)
                        tree_left(e->tree, e->world.now_usec, c);
                return;
        }
        if (!c->busy) {
                membership_trim(e->membership, a);
                return;
        }
        tree_left(e->tree, e->world.now_usec, c);
        membership_left(e->membership, a);
        leaks_left(e->leaks, a);
        probe_forget(e->probe, a);
}

/* Walks the anchors of c and, if recursive, of all contexts below it that have members. Gives the first one,
 * or the one after a. */
static struct anchor *next_of(
                const struct engine *e, const struct context *c, bool recursive, const struct anchor *a)
{
        struct anchor *next;

        if (!recursive)
                return a ? NULL : c->anchor;
        if (c->n_busy_below == 0)
                return NULL;
        next = membership_next_context(e->membership, a);
        while (next && !context_is_below(next->context, c))
                next = membership_next_context(e->membership, next);
        return next;
}

uint32_t engine_count_members(struct engine *e, const struct context *c, bool recursive)
{
        uint32_t n = 0;

        for (struct anchor *a = next_of(e, c, recursive, NULL); a; a = next_of(e, c, recursive, a))
                n += membership_count(e->membership, a) + threads_look(e->thread_pages, a);
        if (!e->is_draining)
                thread_pages_forget(e->thread_pages);
        facts_wake(&e->world.facts);
        return n;
}

struct context *engine_context_of(struct engine *e, struct process *p)
{
        uint32_t index;
        struct anchor *a = membership_look_up(e->membership, p, &index);

        return a ? a->context : NULL;
}

/* Orders by process, then by context, then by thread. The leader comes first. */
static int compare_members(const void *left, const void *right)
{
        const struct member *x = left, *y = right;
        bool x_leads = x->pid == x->tid, y_leads = y->pid == y->tid;

        if (x->pid != y->pid)
                return x->pid < y->pid ? -1 : 1;
        if (x->anchor != y->anchor)
                return x->anchor->context_id < y->anchor->context_id ? -1 : 1;
        if (x_leads != y_leads)
                return x_leads ? -1 : 1;
        return (x->tid > y->tid) - (x->tid < y->tid);
}

static int list_members(
                struct engine *e, const struct context *c, bool recursive, struct member **ret, size_t *ret_n)
{
        int r;

        for (struct anchor *a = next_of(e, c, recursive, NULL); a; a = next_of(e, c, recursive, a))
                membership_want(e->membership, a);
        r = membership_list(e->membership, ret, ret_n);
        if (r < 0)
                return r;
        if (*ret_n > 0)
                qsort(*ret, *ret_n, sizeof **ret, compare_members);
        return 0;
}

struct task_list {
        struct member_task *tasks;
        size_t n;
};

static int add_entered(struct engine *e, const struct anchor *a, struct task_list *l)
{
        struct entered_thread *threads = NULL;
        struct member_task *tasks;
        size_t n = 0;
        int r;

        if (LIST_EMPTY(&a->entrances))
                return 0;
        r = threads_list(e->thread_pages, a, &threads, &n);
        if (r < 0)
                return r;
        tasks = reallocarray(l->tasks, l->n + n + 1, sizeof *tasks);
        if (!tasks) {
                free(threads);
                return -ENOMEM;
        }
        l->tasks = tasks;
        for (size_t i = 0; i < n; i++) {
                const struct process *p = threads[i].process;
                struct member_task *task = &tasks[l->n++];

                *task = (struct member_task){
                                .pid = (uint32_t) process_pid(p),
                                .tid = threads[i].tid,
                                .has_entered = true,
                                .start_usec = threads[i].since_usec,
                                .uid = process_uid(p),
                                .context = a->context,
                };
                memcpy(task->comm, process_comm(p), sizeof task->comm);
        }
        free(threads);
        return 0;
}

int engine_tasks(struct engine *e, const struct context *c, bool recursive, struct member_task **ret,
                size_t *ret_n)
{
        struct member *members = NULL;
        struct task_list l = {};
        size_t n = 0;
        int r;

        r = list_members(e, c, recursive, &members, &n);
        if (r < 0)
                return r;
        l.tasks = calloc(n + 1, sizeof *l.tasks);
        if (!l.tasks)
                r = -ENOMEM;
        for (; r >= 0 && l.n < n; l.n++) {
                const struct member *m = &members[l.n];

                l.tasks[l.n] = (struct member_task){
                                .pid = m->pid,
                                .tid = m->tid,
                                .start_usec = m->start_nsec / 1000,
                                .uid = m->uid,
                                .context = m->anchor->context,
                };
                memcpy(l.tasks[l.n].comm, m->comm, sizeof m->comm);
        }
        free(members);
        for (struct anchor *a = next_of(e, c, recursive, NULL); a && r >= 0; a = next_of(e, c, recursive, a))
                r = add_entered(e, a, &l);
        if (r < 0) {
                free(l.tasks);
                return r;
        }
        *ret = l.tasks;
        *ret_n = l.n;
        return 0;
}

int engine_processes(struct engine *e, const struct context *c, bool recursive, struct member_process **ret,
                size_t *ret_n)
{
        struct member_process *list, *last = NULL;
        struct member *members = NULL;
        size_t n = 0, kept = 0;
        int r;

        r = list_members(e, c, recursive, &members, &n);
        if (r < 0)
                return r;
        list = calloc(n + 1, sizeof *list);
        if (!list) {
                free(members);
                return -ENOMEM;
        }
        /* The tasks of one process in one context follow one another and become one entry. The leader comes
         * first, so the entry has its command. */
        for (size_t i = 0; i < n; i++) {
                const struct member *m = &members[i];

                if (last && last->pid == m->pid && last->context == m->anchor->context) {
                        last->n_tasks++;
                        continue;
                }
                last = &list[kept++];
                *last = (struct member_process){
                                .pid = m->pid,
                                .start_usec = m->leader_start_nsec / 1000,
                                .uid = m->uid,
                                .n_tasks = 1,
                                .context = m->anchor->context,
                };
                memcpy(last->comm, m->comm, sizeof last->comm);
        }
        free(members);
        *ret = list;
        *ret_n = kept;
        return 0;
}

int engine_open_member(struct engine *e, const struct member_process *member, struct process **ret)
{
        return process_acquire_pid(e->processes, (pid_t) member->pid,
                        proc_nsec_to_ticks(member->start_usec * 1000), ret);
}

int engine_process_pidfd(const struct process *p)
{
        return process_pidfd(p);
}

const struct leak *engine_next_leak(struct engine *e, const struct context *c, struct leak_cursor *cursor,
                struct context **ret_context)
{
        for (;;) {
                const struct leak *l;

                if (cursor->leak)
                        l = TAILQ_NEXT(cursor->leak, leaks);
                else
                        l = cursor->anchor ? TAILQ_FIRST(&cursor->anchor->leaks) : NULL;
                if (l) {
                        cursor->leak = l;
                        if (l->is_resolved != cursor->resolved_ones)
                                continue;
                        *ret_context = cursor->anchor->context;
                        return l;
                }
                cursor->leak = NULL;
                do {
                        cursor->anchor = cursor->anchor ? leaks_next_context(cursor->anchor)
                                                        : leaks_first_context(e->leaks);
                } while (cursor->anchor && c && !context_is_below(cursor->anchor->context, c));
                if (cursor->anchor)
                        continue;
                if (cursor->resolved_ones)
                        return NULL;
                cursor->resolved_ones = true;
        }
}
