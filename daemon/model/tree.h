/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/model/access.h"
#include "daemon/model/context.h"
#include "daemon/model/heap.h"
#include "daemon/model/index.h"
#include "daemon/model/user.h"

/* The tree of all contexts, and every verb that changes it. No descriptor, no clock, no bus: the time is
 * passed in, what the world has to be told is left in tree->effects. Laws 1 to 21 and 34 to 36 are tested
 * against this alone.
 *
 * Each verb that a caller can ask for is given that caller, and authorises before it changes anything
 * (access.h).
 *
 * Each verb settles overdue deadlines first (tree_settle), so that a cancel which comes after a deadline
 * changes nothing (law 12). A verb that returns an error has changed nothing (law 35).
 *
 * Times: CLOCK_BOOTTIME in µs; UINT64_MAX is none. */

#define CONTEXT_MODE_DEFAULT 0700
#define CONTEXT_MODE_INHERIT UINT32_MAX
#define CONTEXT_SYSTEM_UIDS 1000 /* uids below it may make first labels */

/* The end (or the release) of a subtree that is too large for one go. It goes on with tree_advance(). */
struct ending {
        uint64_t number; /* counted up */
        struct context *root;
        struct context *next; /* model: where it goes on; NULL: it has gone through all */
        bool is_release;
        bool is_mixed;     /* model: some of those below have another origin than root */
        uint32_t contexts; /* that became done by it */
        uint32_t members;  /* in those, as the world has counted them */
        TAILQ_ENTRY(ending) endings;
};

TAILQ_HEAD(endings, ending);

struct tree {
        struct context *background;
        struct index by_name; /* (parent, label): those that have their path */
        struct index by_id;   /* released ones */
        uint64_t last_id;
        uint64_t last_label; /* of those made up, or the highest number that somebody used as one */
        uint32_t n_contexts; /* without the background; done ones, too; without forgotten ones */
        uint64_t retain_usec;
        uint64_t default_grace_usec;
        uint64_t max_value_bytes; /* keys and values of one context */
        uid_t daemon_uid;         /* may all, as root may, and owns first labels as system users do */

        struct users users; /* with their limits */
        struct effect_queue effects;

        struct heap wakes;   /* contexts by wake_usec */
        uint32_t n_reserved; /* contexts that have room in it */
        /* Users, by the time at which their first context is to be forgotten, less retain_usec. */
        struct heap retiring;
        STAILQ_HEAD(, context) forgotten; /* unlinked, to be freed by tree_collect() */

        uint32_t slice;    /* how many contexts are ended or forgotten in one go; UINT32_MAX: all there are */
        uint64_t now_usec; /* what it was told last */
        struct endings endings; /* under way */
        struct endings ended;   /* over, as tree_take_ended() is to tell */
        uint64_t last_ending;
};

/* A process that is to become a member of a context: what the world knows of it, and how it is to end.
 * tree_attach() and tree_create() authorise that, and fill in the rest. */
struct attachment {
        uid_t uids[3];              /* of the process: real, effective, saved */
        const struct context *from; /* that it is a member of now; NULL: of none */
        uint32_t from_policy;       /* there */
        /* Its uid is not looked at: it becomes the caller's. Only caller_daemon's is taken as it is. */
        struct policy wanted;

        uint32_t policy;    /* out: index into the context's policies */
        bool policy_is_new; /* out: tree_attach_undo() takes it away again */
};

struct create_options {
        uint64_t deadline_usec; /* UINT64_MAX: none of its own */
        bool has_cause;         /* of the deadline */
        int cause_error;
        const char *cause_message;
        const struct value *values;
        size_t n_values;
        uint32_t mode; /* CONTEXT_MODE_INHERIT: the parent's, but CONTEXT_MODE_DEFAULT below the background */
        bool has_gid;  /* else the parent's, the caller's below the background; one of the caller's */
        gid_t gid;
        uint64_t grace_usec;     /* 0: the default; UINT64_MAX: never report */
        const char *description; /* or NULL */
        bool parents, open;
        struct attachment *attach; /* becomes a member in the same step; or NULL */
};

