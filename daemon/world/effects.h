/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/model/tree.h"

/* The only part that touches the world: done handles, state pages, processes, signals, the timer, the link to
 * the probe. bus/ changes the model, calls effects_drain() and then replies, so that a reply comes after
 * everything that it promises (law 5). What has to be emitted goes up through the sink. */

struct effects;
struct leak;
struct process;

struct effects_sink {
        void (*context_new)(void *userdata, struct context *c);
        void (*context_done)(
                        void *userdata, struct context *c); /* the root of a cancel stands for all below */
        /* One below that root which others may read than its parent. */
        void (*context_done_below)(void *userdata, struct context *c);
        void (*context_removed)(void *userdata, struct context *c);
        /* All that was told of a large end (or release) has been carried out; its root may be gone. */
        void (*ended)(void *userdata, const struct ending *ending);
        void (*leak_found)(void *userdata, struct context *c, const struct leak *leak);
        void (*leak_resolved)(void *userdata, struct context *c, const struct leak *leak);
        void (*backends_changed)(void *userdata); /* ProbeBackend, ProbeReason, MembershipBackend */
        void (*drained)(void *userdata); /* effects were drained outside of a request: queued messages want
                                            sending */
};

enum probe_mode {
        PROBE_MODE_OFF,
        PROBE_MODE_AUTO,
        PROBE_MODE_PROC,
        PROBE_MODE_BPF, /* no falling back */
};

struct effects_options {
        enum probe_mode probe;
        const char *probe_program; /* started and restarted by ctxd itself (embedded, --user); or NULL */
        const char *probe_socket;  /* where it listens for the probe of a unit; or NULL */
        uid_t probe_uid;           /* who may be the probe on that socket: 0 */
};

int effects_new(struct effects **ret, sd_event *event, struct tree *tree, const struct effects_sink *sink,
                void *userdata);
struct effects *effects_free(struct effects *e);
int effects_start(struct effects *e, const struct effects_options *options);
void effects_configure(struct effects *e, uint64_t grace_usec); /* after a reload */

/* Settles what is overdue, carries out all that the model left in its queue, frees what was forgotten, arms
 * the timer. Returns how many member tasks were in the contexts that became done. Contexts may be freed:
 * pointers from before are invalid, but for one that the caller knows to be held. */
uint32_t effects_drain(struct effects *e);
/* The same, but counts only members of contexts whose end is origin's: what a Cancel answers, though a
 * deadline may have passed elsewhere in the same moment. */
uint32_t effects_drain_counting(struct effects *e, const struct context *origin);
/* Where no descriptor is left: closes those that were only kept until there was time. False: there were
 * none. */
bool effects_give_back_descriptors(struct effects *e);
/* Drains, and goes through all large ends that are under way without serving anybody between: at the very
 * last. */
void effects_finish(struct effects *e);

/* Processes, by pid and start time, held by a pidfd. */
/* The pidfd is duplicated. -ESRCH: it has exited, or is not in our pid namespace; -EINVAL: no pidfd, or a
 * thread's. */
int process_acquire(struct effects *e, int pidfd, struct process **ret);
int process_acquire_pid(struct effects *e, pid_t pid, struct process **ret);
struct process *process_ref(struct process *p);
struct process *process_unref(struct process *p);
static inline void process_unrefp(struct process **p)
{
        process_unref(*p);
}
pid_t process_pid(const struct process *p);
int process_pidfd(const struct process *p); /* borrowed */
/* /proc: real, effective, saved uid, and command (16 bytes with NUL) */
int process_read(const struct process *p, uid_t ret_uids[3], char *ret_comm);

/* Handles: one eventfd of each kind for each process and context; asking again gives the same. Borrowed;
 * valid until the next drain; charged to uid. Born signalled where the context is done, or drained.
 * -EDQUOT with refused; -EMFILE. Once a handle was signalled, nothing is kept of it: dropping it is a
 * success, and asking again gives another. */
enum handle_kind {
        HANDLE_DONE,
        HANDLE_DRAINED,
};

int handle_get(struct effects *e, struct process *p, uid_t uid, struct context *c, enum handle_kind kind,
                int *ret_fd, struct refused *ret_refused);
int handle_drop(struct effects *e, struct process *p, struct context *c, enum handle_kind kind); /* -ENOENT */

/* The write end of a pipe, a new descriptor that the caller closes: when the last copy of all that were given
 * out is closed, the context is cancelled (law 29). Charged as a handle to the uid that was first. -EALREADY:
 * it is done; -EDQUOT, both with refused; -EMFILE. */
