/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/model/tree.h"
#include "daemon/world/handle.h"
#include "daemon/world/leak.h"
#include "daemon/world/page.h"
#include "daemon/world/probe.h"

/* The engine is the one place where the model and the world meet. It turns facts into verbs of the model, and
 * effects of the model into calls into rooms.
 *
 * bus/ calls a verb of the model. Then it has the effects carried out (engine_drain), sends the news to those
 * who have subscribed (engine_take_news), and replies. So a reply comes after everything that it promises
 * (law 5). If a reply needs something from the world, such as a handle, a page or a list of members, bus/
 * asks the engine for it.
 *
 * The engine calls nobody above it. When there is something to drain, it asks for a turn (util/turn.h). The
 * turn belongs to bus/, and its callback calls engine_drain(). */

struct engine;
struct foreign;
struct process;
struct turn;

int engine_new(struct engine **ret, sd_event *event, struct tree *tree, struct turn *turn);
struct engine *engine_free(struct engine *e);
/* Starts the processes that touch what clients have sent or share with us (util/foreign.h). To be called
 * before anything is open that they could keep open. */
int engine_guard(struct engine *e);
struct foreign *engine_foreign(const struct engine *e); /* NULL without engine_guard() */
/* Starts the probe. If the probe is a child of ctxd, waits a few seconds at most until it answers. */
int engine_start(struct engine *e, const struct probe_options *options);
/* The daemon is about to end: state pages say so of the contexts that are cancelled from now on. */
void engine_stopping(struct engine *e);

/* Takes facts, settles what is overdue, carries out all effects, and arms the timer. Asks for a turn if there
 * is more. Returns how many member tasks were in the contexts that became done. With an origin it counts only
 * the contexts that have become done because of it. */
uint32_t engine_drain(struct engine *e, const struct context *origin);
/* After a drain with an origin, or of a slice of a large end: NULL, or what is left to be signalled of what
 * has ended, where that are many members. It goes on in parts: so many processes are read or signalled. 1:
 * all have their signals, and so many more have to leave; 0: there is more. To be let go of at the end, or
 * before: then it goes on by itself. */
struct signal_pass;
struct signal_pass *engine_take_signals(struct engine *e);
int engine_signals_go(struct engine *e, struct signal_pass *p, uint32_t budget, uint32_t *ret_n);
void engine_signals_let_go(struct engine *e, struct signal_pass *p);
void engine_signals_finish(struct engine *e); /* all of them, now */
/* To be called before the drain of a turn: that takes many facts; the drain of a request takes a few. */
void engine_begin_turn(struct engine *e);

enum news_kind {
        NEWS_CONTEXT_NEW = 1 << 0,
        NEWS_CONTEXT_DONE = 1 << 1,       /* the root of a cancel; it stands for all contexts below it */
        NEWS_CONTEXT_DONE_BELOW = 1 << 2, /* below that root, and others may read it than its parent */
        NEWS_CONTEXT_REMOVED = 1 << 3,
        NEWS_LEAK_FOUND = 1 << 4,
        NEWS_LEAK_RESOLVED = 1 << 5,
};

struct news {
        enum news_kind kind;
        struct context *context;
        const struct leak *leak; /* for the two kinds of leak news, else NULL */
};

/* Gives the next news after a drain: first those of leaks, then those of contexts, each oldest first. Returns
 * false when there are no more. Then call engine_collect(); removed contexts exist until that call. */
bool engine_take_news(struct engine *e, struct news *ret);
/* How many contexts and leaks there is news of. */
size_t engine_count_news(const struct engine *e);
/* Frees the leaks that were dropped, and contexts that were removed: up to n. Returns how many there were. */
uint32_t engine_collect(struct engine *e, uint32_t n);

/* To be called when no descriptor is left. Closes the descriptors that wait for a quiet moment to be closed.
 * Returns false if there were none. */
bool engine_give_back_descriptors(struct engine *e);
/* A borrowed one, to see whether descriptors can be sent. No client ever gets it. */
int engine_some_descriptor(const struct engine *e);

/* Processes. daemon/world/process.h explains the errors. */
int engine_process_open(struct engine *e, int pidfd, struct process **ret);
int engine_process_open_pid(struct engine *e, pid_t pid, struct process **ret);
struct process *engine_process_hold(struct process *p); /* takes another reference */
struct process *engine_process_close(struct process *p);
static inline void engine_process_closep(struct process **p)
{
        engine_process_close(*p);
}
/* Why it can be no member of anything: a sentence's second half. NULL: it can. */
const char *engine_process_refused(const struct process *p);
/* A new pidfd, for that uid, which the caller closes. -ESRCH: it has exited. -EDQUOT fills in
 * *ret_refused. */
