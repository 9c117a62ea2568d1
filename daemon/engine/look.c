/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/internal.h"
#include "util/proc.h"

/* Tells who the members of a context or of a subtree are. Without BPF each of them is looked at in /proc, so
 * a look is made in parts, with others served between. */

/* Orders by process, then by context, then by thread. The leader comes first. */
static int compare_members(const void *left, const void *right)
{
        const struct member *x = left, *y = right;
        bool x_leads = x->pid == x->tid, y_leads = y->pid == y->tid;

        if (x->pid != y->pid)
                return x->pid < y->pid ? -1 : 1;
        if (x->context_id != y->context_id)
                return x->context_id < y->context_id ? -1 : 1;
        if (x_leads != y_leads)
                return x_leads ? -1 : 1;
        return (x->tid > y->tid) - (x->tid < y->tid);
}

struct members_look {
        struct engine *engine;
        struct member_list *list;
        bool is_sorted;
};

int engine_look(struct engine *e, const struct context *c, bool recursive, bool with_uids,
                struct members_look **ret)
{
        struct members_look *l = malloc(sizeof *l);
        int r;

        if (!l)
                return -ENOMEM;
        *l = (struct members_look){.engine = e};
        for (struct anchor *a = members_next(e, c, recursive, NULL); a; a = members_next(e, c, recursive, a))
                membership_want(e->membership, a);
        r = membership_list(e->membership, with_uids, &l->list);
        if (r < 0) {
                free(l);
                return r;
        }
        *ret = l;
        return 0;
}

int members_look_go(struct members_look *l, uint32_t budget)
{
        return member_list_go(l->engine->membership, l->list, &budget);
}

struct members_look *members_look_free(struct members_look *l)
{
        if (!l)
                return NULL;
        member_list_free(l->list);
        free(l);
        return NULL;
}

size_t members_look_count(const struct members_look *l)
{
        size_t n;

        (void) member_list_members(l->list, &n);
        return n;
}

/* Gives them sorted. Members of contexts that have gone meanwhile come, too. */
static struct member *sorted(struct members_look *l, size_t *ret_n)
{
        struct member *members = member_list_members(l->list, ret_n);

        if (*ret_n > 0 && !l->is_sorted)
                qsort(members, *ret_n, sizeof *members, compare_members);
        l->is_sorted = true;
        return members;
}

/* NULL: it has gone. */
static struct context *context_of(const struct members_look *l, const struct member *m)
{
        const struct anchor *a = anchor_find(l->engine, m->context_id);

        return a ? a->context : NULL;
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
                                .process_start_usec = proc_ticks_to_nsec(process_start_ticks(p)) / 1000,
                                .context = a->context,
                };
                memcpy(task->comm, process_comm(p), sizeof task->comm);
        }
        free(threads);
        return 0;
}

static int add_all_entered(struct engine *e, const struct context *c, bool recursive, struct task_list *l)
{
        int r = 0;

        for (struct anchor *a = members_next(e, c, recursive, NULL); a && r >= 0;
                        a = members_next(e, c, recursive, a))
                r = add_entered(e, a, l);
        if (r < 0)
                free(l->tasks);
        return r;
}

int engine_entered(struct engine *e, const struct context *c, bool recursive, struct member_task **ret,
                size_t *ret_n)
{
        struct task_list l = {};
        int r = add_all_entered(e, c, recursive, &l);

        if (r < 0)
                return r;
        *ret = l.tasks;
        *ret_n = l.n;
        return 0;
}

int members_look_tasks(struct members_look *look, const struct context *c, bool recursive,
                struct member_task **ret, size_t *ret_n)
{
        struct task_list l = {};
        struct member *members;
        size_t n;
        int r;

        members = sorted(look, &n);
        l.tasks = calloc(n + 1, sizeof *l.tasks);
        if (!l.tasks)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const struct member *m = &members[i];
                struct context *of = context_of(look, m);

                if (!of)
                        continue;
                l.tasks[l.n] = (struct member_task){
                                .pid = m->pid,
                                .tid = m->tid,
                                .start_usec = m->start_nsec / 1000,
                                .context = of,
                };
                memcpy(l.tasks[l.n++].comm, m->comm, sizeof m->comm);
        }
        r = add_all_entered(look->engine, c, recursive, &l);
        if (r < 0)
                return r;
        *ret = l.tasks;
        *ret_n = l.n;
        return 0;
}

/* The tasks of one process in one context follow one another and become one entry. The leader comes first,
 * so the entry has its command. */
static bool next_process(struct members_look *l, size_t *i, struct member_process *ret,
                const struct member **ret_first)
{
        struct member *members;
        struct context *of;
        size_t n;

        members = sorted(l, &n);
        for (; *i < n; ++*i) {
                const struct member *m = &members[*i];

                of = context_of(l, m);
                if (!of)
                        continue;
                *ret = (struct member_process){
                                .pid = m->pid,
                                .start_usec = m->leader_start_nsec / 1000,
                                .uid = m->uids[1],
                                .context = of,
                };
                memcpy(ret->comm, m->comm, sizeof ret->comm);
                *ret_first = m;
                for (; *i < n && members[*i].pid == m->pid && members[*i].context_id == m->context_id; ++*i)
                        ret->n_tasks++;
                return true;
        }
        return false;
}

int members_look_processes(struct members_look *l, struct member_process **ret, size_t *ret_n)
{
        struct member_process *list;
        const struct member *first;
        size_t n, kept = 0, i = 0;

        (void) sorted(l, &n);
        list = calloc(n + 1, sizeof *list);
        if (!list)
                return -ENOMEM;
        while (next_process(l, &i, &list[kept], &first))
                kept++;
        *ret = list;
        *ret_n = kept;
        return 0;
}

bool members_look_next_ending(struct members_look *l, size_t *i, struct member_process *ret,
                struct member_ending *ret_ending)
{
        const struct member *first;

        while (next_process(l, i, ret, &first))
                if (membership_ending(l->engine->membership, ret->context->anchor, first, ret_ending))
                        return true;
        return false;
}

int engine_tasks(struct engine *e, const struct context *c, bool recursive, struct member_task **ret,
                size_t *ret_n)
{
        struct members_look *l;
        int r;

        r = engine_look(e, c, recursive, false, &l);
        if (r < 0)
                return r;
        r = members_look_go(l, UINT32_MAX);
        if (r >= 0)
                r = members_look_tasks(l, c, recursive, ret, ret_n);
        members_look_free(l);
        return r;
}

int engine_processes(struct engine *e, const struct context *c, bool recursive, struct member_process **ret,
                size_t *ret_n)
{
        struct members_look *l;
        int r;

        r = engine_look(e, c, recursive, true, &l);
        if (r < 0)
                return r;
        r = members_look_go(l, UINT32_MAX);
        if (r >= 0)
                r = members_look_processes(l, ret, ret_n);
        members_look_free(l);
        return r;
}