int lifeline_get(struct effects *e, uid_t uid, struct context *c, int *ret_fd, struct refused *ret_refused);

/* From now on what is cancelled is cancelled because the daemon leaves. */
void effects_stopping(struct effects *e);

/* A descriptor (borrowed) that hangs up when this daemon is gone, and who it is. */
int effects_alive(struct effects *e, uint64_t *ret_epoch);

/* The state page's slot of a context, made on first use. The descriptor is read-only, borrowed. */
int page_get(struct effects *e, struct context *c, int *ret_fd, uint64_t *ret_offset, uint64_t *ret_word);

/* The exit of p cancels c, with the cause "owner exited", ECANCELED. Once it is set it stays: -EBUSY; -ESRCH.
 */
int owner_bind(struct effects *e, struct context *c, struct process *p);
void owner_unbind(struct context *c); /* if it has one */

/* Members. */
struct member_process {
        uint32_t pid;
        uint64_t start_usec; /* CLOCK_BOOTTIME */
        uint32_t uid;
        uint32_t n_tasks;
        char comm[16];
        const struct context *context;
};

struct member_task {
        uint32_t pid, tid;
        bool entered; /* by itself, with ctx_enter(): its process need be no member */
        uint64_t start_usec;
        uint32_t uid;
        char comm[16];
        const struct context *context;
};

/* What the model wants to know of a process that is to become a member. -ESRCH: it has gone. */
int membership_describe(struct effects *e, struct process *p, struct attachment *ret);
/* Makes it, with its threads and what it forks meanwhile, a member of c, as tree_attach() or tree_create()
 * has allowed; takes back their policy where it fails. -ESRCH: it has gone; -EDQUOT with refused. */
int membership_join(struct effects *e, struct context *c, struct process *p, const struct attachment *a,
                struct refused *ret_refused);
/* All of that, for the process of a pidfd. -EINVAL: no pidfd of a process. */
int membership_attach(struct effects *e, const struct caller *caller, struct context *c, int pidfd,
                const struct policy *policy, struct refused *ret_refused);
/* Of c, or of all below it, too: live processes, sorted by pid. The caller frees the array. */
int membership_processes(struct effects *e, const struct context *c, bool recursive,
                struct member_process **ret, size_t *ret_n);
int membership_tasks(struct effects *e, const struct context *c, bool recursive, struct member_task **ret,
                size_t *ret_n);
/* The process of such a member, if it still is the same one; -ESRCH. */
int process_acquire_member(struct effects *e, const struct member_process *member, struct process **ret);
/* Tasks that are members of c, or of all below it. */
uint32_t membership_count(struct effects *e, const struct context *c, bool recursive);
/* The context that this process (its leader) is a member of, or NULL. */
struct context *membership_of(struct effects *e, struct process *p);
/* "bpf"; "cgroup": some members are known by a control group of their own; "direct" */
const char *membership_backend(const struct effects *e);

/* The thread page of a process (proto/thread-page.h) and its kick, made on first use; c is one of the
 * contexts that its threads may enter from now on. Borrowed. -EALREADY: c is done; -EDQUOT, both with
 * refused; -EMFILE. */
int thread_page_get(struct effects *e, struct process *p, struct context *c, int *ret_page, int *ret_kick,
                struct refused *ret_refused);

/* Leaks, as the probe reported them; kept for as long as their context. */
struct leak {
        uint64_t leak_id;
        uint64_t context_id;
        bool resolved;
        uint64_t found_usec, resolved_usec; /* CLOCK_BOOTTIME */
        uint32_t kind, backend;             /* enum probe_leak_kind, enum probe_backend */
        uint32_t pid, tid;
        uint64_t blocked_usec, since_done_usec, count;
        char comm[16];
        char syscall_text[96];
        char *waits_on, *why, *kernel_stack, *stack; /* never NULL */
        TAILQ_ENTRY(leak) leaks;
};

/* For each leak of c and of what is below it (all with NULL), running ones first; stops when cb returns != 0.
 */
int leaks_each(struct effects *e, const struct context *c,
                int (*cb)(void *userdata, struct context *c, const struct leak *leak), void *userdata);
uint64_t leaks_found(const struct effects *e);
const char *probe_backend(const struct effects *e); /* "bpf", "proc", "off" */
const char *probe_reason(const struct effects *e);
uint64_t probe_last_sweep_usec(const struct effects *e);
