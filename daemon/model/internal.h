/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/model/tree.h"

/* What the files of model/ share. Nobody else includes this. */

enum retired {
        RETIRED_NOT,     /* active, or held by a member or a handle */
        RETIRED_QUEUED,  /* in one of its user's queues */
        RETIRED_OVERDUE, /* its time is over, but it has children; it is forgotten after the last of them */
};

/* Fills in *ret (which may be NULL) and returns the errno of that reason, negative. */
int refused_because(struct refused *ret, enum refusal reason, const char *detail);
int refused_context(struct refused *ret, enum refusal reason, const char *detail, const struct context *c);
int refused_reference(struct refused *ret, enum refusal reason, const char *detail, const struct context *c);
int refused_path(struct refused *ret, enum refusal reason, const char *detail, const char *path,
                size_t length);
int refused_limit(struct refused *ret, const char *limit, const char *key, uint64_t used, uint64_t allowed);
/* The limit that was reached is the user's own (quota), or that of what all users share (pool). */
int refused_quota(struct refused *ret, struct user *user, enum resource resource);
int refused_pool(struct refused *ret, struct user *user, enum resource resource);

/* Notes the privilege that might have prevented the refusal, and returns r. */
int refused_without(struct refused *ret, unsigned privilege, int r);

/* access.c: whether the caller may do that to c. Returns what tree_want() returns. */
int access_check(const struct tree *t, const struct caller *caller, const struct context *c, enum verb verb,
                struct refused *ret_refused);
bool context_may_read(const struct tree *t, const struct context *c, const struct caller *caller);
bool context_may_write(const struct tree *t, const struct context *c, const struct caller *caller);
bool caller_is_privileged(const struct tree *t, const struct caller *caller);
/* Whether the caller may make a context below visible, the deepest context of the path that it may read. The
 * next three parameters matter only below the background. first_label is the path, or NULL if the label is
 * made up. alone says that the path has no other label. *ret_own_tree says that the label is that of the
 * caller's own tree, which is made when it is needed. 0 or -EACCES. */
int access_create(const struct tree *t, const struct caller *caller, const struct context *visible,
                const char *first_label, bool alone, bool *ret_own_tree, struct refused *ret_refused);
/* Whether a done context may lose its path to one that the caller makes, after access_create(). */
bool access_displace(const struct tree *t, const struct caller *caller, const struct context *done);
/* Whether the caller may give a context, at that path, to that group. 0 or -EACCES. */
int access_group(const struct tree *t, const struct caller *caller, gid_t gid, const char *path,
                struct refused *ret_refused);
/* Whether a process may move from the context from to the context below, or to one that is made below that.
 * 1: it may move anywhere; 0: it may, because the new one is below from; -EACCES. */
int access_leave(const struct tree *t, const struct caller *caller, const struct context *from,
                const struct context *below, struct refused *ret_refused);
/* A path was not found below visible, the deepest context of it that the caller may read. Returns the
 * privilege with which the caller could see whether it is hidden or missing. 0: there is none, because the
 * caller owns that place, or has the privilege. */
unsigned access_below(const struct tree *t, const struct context *visible, const char *path,
                const struct caller *caller);

/* Decides how the process of an attachment ends. If it may not leave its context freely, the stronger of its
 * old policy and the wanted one counts. 0, or -EACCES: it may not move to below. */
int attachment_policy(const struct tree *t, const struct caller *caller, const struct attachment *a,
                const struct context *below, struct policy *ret, struct refused *ret_refused);
/* Finds the policy among those of c, or adds it, and notes its index in the attachment. 0, -EDQUOT or
 * -ENOMEM. */
int attachment_take(struct tree *t, struct context *c, struct attachment *a, const struct policy *policy,
                struct refused *ret_refused);

/* Reads "user-1000" as 1000. Returns false for another label. */
bool label_is_user(const char *label, size_t length, uid_t *ret_uid);

/* The child with that label, or NULL. A released child does not count. */
struct context *tree_child(
                const struct tree *t, const struct context *parent, const char *label, size_t length);
uint64_t context_hash_name(const struct index *index, const struct context *c);
uint64_t context_hash_id(const struct index *index, const struct context *c);

