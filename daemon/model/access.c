/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/model/internal.h"
#include "util/uids.h"

/* Who may do what: every check of a caller is in this file.
 *
 * A context has an owner (uid), a group and a mode, as a file has. The owner is judged by the first three
 * bits alone, members of the group by the next three alone, all others by the last three. r lets look and
 * wait; w lets cancel, derive and attach. The owner may always look and end, as a file's owner may always
 * change its mode: a context has a mode for ever, and counts for its owner. Root, the daemon's own uid, and
 * whom polkit has granted org.ctxd1.manage, may all.
 *
 * What a caller may not read does not exist for it: each verb answers NoSuchContext, and what is said of a
 * hidden context is what is said of a missing one. So a refusal names the privilege that might help in both
 * cases alike. And what a context has from an ancestor, its values and why it ended, is shown to those alone
 * who may read that ancestor. */

const struct caller caller_daemon = {
                .uid = (uid_t) -1,
                .gid = (gid_t) -1,
                .privileges = PRIVILEGE_MANAGE | PRIVILEGE_DAEMON,
};

enum right {
        RIGHT_READ,  /* r */
        RIGHT_WRITE, /* r and w */
        RIGHT_END,   /* r and w, or its owner */
        RIGHT_OWNER, /* its owner, or who may all */
        RIGHT_UID,   /* its owner's uid, or uid 0; polkit cannot grant it */
        RIGHT_ALL,   /* who may all */
};

#define NOT_CHANGE "you may read it, but not change it"

static const struct rule {
        enum right right;
        bool background;    /* makes sense on the background, too */
        const char *detail; /* what a caller is told that may read the context */
} rules[VERBS] = {
                [VERB_LOOK] = {RIGHT_READ, true, NULL},
                [VERB_DONE] = {RIGHT_READ, false, NULL},
                [VERB_DRAINED] = {RIGHT_READ, false, NULL},
                /* A page holds the states of all contexts of a uid. */
                [VERB_PAGE] = {RIGHT_UID, false, "the state page is for its owner alone; use Done and Err"},
                [VERB_CANCEL] = {RIGHT_END, false, NOT_CHANGE},
                [VERB_RELEASE] = {RIGHT_END, false, NOT_CHANGE},
                /* To close it is to cancel. */
                [VERB_LIFELINE] = {RIGHT_END, false, NOT_CHANGE},
                [VERB_ATTACH] = {RIGHT_WRITE, false, NOT_CHANGE},
                [VERB_ENTER] = {RIGHT_WRITE, false, NOT_CHANGE},
                [VERB_EXTEND] = {RIGHT_OWNER, false, "only its owner may move a deadline"},
                [VERB_COUNT_ALL] = {RIGHT_ALL, true, NULL},
};

bool caller_is_privileged(const struct tree *t, const struct caller *caller)
{
        return caller->uid == 0 || caller->uid == t->daemon_uid || (caller->privileges & PRIVILEGE_MANAGE);
}

static bool caller_has_gid(const struct caller *caller, gid_t gid)
{
        if (gid == (gid_t) -1) /* not known: nobody's */
                return false;
        if (caller->gid == gid)
                return true;
        for (size_t i = 0; caller->gids && i < caller->n_gids; i++)
                if (caller->gids[i] == gid)
                        return true;
        return false;
}

static bool owns(const struct context *c, const struct caller *caller)
{
        return caller->uid == c->uid;
}

static bool mode_allows(const struct context *c, const struct caller *caller, unsigned bit)
{
        if (owns(c, caller))
                return c->mode & (bit << 6);
        return c->mode & (caller_has_gid(caller, c->gid) ? bit << 3 : bit);
}

bool context_may_read(const struct tree *t, const struct context *c, const struct caller *caller)
{
        return context_is_background(c) || owns(c, caller) || caller_is_privileged(t, caller) ||
               (caller->privileges & PRIVILEGE_READ) || mode_allows(c, caller, 4);
}

