/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/polkit.h"
#include "daemon/bus/receive.h"
#include "daemon/bus/sender.h"
#include "daemon/bus/walk.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/proc.h"

#define WAITING_MAX 256    /* messages of one sender that wait for its credentials */
#define MESSAGE_BYTES 1024 /* that sd-bus needs for a message, beside its content */
#define FETCH_USEC 800     /* how long messages are read before the next turn */
#define READ_USEC 10       /* what it takes to read a message */
/* Others may come before a message that is given back: answers of the bus, or of polkit. */
#define DELIVERIES 16

struct waiting {
        sd_bus_message *message;
        struct charge charge;
        STAILQ_ENTRY(waiting) list;
};

struct sender {
        struct senders *all;
        struct peer *peer;
        struct taker taker;
        bool known;
        bool gone;               /* it has one more turn */
        sd_bus_message *running; /* the first that waits: given back to sd-bus, which delivers it now */
        sd_bus_slot *asking;
        STAILQ_HEAD(, waiting) waiting;
        uint32_t n_waiting;
        UT_hash_handle hh; /* by the unique name, which the peer holds */
};

static void waiting_drop(struct sender *s, struct waiting *w)
{
        STAILQ_REMOVE(&s->waiting, w, waiting, list);
        s->n_waiting--;
        s->all->n_waiting--;
        charge_deinit(&w->charge);
        sd_bus_message_unref(w->message);
        free(w);
}

static struct sender *sender_free(struct sender *s)
{
        while (!STAILQ_EMPTY(&s->waiting))
                waiting_drop(s, STAILQ_FIRST(&s->waiting));
        taker_deinit(&s->taker);
        sd_bus_slot_unref(s->asking);
        if (s->all->endpoint->service->polkit)
                polkit_peer_gone(s->all->endpoint->service->polkit, s->peer);
        HASH_DELETE(hh, s->all->by_name, s);
        peer_free(s->peer);
        free(s);
        return NULL;
}

static struct sender *sender_find(const struct senders *all, const char *name)
{
        struct sender *s;

        HASH_FIND_STR(all->by_name, name, s);
        return s;
}

static int read_gids(sd_bus_message *m, struct peer *p)
{
        const void *data;
        size_t size;
        int r;

        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, "au");
        if (r >= 0)
                r = sd_bus_message_read_array(m, 'u', &data, &size);
        if (r < 0)
                return r;
        free(p->gids);
        p->gids = malloc(size > 0 ? size : 1);
        if (!p->gids)
                return -ENOMEM;
        memcpy(p->gids, data, size);
        p->caller.gids = p->gids;
        p->caller.n_gids = size / sizeof *p->gids;
        return sd_bus_message_exit_container(m);
}

/* A new context gets the first group of the caller, but the broker does not say which one is first. /proc
 * does, but only of the process as it is now, which may run a setgid program. So the group from /proc counts
 * only if the broker has named it, too. */
static void find_first_group(struct peer *p)
{
        struct proc_status status;

        if (p->caller.n_gids == 0)
                return;
        p->caller.gid = p->gids[0];
        if (p->caller.pid <= 0 || proc_status_read(p->caller.pid, &status) < 0)
                return;
        for (size_t i = 0; i < p->caller.n_gids; i++)
                if (p->gids[i] == status.gid)
                        p->caller.gid = status.gid;
}

static int read_credential(sd_bus_message *m, const char *name, struct peer *p)
{
        uint32_t number;
        int fd, r;

        if (strcmp(name, "UnixUserID") == 0) {
                r = sd_bus_message_read(m, "v", "u", &number);
                if (r >= 0)
                        p->caller.uid = number;
        } else if (strcmp(name, "ProcessID") == 0) {
                r = sd_bus_message_read(m, "v", "u", &number);
                if (r >= 0)
                        p->caller.pid = (pid_t) number;
        } else if (strcmp(name, "ProcessFD") == 0) {
                r = sd_bus_message_read(m, "v", "h", &fd);
                if (r >= 0 && p->pidfd < 0)
                        p->pidfd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        } else if (strcmp(name, "UnixGroupIDs") == 0) {
                r = read_gids(m, p);
        } else {
                r = sd_bus_message_skip(m, "v");
        }
        return r;
}

