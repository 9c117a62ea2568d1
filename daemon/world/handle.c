/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/model/user.h"
#include "daemon/world/anchor.h"
#include "daemon/world/handle.h"
#include "daemon/world/process.h"
#include "daemon/world/world.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/turn.h"

/* A handle is an eventfd that is made as a semaphore. The daemon writes the largest value that it can hold.
 * So every read gives 1, and the handle stays readable (law 27). The daemon frees its copy of a written
 * handle later, between other events, so that nobody who waits for a handle or for a reply has to wait for
 * that.
 *
 * The client shares the file description. It can fill the counter and make the description block, and then a
 * write of ours would sleep as long as the client likes. So a timer, the guard, runs while handles are
 * written. Its signal interrupts a write that sleeps; a write that does not sleep is never interrupted. A
 * handle whose counter is not 0 is readable already, so its holder has lost nothing. For a minute after that
 * the handles of this uid are written one at a time, between other events, so that no request of another user
 * is late for more than one of them.
 *
 * If a timer is due before the kernel's next tick, the kernel has to program the clock. That costs more than
 * all the rest of a cancel. So the first tick of the guard is far off, as long as nobody is hostile. */

#define GUARD_SIGNAL (SIGRTMIN + 5)
/* How long a write can sleep if nobody has made one sleep in the last minute. */
#define GUARD_FIRST_NSEC 20000000
/* How long it can sleep if somebody has. */
#define GUARD_NSEC 1000000
#define HOSTILE_USEC 60000000
/* Written handles are freed after this time, so that those who were woken can run first, also on the same
 * core. A few are freed at a time, and others are served between. If there are very many, it is done
 * sooner. */
#define TIDY_USEC 20000
#define TIDY_AT_ONCE 256
#define WRITTEN_MAX 16384

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define SPENT_MAX 64
#define HOSTILE_MAX 16

/* A handle that was given out, until it has been signalled. */
struct handle {
        struct handle_key {
                struct process *process; /* a reference */
                struct anchor *anchor;
                /* enum handle_kind; 64 bits, since the key is hashed and must have no padding */
                uint64_t kind;
        } key;
        int fd;
        struct charge charge;
        LIST_ENTRY(handle) by_context, by_process;
        bool is_queued; /* in one of the two lists of struct handles */
        bool is_written;
        LIST_ENTRY(handle) queued;
        UT_hash_handle hh;
};

struct handles {
        struct world *world;
        struct handle *table;
        LIST_HEAD(, handle) deferred; /* those of hostile uids, which are written one at a time */
        LIST_HEAD(, handle) written;  /* to be freed when there is time */
        unsigned n_written;
        struct turn write_turn, tidy_turn;
        sd_event_source *tidy_timer;
        struct {
                uid_t uid;
                uint64_t until_usec;
        } hostile[HOSTILE_MAX];
        unsigned n_hostile;
        int spent[SPENT_MAX]; /* given out readable; they are closed once they were sent */
        unsigned n_spent;
        timer_t guard;
        bool has_guard, is_armed;
        unsigned n_interrupted;
};

static void guard_tick(int signal_number) {}

static void guard_set(struct handles *hs, bool on)
{
        struct itimerspec tick = {};

        if (hs->is_armed == on)
                return;
        if (on) {
                tick.it_interval.tv_nsec = GUARD_NSEC;
                tick.it_value.tv_nsec = hs->n_hostile > 0 ? GUARD_NSEC : GUARD_FIRST_NSEC;
        }
        (void) timer_settime(hs->guard, 0, &tick, NULL);
        hs->is_armed = on;
}

/* 0: the handle is readable for ever; -EINTR: its client has filled it and made it block. */
static int handle_write(int fd)
{
        /* If a client has written to its own handle, the largest value may not fit. A smaller one is still
         * more than anybody reads. */
        static const uint64_t values[] = {UINT64_MAX - 1, UINT64_C(1) << 63, UINT64_C(1) << 32};

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                if (write(fd, &values[i], sizeof values[i]) == sizeof values[i])
                        return 0;
                if (errno == EINTR)
                        return -EINTR;
        }
        return 0;
}

static bool uid_is_hostile(struct handles *s, uid_t uid)
{
        uint64_t now;

        if (s->n_hostile == 0)
                return false;
        now = world_now_usec(s->world);
        for (unsigned i = 0; i < s->n_hostile;) {
                if (s->hostile[i].until_usec <= now)
                        s->hostile[i] = s->hostile[--s->n_hostile];
                else if (s->hostile[i].uid == uid)
                        return true;
                else
                        i++;
        }
        return false;
}

