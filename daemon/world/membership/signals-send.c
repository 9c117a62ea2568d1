/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/world/membership/signals.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/proc.h"
#include "util/subuid.h"
#include "util/uids.h"

/* Decides which signal a process gets, and sends it (law 32). Each process gets its signal once.
 *
 * If a process handles its signal, it may fork to clean up. A child that was born after its parent had got
 * the signal is taken for such a helper. It gets no signal, but it is killed like the others when the time
 * has come. A child whose fork was under way when the signal came, or while its parent blocked it, looks the
 * same by its time of birth. With BPF it is told apart, because then the signal was still pending for the
 * parent: what is pending has not been handled, blocked or not. Without BPF that is seen only as long as it
 * is pending.
 *
 * Before every signal a pidfd is opened. Then the start time has to be the member's, and all uids of the
 * process have to be the uid that attached it, or subordinate ones of that, as in a container of its own. So
 * a program that has changed its uid is never signalled with the daemon's rights. */

struct signalled {
        uint32_t pid;
        uint64_t start_nsec; /* of its process */
        uint64_t context_id; /* of which it was a member; it may have become one of another context since */
        uint64_t when_nsec;  /* children that were born later get no signal; UINT64_MAX: all get one */
        bool killed;
        int error;      /* 0, or why the last signal could not be sent */
        uint64_t pass;  /* the last pass that has met it */
        uint64_t given; /* the pass in which it got its signal */
        LIST_ENTRY(signalled) by_slot;
        UT_hash_handle hh;
};

static uint64_t now_nsec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

static void signalled_free(struct membership *m, struct signalled *s)
{
        LIST_REMOVE(s, by_slot);
        HASH_DEL(m->signalled, s);
        free(s);
}

static struct signalled *signalled_find(struct membership *m, uint32_t pid)
{
        struct signalled *s;

        HASH_FIND(hh, m->signalled, &pid, sizeof pid, s);
        return s;
}

static struct signalled *signalled_new(struct membership *m, struct member_slot *slot, const struct target *t)
{
        struct signalled *s = calloc(1, sizeof *s);

        if (!s)
                return NULL;
        s->pid = t->pid;
        s->start_nsec = t->start_nsec;
        s->context_id = t->context_id;
        s->when_nsec = UINT64_MAX;
        HASH_ADD(hh, m->signalled, pid, sizeof s->pid, s);
        if (!s->hh.tbl) {
                free(s);
                return NULL;
        }
        LIST_INSERT_HEAD(&slot->signalled, s, by_slot);
        return s;
}

/* As the kernel would allow it to the one who has attached the process. */
static bool may_signal(const uid_t uids[3], uid_t uid)
{
        if (uid == 0 || uids_are_all(uids, uid))
                return true;
        for (int i = 0; i < 3; i++)
                if (uids[i] != uid && !subuid_is_of(uids[i], uid))
                        return false;
        return true;
}

/* One whose start time cannot be read now (util/proc-reader.h) is the member if we have held its pidfd, which
 * was opened before, or if it is its parent's child still. -EBUSY: neither is so. */
static int check_unread(struct membership *m, const struct target *t, int pidfd, uint64_t ticks,
                struct proc_status *ret)
{
        const struct process *p = process_find(m->processes, (pid_t) t->pid, ticks);
        int r = proc_status_read((pid_t) t->pid, ret);
        struct pidfd_owner owner;

        if (r == -EBUSY && (r = pidfd_owner(pidfd, &owner)) >= 0) {
                *ret = (struct proc_status){.ppid = owner.ppid};
                memcpy(ret->uids, owner.uids, sizeof ret->uids);
        }
        if (r < 0)
                return r == -EOPNOTSUPP ? -EBUSY : r;
        if (p ? proc_pidfd_exited(process_pidfd(p)) : proc_pidfd_exited(pidfd))
                return -ESRCH;
        return p || ret->ppid == (pid_t) t->ppid ? 0 : -EBUSY;
}

/* A pidfd may tell whose it is. Then only what a signal does has to be read. */
static int check(struct membership *m, const struct target *t, int pidfd, bool is_kill,
                struct proc_stat *ret_stat, struct proc_status *ret_status)
{
        uint64_t ticks = proc_nsec_to_ticks(t->start_nsec);
        struct pidfd_owner owner;
        bool tells = is_kill && pidfd_owner(pidfd, &owner) >= 0;
        int r = proc_read((pid_t) t->pid, ret_stat, tells ? NULL : ret_status);

