/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Signals. They are not broadcast, because a bus policy cannot filter by content. Each goes to the peers that
 * have subscribed to a prefix of the path and may read the context.
 *
 * One ContextDone for the root of a cancel stands for all contexts below it. So a subscription below that
 * root gets it, too. A peer that may not read the root is told of the contexts below it that it may read.
 *
 * A turn sends some. The rest waits, in its order, and meanwhile no context is freed. */

#include <errno.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/later.h"
#include "util/cleanup.h"
#include "proto/path.h"
#include "util/log.h"
#include "proto/probe-record.h"

/* Whether path is the prefix, or below it. */
static bool path_has_prefix(const char *path, const char *prefix)
{
        size_t n = strlen(prefix);

        return strcmp(prefix, "/") == 0 ||
               (strncmp(path, prefix, n) == 0 && (path[n] == '\0' || path[n] == '/'));
}

static const char *const kind_names[] = {[PROBE_LEAK_BLOCKED] = "blocked",
                [PROBE_LEAK_IGNORING] = "ignoring",
                [PROBE_LEAK_MORE] = "more"};
static const char *const backend_names[] = {
                [PROBE_BACKEND_OFF] = "off", [PROBE_BACKEND_PROC] = "proc", [PROBE_BACKEND_BPF] = "bpf"};

_Static_assert(PROBE_NOBODY == (uid_t) -1, "it is no user's process");

/* The fields of a report have the same names as in the journal. Whoever may read the context is told that the
 * process is there. What it does is told to those who can see that in /proc. */
int message_append_leak(sd_bus_message *m, const struct tree *t, const struct caller *caller,
                const struct context *c, const struct leak *l)
{
        bool sees = caller_sees_process(caller, l->reader);
        bool sees_kernel = caller_sees_process(caller, l->kernel_reader);
        char reference[CTXD_PATH_MAX + 1];
        struct shown_end end;
        int r;

        access_shown_end(t, caller, c, &end);
        r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}",
                        "CTXD_CONTEXT", "s", context_path(c, reference), "CTXD_CONTEXT_ID", "t", c->id,
                        "CTXD_ERR", "s", context_err(c), "CTXD_CAUSE", "s", end.cause, "CTXD_LEAK", "s",
                        l->kind < ELEMENTSOF(kind_names) && kind_names[l->kind] ? kind_names[l->kind] : "",
                        "CTXD_BACKEND", "s",
                        l->backend < ELEMENTSOF(backend_names) ? backend_names[l->backend] : "", "OBJECT_PID",
                        "u", l->pid, "CTXD_TID", "u", l->tid, "OBJECT_COMM", "s", l->comm,
                        "CTXD_SINCE_DONE_USEC", "t", l->since_done_usec, "CTXD_SYSCALL", "s",
                        sees ? l->syscall_text : "", "CTXD_WAITS_ON", "s", sees ? l->waits_on : "",
                        "CTXD_WHY", "s", sees ? l->why : "", "CTXD_STACK", "s", sees ? l->stack : "",
                        "CTXD_KERNEL_STACK", "s", sees_kernel ? l->kernel_stack : "", "CTXD_COUNT", "t",
                        l->count);
        if (r >= 0 && l->blocked_usec != CTXD_USEC_INFINITY)
                r = sd_bus_message_append(m, "{sv}", "CTXD_BLOCKED_USEC", "t", l->blocked_usec);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}", "CTXD_FOUND_USEC", "t", l->found_usec,
                                "CTXD_RESOLVED", "b", (int) l->is_resolved);
        if (r >= 0 && l->is_resolved)
                r = sd_bus_message_append(m, "{sv}", "CTXD_RESOLVED_USEC", "t", l->resolved_usec);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* A signal to be sent. */
struct notice {
        const char *member;
        struct context *context;
        const struct leak *leak;
        bool below; /* also for subscriptions below the context */
};

static int send_notice(const struct notice *notice, const char *path, struct peer *p)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const struct tree *t = p->endpoint->service->tree;
        const struct context *c = notice->context;
        struct shown_end end;
        int r;

        access_shown_end(t, &p->caller, c, &end);
        r = sd_bus_message_new_signal(
                        p->endpoint->bus, &m, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, notice->member);
        if (r >= 0)
                r = sd_bus_message_set_destination(m, p->name);
        if (r >= 0)
                r = sd_bus_message_append(m, "st", path, c->id);
        if (r >= 0 && notice->leak)
                r = message_append_leak(m, t, &p->caller, c, notice->leak);
        else if (r >= 0 && strcmp(notice->member, "ContextDone") == 0)
                r = sd_bus_message_append(m, "ss", context_err(c), end.cause);
        if (r >= 0)
                r = sd_bus_send(p->endpoint->bus, m, NULL);
        p->endpoint->sent(p->endpoint);
        return r;
}

/* What it costs to send and to look, in the units of a budget. */
#define COST_SEND 100
#define COST_ASK 2
/* With more news than this in the queue a turn tells at least two of them, so that the queue, and the removed
 * contexts in it, cannot grow for ever. */
#define NEWS_MAX 65536

static void spend(uint32_t *budget, uint32_t cost)
{
        *budget -= cost < *budget ? cost : *budget;
}

static bool is_wanted(const struct notice *notice, const char *path, const struct subscription *sub)
{
        return path_has_prefix(path, sub->prefix) || (notice->below && path_has_prefix(sub->prefix, path));
}

typedef bool hears_t(const struct service *s, const struct notice *notice, const struct caller *caller);