static void uid_set_hostile(struct handles *s, const struct handle *h)
{
        uid_t uid = h->charge.user->uid;
        unsigned i;

        s->n_interrupted++;
        if (uid_is_hostile(s, uid))
                return;
        i = s->n_hostile < HOSTILE_MAX ? s->n_hostile++ : s->n_interrupted % HOSTILE_MAX;
        s->hostile[i].uid = uid;
        s->hostile[i].until_usec = world_now_usec(s->world) + HOSTILE_USEC;
        log_debug("Process %d of uid %u made a write to its done handle block",
                        (int) process_pid(h->key.process), (unsigned) uid);
}

static void handle_free(struct handles *s, struct handle *h)
{
        struct anchor *anchor = h->key.anchor;

        LIST_REMOVE(h, by_context);
        LIST_REMOVE(h, by_process);
        if (h->is_queued)
                LIST_REMOVE(h, queued);
        if (h->is_written)
                s->n_written--;
        HASH_DEL(s->table, h);
        close(h->fd);
        charge_deinit(&h->charge);
        process_unref(h->key.process);
        free(h);
        if (LIST_EMPTY(&anchor->handles))
                fact_raise(&s->world->facts, &anchor->handles_closed);
}

/* The handle was written, and is freed later. */
static void handle_spend(struct handles *s, struct handle *h)
{
        charge_deinit(&h->charge);
        if (h->is_queued)
                LIST_REMOVE(h, queued);
        h->is_queued = h->is_written = true;
        LIST_INSERT_HEAD(&s->written, h, queued);
        s->n_written++;
}

static void tidy(struct handles *s, unsigned n)
{
        struct handle *h;

        while (n-- > 0 && (h = LIST_FIRST(&s->written)))
                handle_free(s, h);
}

static int tidy_run(sd_event_source *source, void *userdata)
{
        struct handles *s = userdata;

        tidy(s, TIDY_AT_ONCE);
        if (s->n_written > 0)
                turn_again(&s->tidy_turn);
        /* Their contexts may have no handle any more. */
        facts_wake(&s->world->facts);
        return 0;
}

static int tidy_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        return tidy_run(source, userdata);
}

static int deferred_run(sd_event_source *source, void *userdata)
{
        struct handles *s = userdata;
        struct handle *h = LIST_FIRST(&s->deferred);
        struct pollfd p;

        if (h) {
                /* If its client has filled it, it is readable and needs no write. */
                p = (struct pollfd){.fd = h->fd, .events = POLLIN};
                if (poll(&p, 1, 0) == 0) {
                        guard_set(s, true);
                        if (handle_write(h->fd) < 0)
                                uid_set_hostile(s, h);
                        guard_set(s, false);
                }
                handle_free(s, h);
        }
        if (!LIST_EMPTY(&s->deferred))
                turn_again(&s->write_turn);
        facts_wake(&s->world->facts);
        return 0;
}

static int handles_init(struct handles *s)
{
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = GUARD_SIGNAL};
        /* Without SA_RESTART, so that the signal interrupts a write. */
        struct sigaction action = {.sa_handler = guard_tick};
        sigset_t guard_signal;
        int r;

        sigemptyset(&guard_signal);
        sigaddset(&guard_signal, GUARD_SIGNAL);
        event.sigev_notify_thread_id = (pid_t) syscall(SYS_gettid);
        if (sigaction(GUARD_SIGNAL, &action, NULL) < 0 ||
                        timer_create(CLOCK_MONOTONIC, &event, &s->guard) < 0)
                return -errno;
        s->has_guard = true;
        r = -pthread_sigmask(SIG_UNBLOCK, &guard_signal, NULL);
        if (r >= 0)
                r = turn_init(&s->write_turn, s->world->event, "deferred-handles", deferred_run, s);
        if (r >= 0)
                r = turn_init(&s->tidy_turn, s->world->event, "tidy-handles", tidy_run, s);
        if (r >= 0)
                r = sd_event_add_time(s->world->event, &s->tidy_timer, CLOCK_MONOTONIC, UINT64_MAX,
                                TIDY_USEC / 2, tidy_time, s);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(s->tidy_timer, "tidy-handles-later");
        return sd_event_source_set_enabled(s->tidy_timer, SD_EVENT_OFF);
}