void effect_add(struct tree *t, struct context *c, unsigned effects);
/* Notes a decision (enum decision) for the journal. */
void context_decided(struct tree *t, struct context *c, unsigned decisions);
/* The same of one that is in the queue, and was just forgotten: there is nothing else to be told. */
void context_decided_forgotten(struct context *c);

/* tree.c: so much of a slice at most, where ends come in slices. */
uint32_t tree_part_of_slice(const struct tree *t, uint32_t most);

/* due.c: what is done later, by party. */
/* Reserves room in the heap for the context, before it gets a time. 0 or -ENOMEM. It is given up before the
 * context is discharged. */
int context_reserve_wake(struct tree *t, struct context *c);
void context_give_up_wake(struct tree *t, struct context *c);
void context_wake_at(struct tree *t, struct context *c, uint64_t usec);
void context_wake_never(struct tree *t, struct context *c);
/* Among those under way. */
void endings_link(struct tree *t, struct ending *e);
void endings_unlink(struct tree *t, struct ending *e);
/* ending.c: goes on with those of the party, or of all (NULL), in turns. */
void endings_advance(struct tree *t, const struct party *p, uint32_t budget);

/* Ends c, which is active and not the background, and all active contexts below it. Returns how many it has
 * ended. What exceeds the budget comes later. */
uint32_t context_end(struct tree *t, uint64_t now_usec, struct context *c, enum context_state state,
                uint32_t *budget);
/* Releases the contexts below root, which was released. What exceeds the budget comes later. */
void context_release_below(struct tree *t, struct context *root, uint32_t *budget);
/* Frees its path. From now on it is found by its id, and while it lingers by its path as well. */
void context_give_up_path(struct tree *t, struct context *c);
/* c, which has no children, is about to be unlinked: endings that would go on there go on behind it. */
void endings_step_over(struct tree *t, struct context *c);
void endings_deinit(struct tree *t);
/* The same for cursors. */
void tree_step_cursors_over(struct tree *t, const struct context *c);
/* Does tree_reach(), and returns how many contexts became done by it. */
uint32_t context_reach(struct tree *t, struct context *c, uint32_t *budget);
int tree_settle_some(struct tree *t, uint64_t now_usec, uint32_t *budget);
/* Sets the state of this one context, at its birth or its end. context_end() does this for each. */
void context_become_done(struct tree *t, uint64_t now_usec, struct context *c, enum context_state state,
                unsigned origin_up);
/* Puts the context into the heap with its first kill that is due at from_usec or later. If there is none,
 * takes it out. */
void context_arm_kill(struct tree *t, struct context *c, uint64_t from_usec);
/* Replaces the cause, and the charge for it. */
void context_set_cause(struct context *c, struct cause *cause);

/* Puts the context into its user's queue, if it is done and nothing holds it. */
void context_retire(struct tree *t, uint64_t now_usec, struct context *c);
/* Takes it out of the queue. */
void context_unretire(struct tree *t, struct context *c);
/* Unlinks a context that has no children, and then the ancestors that have waited for this. */
void context_forget(struct tree *t, struct context *c);
/* Unlinks this context alone, and leaves no effect. */
void context_forget_quietly(struct tree *t, struct context *c);
/* Forgets up to a bounded number of contexts whose retention is over, and returns how many: those of the
 * party as long as they come first, or (NULL) of parties that are not taken. */
int tree_forget_overdue(struct tree *t, const struct party *p, uint64_t now_usec, uint32_t budget);
/* Forgets released contexts: at least n_own of the user's, and n in all. The user's own go first. If there
 * are not enough it forgets none and returns false. */
bool tree_make_room(struct tree *t, struct user *user, uint64_t n_own, uint64_t n);

/* Checks the values, cause, description and mode that tree_create() was given. */
int options_check(const struct tree *t, const struct create_options *o, struct refused *ret_refused);
/* Makes a context that is not linked yet. NULL: there is no memory. */
struct context *context_new(const char *label, size_t length, const char *description);
/* Copies the values into the context, in one block. 0 or -ENOMEM. */
int context_copy_values(struct context *c, const struct value *values, size_t n);

/* Gives back everything that was charged for it. */
void context_discharge(struct context *c);
struct context *context_free(struct context *c);
uint64_t context_bytes(const struct context *c);

static inline uint64_t usec_add(uint64_t a, uint64_t b)
{
        return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static inline bool context_is_held(const struct context *c)
{
        return c->busy || c->has_handles;
}
