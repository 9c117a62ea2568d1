/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "daemon/world/membership/membership.h"
#include "daemon/world/thread-page-internal.h"
#include "proto/thread-page.h"
#include "util/clock.h"

/* Reads thread pages. A process writes its page itself, so the daemon believes only some of it. A tid counts
 * if it is a thread of that process. A context counts if the process has asked for it before, by a call that
 * is authorised. So a process can lie only about itself, and gains nothing by that. It can keep a done
 * context from draining, and get its own name into a report. It can do both without a lie.
 *
 * A page is read when somebody asks for the members of a context that its process may enter, when such a
 * context becomes done (once for all contexts of a cancel), and when the process kicks the daemon by its
 * eventfd. A kick costs the process nothing, but to read a page full of garbage takes the daemon some time.
 * So the processes of one uid wait in a queue, and together they get at most a twentieth of the daemon's
 * time. */

#define SHARE 20
#define PAUSE_MIN_USEC 1000

/* The kicks of one uid's processes. */

struct kicks {
        struct thread_pages *pages;
        uid_t uid;
        unsigned n_pages;
        TAILQ_HEAD(, threads) waiting; /* those that have kicked, and were not looked at yet */
        sd_event_source *timer;
        uint64_t free_usec; /* CLOCK_MONOTONIC: not before this comes the next look */
        UT_hash_handle hh;
};

static bool is_thread_of(pid_t pid, uint32_t tid)
{
        /* EPERM: the thread exists, but we may not signal it. */
        return syscall(SYS_tgkill, pid, (pid_t) tid, 0) == 0 || errno == EPERM;
}

/* Whether the process is a member of the context. Then its threads are counted as members, and not once more
 * here. */
