/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/internal.h"
#include "util/proc.h"

/* Tells how many members a context or a subtree has, of which one a process is a member, and which leaks they
 * have. */

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

struct anchor *members_next(
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

        for (struct anchor *a = members_next(e, c, recursive, NULL); a; a = members_next(e, c, recursive, a))
                n += membership_count(e->membership, a) + threads_look(e->thread_pages, a);
        if (!e->is_draining)
                thread_pages_forget(e->thread_pages);
        facts_wake(&e->world.facts);
        return n;
}

int engine_count_some(struct engine *e, const struct context *c, uint32_t budget, struct members_look **look,
                uint32_t *ret)
{
        int r = 0;

        if (!c->anchor || !c->anchor->slot || !membership_count_takes_looks(e->membership)) {
                *ret += engine_count_members(e, c, false);
                return 1;
        }
        if (!*look)
                r = engine_look(e, c, false, false, look);
        if (r >= 0)
                r = members_look_go(*look, budget);
        if (r <= 0)
                return r;
        *ret += (uint32_t) members_look_count(*look) + threads_look(e->thread_pages, c->anchor);
        *look = members_look_free(*look);
        thread_pages_forget(e->thread_pages);
        return 1;
}

int engine_context_of(struct engine *e, struct process *p, struct context **ret)
{
        struct anchor *a;
        uint32_t index;
        int r = membership_look_up(e->membership, p, &a, &index);

        if (r >= 0)
                *ret = r > 0 ? a->context : NULL;
        return r;
}

bool engine_may_reap(struct engine *e, struct process *p, struct process *reaper)
{
        struct context *c, *of_reaper;
        struct proc_stat stat;

        return proc_stat_read(process_pid(p), &stat) >= 0 && stat.ppid == process_pid(reaper) &&
               engine_context_of(e, p, &c) >= 0 && engine_context_of(e, reaper, &of_reaper) >= 0 &&
               c == of_reaper;
}

int engine_open_member(struct engine *e, const struct member_process *member, struct process **ret)
{
        if (member->start_usec == 0)
                return -EBUSY; /* nobody could read it */
        return process_acquire_pid(e->processes, (pid_t) member->pid,
                        proc_nsec_to_ticks(member->start_usec * 1000), ret);
}

void engine_begin_leaks(struct engine *e, struct leak_cursor *cursor)
{
        leaks_begin(e->leaks, cursor);
}

void engine_end_leaks(struct leak_cursor *cursor)
{
        leaks_end(cursor);
}

const struct leak *engine_next_leak(struct leak_cursor *cursor, const struct context *c, uint32_t *budget,
                struct context **ret_context)
{
        bool is_its_turn;
        struct leak *l;

        while (*budget > 0 && (l = leaks_next(cursor, &is_its_turn))) {
                --*budget;
                if (c && !context_is_below(l->anchor->context, c)) {
                        leaks_skip(cursor, l->anchor);
                } else if (is_its_turn) {
                        *ret_context = l->anchor->context;
                        return l;
                }
        }
        return NULL;
}
