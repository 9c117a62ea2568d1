/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/world/membership/bpf-call.h"
#include "daemon/world/membership/bpf-internal.h"
#include "daemon/world/membership/look.h"
#include "util/cleanup.h"
#include "util/proc.h"
#include "util/realtime.h"

/* An iterator over all tasks takes longer the more of them there are, whoever has them: a stranger's 10,000
 * threads make it a few milliseconds. So few members, in processes that the kernel's programs have noted, are
 * found by a look at these alone. */

#define FEW_SLOTS 16
#define FEW_TASKS 256
#define FEW_FREE 8   /* so many processes are few on any host */
#define FEW_PRICE 32 /* a look at a process takes as long as a look at all does for so many tasks */
#define ADOPT_TRIES 3

void bpf_few_begin(struct membership *m, const struct member_slot *slot)
{
        static const struct membership_processes none;

        /* Where it fails all tasks are looked at. */
        (void) bpf_map_update(m->bpf->fds[PROBE_FD_PROCESSES], &slot->number, &none);
}

void bpf_few_end(struct membership *m, const struct member_slot *slot)
{
        (void) bpf_map_delete(m->bpf->fds[PROBE_FD_PROCESSES], &slot->number);
}

/* An iterator ends early where the thread that it is at has gone. Then it may have met as many tasks as are
 * left, but not all that there were when it began. */
static bool has_met_all(const struct bpf_membership *b, uint64_t met_before)
{
        return bpf_counter(&b->stats->met) - met_before >= bpf_counter(&b->stats->threads);
}

int bpf_few_adopt(struct bpf_membership *b, int pidfd)
{
        for (unsigned i = 0; i < ADOPT_TRIES; i++) {
                uint64_t met = bpf_counter(&b->stats->met), failed = bpf_counter(&b->stats->adopt_failed);
                int r = bpf_iterator_run(bpf_iterate_process(b->fds[PROBE_FD_ADOPT_PROGRAM], pidfd, 0));

                if (r < 0 || bpf_counter(&b->stats->adopt_failed) != failed)
                        return r;
                if (bpf_counter(&b->stats->met) != met && has_met_all(b, met))
                        return 1;
        }
        return 0;
}

struct few {
        struct member_slot *slots[FEW_SLOTS];
        uint32_t found[FEW_SLOTS];
        size_t n_slots;
        uint32_t pids[FEW_TASKS];
        size_t n_pids;
        struct membership_task tasks[FEW_TASKS];
        size_t n_tasks;
};

static bool has_pid(const struct few *f, uint32_t pid)
{
        for (size_t i = 0; i < f->n_pids; i++)
                if (f->pids[i] == pid)
                        return true;
        return false;
}

static bool is_cheaper(size_t n_pids)
{
        unsigned n_tasks;
        char text[128];

        if (n_pids <= FEW_FREE)
                return true;
        return proc_read_small("/proc/loadavg", text, sizeof text) >= 0 &&
               sscanf(text, "%*s %*s %*s %*u/%u", &n_tasks) == 1 && n_pids <= n_tasks / FEW_PRICE;
}

/* 0: they are many, or it is not known where they are. */
static int choose(struct membership *m, struct member_look *l, struct few *f)
{
        struct membership_processes p;
        struct member_slot *slot;
        uint32_t n = 0;

        l->next_slot = 0;
        while ((slot = member_look_next_slot(m, l))) {
                n += bpf_live(m, slot);
                if (n > FEW_TASKS || f->n_slots == FEW_SLOTS)
                        return 0;
                f->slots[f->n_slots++] = slot;
        }
        for (size_t i = 0; i < f->n_slots; i++) {
                if (bpf_map_look_up(m->bpf->fds[PROBE_FD_PROCESSES], &f->slots[i]->number, &p) < 0 ||
                                p.is_crowded)
                        return 0;
                for (size_t k = 0; k < MEMBERSHIP_PROCESSES; k++) {
                        if (p.pids[k] == 0 || has_pid(f, p.pids[k]))
                                continue;
                        if (f->n_pids == FEW_TASKS)
                                return 0;
                        f->pids[f->n_pids++] = p.pids[k];
                }
        }
        return is_cheaper(f->n_pids);
}

static void count(struct few *f, const struct membership_task *t)
{
        for (size_t i = 0; i < f->n_slots; i++)
                f->found[i] += t->value.slot == f->slots[i]->number &&
                               t->value.context_id == f->slots[i]->context_id;
}

/* Less than 0 also where there is no room for them, or where some were not met. */
static int read_process(struct membership *m, struct few *f, uint32_t pid)
{
        _cleanup_close_ int fd = bpf_iterate_process(m->bpf->fds[PROBE_FD_LIST_PROGRAM], -1, pid);
        char *buffer = (char *) f->tasks;
        size_t length = f->n_tasks * sizeof f->tasks[0];
        uint64_t met = bpf_counter(&m->bpf->stats->met);
        ssize_t n;

        if (fd < 0)
                return fd;
        do {
                if (length == sizeof f->tasks)
                        return -ENOBUFS;
                n = bpf_iterator_read(fd, buffer + length, sizeof f->tasks - length);
                if (n < 0)
                        return (int) n;
                length += (size_t) n;
        } while (n > 0);
        if (bpf_counter(&m->bpf->stats->met) != met && !has_met_all(m->bpf, met))
                return -EAGAIN;
        for (; f->n_tasks < length / sizeof f->tasks[0]; f->n_tasks++)
                count(f, &f->tasks[f->n_tasks]);
        return 0;
}

int bpf_few_list(struct membership *m, struct member_look *l)
{
        static struct few f;
        struct realtime before;
        int r = 0;

        f.n_slots = f.n_pids = f.n_tasks = 0;
        memset(f.found, 0, sizeof f.found);
        if (!choose(m, l, &f))
                return 0;
        before = realtime_begin(); /* not again for each */
        for (size_t i = 0; i < f.n_pids && r == 0; i++)
                r = read_process(m, &f, f.pids[i]);
        realtime_end(before);
        if (r < 0)
                return 0;
        for (size_t i = 0; i < f.n_slots; i++)
                if (f.found[i] < bpf_live(m, f.slots[i]))
                        return 0;
        for (size_t i = 0; i < f.n_tasks; i++) {
                r = bpf_give_record(m, &f.tasks[i], l->cb, l->userdata);
                if (r != 0)
                        return r < 0 ? r : 1;
        }
        return 1;
}
