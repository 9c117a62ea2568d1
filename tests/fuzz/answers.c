/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tests/fuzz/answers-nodes.h"
#include "proto/names.h"

/* How contexts come, end and go. */

struct forest_of_nodes those;

enum happening {
        CAME,
        ENDED,       /* it is the root of what has ended */
        ENDED_BELOW, /* it ended with its origin */
        WENT,
};

static struct {
        enum happening kind;
        const struct node *node;
} news[4 * NODES_MAX];
static unsigned n_news;

static void tell(enum happening kind, const struct node *n)
{
        REQUIRE(n_news < sizeof news / sizeof *news);
        news[n_news].kind = kind;
        news[n_news++].node = n;
}

void news_forget(void)
{
        n_news = 0;
}

static bool has_prefix(const char *path, const char *prefix)
{
        size_t n = strlen(prefix);

        return strcmp(prefix, "/") == 0 ||
               (strncmp(path, prefix, n) == 0 && (path[n] == '\0' || path[n] == '/'));
}

/* One is told of the root of what has ended, or, who may not look at that, of the topmost below it. */
static bool hears(const struct person *p, enum happening kind, const struct node *n)
{
        if (!may(p, n, RIGHT_LOOK))
                return false;
        for (const struct node *a = n; kind == ENDED_BELOW && a != n->origin;) {
                a = a->parent;
                if (may(p, a, RIGHT_LOOK))
                        return false;
        }
        return true;
}

unsigned news_for(const struct person *p, char prefixes[][TEXT_MAX], unsigned n_prefixes,
                char ret[NEWS_MAX][TEXT_MAX])
{
        unsigned n = 0;

        for (unsigned i = 0; i < n_news; i++) {
                const struct node *c = news[i].node;
                bool done = news[i].kind == ENDED || news[i].kind == ENDED_BELOW, wanted = false;
                char path[TEXT_MAX];
                int error;

                node_path(c, path);
                for (unsigned k = 0; k < n_prefixes; k++)
                        wanted = wanted || has_prefix(path, prefixes[k]) ||
                                 (done && has_prefix(prefixes[k], path));
                if (!wanted || !hears(p, news[i].kind, c))
                        continue;
                REQUIRE(n < NEWS_MAX);
                if (done)
                        snprintf(ret[n++], TEXT_MAX, "ContextDone %.100s %" PRIu64 " %s, %s", path, c->id,
                                        c->overdue ? CTXD_ERR_DEADLINE : CTXD_ERR_CANCELED,
                                        cause_for(p, c, &error));
                else
                        snprintf(ret[n++], TEXT_MAX, "%s %.100s %" PRIu64,
                                        news[i].kind == CAME ? "ContextNew" : "ContextRemoved", path, c->id);
        }
        return n;
}

void answers_reset(uint64_t now_usec)
{
        memset(&those, 0, sizeof those);
        those.n = 1;
        those.nodes[0].own = those.nodes[0].effective = UINT64_MAX;
        those.nodes[0].owner = NOBODY;
        those.now_usec = now_usec;
        news_forget();
}

struct node *answers_nodes(unsigned *ret_n)
{
        *ret_n = those.n;
        return those.nodes;
}

void node_path(const struct node *n, char *ret)
{
        char below[TEXT_MAX];

        strcpy(ret, n->parent ? n->label : "/");
        while (n->parent && n->parent->parent) {
                n = n->parent;
                snprintf(below, sizeof below, "%s", ret);
                snprintf(ret, TEXT_MAX, "%s/%.200s", n->label, below);
        }
}

const char *node_state(const struct node *n)
{
        return !n->done ? "active" : n->overdue ? "deadline-exceeded" : "canceled";
}

bool node_is_below(const struct node *n, const struct node *a)
{
        while (n && n != a)
                n = n->parent;
        return n;
}

uint64_t node_deadline(const struct node *n)
{
        uint64_t above;

        if (n->done || !n->parent)
                return n->effective;
        above = node_deadline(n->parent);
        return n->own < above ? n->own : above;
}

bool node_is_drained(const struct node *n)
{
        if (!n->done)
                return false;
        for (unsigned i = 0; i < those.n; i++)
                if (those.nodes[i].members != 0 && node_is_below(&those.nodes[i], n))
                        return false;
        return true;
}

/* Parents stand before their children in the list, so the next is the next one that is below no node that was
 * skipped; those are marked. */
struct node *node_walk(struct node *n, const struct node *root, bool skip)
{
        static bool skipped[NODES_MAX];

