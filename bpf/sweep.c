/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* When the sweeps take place, and what follows from them. No verdict follows from two samples if the
 * machine was suspended between them. If the probe itself is late, the verdicts wait: a thread that should
 * have woken may not have got a CPU either. But they do not wait for ever, since some machines are always
 * late. While nothing is watched, there are no sweeps. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bpf/chain.h"
#include "bpf/disclosure.h"
#include "bpf/probe.h"
#include "bpf/waits.h"
#include "util/clock.h"
#include "util/log.h"

#define BASELINE_USEC UINT64_C(50000)
#define INTERVAL_MIN_USEC UINT64_C(50000)
#define INTERVAL_MAX_USEC UINT64_C(2000000)
#define INTERVAL_IDLE_USEC UINT64_C(5000000)
#define LATE_USEC UINT64_C(100000)
#define LATE_WAIT_USEC UINT64_C(1000000)
#define LATE_MAX 5
#define SUSPEND_USEC INT64_C(20000)

static uint64_t min_usec(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

static uint64_t max_usec(uint64_t a, uint64_t b)
{
        return a > b ? a : b;
}

/* How long the machine has been suspended: the difference between two clocks. They are read one after the
 * other, and once more if something else ran in between. */
static int64_t suspended_usec(void)
{
        int64_t before, boottime = 0;

        for (int i = 0; i < 5; i++) {
                before = (int64_t) now_monotonic_usec();
                boottime = (int64_t) now_boottime_usec();
                if ((int64_t) now_monotonic_usec() - before < SUSPEND_USEC / 2)
                        break;
        }
        return boottime - before;
}

/* A sweep */

static void on_sample(const struct sample *sample, void *userdata)
{
        struct sweeper *s = userdata;

        if (s->n_samples == s->n_allocated) {
                size_t n = s->n_allocated ? s->n_allocated * 2 : 64;
                struct sample *larger = reallocarray(s->samples, n, sizeof *larger);

                if (!larger)
                        return;
                s->samples = larger;
                s->n_allocated = n;
        }
        s->samples[s->n_samples] = *sample;
        s->samples[s->n_samples].comm[sizeof sample->comm - 1] = '\0';
        waits_make_printable(s->samples[s->n_samples].comm);
        s->n_samples++;
}

static void drop_thread(struct probe *probe, struct thread *thread, const char *how)
{
        leak_leave(probe, thread, how);
        thread_free(&probe->watches, thread);
}

static void update_threads(struct probe *probe, uint64_t end, bool suspended)
{
        struct sweeper *s = &probe->sweeper;
        struct thread *thread, *next;

        for (size_t i = 0; i < s->n_samples; i++) {
                const struct sample *sample = &s->samples[i];
                struct watch *watch = watches_get(&probe->watches, sample->context_id);

                thread = watch ? watches_thread(&probe->watches, watch, sample) : NULL;
                if (!thread)
                        continue;
                if (thread->sweep == 0)
                        s->changed_usec = end;
                thread->sweep = s->number;
                thread->sample = *sample;
                if (thread_clock_feed(&thread->clock, sample, end) > 0 && thread->leak &&
                                thread->leak->key.kind == PROBE_LEAK_BLOCKED) {
                        s->changed_usec = end;
                        leak_leave(probe, thread, "it woke up");
                }
                if (suspended)
                        thread_clock_restart(&thread->clock, sample, end);
        }
        HASH_ITER (hh, probe->watches.threads, thread, next) {
                if (thread->sweep != s->number) {
                        s->changed_usec = end;
                        drop_thread(probe, thread, "it has left");
                }
        }
}

/* A thread that has run since the verdict is not accused. */
static void accuse_blocked(struct probe *probe, struct thread *thread)
{
        struct evidence evidence = {};
        char stack[sizeof(((struct leak *) NULL)->stack)] = "";

        if (!disclosure_is_allowed(&thread->watch->record, &thread->sample)) {
                if (backend_unchanged(probe->backend, &thread->sample) == 0)
                        return;
                if (thread->leak)
                        leak_leave(probe, thread, "it is blocked now");
                leak_join(probe, thread, PROBE_LEAK_BLOCKED, NULL, "", 0);
                return;
        }
        if (probe->backend->ops->evidence(probe->backend, &thread->sample, &evidence, stack, sizeof stack) <
                        0)
                return;
        if (evidence.sample.start_nsec != thread->sample.start_nsec ||
                        evidence.sample.tid != thread->sample.tid ||
                        evidence.sample.context_id != thread->sample.context_id ||
                        evidence.nvcsw_after + evidence.nivcsw_after != thread->clock.switches ||
                        sample_activity(&evidence.sample) != ACTIVITY_SLEEPS)
                return;
        if (thread->leak)
                leak_leave(probe, thread, "it is blocked now");
        leak_join(probe, thread, PROBE_LEAK_BLOCKED, &evidence, stack, 0);
}

static void judge_blocked(struct probe *probe, uint64_t begin)
{
        const struct sweeper *s = &probe->sweeper;
        struct thread *thread, *next;

        HASH_ITER (hh, probe->watches.threads, thread, next) {
                const struct probe_watch *record = &thread->watch->record;

                if (thread->leak && thread->leak->key.kind == PROBE_LEAK_BLOCKED)
                        continue;
                if (begin < thread_clock_blocked_at(&thread->clock, record->done_usec, record->grace_usec))
                        continue;
                /* If it waits for another member, that one is to blame. */
                if (chain_awaited(s->samples, s->n_samples, &thread->sample))
                        continue;
                accuse_blocked(probe, thread);
        }
}

/* What is known of a process, while its threads are looked at one after the other. */
struct suspect {
        struct {
                uint64_t context_id, start_nsec, pid;
        } key;
        struct thread *thread; /* the busiest one that is ignoring */
        unsigned percent;
        bool excused; /* one of its threads is reported, or held, or waits for a child */
        UT_hash_handle hh;
};

static void judge_ignoring(struct probe *probe, uint64_t now)
{
        const struct sweeper *s = &probe->sweeper;
        struct suspect *suspects = NULL, *suspect, *following;
        struct thread *thread, *next;

        HASH_ITER (hh, probe->watches.threads, thread, next) {
                const struct probe_watch *record = &thread->watch->record;
                unsigned percent = 0;

                suspect = calloc(1, sizeof *suspect);
                if (!suspect)
                        break;
                suspect->key.context_id = thread->key.context_id;
                suspect->key.start_nsec = thread->sample.leader_start_nsec;
                suspect->key.pid = thread->key.pid;
                HASH_FIND(hh, suspects, &suspect->key, sizeof suspect->key, following);
                if (following) {
                        free(suspect);
                        suspect = following;
                } else {
                        HASH_ADD(hh, suspects, key, sizeof suspect->key, suspect);
                }
                if (thread->leak || sample_activity(&thread->sample) == ACTIVITY_HELD ||
                                chain_awaited(s->samples, s->n_samples, &thread->sample))
                        suspect->excused = true;
                else if (thread_clock_ignoring(&thread->clock, &thread->sample, now, record->done_usec,
                                         record->grace_usec, &percent) &&
                                (!suspect->thread || percent > suspect->percent ||
                                                (percent == suspect->percent &&
                                                                thread->key.tid == thread->key.pid))) {
                        suspect->thread = thread;
                        suspect->percent = percent;
                }
        }
        HASH_ITER (hh, suspects, suspect, following) {
                if (suspect->thread && !suspect->excused)
                        leak_join(probe, suspect->thread, PROBE_LEAK_IGNORING, NULL, "", suspect->percent);
                HASH_DELETE(hh, suspects, suspect);
                free(suspect);
        }
}

static void tell_swept(struct probe *probe, uint64_t begin)
{
        struct probe_swept record = {
                        .header = {.type = PROBE_SWEPT, .size = sizeof record},
                        .when_usec = begin,
        };

        link_send(probe, &record.header);
}

/* When the next sweep is due: at the time of the next verdict, or after half a grace, to see who has left.
 * Where nothing has changed for long, sweeps are rare. */
static uint64_t next_sweep(const struct probe *probe, uint64_t now)
{
        const struct sweeper *s = &probe->sweeper;
        uint64_t at = UINT64_MAX, settled;
        struct thread *thread, *next_thread;
        struct watch *watch, *next_watch;

        settled = min_usec((now - s->changed_usec) / 8, INTERVAL_IDLE_USEC);
        HASH_ITER (hh, probe->watches.by_id, watch, next_watch) {
                uint64_t grace = watch->record.grace_usec, interval;

                if (watch->baseline_usec > 0) {
                        at = min_usec(at, watch->baseline_usec);
                        continue;
                }
                if (grace == UINT64_MAX)
                        continue;
                interval = min_usec(max_usec(grace / 2, INTERVAL_MIN_USEC), INTERVAL_MAX_USEC);
                at = min_usec(at, now + max_usec(interval, settled));
                if (watch->record.done_usec + grace > now)
                        at = min_usec(at, watch->record.done_usec + grace);
        }
        HASH_ITER (hh, probe->watches.threads, thread, next_thread) {
                const struct probe_watch *record = &thread->watch->record;
                uint64_t due;

                if (thread->leak)
                        continue;
                due = thread_clock_blocked_at(&thread->clock, record->done_usec, record->grace_usec);
                /* One that was due before, and was excused, is looked at in the next interval. */
                if (due != UINT64_MAX && due > now)
                        at = min_usec(at, max_usec(due, s->not_before_usec));
        }
        if (s->not_before_usec > now)
                at = min_usec(at, s->not_before_usec);
        return at;
}

static int plan(struct probe *probe, uint64_t at)
{
        struct sweeper *s = &probe->sweeper;
        int r;

        s->planned_usec = at;
        if (at == UINT64_MAX)
                return sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
        r = sd_event_source_set_time(s->timer, at);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct probe *probe = userdata;
        struct sweeper *s = &probe->sweeper;
        struct watch *watch, *next;
        uint64_t begin = now_boottime_usec(), end;
        int64_t offset = suspended_usec();
        bool suspended = offset - s->suspended_usec > SUSPEND_USEC ||
                         s->suspended_usec - offset > SUSPEND_USEC;
        int r;

        s->suspended_usec = offset;
        s->number++;
        s->n_samples = 0;
        if (begin <= s->planned_usec + LATE_USEC)
                s->n_late = 0;
        else if (s->n_late++ < LATE_MAX)
                s->not_before_usec = begin + LATE_WAIT_USEC;

        r = backend_sweep(probe->backend, &probe->watches, on_sample, s);
        end = now_boottime_usec();
        if (r < 0) {
                log_warning("a sweep has failed: %s", strerror(-r));
                return plan(probe, end + INTERVAL_MAX_USEC);
        }
        chain_sort(s->samples, s->n_samples);
        update_threads(probe, end, suspended);
        HASH_ITER (hh, probe->watches.by_id, watch, next) {
                if (watch->baseline_usec <= begin)
                        watch->baseline_usec = 0;
        }
        if (begin >= s->not_before_usec && !suspended && probe->backend) {
                judge_blocked(probe, begin);
                judge_ignoring(probe, begin);
        }
        leaks_publish(probe, now_boottime_usec());
        tell_swept(probe, begin);
        if (!probe->link.greeted)
                return plan(probe, UINT64_MAX);
        return plan(probe, next_sweep(probe, now_boottime_usec()));
}

int sweeper_init(struct probe *probe)
{
        struct sweeper *s = &probe->sweeper;
        int r;

        s->planned_usec = UINT64_MAX;
        s->suspended_usec = suspended_usec();
        r = sd_event_add_time(probe->event, &s->timer, CLOCK_BOOTTIME, 0, 1000, on_timer, probe);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
}

void sweeper_deinit(struct probe *probe)
{
        struct thread *thread, *next_thread;
        struct watch *watch, *next_watch;

        leaks_deinit(&probe->leaks);
        HASH_ITER (hh, probe->watches.threads, thread, next_thread) {
                thread->leak = NULL;
                thread_free(&probe->watches, thread);
        }
        HASH_ITER (hh, probe->watches.by_id, watch, next_watch)
                watch_free(&probe->watches, watch);
        probe->sweeper.timer = sd_event_source_disable_unref(probe->sweeper.timer);
        free(probe->sweeper.samples);
}

int sweeper_watch(struct probe *probe, const struct probe_watch *record)
{
        struct sweeper *s = &probe->sweeper;
        uint64_t now = now_boottime_usec();
        uint64_t baseline = record->done_usec + min_usec(BASELINE_USEC, record->grace_usec / 4);
        struct watch *watch;
        int r;

        if (!probe->backend)
                return 0;
        r = watches_add(&probe->watches, record, max_usec(baseline, now), &watch);
        if (r < 0)
                return r;
        if (r == 0) {
                leaks_tell(probe, watch);
                return plan(probe, next_sweep(probe, now));
        }
        if (watch->record.grace_usec == UINT64_MAX)
                watch->baseline_usec = 0;
        s->changed_usec = now;
        if (watch->baseline_usec > 0 && watch->baseline_usec < s->planned_usec)
                return plan(probe, watch->baseline_usec);
        return 0;
}

int sweeper_threads(struct probe *probe, const struct probe_threads *record)
{
        int r = watches_set_entered(&probe->watches, record);

        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        backend_entered(probe->backend, &probe->watches);
        /* Threads that have left are noticed by a sweep, so it must come soon. */
        return plan(probe, next_sweep(probe, now_boottime_usec()));
}

void sweeper_forget(struct probe *probe, uint64_t context_id, const char *how)
{
        bool had_entered;

        struct watch *watch = watches_get(&probe->watches, context_id);
        struct thread *thread, *next;

        if (!watch)
                return;
        HASH_ITER (hh, probe->watches.threads, thread, next) {
                if (thread->watch == watch)
                        drop_thread(probe, thread, how);
        }
        had_entered = watch->n_entered > 0;
        watch_free(&probe->watches, watch);
        if (had_entered)
                backend_entered(probe->backend, &probe->watches);
        if (HASH_COUNT(probe->watches.by_id) == 0)
                (void) plan(probe, UINT64_MAX);
}

void sweeper_pause(struct probe *probe)
{
        struct watch *watch, *next;

        HASH_ITER (hh, probe->watches.by_id, watch, next)
                watch->confirmed = false;
        (void) plan(probe, UINT64_MAX);
}

void sweeper_resume(struct probe *probe)
{
        struct sweeper *s = &probe->sweeper;
        uint64_t now = now_boottime_usec();

        if (HASH_COUNT(probe->watches.by_id) > 0) {
                s->not_before_usec = now + INTERVAL_MIN_USEC;
                (void) plan(probe, s->not_before_usec);
        }
}
