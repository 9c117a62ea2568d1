/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* The parts of the kernel that the programs read. libbpf looks up each field by its name in the running
 * kernel (CO-RE). So one object works on 6.1 to 6.18, and no BTF is needed to build it. Differences between
 * kernels are dealt with in this file. */

typedef unsigned char __u8;
typedef signed short __s16;
typedef unsigned short __u16;
typedef signed int __s32;
typedef unsigned int __u32;
typedef signed long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

#define NULL ((void *) 0)
#define true 1
#define false 0
#define UINT64_MAX 0xffffffffffffffffULL

/* Numbers of the kernel's stable interface (linux/bpf.h), which do not change. */
enum {
        BPF_MAP_TYPE_HASH = 1,
        BPF_MAP_TYPE_ARRAY = 2,
        BPF_MAP_TYPE_PERCPU_ARRAY = 6,
        BPF_MAP_TYPE_RINGBUF = 27,
        BPF_MAP_TYPE_TASK_STORAGE = 29,
};

#define BPF_ANY 0
#define BPF_F_NO_PREALLOC (1U << 0)
#define BPF_F_MMAPABLE (1U << 10)
#define BPF_LOCAL_STORAGE_GET_F_CREATE (1ULL << 0)

#define PF_EXITING 0x00000004
#define PF_IO_WORKER 0x00000010
#define PF_KTHREAD 0x00200000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seq_file;
struct mm_struct;
struct core_state;
struct completion;

typedef struct {
        __u32 val;
} kuid_t;

struct cred {
        kuid_t uid;
        kuid_t suid;
        kuid_t euid;
};

struct pid_namespace;

struct upid {
        int nr;
        struct pid_namespace *ns;
};

struct hlist_node;

struct hlist_head {
        struct hlist_node *first;
};

struct pid {
        unsigned int level;
        struct hlist_head tasks[2]; /* that have this number as threads, and as processes */
        struct upid numbers[1];
};

typedef struct {
        unsigned long sig[1]; /* one word, where a long has 64 bits */
} sigset_t;

struct sigpending {
        sigset_t signal;
};

typedef struct {
        int counter;
} atomic_t;

struct signal_struct {
        atomic_t live; /* threads that do not exit yet */
        int nr_threads;
        struct core_state *core_state;
        struct sigpending shared_pending;
};

struct sched_entity {
        __u64 sum_exec_runtime;
        __u64 prev_sum_exec_runtime; /* of the moment when it last got a CPU */
};

struct sched_info {
        unsigned long long last_arrival; /* when it last got a CPU, by the scheduler's clock */
};

struct task_struct {
        unsigned int __state;
        unsigned int flags;
        unsigned int ptrace;
        struct sched_entity se;
        struct sched_info sched_info;
        struct mm_struct *mm;
        int exit_state;
        unsigned long jobctl;
        int pid;
        int tgid;
        struct task_struct *real_parent;
        struct task_struct *group_leader;
        struct pid *thread_pid;
        struct completion *vfork_done;
        unsigned long nvcsw;
        unsigned long nivcsw;
        __u64 start_boottime;
        const struct cred *real_cred;
        char comm[16];
        struct signal_struct *signal;
        sigset_t blocked;
        struct sigpending pending;
};

struct path;

struct inode {
        kuid_t i_uid;
        unsigned short i_mode;
};

#define S_IFMT 0170000
#define S_IFSOCK 0140000

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10

struct in6_addr {
        __u8 bytes[16];
};

struct sock_common {
        unsigned short skc_family;
        volatile unsigned char skc_state;
        __be32 skc_daddr;
        __be32 skc_rcv_saddr;
        __be16 skc_dport;
        __u16 skc_num;
        struct in6_addr skc_v6_daddr; /* these two are only there with IPv6 */
        struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
        struct sock_common __sk_common;
        __u16 sk_type;
        __u16 sk_protocol;
        struct pid *sk_peer_pid;
};

struct socket {
        struct sock *sk;
};

struct sockaddr_un {
        __u16 sun_family;
        char sun_path[108];
};

struct unix_address {
        int len;
        struct sockaddr_un name[];
};

struct unix_sock {
        struct sock sk;
        struct unix_address *addr;
        struct sock *peer;
};

struct file {
        struct path {
                void *mnt;
        } f_path;
        struct inode *f_inode;
        void *private_data;
};

struct vm_area_struct {
        struct file *vm_file;
};

struct bpf_iter_meta {
        struct seq_file *seq;
};

struct bpf_iter__task {
        struct bpf_iter_meta *meta;
        struct task_struct *task;
};

struct bpf_iter__task_file {
        struct bpf_iter_meta *meta;
        struct task_struct *task;
        __u32 fd;
        struct file *file;
};

struct bpf_iter__task_vma {
        struct bpf_iter_meta *meta;
        struct task_struct *task;
        struct vm_area_struct *vma;
};

/* The registers that a system call was made with. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
        unsigned long r10;
        unsigned long r9;
        unsigned long r8;
        unsigned long dx;
        unsigned long si;
        unsigned long di;
        unsigned long orig_ax;
        unsigned long ip;
        unsigned long sp;
};
#define REGS_SYSCALL(regs) ((__s64) BPF_CORE_READ(regs, orig_ax))
#define REGS_ARG0(regs) BPF_CORE_READ(regs, di)
#define REGS_ARG1(regs) BPF_CORE_READ(regs, si)
#define REGS_ARG2(regs) BPF_CORE_READ(regs, dx)
#define REGS_ARG3(regs) BPF_CORE_READ(regs, r10)
#define REGS_ARG4(regs) BPF_CORE_READ(regs, r8)
#define REGS_ARG5(regs) BPF_CORE_READ(regs, r9)
#define REGS_IP(regs) BPF_CORE_READ(regs, ip)
#define REGS_SP(regs) BPF_CORE_READ(regs, sp)
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
        __u64 regs[31];
        __u64 sp;
        __u64 pc;
        __u64 orig_x0;
        __s32 syscallno;
};
#define REGS_SYSCALL(regs) ((__s64) BPF_CORE_READ(regs, syscallno))
#define REGS_ARG0(regs) BPF_CORE_READ(regs, orig_x0)
#define REGS_ARG1(regs) BPF_CORE_READ(regs, regs[1])
#define REGS_ARG2(regs) BPF_CORE_READ(regs, regs[2])
#define REGS_ARG3(regs) BPF_CORE_READ(regs, regs[3])
#define REGS_ARG4(regs) BPF_CORE_READ(regs, regs[4])
#define REGS_ARG5(regs) BPF_CORE_READ(regs, regs[5])
#define REGS_IP(regs) BPF_CORE_READ(regs, pc)
#define REGS_SP(regs) BPF_CORE_READ(regs, sp)
#else
#error "registers of this architecture are not described: add them here"
#endif

#pragma clang attribute pop
