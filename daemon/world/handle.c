/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/model/user.h"
#include "daemon/world/anchor.h"
#include "daemon/world/given.h"
#include "daemon/world/handle.h"
#include "daemon/world/handle-write.h"
#include "daemon/world/process.h"
#include "daemon/world/world.h"
#include "util/cleanup.h"
#include "util/eventfd.h"
#include "util/foreign.h"
#include "util/share.h"
#include "util/turn.h"

/* A handle is an eventfd that is made as a semaphore. The daemon writes the largest value that it can hold.
 * So every read gives 1, and the handle stays readable (law 27). The daemon frees its copy of a written
 * handle later, between other events, so that nobody who waits for a handle or for a reply has to wait for
 * that.
 *
 * A client can make a write block, or take long (handle-write.h). For a minute after that the handles of its
 * uid are written by another process (util/foreign.h), so that nobody else waits for them. Where there is
 * none they are written one at a time, between other events. */

#define HAND_OVER_AT_ONCE 64
/* Written handles are freed after this time, so that those who were woken can run first, also on the same
 * core. A few are freed at a time, and others are served between. If there are very many, it is done
 * sooner. */
#define TIDY_USEC 20000
#define TIDY_AT_ONCE 256
#define WRITTEN_MAX 16384

#define SPENT_MAX 64

/* A handle that was given out, until it has been signalled. */
struct handle {
        struct handle_key {
                struct process *process; /* a reference */
                struct anchor *anchor;
                uint32_t uid;  /* of the holder: a process that has executed a setuid program has two */
                uint32_t kind; /* enum handle_kind; the key is hashed and must have no padding */
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
        struct handle_writer writer;
        struct turn write_turn, tidy_turn;
        sd_event_source *tidy_timer;
        int spent[SPENT_MAX]; /* given out readable; they are closed once they were sent */
        unsigned n_spent;
};

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
        closep(&h->fd);
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

/* If its client has filled it, it is readable and needs no write. */
static bool is_readable_already(const struct handle *h)
{
        struct pollfd p = {.fd = h->fd, .events = POLLIN};

        return poll(&p, 1, 0) != 0;
}

static bool hand_over(struct handles *s, struct handle *h)
{
        struct charge *charge = charge_move(&h->charge);

        if (!charge)
                return false;
        if (foreign_write(s->world->foreign, share_party(h->key.uid), h->key.uid, h->fd, charge_free,
                            charge) < 0) {
                h->charge = *charge;
                free(charge);
                return false;
        }
        h->fd = -1;
        return true;
}

static int deferred_run(sd_event_source *source, void *userdata)
{
        struct handles *s = userdata;
        struct handle *h;
        bool written = false;

        for (unsigned i = 0; i < HAND_OVER_AT_ONCE && !written && (h = LIST_FIRST(&s->deferred)); i++) {
                if (!is_readable_already(h) && !hand_over(s, h)) {
                        writer_write(&s->writer, h->fd, h->key.uid);
                        writer_disarm(&s->writer);
                        written = true;
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
        int r = writer_init(&s->writer, s->world);

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
        writer_deinit(&s->writer);
        free(s);
        return NULL;
}

void handles_signal(struct handles *s, struct anchor *anchor, enum handle_kind kind)
{
        struct handle *h;

        LIST_FOREACH (h, &anchor->handles, by_context) {
                if (h->key.kind != kind || h->is_queued)
                        continue;
                if (writer_knows_hostile(&s->writer, h->key.uid)) {
                        h->is_queued = true;
                        LIST_INSERT_HEAD(&s->deferred, h, queued);
                        turn_again(&s->write_turn);
                        continue;
                }
                writer_write(&s->writer, h->fd, h->key.uid);
                handle_spend(s, h);
        }
}

void handles_disarm(struct handles *s)
{
        writer_disarm(&s->writer);
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

        tidy(s, TIDY_AT_ONCE);
        given_flush();
        return any;
}

void handles_close_spent(struct handles *s)
{
        while (s->n_spent > 0)
                close(s->spent[--s->n_spent]);
}

static struct handle *handle_find(
                struct handles *s, struct process *p, uid_t uid, struct anchor *anchor, enum handle_kind kind)
{
        struct handle *h;
        struct handle_key key = {p, anchor, uid, kind};

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
        (void) eventfd_fill(fd);
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

        h = handle_find(s, p, user->uid, anchor, kind);
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
        h->key.uid = user->uid;
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
        return 1;

fail:
        if (h && h->fd >= 0)
                close(h->fd);
        free(h);
        charge_deinit(&charge);
        return r;
}

int handle_drop(struct handles *s, struct process *p, uid_t uid, struct anchor *anchor, enum handle_kind kind)
{
        struct handle *h = handle_find(s, p, uid, anchor, kind);

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

uint32_t handles_drop_process(struct handles *s, struct process *p, uint32_t n)
{
        struct handle *h;
        uint32_t dropped = 0;

        for (; dropped < n && (h = LIST_FIRST(&process_ties(p)->handles)); dropped++)
                handle_free(s, h);
        return dropped;
}
