/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <uthash.h>

#include "daemon/bus/turns.h"
#include "util/clock.h"
#include "util/proc-reader.h"
#include "util/share.h"

#define EVENTS_AT_ONCE 64
/* How often is looked for who has come meanwhile. Many turns are shorter than that. */
#define LOOK_USEC 20
/* A turn that nobody waited for costs at most that where its time was not measured exactly. */
#define ALONE_USEC (10 * TURN_USEC)

TAILQ_HEAD(takers, taker);

/* What one uid has, or all subordinate uids of a block together: whoever may use one may use all of them. */
struct share {
        struct turns *turns;
        uint32_t party;
        uint32_t n_ref, n_walks;
        uint32_t heap_index;
        uint64_t spent; /* in µs; only differences count */
        struct takers takers, walks;
        bool walked; /* its last turn was a walk's: now others come first */
        bool was_long;
        UT_hash_handle hh;
};

static uint32_t party_of(uid_t uid)
{
        return uid == TURNS_OF_NOBODY ? UINT32_MAX : share_party(uid);
}

static struct share *share_find(struct turns *t, uint32_t party)
{
        struct share *s;

        HASH_FIND(hh, t->shares, &party, sizeof party, s);
        return s;
}

static struct share *share_ref(struct turns *t, uint32_t party)
{
        struct share *s = share_find(t, party);

        if (s) {
                s->n_ref++;
                return s;
        }
        if (heap_reserve(&t->waiting, t->n_shares + 1) < 0)
                return NULL;
        s = calloc(1, sizeof *s);
        if (!s)
                return NULL;
        s->turns = t;
        s->party = party;
        s->n_ref = 1;
        TAILQ_INIT(&s->takers);
        TAILQ_INIT(&s->walks);
        HASH_ADD(hh, t->shares, party, sizeof s->party, s);
        if (!s->hh.tbl) {
                free(s);
                return NULL;
        }
        t->n_shares++;
        return s;
}

static void share_unref(struct share *s)
{
        if (--s->n_ref > 0)
                return;
        assert(s->heap_index == 0 && s->n_walks == 0);
        HASH_DELETE(hh, s->turns->shares, s);
        s->turns->n_shares--;
        free(s);
}

static struct takers *queue_of(struct taker *taker)
{
        return taker->is_walk ? &taker->share->walks : &taker->share->takers;
}

/* Brings the share's place among those that wait up to date. */
static void share_place(struct share *s)
{
        if (TAILQ_EMPTY(&s->takers) && TAILQ_EMPTY(&s->walks))
                heap_remove(&s->turns->waiting, s);
        else
                heap_put(&s->turns->waiting, s, s->spent);
}

int taker_init(struct taker *taker, struct turns *t, uid_t uid, void (*run)(struct taker *))
{
        return taker_init_party(taker, t, party_of(uid), run);
}

int taker_init_party(struct taker *taker, struct turns *t, uint32_t party, void (*run)(struct taker *))
{
        taker->fd = -1;
        taker->run = run;
        taker->share = share_ref(t, party);
        if (!taker->share)
                return -ENOMEM;
        if (taker->is_walk) {
                taker->share->n_walks++;
                taker->share->walked = true; /* its first part came with the call */
        }
        return 0;
}

static void stop_watching(struct taker *taker)
{
        if (taker->fd >= 0)
                (void) epoll_ctl(taker->share->turns->set.fd, EPOLL_CTL_DEL, taker->fd, NULL);
        taker->fd = -1;
}

void taker_deinit(struct taker *taker)
{
        struct share *s = taker->share;

        if (!s)
                return;
        stop_watching(taker);
        if (taker->waits) {
                TAILQ_REMOVE(queue_of(taker), taker, takers);
                share_place(s);
        }
        s->n_walks -= taker->is_walk;
        taker->share = NULL;
        share_unref(s);
}

void taker_wait(struct taker *taker)
{
        struct share *s = taker->share;

        if (taker->waits)
                return;
        taker->waits = true;
        /* Time during which it has asked for nothing is not saved up. */
        if (s->heap_index == 0 && s->spent < s->turns->spent)
                s->spent = s->turns->spent;
        TAILQ_INSERT_TAIL(queue_of(taker), taker, takers);
        share_place(s);
        if (!s->turns->is_taking)
                turn_again(&s->turns->turn);
}

