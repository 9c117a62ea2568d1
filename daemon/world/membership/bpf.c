/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/world/membership/bpf-call.h"
#include "daemon/world/membership/bpf-internal.h"
#include "daemon/world/membership/look.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/proc.h"
#include "util/utf8.h"

/* Membership that the kernel keeps, in maps and by programs that the probe has loaded (proto/membership.h).
 * ctxd holds the descriptors of the maps and links, so membership goes on when the probe is gone. */

#define ATTACH_TRIES 4
#define ADOPT_RUNS_MAX 64
#define EVENTS_AT_ONCE 1024
#define READ_AT_ONCE 64 /* members: they cost about as much as one that is read from /proc */

static struct membership_slot *shared(struct membership *m, const struct member_slot *slot)
{
        return m->bpf->slots + slot->number;
}

/* Takes in all that belong to contexts and are not members yet. If it fails it has taken in nobody, or, where
 * only a read has failed, not all. */
static int adopt(struct bpf_membership *b)
{
        for (unsigned i = 0; i < ADOPT_RUNS_MAX; i++) {
                uint64_t before = bpf_counter(&b->stats->adopted) + bpf_counter(&b->stats->adopt_failed);
                int r = bpf_iterator_run(bpf_iterate(b->fds[PROBE_FD_ADOPT]));

                if (r < 0 && i == 0)
                        return r;
                if (r < 0) {
                        /* Those of the runs before are members now, and who was forked meanwhile comes
                         * later. */
                        b->adopt_again = true;
                        return 0;
                }
                if (bpf_counter(&b->stats->adopted) + bpf_counter(&b->stats->adopt_failed) == before)
                        return 0;
        }
        /* The crowd forks faster than this. But the fork hook counts every child of a member, so nobody is
         * lost. */
        return 0;
}

/* The same, which makes up for what the hooks have failed at before. */
static int adopt_all(struct bpf_membership *b)
{
        uint64_t failed = bpf_failures(b);
        int r = adopt(b);

        if (r >= 0)
                b->seen_failed = failed;
        return r;
}

static int adopt_process(struct bpf_membership *b, int pidfd)
{
        int r = bpf_few_adopt(b, pidfd);

        return r > 0 && bpf_failures(b) == b->seen_failed ? 0 : adopt_all(b);
}

/* Looks whether the hooks have failed at something or lost an event, and makes up for it. */
static void bpf_membership_check(struct membership *m)
{
        struct bpf_membership *b = m->bpf;
        struct member_slot *slot, *next;
        uint64_t failed;

        if (!b)
                return;
        failed = bpf_failures(b);
        if (failed != b->seen_failed || b->adopt_again) {
                b->adopt_again = false;
                if (adopt(b) < 0)
                        b->adopt_again = true;
                b->seen_failed = failed;
                HASH_ITER (hh, m->by_id, slot, next)
                        if (slot->signal || slot->kill)
                                signals_later(m, slot); /* for those that were found now */
        }
        if (bpf_counter(&b->stats->events_lost) != b->seen_lost) {
                b->seen_lost = bpf_counter(&b->stats->events_lost);
                HASH_ITER (hh, m->by_id, slot, next)
                        member_slot_look(m, slot);
        }
}

static void take_event(struct membership *m, const void *data, size_t size)
{
        struct membership_event event;
        struct member_slot *slot;

        if (size < sizeof event)
                return;
        memcpy(&event, data, sizeof event);
        slot = member_slot_get(m, event.slot, event.context_id);
        if (!slot)
                return;
        if (event.kind == MEMBERSHIP_BORN && (slot->signal || slot->kill))
                signals_born(m, slot);
        member_slot_look(m, slot);
}

int bpf_events_ready(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct membership *m = userdata;
        const void *data;
        size_t size;

        for (unsigned i = 0; i < EVENTS_AT_ONCE && ring_next(&m->bpf->ring, &data, &size); i++)
                take_event(m, data, size);
        ring_done(&m->bpf->ring);
        bpf_membership_check(m);
        facts_wake(&m->world->facts);
        return 0;
}

static int bpf_slot_open(struct membership *m, struct member_slot *slot)
{
        struct membership_slot *s = shared(m, slot);

        bpf_few_begin(m, slot);
        __atomic_store_n(&s->done, SLOT_ACTIVE, __ATOMIC_SEQ_CST);
        __atomic_store_n(&s->context_id, slot->context_id, __ATOMIC_SEQ_CST);
        return 0;
}

uint32_t bpf_live(struct membership *m, struct member_slot *slot)
{
        int32_t live = __atomic_load_n(&shared(m, slot)->live, __ATOMIC_SEQ_CST);

        return live > 0 ? (uint32_t) live : 0;
}

static bool bpf_slot_close(struct membership *m, struct member_slot *slot)
{
        struct membership_slot *s = shared(m, slot);

        /* A child that was missed when it was born still belongs here. */
        if (bpf_failures(m->bpf) != m->bpf->seen_failed)
                (void) adopt_all(m->bpf);
        __atomic_store_n(&s->context_id, 0, __ATOMIC_SEQ_CST);
        if (bpf_live(m, slot) == 0) {
                bpf_few_end(m, slot);
                return true;
        }
        __atomic_store_n(&s->context_id, slot->context_id, __ATOMIC_SEQ_CST);
        return false;
}

static void bpf_set_done(struct membership *m, struct member_slot *slot)
{
        __atomic_store_n(&shared(m, slot)->done, SLOT_DONE, __ATOMIC_SEQ_CST);
}