        if (r == -EBUSY) {
                *ret_stat = (struct proc_stat){.state = 'D'};
                return check_unread(m, t, pidfd, ticks, ret_status);
        }
        if (r < 0)
                return r;
        if (tells)
                memcpy(ret_status->uids, owner.uids, sizeof owner.uids);
        return ret_stat->start_ticks == ticks ? 0 : -ESRCH;
}

/* Sends a signal if the process is still the member. Children that are born after *ret_when_nsec are helpers
 * that clean up; it is UINT64_MAX if the process cannot have any. Returns 1 if the process ignores it. */
static int send_checked(struct membership *m, const struct target *t, const struct policy *policy,
                int signal_number, uint64_t *ret_when_nsec)
{
        const struct world *w = m->world;
        bool ignored = false;
        uint64_t when_nsec = UINT64_MAX;
        _cleanup_close_ int pidfd = -1;
        struct proc_status status;
        struct proc_stat stat;
        int r;

        pidfd = pidfd_open_process((pid_t) t->pid);
        if (pidfd < 0)
                return pidfd;
        r = check(m, t, pidfd, signal_number == SIGKILL, &stat, &status);
        if (r < 0)
                return r;
        if (!may_signal(status.uids, policy->uid))
                return -EPERM;
        if (signal_number != SIGKILL && proc_handles_signal(&status, signal_number, &ignored))
                /* The time is taken before the signal is sent, because the process may run before we go
                 * on. */
                when_nsec = now_nsec();
        r = world_signal(w, pidfd, signal_number);
        if (r < 0)
                return r;
        *ret_when_nsec = when_nsec;
        /* A stopped process notices the signal only when it runs on. */
        if (stat.state == 'T' && signal_number != SIGKILL && signal_number != SIGCONT &&
                        signal_number != SIGSTOP)
                (void) world_signal(w, pidfd, SIGCONT);
        return ignored;
}

static bool kill_is_due(const struct member_slot *slot, const struct policy *policy, uint64_t now_usec)
{
        return policy->kill_after_usec != CTXD_USEC_INFINITY && now_usec >= slot->done_usec &&
               now_usec - slot->done_usec >= policy->kill_after_usec;
}

/* Whether it was born after its parent had got its signal. /proc tells that in hundredths of a second.
 * Whoever was born in that of the signal was so before it, if the pass that gave the signal had met it. */
static bool is_younger(const struct membership *m, const struct signalled *parent, uint64_t start_nsec,
                uint64_t pass_number)
{
        if (m->backend->knows_pending || parent->when_nsec == 0 || parent->when_nsec == UINT64_MAX)
                return start_nsec > parent->when_nsec;
        return pass_number != parent->given &&
               proc_nsec_to_ticks(start_nsec) >= proc_nsec_to_ticks(parent->when_nsec);
}

/* Whether it was forked by a process that was cleaning up. */
static bool is_cleanup(struct membership *m, uint32_t ppid, uint64_t context_id, uint64_t start_nsec,
                uint64_t pending, int signal_number, uint64_t pass_number)
{
        const struct signalled *parent = signalled_find(m, ppid);

        if (!parent || parent->context_id != context_id || !is_younger(m, parent, start_nsec, pass_number))
                return false;
        if (signal_number <= 0)
                return true;
        /* What is pending now may have come later: somebody else sends it, too. */
        return m->backend->knows_pending ? !(pending >> (signal_number - 1) & 1)
                                         : !proc_signal_is_pending((pid_t) ppid, signal_number);
}

/* Then it is not the process, and nothing was sent. */
static bool is_want(int r)
{
        return r == -EMFILE || r == -ENFILE || r == -ENOMEM;
}

/* It gets its signal in another pass. */
static void take_back(struct membership *m, struct signalled *s, bool is_new)
{
        s->killed = false;
        if (is_new)
                signalled_free(m, s);
}

