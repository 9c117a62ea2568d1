/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "daemon/world/thread-page.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "proto/thread-page.h"

/* What a thread page says is believed as far as it goes: a tid counts if it is a thread of that very process, and a
 * context if the process has named it before, by a call that asked whether it may. So a process can only lie about
 * itself, and then keeps what it could have kept by telling the truth: a done context undrained, and a name in a
 * report.
 *
 * The page is read when a context that it may speak of becomes done, once for all of one cancel, and when the process
 * kicks; never otherwise. Kicks cost the process nothing, and a look at a page full of garbage takes some time: so the
 * processes of one uid stand in a queue, and get no more than a twentieth of the daemon's time together. */

#define SHARE 20
#define PAUSE_MIN_USEC 1000

struct kicks {
        struct effects *effects;
        uid_t uid;
        unsigned n_pages;
        TAILQ_HEAD(, threads) waiting;
        sd_event_source *timer;
        uint64_t free_usec; /* CLOCK_MONOTONIC: when the next look may be */
        UT_hash_handle hh;
};

static bool is_thread_of(pid_t pid, uint32_t tid)
{
        /* EPERM: it is there, and another's to signal. */
        return syscall(SYS_tgkill, pid, (pid_t) tid, 0) == 0 || errno == EPERM;
}

/* A member of the context by its process is counted there. */
static bool is_member_anyway(struct effects *e, const struct thread_entrance *t)
{
        uint32_t policy;

        return e->membership.backend->look_up(e, t->threads->process, &policy) == t->slot;
}

static int by_context(const void *left, const void *right)
{
        const struct seen *a = left, *b = right;

        if (a->context_id != b->context_id)
                return a->context_id < b->context_id ? -1 : 1;
        return (a->tid > b->tid) - (a->tid < b->tid);
}

void threads_unsee(struct threads *t)
{
        if (!t->seen)
                return;
        LIST_REMOVE(t, read);
        free(t->seen);
        t->seen = NULL;
        t->n_seen = 0;
}

/* One copy of the page, of which nothing is looked at twice. */
static int page_read(struct threads *t)
{
        static struct thread_page page;
        struct effects *e = t->effects;
        size_t n = 0, kept = 0;
        struct seen *seen;

        if (pread(t->page, &page, sizeof page, 0) != sizeof page)
                return -EIO;
        for (size_t i = 0; i < THREAD_PAGE_ENTRIES; i++)
                n += page.entries[i].tid != 0 && page.entries[i].context_id != 0;
        seen = calloc(n + 1, sizeof *seen);
        if (!seen)
                return -ENOMEM;
        n = 0;
        for (size_t i = 0; i < THREAD_PAGE_ENTRIES; i++)
                if (page.entries[i].tid != 0 && page.entries[i].context_id != 0)
                        seen[n++] = (struct seen){page.entries[i].context_id, page.entries[i].tid};
        qsort(seen, n, sizeof *seen, by_context);
        for (size_t i = 0; i < n; i++) /* a thread is in a context once */
                if (kept == 0 || by_context(&seen[kept - 1], &seen[i]) != 0)
                        seen[kept++] = seen[i];
        threads_unsee(t);
        t->seen = seen;
        t->n_seen = kept;
        t->seen_serial = e->look_serial;
        LIST_INSERT_HEAD(&e->pages_read, t, read);
        return 0;
}

void threads_look_again(struct effects *e)
{
        e->look_serial++;
        while (!LIST_EMPTY(&e->pages_read))
                threads_unsee(LIST_FIRST(&e->pages_read));
}

