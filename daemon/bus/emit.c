/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Signals. They are not broadcast, since a bus policy cannot filter by content: each goes to those who subscribed to
 * a prefix of the path and may read the context. One ContextDone for the root of a cancel stands for all below it,
 * so a subscription below that root hears of it, too; who may not read the root hears of what they may read below. */

#include <errno.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/later.h"
#include "util/cleanup.h"
#include "proto/path.h"
#include "util/log.h"
#include "proto/probe-record.h"

/* "a" is below or the same as "prefix". */
static bool path_has_prefix(const char *path, const char *prefix)
{
        size_t n = strlen(prefix);

        return strcmp(prefix, "/") == 0 ||
               (strncmp(path, prefix, n) == 0 && (path[n] == '\0' || path[n] == '/'));
}

static const char *const err_names[] = {[PROBE_LEAK_BLOCKED] = "blocked", [PROBE_LEAK_IGNORING] = "ignoring"};
static const char *const backend_names[] = {
                [PROBE_BACKEND_OFF] = "off", [PROBE_BACKEND_PROC] = "proc", [PROBE_BACKEND_BPF] = "bpf"};

/* The report's fields by the journal's names, so that both read alike. */
int append_leak(sd_bus_message *m, const struct context *c, const struct leak *l)
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
                                "CTXD_RESOLVED", "b", (int) l->resolved);
        if (r >= 0 && l->resolved)
                r = sd_bus_message_append(m, "{sv}", "CTXD_RESOLVED_USEC", "t", l->resolved_usec);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

struct news {
        const char *member;
        struct context *context;
        const struct leak *leak;
        bool below; /* also for subscriptions below the context */
};

static int send_news(const struct news *news, const char *path, struct peer *p)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const struct context *c = news->context;
        int r;

        r = sd_bus_message_new_signal(
                        p->endpoint->bus, &m, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, news->member);
        if (r >= 0)
                r = sd_bus_message_set_destination(m, p->name);
        if (r >= 0)
                r = sd_bus_message_append(m, "st", path, c->id);
        if (r >= 0 && news->leak)
                r = append_leak(m, c, news->leak);
        else if (r >= 0 && strcmp(news->member, "ContextDone") == 0)
                r = sd_bus_message_append(m, "ss", context_err(c), context_cause(c, NULL));
        if (r >= 0)
                r = sd_bus_send(p->endpoint->bus, m, NULL);
        p->endpoint->sent(p->endpoint);
        return r;
}

/* Once to each peer, whose subscriptions stand side by side, for which hears() says yes. */
static void tell_those(struct service *s, const struct news *news,
                bool (*hears)(const struct service *s, const struct news *news, const struct peer *p))
{
        struct subscription *sub, *next;
        char path[CTXD_PATH_MAX + 1];
        struct peer *told = NULL;

        if (LIST_EMPTY(&s->subscriptions))
                return;
        context_path(news->context, path);
        for (sub = LIST_FIRST(&s->subscriptions); sub; sub = next) {
                int r;

                next = LIST_NEXT(sub, all);
                if (sub->peer == told ||
                                (!path_has_prefix(path, sub->prefix) &&
                                                !(news->below && path_has_prefix(sub->prefix, path))))
                        continue;
                if (!hears(s, news, sub->peer))
                        continue;
                told = sub->peer;
                r = send_news(news, path, sub->peer);
                if (r < 0)
                        log_debug("A signal to %s was lost: %s", sub->peer->name, strerror(-r));
        }
}

static bool may_read(const struct service *s, const struct news *news, const struct peer *p)
{
        return tree_allows(s->tree, &p->caller, news->context, VERB_LOOK);
}

static void tell(struct service *s, const struct news *news)
{
        tell_those(s, news, may_read);
}

/* Who may not read the root of a cancel is told of what they may read below it: of the topmost ones, each of which
 * stands for all below it. */
static bool may_read_no_higher(const struct service *s, const struct news *news, const struct peer *p)
{
        const struct context *origin = context_origin(news->context);

        if (!may_read(s, news, p))
                return false;
        for (const struct context *c = news->context; c != origin;) {
                c = c->parent;
                if (tree_allows(s->tree, &p->caller, c, VERB_LOOK))
                        return false;
        }
        return true;
}

/* Looks of that kind for one cancel, so that a subtree of a million different owners and modes holds nobody up. */
#define LOOKS_BELOW_MAX 100000

/* How many may not read the root: mostly none, and then nobody has to be looked for below it. */
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

static void on_done_below(void *userdata, struct context *c)
{
        const struct context *origin = context_origin(c);
        struct service *s = userdata;

        if (LIST_EMPTY(&s->subscriptions))
                return;
        if (s->below.origin_id != origin->id)
                blind_count(s, origin);
        if (s->below.n_blind == 0 || s->below.looks > LOOKS_BELOW_MAX)
                return;
        s->below.looks += s->below.n_subscriptions;
        tell_those(s, &(struct news){.member = "ContextDone", .context = c, .below = true},
                        may_read_no_higher);
}

static void on_new(void *userdata, struct context *c)
{
        tell(userdata, &(struct news){.member = "ContextNew", .context = c});
}

static void on_done(void *userdata, struct context *c)
{
        ((struct service *) userdata)->below.origin_id = 0;
        tell(userdata, &(struct news){.member = "ContextDone", .context = c, .below = true});
}

static void on_removed(void *userdata, struct context *c)
{
        tell(userdata, &(struct news){.member = "ContextRemoved", .context = c});
}

static void on_leak_found(void *userdata, struct context *c, const struct leak *leak)
{
        tell(userdata, &(struct news){.member = "LeakFound", .context = c, .leak = leak});
}

static void on_leak_resolved(void *userdata, struct context *c, const struct leak *leak)
{
        tell(userdata, &(struct news){.member = "LeakResolved", .context = c, .leak = leak});
}

static void on_ended(void *userdata, const struct ending *ending)
{
        later_ended(userdata, ending);
}

const struct effects_sink service_sink = {
                .context_new = on_new,
                .context_done = on_done,
                .context_done_below = on_done_below,
                .context_removed = on_removed,
                .ended = on_ended,
                .leak_found = on_leak_found,
                .leak_resolved = on_leak_resolved,
};

static struct subscription *find_subscription(const struct peer *p, const char *prefix)
{
        struct subscription *s;

        LIST_FOREACH (s, &p->subscriptions, of_peer)
                if (strcmp(s->prefix, prefix) == 0)
                        return s;
        return NULL;
}

/* A prefix need not exist (yet): it is read as a path, without an id. */
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
