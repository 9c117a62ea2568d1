/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/world/internal.h"
#include "daemon/world/proc.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* Carries out what the model has left in its queue. What is large comes in slices: a drain does what is there, and
 * events of their own, between which others are served, go on with the rest.
 *
 * All state words come before the first handle, so that
 * nobody sees a readable handle of a context that still reads active (law 6); the words and handles of the
 * whole subtree come before anything that takes longer: signals, the probe, what is emitted. */

#define PROBE_START_USEC 5000000
/* Contexts that are ended or forgotten in one go, a quarter of a millisecond where nobody watches them. */
#define SLICE 2048

static void arm(struct effects *e)
{
        uint64_t next_usec = tree_next_usec(e->tree);

        if (next_usec == CTXD_USEC_INFINITY) {
                (void) sd_event_source_set_enabled(e->timer, SD_EVENT_OFF);
                return;
        }
        (void) sd_event_source_set_time(e->timer, next_usec);
        (void) sd_event_source_set_enabled(e->timer, SD_EVENT_ONESHOT);
}

static void mark(struct effects *e, const struct effect_queue *queue)
{
        struct context *c;

        STAILQ_FOREACH (c, queue, effects)
                if (c->pending & (EFFECT_DONE | EFFECT_MOVED))
                        page_update(e, c);
}

static void signal_handles(struct effects *e, const struct effect_queue *queue)
{
        struct context *c;

        STAILQ_FOREACH (c, queue, effects)
                if (c->pending & EFFECT_DONE)
                        handles_signal(e, c, HANDLE_DONE);
        handles_disarm(e);
}

/* How many members have to leave: of contexts whose end is origin's, or of all with NULL. */
static uint32_t end_members(struct effects *e, const struct effect_queue *queue, const struct context *origin)
{
        struct context *c;
        uint32_t n = 0;

        STAILQ_FOREACH (c, queue, effects) {
                if (c->pending & EFFECT_DONE) {
                        uint32_t m = membership_done(e, c);

                        if (m > 0)
                                tree_count_members(e->tree, c, m);
                        if (!origin || context_origin(c) == origin)
                                n += m;
                        owner_unbind(c);
                        lifeline_drop(e, c);
                }
                if (c->pending & EFFECT_KILL)
                        membership_kill_due(e, c);
        }
        if (e->membership.passes_wanted)
                signals_run(e);
        if (e->membership.kills_wanted)
                signals_soon(e);
        return n;
}

static void emit(void (*cb)(void *userdata, struct context *c), struct effects *e, struct context *c)
{
        if (cb)
                cb(e->userdata, c);
}

static bool is_shown_to_others(const struct context *c)
{
        const struct context *p = c->parent;

        return c->mode != p->mode || c->uid != p->uid || c->gid != p->gid;
}

static void finish(struct effects *e, struct context *c, unsigned effects)
{
        /* Not before its members were looked at, which is when most contexts turn out to be drained. */
        if (effects & EFFECT_DRAINED)
                handles_signal(e, c, HANDLE_DRAINED);
        if (effects & EFFECT_NEW)
                emit(e->sink->context_new, e, c);
        if (effects & EFFECT_ROOT)
                emit(e->sink->context_done, e, c);
        else if ((effects & EFFECT_DONE) && is_shown_to_others(c))
                emit(e->sink->context_done_below, e, c);
        if (!(effects & EFFECT_REMOVED))
                return;
        if (!(effects & EFFECT_SILENT))
                emit(e->sink->context_removed, e, c);
        owner_unbind(c);
        lifeline_drop(e, c);
        handles_drop_context(e, c);
        membership_forget(e, c);
        page_drop(e, c);
}

/* Endings whose last effect this was. */
static void tell_ended(struct effects *e)
{
        struct ending *ending;

        while ((ending = tree_take_ended(e->tree))) {
                if (e->sink->ended)
                        e->sink->ended(e->userdata, ending);
                free(ending);
        }
}

uint32_t effects_drain_counting(struct effects *e, const struct context *origin)
{
        struct effect_queue queue = STAILQ_HEAD_INITIALIZER(queue);
        uint64_t now_usec = now_boottime_usec();
        uint32_t n = 0;

        assert(!e->draining);
        e->draining = true;
        handles_close_spent(e);
        (void) tree_settle(e->tree, now_usec);
        while (!STAILQ_EMPTY(&e->tree->effects)) {
                struct context *c;
                unsigned effects;

                STAILQ_CONCAT(&queue, &e->tree->effects);
                mark(e, &queue);
                threads_look_again(e);
                signal_handles(e, &queue);
                n += end_members(e, &queue, origin);
                while ((c = effect_take_from(&queue, &effects)))
                        finish(e, c, effects);
                handles_disarm(e);
        }
        threads_look_again(e);
        tell_ended(e);
        tree_collect(e->tree);
        if (tree_is_behind(e->tree, now_usec))
                effects_again(e);
        else
                arm(e);
        handles_tidy(e);
        e->draining = false;
        return n;
}

