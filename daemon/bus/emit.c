/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Signals. They are not broadcast, because a bus policy cannot filter by content. Each goes to the peers that
 * have subscribed to a prefix of the path and may read the context.
 *
 * One ContextDone for the root of a cancel stands for all contexts below it. So a subscription below that
 * root gets it, too. A peer that may not read the root is told of the contexts below it that it may read. */

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

static const char *const err_names[] = {[PROBE_LEAK_BLOCKED] = "blocked", [PROBE_LEAK_IGNORING] = "ignoring"};
static const char *const backend_names[] = {
                [PROBE_BACKEND_OFF] = "off", [PROBE_BACKEND_PROC] = "proc", [PROBE_BACKEND_BPF] = "bpf"};

/* The fields of a report have the same names as in the journal. */
int message_append_leak(sd_bus_message *m, const struct context *c, const struct leak *l)
{
        char reference[CTXD_PATH_MAX + 1];
        int r;

        r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}",
                        "CTXD_CONTEXT", "s", context_path(c, reference), "CTXD_CONTEXT_ID", "t", c->id,
                        "CTXD_ERR", "s", context_err(c), "CTXD_CAUSE", "s", context_cause(c, NULL),
                        "CTXD_LEAK", "s",
                        l->kind < ELEMENTSOF(err_names) && err_names[l->kind] ? err_names[l->kind] : "",
                        "CTXD_BACKEND", "s",
                        l->backend < ELEMENTSOF(backend_names) ? backend_names[l->backend] : "", "OBJECT_PID",
                        "u", l->pid, "CTXD_TID", "u", l->tid, "OBJECT_COMM", "s", l->comm,
                        "CTXD_SINCE_DONE_USEC", "t", l->since_done_usec, "CTXD_SYSCALL", "s", l->syscall_text,
                        "CTXD_WAITS_ON", "s", l->waits_on, "CTXD_WHY", "s", l->why, "CTXD_STACK", "s",
                        l->stack, "CTXD_KERNEL_STACK", "s", l->kernel_stack, "CTXD_COUNT", "t", l->count);
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
        const struct context *c = notice->context;
        int r;

        r = sd_bus_message_new_signal(
                        p->endpoint->bus, &m, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, notice->member);
        if (r >= 0)
                r = sd_bus_message_set_destination(m, p->name);
        if (r >= 0)
                r = sd_bus_message_append(m, "st", path, c->id);
        if (r >= 0 && notice->leak)
                r = message_append_leak(m, c, notice->leak);
        else if (r >= 0 && strcmp(notice->member, "ContextDone") == 0)
                r = sd_bus_message_append(m, "ss", context_err(c), context_cause(c, NULL));
        if (r >= 0)
                r = sd_bus_send(p->endpoint->bus, m, NULL);
        p->endpoint->sent(p->endpoint);
        return r;
}

/* Sends the news once to each peer for which hears() says yes. The subscriptions of one peer are next to each
 * other. */
static void tell_those(struct service *s, const struct notice *notice,
                bool (*hears)(const struct service *s, const struct notice *notice, const struct peer *p))
{
        struct subscription *sub, *next;
        char path[CTXD_PATH_MAX + 1];
        struct peer *told = NULL;

        if (LIST_EMPTY(&s->subscriptions))
                return;
        context_path(notice->context, path);
        for (sub = LIST_FIRST(&s->subscriptions); sub; sub = next) {
                int r;

                next = LIST_NEXT(sub, all);
                if (sub->peer == told ||
                                (!path_has_prefix(path, sub->prefix) &&
                                                !(notice->below && path_has_prefix(sub->prefix, path))))
                        continue;
                if (!hears(s, notice, sub->peer))
                        continue;
                told = sub->peer;
                r = send_notice(notice, path, sub->peer);
                if (r < 0)
                        log_debug("A signal to %s was lost: %s", sub->peer->name, strerror(-r));
        }
}

static bool may_read(const struct service *s, const struct notice *notice, const struct peer *p)
{
        return tree_allows(s->tree, &p->caller, notice->context, VERB_LOOK);
}

/* For a peer that may not read the root of a cancel. It is told of the topmost contexts that it may read
 * below the root; each of them stands for all below it. */
static bool may_read_no_higher(const struct service *s, const struct notice *notice, const struct peer *p)
{
        const struct context *origin = context_origin(notice->context);

        if (!may_read(s, notice, p))
                return false;
        for (const struct context *c = notice->context; c != origin;) {
                c = c->parent;
                if (tree_allows(s->tree, &p->caller, c, VERB_LOOK))
                        return false;
        }
        return true;
}

/* So many contexts are looked at in this way for one cancel. Else a subtree of a million different owners and
 * modes would hold everybody up. */
#define LOOKS_BELOW_MAX 100000

/* Counts the subscriptions of peers that may not read the root. Mostly there are none, and then nothing below
 * the root has to be looked at. */
static void blind_count(struct service *s, const struct context *origin)
{
        const struct subscription *sub;

        s->below.origin_id = origin->id;
        s->below.looks = s->below.n_blind = s->below.n_subscriptions = 0;
        LIST_FOREACH (sub, &s->subscriptions, all) {
                s->below.n_subscriptions++;
                s->below.n_blind += !tree_allows(s->tree, &sub->peer->caller, origin, VERB_LOOK);
        }
}

