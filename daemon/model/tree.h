/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/model/access.h"
#include "daemon/model/context.h"
#include "daemon/model/heap.h"
#include "daemon/model/index.h"
#include "daemon/model/user.h"

/* The tree of all contexts, and every verb that changes it. The tree has no descriptor, no clock and no bus.
 * It is told the time, and leaves in tree->effects what has to be done in the world. So laws 1 to 21 and 34
 * to 36 are tested against the tree alone.
 *
 * A verb that a caller can ask for is given the caller. It authorises before it changes anything (access.h).
 * It first settles overdue deadlines (tree_settle), so a cancel that comes after a deadline changes nothing
 * (law 12). A verb that returns an error has changed nothing (law 35).
 *
 * Times are in µs on CLOCK_BOOTTIME. UINT64_MAX means none. */

#define CONTEXT_MODE_DEFAULT 0700
#define CONTEXT_MODE_INHERIT UINT32_MAX
#define CONTEXT_SYSTEM_UIDS 1000 /* uids below it may make first labels */

/* The end or the release of a subtree that is too large to be ended at once. tree_advance() goes on with
 * it. */
struct ending {
        uint64_t number; /* a later ending has a larger one */
        struct context *root;
        struct context *next; /* model: where it goes on; NULL: it has gone through all */
        bool is_release;
        bool is_mixed;       /* model: some contexts below root have another origin */
        uint32_t contexts;   /* how many became done by it */
        uint32_t members;    /* how many members those have, as the engine has counted them */
        struct party *party; /* model: of its root, while it goes on */
        TAILQ_ENTRY(ending) endings, of_party;
};

TAILQ_HEAD(endings, ending);

/* Where a walk through a subtree, in the order of context_next(), goes on later. It stays right when contexts
 * go meanwhile: then it moves on. */
struct cursor {
        const struct context *root; /* NULL: it has gone */
        const struct context *next; /* NULL: the walk is over */
        bool extends;               /* model: up to here the deadlines are the new ones */
        LIST_ENTRY(cursor) cursors;
};

struct tree {
        struct context *background;
        struct index by_name; /* contexts that have their path, or linger, by parent and label */
        struct index by_id;   /* released ones that do not linger */
        uint32_t n_lingering;
        uint64_t last_id;
        uint64_t last_label; /* the highest number that was ever a label */
        uint32_t n_contexts; /* active and done ones; without the background and forgotten ones */
        uint64_t retain_usec;
        uint64_t default_grace_usec;
        uint64_t max_value_bytes; /* keys and values of one context */
        uid_t daemon_uid;         /* may do everything, as root may; first labels may belong to it */

        struct users users; /* with their limits */
        struct effect_queue effects;

        struct heap due;                  /* parties by the first of their wakes */
        TAILQ_HEAD(, party) ending;       /* those with endings */
        uint32_t n_waking;                /* contexts in the heaps of all parties */
        uint32_t n_taken;                 /* parties that were taken, and are in neither */
        struct heap retiring;             /* users by the retire_usec of their first retired context */
        STAILQ_HEAD(, context) forgotten; /* unlinked; tree_collect() frees them */

        uint32_t slice;         /* how many contexts are ended or forgotten at a time; UINT32_MAX: all */
        uint64_t now_usec;      /* the time that it was told last */
        struct endings endings; /* those under way */
        struct endings ended;   /* those that are over, until tree_take_ended() */
        uint64_t last_ending;
        LIST_HEAD(, cursor) cursors;
};

/* A process that has to become a member of a context: what the world knows of it, and how it has to end.
 * tree_attach() and tree_create() authorise that, and fill in the last two fields. */
struct attachment {
        uid_t uids[3];              /* of the process: real, effective, saved */
        const struct context *from; /* the context of which it is a member now; NULL: none */
        uint32_t from_policy;       /* its policy in that context */
        struct policy wanted;       /* its uid counts for caller_daemon only; else it is the caller's */
        struct process *reaper;     /* engine: the caller, if what becomes its child is a member, too */

