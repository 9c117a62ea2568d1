/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* Membership: the maps, the hooks, and the iterators that ctxd reads. All of it lives on when the probe
 * ends.
 *
 * proto/membership.h describes what ctxd does. This is how the counts stay exact.
 *
 * A value in the members map is never changed after it was made, except for `counted`, and `counted` is
 * changed only by atomic operations. Whoever changes NEW to COUNTED has added one to the slot's live before
 * that. Whoever changes COUNTED to GONE takes one off. So each value is counted once and taken off once, in
 * whatever order the hooks and adopt run.
 *
 * - The fork hook and adopt may both see a new child, which is in the task list before the hook runs. One
 *   of them makes the value, and the other one finds it. Both add to live. One of them succeeds in changing
 *   NEW to COUNTED; the other one takes off what it has added.
 * - A task that exits sets PF_EXITING first and runs the exit hook later, and there is a full barrier in
 *   between (the decrement of signal->live). Adopt makes the value and counts it, and then reads
 *   PF_EXITING. If the hook did not find the value, adopt sees the flag and takes the value off. If both
 *   see it, one of them succeeds in changing COUNTED to GONE. A task that has run the exit hook keeps the
 *   flag, so a zombie is never counted.
 * - To move a task, the new slot is held (live + 1) before the old value is taken off. Otherwise a done
 *   ancestor would look drained in between. Then the old value becomes GONE and is deleted, and the new one
 *   is made as for any other task. A child that is forked in between finds no value at its parent. But the
 *   new value's given_nsec is later than the birth of that child, so adopt takes the child in, in this run
 *   or in the next one.
 * - A slot may be used again for another context. Whoever adds to live looks at the slot's context_id
 *   afterwards, and takes off what it has added if it is the id of another context.
 *
 * An operation on task storage can fail for a moment: there is no memory, or a map operation on this CPU
 * was preempted. A child that could not be given its value is remembered in `missed`, and adopt gives it
 * one later. */

#include "bpf/kernel.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "proto/membership.h"

struct task_values {
        __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, int);
        __type(value, struct membership_value);
};

struct task_values members SEC(".maps");
struct task_values requests SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, MEMBERSHIP_SLOTS_MAX);
        __type(key, __u32);
        __type(value, struct membership_slot);
} slots SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, MEMBERSHIP_SLOTS_MAX);
        __type(key, __u32);
        __type(value, struct membership_processes);
} processes SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_RINGBUF);
        __uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, 1);
        __type(key, __u32);
        __type(value, struct membership_stats);
} stats SEC(".maps");

struct missed_child {
        __u64 start_boottime;
        struct membership_value value;
};

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, 4096);
        __type(key, __u32);
        __type(value, struct missed_child);
} missed SEC(".maps");

/* Counters and slots */

#define COUNT(field)                                                             \
        ({                                                                       \
                __u32 zero = 0;                                                  \
                struct membership_stats *s = bpf_map_lookup_elem(&stats, &zero); \
                if (s)                                                           \
                        __sync_fetch_and_add(&s->field, 1);                      \
        })

#define READ_ONCE(x) (*(volatile typeof(x) *) &(x))

static __always_inline struct membership_slot *slot_get(__u32 index)
{
        return index > 0 ? bpf_map_lookup_elem(&slots, &index) : NULL;
}

/* An atomic operation is a full barrier only if its result is used. barrier_var() counts as a use. */
static __always_inline __s32 slot_add(struct membership_slot *slot, __s32 n)
{
        __u64 before = (__u32) __sync_fetch_and_add(&slot->live, n);

        barrier_var(before);
        return (__s32) before;
}

static __always_inline void event_send(__u64 context_id, __u32 index, __u32 kind)
{
        struct membership_event event = {.context_id = context_id, .slot = index, .kind = kind};

        if (bpf_ringbuf_output(&events, &event, sizeof event, 0) < 0)
                COUNT(events_lost);
}