/* Sends the news once to each peer of the audiences for which hears() says yes; goes on where it has stopped
 * before. False: the budget is used up. The subscriptions of one peer are next to each other. */
static bool tell_those(struct service *s, const struct notice *notice, hears_t *hears, uint32_t *budget)
{
        struct telling *t = &s->telling;
        char path[CTXD_PATH_MAX + 1];
        struct subscription *sub;

        context_path(notice->context, path);
        while (t->audience && *budget > 0) {
                if (!t->next) {
                        spend(budget, COST_ASK);
                        if (!hears(s, notice, &t->audience->caller)) {
                                t->audience = LIST_NEXT(t->audience, audiences);
                                continue;
                        }
                        t->next = LIST_FIRST(&t->audience->subscriptions);
                        t->told = NULL;
                }
                while ((sub = t->next) && *budget > 0) {
                        int r;

                        t->next = LIST_NEXT(sub, of_audience);
                        spend(budget, 1);
                        if (!t->next)
                                t->audience = LIST_NEXT(t->audience, audiences);
                        if (sub->peer == t->told || !is_wanted(notice, path, sub))
                                continue;
                        t->told = sub->peer;
                        spend(budget, COST_SEND);
                        r = send_notice(notice, path, sub->peer);
                        if (r < 0)
                                log_debug("A signal to %s was lost: %s", sub->peer->name, strerror(-r));
                }
        }
        return !t->audience;
}

static bool may_read(const struct service *s, const struct notice *notice, const struct caller *caller)
{
        return tree_allows(s->tree, caller, notice->context, VERB_LOOK);
}

/* For a peer that may not read the root of a cancel. It is told of the topmost contexts that it may read
 * below the root; each of them stands for all below it. */
static bool may_read_no_higher(
                const struct service *s, const struct notice *notice, const struct caller *caller)
{
        const struct context *origin = context_origin(notice->context);

        if (!may_read(s, notice, caller))
                return false;
        for (const struct context *c = notice->context; c != origin;) {
                c = c->parent;
                if (tree_allows(s->tree, caller, c, VERB_LOOK))
                        return false;
        }
        return true;
}

/* So many contexts are looked at in this way for one cancel. Else a subtree of a million different owners and
 * modes would hold everybody up. */
#define LOOKS_BELOW_MAX 100000

/* Counts the audiences that may not read the root. Mostly there are none, and then nothing below the root has
 * to be looked at. */
static void blind_count(struct service *s, const struct context *origin)
{
        const struct audience *a;

        s->below.origin_id = origin->id;
        s->below.looks = s->below.n_blind = 0;
        LIST_FOREACH (a, &s->audiences, audiences)
                s->below.n_blind += !tree_allows(s->tree, &a->caller, origin, VERB_LOOK);
}

static bool is_told_below(struct service *s, const struct context *c)
{
        const struct context *origin = context_origin(c);

        if (s->below.origin_id != origin->id)
                blind_count(s, origin);
        if (s->below.n_blind == 0 || s->below.looks > LOOKS_BELOW_MAX)
                return false;
        s->below.looks += s->n_audiences;
        return true;
}

static const char *const signal_names[] = {
                [NEWS_CONTEXT_NEW] = "ContextNew",
                [NEWS_CONTEXT_DONE] = "ContextDone",
                [NEWS_CONTEXT_DONE_BELOW] = "ContextDone",
                [NEWS_CONTEXT_REMOVED] = "ContextRemoved",
                [NEWS_LEAK_FOUND] = "LeakFound",
                [NEWS_LEAK_RESOLVED] = "LeakResolved",
};

/* False: there is no more news. */
static bool begin_news(struct service *s)
{
        struct telling *t = &s->telling;

        if (!engine_take_news(s->engine, &t->news))
                return false;
        t->audience = LIST_FIRST(&s->audiences);
        t->next = NULL;
        if (t->news.kind == NEWS_CONTEXT_DONE)
                s->below.origin_id = 0;
        else if (t->audience && t->news.kind == NEWS_CONTEXT_DONE_BELOW && !is_told_below(s, t->news.context))
                t->audience = NULL;
        return true;
}

static void tell_news(struct service *s, uint32_t *budget)
{
        const struct news *news = &s->telling.news;
        struct notice notice = {.member = signal_names[news->kind],
                        .context = news->context,
                        .leak = news->leak,
                        .below = news->kind == NEWS_CONTEXT_DONE || news->kind == NEWS_CONTEXT_DONE_BELOW};

        spend(budget, 1);
        if (s->telling.audience)
                tell_those(s, &notice, news->kind == NEWS_CONTEXT_DONE_BELOW ? may_read_no_higher : may_read,
                                budget);
}

bool service_is_telling(const struct service *s)
{
        return s->telling.audience || engine_count_news(s->engine) > 0;
}

void service_tell(struct service *s, uint32_t budget)
{
        uint32_t all = UINT32_MAX;
        struct ending *ending;

        for (int i = 0; i < 2 && engine_count_news(s->engine) > NEWS_MAX; i++) {
                if (s->telling.audience || begin_news(s))
                        tell_news(s, &all);
        }
        while (budget > 0 && (s->telling.audience || begin_news(s)))
                tell_news(s, &budget);
        if (service_is_telling(s))
                turn_again(&s->turn);
        /* Ends whose last effect was carried out: whoever waits for one has the answer in a turn. */
        while ((ending = tree_take_ended(s->tree))) {
                later_ended(s, ending);
                free(ending);
        }
}