int handles_new(struct handles **ret, struct world *world)
{
        struct handles *s = calloc(1, sizeof *s);
        int r;

        if (!s)
                return -ENOMEM;
        s->world = world;
        LIST_INIT(&s->deferred);
        LIST_INIT(&s->written);
        r = handles_init(s);
        if (r < 0) {
                handles_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

struct handles *handles_free(struct handles *s)
{
        if (!s)
                return NULL;
        assert(!s->table);
        handles_close_spent(s);
        turn_deinit(&s->write_turn);
        turn_deinit(&s->tidy_turn);
        sd_event_source_disable_unref(s->tidy_timer);
        if (s->has_guard) {
                guard_set(s, false);
                timer_delete(s->guard);
        }
        free(s);
        return NULL;
}

void handles_signal(struct handles *s, struct anchor *anchor, enum handle_kind kind)
{
        struct handle *h;

        LIST_FOREACH (h, &anchor->handles, by_context) {
                if (h->key.kind != kind || h->is_queued)
                        continue;
                if (s->n_hostile > 0 && uid_is_hostile(s, h->charge.user->uid)) {
                        h->is_queued = true;
                        LIST_INSERT_HEAD(&s->deferred, h, queued);
                        turn_again(&s->write_turn);
                        continue;
                }
                guard_set(s, true);
                if (handle_write(h->fd) < 0)
                        uid_set_hostile(s, h);
                handle_spend(s, h);
        }
}

void handles_disarm(struct handles *s)
{
        guard_set(s, false);
}

void handles_tidy(struct handles *s, bool is_busy)
{
        if (s->n_written > WRITTEN_MAX) {
                turn_again(&s->tidy_turn);
        } else if (s->n_written > 0 && !is_busy && sd_event_source_get_enabled(s->tidy_timer, NULL) == 0) {
                (void) sd_event_source_set_time_relative(s->tidy_timer, TIDY_USEC);
                (void) sd_event_source_set_enabled(s->tidy_timer, SD_EVENT_ONESHOT);
        }
}

bool handles_give_back(struct handles *s)
{
        bool any = s->n_written > 0;

        tidy(s, UINT_MAX);
        return any;
}

void handles_close_spent(struct handles *s)
{
        while (s->n_spent > 0)
                close(s->spent[--s->n_spent]);
}

static struct handle *handle_find(
                struct handles *s, struct process *p, struct anchor *anchor, enum handle_kind kind)
{
        struct handle *h;
        struct handle_key key = {p, anchor, kind};

        HASH_FIND(hh, s->table, &key, sizeof key, h);
        return h;
}

/* If no descriptor is left, the written handles are freed first. */
static int eventfd_new(struct handles *s)
{
        int fd = world_eventfd(s->world, EFD_SEMAPHORE);

        if (fd == -EMFILE && handles_give_back(s))
                fd = world_eventfd(s->world, EFD_SEMAPHORE);
        return fd;
}

int handle_get_signalled(struct handles *s, int *ret_fd)
{
        int fd;

        /* No request asks for so many. The next drain closes them. */
        if (s->n_spent == SPENT_MAX)
                return -EAGAIN;
        fd = eventfd_new(s);
        if (fd < 0)
                return fd;
        /* This cannot sleep, because nobody else has the descriptor yet. */
        (void) handle_write(fd);
        s->spent[s->n_spent++] = fd;
        *ret_fd = fd;
        return 0;
}

int handle_get(struct handles *s, struct process *p, struct anchor *anchor, enum handle_kind kind,
                struct user *user, int *ret_fd)
{
        struct charge charge = {};
        struct handle *h;
        int r;

        h = handle_find(s, p, anchor, kind);
        if (h) {
                *ret_fd = h->fd;
                return 0;
        }
        r = charge_init(&charge, user->users, user, RESOURCE_HANDLES, 1);
        if (r < 0)
                return r;
        h = calloc(1, sizeof *h);
        if (!h) {
                r = -ENOMEM;
                goto fail;
        }
        r = h->fd = eventfd_new(s);
        if (r < 0)
                goto fail;
        r = process_watch(p);
        if (r < 0)
                goto fail;
        h->key.process = p;
        h->key.anchor = anchor;
        h->key.kind = kind;
        HASH_ADD(hh, s->table, key, sizeof h->key, h);
        if (!h->hh.tbl) {
                r = -ENOMEM;
                goto fail;
        }
        process_ref(p);
        h->charge = charge;
        LIST_INSERT_HEAD(&process_ties(p)->handles, h, by_process);
        LIST_INSERT_HEAD(&anchor->handles, h, by_context);
        *ret_fd = h->fd;
        return 0;

fail:
        if (h && h->fd >= 0)
                close(h->fd);
        free(h);
        charge_deinit(&charge);
        return r;
}

int handle_drop(struct handles *s, struct process *p, struct anchor *anchor, enum handle_kind kind)
{
        struct handle *h = handle_find(s, p, anchor, kind);

        if (!h)
                return -ENOENT;
        handle_free(s, h);
        return 0;
}

void handles_drop_context(struct handles *s, struct anchor *anchor)
{
        struct handle *h;

        while ((h = LIST_FIRST(&anchor->handles)))
                handle_free(s, h);
}

void handles_drop_process(struct handles *s, struct process *p)
{
        struct handle *h, *next;

        for (h = LIST_FIRST(&process_ties(p)->handles); h; h = next) {
                next = LIST_NEXT(h, by_process);
                handle_free(s, h);
        }
}
