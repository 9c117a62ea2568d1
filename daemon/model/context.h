/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "proto/names.h"
#include "daemon/model/effect.h"
#include "daemon/model/policy.h"

/* A node of the tree. Immutable but for its state, which changes once, and for what hangs on it (handles,
 * members).
 *
 * Whoever is outside model/ reads these fields and changes none; the functions of tree.h do. Contexts are
 * freed by tree_collect() alone, so a pointer that was found in an event stays valid until the end of that
 * event. */

struct anchor;
struct tree;
struct user;

enum context_state {
        CONTEXT_ACTIVE,
        CONTEXT_CANCELED,
        CONTEXT_DEADLINE_EXCEEDED,
};

/* Who made a context done, and why. Belongs to the context it was said of; its descendants look there. */
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

/* 224 bytes and the label: a million of them have to fit (tests/law measures it). What a cancel touches comes
 * first. */
struct context {
        struct context *parent;        /* NULL for the background alone */
        LIST_HEAD(, context) children; /* newest first */
        LIST_ENTRY(context) siblings;

        enum context_state state : 2;
        bool released : 1;      /* its path is free; it is found by path#id until it is forgotten */
        bool busy : 1;          /* may have members (set by tree_attached, cleared by tree_left) */
        bool has_handles : 1;   /* set by tree_handles_given, cleared by tree_handles_closed */
        bool own_deadline : 1;  /* the effective one is its own and not an ancestor's */
        bool forgotten : 1;     /* no longer in the tree; tree_collect() frees it */
        bool described : 1;     /* a description follows the label */
        uint8_t retired : 2;    /* model: enum retired */
        bool heap_reserved : 1; /* model: there is room for it in the heap */
        bool implied : 1;       /* model: made as an ancestor of one that was asked for */
        bool half_ended : 1;    /* model: done, but not all below it, and an ending is still to come there */
        /* Done: so many levels up is the ancestor whose end it shares; see context_origin(). */
        uint8_t origin_up;
        uint8_t pending; /* enum effect; 0: not in the queue */
        uint8_t n_values, n_policies;
        uint16_t mode;

        uint32_t n_children;
        uint32_t n_busy_below; /* contexts that are busy, in it or below it */
        uint64_t done_usec;    /* 0 while active */
        uint64_t drained_usec; /* 0 until done with no member left, in it or below it */
        union {
                /* Active: its own deadline, also where the parent's is earlier. Done and busy: the next kill.
                 * In the heap where it matters. */
                uint64_t wake_usec;
                uint64_t retire_usec; /* retired: since when neither member nor handle holds it */
        };
        uint32_t heap_index; /* 0: not in the heap */
        uint8_t news;        /* engine: enum news_kind, what bus/ is to tell of it */
        STAILQ_ENTRY(context) effects, telling;
        /* What the world has tied to it; NULL: nothing. The model only carries it. */
        struct anchor *anchor;
        union {
                TAILQ_ENTRY(context) retirement;
                STAILQ_ENTRY(context) forgetting;
        };
        struct user *user; /* whom it is charged to */

        uint64_t id;
        struct context *next_in_bucket; /* by (parent, label), or by id once it is released */
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

static inline bool context_is_background(const struct context *c)
{
        return !c->parent;
}

/* Done: itself, or the ancestor whose end it shares (which lives longer); NULL while active. */
struct context *context_origin(const struct context *c);

/* As given at its making, else "". */
const char *context_description(const struct context *c);

/* "path" into a buffer of CTXD_PATH_MAX + 1 bytes, "/" for the background; returns the buffer. */
char *context_path(const struct context *c, char *buffer);

/* "path#id" into a buffer of CTXD_PATH_ID_MAX + 1 bytes ("/" for the background); returns the buffer. */
char *context_reference(const struct context *c, char *buffer);

/* Err()'s text and code: "" and 0, Go's texts and ECANCELED or ETIMEDOUT. */
const char *context_err(const struct context *c);
int context_err_code(const struct context *c);

/* Why: as given by who ended it or set the deadline, else err and its code. Strings live as long as the
 * context. */
const char *context_cause(const struct context *c, int *ret_error);

/* Who: the cause of its origin, or NULL while active, and where only a clock did it. */
const struct cause *context_canceled_by(const struct context *c);

/* The nearest value of a key along the ancestors, or NULL. */
const char *context_value(const struct context *c, const char *key);

/* Is c a or below a? */
bool context_is_below(const struct context *c, const struct context *a);

/* A cause for tree_cancel(); message and comm may be NULL. NULL without memory. free() frees it. */
struct cause *cause_new(int error, const char *message, uid_t uid, pid_t pid, const char *comm);
