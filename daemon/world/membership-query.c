/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/world/internal.h"

/* Who the members of a context, or of a subtree, are. */

struct found {
        struct member_task task;
        uint64_t leader_start_nsec;
};

struct query {
        const struct context *context;
        bool recursive;
        struct found *found; /* sorted by process, context, and thread, the leader first */
        size_t n, allocated;
};

static int collect(void *userdata, const struct member_record *record)
{
        struct query *q = userdata;
        const struct context *c = record->slot->context;
        struct found *f;

        if (c != q->context && !(q->recursive && context_is_below(c, q->context)))
                return 0;
        if (q->n == q->allocated) {
                size_t n = q->allocated > 0 ? q->allocated * 2 : 64;

                f = reallocarray(q->found, n, sizeof *f);
                if (!f)
                        return -ENOMEM;
                q->found = f;
                q->allocated = n;
        }
        f = &q->found[q->n++];
        *f = (struct found){
                        .task =
                                        {
                                                        .pid = record->pid,
                                                        .tid = record->tid,
                                                        .start_usec = record->start_nsec / 1000,
                                                        .uid = record->uids[1],
                                                        .context = c,
                                        },
                        .leader_start_nsec = record->leader_start_nsec,
        };
        memcpy(f->task.comm, record->comm, strnlen(record->comm, sizeof f->task.comm - 1));
        return 0;
}

static void query_done(struct query *q)
{
        free(q->found);
}

static int compare(const void *a, const void *b)
{
        const struct member_task *x = &((const struct found *) a)->task,
                                 *y = &((const struct found *) b)->task;
        bool x_leads = x->pid == x->tid, y_leads = y->pid == y->tid;

        if (x->pid != y->pid)
                return x->pid < y->pid ? -1 : 1;
        if (x->context != y->context)
                return x->context->id < y->context->id ? -1 : 1;
        if (x_leads != y_leads)
                return x_leads ? -1 : 1;
        return (x->tid > y->tid) - (x->tid < y->tid);
}

static int query_run(struct effects *e, struct query *q)
{
        int r = e->membership.backend->each(e, collect, q);

        if (r < 0) {
                query_done(q);
                return r;
        }
        if (q->n > 0)
                qsort(q->found, q->n, sizeof *q->found, compare);
        return 0;
}

struct task_list {
        struct member_task *tasks;
        size_t n, allocated;
        const struct context *context;
};

static int add_task(struct task_list *l, const struct member_task *task)
{
        if (l->n == l->allocated) {
                size_t n = l->allocated > 0 ? l->allocated * 2 : 64;
                struct member_task *larger = reallocarray(l->tasks, n, sizeof *larger);

                if (!larger)
                        return -ENOMEM;
                l->tasks = larger;
                l->allocated = n;
        }
        l->tasks[l->n++] = *task;
        return 0;
}

static int add_entered(void *userdata, struct process *p, uint32_t tid, uint64_t since_usec)
{
        struct task_list *l = userdata;
        struct member_task task = {
                        .pid = (uint32_t) process_pid(p),
                        .tid = tid,
                        .entered = true,
                        .start_usec = since_usec,
                        .uid = p->uid,
                        .context = l->context,
        };

        memcpy(task.comm, p->comm, sizeof task.comm);
        return add_task(l, &task);
}

/* Threads that have entered a context by themselves follow after the members by their process. */
static int add_all_entered(struct effects *e, const struct query *q, struct task_list *l)
{
        struct member_slot *slot, *next;

        HASH_ITER (hh, e->membership.by_id, slot, next) {
                const struct context *c = slot->context;
                int r;

                if (!c || (c != q->context && !(q->recursive && context_is_below(c, q->context))))
                        continue;
                l->context = c;
                r = threads_each(e, slot, add_entered, l);
                if (r < 0)
                        return r;
        }
        return 0;
}

int membership_tasks(struct effects *e, const struct context *c, bool recursive, struct member_task **ret,
                size_t *ret_n)
{
        struct query q = {.context = c, .recursive = recursive};
        struct task_list l = {};
        int r = query_run(e, &q);

        if (r < 0)
                return r;
        for (size_t i = 0; i < q.n && r >= 0; i++)
                r = add_task(&l, &q.found[i].task);
        if (r >= 0)
                r = add_all_entered(e, &q, &l);
        query_done(&q);
        if (r < 0) {
                free(l.tasks);
                return r;
        }
        *ret = l.tasks;
        *ret_n = l.n;
        return 0;
}

/* Tasks of one process in one context, which follow one another, become one entry; its name is its leader's.
 */
static size_t fold(struct member_process *list, size_t n)
{
        size_t out = 0;

        for (size_t i = 0; i < n; i++) {
                struct member_process *last = out > 0 ? &list[out - 1] : NULL;

                if (last && last->pid == list[i].pid && last->context == list[i].context)
                        last->n_tasks++;
                else
                        list[out++] = list[i];
        }
        return out;
}

int membership_processes(struct effects *e, const struct context *c, bool recursive,
                struct member_process **ret, size_t *ret_n)
{
        struct query q = {.context = c, .recursive = recursive};
        struct member_process *list;
        size_t n;
        int r = query_run(e, &q);

        if (r < 0)
                return r;
        list = calloc(q.n + 1, sizeof *list);
        if (!list) {
                query_done(&q);
                return -ENOMEM;
        }
        for (size_t i = 0; i < q.n; i++) {
                const struct found *f = &q.found[i];

                list[i] = (struct member_process){
                                .pid = f->task.pid,
                                .start_usec = f->leader_start_nsec / 1000,
                                .uid = f->task.uid,
                                .n_tasks = 1,
                                .context = f->task.context,
                };
                memcpy(list[i].comm, f->task.comm, sizeof list[i].comm);
        }
        n = fold(list, q.n);
        query_done(&q);
        *ret = list;
        *ret_n = n;
        return 0;
}
