/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/answers-nodes.h"
#include "proto/names.h"

/* What a call finds, makes, or is refused. */

static void refuse(struct answer *ret, const char *error)
{
        *ret = (struct answer){.error = error};
}

/* What is hidden and what is missing have to look the same, to the letter. */
static void refuse_missing(struct answer *ret, const char *path, size_t length)
{
        ret->error = CTXD_ERROR_NO_SUCH_CONTEXT;
        snprintf(ret->text, sizeof ret->text, "There is no context %.*s", (int) length, path);
}

static struct node *child_of(const struct node *parent, const char *label, size_t length)
{
        for (unsigned i = 1; i < those.n; i++) {
                struct node *n = &those.nodes[i];

                if (n->parent == parent && !n->released && !n->forgotten && strlen(n->label) == length &&
                                memcmp(n->label, label, length) == 0)
                        return n;
        }
        return NULL;
}

/* The newest that was released and still has members. */
static struct node *lingering(const char *path)
{
        struct node *newest = NULL;
        char found[TEXT_MAX];

        for (struct node *n = those.nodes + 1; n < those.nodes + those.n; n++) {
                if (!n->released || n->forgotten || node_is_drained(n) || (newest && newest->id > n->id))
                        continue;
                node_path(n, found);
                if (strcmp(found, path) == 0)
                        newest = n;
        }
        return newest;
}

static struct node *with_id(uint64_t id, const char *path)
{
        char found[TEXT_MAX];

        for (unsigned i = 1; i < those.n; i++)
                if (those.nodes[i].id == id && !those.nodes[i].forgotten) {
                        node_path(&those.nodes[i], found);
                        return strcmp(found, path) == 0 ? &those.nodes[i] : NULL;
                }
        return NULL;
}

struct node *answer_find(const struct person *p, const struct name *name, struct answer *ret)
{
        size_t shown = 0; /* up to the first part that is not there for this person */
        struct node *n = those.nodes;

        *ret = (struct answer){};
        for (const char *l = strcmp(name->path, "/") == 0 ? "" : name->path; *l; l += *l == '/') {
                size_t length = strcspn(l, "/");

                n = n ? child_of(n, l, length) : NULL;
                l += length;
                if (shown == 0 && (!n || !may(p, n, RIGHT_LOOK)))
                        shown = (size_t) (l - name->path);
        }
        if (name->id != 0)
                n = with_id(name->id, name->path);
        else if (!n)
                n = lingering(name->path);
        if (n && may(p, n, RIGHT_LOOK))
                return n;
        if (name->id != 0)
                refuse_missing(ret, name->text, strlen(name->text));
        else
                refuse_missing(ret, name->path, shown);
        return NULL;
}

struct node *answer_may(const struct person *p, const struct name *name, enum right right, struct answer *ret)
{
        struct node *n = answer_find(p, name, ret);

        if (!n || right == RIGHT_LOOK)
                return n;
        if (!n->parent) /* law 1 */
                refuse(ret, CTXD_ERROR_NOT_CANCELABLE);
        else if (!may(p, n, right))
                refuse(ret, CTXD_ERROR_ACCESS_DENIED);
        else
                return n;
        return NULL;
}

/* No member leaves but to below where it is, or for who may change that (law 30). */
static bool may_move(const struct person *p, int victim, const struct node *below)
{
        const struct node *from = those.member_of[victim];

        return !from || may(p, from, RIGHT_PUT) || node_is_below(below, from);
}

static void join(struct node *n, int victim, const struct person *p)
{
        REQUIRE(victim >= 0 && victim < VICTIMS);
        if (those.member_of[victim])
                those.member_of[victim]->members &= ~(1U << victim);
        those.member_of[victim] = n;
        those.attached_by[victim] = p->uid;
        n->members |= 1U << victim;
}

void answer_attach(const struct person *p, const struct name *name, int victim, uid_t uid, struct answer *ret)
{
        struct node *n = answer_may(p, name, RIGHT_PUT, ret);

        if (!n)
                return;
        if (victim == DEAD)
                refuse(ret, CTXD_ERROR_NO_SUCH_PROCESS);
        else if (p->uid != 0 && p->uid != uid)
                refuse(ret, CTXD_ERROR_ACCESS_DENIED);
        else if (n->done)
                refuse(ret, CTXD_ERROR_ALREADY_DONE);
        else if (!may_move(p, victim, n))
                refuse(ret, CTXD_ERROR_ACCESS_DENIED);
        else
                join(n, victim, p);
}