        uint32_t policy;    /* index into the context's policies */
        bool policy_is_new; /* tree_attach_undo() takes it away again */
};

struct create_options {
        uint64_t deadline_usec; /* UINT64_MAX: none of its own */
        bool has_cause;         /* the next two are the cause of the deadline */
        int cause_error;
        const char *cause_message;
        const struct value *values;
        size_t n_values;
        uint32_t mode; /* CONTEXT_MODE_INHERIT: the parent's, but CONTEXT_MODE_DEFAULT below the background */
        bool has_gid;  /* without it the gid is the parent's, but the caller's below the background */
        gid_t gid;     /* has to be one of the caller's */
        uint64_t grace_usec;     /* 0: the default; UINT64_MAX: never report */
        const char *description; /* or NULL */
        bool parents, open, replace;
        struct attachment *attach; /* this process becomes a member in the same step; or NULL */
};

/* Every reason for which a verb refuses. bus/ turns it into an error with a name and a sentence. */
enum refusal {
        REFUSED_INVALID = 1, /* detail says what */
        REFUSED_NAME,
        REFUSED_KEY,
        REFUSED_NO_SUCH, /* path is the one that is missing */
        REFUSED_EXISTS,
        REFUSED_NOT_CANCELABLE,
        REFUSED_DONE,
        REFUSED_ACCESS,
        REFUSED_LIMIT,   /* resource, used, allowed */
        REFUSED_PROCESS, /* the caller may not make the process a member; detail is the whole sentence */
};

struct refused {
        enum refusal reason;
        const char *detail;              /* static text, or NULL */
        char path[CTXD_PATH_ID_MAX + 1]; /* of the context that it is about; empty if there is none */
        const char *limit;               /* resource_name() */
        const char *limit_key;
        uint64_t used, allowed;
        /* The privilege (enum privilege) that might have prevented the refusal; 0: none would. It is the same
         * for a context that is missing as for one that is hidden, so it tells nothing about what the caller
         * may not read. If something is missing where the caller may write, no privilege is named, because
         * the caller can see that by itself. */
        unsigned privilege;
        uid_t uid;  /* whose limit it is */
        bool first; /* the first refusal of that uid for some time, so it is worth a line in the log */
};

int tree_new(struct tree **ret);
struct tree *tree_free(struct tree *t);

/* What a label counts for in tree.last_label; 0: it is no number, or too large to matter. */
uint64_t label_number(const char *label);

/* Every verb returns 0 or more on success, or -ENOMEM. Or it fills in *ret_refused, and returns -EINVAL,
 * -ENOENT, -EEXIST, -EPERM (not cancelable), -EALREADY (done), -EACCES or -EDQUOT. */

/* Takes the first context from the queue, clears its effects (enum effect) and gives them to the caller, who
 * carries them out. NULL: the queue is empty; then call tree_collect(). */
struct context *effect_take(struct tree *t, unsigned *ret_effects);
/* The same from a queue to which the caller has moved tree->effects. Effects that are added meanwhile are not
 * in it. */
struct context *effect_take_from(struct effect_queue *queue, unsigned *ret_effects);

/* Finds the context that text names: a path or path#id, with ~ for the caller's own tree. A context that the
 * caller may not read is not found. The background is found under "/". */
int tree_find(struct tree *t, const struct caller *caller, const char *text, struct context **ret,
                struct refused *ret_refused);