bool context_may_write(const struct tree *t, const struct context *c, const struct caller *caller)
{
        return caller_is_privileged(t, caller) || mode_allows(c, caller, 2);
}

/* Of a context that the caller may read. */
static bool has_right(
                const struct tree *t, const struct context *c, const struct caller *caller, enum right right)
{
        switch (right) {
        case RIGHT_READ:
                return true;
        case RIGHT_WRITE:
                return context_may_write(t, c, caller);
        case RIGHT_END:
                return owns(c, caller) || context_may_write(t, c, caller);
        case RIGHT_OWNER:
                return owns(c, caller) || caller_is_privileged(t, caller);
        case RIGHT_UID:
                return owns(c, caller) || caller->uid == 0;
        case RIGHT_ALL:
                return caller_is_privileged(t, caller);
        }
        return false;
}

void access_shown_end(const struct tree *t, const struct caller *caller, const struct context *c,
                struct shown_end *ret)
{
        const struct context *origin = context_origin(c);

        *ret = (struct shown_end){.cause = context_err(c), .error = context_err_code(c)};
        if (!origin || !context_may_read(t, origin, caller))
                return;
        ret->cause = context_cause(c, &ret->error);
        ret->by = context_canceled_by(c);
        ret->origin = origin;
}

bool access_shows_values(const struct tree *t, const struct caller *caller, const struct context *ancestor)
{
        return context_may_read(t, ancestor, caller);
}

bool caller_sees_process(const struct caller *caller, uid_t uid)
{
        return caller->uid == 0 || (uid != (uid_t) -1 && caller->uid == uid);
}

unsigned verb_privilege(enum verb verb)
{
        return rules[verb].right == RIGHT_READ || rules[verb].right == RIGHT_UID ? PRIVILEGE_READ
                                                                                 : PRIVILEGE_MANAGE;
}

bool tree_allows(const struct tree *t, const struct caller *caller, const struct context *c, enum verb verb)
{
        const struct rule *rule = &rules[verb];

        return (rule->background || !context_is_background(c)) && context_may_read(t, c, caller) &&
               has_right(t, c, caller, rule->right);
}

int access_check(const struct tree *t, const struct caller *caller, const struct context *c, enum verb verb,
                struct refused *ret_refused)
{
        const struct rule *rule = &rules[verb];

        if (tree_allows(t, caller, c, verb))
                return 0;
        if (!context_may_read(t, c, caller))
                return refused_without(ret_refused, verb_privilege(verb),
                                refused_context(ret_refused, REFUSED_NO_SUCH, NULL, c));
        if (context_is_background(c) && !rule->background)
                return refused_context(ret_refused, REFUSED_NOT_CANCELABLE, NULL, c);
        return refused_without(ret_refused, rule->right == RIGHT_UID ? 0 : PRIVILEGE_MANAGE,
                        refused_reference(ret_refused, REFUSED_ACCESS, rule->detail, c));
}

int tree_want(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                enum verb verb, struct refused *ret_refused)
{
        int r = access_check(t, caller, c, verb, ret_refused);

        if (r < 0)
                return r;
        tree_settle(t, now_usec);
        tree_reach(t, c);
        return c->forgotten ? refused_reference(ret_refused, REFUSED_NO_SUCH, NULL, c) : 0;
}

unsigned access_below(const struct tree *t, const struct context *visible, const char *path,
                const struct caller *caller)
{
        uid_t uid;

        if (caller_is_privileged(t, caller) || (caller->privileges & PRIVILEGE_READ))
                return 0;
        if (!context_is_background(visible))
                return context_may_write(t, visible, caller) ? 0 : PRIVILEGE_READ;
        return label_is_user(path, strcspn(path, "/"), &uid) && uid == caller->uid ? 0 : PRIVILEGE_READ;
}