/* What is there of the path that is to be made, and what of that the person sees. */
struct way {
        struct node *base, *seen, *there; /* there: the one that was asked for */
        const char *missing;              /* the labels below base; "": one that is made up */
        unsigned n_missing;
        size_t hidden; /* up to where the first part below seen goes that is hidden; 0: none is */
        bool off;      /* the id is not of that one */
};

static void see(const struct person *p, struct way *way, size_t length)
{
        if (may(p, way->base, RIGHT_LOOK)) {
                way->seen = way->base;
                way->hidden = 0;
        } else if (way->hidden == 0) {
                way->hidden = length;
        }
}

static struct way look(const struct person *p, const struct name *name)
{
        struct way way = {.base = those.nodes, .seen = those.nodes, .missing = ""};
        const char *path = name->path;

        for (const char *l = strcmp(path, "/") == 0 ? "" : path; *l; l += *l == '/') {
                size_t length = strcspn(l, "/");
                struct node *n = way.n_missing > 0 ? NULL : child_of(way.base, l, length);

                if (way.n_missing == 0)
                        see(p, &way, (size_t) (l - 1 - path));
                if (!n && way.n_missing++ == 0)
                        way.missing = l;
                if (n && l[length] == '\0' && !name->generate)
                        way.there = n;
                else if (n)
                        way.base = n;
                l += length;
                if (name->id != 0 && (size_t) (l - path) == name->pinned)
                        way.off = !n || n->id != name->id || !may(p, n, RIGHT_LOOK);
        }
        if (name->generate && way.n_missing++ == 0)
                see(p, &way, strlen(path));
        return way;
}

/* Late work does not go on under a name that somebody has cancelled, or that is overdue (law 34). */
static bool gives_way(const struct node *n, const struct wish *w)
{
        return n->done && (!w->open || w->replace || n->origin->by_itself);
}

/* First labels are those of root and of system users; everybody else has the tree user-UID. */
static bool may_begin(const struct person *p, const char *path, uid_t *ret_tree)
{
        unsigned uid;
        int n = 0;

        *ret_tree = (uid_t) -1;
        if (sscanf(path, "user-%u%n", &uid, &n) == 1 && (path[n] == '/' || path[n] == '\0')) {
                *ret_tree = uid;
                return uid == p->uid || is_root(p);
        }
        return p->uid < 1000 || is_root(p);
}

/* False: there is the answer. */
static bool may_make(const struct person *p, const struct wish *w, struct way *way, uid_t *ret_tree,
                struct answer *ret)
{
        const char *path = w->name.path, *missing = way->missing;
        unsigned n_missing = way->n_missing;

        *ret_tree = (uid_t) -1;
        if (way->seen->parent ? !may(p, way->seen, RIGHT_PUT) : !may_begin(p, path, ret_tree)) {
                refuse(ret, CTXD_ERROR_ACCESS_DENIED);
                return false;
        }
        if (way->hidden > 0) {
                refuse_missing(ret, path, way->hidden);
                return false;
        }
        if (w->has_gid && !is_root(p) && !is_in_group(p, w->gid)) {
                refuse(ret, CTXD_ERROR_ACCESS_DENIED);
                return false;
        }
        if (way->there && (!gives_way(way->there, w) ||
                                          (!way->base->parent && !may_take_name(p, way->there)))) {
                refuse(ret, CTXD_ERROR_EXISTS);
                return false;
        }
        if (*ret_tree != (uid_t) -1 && n_missing > 1) { /* which is made on first use */
                n_missing--;
                missing += strcspn(missing, "/");
                missing += *missing == '/';
        }
        if (n_missing > 1 && !w->parents) {
                refuse_missing(ret, path, (size_t) (missing - path) + strcspn(missing, "/"));
                return false;
        }
        return true;
}

static struct node *node_make(const struct person *p, const struct wish *w, struct node *parent,
                const char *label, gid_t gid, bool last)
{
        struct node *n = &those.nodes[those.n];

        REQUIRE(those.n++ < NODES_MAX);
        *n = (struct node){.parent = parent, .uid = p->uid, .gid = gid, .own = UINT64_MAX, .owner = NOBODY};
        n->by = (uid_t) -1;
        n->mode = parent->parent ? parent->mode : 0700;
        snprintf(n->label, sizeof n->label, "%.*s", (int) strcspn(label, "/"), label);
        if (!last)
                return n;
        n->own = w->deadline;
        if (w->has_mode)
                n->mode = w->mode;
        if (w->has_gid)
                n->gid = w->gid;
        if (w->has_cause) {
                memcpy(n->cause, w->cause, sizeof n->cause);
                n->error = w->error;
        }
        memcpy(n->values, w->values, sizeof n->values);
        n->owner = w->owner;
        return n;
}

