/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/world/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* Done and drained handles. One eventfd of each kind for each process and context, as a semaphore that is
 * written with the most that it can hold: every read gives 1 and leaves it readable (law 27). What is left of
 * a handle that was written, our copy of it above all, goes away between later events, so that neither who
 * waits nor who is to have a reply waits for that.
 *
 * The client shares the file description. It can make the counter full and the description blocking, and a
 * write of ours would then sleep for as long as it pleases. So while handles are written a timer is set,
 * whose signal ends a write that sleeps (a write that does not sleep is never interrupted by it). A counter
 * that was not 0 is a handle that is readable already, so nothing is owed to it; but for a while the rest of
 * that uid's handles are then written one at a time between other events, so that each delay is met by one
 * who has nobody else to blame.
 *
 * A timer that is due sooner than the kernel's own next tick makes it program the clock, which costs more than
 * all the rest of a cancel; so as long as nobody is hostile the first tick of the guard is far off. */

#define GUARD_SIGNAL (SIGRTMIN + 5)
#define GUARD_FIRST_NSEC 20000000 /* a blocked write costs this much where nobody expects one, */
#define GUARD_NSEC 1000000        /* and up to this much where one was met of late */
#define HOSTILE_USEC 60000000
/* What was written is let go of when those who were woken have had the time to run, on the same core, too; */
#define TIDY_USEC 20000
#define TIDY_AT_ONCE 256  /* then others are served; */
#define WRITTEN_MAX 16384 /* and before that only where so many have come together */

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static void guard_tick(int signal_number) {}

static void guard_set(struct effects *e, bool on)
{
        struct itimerspec tick = {};

        if (e->handles.armed == on)
                return;
        if (on) {
                tick.it_interval.tv_nsec = GUARD_NSEC;
                tick.it_value.tv_nsec = e->handles.n_hostile > 0 ? GUARD_NSEC : GUARD_FIRST_NSEC;
        }
        (void) timer_settime(e->handles.guard, 0, &tick, NULL);
        e->handles.armed = on;
}

/* 0: it is readable for ever; -EINTR: it was full, and made to block. */
static int handle_write(int fd)
{
        /* One who has written to its own handle gets as much as fits: it still outlives its readers. */
        static const uint64_t values[] = {UINT64_MAX - 1, UINT64_C(1) << 63, UINT64_C(1) << 32};

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                if (write(fd, &values[i], sizeof values[i]) == sizeof values[i])
                        return 0;
                if (errno == EINTR)
                        return -EINTR;
        }
        return 0;
}

static bool uid_is_hostile(struct effects *e, uid_t uid)
{
        struct handles *s = &e->handles;
        uint64_t now;

        if (s->n_hostile == 0)
                return false;
        now = now_boottime_usec();
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

static void uid_set_hostile(struct effects *e, const struct handle *h)
{
        struct handles *s = &e->handles;
        uid_t uid = h->charge.user->uid;
        unsigned i;

        s->n_interrupted++;
        if (uid_is_hostile(e, uid))
                return;
        i = s->n_hostile < HOSTILE_MAX ? s->n_hostile++ : s->n_interrupted % HOSTILE_MAX;
        s->hostile[i].uid = uid;
        s->hostile[i].until_usec = now_boottime_usec() + HOSTILE_USEC;
        log_debug("Process %d of uid %u made a write to its done handle block",
                        (int) h->key.process->identity.pid, (unsigned) uid);
}

static void handle_free(struct effects *e, struct handle *h)
{
        struct context *c = h->key.context;

        LIST_REMOVE(h, by_context);
        LIST_REMOVE(h, by_process);
        if (h->is_queued)
                LIST_REMOVE(h, queued);
        if (h->is_written)
                e->handles.n_written--;
        HASH_DEL(e->handles.table, h);
        close(h->fd);
        charge_deinit(&h->charge);
        process_unref(h->key.process);
        free(h);
        tree_handle_removed(e->tree, now_boottime_usec(), c);
}

/* What is left of a handle that needs no write any more. */
static void handle_spend(struct effects *e, struct handle *h)
{
        charge_deinit(&h->charge);
        if (h->is_queued)
                LIST_REMOVE(h, queued);
        h->is_queued = h->is_written = true;
        LIST_INSERT_HEAD(&e->handles.written, h, queued);
        e->handles.n_written++;
}

static void tidy(struct effects *e, unsigned n)
{
        struct handle *h;

        while (n-- > 0 && (h = LIST_FIRST(&e->handles.written)))
                handle_free(e, h);
}

static int tidy_run(sd_event_source *source, void *userdata)
{
        struct effects *e = userdata;

        tidy(e, TIDY_AT_ONCE);
        if (e->handles.n_written == 0)
                effects_event(e); /* nothing but time may hold their contexts now */
        else
                turn_again(&e->handles.tidy_turn);
        return 0;
}

static int tidy_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        return tidy_run(source, userdata);
}