uint32_t effects_drain(struct effects *e)
{
        return effects_drain_counting(e, NULL);
}

void effects_event(struct effects *e)
{
        (void) tree_advance(e->tree, now_boottime_usec());
        (void) effects_drain(e);
        if (e->sink->drained)
                e->sink->drained(e->userdata);
}

static int timer_elapsed(sd_event_source *source, uint64_t usec, void *userdata)
{
        effects_event(userdata);
        return 0;
}

static int drain_again(sd_event_source *source, void *userdata)
{
        effects_event(userdata);
        return 0;
}

bool effects_give_back_descriptors(struct effects *e)
{
        return handles_give_back(e);
}

void effects_finish(struct effects *e)
{
        do
                effects_drain(e);
        while (tree_advance(e->tree, now_boottime_usec()));
}

void effects_again(struct effects *e)
{
        turn_again(&e->drain_turn);
}

int effects_new(struct effects **ret, sd_event *event, struct tree *tree, const struct effects_sink *sink,
                void *userdata)
{
        struct effects *e;
        int r;

        e = calloc(1, sizeof *e);
        if (!e)
                return -ENOMEM;
        e->event = sd_event_ref(event);
        e->tree = tree;
        tree->slice = SLICE;
        e->sink = sink;
        e->userdata = userdata;
        probe_link_init(e);
        e->alive[0] = e->alive[1] = -1;
        r = membership_init(e);
        if (r < 0)
                goto fail;
        while (e->epoch == 0)
                if (getrandom(&e->epoch, sizeof e->epoch, 0) < 0) {
                        r = -errno;
                        goto fail;
                }
        if (pipe2(e->alive, O_CLOEXEC | O_NONBLOCK) < 0) {
                r = -errno;
                goto fail;
        }
        r = handles_init(e);
        if (r < 0)
                goto fail;
        r = sd_event_add_time(event, &e->timer, CLOCK_BOOTTIME, UINT64_MAX, 1, timer_elapsed, e);
        if (r < 0)
                goto fail;
        (void) sd_event_source_set_description(e->timer, "tree");
        (void) sd_event_source_set_enabled(e->timer, SD_EVENT_OFF);
        r = turn_init(&e->drain_turn, event, "drain", drain_again, e);
        if (r < 0)
                goto fail;
        *ret = e;
        return 0;

fail:
        effects_free(e);
        return r;
}

/* The contexts outlive the effects only in tests: they are left with nothing of ours. */
static void let_go(struct effects *e)
{
        struct context *c;

        for (c = e->tree->background; c; c = context_next(c, e->tree->background)) {
                owner_unbind(c);
                c->page_slot = NULL;
        }
}

void effects_stopping(struct effects *e)
{
        e->stopping = true;
}

int effects_alive(struct effects *e, uint64_t *ret_epoch)
{
        *ret_epoch = e->epoch;
        return e->alive[0];
}

struct effects *effects_free(struct effects *e)
{
        if (!e)
                return NULL;
        e->draining = true;
        let_go(e);
        probe_link_deinit(e);
        threads_deinit(e);
        lifelines_deinit(e);
        handles_deinit(e);
        membership_deinit(e);
        pages_deinit(e);
        closep(&e->alive[0]);
        closep(&e->alive[1]);
        sd_event_source_disable_unref(e->timer);
        turn_deinit(&e->drain_turn);
        sd_event_unref(e->event);
        free(e);
        return NULL;
}

int effects_start(struct effects *e, const struct effects_options *options)
{
        struct proc_stat stat;
        int r;

        /* Identities and uids come from there. */
        if (proc_stat_read(1, &stat) < 0)
                log_warning("Other users' processes are hidden from us in /proc (hidepid=): they can neither "
                            "be attached "
                            "nor signalled. See ctxd(8)");
        r = probe_link_start(e, options);
        if (r < 0)
                return r;
        /* A probe of our own is there in a moment: better to begin with what it gives than to move over to
         * it. */
        if (e->link.program)
                probe_link_wait(e, PROBE_START_USEC);
        return 0;
}

void effects_configure(struct effects *e, uint64_t grace_usec)
{
        e->tree->default_grace_usec = grace_usec;
}