        if (n == root)
                memset(skipped, 0, sizeof skipped);
        skipped[n - those.nodes] = skip;
        for (n++; n < those.nodes + those.n; n++) {
                if (n->forgotten || !node_is_below(n, root))
                        continue;
                skipped[n - those.nodes] = skipped[n->parent - those.nodes];
                if (!skipped[n - those.nodes])
                        return n;
        }
        return NULL;
}

static void become_done(struct node *n, bool overdue, struct node *origin)
{
        n->effective = node_deadline(n);
        n->done = true;
        n->overdue = overdue;
        n->origin = origin;
        tell(n == origin ? ENDED : ENDED_BELOW, n);
}

static bool has_passed(const struct node *n)
{
        return n->own < node_deadline(n->parent) && n->own <= those.now_usec;
}

/* Of those below, too, whatever has ended by itself before that (law 9). */
static unsigned end(struct node *root, bool overdue, unsigned *ret_members)
{
        unsigned count = 1;

        become_done(root, overdue, root);
        *ret_members = (unsigned) __builtin_popcount(root->members);
        for (struct node *n = root + 1; n < those.nodes + those.n; n++) {
                if (n->forgotten || n->done || !node_is_below(n, root))
                        continue;
                if (has_passed(n)) {
                        become_done(n, true, n);
                } else {
                        become_done(n, n->parent->overdue, n->parent->origin);
                        count++;
                        *ret_members += (unsigned) __builtin_popcount(n->members);
                }
        }
        return count;
}

void answers_settle(uint64_t now_usec)
{
        unsigned members;

        those.now_usec = now_usec;
        for (struct node *n = those.nodes + 1; n < those.nodes + those.n; n++)
                if (!n->forgotten && !n->done && has_passed(n))
                        end(n, true, &members);
}

void node_born(struct node *n)
{
        unsigned members;

        tell(CAME, n);
        if (n->parent->done) { /* law 8 */
                become_done(n, n->parent->overdue, n->parent->origin);
                news[n_news - 1].kind = ENDED; /* it did not end with the others */
        } else if (has_passed(n)) {
                end(n, true, &members);
        }
}

unsigned end_by(struct node *n, const struct person *p, const char *cause, int error, unsigned *ret_members)
{
        *ret_members = 0;
        if (n->done)
                return 0; /* law 3 */
        snprintf(n->cause, sizeof n->cause, "%s", cause);
        n->error = error;
        n->by = p ? p->uid : (uid_t) -1;
        n->by_itself = !p;
        return end(n, false, ret_members);
}

void node_lose_path(struct node *root)
{
        for (struct node *n = root; n; n = node_walk(n, root, false))
                n->released = true;
}

void release(struct node *n, const struct person *p)
{
        unsigned members;

        if (n->released)
                return;
        end_by(n, p, CTXD_CAUSE_RELEASED, 0, &members);
        node_lose_path(n);
}

void extend(struct node *n, uint64_t deadline_usec)
{
        n->own = deadline_usec;
        answers_settle(those.now_usec);
}

void lifeline_gone(struct node *n)
{
        unsigned members;

        if (n->lifelines > 0 && --n->lifelines == 0)
                end_by(n, NULL, "lifeline closed", ECANCELED, &members);
}

/* Of several that it owned the one that was made last comes first: no law says so, but one of them has to. */
void victim_gone(int victim)
{
        unsigned members;

        for (struct node *n = those.nodes + those.n - 1; n > those.nodes; n--) {
                if (n->owner == victim && !n->done) {
                        end_by(n, NULL, "owner exited", ECANCELED, &members);
                        n->by = victim_uid(victim);
                }
                n->members &= ~(1U << victim);
                if (n->owner == victim)
                        n->owner = NOBODY;
        }
        those.member_of[victim] = NULL;
}

uid_t victim_attached_by(int victim)
{
        return those.attached_by[victim];
}

static bool has_children(const struct node *n)
{
        for (unsigned i = 1; i < those.n; i++)
                if (those.nodes[i].parent == n && !those.nodes[i].forgotten)
                        return true;
        return false;
}

void retention_over(void)
{
        for (struct node *n = those.nodes + those.n - 1; n > those.nodes; n--) {
                if (n->forgotten || !n->done || n->members != 0)
                        continue;
                n->waits = true;
                for (struct node *a = n; a->waits && !has_children(a); a = a->parent) {
                        a->forgotten = true;
                        a->waits = false;
                        tell(WENT, a);
                }
        }
}