static int deferred_run(sd_event_source *source, void *userdata)
{
        struct effects *e = userdata;
        struct handle *h = LIST_FIRST(&e->handles.deferred);
        struct pollfd p;

        if (h) {
                /* What its owner has filled is readable, and needs no write. */
                p = (struct pollfd){.fd = h->fd, .events = POLLIN};
                if (poll(&p, 1, 0) == 0) {
                        guard_set(e, true);
                        if (handle_write(h->fd) < 0)
                                uid_set_hostile(e, h);
                        guard_set(e, false);
                }
                handle_free(e, h);
        }
        if (!LIST_EMPTY(&e->handles.deferred))
                turn_again(&e->handles.write_turn);
        effects_event(e);
        return 0;
}

int handles_init(struct effects *e)
{
        struct handles *s = &e->handles;
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = GUARD_SIGNAL};
        struct sigaction action = {.sa_handler = guard_tick}; /* no SA_RESTART: that is the point */
        sigset_t guard_signal;
        int r;

        LIST_INIT(&s->deferred);
        LIST_INIT(&s->written);
        sigemptyset(&guard_signal);
        sigaddset(&guard_signal, GUARD_SIGNAL);
        event.sigev_notify_thread_id = (pid_t) syscall(SYS_gettid);
        if (sigaction(GUARD_SIGNAL, &action, NULL) < 0 ||
                        timer_create(CLOCK_MONOTONIC, &event, &s->guard) < 0)
                return -errno;
        s->has_guard = true;
        r = -pthread_sigmask(SIG_UNBLOCK, &guard_signal, NULL);
        if (r < 0)
                return r;
        r = turn_init(&s->write_turn, e->event, "deferred-handles", deferred_run, e);
        if (r < 0)
                return r;
        r = turn_init(&s->tidy_turn, e->event, "tidy-handles", tidy_run, e);
        if (r < 0)
                return r;
        r = sd_event_add_time(
                        e->event, &s->tidy_timer, CLOCK_MONOTONIC, UINT64_MAX, TIDY_USEC / 2, tidy_time, e);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(s->tidy_timer, "tidy-handles-later");
        return sd_event_source_set_enabled(s->tidy_timer, SD_EVENT_OFF);
}

void handles_deinit(struct effects *e)
{
        struct handle *h, *next;

        HASH_ITER (hh, e->handles.table, h, next)
                handle_free(e, h);
        handles_close_spent(e);
        turn_deinit(&e->handles.write_turn);
        turn_deinit(&e->handles.tidy_turn);
        sd_event_source_disable_unref(e->handles.tidy_timer);
        if (e->handles.has_guard) {
                guard_set(e, false);
                timer_delete(e->handles.guard);
        }
}

void handles_signal(struct effects *e, struct context *c, enum handle_kind kind)
{
        struct handle *h;

        LIST_FOREACH (h, &c->handles, by_context) {
                if (h->key.kind != kind || h->is_queued)
                        continue;
                if (e->handles.n_hostile > 0 && uid_is_hostile(e, h->charge.user->uid)) {
                        h->is_queued = true;
                        LIST_INSERT_HEAD(&e->handles.deferred, h, queued);
                        turn_again(&e->handles.write_turn);
                        continue;
                }
                guard_set(e, true);
                if (handle_write(h->fd) < 0)
                        uid_set_hostile(e, h);
                handle_spend(e, h);
        }
}

void handles_disarm(struct effects *e)
{
        guard_set(e, false);
}