static int read_credentials(sd_bus_message *m, struct peer *p)
{
        const char *name;
        int r;

        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = read_credential(m, name, p);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r >= 0 && p->caller.uid == (uid_t) -1)
                r = -ENODATA;
        return r;
}

/* Its turn. sd-bus gets its messages back, and delivers them once more. Of a sender that has gone, what is
 * left after that is dropped. */
static void sender_run(struct taker *taker)
{
        struct sender *s = (struct sender *) ((char *) taker - offsetof(struct sender, taker));
        uint64_t until = now_monotonic_usec() + TURN_USEC;
        sd_bus *bus = s->all->endpoint->bus;
        bool more = !STAILQ_EMPTY(&s->waiting); /* else others' turns have delivered the last one */
        struct reserve *reserve = &s->all->endpoint->service->reserve;
        bool lent = reserve_lend(reserve, s->peer->caller.uid);
        int r = 0;

        while (more) {
                if (!s->running) {
                        r = sd_bus_enqueue_for_read(bus, STAILQ_FIRST(&s->waiting)->message);
                        if (r < 0)
                                break;
                        s->running = STAILQ_FIRST(&s->waiting)->message;
                }
                for (int i = 0; i < DELIVERIES && s->running && r >= 0; i++)
                        r = sd_bus_process(bus, NULL);
                more = r >= 0 && !STAILQ_EMPTY(&s->waiting) && !taker_must_pause(taker) &&
                       now_monotonic_usec() < until;
        }
        if (s->gone)
                sender_free(s);
        else if (!STAILQ_EMPTY(&s->waiting) && sd_bus_is_open(bus) > 0) /* also where memory was short */
                taker_wait(taker);
        if (lent)
                reserve_refill(reserve);
}

static int sender_is_known(struct sender *s)
{
        int r = taker_init(&s->taker, &s->all->endpoint->service->turns, s->peer->caller.uid, sender_run);

        if (r < 0)
                return r;
        peer_read_comm(s->peer);
        find_first_group(s->peer);
        s->known = true;
        if (!STAILQ_EMPTY(&s->waiting))
                taker_wait(&s->taker);
        return 0;
}

static void sender_is_nobody(struct sender *s, int r)
{
        struct waiting *w;

        STAILQ_FOREACH (w, &s->waiting, list)
                sd_bus_reply_method_errorf(w->message, CTXD_ERROR_NO_SUCH_PROCESS,
                                "The bus does not say who you are: %s", strerror(-r));
        sender_free(s);
}

/* The answer that the sender still has its name. We have held the process of its pid since before that, so it
 * is the sender's. */
static int on_still_there(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct sender *s = userdata;
        int r;

        s->asking = sd_bus_slot_unref(s->asking);
        r = sd_bus_message_is_method_error(m, NULL) ? -ENXIO : sender_is_known(s);
        if (r < 0)
                sender_is_nobody(s, r);
        return 0;
}

static int on_credentials(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct sender *s = userdata;
        int r;

        s->asking = sd_bus_slot_unref(s->asking);
        r = sd_bus_message_is_method_error(m, NULL) ? -ENXIO : read_credentials(m, s->peer);
        if (r >= 0 && s->peer->pidfd < 0) {
                /* The broker gives no pidfd, and another process may have the sender's pid by now. */
                peer_find_process(s->peer);
                r = sd_bus_call_method_async(s->all->endpoint->bus, &s->asking, "org.freedesktop.DBus",
                                "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetNameOwner",
                                on_still_there, s, "s", s->peer->name);
                if (r >= 0)
                        return 0;
        } else if (r >= 0)
                r = sender_is_known(s);
        if (r < 0)
                sender_is_nobody(s, r);
        return 0;
}

static int refuse(sd_bus_message *m, const struct refused *refused, int r)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        error_refused(&error, refused, r);
        return sd_bus_reply_method_error(m, &error);
}

