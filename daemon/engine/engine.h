/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/model/tree.h"
#include "daemon/world/handle.h"
#include "daemon/world/leak.h"
#include "daemon/world/probe.h"

/* The one place where the model and the world meet: facts become verbs of the model, effects of the model
 * become calls into rooms. bus/ changes the model, has the effects carried out (engine_drain), tells who
 * subscribed what is new (engine_take_news), and then replies, so that a reply comes after all that it
 * promises (law 5). What a reply needs of the world, a handle, a page, a list of members, bus/ asks for here.
 *
 * The engine calls nobody above it. It asks for the turn that it was given whenever there is something to
 * drain, and who runs that turn calls engine_drain(). */

struct engine;
struct process;
struct turn;

int engine_new(struct engine **ret, sd_event *event, struct tree *tree, struct turn *turn);
struct engine *engine_free(struct engine *e);
/* Starts the probe; where that is a child of ours, waits for it a little. */
int engine_start(struct engine *e, const struct probe_options *options);
/* From now on what is cancelled is cancelled because the daemon leaves. */
void engine_stopping(struct engine *e);

/* Takes all facts, settles what is overdue, carries out all effects, and arms the timer. Returns how many
 * member tasks were in the contexts that became done: of those whose end is origin's, or of all (NULL). */
uint32_t engine_drain(struct engine *e, const struct context *origin);

enum news_kind {
        NEWS_CONTEXT_NEW = 1 << 0,
        NEWS_CONTEXT_DONE = 1 << 1,       /* the root of a cancel: it stands for all below it */
        NEWS_CONTEXT_DONE_BELOW = 1 << 2, /* one below that root, which others may read than its parent */
        NEWS_CONTEXT_REMOVED = 1 << 3,
        NEWS_LEAK_FOUND = 1 << 4,
        NEWS_LEAK_RESOLVED = 1 << 5,
};

struct news {
        enum news_kind kind;
        struct context *context;
        const struct leak *leak; /* of the last two */
};

/* After a drain, what is to be told, oldest first. False: that was all; then engine_collect(). Contexts that
 * were removed are there until then. */
bool engine_take_news(struct engine *e, struct news *ret);
/* Frees what was forgotten. Contexts may be gone after this. */
void engine_collect(struct engine *e);

/* Where no descriptor is left: closes those that were only kept until there was time. False: there were
 * none. */
bool engine_give_back_descriptors(struct engine *e);
/* A descriptor (borrowed) that hangs up when this daemon is gone, and who it is. */
int engine_alive(struct engine *e, uint64_t *ret_epoch);

/* Processes (daemon/world/process.h says what the errors mean). */
int engine_process_open(struct engine *e, int pidfd, struct process **ret);
int engine_process_open_pid(struct engine *e, pid_t pid, struct process **ret);
struct process *engine_process_hold(struct process *p); /* another reference */
struct process *engine_process_close(struct process *p);
static inline void engine_process_closep(struct process **p)
{
        engine_process_close(*p);
}
int engine_process_pidfd(const struct process *p); /* borrowed */
/* Real, effective and saved uid, and command (16 bytes with NUL), as they are now. */
int engine_process_read(const struct process *p, uid_t ret_uids[3], char *ret_comm);

/* What a client gets to hold. Descriptors are borrowed until the next drain, but for the lifeline's, which is
 * the caller's to close. With refused: -EALREADY (it is done), -EDQUOT; others: -EMFILE, -ESRCH, -ENOMEM. */

/* Asking again gives the same one. One that was signalled is not kept: asking again gives another. */
int engine_handle(struct engine *e, struct process *p, uid_t uid, struct context *c, enum handle_kind kind,
                int *ret_fd, struct refused *ret_refused);
/* -ENOENT: there is none. */
int engine_handle_drop(struct engine *e, struct process *p, struct context *c, enum handle_kind kind);
int engine_lifeline(struct engine *e, uid_t uid, struct context *c, int *ret_fd, struct refused *ret_refused);
int engine_page(struct engine *e, struct context *c, int *ret_fd, uint64_t *ret_offset, uint64_t *ret_word);
int engine_threads(struct engine *e, struct process *p, struct context *c, int *ret_page, int *ret_kick,
                struct refused *ret_refused);

/* Its exit ends the context, with the cause "owner exited", ECANCELED. Once it is set it stays: -EBUSY;
 * -ESRCH. */
int engine_bind_owner(struct engine *e, struct context *c, struct process *p);

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
        bool has_entered; /* by itself, with ctx_enter(): its process need be no member */
        uint64_t start_usec;
        uint32_t uid;
        char comm[16];
        const struct context *context;
};

/* What the model wants to know of a process that is to become a member. -ESRCH: it has gone. */
int engine_describe(struct engine *e, struct process *p, struct attachment *ret);
/* Makes it, with its threads and what it forks meanwhile, a member of c, as tree_attach() has allowed; takes
 * back what that has done where it fails. -ESRCH: it has gone; -EDQUOT with refused. */
int engine_join(struct engine *e, struct context *c, struct process *p, const struct attachment *a,
                struct refused *ret_refused);
/* All of that, for the process of a pidfd. -EINVAL: no pidfd of a process. */
int engine_attach(struct engine *e, const struct caller *caller, struct context *c, int pidfd,
                const struct policy *policy, struct refused *ret_refused);
/* tree_create(), with an owner (or NULL) whose exit ends it, and a member (or NULL) as options->attach
 * describes it: all of it, or nothing. As tree_create(); -EOWNERDEAD: the owner has exited; -ESRCH: the
 * member has. */
int engine_create(struct engine *e, uint64_t now_usec, const struct caller *caller, const char *text,
                const struct create_options *options, struct process *owner, struct process *member,
                struct context **ret, struct refused *ret_refused);
/* Of c, or of all below it, too: live processes, sorted by pid. The caller frees the array. */
int engine_processes(struct engine *e, const struct context *c, bool recursive, struct member_process **ret,
                size_t *ret_n);
/* Those who have entered it by themselves come last. */
int engine_tasks(struct engine *e, const struct context *c, bool recursive, struct member_task **ret,
                size_t *ret_n);
/* The process of such a member, if it still is the same one; -ESRCH. */
int engine_open_member(struct engine *e, const struct member_process *member, struct process **ret);
/* Tasks that are members of c, or of all below it. */
uint32_t engine_count_members(struct engine *e, const struct context *c, bool recursive);
/* The context that this process (its leader) is a member of, or NULL. */
struct context *engine_context_of(struct engine *e, struct process *p);
const char *engine_membership_backend(const struct engine *e);

/* Leaks of c and of what is below it (of all with NULL), running ones first: start with a cursor of zeros.
 * NULL: that was the last one. Contexts and leaks must not change in between. */
struct leak_cursor {
        bool resolved_ones;
        struct anchor *anchor;
        const struct leak *leak;
};

const struct leak *engine_next_leak(struct engine *e, const struct context *c, struct leak_cursor *cursor,
                struct context **ret_context);
uint64_t engine_leaks_found(const struct engine *e);
const char *engine_probe_backend(const struct engine *e); /* "bpf", "proc", "off" */
const char *engine_probe_reason(const struct engine *e);
uint64_t engine_probe_last_sweep_usec(const struct engine *e);