void handles_tidy(struct effects *e)
{
        struct handles *s = &e->handles;

        if (s->n_written > WRITTEN_MAX) {
                turn_again(&s->tidy_turn);
        } else if (s->n_written > 0 && TAILQ_EMPTY(&e->tree->endings) &&
                        sd_event_source_get_enabled(s->tidy_timer, NULL) == 0) {
                (void) sd_event_source_set_time_relative(s->tidy_timer, TIDY_USEC);
                (void) sd_event_source_set_enabled(s->tidy_timer, SD_EVENT_ONESHOT);
        }
}

bool handles_give_back(struct effects *e)
{
        bool any = e->handles.n_written > 0;

        tidy(e, UINT_MAX);
        return any;
}

void handles_close_spent(struct effects *e)
{
        while (e->handles.n_spent > 0)
                close(e->handles.spent[--e->handles.n_spent]);
}

static struct handle *handle_find(
                struct effects *e, struct process *p, struct context *c, enum handle_kind kind)
{
        struct handle *h;
        struct handle_key key = {p, c, kind};

        HASH_FIND(hh, e->handles.table, &key, sizeof key, h);
        return h;
}

static bool is_signalled(const struct context *c, enum handle_kind kind)
{
        return kind == HANDLE_DONE ? context_is_done(c) : c->drained_usec != 0;
}

/* Where none is left, those that were only to be closed are. */
static int eventfd_new(struct effects *e)
{
        int fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);

        if (fd < 0 && errno == EMFILE && handles_give_back(e))
                fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* The context is done: the descriptor is all there is to it. */
static int handle_get_spent(struct effects *e, int *ret_fd)
{
        int fd;

        if (e->handles.n_spent == SPENT_MAX)
                return -EAGAIN; /* more than any one request asks for; the drain to come closes them */
        fd = eventfd_new(e);
        if (fd < 0)
                return fd;
        (void) handle_write(fd); /* nobody else has it yet */
        e->handles.spent[e->handles.n_spent++] = fd;
        effects_again(e);
        *ret_fd = fd;
        return 0;
}

int handle_get(struct effects *e, struct process *p, uid_t uid, struct context *c, enum handle_kind kind,
                int *ret_fd, struct refused *ret_refused)
{
        struct charge charge = {};
        struct handle *h;
        struct user *user;
        int r;

        if (is_signalled(c, kind))
                return handle_get_spent(e, ret_fd);
        h = handle_find(e, p, c, kind);
        if (h) {
                *ret_fd = h->fd;
                return 0;
        }

        user = user_ref(&e->tree->users, uid);
        if (!user)
                return -ENOMEM;
        r = tree_charge(e->tree, &charge, user, RESOURCE_HANDLES, 1, ret_refused);
        user_unref(&e->tree->users, user);
        if (r < 0)
                return r;

        h = calloc(1, sizeof *h);
        if (!h) {
                r = -ENOMEM;
                goto fail;
        }
        r = h->fd = eventfd_new(e);
        if (r < 0)
                goto fail;
        r = process_watch(p);
        if (r < 0)
                goto fail;
        h->key.process = p;
        h->key.context = c;
        h->key.kind = kind;
        HASH_ADD(hh, e->handles.table, key, sizeof h->key, h);
        if (!h->hh.tbl) {
                r = -ENOMEM;
                goto fail;
        }
        process_ref(p);
        h->charge = charge;
        LIST_INSERT_HEAD(&p->handles, h, by_process);
        LIST_INSERT_HEAD(&c->handles, h, by_context);
        tree_handle_added(e->tree, c);
        *ret_fd = h->fd;
        return 0;

fail:
        if (h && h->fd >= 0)
                close(h->fd);
        free(h);
        charge_deinit(&charge);
        return r;
}

int handle_drop(struct effects *e, struct process *p, struct context *c, enum handle_kind kind)
{
        struct handle *h = handle_find(e, p, c, kind);

        if (!h)
                return is_signalled(c, kind) ? 0 : -ENOENT; /* what was signalled is not kept */
        handle_free(e, h);
        return 0;
}

void handles_drop_context(struct effects *e, struct context *c)
{
        struct handle *h;

        while ((h = LIST_FIRST(&c->handles)))
                handle_free(e, h);
}

void handles_drop_process(struct effects *e, struct process *p)
{
        struct handle *h, *next;

        for (h = LIST_FIRST(&p->handles); h; h = next) {
                next = LIST_NEXT(h, by_process);
                handle_free(e, h);
        }
}