/* The bus has one queue for the calls of all, so they are read as fast as they come, and wait here. */
static int set_aside(struct sender *s, sd_bus_message *m)
{
        struct tree *t = s->all->endpoint->service->tree;
        uint64_t bytes = MESSAGE_BYTES + receive_bytes_from_bus();
        struct refused refused;
        struct waiting *w;
        struct user *user;
        int r = 0;

        if (!s->known && s->n_waiting >= WAITING_MAX)
                return sd_bus_reply_method_errorf(m, CTXD_ERROR_LIMITS_EXCEEDED,
                                "The limit on calls before the first answer is reached: %u of %d",
                                s->n_waiting, WAITING_MAX);
        w = calloc(1, sizeof *w);
        if (!w)
                return -ENOMEM;
        if (s->known) {
                taker_spend(&s->taker, READ_USEC);
                park_heard(&s->all->endpoint->service->parking, s->peer->caller.uid);
                user = user_ref(&t->users, s->peer->caller.uid);
                r = user ? tree_charge(t, &w->charge, user, RESOURCE_INCOMING, bytes, &refused) : -ENOMEM;
                user_unref(&t->users, user);
        }
        if (r < 0) {
                free(w);
                return refuse(m, &refused, r);
        }
        w->message = sd_bus_message_ref(m);
        STAILQ_INSERT_TAIL(&s->waiting, w, list);
        s->n_waiting++;
        s->all->n_waiting++;
        if (s->known)
                taker_wait(&s->taker);
        return 0;
}

static int sender_new(struct senders *all, const char *name, struct sender **ret)
{
        struct sender *s = calloc(1, sizeof *s);
        int r;

        if (!s)
                return -ENOMEM;
        STAILQ_INIT(&s->waiting);
        s->all = all;
        s->peer = peer_new(all->endpoint, name);
        if (!s->peer) {
                free(s);
                return -ENOMEM;
        }
        HASH_ADD_KEYPTR(hh, all->by_name, s->peer->name, strlen(s->peer->name), s);
        if (!s->hh.tbl) {
                peer_free(s->peer);
                free(s);
                return -ENOMEM;
        }
        r = sd_bus_call_method_async(all->endpoint->bus, &s->asking, "org.freedesktop.DBus",
                        "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionCredentials",
                        on_credentials, s, "s", name);
        if (r < 0) {
                sender_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

int senders_take(struct senders *all, sd_bus_message *m)
{
        struct polkit *polkit = all->endpoint->service->polkit;
        const char *name = sd_bus_message_get_sender(m);
        struct sender *s;
        uint8_t type;
        int r = 0;

        if (sd_bus_message_get_type(m, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL || !name) {
                (void) receive_bytes_from_bus(); /* its bytes are not those of the next call */
                return 0;
        }
        s = sender_find(all, name);
        if (!s)
                r = sender_new(all, name, &s);
        if (r < 0)
                return r;
        if (s->running == m) {
                if (polkit)
                        polkit_take(polkit, m);
                s->running = NULL;
                waiting_drop(s, STAILQ_FIRST(&s->waiting));
        } else if (!(polkit && polkit_take(polkit, m)) && !walk_has_counted(s->peer, m)) {
                r = set_aside(s, m);
                return r < 0 ? r : 1;
        }
        return polkit ? polkit_filter(polkit, s->peer, m) : 0;
}

struct peer *senders_peer(const struct senders *all, const char *name)
{
        const struct sender *s = name ? sender_find(all, name) : NULL;

        return s && s->known ? s->peer : NULL;
}

void senders_forget(struct senders *all, const char *name)
{
        struct sender *s = sender_find(all, name);

        if (s && s->known && !STAILQ_EMPTY(&s->waiting))
                s->gone = true;
        else if (s)
                sender_free(s);
}

void senders_fetch(struct senders *all)
{
        uint64_t until = all->n_waiting > 0 ? now_monotonic_usec() + FETCH_USEC : 0;

        while (all->n_waiting > 0 && sd_bus_process(all->endpoint->bus, NULL) > 0 &&
                        now_monotonic_usec() < until)
                ;
}

void senders_clear(struct senders *all)
{
        while (all->by_name)
                sender_free(all->by_name);
}
