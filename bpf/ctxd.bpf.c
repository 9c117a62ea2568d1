/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The BPF programs of ctxd: membership, which lives on when the probe ends, and the probe's sweeps over the
 * members of done contexts. None of them is attached to a place that the kernel passes often. Only the fork
 * and exit hooks run by themselves; the others run when somebody reads them.
 *
 * An iterator that looks at another task's leader or parent must not be sleepable: kernels from 6.2 on
 * refuse that, and 6.1 has no bpf_rcu_read_lock. So adopt and list are iter/task. sweep and evidence are
 * sleepable: they use the storage of the task itself, and read everything else by probe reads. */

#include "bpf/membership.bpf.h"
#include "bpf/sample.h"

char LICENSE[] SEC("license") = "GPL";

union scratch_space {
        struct evidence evidence;
        struct described described;
};

/* Each who looks has a place of its own, since one may sleep over its place when another one is here. */
struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, LOOKERS_MAX);
        __type(key, __u32);
        __type(value, union scratch_space);
} scratch SEC(".maps");

__u32 scratch_place = 0;

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, ENTERED_MAX);
        __type(key, __u32);
        __type(value, struct entered);
} entered SEC(".maps");

/* Most often it is 0, and then the map is not looked at. */
__u32 n_entered = 0;

/* How long a sleeping thread has been off the CPU, by the scheduler's clock. The present time on that clock
 * is when the reader last got a CPU, which it did just before the sweep. The sleeper left its CPU when it
 * had got it, plus what it has run since. */
static __always_inline __u64 slept_nsec(struct task_struct *task)
{
        struct task_struct *reader = (struct task_struct *) bpf_get_current_task();
        __u64 now, left;

        if (!bpf_core_field_exists(task->sched_info.last_arrival))
                return UINT64_MAX;
        now = BPF_CORE_READ(reader, sched_info.last_arrival);
        left = BPF_CORE_READ(task, sched_info.last_arrival);
        if (now == 0 || left == 0)
                return UINT64_MAX;
        left += BPF_CORE_READ(task, se.sum_exec_runtime) - BPF_CORE_READ(task, se.prev_sum_exec_runtime);
        return now > left ? now - left : 0;
}

static __always_inline bool is_member_of_done(struct sample *s, struct task_struct *task)
{
        struct membership_value *value = bpf_task_storage_get(&members, task, 0, 0);
        struct membership_slot *slot;

        if (!value || value->counted != MEMBER_COUNTED)
                return false;
        slot = slot_get(value->slot);
        if (!slot || slot->context_id != value->context_id || !slot->done)
                return false;
        s->context_id = value->context_id;
        s->slot = value->slot;
        s->policy = value->policy;
        return true;
}

/* A thread works for the context that it has entered, even if its process is a member of another one. */
static __always_inline bool has_entered_done(struct sample *s)
{
        struct entered *e;

        if (n_entered == 0)
                return false;
        e = bpf_map_lookup_elem(&entered, &s->tid);
        if (!e || e->pid != s->pid)
                return false;
        s->context_id = e->context_id;
        s->slot = e->slot;
        s->policy = 0;
        return true;
}

/* True if the task is a living member of a done context. */
static __always_inline bool sample_fill(struct sample *s, struct task_struct *task)
{
        bool is_member = is_member_of_done(s, task);
        struct pt_regs *regs;
        unsigned int level;

        if (task->exit_state || (!is_member && n_entered == 0))
                return false;
        level = reader_level();
        s->pid = number_at(BPF_CORE_READ(task, group_leader, thread_pid), level);
        s->tid = number_at(BPF_CORE_READ(task, thread_pid), level);
        if (!has_entered_done(s) && !is_member)
                return false;
        s->ppid = number_at(BPF_CORE_READ(task, real_parent, group_leader, thread_pid), level);
        s->ptid = number_at(BPF_CORE_READ(task, real_parent, thread_pid), level);
        s->nvcsw = task->nvcsw;
        s->nivcsw = task->nivcsw;
        s->state = task->__state;
        s->flags = task->flags;
        s->exit_state = task->exit_state;
        s->ptrace = task->ptrace;
        s->jobctl = task->jobctl;
        s->core = BPF_CORE_READ(task, signal, core_state) != NULL;
        s->vfork = BPF_CORE_READ(task, vfork_done) != NULL;
        s->uid = BPF_CORE_READ(task, real_cred, uid.val);
        s->named = !is_member;
        s->start_nsec = task->start_boottime;
        s->leader_start_nsec = BPF_CORE_READ(task, group_leader, start_boottime);
        s->runtime_nsec = BPF_CORE_READ(task, se.sum_exec_runtime);
        s->slept_nsec = s->state ? slept_nsec(task) : UINT64_MAX;
        bpf_probe_read_kernel_str(s->comm, sizeof s->comm, task->comm);

        regs = (struct pt_regs *) bpf_task_pt_regs(task);
        s->syscall = -1;
        if (regs && BPF_CORE_READ(task, mm)) {
                s->syscall = REGS_SYSCALL(regs);
                s->args[0] = REGS_ARG0(regs);
                s->args[1] = REGS_ARG1(regs);
                s->args[2] = REGS_ARG2(regs);
                s->args[3] = REGS_ARG3(regs);
                s->args[4] = REGS_ARG4(regs);
                s->args[5] = REGS_ARG5(regs);
                s->ip = REGS_IP(regs);
                s->sp = REGS_SP(regs);
        }
        return s->tid != 0;
}

