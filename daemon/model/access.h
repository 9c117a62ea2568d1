/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/model/context.h"

/* Who may do what (law 36). The rules themselves, one line for each verb, stand in access.c. */

struct refused;

/* What polkit may grant a caller, for one call, beyond what the modes of contexts say. */
enum privilege {
        PRIVILEGE_READ = 1 << 0,        /* to read any context */
        PRIVILEGE_MANAGE = 1 << 1,      /* all that root may; includes the others */
        PRIVILEGE_FIRST_LABEL = 1 << 2, /* to make a first label, as a system user may */
        PRIVILEGE_DAEMON = 1 << 3,      /* of caller_daemon alone; polkit cannot grant it */
};

struct caller {
        uid_t uid;
        pid_t pid;
        char comm[16];
        const gid_t *gids; /* NULL: gid is the only group */
        size_t n_gids;
        gid_t gid;
        unsigned privileges; /* enum privilege */
};

/* The daemon itself, where nobody has called: a context ends since its owner has exited, its lifeline was
 * closed, or the daemon stops. It may all, and is nobody: no uid, no pid. */
extern const struct caller caller_daemon;

/* What a caller wants to do to one context. Create is not here: it has a path and not a context. */
enum verb {
        /* State, values, members, leaks, its place in a list, signals about it; to give up a handle. */
        VERB_LOOK,
        VERB_DONE,    /* a done handle */
        VERB_DRAINED, /* a drained handle */
        VERB_PAGE,    /* the state page of its owner */
        VERB_CANCEL,
        VERB_RELEASE,
        VERB_LIFELINE,
        VERB_ATTACH, /* a process becomes a member */
        VERB_ENTER,  /* the caller's threads become members when they say so */
        VERB_EXTEND,
        VERB_COUNT_ALL, /* on the background: figures about the contexts of all users */
        VERBS,
};

/* May the caller do that? For lists, which leave out what the caller may not see, and for signals. */
bool tree_allows(const struct tree *t, const struct caller *caller, const struct context *c, enum verb verb);

/* The first step of what is done to a context outside of the model (a handle, a page, a thread that enters).
 * 0, or -ENOENT (the caller may not even read it), -EPERM (the background), -EACCES. It also brings the state
 * of c up to date. The verbs of tree.h do this themselves. */
int tree_want(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                enum verb verb, struct refused *ret_refused);

/* Is the process one that the caller may make a member (VERB_ATTACH), or whose threads it speaks for
 * (VERB_ENTER)? Its real, effective and saved uid have to be the caller's; root may take any. 0 or
 * -EACCES. */
int caller_want_process(const struct caller *caller, enum verb verb, const uid_t uids[3],
                struct refused *ret_refused);

/* The privilege with which polkit would let the caller do that to a context which it may not even read. */
unsigned verb_privilege(enum verb verb);