int taker_watch(struct taker *taker, int fd, uint32_t events)
{
        struct epoll_event event = {.events = events, .data.ptr = taker};

        if (taker->has_hung_up || (taker->fd == fd && taker->events == events))
                return 0;
        if (epoll_ctl(taker->share->turns->set.fd, taker->fd == fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd,
                            &event) < 0)
                return -errno;
        taker->fd = fd;
        taker->events = events;
        return 0;
}

static void share_spend(struct share *s, uint64_t usec)
{
        s->spent += usec;
        share_place(s);
}

void taker_spend(struct taker *taker, uint64_t usec)
{
        share_spend(taker->share, usec);
}

void turns_spend(struct turns *t, uid_t uid, uint64_t usec)
{
        struct share *s = share_find(t, party_of(uid));

        if (s)
                share_spend(s, usec);
}

bool taker_must_pause(const struct taker *taker)
{
        return taker->share->n_walks >= TURNS_WALKS;
}

/* Asks for answers, and which sockets are ready. If they are many, the next look goes on with others. One
 * that is told of again while its taker waits is not watched until then. */
static void look(struct turns *t)
{
        static struct epoll_event events[EVENTS_AT_ONCE];
        int n;

        if (t->answers)
                t->answers(t->answers_owner);
        n = epoll_wait(t->set.fd, events, EVENTS_AT_ONCE, 0);
        for (int i = 0; i < n; i++) {
                struct taker *taker = events[i].data.ptr;

                if (events[i].events & (EPOLLHUP | EPOLLERR)) {
                        stop_watching(taker);
                        taker->has_hung_up = true;
                } else if (taker->waits) {
                        (void) taker_watch(taker, taker->fd, 0);
                }
                taker_wait(taker);
        }
}

static struct taker *next_taker(struct share *s)
{
        struct taker *walk = TAILQ_FIRST(&s->walks), *other = TAILQ_FIRST(&s->takers);
        bool is_walks = walk && (!s->walked || !other || s->n_walks >= TURNS_WALKS);

        s->walked = is_walks;
        return is_walks ? walk : other;
}

static void take_turn(struct turns *t, struct share *s)
{
        /* Where nobody else waits the time need not be exact, and this clock is cheap. But it also counts
         * what other programs do meanwhile. So it is not believed when it says that a turn was long, and the
         * next turn is measured exactly. What the reader of /proc works for it comes on top, and what it
         * has made all others wait for that. */
        bool is_exact = t->waiting.n > 1 || s->was_long;
        clockid_t clock = is_exact ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
        struct taker *taker = next_taker(s);
        uint64_t start = clock_usec(clock), waited = proc_reader_waited_usec(), took;

        t->spent = s->spent;
        s->n_ref++;
        taker->waits = false;
        TAILQ_REMOVE(queue_of(taker), taker, takers);
        taker->run(taker);
        waited = proc_reader_waited_usec() - waited;
        took = clock_usec(clock) - start + (is_exact ? waited : 0);
        s->was_long = took > ALONE_USEC;
        if (s->was_long && !is_exact)
                took = waited > ALONE_USEC ? waited : ALONE_USEC;
        s->spent += took + 1;
        share_place(s);
        share_unref(s);
}

static void take_turns(struct turns *t)
{
        uint64_t now = now_monotonic_usec(), until = now + TURNS_USEC, look_at = now + LOOK_USEC;
        struct share *s;

        t->is_taking = true;
        look(t);
        if (t->fetch)
                t->fetch(t->fetch_owner);
        while ((s = heap_first(&t->waiting))) {
                take_turn(t, s);
                now = now_monotonic_usec();
                if (now >= until)
                        break;
                /* Who has come meanwhile need not wait for all of those. */
                if (t->waiting.n > 0 && now >= look_at) {
                        look(t);
                        look_at = now_monotonic_usec() + LOOK_USEC;
                }
        }
        t->is_taking = false;
        if (heap_first(&t->waiting) || epoll_set_arm(&t->set) < 0)
                turn_again(&t->turn);
}

static int on_turn(sd_event_source *source, void *userdata)
{
        take_turns(userdata);
        return 0;
}

int turns_init(struct turns *t, sd_event *event)
{
        int r;

        *t = (struct turns){};
        heap_init(&t->waiting, offsetof(struct share, heap_index));
        r = epoll_set_init(&t->set, event, on_turn, t);
        return r < 0 ? r : turn_init(&t->turn, event, "turns", on_turn, t);
}

void turns_deinit(struct turns *t)
{
        assert(t->n_shares == 0);
        epoll_set_deinit(&t->set);
        turn_deinit(&t->turn);
        heap_deinit(&t->waiting);
}