/* Where those of a context begin. */
static size_t seen_first(const struct threads *t, uint64_t context_id)
{
        size_t low = 0, high = t->n_seen;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (t->seen[middle].context_id < context_id)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* Counts those who are in it. */
static void entrance_look(struct effects *e, struct thread_entrance *entrance)
{
        const struct threads *t = entrance->threads;
        uint64_t id = entrance->slot->context_id;
        uint32_t n = 0, tids = 0;

        for (size_t i = seen_first(t, id); i < t->n_seen && t->seen[i].context_id == id; i++)
                if (is_thread_of(t->process->identity.pid, t->seen[i].tid)) {
                        n++;
                        tids = tids * 31 + t->seen[i].tid;
                }
        if (n > 0 && is_member_anyway(e, entrance))
                n = tids = 0;
        entrance->slot->n_threads += n - entrance->n;
        entrance->n = n;
        entrance->tids = tids;
}

uint32_t threads_look(struct effects *e, struct member_slot *slot)
{
        struct thread_entrance *entrance;

        if (!e->draining)
                threads_look_again(e);
        LIST_FOREACH (entrance, &slot->entrances, by_slot) {
                struct threads *t = entrance->threads;

                if (t->seen || page_read(t) >= 0)
                        entrance_look(e, entrance); /* else as many as before */
        }
        if (!e->draining)
                threads_look_again(e);
        return slot->n_threads;
}

int threads_each(struct effects *e, struct member_slot *slot,
                int (*cb)(void *userdata, struct process *p, uint32_t tid, uint64_t since_usec),
                void *userdata)
{
        struct thread_entrance *t;
        struct thread_page *page;
        int r = 0;

        if (LIST_EMPTY(&slot->entrances))
                return 0;
        page = malloc(sizeof *page);
        if (!page)
                return -ENOMEM;
        LIST_FOREACH (t, &slot->entrances, by_slot) {
                struct process *p = t->threads->process;

                if (is_member_anyway(e, t) || pread(t->threads->page, page, sizeof *page, 0) != sizeof *page)
                        continue;
                for (size_t i = 0; i < THREAD_PAGE_ENTRIES && r >= 0; i++) {
                        const struct thread_entry *entry = &page->entries[i];

                        if (entry->context_id == slot->context_id && entry->tid != 0 &&
                                        is_thread_of(p->identity.pid, entry->tid))
                                r = cb(userdata, p, entry->tid, entry->since_usec);
                }
                if (r < 0)
                        break;
        }
        free(page);
        return r;
}

static void process_look(struct threads *t)
{
        struct effects *e = t->effects;
        struct thread_entrance *entrance;

        if (page_read(t) < 0)
                return;
        LIST_FOREACH (entrance, &t->entrances, by_process) {
                struct member_slot *slot = entrance->slot;

                if (!slot->context || !context_is_done(slot->context) || !slot->context->busy)
                        continue;
                entrance_look(e, entrance);
                if (slot->n_threads == 0)
                        membership_look(e, slot);
                if (entrance->tids == entrance->told && !entrance->is_new)
                        continue;
                entrance->is_new = false;
                entrance->told = entrance->tids;
                probe_link_threads(e, slot);
        }
        threads_unsee(t);
}

static int on_turn(sd_event_source *source, uint64_t usec, void *userdata);

static void arm(struct kicks *k)
{
        if (TAILQ_EMPTY(&k->waiting))
                return;
        (void) sd_event_source_set_time(k->timer, k->free_usec);
        (void) sd_event_source_set_enabled(k->timer, SD_EVENT_ONESHOT);
}

static void serve(struct kicks *k)
{
        struct effects *e = k->effects;
        struct threads *t = TAILQ_FIRST(&k->waiting);
        uint64_t begin = now_monotonic_usec(), end, pause;

        TAILQ_REMOVE(&k->waiting, t, waiting);
        t->is_waiting = false;
        process_look(t);
        (void) sd_event_source_set_enabled(t->source, SD_EVENT_ON);
        end = now_monotonic_usec();
        pause = (end - begin) * (SHARE - 1);
        k->free_usec = end + (pause > PAUSE_MIN_USEC ? pause : PAUSE_MIN_USEC);
        arm(k);
        effects_event(e);
}

static int on_turn(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct kicks *k = userdata;

        if (!TAILQ_EMPTY(&k->waiting))
                serve(k);
        return 0;
}

static int on_kick(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct threads *t = userdata;
        struct kicks *k = t->kicks;
        bool first = TAILQ_EMPTY(&k->waiting);
        uint64_t value;
        struct iovec iov = {&value, sizeof value};

        /* The process shares the description: it can take O_NONBLOCK away, and the count before us. */
        (void) preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF); /* until it was looked at */
        TAILQ_INSERT_TAIL(&k->waiting, t, waiting);
        t->is_waiting = true;
        if (!first)
                return 0;
        if (now_monotonic_usec() >= k->free_usec)
                serve(k);
        else
                arm(k);
        return 0;
}

static void kicks_unref(struct kicks *k)
{
        if (--k->n_pages > 0)
                return;
        HASH_DEL(k->effects->kicks, k);
        sd_event_source_disable_unref(k->timer);
        free(k);
}

static int kicks_ref(struct effects *e, uid_t uid, struct kicks **ret)
{
        struct kicks *k;
        int r;

        HASH_FIND(hh, e->kicks, &uid, sizeof uid, k);
        if (!k) {
                k = calloc(1, sizeof *k);
                if (!k)
                        return -ENOMEM;
                k->effects = e;
                k->uid = uid;
                TAILQ_INIT(&k->waiting);
                r = sd_event_add_time(e->event, &k->timer, CLOCK_MONOTONIC, UINT64_MAX, 1, on_turn, k);
                if (r >= 0)
                        r = sd_event_source_set_enabled(k->timer, SD_EVENT_OFF);
                if (r >= 0) {
                        HASH_ADD(hh, e->kicks, uid, sizeof k->uid, k);
                        r = k->hh.tbl ? 0 : -ENOMEM;
                }
                if (r < 0) {
                        sd_event_source_disable_unref(k->timer);
                        free(k);
                        return r;
                }
        }
        k->n_pages++;
        *ret = k;
        return 0;
}

int kicks_join(struct threads *t)
{
        int r = kicks_ref(t->effects, t->process->uid, &t->kicks);

        return r < 0 ? r : sd_event_add_io(t->effects->event, &t->source, t->kick, EPOLLIN, on_kick, t);
}

void kicks_leave(struct threads *t)
{
        if (!t->kicks)
                return;
        if (t->is_waiting)
                TAILQ_REMOVE(&t->kicks->waiting, t, waiting);
        t->is_waiting = false;
        kicks_unref(t->kicks);
        t->kicks = NULL;
}
