/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/model/tree.h"

/* What the files of model/ share, and nobody else includes. */

enum retired {
        RETIRED_NOT,     /* active, or held by a member or a handle */
        RETIRED_QUEUED,  /* in one of its user's queues */
        RETIRED_OVERDUE, /* its time is over, but it has children: it goes with the last of them */
};

/* Fills in *ret (which may be NULL) and returns the errno of that reason, negative. */
int refused_because(struct refused *ret, enum refusal reason, const char *detail);
int refused_context(struct refused *ret, enum refusal reason, const char *detail, const struct context *c);
int refused_reference(struct refused *ret, enum refusal reason, const char *detail, const struct context *c);
int refused_path(struct refused *ret, enum refusal reason, const char *detail, const char *path,
                size_t length);
int refused_limit(struct refused *ret, const char *limit, const char *key, uint64_t used, uint64_t allowed);
/* For what is charged to a user: of the user's own limit, or of what all share. */
int refused_quota(struct refused *ret, struct user *user, enum resource resource);
int refused_pool(struct refused *ret, struct user *user, enum resource resource);

/* Notes the privilege with which it might not have been refused; returns r. */
int refused_without(struct refused *ret, unsigned privilege, int r);

/* access.c: may the caller do that to c? 0, or as tree_want(). */
int access_check(const struct tree *t, const struct caller *caller, const struct context *c, enum verb verb,
                struct refused *ret_refused);
bool context_may_read(const struct tree *t, const struct context *c, const struct caller *caller);
bool context_may_write(const struct tree *t, const struct context *c, const struct caller *caller);
bool caller_is_privileged(const struct tree *t, const struct caller *caller);
/* May the caller make something below visible, the deepest context of the path that it may read? For what
 * is made below the background: first_label is the path, or NULL where the label is made up; alone: the
 * path has no other label; *ret_own_tree: it is a user's tree, which is made when it is needed. 0 or
 * -EACCES. */
int access_create(const struct tree *t, const struct caller *caller, const struct context *visible,
                const char *first_label, bool alone, bool *ret_own_tree, struct refused *ret_refused);
/* May the caller give a context to that group? 0 or -EACCES. */
int access_group(const struct tree *t, const struct caller *caller, gid_t gid, struct refused *ret_refused);
/* May a process leave from for below, or for something that is made below it? 1: it may leave for
 * anything; 0: for that, since it is below from; -EACCES. */
int access_leave(const struct tree *t, const struct caller *caller, const struct context *from,
                const struct context *below, struct refused *ret_refused);
/* The privilege that would tell what is missing from what is hidden, below visible, the deepest context of
 * a path that the caller may read; 0: none, since the place is the caller's own, or it has that privilege. */
unsigned access_below(const struct tree *t, const struct context *visible, const char *path,
                const struct caller *caller);

/* How the process of an attachment ends: as wanted, or as the stronger of that and what it has where it is
 * now. Asks whether it may leave that for below. 0 or -EACCES. */
int attachment_policy(const struct tree *t, const struct caller *caller, const struct attachment *a,
                const struct context *below, struct policy *ret, struct refused *ret_refused);
/* Finds or adds it, as the attachment's. 0, -EDQUOT or -ENOMEM. */
int attachment_take(struct tree *t, struct context *c, struct attachment *a, const struct policy *policy,
                struct refused *ret_refused);

/* "user-1000" -> 1000; false: another label. */
bool label_is_user(const char *label, size_t length, uid_t *ret_uid);

/* The child that has its path, or NULL. */
struct context *tree_child(
                const struct tree *t, const struct context *parent, const char *label, size_t length);
uint64_t context_hash_name(const struct index *index, const struct context *c);
uint64_t context_hash_id(const struct index *index, const struct context *c);

void effect_add(struct tree *t, struct context *c, unsigned effects);

/* Room in the heap for the context's times: before it gets any. 0 or -ENOMEM. */
int context_reserve_wake(struct tree *t, struct context *c);

/* c, which is active and not the background, and all below it that is active; returns how many. What the
 * budget does not allow for comes later. */
uint32_t context_end(struct tree *t, uint64_t now_usec, struct context *c, enum context_state state,
                uint32_t *budget);
/* What is below root, which was let go of: the same. */
void context_release_below(struct tree *t, struct context *root, uint32_t *budget);
/* Frees its path; it is found by its id from now on. */
void context_give_up_path(struct tree *t, struct context *c);
/* c, which has no children, is about to be unlinked. */
void endings_step_over(struct tree *t, struct context *c);
void endings_deinit(struct tree *t);
/* tree_reach(), and how many became done by it. */
uint32_t context_reach(struct tree *t, struct context *c, uint32_t *budget);
int tree_settle_some(struct tree *t, uint64_t now_usec, uint32_t *budget);
/* Its own state at its birth or end: what context_end() does for each. */
void context_become_done(struct tree *t, uint64_t now_usec, struct context *c, enum context_state state,
                unsigned origin_up);
/* The first kill that is due at from_usec or later, into the heap; or out of it. */
void context_arm_kill(struct tree *t, struct context *c, uint64_t from_usec);
/* Replaces the cause, and what is charged for it. */
void context_set_cause(struct context *c, struct cause *cause);

/* Into the queue, if it is done and nothing holds it; and out of it. */
void context_retire(struct tree *t, uint64_t now_usec, struct context *c);
void context_unretire(struct tree *t, struct context *c);
/* Unlinks a context that has no children, and its ancestors that waited for that. */
void context_forget(struct tree *t, struct context *c);
void context_forget_quietly(struct tree *t, struct context *c); /* without the effect, and it alone */
/* Forgets up to a bounded number of contexts whose retention is over; returns how many. */
int tree_forget_overdue(struct tree *t, uint64_t now_usec, uint32_t budget);
/* Forgets at least n_own released ones of the user, and as many more, the user's first, as n of all users:
 * or none, then false. */
bool tree_make_room(struct tree *t, struct user *user, uint64_t n_own, uint64_t n);

/* What tree_create() was asked for is in order: values, cause, description, mode. */
int options_check(const struct tree *t, const struct create_options *o, struct refused *ret_refused);
/* A context that is not linked yet. NULL without memory. */
struct context *context_new(const char *label, size_t length, const char *description);
/* Its own values, in one block. 0 or -ENOMEM. */
int context_copy_values(struct context *c, const struct value *values, size_t n);

/* Gives back everything it was charged for. */
void context_discharge(struct context *c);
struct context *context_free(struct context *c);
uint64_t context_bytes(const struct context *c);

static inline uint64_t usec_add(uint64_t a, uint64_t b)
{
        return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static inline bool context_is_held(const struct context *c)
{
        return c->busy || !LIST_EMPTY(&c->handles);
}