static uint64_t since_next(struct bpf_membership *b)
{
        struct timespec ts;
        uint64_t now;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        now = (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
        b->last_since_nsec = now > b->last_since_nsec ? now : b->last_since_nsec + 1;
        return b->last_since_nsec;
}

static int bpf_attach(struct membership *m, struct member_slot *slot, struct process *p, uint32_t policy,
                int *ret_resource)
{
        struct bpf_membership *b = m->bpf;
        struct membership_value request = {
                        .context_id = slot->context_id,
                        .slot = slot->number,
                        .policy = policy,
                        .since_nsec = since_next(b),
        };
        int pidfd = process_pidfd(p), r = 0;

        for (unsigned i = 0; i < ATTACH_TRIES; i++) {
                struct membership_value value;
                int failed;

                r = bpf_map_update(b->fds[PROBE_FD_REQUESTS], &pidfd, &request);
                if (r < 0)
                        break;
                failed = adopt_process(b, pidfd);
                r = bpf_map_look_up(b->fds[PROBE_FD_MEMBERS], &pidfd, &value);
                if (r >= 0 && value.context_id == slot->context_id &&
                                value.since_nsec >= request.since_nsec) {
                        b->adopt_again = b->adopt_again || failed < 0;
                        break;
                }
                if (failed < 0) {
                        r = failed;
                        break;
                }
                if (proc_pidfd_exited(process_pidfd(p)))
                        break;
        }
        (void) bpf_map_delete(b->fds[PROBE_FD_REQUESTS], &pidfd);
        /* The process has gone, but it may have left children. */
        if (r == -ENOENT || r == -ESRCH)
                return bpf_live(m, slot) > 0 ? 0 : -ESRCH;
        return r;
}

static int bpf_look_up(
                struct membership *m, struct process *p, struct member_slot **ret, uint32_t *ret_policy)
{
        int pidfd = process_pidfd(p);
        struct membership_value value;
        struct member_slot *slot = NULL;

        if (bpf_map_look_up(m->bpf->fds[PROBE_FD_MEMBERS], &pidfd, &value) >= 0)
                slot = member_slot_get(m, value.slot, value.context_id);
        if (!slot)
                return 0;
        *ret = slot;
        *ret_policy = value.policy;
        return 1;
}

int bpf_give_record(struct membership *m, struct membership_task *t, member_cb cb, void *userdata)
{
        struct member_record record = {
                        .slot = member_slot_get(m, t->value.slot, t->value.context_id),
                        .policy = t->value.policy,
                        .pid = t->pid,
                        .tid = t->tid,
                        .ppid = t->ppid,
                        .uids = {t->ruid, t->uid, t->suid},
                        .start_nsec = t->start_nsec,
                        .leader_start_nsec = t->leader_start_nsec,
                        .pending = t->value.pending,
                        .comm = t->comm,
        };

        if (!record.slot || !record.slot->anchor || t->pid == 0)
                return 0;
        t->comm[sizeof t->comm - 1] = '\0';
        (void) utf8_mend(t->comm);
        return cb(userdata, &record);
}

static void want(struct membership *m, struct member_look *l, bool wanted)
{
        struct member_slot *slot;

        l->next_slot = 0;
        while ((slot = member_look_next_slot(m, l)))
                __atomic_store_n(&shared(m, slot)->wanted, wanted, __ATOMIC_SEQ_CST);
}

/* Reads some of the members. Another look may want others in between. */
static int read_some(struct membership *m, struct member_look *l)
{
        struct membership_task tasks[READ_AT_ONCE];
        ssize_t n;

        want(m, l, true);
        n = bpf_iterator_read(l->iterator, tasks, sizeof tasks);
        want(m, l, false);
        if (n <= 0)
                return n < 0 ? (int) n : 1;
        for (size_t i = 0; i < (size_t) n / sizeof tasks[0]; i++) {
                int r = bpf_give_record(m, &tasks[i], l->cb, l->userdata);

                if (r != 0)
                        return r;
        }
        /* The kernel fills a buffer that is a multiple of a record with whole records. */
        return (size_t) n % sizeof tasks[0] == 0 ? 0 : -EIO;
}

static int look_at_few(struct membership *m, struct member_look *l)
{
        int r;

        want(m, l, true);
        r = bpf_few_list(m, l);
        want(m, l, false);
        return r;
}

static int bpf_look(struct membership *m, struct member_look *l, uint32_t *budget)
{
        int r = 0;

        if (!l->iterates) {
                r = look_at_few(m, l);
                if (r != 0)
                        return r;
                l->iterator = bpf_iterate(m->bpf->fds[PROBE_FD_LIST]);
                if (l->iterator < 0)
                        return l->iterator;
                l->iterates = true;
        }
        for (; r == 0 && *budget > 0; --*budget)
                r = read_some(m, l);
        return r;
}

static void bpf_look_stop(struct member_look *l)
{
        if (l->iterates)
                close(l->iterator);
        l->iterates = false;
}

const struct membership_backend membership_bpf = {
                .name = "bpf",
                .knows_pending = true,
                .slot_open = bpf_slot_open,
                .slot_close = bpf_slot_close,
                .attach = bpf_attach,
                .look_up = bpf_look_up,
                .set_done = bpf_set_done,
                .live = bpf_live,
                .count = bpf_live,
                .look = bpf_look,
                .look_stop = bpf_look_stop,
};