/* Every reason for which a verb refuses, beyond -errno: what bus/ turns into an error by name with a
 * sentence. */
enum refusal {
        REFUSED_INVALID = 1, /* error.detail says what */
        REFUSED_NAME,
        REFUSED_KEY,
        REFUSED_NO_SUCH, /* detail: the path that is missing */
        REFUSED_EXISTS,
        REFUSED_NOT_CANCELABLE,
        REFUSED_DONE,
        REFUSED_ACCESS,
        REFUSED_LIMIT,   /* resource, used, allowed */
        REFUSED_PROCESS, /* a process that the caller may not make a member; detail is the whole sentence */
};

struct refused {
        enum refusal reason;
        const char *detail;              /* static text, or NULL */
        char path[CTXD_PATH_ID_MAX + 1]; /* of the context it is about, where there is one, else empty */
        const char *limit;               /* resource_name() */
        const char *limit_key;
        uint64_t used, allowed;
        /* enum privilege: with which it might not have been refused; 0: with none. Says nothing of what the
         * caller may not read: for a context that is missing it is the same as for one that is hidden. What
         * is missing where the caller may write is missed by its own doing, and no privilege is named. */
        unsigned privilege;
        uid_t uid; /* whose limit it is */
        /* That uid is refused something for the first time in a while: worth a line in the log. */
        bool first;
};

int tree_new(struct tree **ret);
struct tree *tree_free(struct tree *t);

/* Every verb: 0 or more on success; -ENOMEM; or, with *ret_refused filled in, -EINVAL, -ENOENT, -EEXIST,
 * -EPERM (not cancelable), -EALREADY (done), -EACCES or -EDQUOT. */

/* The next effect: takes the first context from the queue, and gives what is to be done for it (enum effect),
 * with the bits cleared. NULL: all is done; then tree_collect(). */
struct context *effect_take(struct tree *t, unsigned *ret_effects);
/* The same from a queue that tree->effects was moved to: what is added meanwhile waits for the next one. */
struct context *effect_take_from(struct effect_queue *queue, unsigned *ret_effects);

/* Finds what text (path or path#id, ~ for the caller's) names. Contexts that the caller may not read are not
 * there. The background is found under "/". */
int tree_find(struct tree *t, const struct caller *caller, const char *text, struct context **ret,
                struct refused *ret_refused);

/* First labels belong to root, to system users (uid below 1000) and to the daemon's own uid; everybody else
 * has the tree user-UID, which is made when it is first needed (owner: that uid, mode 0700).
 *
 * Like mkdir: text names the new one; a trailing '/' makes up a label (a number, never used before under that
 * parent). Returns 1 when made, 0 when options->open found an active one. A child of a done parent is made,
 * born done with the parent's end; so is one whose deadline has passed. */
int tree_create(struct tree *t, uint64_t now_usec, const struct caller *caller, const char *text,
                const struct create_options *options, struct context **ret, struct refused *ret_refused);

/* Takes back a context that tree_create() has just made (1), before its effects were drained: as if it had
 * never been, but that its id stays used. Ancestors that were made for it go as well. What was hung on it
 * meanwhile (members, an owner, a page, no handles) the effects take away: EFFECT_REMOVED, with
 * EFFECT_SILENT. */
void tree_discard(struct tree *t, struct context *c);

/* 1: this call did it, *ret_contexts became done (so far, where it goes on in slices); 0: it was done before.
 * Takes over cause (may be NULL) on 1 and frees it otherwise. */
int tree_cancel(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                struct cause *cause, uint32_t *ret_contexts, struct refused *ret_refused);

int tree_extend(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                uint64_t deadline_usec, struct refused *ret_refused);

/* Cancels it if active (cause "context released"), frees its path and those below it, forgets them in
 * time. */