SEC("iter.s/task")
int sweep(struct bpf_iter__task *ctx)
{
        struct task_struct *task = ctx->task;
        struct sample sample = {};

        if (task && sample_fill(&sample, task))
                bpf_seq_write(ctx->meta->seq, &sample, sizeof sample);
        return 0;
}

/* The numbers of these system calls, set by the probe; -1 where there is no such call. */
const volatile __s32 syscall_poll = -1;
const volatile __s32 syscall_ppoll = -1;
const volatile __s32 syscall_open = -1;
const volatile __s32 syscall_openat = -1;
const volatile __s32 syscall_connect = -1;
const volatile __s32 syscall_sendto = -1;

#define PAGE 4096

/* Copies the path that is being opened. A copy fails as a whole, so only the part in the first page is
 * copied. */
static __always_inline void copy_path(struct evidence *e, struct task_struct *task)
{
        __u64 address, room;

        e->path[0] = 0;
        if (e->sample.syscall < 0)
                return;
        if (e->sample.syscall == syscall_open)
                address = e->sample.args[0];
        else if (e->sample.syscall == syscall_openat)
                address = e->sample.args[1];
        else
                return;
        room = PAGE - (address & (PAGE - 1));
        if (room > sizeof e->path - 1)
                room = sizeof e->path - 1;
        if (bpf_copy_from_user_task(e->path, room, (void *) address, task, 0) != 0)
                room = 0;
        e->path[room & (SAMPLE_PATH - 1)] = 0;
}

/* The address that a Unix socket was given in the call. The kernel has it in its socket only afterwards. */
static __always_inline void copy_address(struct evidence *e, struct task_struct *task)
{
        __u64 address, length;

        e->n_address = 0;
        if (e->sample.syscall < 0)
                return;
        if (e->sample.syscall == syscall_connect) {
                address = e->sample.args[1];
                length = e->sample.args[2];
        } else if (e->sample.syscall == syscall_sendto) {
                address = e->sample.args[4];
                length = e->sample.args[5];
        } else {
                return;
        }
        if (address == 0 || length <= sizeof(__u16) || length >= sizeof e->path ||
                        bpf_copy_from_user_task(e->path, length, (void *) address, task, 0) != 0 ||
                        *(__u16 *) e->path != AF_UNIX) {
                e->path[0] = 0;
                return;
        }
        e->n_address = length;
}

SEC("iter.s/task")
int evidence(struct bpf_iter__task *ctx)
{
        struct task_struct *task = ctx->task;
        union scratch_space *space;
        struct evidence *e;
        __u32 place = scratch_place, n;
        long bytes;

        space = bpf_map_lookup_elem(&scratch, &place);
        if (!task || !space)
                return 0;
        e = &space->evidence;
        if (!sample_fill(&e->sample, task))
                return 0;

        e->n_pollfds = 0;
        n = e->sample.args[1];
        if (e->sample.syscall >= 0 &&
                        (e->sample.syscall == syscall_poll || e->sample.syscall == syscall_ppoll) && n > 0 &&
                        n <= SAMPLE_POLLFDS &&
                        bpf_copy_from_user_task(e->pollfds, n * sizeof e->pollfds[0],
                                        (void *) e->sample.args[0], task, 0) == 0)
                e->n_pollfds = n;

        copy_path(e, task);
        copy_address(e, task);
        bytes = bpf_get_task_stack(task, e->frames, sizeof e->frames, 0);
        e->n_frames = bytes > 0 ? (__u32) bytes / sizeof e->frames[0] : 0;
        e->nvcsw_after = task->nvcsw;
        e->nivcsw_after = task->nivcsw;
        bpf_seq_write(ctx->meta->seq, e, sizeof *e);

        /* The kernel prints the names of its symbols here, so the probe need not be allowed to read their
         * addresses. */
        for (int i = 0; i < SAMPLE_FRAMES; i++) {
                if (i >= e->n_frames)
                        break;
                BPF_SEQ_PRINTF(ctx->meta->seq, "%pB\n", e->frames[i]);
        }
        return 0;
}