/* Makes a context, as mkdir makes a directory. text names the new one. If text ends with '/', a label is made
 * up: a number that was never used under that parent. Returns 1 if it was made, or 0 if options->open has
 * found an active one. The child of a done parent is made, and born done with the parent's end. One whose
 * deadline has passed is born done, too.
 *
 * A done context loses its path, and those below it, to a new one, as if it had been released. With
 * options->open that is refused (-EALREADY) if somebody has cancelled it or its deadline has passed, so that
 * late work does not go on under its name, unless there is options->replace.
 * Below the background only its owner and who may write to it can displace it (-EEXIST).
 *
 * First labels belong to root, to system users (uid below 1000) and to the daemon's own uid. Everybody else
 * has the tree user-UID, which is made when it is first needed; that uid owns it, and its mode is 0700. */
int tree_create(struct tree *t, uint64_t now_usec, const struct caller *caller, const char *text,
                const struct create_options *options, struct context **ret, struct refused *ret_refused);

/* The same for who may have to take it back: if a done context is to lose its path, that is *ret_displaced
 * (else NULL), and it still has it. After 1 comes one of the two that follow, before anything else. */
int tree_create_beside(struct tree *t, uint64_t now_usec, const struct caller *caller, const char *text,
                const struct create_options *options, struct context **ret, struct context **ret_displaced,
                struct refused *ret_refused);
void tree_displace(struct tree *t, struct context *displaced);
void tree_discard_beside(struct tree *t, struct context *c, struct context *displaced);

/* Takes back a context that was just made (1), before its effects were drained. Then it is as if the context
 * had never been, but its id stays used. Ancestors that were made for it go, too. The engine takes away what
 * it has got meanwhile (members, an owner, a page, but no handles), by EFFECT_REMOVED with EFFECT_SILENT. */
void tree_discard(struct tree *t, struct context *c);

/* 1: this call has cancelled it, and *ret_contexts says how many contexts became done. If the end goes on in
 * slices, that is how many so far. 0: it was done before. The function takes cause over, which may be NULL,
 * and frees it if it is not used. */
int tree_cancel(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                struct cause *cause, uint32_t *ret_contexts, struct refused *ret_refused);

int tree_extend(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                uint64_t deadline_usec, struct refused *ret_refused);
/* The same in slices. The first only puts the cursor, which was set, to c. The second goes on with so many
 * contexts, and says whether there are more. Meanwhile the deadlines of those that it has not come to are the
 * old ones; nothing ends too early by that. */
int tree_extend_begin(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                uint64_t deadline_usec, struct cursor *cursor, struct refused *ret_refused);
bool tree_extend_some(struct tree *t, uint64_t now_usec, struct cursor *cursor, uint32_t budget);

/* Cancels it if it is active (with the cause "context released"). Frees its path and the paths below it, so
 * that they can be used again. */
int tree_release(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                struct refused *ret_refused);

/* Carries out what is overdue: deadlines that have passed, kills that are due, contexts whose retention is
 * over. Returns how many contexts were changed. With slices it does only a few of them, and tree_advance()
 * does the rest. */
int tree_settle(struct tree *t, uint64_t now_usec);

/* A large end comes in slices (ending.c). tree_advance() does the next slice of everything that is under way
 * or overdue. True: there is more. A context to which an ending has not come yet still reads active.
 * tree_find() and the verbs bring what they look at up to date. Code that gets a context in another way, and
 * wants to know its state, calls tree_reach() first. */
bool tree_advance(struct tree *t, uint64_t now_usec);
bool tree_is_behind(const struct tree *t, uint64_t now_usec);
/* The same for each party by itself, so that one's work is not done before another's, and its time can be
 * counted as that party's. tree_take_behind() takes one of which something is under way or overdue, or NULL:
 * from then on tree_advance(), tree_settle(), tree_is_behind() and tree_next_usec() leave that to who has
 * taken it, until it is given back. Its users may go meanwhile. tree_advance_party() does its next slice, and
 * says whether there is more. */
struct party *tree_take_behind(struct tree *t, uint64_t now_usec);
bool tree_advance_party(struct tree *t, uint64_t now_usec, struct party *p);
void tree_give_back(struct tree *t, struct party *p);
void tree_reach(struct tree *t, const struct context *c);
/* The number of the last ending that has not come yet to c or to a context below it; 0: there is none. A
 * Cancel of c, first or not, has done all that it promises when tree_is_ended() says so of that number and
 * tree_ending_party(). */