static void tell_done_below(struct service *s, struct context *c)
{
        const struct context *origin = context_origin(c);

        if (s->below.origin_id != origin->id)
                blind_count(s, origin);
        if (s->below.n_blind == 0 || s->below.looks > LOOKS_BELOW_MAX)
                return;
        s->below.looks += s->below.n_subscriptions;
        tell_those(s, &(struct notice){.member = "ContextDone", .context = c, .below = true},
                        may_read_no_higher);
}

static void tell_one(struct service *s, const struct news *news)
{
        struct notice notice = {.context = news->context, .leak = news->leak};

        switch (news->kind) {
        case NEWS_CONTEXT_NEW:
                notice.member = "ContextNew";
                break;
        case NEWS_CONTEXT_DONE:
                notice.member = "ContextDone";
                notice.below = true;
                s->below.origin_id = 0;
                break;
        case NEWS_CONTEXT_DONE_BELOW:
                tell_done_below(s, news->context);
                return;
        case NEWS_CONTEXT_REMOVED:
                notice.member = "ContextRemoved";
                break;
        case NEWS_LEAK_FOUND:
                notice.member = "LeakFound";
                break;
        case NEWS_LEAK_RESOLVED:
        default:
                notice.member = "LeakResolved";
                break;
        }
        tell_those(s, &notice, may_read);
}

void service_tell(struct service *s)
{
        struct ending *ending;
        struct news news;

        while (engine_take_news(s->engine, &news))
                if (!LIST_EMPTY(&s->subscriptions))
                        tell_one(s, &news);
        /* Ends whose last effect was carried out: whoever waits for one has the answer now. */
        while ((ending = tree_take_ended(s->tree))) {
                later_ended(s, ending);
                free(ending);
        }
}

static struct subscription *find_subscription(const struct peer *p, const char *prefix)
{
        struct subscription *s;

        LIST_FOREACH (s, &p->subscriptions, of_peer)
                if (strcmp(s->prefix, prefix) == 0)
                        return s;
        return NULL;
}

/* Reads a prefix as a path without an id. No context of that name has to exist. */
static int read_prefix(struct request *q, struct reference *ret)
{
        struct refused refused = {.reason = REFUSED_NAME};
        const char *text;
        int r;

        r = sd_bus_message_read(q->message, "s", &text);
        if (r < 0)
                return error_malformed(q->error, r);
        if (text[0] == '\0')
                text = "/";
        r = reference_parse(text, q->caller.uid, false, ret, &refused.detail);
        if (r < 0)
                return request_refused(q, &refused, r);
        if (ret->id != 0)
                return error_invalid_args(q->error, "A prefix is a path without an id");
        return 0;
}

void subscription_free(struct subscription *s)
{
        LIST_REMOVE(s, all);
        LIST_REMOVE(s, of_peer);
        s->peer->n_subscriptions--;
        charge_deinit(&s->charge);
        free(s);
}

static int subscription_new(struct request *q, const char *prefix)
{
        struct tree *t = q->service->tree;
        struct refused refused = {};
        struct peer *p = q->peer;
        struct subscription *s;
        struct user *user;
        int r;

        s = calloc(1, sizeof *s + strlen(prefix) + 1);
        if (!s)
                return -ENOMEM;
        user = user_ref(&t->users, p->caller.uid);
        r = user ? tree_charge(t, &s->charge, user, RESOURCE_SUBSCRIPTIONS, 1, &refused) : -ENOMEM;
        user_unref(&t->users, user);
        if (r < 0) {
                free(s);
                return r == -EDQUOT ? error_refused(q->error, &refused, r) : r;
        }
        s->peer = p;
        strcpy(s->prefix, prefix);
        if (LIST_EMPTY(&p->subscriptions))
                LIST_INSERT_HEAD(&q->service->subscriptions, s, all);
        else
                LIST_INSERT_AFTER(LIST_FIRST(&p->subscriptions), s, all);
        LIST_INSERT_HEAD(&p->subscriptions, s, of_peer);
        p->n_subscriptions++;
        return 0;
}

int verb_subscribe(struct request *q)
{
        struct peer *p = q->peer;
        struct reference prefix;
        int r;

        r = read_prefix(q, &prefix);
        if (r < 0)
                return r;
        if (!find_subscription(p, prefix.path)) {
                if (p->n_subscriptions >= PEER_SUBSCRIPTIONS_MAX)
                        return sd_bus_error_setf(q->error, CTXD_ERROR_LIMITS_EXCEEDED,
                                        "The limit on subscriptions is reached: %u of %d in use by this "
                                        "connection",
                                        p->n_subscriptions, PEER_SUBSCRIPTIONS_MAX);
                r = subscription_new(q, prefix.path);
                if (r < 0)
                        return r;
        }
        return sd_bus_reply_method_return(q->message, NULL);
}

int verb_unsubscribe(struct request *q)
{
        struct reference prefix;
        struct subscription *s;
        int r;

        r = read_prefix(q, &prefix);
        if (r < 0)
                return r;
        s = find_subscription(q->peer, prefix.path);
        if (!s)
                return error_invalid_args(q->error, "This connection has no subscription to %s", prefix.path);
        subscription_free(s);
        return sd_bus_reply_method_return(q->message, NULL);
}
