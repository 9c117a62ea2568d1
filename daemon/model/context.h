/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "proto/names.h"
#include "daemon/model/effect.h"
#include "daemon/model/policy.h"

/* A node of the tree. Nothing of it changes but its state, which changes once, its deadline, and what belongs
 * to it (handles, members).
 *
 * Code outside of model/ only reads these fields; the functions of tree.h change them. The exceptions are the
 * fields that name the engine. tree_collect() alone frees contexts, so a pointer that was found during an
 * event stays valid until the end of that event. */

struct anchor;
struct tree;
struct user;

enum context_state {
        CONTEXT_ACTIVE,
        CONTEXT_CANCELED,
        CONTEXT_DEADLINE_EXCEEDED,
};

/* Who made a context done, and why. It belongs to the context that was cancelled; the contexts below that one
 * find it there. */
struct cause {
        int error; /* an errno value of the caller's choice; 0: none was given */
        uid_t uid; /* who; (uid_t) -1 and pid 0: nobody */
        pid_t pid;
        char comm[16];
        char message[]; /* empty: none was given */
};

struct value {
        char *key;
        char *value;
};

/* This takes 224 bytes and the label, because a million contexts have to fit into memory (tests/law measures
 * it). The fields that a cancel touches come first. */
struct context {
        struct context *parent;        /* NULL for the background alone */
        LIST_HEAD(, context) children; /* newest first */
        LIST_ENTRY(context) siblings;

        enum context_state state : 2;
        bool released : 1;      /* its path is free; it is found by path#id until it is forgotten */
        bool busy : 1;          /* may have members (set by tree_attached, cleared by tree_left) */
        bool has_handles : 1;   /* set by tree_handles_given, cleared by tree_handles_closed */
        bool own_deadline : 1;  /* the effective deadline is its own and not an ancestor's */
        bool forgotten : 1;     /* no longer in the tree; tree_collect() frees it */
        bool described : 1;     /* a description follows the label */
        uint8_t retired : 2;    /* model: enum retired */
        bool heap_reserved : 1; /* model: there is room for it in the heap */
        bool implied : 1;    /* model: nobody has asked for it; it was made as an ancestor of another one */
        bool half_ended : 1; /* model: it is done, but an ending still has to end some below it */
        bool costly : 1;     /* engine: its end takes the world long, for it has a lifeline, or an owner */
        bool by_itself : 1;  /* model: canceled, and not by a caller: its owner is gone, or its lifeline */
        uint8_t origin_up;   /* done: how many levels above it context_origin() is */
        uint8_t decided;     /* enum decision: what the journal was not told yet */
        uint8_t n_values, n_policies;
        uint16_t pending; /* enum effect; 0: not in the queue */

        uint32_t n_children;
        uint32_t n_busy_below; /* contexts that are busy, in it or below it */
        uint64_t done_usec;    /* 0 while active */
        uint64_t drained_usec; /* 0 until done with no member left, in it or below it */
        union {
                /* While it is active: its own deadline, even if the parent's is earlier. When it is done and
                 * busy: the time of the next kill. It is in the heap if that time matters. */
                uint64_t wake_usec;
                uint64_t retire_usec; /* retired: since then no member and no handle holds it */
        };
        uint32_t heap_index; /* 0: not in the heap */
        uint16_t mode;
        uint8_t news;                           /* engine: enum news_kind, the news that was not taken yet */
        STAILQ_ENTRY(context) effects, telling; /* telling: engine, its queue of news */
        struct anchor *anchor;                  /* engine: what the world has tied to it; NULL: nothing */
        union {
                TAILQ_ENTRY(context) retirement;
                STAILQ_ENTRY(context) forgetting;
        };
        struct user *user; /* whom it is charged to */

        uint64_t id;
        struct context *next_in_bucket; /* by (parent, label), or by id: tree.h */
        uid_t uid;
        gid_t gid;
        struct cause *cause; /* its own: of its cancel, or, while it is active, of its deadline; or NULL */
        uint64_t created_usec;
        uint64_t deadline_usec; /* the effective one */
        uint64_t grace_usec;
        struct value *values;    /* its own, n_values, without what it inherits */
        struct policy *policies; /* n_policies */

        char label[]; /* empty for the background; then the description, where there is one */
};

static inline bool context_is_done(const struct context *c)
{
        return c->state != CONTEXT_ACTIVE;
}

/* Released, but with members, in it or below it. Meanwhile it is listed, and its path finds it, unless
 * another one has that. */
static inline bool context_lingers(const struct context *c)
{
        return c->released && c->n_busy_below > 0;
}

static inline bool context_is_listed(const struct context *c)
{
        return !c->released || context_lingers(c);
}

static inline bool context_is_background(const struct context *c)
{
        return !c->parent;
}

/* The context whose end it shares: itself, or an ancestor, which lives longer. NULL while it is active. */
struct context *context_origin(const struct context *c);

/* The description that it was made with, or "". */
const char *context_description(const struct context *c);

/* Writes "path" ("/" for the background) into a buffer of CTXD_PATH_MAX + 1 bytes, and returns the buffer. */
char *context_path(const struct context *c, char *buffer);

/* Writes "path#id" ("/" for the background) into a buffer of CTXD_PATH_ID_MAX + 1 bytes, and returns the
 * buffer. */
char *context_reference(const struct context *c, char *buffer);

/* The text and the code that Err() gives: "" and 0 while it is active; then Go's texts, and ECANCELED or
 * ETIMEDOUT. */
const char *context_err(const struct context *c);
int context_err_code(const struct context *c);

/* Why it is done: the cause that was given with the cancel or the deadline, else the text and code of its
 * error. The strings live as long as the context. */
const char *context_cause(const struct context *c, int *ret_error);

/* Who cancelled it: the cause of its origin. NULL while it is active, or if only a clock has ended it. */
const struct cause *context_canceled_by(const struct context *c);

/* The nearest value of a key along the ancestors, or NULL. */
const char *context_value(const struct context *c, const char *key);

/* Whether c is a, or below a. */
bool context_is_below(const struct context *c, const struct context *a);

/* Makes a cause for tree_cancel(). message and comm may be NULL. NULL: there is no memory. free() frees
 * it. */
struct cause *cause_new(int error, const char *message, uid_t uid, pid_t pid, const char *comm);