static __always_inline void slot_leave(struct membership_slot *slot, __u32 index)
{
        if (slot_add(slot, -1) == 1)
                event_send(slot->context_id, index, MEMBERSHIP_DRAINED);
}

static __always_inline __u32 number_at(struct pid *pid, unsigned int level)
{
        struct upid upid = {};
        unsigned int own;

        if (!pid)
                return 0;
        own = BPF_CORE_READ(pid, level);
        if (level > own || level > 32)
                return 0;
        bpf_probe_read_kernel(&upid, sizeof upid,
                        (void *) pid + bpf_core_field_offset(struct pid, numbers) +
                                        level * bpf_core_type_size(struct upid));
        return upid.nr;
}

/* The level of the reader's pid namespace. Its own getpid() is its number at this level. */
static __always_inline unsigned int reader_level(void)
{
        struct task_struct *reader = (struct task_struct *) bpf_get_current_task();

        return BPF_CORE_READ(reader, thread_pid, level);
}

/* ctxd's. It has run adopt before there is any member. */
unsigned int ctxd_level;

static __always_inline __u32 process_number(struct task_struct *task)
{
        unsigned int level = ctxd_level;

        return level == 0 ? task->tgid : number_at(BPF_CORE_READ(task, group_leader, thread_pid), level);
}

static __always_inline void process_add(struct task_struct *task, __u32 index)
{
        struct membership_processes *p = bpf_map_lookup_elem(&processes, &index);
        __u32 pid = process_number(task);

        if (!p)
                return;
        for (int i = 0; i < MEMBERSHIP_PROCESSES && pid > 0; i++)
                if (READ_ONCE(p->pids[i]) == pid)
                        return;
        for (int i = 0; i < MEMBERSHIP_PROCESSES && pid > 0; i++)
                if (READ_ONCE(p->pids[i]) == 0 && __sync_val_compare_and_swap(&p->pids[i], 0, pid) == 0)
                        return;
        p->is_crowded = 1;
}

static __always_inline void process_remove(struct task_struct *task, __u32 index)
{
        struct membership_processes *p = bpf_map_lookup_elem(&processes, &index);
        __u32 pid = process_number(task);

        if (!p)
                return;
        for (int i = 0; i < MEMBERSHIP_PROCESSES; i++)
                if (pid > 0 && READ_ONCE(p->pids[i]) == pid)
                        (void) __sync_val_compare_and_swap(&p->pids[i], pid, 0);
}

/* Adds a value to the count of its slot, unless somebody else does. */
static __always_inline void value_count(struct membership_value *value)
{
        struct membership_slot *slot = slot_get(value->slot);
        __u32 before;

        if (!slot)
                return;
        slot_add(slot, 1);
        if (READ_ONCE(slot->context_id) != value->context_id) {
                slot_leave(slot, value->slot);
                return;
        }
        before = __sync_val_compare_and_swap(&value->counted, MEMBER_NEW, MEMBER_COUNTED);
        if (before != MEMBER_NEW) {
                slot_leave(slot, value->slot);
                return;
        }
        if (READ_ONCE(slot->done) == SLOT_DONE &&
                        __sync_val_compare_and_swap(&slot->done, SLOT_DONE, SLOT_BORN) == SLOT_DONE)
                event_send(value->context_id, value->slot, MEMBERSHIP_BORN);
}

/* Takes the value of an exiting task off the count, unless somebody else has. */
static __always_inline void value_uncount(struct membership_value *value)
{
        if (__sync_val_compare_and_swap(&value->counted, MEMBER_COUNTED, MEMBER_GONE) == MEMBER_COUNTED) {
                struct membership_slot *slot = slot_get(value->slot);

                if (slot)
                        slot_leave(slot, value->slot);
        }
}

/* Keeps in `best` the newest of the values that may make a task a member. since_nsec is 0 while there is
 * none. */
