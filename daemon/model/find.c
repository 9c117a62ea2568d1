/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/path.h"
#include "daemon/model/internal.h"

uint64_t context_hash_name(const struct index *index, const struct context *c)
{
        return index_hash_name(index, c->parent->id, c->label, strlen(c->label));
}

uint64_t context_hash_id(const struct index *index, const struct context *c)
{
        return index_hash_id(index, c->id);
}

static bool has_name(const struct context *c, const struct context *parent, const char *label, size_t length)
{
        return c->parent == parent && strncmp(c->label, label, length) == 0 && c->label[length] == '\0';
}

struct context *tree_child(
                const struct tree *t, const struct context *parent, const char *label, size_t length)
{
        struct context *c =
                        index_bucket(&t->by_name, index_hash_name(&t->by_name, parent->id, label, length));

        for (; c; c = c->next_in_bucket)
                if (!c->released && has_name(c, parent, label, length))
                        return c;
        return NULL;
}

static struct context *find_below(const struct tree *t, struct context *c, const char *path)
{
        while (c && *path) {
                size_t n = strcspn(path, "/");

                c = tree_child(t, c, path, n);
                path += n;
                path += *path == '/';
        }
        return c;
}

/* Below what is being released some still have their names: those below the ancestors of where it goes on. */
static struct context *find_being_released(const struct tree *t, uint64_t id, const char *path)
{
        char buffer[CTXD_PATH_MAX + 1];
        const struct ending *e;

        TAILQ_FOREACH (e, &t->endings, endings) {
                size_t n = strlen(context_path(e->root, buffer));

                if (!e->is_release || strncmp(path, buffer, n) != 0 || path[n] != '/')
                        continue;
                for (struct context *a = e->next->parent; a; a = a == e->root ? NULL : a->parent) {
                        struct context *c = NULL;

                        n = strlen(context_path(a, buffer));
                        if (strncmp(path, buffer, n) == 0 && path[n] == '/')
                                c = find_below(t, a, path + n + 1);
                        if (c && c->id == id)
                                return c;
                }
        }
        return NULL;
}

/* The first of a bucket, from c on, that has that name, whether it lingers or not. */
static struct context *find_named(
                struct context *c, const struct context *parent, const char *label, size_t length)
{
        while (c && !has_name(c, parent, label, length))
                c = c->next_in_bucket;
        return c;
}

/* Several may linger under one name, and below each of them others: goes through those that have the names of
 * the path. id: 0: the newest that has members; below one that lingers it may not have been come to yet. */
static struct context *find_lingering(const struct tree *t, uint64_t id, const char *path)
{
        struct context *above[CTXD_LABELS_MAX + 1] = {t->background}, *c = NULL, *newest = NULL;
        const char *label[CTXD_LABELS_MAX + 1] = {path};
        size_t depth = 0;

        for (;;) {
                const struct context *parent = above[depth];
                size_t n = strcspn(label[depth], "/");

                c = find_named(c ? c->next_in_bucket
                                 : index_bucket(&t->by_name,
                                                   index_hash_name(&t->by_name, parent->id, label[depth], n)),
                                parent, label[depth], n);
                if (c && label[depth][n] == '\0') {
                        if (c->id == id)
                                return c;
                        if (id == 0 && c->n_busy_below > 0 && (!newest || c->id > newest->id))
                                newest = c;
                } else if (c) {
                        label[depth + 1] = label[depth] + n + 1;
                        above[++depth] = c;
                        c = NULL;
                } else if (depth-- == 0) {
                        return newest;
                } else {
                        c = above[depth + 1];
                }
        }
}

static struct context *find_released(const struct tree *t, uint64_t id, const char *path)
{
        struct context *c = index_bucket(&t->by_id, index_hash_id(&t->by_id, id));
        char buffer[CTXD_PATH_MAX + 1];

        while (c && c->id != id)
                c = c->next_in_bucket;
        if (c && strcmp(context_path(c, buffer), path) == 0)
                return c;
        c = find_being_released(t, id, path);
        return c || t->n_lingering == 0 ? c : find_lingering(t, id, path);
}

bool label_is_user(const char *label, size_t length, uid_t *ret_uid)
{
        char text[sizeof "user-4294967295"];
        uint64_t uid = 0;

        if (length < 6 || length >= sizeof text || memcmp(label, "user-", 5) != 0)
                return false;
        for (size_t i = 5; i < length; i++) {
                if (label[i] < '0' || label[i] > '9')
                        return false;
                uid = uid * 10 + (uint64_t) (label[i] - '0');
        }
        if (uid >= UINT32_MAX) /* (uid_t) -1 is nobody */
                return false;
        snprintf(text, sizeof text, "user-%" PRIu64, uid);
        if (strncmp(text, label, length) != 0 ||
                        text[length] != '\0') /* leading zeros: a label like any other */
                return false;
        *ret_uid = (uid_t) uid;
        return true;
}

int tree_find(struct tree *t, const struct caller *caller, const char *text, struct context **ret,
                struct refused *ret_refused)
{
        struct context *c = t->background;
        const struct context *visible = c;
        size_t shown = 0; /* up to where the path is there for this caller */
        struct reference ref;
        const char *why;
        int r;

        if (reference_parse(text, caller->uid, false, &ref, &why) < 0)
                return refused_because(ret_refused, REFUSED_NAME, why);
        if (strcmp(ref.path, "/") == 0) {
                *ret = c;
                return 0;
        }

        for (const char *p = ref.path; c && *p; p += *p == '/') {
                size_t n = strcspn(p, "/");

                if (context_may_read(t, c, caller))
                        visible = c;
                else if (shown == 0)
                        shown = (size_t) (p - 1 - ref.path);
                c = tree_child(t, c, p, n);
                p += n;
                if (shown == 0 && !c)
                        shown = (size_t) (p - ref.path);
        }
        if (ref.id != 0 && (!c || c->id != ref.id))
                c = find_released(t, ref.id, ref.path);
        if (ref.id == 0 && !c && t->n_lingering > 0)
                c = find_lingering(t, 0, ref.path);
        if (c)
                tree_reach(t, c);
        if (c && context_may_read(t, c, caller)) {
                *ret = c;
                return 0;
        }
        /* What is missing and what may not be read look the same: the first part that is not there. */
        if (ref.id != 0)
                r = refused_path(ret_refused, REFUSED_NO_SUCH, NULL, text, strlen(text));
        else
                r = refused_path(ret_refused, REFUSED_NO_SUCH, NULL, ref.path,
                                shown > 0 ? shown : strlen(ref.path));
        return refused_without(ret_refused, access_below(t, visible, ref.path, caller), r);
}