static struct node *answer_open(
                const struct person *p, const struct wish *w, struct node *there, struct answer *ret)
{
        if (there->done)
                refuse(ret, CTXD_ERROR_ALREADY_DONE);
        else if (!w->open)
                refuse(ret, CTXD_ERROR_EXISTS);
        else if (w->attach != NOBODY && /* law 46 */
                        (!may(p, there, RIGHT_PUT) || !may_move(p, w->attach, there)))
                refuse(ret, CTXD_ERROR_ACCESS_DENIED);
        else if (w->attach != NOBODY)
                join(there, w->attach, p);
        return ret->error ? NULL : there;
}

struct node *answer_create(const struct person *p, const struct wish *w, bool *ret_made, struct answer *ret)
{
        struct node *n = NULL;
        const char *label;
        struct way way;
        uid_t tree;
        gid_t gid;

        *ret = (struct answer){};
        *ret_made = false;
        if (w->owner == DEAD || w->attach == DEAD)
                refuse(ret, CTXD_ERROR_NO_SUCH_PROCESS);
        else if (w->attach != NOBODY && p->uid != 0 && p->uid != victim_uid(w->attach))
                refuse(ret, CTXD_ERROR_ACCESS_DENIED);
        if (ret->error)
                return NULL;
        if (w->name.id != 0 && !w->name.generate && w->name.pinned == strlen(w->name.path)) {
                n = answer_find(p, &w->name, ret);
                return n ? answer_open(p, w, n, ret) : NULL;
        }
        way = look(p, &w->name);
        if (way.off) {
                ret->error = CTXD_ERROR_NO_SUCH_CONTEXT;
                snprintf(ret->text, sizeof ret->text, "There is no context %.*s#%" PRIu64,
                                (int) w->name.pinned, w->name.path, w->name.id);
                return NULL;
        }
        if (way.there && may(p, way.there, RIGHT_LOOK) && !gives_way(way.there, w))
                return answer_open(p, w, way.there, ret);
        if (!may_make(p, w, &way, &tree, ret))
                return NULL;
        if (w->attach != NOBODY && (way.base->done || w->deadline <= those.now_usec))
                refuse(ret, CTXD_ERROR_ALREADY_DONE);
        else if (w->attach != NOBODY && !may_move(p, w->attach, way.base))
                refuse(ret, CTXD_ERROR_ACCESS_DENIED);
        if (ret->error)
                return NULL;

        label = way.missing;
        if (way.there) {
                const char *slash = strrchr(w->name.path, '/');

                node_lose_path(way.there);
                label = slash ? slash + 1 : w->name.path;
                way.n_missing = 1;
        }
        gid = way.base->parent ? way.base->gid : p->gid;
        for (unsigned i = 0; i < way.n_missing; i++) {
                n = node_make(p, w, n ? n : way.base, label, gid, i + 1 == way.n_missing);
                if (i == 0 && tree != (uid_t) -1)
                        n->uid = tree;
                label += strcspn(label, "/");
                label += *label == '/';
                node_born(n);
        }
        if (w->attach != NOBODY)
                join(n, w->attach, p);
        *ret_made = true;
        return n;
}

void answer_made(struct node *n, const char *path, uint64_t id)
{
        uint64_t last = those.last_id;
        char expected[TEXT_MAX];

        REQUIRE(id > last); /* law 34 */
        those.last_id = id;
        if (n->label[0] == '\0') { /* it was made up */
                const char *slash = strrchr(path, '/'), *label = slash ? slash + 1 : path;

                REQUIRE(!child_of(n->parent, label, strlen(label)));
                strncat(n->label, label, sizeof n->label - 1);
                REQUIRE(label[strspn(label, "0123456789")] == '\0');
        }
        node_path(n, expected);
        REQUIRE(strcmp(path, expected) == 0);
        for (; n->id == 0 && n->parent; n = n->parent)
                n->id = id--;
        REQUIRE(id >= last);
}