static bool is_member_anyway(const struct thread_entrance *t)
{
        struct anchor *anchor;
        uint32_t index;

        return membership_look_up(t->threads->pages->membership, t->threads->process, &anchor, &index) > 0 &&
               anchor == t->anchor;
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

/* Copies the page and notes its entries, sorted. The process may write meanwhile, so nothing is read from the
 * page a second time. */
static int page_read(struct threads *t)
{
        static struct thread_page page;
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
        /* A thread counts only once in a context. */
        for (size_t i = 0; i < n; i++)
                if (kept == 0 || by_context(&seen[kept - 1], &seen[i]) != 0)
                        seen[kept++] = seen[i];
        threads_unsee(t);
        t->seen = seen;
        t->n_seen = kept;
        LIST_INSERT_HEAD(&t->pages->seen, t, read);
        return 0;
}

void thread_pages_forget(struct thread_pages *tp)
{
        while (!LIST_EMPTY(&tp->seen))
                threads_unsee(LIST_FIRST(&tp->seen));
}

/* The index of the first entry of a context. */
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

/* Counts the threads of one process that are in the context. */
static void entrance_look(struct thread_entrance *entrance)
{
        const struct threads *t = entrance->threads;
        uint64_t id = entrance->anchor->context_id;
        uint32_t n = 0, tids = 0;

        for (size_t i = seen_first(t, id); i < t->n_seen && t->seen[i].context_id == id; i++)
                if (is_thread_of(process_pid(t->process), t->seen[i].tid)) {
                        n++;
                        tids = tids * 31 + t->seen[i].tid;
                }
        if (n > 0 && is_member_anyway(entrance))
                n = tids = 0;
        entrance->anchor->n_threads += n - entrance->n;
        entrance->n = n;
        entrance->tids = tids;
}

uint32_t threads_look(struct thread_pages *tp, struct anchor *anchor)
{
        struct thread_entrance *entrance;

        LIST_FOREACH (entrance, &anchor->entrances, by_context) {
                struct threads *t = entrance->threads;

                /* If the page cannot be read, the last count stays. */
                if (t->seen || page_read(t) >= 0)
                        entrance_look(entrance);
        }
        return anchor->n_threads;
}

struct thread_list {
        struct entered_thread *threads;
        size_t n, n_allocated;
};

static int list_add(struct thread_list *l, struct process *p, const struct thread_entry *entry)
{
        if (l->n == l->n_allocated) {
                size_t n = l->n_allocated > 0 ? l->n_allocated * 2 : 16;
                struct entered_thread *larger = reallocarray(l->threads, n, sizeof *larger);

                if (!larger)
                        return -ENOMEM;
                l->threads = larger;
                l->n_allocated = n;
        }
        l->threads[l->n++] = (struct entered_thread){p, entry->tid, entry->since_usec};
        return 0;
}

int threads_list(struct thread_pages *tp, const struct anchor *anchor, struct entered_thread **ret,
                size_t *ret_n)
{
        const struct thread_entrance *t;
        struct thread_page *page = NULL;
        struct thread_list l = {};
        int r = 0;

        LIST_FOREACH (t, &anchor->entrances, by_context) {
                struct process *p = t->threads->process;

                if (!page)
                        page = malloc(sizeof *page);
                if (!page) {
                        r = -ENOMEM;
                        break;
                }
                if (is_member_anyway(t) || pread(t->threads->page, page, sizeof *page, 0) != sizeof *page)
                        continue;
                for (size_t i = 0; i < THREAD_PAGE_ENTRIES && r >= 0; i++) {
                        const struct thread_entry *entry = &page->entries[i];

                        if (entry->context_id == anchor->context_id && entry->tid != 0 &&
                                        is_thread_of(process_pid(p), entry->tid))
                                r = list_add(&l, p, entry);
                }
                if (r < 0)
                        break;
        }
        free(page);
        if (r < 0) {
                free(l.threads);
                return r;
        }
        *ret = l.threads;
        *ret_n = l.n;
        return 0;
}

/* The process has kicked: looks at its threads in done contexts. */
static void process_look(struct threads *t)
{
        struct facts *facts = &t->pages->world->facts;
        struct thread_entrance *entrance;

        if (page_read(t) < 0)
                return;
        LIST_FOREACH (entrance, &t->entrances, by_process) {
                struct anchor *anchor = entrance->anchor;

                if (!anchor->is_done)
                        continue;
                entrance_look(entrance);
                if (anchor->n_threads == 0)
                        fact_raise(facts, &anchor->member_left);
                if (entrance->tids == entrance->told && !entrance->is_new)
                        continue;
                entrance->is_new = false;
                entrance->told = entrance->tids;
                fact_raise(facts, &anchor->threads_changed);
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
        struct threads *t = TAILQ_FIRST(&k->waiting);
        uint64_t begin = now_monotonic_usec(), end, pause;

        TAILQ_REMOVE(&k->waiting, t, waiting);
        t->is_waiting = false;
        process_look(t);
        (void) watch_again(&t->kicked);
        end = now_monotonic_usec();
        pause = (end - begin) * (SHARE - 1);
        k->free_usec = end + (pause > PAUSE_MIN_USEC ? pause : PAUSE_MIN_USEC);
        arm(k);
        facts_wake(&k->pages->world->facts);
}

static int on_turn(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct kicks *k = userdata;

        if (!TAILQ_EMPTY(&k->waiting))
                serve(k);
        return 0;
}

static void on_kick(struct watch *w)
{
        struct threads *t = (struct threads *) ((char *) w - offsetof(struct threads, kicked));
        struct kicks *k = t->kicks;
        bool first = TAILQ_EMPTY(&k->waiting);
        uint64_t value;
        struct iovec iov = {&value, sizeof value};

        /* The process shares the description. It can clear O_NONBLOCK, and read the counter before us. */
        (void) preadv2(t->kick, &iov, 1, -1, RWF_NOWAIT);
        /* It is not watched again until the look. */
        TAILQ_INSERT_TAIL(&k->waiting, t, waiting);
        t->is_waiting = true;
        if (!first)
                return;
        if (now_monotonic_usec() >= k->free_usec)
                serve(k);
        else
                arm(k);
}

static void kicks_unref(struct kicks *k)
{
        if (--k->n_pages > 0)
                return;
        HASH_DEL(k->pages->kicks, k);
        sd_event_source_disable_unref(k->timer);
        free(k);
}

static int kicks_ref(struct thread_pages *tp, uid_t uid, struct kicks **ret)
{
        struct kicks *k;
        int r;

        HASH_FIND(hh, tp->kicks, &uid, sizeof uid, k);
        if (!k) {
                k = calloc(1, sizeof *k);
                if (!k)
                        return -ENOMEM;
                k->pages = tp;
                k->uid = uid;
                TAILQ_INIT(&k->waiting);
                r = sd_event_add_time(
                                tp->world->event, &k->timer, CLOCK_MONOTONIC, UINT64_MAX, 1, on_turn, k);
                if (r >= 0)
                        r = sd_event_source_set_enabled(k->timer, SD_EVENT_OFF);
                if (r >= 0) {
                        HASH_ADD(hh, tp->kicks, uid, sizeof k->uid, k);
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
        int r = kicks_ref(t->pages, process_uid(t->process), &t->kicks);

        t->kicked.ready = on_kick;
        return r < 0 ? r : watch_begin(t->pages->world->watches, &t->kicked, t->kick, EPOLLIN);
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