uint64_t tree_ending(const struct tree *t, const struct context *c);
/* The number of the ending whose root is c, or 0. */
uint64_t tree_own_ending(const struct tree *t, const struct context *c);
/* Whose that is; NULL: there is none. */
struct party *tree_own_ending_party(const struct tree *t, const struct context *c);
/* The party of all these endings; NULL: they are several parties'. */
struct party *tree_ending_party(const struct tree *t, const struct context *c);
/* Whether that ending and all older ones are over: those of the party, or (NULL) of all. */
bool tree_is_ended(const struct tree *t, const struct party *p, uint64_t number);
/* The engine has counted the members that have to leave c, which has become done. */
void tree_count_members(struct tree *t, const struct context *c, uint32_t members);
/* Takes an ending that is over, to be called after its effects were drained. The caller frees it. Its root
 * may be gone. */
struct ending *tree_take_ended(struct tree *t);

/* The time when tree_settle() has something to do next. UINT64_MAX: never. */
uint64_t tree_next_usec(const struct tree *t);

/* Frees forgotten contexts, up to n. Their effects have to be drained before. Returns how many there were. */
uint32_t tree_collect(struct tree *t, uint32_t n);

/* Membership.
 *
 * tree_attach() authorises, before the world makes a process a member. The caller has to be allowed to write
 * to c. The process has to be the caller's; root may take any. If the process is a member of another context,
 * it may move to one below that. It may move elsewhere only if the caller may write to the old one without
 * polkit's help. If the caller may not, it cannot weaken how the process ends, either: the stronger of the
 * old policy and the wanted one counts. tree_attach() finds or adds that policy. -EDQUOT: there are
 * CONTEXT_POLICIES_MAX; -EALREADY: c is done. If the world then fails, tree_attach_undo() takes the policy
 * back.
 *
 * tree_attached() tells the model that the context may have members. tree_left() tells it that no member is
 * left in this context; so it may be drained, and its ancestors, too. */
int tree_attach(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                struct attachment *attachment, struct refused *ret_refused);
void tree_attach_undo(struct tree *t, struct context *c, const struct attachment *attachment);
void tree_attached(struct tree *t, struct context *c);
void tree_left(struct tree *t, uint64_t now_usec, struct context *c);

/* The world has given out a handle of the context, or the last one is gone. A done context is kept while it
 * has handles. */
void tree_handles_given(struct tree *t, struct context *c);
void tree_handles_closed(struct tree *t, uint64_t now_usec, struct context *c);

/* To be called after charge_init() has returned -EDQUOT: says which limit it was, and returns -EDQUOT. */
int tree_refuse_charge(
                struct refused *ret_refused, struct user *user, enum resource resource, uint64_t amount);
/* Does charge_init(), and says which limit it was. 0 or -EDQUOT. */
int tree_charge(struct tree *t, struct charge *charge, struct user *user, enum resource resource,
                uint64_t amount, struct refused *ret_refused);

int tree_charge_resize(struct charge *charge, uint64_t amount, struct refused *ret_refused);

/* Walks a subtree without recursion, parents before children. Start with c = root. NULL: this was the last
 * one. The newest child comes first. */
struct context *context_next(const struct context *c, const struct context *root);
/* The same, but leaves out what is below c. */
struct context *context_next_skip(const struct context *c, const struct context *root);
/* From here until tree_unset_cursor() the cursor is kept right. */
void tree_set_cursor(
                struct tree *t, struct cursor *k, const struct context *root, const struct context *next);
void tree_unset_cursor(struct cursor *k);

/* Aborts if a counter, the heap or a link is not as it has to be. For tests. */
void tree_check(const struct tree *t);
