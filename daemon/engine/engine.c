/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "daemon/engine/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/proc.h"

/* Builds the rooms in the order in which they need each other, and frees them in the reverse order. */

/* How long engine_start() waits for a probe that ctxd has started itself. */
#define PROBE_START_USEC 5000000
/* How many contexts are ended or forgotten at a time. This takes some 60 us if nobody watches them. */
#define SLICE 512

static int epoch_new(uint64_t *ret)
{
        uint64_t epoch = 0;

        while (epoch == 0)
                if (getrandom(&epoch, sizeof epoch, 0) < 0)
                        return -errno;
        *ret = epoch;
        return 0;
}

static int rooms_new(struct engine *e)
{
        struct world *w = &e->world;
        int r;

        r = timer_new(&e->timer, w);
        if (r >= 0)
                r = processes_new(&e->processes, w);
        if (r >= 0)
                r = handles_new(&e->handles, w);
        if (r >= 0)
                r = pages_new(&e->pages, w, e->epoch);
        if (r >= 0)
                r = membership_new(&e->membership, w, e->processes);
        if (r >= 0)
                r = thread_pages_new(&e->thread_pages, w, e->membership);
        if (r >= 0)
                r = leaks_new(&e->leaks, w);
        if (r >= 0)
                r = probe_new(&e->probe, w);
        return r;
}

int engine_new(struct engine **ret, sd_event *event, struct tree *tree, struct turn *turn)
{
        struct engine *e = calloc(1, sizeof *e);
        int r;

        if (!e)
                return -ENOMEM;
        e->tree = tree;
        tree->slice = SLICE;
        e->turn = turn;
        e->world.event = sd_event_ref(event);
        facts_init(&e->world.facts, turn);
        LIST_INIT(&e->removed);
        STAILQ_INIT(&e->news);
        r = watches_new(&e->world.watches, event);
        if (r >= 0)
                r = epoch_new(&e->epoch);
        if (r >= 0)
                r = rooms_new(e);
        if (r < 0) {
                engine_free(e);
                return r;
        }
        *ret = e;
        return 0;
}

struct engine *engine_free(struct engine *e)
{
        if (!e)
                return NULL;
        if (e->probe)
                anchors_free(e);
        probe_free(e->probe);
        if (e->leaks)
                leaks_free(e->leaks);
        if (e->membership)
                membership_free(e->membership);
        thread_pages_free(e->thread_pages);
        pages_free(e->pages);
        handles_free(e->handles);
        processes_free(e->processes);
        timer_free(e->timer);
        watches_free(e->world.watches);
        if (e->world.foreign)
                given_stop();
        foreign_free(e->world.foreign);
        sd_event_unref(e->world.event);
        free(e);
        return NULL;
}

int engine_guard(struct engine *e)
{
        int r = foreign_new(&e->world.foreign, e->world.event);

        if (r >= 0)
                r = given_start(e->world.event, e->world.foreign, &e->tree->users);
        if (r >= 0 && !given_takes_effect())
                log_warning("sd-bus does not close by the function that looks out for it: one client "
                            "can make the daemon hang");
        return r;
}

struct foreign *engine_foreign(const struct engine *e)
{
        return e->world.foreign;
}

int engine_start(struct engine *e, const struct probe_options *options)
{
        uint64_t end_usec;
        struct proc_stat stat;
        int r;

        /* ctxd reads the start times and uids of processes from /proc. */
        if (proc_stat_read(1, &stat) < 0)
                log_warning("Other users' processes are hidden from us in /proc (hidepid=): they can neither "
                            "be attached nor signalled. See ctxd(8)");
        r = probe_start(e->probe, options);
        if (r < 0)
                return r;
        if (!probe_is_child(e->probe))
                return 0;
        /* The probe answers within a moment. To wait for its BPF maps is better than to move all members to
         * them later. */
        end_usec = now_boottime_usec() + PROBE_START_USEC;
        for (;;) {
                uint64_t now_usec = now_boottime_usec();

                engine_serve_probe(e);
                if (probe_is_known(e->probe) || now_usec >= end_usec ||
                                !probe_wait(e->probe, end_usec - now_usec))
                        return 0;
        }
}

void engine_stopping(struct engine *e)
{
        e->is_stopping = true;
}

int engine_some_descriptor(const struct engine *e)
{
        return sd_event_get_fd(e->world.event);
}

bool engine_give_back_descriptors(struct engine *e)
{
        bool any = handles_give_back(e->handles);

        facts_wake(&e->world.facts);
        return any;
}

const char *engine_process_refused(const struct process *p)
{
        if (process_is_kernel(p))
                return "it is a thread of the kernel";
        return process_pid(p) == 1 ? "all other processes are its descendants" : NULL;
}

int engine_process_open(struct engine *e, int pidfd, struct process **ret)
{
        return process_acquire(e->processes, pidfd, ret);
}

int engine_process_open_pid(struct engine *e, pid_t pid, struct process **ret)
{
        return process_acquire_pid(e->processes, pid, 0, ret);
}

struct process *engine_process_hold(struct process *p)
{
        return process_ref(p);
}

struct process *engine_process_close(struct process *p)
{
        return process_unref(p);
}

int engine_process_read(const struct process *p, uid_t ret_uids[3], char *ret_comm)
{
        return process_read(p, ret_uids, ret_comm);
}

const char *engine_membership_backend(const struct engine *e)
{
        return membership_backend_name(e->membership);
}

uint64_t engine_leaks_found(const struct engine *e)
{
        return leaks_found(e->leaks);
}

const char *engine_probe_backend(const struct engine *e)
{
        return probe_backend_name(e->probe);
}

const char *engine_probe_reason(const struct engine *e)
{
        return probe_reason(e->probe);
}

uint64_t engine_probe_last_sweep_usec(const struct engine *e)
{
        return probe_last_sweep_usec(e->probe);
}