int engine_open_process(struct engine *e, const struct process *p, uid_t uid, int *ret_fd,
                struct refused *ret_refused);
/* Reads the real, effective and saved uid, and the command (16 bytes with NUL), as they are now. */
int engine_process_read(const struct process *p, uid_t ret_uids[3], char *ret_comm);

/* What a client gets to hold. The descriptors are borrowed until the next drain. The lifeline's is not: the
 * caller closes it. 1: it was made for this call; if it cannot be sent, engine_..._unsent() takes it back.
 * Before that engine_unsent() is told of what nobody has got, so that it is closed at once.
 * The context may be gone by then, so that takes its id. Two errors fill in *ret_refused: -EALREADY (the
 * context is done) and -EDQUOT. The others are -EMFILE, -ESRCH and -ENOMEM. */

void engine_unsent(int fd);

/* Tells this daemon from others. */
uint64_t engine_epoch(const struct engine *e);

/* A descriptor that is readable when this daemon has ended, which the caller closes. The epoch tells this
 * daemon from others. Each is a file of its own, and no client can lock what it stands for: where clients had
 * a file or a pipe together, one of them could make the close of another one hang for ever.
 *
 * It is a pidfd of the daemon. With it a client can do nothing that it could not do without: anybody may open
 * one of any process that has a number in his pid namespace; and to signal by it, to take a descriptor or to
 * enter namespaces is what the kernel permits each caller, or not, as it would by the number. */
int engine_alive(struct engine *e, uid_t uid, int *ret_fd, uint64_t *ret_epoch, struct refused *ret_refused);
/* Gives a uid's process the same handle when it is asked again. A handle that was signalled is not kept, so
 * then it gives a new one. */
int engine_handle(struct engine *e, struct process *p, uid_t uid, struct context *c, enum handle_kind kind,
                int *ret_fd, struct refused *ret_refused);
void engine_handle_unsent(struct engine *e, struct process *p, uid_t uid, uint64_t id, enum handle_kind kind);
/* Gives up a handle. -ENOENT: the process has none of that kind as
 * that uid. */
int engine_handle_drop(
                struct engine *e, struct process *p, uid_t uid, struct context *c, enum handle_kind kind);
int engine_lifeline(struct engine *e, uid_t uid, struct context *c, int *ret_fd, struct refused *ret_refused);
/* Before its copies are closed, which would cancel the context. */
void engine_lifeline_unsent(struct engine *e, uint64_t id);
int engine_page(struct engine *e, struct context *c, struct page_place *ret);
/* The same if the caller may have the page; else *ret is all 0. */
int engine_page_for(struct engine *e, const struct caller *caller, struct context *c, struct page_place *ret);
int engine_threads(struct engine *e, struct process *p, struct context *c, int *ret_page, int *ret_kick,
                struct refused *ret_refused);
void engine_threads_unsent(struct engine *e, struct process *p, uint64_t id);

/* From now on the exit of the process cancels the context, with the cause "owner exited" and ECANCELED. An
 * owner cannot be replaced (-EBUSY). -ESRCH: the process has exited. */
int engine_bind_owner(struct engine *e, struct context *c, struct process *p);

/* Members. */
struct member_process {
        uint32_t pid;
        uint64_t start_usec; /* CLOCK_BOOTTIME */
        uint32_t uid;        /* if it was asked for */
        uint32_t n_tasks;
        char comm[16];
        const struct context *context;
};

struct member_task {
        uint32_t pid, tid;
        bool has_entered; /* by ctx_enter(); its process need not be a member */
        uint64_t start_usec;
        uint64_t process_start_usec; /* where it has entered */
        char comm[16];
        const struct context *context;
};

/* Tells what the model has to know of a process that has just been opened before it becomes a member.
 * -ELOOP: it has too many ancestors, so that nobody knows what it is a member of. */
int engine_describe(struct engine *e, struct process *p, struct attachment *ret);
/* May the process reap for that one: it is its parent, and in the same context. */
bool engine_may_reap(struct engine *e, struct process *p, struct process *reaper);
/* Makes the process a member of c, with its threads and with the children that it forks meanwhile.
 * tree_attach() has to allow it first. On failure what tree_attach() has done is taken back. -ESRCH: it has
 * gone; -EDQUOT fills in *ret_refused. */
