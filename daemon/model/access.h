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

/* The daemon itself is the caller when nobody has called: the owner of a context has exited, a lifeline was
 * closed, or the daemon stops. It may do everything. It has no uid and no pid. */
extern const struct caller caller_daemon;

/* What a caller wants to do to one context. Create is not here, because it is given a path and not a
 * context. */
enum verb {
        VERB_LOOK,    /* to see it: state, values, members, leaks, lists, signals; to give up a handle */
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

/* Whether the caller may do that. Lists use it, because they leave out what the caller may not see, and so do
 * signals. */
bool tree_allows(const struct tree *t, const struct caller *caller, const struct context *c, enum verb verb);

/* The first step of what is done to a context outside of the model (a handle, a page, a thread that enters).
 * 0, or -ENOENT (the caller may not even read it), -EPERM (the background), -EACCES. It also brings the state
 * of c up to date. The verbs of tree.h do this themselves. */
int tree_want(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                enum verb verb, struct refused *ret_refused);

/* Whether the caller may make the process a member (VERB_ATTACH), or may let the process's threads enter
 * contexts (VERB_ENTER). The real, effective and saved uid have to be the caller's; root may take any
 * process. 0 or -EACCES. */
int caller_want_process(const struct caller *caller, enum verb verb, const uid_t uids[3],
                struct refused *ret_refused);

/* Why c ended, as far as the caller, which may read c, may be told: nothing that it may not read of the
 * ancestor from which the end came (law 36). It sees that c is done, and with which error; that much the
 * ancestor did to c. The texts live as long as the contexts. */
struct shown_end {
        const char *cause;            /* "" while it is active */
        int error;                    /* 0 while it is active */
        const struct cause *by;       /* as context_canceled_by(); NULL also where it is not shown */
        const struct context *origin; /* NULL while it is active, and where it is not shown */
};

void access_shown_end(const struct tree *t, const struct caller *caller, const struct context *c,
                struct shown_end *ret);

/* Whether the caller is shown the values that an ancestor of a context gives it. */
bool access_shows_values(const struct tree *t, const struct caller *caller, const struct context *ancestor);

/* Whether the kernel shows the caller, in /proc, what a process of that user does (law 49). (uid_t) -1: it
 * shows root alone. What polkit grants is about contexts. */
bool caller_sees_process(const struct caller *caller, uid_t uid);

/* The privilege with which polkit would let the caller do that to a context which it may not even read. */
unsigned verb_privilege(enum verb verb);