int tree_release(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                struct refused *ret_refused);

/* Deadlines that have passed, kills that are due, contexts whose retention is over. Returns how many were
 * changed. With slices, a few of them: the rest is tree_advance()'s, and those that a verb looks at are
 * reached. */
int tree_settle(struct tree *t, uint64_t now_usec);

/* Large ends come in slices (ending.c). tree_advance() does the next one, of all that is under way or
 * overdue; true: there is more. tree_find() and the verbs reach what they look at; who comes to a context by
 * another way than a verb, and wants to say what state it is in, calls tree_reach() first. */
bool tree_advance(struct tree *t, uint64_t now_usec);
bool tree_is_behind(const struct tree *t, uint64_t now_usec);
void tree_reach(struct tree *t, const struct context *c);
/* The last ending that is still to come to c, or to something below it, by its number; 0: none. A Cancel of
 * c, first or not, has done all it promises once tree_is_ended() says so of that number. */
uint64_t tree_ending(const struct tree *t, const struct context *c);
uint64_t tree_own_ending(const struct tree *t, const struct context *c); /* of which c is the root, or 0 */
bool tree_is_ended(const struct tree *t, uint64_t number);               /* it, and all that are older */
/* The world has counted so many members that have to leave c, which has become done. */
void tree_count_members(struct tree *t, const struct context *c, uint32_t members);
/* One that has gone through all: once its effects were drained. The caller frees it; its root may be gone. */
struct ending *tree_take_ended(struct tree *t);

/* When tree_settle() has something to do next; UINT64_MAX: never. */
uint64_t tree_next_usec(const struct tree *t);

/* The effects of forgotten contexts have been drained: free them. */
void tree_collect(struct tree *t);

/* Membership, as the world learns of it.
 *
 * tree_attach() is asked before the world makes a process a member. It wants the caller to write to c, the
 * process to be the caller's (root may take any), and lets it leave the context that it is in only for one
 * below that, or where the caller may write to that one by itself. Whoever may not, cannot weaken how the
 * process ends either: the stronger of the old policy and the wanted one counts. It finds or adds that
 * policy. -EDQUOT: there are CONTEXT_POLICIES_MAX; -EALREADY: c is done. Where the world then fails,
 * tree_attach_undo() takes the policy back.
 *
 * tree_attached() says that the context has (or may have) members, tree_left() that none is left in exactly
 * this one, which may drain it and its ancestors. */
int tree_attach(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                struct attachment *attachment, struct refused *ret_refused);
void tree_attach_undo(struct tree *t, struct context *c, const struct attachment *attachment);
void tree_attached(struct tree *t, struct context *c);
void tree_left(struct tree *t, uint64_t now_usec, struct context *c);

/* Handles, as the world keeps them: a context has some, or none any more. A done one is kept while it has. */
void tree_handles_given(struct tree *t, struct context *c);
void tree_handles_closed(struct tree *t, uint64_t now_usec, struct context *c);

/* After a charge_init() that gave -EDQUOT: says which limit it is, and returns that. */
int tree_refuse_charge(
                struct refused *ret_refused, struct user *user, enum resource resource, uint64_t amount);
/* charge_init() that says which limit it is: 0 or -EDQUOT. */
int tree_charge(struct tree *t, struct charge *charge, struct user *user, enum resource resource,
                uint64_t amount, struct refused *ret_refused);

int tree_charge_resize(struct charge *charge, uint64_t amount, struct refused *ret_refused);

/* Walks a subtree, parents before children, without recursion: start with c = root; NULL at the end. Children
 * are in the order of their making, newest first. */
struct context *context_next(const struct context *c, const struct context *root);
/* The same, but steps over what is below c. */
struct context *context_next_skip(const struct context *c, const struct context *root);

/* Counts and heap and links are as they must be; for tests and -Db_ndebug=false builds. Aborts where not. */
void tree_check(const struct tree *t);