static __always_inline void consider(
                struct membership_value *best, struct membership_value *value, bool request)
{
        struct membership_slot *slot;

        if (!value || value->since_nsec <= best->since_nsec)
                return;
        if (!request && READ_ONCE(value->counted) == MEMBER_GONE)
                return;
        slot = slot_get(value->slot);
        if (!slot || slot->context_id != value->context_id)
                return;
        *best = *value;
}

static __always_inline bool take_in(
                struct task_struct *task, const struct membership_value *source, __u64 pending)
{
        struct membership_value value = {
                        .context_id = source->context_id,
                        .slot = source->slot,
                        .policy = source->policy,
                        .counted = MEMBER_NEW,
                        .since_nsec = source->since_nsec,
                        .given_nsec = UINT64_MAX,
                        .pending = pending,
        };
        struct membership_value *own;

        own = bpf_task_storage_get(&members, task, &value, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (!own) /* hook and adopt ran at the same time, and the other one made it */
                own = bpf_task_storage_get(&members, task, 0, 0);
        if (!own)
                return false;
        own->given_nsec = bpf_ktime_get_boot_ns();
        process_add(task, own->slot); /* before it counts: what is counted can be found */
        value_count(own);
        return true;
}

/* The signals that a forking thread has not handled, blocked or not. C libraries block all signals for the
 * time of a fork: posix_spawn() always has, and so does fork() since glibc 2.41. */
static __always_inline __u64 signals_pending(struct task_struct *task)
{
        return BPF_CORE_READ(task, pending.signal.sig[0]) |
               BPF_CORE_READ(task, signal, shared_pending.signal.sig[0]);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
        struct membership_value best = {};
        struct task_struct *leader = parent->group_leader;

        consider(&best, bpf_task_storage_get(&members, parent, 0, 0), false);
        if (leader) {
                if (leader != parent)
                        consider(&best, bpf_task_storage_get(&members, leader, 0, 0), false);
                consider(&best, bpf_task_storage_get(&requests, leader, 0, 0), true);
        }
        if (best.since_nsec == 0)
                return 0;

        if (take_in(child, &best, signals_pending(parent))) {
                COUNT(inherited);
        } else {
                struct missed_child m = {.start_boottime = child->start_boottime, .value = best};
                __u32 key = child->pid;

                bpf_map_update_elem(&missed, &key, &m, BPF_ANY);
                COUNT(inherit_failed);
        }
        return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
        struct membership_value *value = bpf_task_storage_get(&members, task, 0, 0);

        if (value && BPF_CORE_READ(task, signal, live.counter) == 0)
                process_remove(task, value->slot); /* its last thread */
        if (value && __sync_lock_test_and_set(&value->counted, MEMBER_GONE) == MEMBER_COUNTED) {
                struct membership_slot *slot = slot_get(value->slot);

                if (slot)
                        slot_leave(slot, value->slot);
        }
        return 0;
}

static __always_inline void adopt_found(
                struct task_struct *task, struct membership_value *own, const struct membership_value *best)
{
        struct membership_slot *slot = slot_get(best->slot);
        struct membership_value *made;

