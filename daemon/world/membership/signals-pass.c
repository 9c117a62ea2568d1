/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/world/membership/signals.h"
#include "util/log.h"
#include "util/proc-reader.h"

/* Makes a pass over the members of some slots: lists them, and then gives each the signal that it has to get
 * now. Both may be made in parts. */

#define STORM_PASSES 3 /* so many in a row that have ended newcomers are a race */

/* A large list is rare, so its memory is not kept. */
static void targets_free(struct signal_pass *p)
{
        free(p->targets);
        p->targets = NULL;
        p->n = p->allocated = p->next = 0;
}

void pass_stop(struct signal_pass *p)
{
        member_look_end(&p->look);
        targets_free(p);
        p->state = PASS_IDLE;
}

static int collect(void *userdata, const struct member_record *record)
{
        struct signal_pass *p = userdata;
        struct target *t;

        if (!record->slot->anchor || record->slot->pass != p)
                return 0;
        if (p->n == p->allocated) {
                size_t n = p->allocated > 0 ? p->allocated * 2 : 64;

                t = reallocarray(p->targets, n, sizeof *t);
                if (!t)
                        return -ENOMEM;
                p->targets = t;
                p->allocated = n;
        }
        t = &p->targets[p->n++];
        *t = (struct target){
                        .context_id = record->slot->context_id,
                        .slot = record->slot->number,
                        .policy = record->policy,
                        .pid = record->pid,
                        .ppid = record->ppid,
                        .start_nsec = record->leader_start_nsec,
                        .pending = record->pending,
        };
        memcpy(t->comm, record->comm, strnlen(record->comm, sizeof t->comm - 1));
        p->n_counted += record->slot->counts;
        return 0;
}

/* From here on the kernel tells of every child that is born in one of the contexts. 0: there is nobody to be
 * signalled. */
static int begin(struct membership *m, struct signal_pass *p)
{
        struct member_slot *slot;
        static uint64_t last_number;

        p->n = p->next = p->n_counted = 0;
        p->number = ++last_number;
        p->found = p->ended = p->is_unread = false;
        if (LIST_EMPTY(&p->slots)) {
                p->n_restless = p->n_races = 0;
                p->is_race = false;
                return 0;
        }
        LIST_FOREACH (slot, &p->slots, in_pass) {
                slot->pass_number = p->number;
                m->backend->set_done(m, slot);
                member_slot_want(m, slot);
        }
        p->look = (struct member_look){.cb = collect, .userdata = p, .is_thorough = true};
        if (member_look_begin(m, &p->look) < 0)
                return -ENOMEM;
        p->state = PASS_LISTS;
        return 1;
}

static int list(struct membership *m, struct signal_pass *p, uint32_t *budget)
{
        int r = member_look_go(m, &p->look, budget);

        if (r == -ESTALE) {
                p->n = p->n_counted = 0;
                r = member_look_go(m, &p->look, budget);
        }
        if (r <= 0)
                return r;
        p->found |= p->look.is_restless;
        p->is_unread |= p->look.is_unread;
        member_look_end(&p->look);
        p->state = PASS_GIVES;
        return 1;
}

static int give(struct membership *m, struct signal_pass *p, uint64_t until_usec, uint32_t *budget)
{
        uint64_t now_usec = world_clock_usec(m->world), waited_usec = proc_reader_waited_usec();
        int r;

        for (; p->next < p->n; p->next++) {
                if (proc_reader_waited_usec() - waited_usec > LOOK_WAIT_USEC)
                        *budget = 0;
                if (*budget == 0)
                        return 0;
                if (p->next % 8 == 7) {
                        now_usec = world_clock_usec(m->world);
                        if (now_usec >= until_usec)
                                return 0;
                }
                r = signals_give(m, &p->targets[p->next], p->number, now_usec);
                if (r < 0)
                        return r;
                p->found |= r > 0;
                p->ended |= r > 1;
                /* It was read again, and what it does with the signal. */
                *budget -= r > 0 && *budget >= 2 ? 2 : r > 0;
        }
        return 1;
}

int pass_go(struct membership *m, struct signal_pass *p, uint64_t until_usec, uint32_t *budget)
{
        int r = 1;

        if (p->state == PASS_IDLE)
                r = begin(m, p);
        if (r > 0 && p->state == PASS_LISTS)
                r = list(m, p, budget);
        if (r > 0)
                r = give(m, p, until_usec, budget);
        if (r < 0) {
                if (!p->failing)
                        log_warning("Cannot look through the members: %s", strerror(-r));
                p->failing = true;
                pass_stop(p);
                return r;
        }
        if (r == 0 && p->state != PASS_IDLE)
                return 0;
        p->failing = false;
        p->state = PASS_IDLE;
        if (!p->is_unread)
                signals_forget_gone(m, p);
        p->n_restless = p->found ? p->n_restless + 1 : 0;
        p->n_races = p->ended ? p->n_races + 1 : 0;
        p->is_race = p->ended && (p->is_race || p->n_races >= STORM_PASSES);
        if (p->n_restless > 0 || p->is_unread)
                return 1;
        while (!LIST_EMPTY(&p->slots))
                signals_end(m, LIST_FIRST(&p->slots));
        targets_free(p);
        return 1;
}