static __always_inline void copy_name(struct described *d, int i, struct sock *sk)
{
        struct unix_address *address = BPF_CORE_READ((struct unix_sock *) sk, addr);
        int length;

        d->lengths[i] = 0;
        if (!address)
                return;
        length = BPF_CORE_READ(address, len) - (int) sizeof(__u16);
        if (length <= 0 || length > SAMPLE_UNIX_NAME)
                return;
        if (bpf_probe_read_kernel(d->names[i], sizeof d->names[i],
                            (void *) address + bpf_core_field_offset(struct unix_address, name) +
                                            sizeof(__u16)) == 0)
                d->lengths[i] = length;
}

/* What can change meanwhile is looked at again afterwards: if it is the same, it was there all the time. */
static __always_inline void describe_unix(struct described *d, struct sock *sk)
{
        struct sock *peer;

        if (!bpf_core_type_exists(struct unix_sock))
                return;
        copy_name(d, 0, sk);
        d->lengths[1] = 0;
        peer = BPF_CORE_READ((struct unix_sock *) sk, peer);
        if (peer)
                copy_name(d, 1, peer);
        if (BPF_CORE_READ((struct unix_sock *) sk, peer) != peer)
                d->lengths[1] = 0;
}

static __always_inline void describe_peer(struct described *d, struct sock *sk)
{
        struct pid *pid = BPF_CORE_READ(sk, sk_peer_pid);

        d->peer_pid = 0;
        if (!pid || !BPF_CORE_READ(pid, tasks[1].first))
                return;
        d->peer_pid = number_at(pid, reader_level());
        if (BPF_CORE_READ(sk, sk_peer_pid) != pid)
                d->peer_pid = 0;
}

static __always_inline void describe_socket(struct described *d, struct file *file)
{
        struct socket *socket;
        struct sock *sk;

        d->is_socket = 0;
        if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
                return;
        socket = BPF_CORE_READ(file, private_data);
        sk = BPF_CORE_READ(socket, sk);
        if (!sk)
                return;
        d->is_socket = 1;
        d->family = BPF_CORE_READ(sk, __sk_common.skc_family);
        d->state = BPF_CORE_READ(sk, __sk_common.skc_state);
        d->type = BPF_CORE_READ(sk, sk_type);
        d->protocol = BPF_CORE_READ(sk, sk_protocol);
        d->peer_pid = 0;
        if (d->family == AF_UNIX) {
                describe_peer(d, sk);
                describe_unix(d, sk);
                return;
        }
        d->ports[0] = BPF_CORE_READ(sk, __sk_common.skc_num);
        d->ports[1] = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
        if (d->family == AF_INET) {
                BPF_CORE_READ_INTO((__be32 *) d->addresses[0], sk, __sk_common.skc_rcv_saddr);
                BPF_CORE_READ_INTO((__be32 *) d->addresses[1], sk, __sk_common.skc_daddr);
        } else if (d->family == AF_INET6 && bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
                BPF_CORE_READ_INTO((struct in6_addr *) d->addresses[0], sk, __sk_common.skc_v6_rcv_saddr);
                BPF_CORE_READ_INTO((struct in6_addr *) d->addresses[1], sk, __sk_common.skc_v6_daddr);
        }
}

/* The descriptor to name. The link is limited to its task. */
__u32 wanted_fd = 0;

SEC("iter/task_file")
int describe(struct bpf_iter__task_file *ctx)
{
        struct file *file = ctx->file;
        union scratch_space *space;
        __u32 place = scratch_place;

        if (!ctx->task || !file || ctx->fd != wanted_fd)
                return 0;
        space = bpf_map_lookup_elem(&scratch, &place);
        if (!space)
                return 0;
        if (bpf_d_path(&file->f_path, space->described.path, sizeof space->described.path) <= 0)
                return 0;
        describe_socket(&space->described, file);
        bpf_seq_write(ctx->meta->seq, &space->described, sizeof space->described);
        return 0;
}

/* The user whose files are looked for. The link is limited to its task. */
__u32 wanted_uid = 0;

SEC("iter/task_vma")
int mapping(struct bpf_iter__task_vma *ctx)
{
        struct vm_area_struct *vma = ctx->vma;
        struct file *file;
        char found = 1;

        if (!ctx->task || !vma)
                return 0;
        file = BPF_CORE_READ(vma, vm_file);
        if (file && BPF_CORE_READ(file, f_inode, i_uid.val) == wanted_uid)
                bpf_seq_write(ctx->meta->seq, &found, sizeof found);
        return 0;
}
