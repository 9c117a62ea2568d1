/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus/park.h"
#include "daemon/bus/walk.h"
#include "util/clock.h"
#include "util/share.h"

/* A reply of so many bytes is long. */
#define LONG 32768
/* It waits for an empty queue so long at most: others may keep a slow bus busy for ever. */
#define PARKED_USEC 200000
/* So much of long replies goes to a bus on which several users call. It takes some 400. */
#define BYTES_OF_USEC 4
#define SHARED_USEC 1000000

static bool is_pause(const struct parking *p, uint64_t now)
{
        return now < p->until_usec && p->shared_usec > 0 && now - p->shared_usec < SHARED_USEC;
}

bool park_has_to_wait(const struct walk *w)
{
        const struct endpoint *e = w->request.endpoint;
        uint64_t now, n;

        if (w->stays || w->bytes <= LONG || !e || e->is_direct)
                return false;
        now = now_monotonic_usec();
        if (is_pause(&w->request.service->parking, now))
                return true;
        return (w->park_until == 0 || now < w->park_until) && sd_bus_get_n_queued_write(e->bus, &n) >= 0 &&
               n > 0;
}

static void look_again(struct parking *p)
{
        struct walk *w, *next;
        uint64_t now;

        for (w = TAILQ_FIRST(&p->walks); w; w = next) {
                next = TAILQ_NEXT(w, parked);
                if (park_has_to_wait(w))
                        continue;
                TAILQ_REMOVE(&p->walks, w, parked);
                w->is_parked = false;
                taker_wait(&w->taker);
        }
        if (TAILQ_EMPTY(&p->walks)) {
                (void) sd_event_source_set_enabled(p->post, SD_EVENT_OFF);
                (void) sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
        } else if (sd_event_source_get_enabled(p->timer, NULL) == 0) { /* it has come for another one */
                now = now_monotonic_usec();
                (void) sd_event_source_set_time(
                                p->timer, is_pause(p, now) ? p->until_usec : now + PARKED_USEC);
                (void) sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
        }
}

/* Something has happened: the bus may have taken all. */
static int on_post(sd_event_source *source, void *userdata)
{
        look_again(userdata);
        return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        look_again(userdata);
        return 0;
}

int park_init(struct parking *p, sd_event *event)
{
        int r;

        TAILQ_INIT(&p->walks);
        r = sd_event_add_post(event, &p->post, on_post, p);
        if (r >= 0)
                r = sd_event_source_set_enabled(p->post, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time(event, &p->timer, CLOCK_MONOTONIC, 0, 1, on_time, p);
        return r < 0 ? r : sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
}

/* The timer is for a pause in which nothing else happens, and for a bus that takes nothing. */
static void look_later(struct parking *p, uint64_t until)
{
        (void) sd_event_source_set_time(p->timer, until);
        (void) sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
        (void) sd_event_source_set_enabled(p->post, SD_EVENT_ON);
}

bool park(struct walk *w)
{
        struct service *s = w->request.service;
        struct parking *p = &s->parking;
        uint64_t now;
        bool pause;

        if (!park_has_to_wait(w))
                return false;
        now = now_monotonic_usec();
        pause = is_pause(p, now);
        if (pause || w->park_until == 0)
                w->park_until = (pause ? p->until_usec : now) + PARKED_USEC;
        look_later(p, pause ? p->until_usec : w->park_until);
        TAILQ_INSERT_TAIL(&p->walks, w, parked);
        w->is_parked = true;
        turn_again(&s->turn); /* the queue may become empty before this event is over */
        return true;
}

void park_heard(struct parking *p, uid_t uid)
{
        uint64_t now = now_monotonic_usec();
        uint32_t party = share_party(uid);

        if (party != p->party && p->heard_usec > 0 && now - p->heard_usec < SHARED_USEC)
                p->shared_usec = now;
        p->heard_usec = now;
        p->party = party;
}

void park_replies(const struct endpoint *e, uint64_t bytes)
{
        struct parking *p = &e->service->parking;
        uint64_t now;

        if (e->is_direct || bytes <= LONG)
                return;
        now = now_monotonic_usec();
        /* What was sent to one who was alone is not waited for. */
        p->until_usec = (is_pause(p, now) ? p->until_usec : now) + bytes / BYTES_OF_USEC;
}

void park_deinit(struct parking *p)
{
        p->post = sd_event_source_disable_unref(p->post);
        p->timer = sd_event_source_disable_unref(p->timer);
}