int engine_join(struct engine *e, struct context *c, struct process *p, const struct attachment *a,
                struct refused *ret_refused);
/* Does all these steps for the process of a pidfd. -EINVAL: the descriptor is no pidfd of a process. */
int engine_attach(struct engine *e, const struct caller *caller, struct context *c, int pidfd,
                const struct policy *policy, struct refused *ret_refused);
/* Does tree_create(), binds the new context to the owner (or NULL), finds its slot if ret_page is not NULL,
 * and makes the member (or NULL) a member of it as options->attach says. It does all of this or nothing.
 * Returns what tree_create() returns. -EOWNERDEAD: the owner has exited; -ESRCH: the member has exited. */
int engine_create(struct engine *e, uint64_t now_usec, const struct caller *caller, const char *text,
                const struct create_options *options, struct process *owner, struct process *member,
                struct page_place *ret_page, struct context **ret, struct refused *ret_refused);
/* A look at the members of c or, if recursive, of c and all contexts below it. It is made in parts: each call
 * of members_look_go() looks at so many processes at most. 1: it is over; 0: there is more; or -errno.
 * Contexts may go meanwhile. with_uids: the uids of processes are wanted, too, which may take another read of
 * each. */
struct members_look;
int engine_look(struct engine *e, const struct context *c, bool recursive, bool with_uids,
                struct members_look **ret);
int members_look_go(struct members_look *l, uint32_t budget);
struct members_look *members_look_free(struct members_look *l);
/* What it has found when it is over. Lists the live processes, sorted by pid. The caller frees the array. */
int members_look_processes(struct members_look *l, struct member_process **ret, size_t *ret_n);
/* Gives one process after the other, beginning with *i == 0, and how the end of its context reaches it, where
 * uids were asked for. False: it was the last one. Contexts may go between. */
bool members_look_next_ending(struct members_look *l, size_t *i, struct member_process *ret,
                struct member_ending *ret_ending);
/* The same for tasks. Threads that have entered c, or a context below it, come last. */
int members_look_tasks(struct members_look *l, const struct context *c, bool recursive,
                struct member_task **ret, size_t *ret_n);
/* Those that have entered alone, without a look: by context, and then by process. */
int engine_entered(struct engine *e, const struct context *c, bool recursive, struct member_task **ret,
                size_t *ret_n);
size_t members_look_count(const struct members_look *l); /* tasks, without those that have entered */
/* Both at once, however long it takes. */
int engine_processes(struct engine *e, const struct context *c, bool recursive, struct member_process **ret,
                size_t *ret_n);
int engine_tasks(struct engine *e, const struct context *c, bool recursive, struct member_task **ret,
                size_t *ret_n);
/* Opens the process of a listed member. -ESRCH: it has gone, even if another process has its pid now. */
int engine_open_member(struct engine *e, const struct member_process *member, struct process **ret);
/* Counts the tasks that are members of c or, if recursive, of c and all contexts below it. Where it takes a
 * look at each of them, it may take long. */
uint32_t engine_count_members(struct engine *e, const struct context *c, bool recursive);
/* The same for c alone, in parts. *look is NULL at first, and again when it is over. 1: it is over, and they
 * were added to *ret; 0: there is more; or -errno. */
int engine_count_some(struct engine *e, const struct context *c, uint32_t budget, struct members_look **look,
                uint32_t *ret);
/* The context of which the process, that is its leading thread, is a member; or NULL. -errno as
 * engine_describe(). */
int engine_context_of(struct engine *e, struct process *p, struct context **ret);
const char *engine_membership_backend(const struct engine *e);

/* Goes through the leaks of c and of all contexts below it, or all leaks if c is NULL (leak.h says in which
 * order). Each one that is looked at takes one of the budget. NULL: that is used up, or there are no more. */
void engine_begin_leaks(struct engine *e, struct leak_cursor *cursor);
const struct leak *engine_next_leak(struct leak_cursor *cursor, const struct context *c, uint32_t *budget,
                struct context **ret_context);
void engine_end_leaks(struct leak_cursor *cursor); /* one of zeros has not begun */
uint64_t engine_leaks_found(const struct engine *e);
const char *engine_probe_backend(const struct engine *e); /* "bpf", "proc", "off" */
const char *engine_probe_reason(const struct engine *e);
uint64_t engine_probe_last_sweep_usec(const struct engine *e);