/* First labels belong to root and to system users. Everybody else has one tree, user-UID. The same is said
 * whether the label exists or not. */
static int first_label_check(const struct tree *t, const struct caller *caller, const char *label, bool alone,
                bool *ret_own_tree, struct refused *ret_refused)
{
        size_t n = label ? strcspn(label, "/") : 0;
        uid_t uid;

        *ret_own_tree = false;
        if (n > 0 && label_is_user(label, n, &uid)) {
                if (uid != caller->uid && !caller_is_privileged(t, caller))
                        return refused_without(ret_refused, PRIVILEGE_MANAGE,
                                        refused_path(ret_refused, REFUSED_ACCESS, "it is another user's tree",
                                                        label, n));
                *ret_own_tree = true;
                return 0;
        }
        if (caller->uid < CONTEXT_SYSTEM_UIDS || caller_is_privileged(t, caller) ||
                        (caller->privileges & PRIVILEGE_FIRST_LABEL))
                return 0;
        /* To make one below a first label takes more, since that label may be there already, and be
         * somebody's. */
        return refused_without(ret_refused, alone ? PRIVILEGE_FIRST_LABEL : PRIVILEGE_MANAGE,
                        refused_path(ret_refused, REFUSED_ACCESS,
                                        "first labels belong to root and system users; your own tree is ~ "
                                        "(user-UID)",
                                        label ? label : "/", label ? n : 1));
}

int access_create(const struct tree *t, const struct caller *caller, const struct context *visible,
                const char *first_label, bool alone, bool *ret_own_tree, struct refused *ret_refused)
{
        *ret_own_tree = false;
        if (context_is_background(visible))
                return first_label_check(t, caller, first_label, alone, ret_own_tree, ret_refused);
        if (context_may_write(t, visible, caller))
                return 0;
        return refused_without(ret_refused, PRIVILEGE_MANAGE,
                        refused_context(ret_refused, REFUSED_ACCESS, "its parent may not be written to",
                                        visible));
}

bool access_displace(const struct tree *t, const struct caller *caller, const struct context *done)
{
        /* Who may write to its parent might end and release it, with all that is there. Nobody owns what is
         * above a first label: there it takes the right to release it. */
        return !context_is_background(done->parent) || tree_allows(t, caller, done, VERB_RELEASE);
}

int access_group(const struct tree *t, const struct caller *caller, gid_t gid, const char *path,
                struct refused *ret_refused)
{
        if (caller_is_privileged(t, caller) || caller_has_gid(caller, gid))
                return 0;
        return refused_path(
                        ret_refused, REFUSED_ACCESS, "the caller is not in that group", path, strlen(path));
}

int caller_want_process(
                const struct caller *caller, enum verb verb, const uid_t uids[3], struct refused *ret_refused)
{
        uid_t uid = caller->uid;

        if (uid == 0 || (caller->privileges & PRIVILEGE_DAEMON) || uids_are_all(uids, uid))
                return 0;
        /* Who attaches a process has it signalled on cancel, and must be allowed to do that without the
         * daemon. A process that has connected may have execed a setuid program since, and whoever holds its
         * socket must not make it work for another uid. */
        return refused_because(ret_refused, REFUSED_PROCESS,
                        verb == VERB_ENTER ? "The process that has connected is another user's by now"
                                           : "Only a process that you may signal can be attached, and this "
                                             "one is another user's");
}

int access_leave(const struct tree *t, const struct caller *caller, const struct context *from,
                const struct context *below, struct refused *ret_refused)
{
        struct caller self = *caller;

        /* What polkit has granted, it was asked about the context that is to be entered. */
        self.privileges = 0;
        if (context_may_write(t, from, &self))
                return 1;
        if (context_is_below(below, from))
                return 0;
        /* Which one that is may be none of the caller's business. */
        return refused_because(ret_refused, REFUSED_PROCESS,
                        "The process is a member of another context, which you may not take it from");
}