int signals_give(struct membership *m, const struct target *t, uint64_t pass_number, uint64_t now_usec)
{
        struct member_slot *slot = member_slot_get(m, t->slot, t->context_id);
        const struct policy *policy;
        struct signalled *s;
        bool is_new = false, kill;
        uint64_t when_nsec;
        int r, signal_number;

        if (!slot || !slot->anchor || !(slot->signal || slot->kill) || t->policy >= slot->n_policies)
                return 0;
        policy = &slot->policies[t->policy];
        kill = slot->kill && kill_is_due(slot, policy, now_usec);
        signal_number = policy->signal;

        s = signalled_find(m, t->pid);
        /* Its start time could not be read when it got its signal. */
        if (s && s->start_nsec == 0 && !s->killed)
                s->start_nsec = t->start_nsec;
        /* That process has gone, and another one has its pid. Or it has gone to another context, whose signal
         * is one more. */
        if (s && (s->start_nsec != t->start_nsec || s->context_id != t->context_id)) {
                signalled_free(m, s);
                s = NULL;
        }
        if (!s) {
                s = signalled_new(m, slot, t);
                if (!s)
                        return -ENOMEM;
                is_new = true;
                if (is_cleanup(m, t->ppid, t->context_id, t->start_nsec, t->pending, signal_number,
                                    pass_number)) {
                        s->when_nsec = 0;
                        signal_number = 0;
                }
        }
        s->pass = pass_number;

        if (kill && !s->killed) {
                s->killed = true;
                signal_number = SIGKILL;
        } else if (!is_new)
                return 0;
        if (signal_number <= 0)
                return 1;

        r = send_checked(m, t, policy, signal_number, &when_nsec);
        if (is_want(r) || r == -EBUSY) {
                take_back(m, s, is_new);
                if (r != -EBUSY)
                        return r;
                if (slot->pass)
                        slot->pass->is_unread = true;
                return 0;
        }
        s->error = r < 0 && r != -ESRCH ? r : 0;
        if (r >= 0 && signal_number != SIGKILL) {
                s->when_nsec = when_nsec;
                s->given = pass_number;
        } else if (r < 0 && r != -ESRCH)
                log_debug("Process %u (%s) gets no signal %d: %s", t->pid, t->comm, signal_number,
                                strerror(-r));
        return r == -ESRCH || (r == 0 && (signal_number == SIGKILL || when_nsec == UINT64_MAX)) ? 2 : 1;
}

static enum unsignalled unsignalled(
                struct membership *m, const struct member *member, const struct policy *policy)
{
        const struct signalled *s = signalled_find(m, member->pid);

        if (policy->signal <= 0 && policy->kill_after_usec == CTXD_USEC_INFINITY)
                return UNSIGNALLED_WITHOUT;
        if (!may_signal(member->uids, policy->uid))
                return UNSIGNALLED_USER;
        if (kill((pid_t) member->pid, 0) < 0 && errno == EPERM)
                return UNSIGNALLED_REFUSED;
        if (policy->signal <= 0)
                return UNSIGNALLED_WITHOUT;
        if (!s || s->start_nsec != member->leader_start_nsec || s->context_id != member->context_id)
                return is_cleanup(m, member->ppid, member->context_id, member->leader_start_nsec,
                                       member->pending, policy->signal, 0)
                                       ? UNSIGNALLED_HELPER
                                       : UNSIGNALLED_NO;
        if (s->when_nsec == 0)
                return UNSIGNALLED_HELPER;
        return s->error < 0 ? UNSIGNALLED_MISSED : UNSIGNALLED_NO;
}

bool membership_ending(struct membership *m, const struct anchor *anchor, const struct member *member,
                struct member_ending *ret)
{
        struct member_slot *slot = anchor->slot;

        if (!slot || member->policy >= slot->n_policies)
                return false;
        ret->policy = slot->policies[member->policy];
        ret->unsignalled = unsignalled(m, member, &ret->policy);
        /* Nobody has met it yet, but somebody has now. */
        if (ret->unsignalled == UNSIGNALLED_NO && slot->signal && !signalled_find(m, member->pid))
                signals_later(m, slot);
        return true;
}

void signals_forget_gone(struct membership *m, const struct signal_pass *pass)
{
        const struct member_slot *slot;
        struct signalled *s, *next;

        LIST_FOREACH (slot, &pass->slots, in_pass)
                /* One that has come since the pass began was not listed. */
                for (s = slot->pass_number == pass->number ? LIST_FIRST(&slot->signalled) : NULL; s;
                                s = next) {
                        next = LIST_NEXT(s, by_slot);
                        if (s->pass != pass->number)
                                signalled_free(m, s);
                }
}

void signals_forget(struct membership *m, struct member_slot *slot)
{
        while (!LIST_EMPTY(&slot->signalled))
                signalled_free(m, LIST_FIRST(&slot->signalled));
}
