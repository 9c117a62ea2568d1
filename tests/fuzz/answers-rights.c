/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who may do what, and what is told to whom. */

#include <errno.h>
#include <unistd.h>

#include "tests/fuzz/answers.h"
#include "proto/names.h"

const char *const answer_keys[KEYS] = {"org.example.one", "org.example.two"};

enum {
        BY_READ = 1,      /* r */
        BY_BOTH = 1 << 1, /* r and w */
        BY_OWNER = 1 << 2,
};

static const unsigned rights[] = {
                /* The owner can always look and end, whatever the mode. */
                [RIGHT_LOOK] = BY_READ | BY_OWNER,
                [RIGHT_END] = BY_BOTH | BY_OWNER,
                [RIGHT_PUT] = BY_BOTH,
                [RIGHT_MOVE] = BY_OWNER,
                [RIGHT_MAP] = BY_OWNER,
};

/* What a person may not read of an ancestor (its values, and why it has ended) is not shown through a
 * descendant either (law 36). */
bool shows_what_it_left(const struct person *p, const struct node *ancestor)
{
        return may(p, ancestor, RIGHT_LOOK);
}

bool is_root(const struct person *p)
{
        return p->uid == 0 || p->uid == getuid();
}

bool is_in_group(const struct person *p, gid_t gid)
{
        return p->gid == gid || p->more == gid;
}

bool may(const struct person *p, const struct node *n, enum right right)
{
        unsigned by = rights[right], shift, bits;

        if (is_root(p))
                return right != RIGHT_MAP || p->uid == 0 || p->uid == n->uid;
        if (!n->parent) /* the background is there for everybody, and nobody's */
                return right == RIGHT_LOOK;
        shift = p->uid == n->uid ? 6 : is_in_group(p, n->gid) ? 3 : 0;
        bits = n->mode >> shift & 7;
        return ((by & BY_READ) && (bits & 4)) || ((by & BY_BOTH) && (bits & 6) == 6) ||
               ((by & BY_OWNER) && p->uid == n->uid);
}

/* That takes the right to release it. */
bool may_take_name(const struct person *p, const struct node *done)
{
        return may(p, done, RIGHT_END);
}

const struct node *origin_for(const struct person *p, const struct node *n)
{
        return n->done && shows_what_it_left(p, n->origin) ? n->origin : NULL;
}

const char *cause_for(const struct person *p, const struct node *n, int *ret_error)
{
        const struct node *origin = origin_for(p, n);

        *ret_error = !n->done ? 0 : n->overdue ? ETIMEDOUT : ECANCELED;
        if (origin && origin->error != 0)
                *ret_error = origin->error;
        if (origin && origin->cause[0])
                return origin->cause;
        return !n->done ? "" : n->overdue ? CTXD_ERR_DEADLINE : CTXD_ERR_CANCELED;
}

const char *value_for(const struct person *p, const struct node *n, unsigned key)
{
        while (n && !n->values[key][0])
                n = n->parent;
        return n && shows_what_it_left(p, n) ? n->values[key] : NULL;
}