        if (!slot)
                return;
        slot_add(slot, 1);
        if (own) {
                struct membership_slot *old = slot_get(own->slot);
                __u32 old_index = own->slot;

                /* Where the leader has exited nobody moves it. */
                if (task->group_leader == task || READ_ONCE(task->group_leader->flags) & PF_EXITING)
                        process_remove(task, old_index);
                if (__sync_lock_test_and_set(&own->counted, MEMBER_GONE) == MEMBER_COUNTED && old)
                        slot_leave(old, old_index);
                if (bpf_task_storage_delete(&members, task) != 0) {
                        COUNT(adopt_failed);
                        goto finish;
                }
        }
        if (take_in(task, best, 0))
                COUNT(adopted);
        else
                COUNT(adopt_failed);
        if (READ_ONCE(task->flags) & PF_EXITING) {
                made = bpf_task_storage_get(&members, task, 0, 0);
                if (made)
                        value_uncount(made);
        }
finish:
        slot_leave(slot, best->slot);
}

/* An iterator that is limited to a process ends early where the thread that it is at has gone. */
static __always_inline void note_met(struct task_struct *task)
{
        __u32 zero = 0;
        struct membership_stats *s = bpf_map_lookup_elem(&stats, &zero);

        if (!s)
                return;
        s->met++;
        if (task->group_leader == task)
                s->threads = BPF_CORE_READ(task, signal, nr_threads);
}

SEC("iter/task")
int adopt(struct bpf_iter__task *ctx)
{
        struct task_struct *task = ctx->task, *leader, *parent;
        struct membership_value best = {}, *own, *value, *request;
        struct missed_child *m;
        __u64 own_since;
        __u32 key;

        if (!task)
                return 0;
        ctxd_level = reader_level();
        leader = task->group_leader;
        parent = task->real_parent;
        if (!leader || !parent)
                return 0;
        request = bpf_task_storage_get(&requests, leader, 0, 0);
        if (request)
                note_met(task);
        if (task->exit_state || (task->flags & (PF_EXITING | PF_KTHREAD | PF_IO_WORKER)))
                return 0;

        own = bpf_task_storage_get(&members, task, 0, 0);
        consider(&best, own, false);
        own_since = best.since_nsec;

        consider(&best, request, true);
        /* The hook may have failed for a new thread without anybody having noticed. It belongs where its
         * leader does. */
        if (leader != task)
                consider(&best, bpf_task_storage_get(&members, leader, 0, 0), false);
        value = bpf_task_storage_get(&members, parent, 0, 0);
        if (value && leader->start_boottime >= value->since_nsec &&
                        leader->start_boottime <= READ_ONCE(value->given_nsec))
                consider(&best, value, false);
        key = task->pid;
        m = bpf_map_lookup_elem(&missed, &key);
        if (m) {
                if (m->start_boottime == task->start_boottime)
                        consider(&best, &m->value, true);
                bpf_map_delete_elem(&missed, &key);
        }

        if (best.since_nsec > own_since)
                adopt_found(task, own, &best);
        return 0;
}

/* What the records say */

SEC("iter/task")
int list(struct bpf_iter__task *ctx)
{
        struct task_struct *task = ctx->task;
        struct membership_task record = {};
        struct membership_value *value;
        struct membership_slot *slot;
        unsigned int level;

        if (!task)
                return 0;
        note_met(task);
        if (task->exit_state)
                return 0;
        value = bpf_task_storage_get(&members, task, 0, 0);
        if (!value || value->counted != MEMBER_COUNTED)
                return 0;
        slot = slot_get(value->slot);
        if (!slot || !READ_ONCE(slot->wanted) || slot->context_id != value->context_id)
                return 0;

        level = reader_level();
        record.value = *value;
        record.pid = number_at(BPF_CORE_READ(task, group_leader, thread_pid), level);
        record.tid = number_at(BPF_CORE_READ(task, thread_pid), level);
        record.ppid = number_at(BPF_CORE_READ(task, real_parent, group_leader, thread_pid), level);
        record.uid = BPF_CORE_READ(task, real_cred, euid.val);
        record.ruid = BPF_CORE_READ(task, real_cred, uid.val);
        record.suid = BPF_CORE_READ(task, real_cred, suid.val);
        record.flags = task->flags;
        record.start_nsec = task->start_boottime;
        record.leader_start_nsec = BPF_CORE_READ(task, group_leader, start_boottime);
        bpf_probe_read_kernel_str(record.comm, sizeof record.comm, task->comm);
        if (record.tid != 0)
                bpf_seq_write(ctx->meta->seq, &record, sizeof record);
        return 0;
}
