/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "bpf/disclosure.h"
#include "bpf/probe.h"
#include "bpf/publish.h"
#include "bpf/report.h"
#include "bpf/waits.h"
#include "util/clock.h"

/* The first repeat comes after this many graces. Each one after it takes REPEAT_FACTOR times as long. */
#define REPEAT_GRACES 4
#define REPEAT_FACTOR 4
#define REPEAT_MIN_USEC UINT64_C(1000000)
#define REPEAT_MAX_USEC (UINT64_C(6) * 3600 * 1000000)

/* The journal gets no more than BUDGET_OF_PROCESS entries about one process in this time. */
#define BUDGET_WINDOW_USEC UINT64_C(60000000)

/* The journal */

/* One process with leaks in many places does not use up what its user has. */
static struct leak_budget *budget_of(struct probe *probe, const struct leak *leak, uint64_t now)
{
        struct leak_budget *budget, like = {.key = {leak->key.leader_start_nsec, leak->key.pid}};

        HASH_FIND(hh, probe->leaks.budgets, &like.key, sizeof like.key, budget);
        if (!budget) {
                budget = calloc(1, sizeof *budget);
                if (!budget)
                        return NULL;
                budget->key = like.key;
                budget->window_usec = now;
                HASH_ADD(hh, probe->leaks.budgets, key, sizeof budget->key, budget);
        }
        if (now - budget->window_usec >= BUDGET_WINDOW_USEC) {
                budget->window_usec = now;
                budget->used = 0;
        }
        return budget;
}

/* Frees old budgets: their processes have had no new entry for long. */
static void budgets_trim(struct probe *probe, uint64_t now)
{
        struct leak_budget *budget, *next;

        HASH_ITER (hh, probe->leaks.budgets, budget, next) {
                if (now - budget->window_usec < 2 * BUDGET_WINDOW_USEC)
                        continue;
                HASH_DELETE(hh, probe->leaks.budgets, budget);
                free(budget);
        }
}

/* Comes back when an account has something to say and its minute is over. */
static void plan(struct probe *probe)
{
        uint64_t at = UINT64_MAX;
        struct account *account, *next;

        HASH_ITER (hh, probe->accounts.by_party, account, next)
                if (account_due_usec(account) < at)
                        at = account_due_usec(account);
        (void) sd_event_source_set_time(probe->leaks.timer, at == UINT64_MAX ? 0 : at);
        (void) sd_event_source_set_enabled(
                        probe->leaks.timer, at == UINT64_MAX ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

static void journal_found(struct probe *probe, struct leak *leak, uint64_t now)
{
        struct account *account = leak->account;
        struct leak_budget *budget = leak->key.pid > 0 ? budget_of(probe, leak, now) : NULL;

        /* Resolutions that wait come first. */
        if ((budget && budget->used >= BUDGET_OF_PROCESS) || !TAILQ_EMPTY(&account->late) ||
                        !account_take_entry(account, now)) {
                account_leave_out(account, now);
                return;
        }
        if (budget)
                budget->used++;
        report_found(probe, leak);
        leak->is_journaled = true;
}

void publish_resolved(struct probe *probe, struct leak *leak)
{
        struct account *account = leak->account;

        if (TAILQ_EMPTY(&account->late) && account_take_entry(account, leak->resolved_usec)) {
                publish_prepare(probe, leak);
                report_resolved(probe, leak);
                return;
        }
        leak->is_late = true;
        TAILQ_INSERT_TAIL(&account->late, leak, late);
        if (TAILQ_FIRST(&account->late) == leak)
                plan(probe);
}

void publish_unseen(struct probe *probe, uint64_t now)
{
        struct watch *watch, *next;
        struct account *account;

        HASH_ITER (hh, probe->watches.by_id, watch, next) {
                if (watch->n_unseen == 0 || watch->unseen_told || watch->n_entered == 0)
                        continue;
                account = account_ref(&probe->accounts, watch->entered[0].uid);
                if (!account)
                        continue;
                watch->unseen_told = true;
                if (account_take_entry(account, now))
                        report_unseen(probe, watch);
                else
                        account_leave_out(account, now);
                account_unref(account);
        }
}

/* The minute of an account is over: it has entries again. */
static void catch_up(struct probe *probe, struct account *account, uint64_t now)
{
        struct leak *leak;

        if (account->n_left_out > 0 && account_take_entry(account, now)) {
                report_left_out(probe, account);
                account->n_left_out = 0;
        }
        while ((leak = TAILQ_FIRST(&account->late)) && account_take_entry(account, now)) {
                publish_prepare(probe, leak);
                report_resolved(probe, leak);
                leak_not_late(leak);
        }
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct probe *probe = userdata;
        struct account *account, *next;
        uint64_t now = now_boottime_usec();

        HASH_ITER (hh, probe->accounts.by_party, account, next)
                if (account_due_usec(account) <= now)
                        catch_up(probe, account, now);
        accounts_trim(&probe->accounts, now);
        plan(probe);
        return 0;
}

int publish_init(struct probe *probe)
{
        int r;

        leaks_init(&probe->leaks);
        r = sd_event_add_time(probe->event, &probe->leaks.timer, CLOCK_BOOTTIME, 0, 1000, on_timer, probe);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(probe->leaks.timer, SD_EVENT_OFF);
}

void publish_deinit(struct probe *probe)
{
        struct account *account, *next;
        struct leak *leak;

        HASH_ITER (hh, probe->accounts.by_party, account, next)
                while ((leak = TAILQ_FIRST(&account->late)))
                        leak_not_late(leak);
        leaks_deinit(&probe->leaks);
}

/* The record */

static void fill_times(struct leak *leak, uint64_t now)
{
        const struct thread *thread = leak_headline(leak);
        uint64_t done = leak->watch->record.done_usec, blocked = UINT64_MAX;

        leak->record->since_done_usec = now > done ? now - done : 0;
        leak->record->count = leak->count;
        if (leak->key.kind == PROBE_LEAK_BLOCKED) {
                /* The kernel's figure, where it has one. The thread has slept for at least as long as it
                 * was seen to. */
                uint64_t seen = thread->clock.asleep_usec > 0 ? now - thread->clock.asleep_usec : 0;

                if (leak->detail->evidence.sample.slept_nsec != UINT64_MAX)
                        blocked = leak->detail->evidence.sample.slept_nsec / 1000 + (now - leak->found_usec);
                if (blocked == UINT64_MAX || blocked < seen)
                        blocked = seen;
        }
        leak->record->blocked_usec = blocked;
}

/* Only how long the thread has slept is left. */
static void drop_evidence(struct leak *leak)
{
        struct probe_leak *record = leak->record;

        record->reader = record->kernel_reader = PROBE_NOBODY;
        memset(record->syscall_text, 0, sizeof record->syscall_text);
        memset(record->waits_on, 0, sizeof record->waits_on);
        memset(record->why, 0, sizeof record->why);
        memset(record->kernel_stack, 0, sizeof record->kernel_stack);
        memset(record->stack, 0, sizeof record->stack);
        memset(leak->detail->stack, 0, sizeof leak->detail->stack);
        leak->detail->evidence = (struct evidence){
                        .sample = {.syscall = -1, .slept_nsec = leak->detail->evidence.sample.slept_nsec}};
}

void publish_describe(struct probe *probe, struct leak *leak)
{
        const struct sample *sample = &leak_headline(leak)->sample;
        struct probe_leak *record = leak->record;
        struct evidence *evidence = &leak->detail->evidence;

        record->reader = disclosure_reader(&leak->watch->record, sample);
        if (record->reader == PROBE_NOBODY) {
                drop_evidence(leak);
                return;
        }
        /* A stack has lines, and the kernel shows it to root alone. The name of the function in which the
         * thread sleeps (/proc/PID/wchan) is for its user, too. */
        record->kernel_reader = strchr(leak->detail->stack, '\n') ? PROBE_NOBODY : record->reader;
        memcpy(record->kernel_stack, leak->detail->stack, sizeof record->kernel_stack);
        if (leak->key.kind == PROBE_LEAK_BLOCKED) {
                waits_syscall(&evidence->sample, record->syscall_text, sizeof record->syscall_text);
                waits_on(probe, evidence, record->waits_on, sizeof record->waits_on);
        }
        waits_why(probe, sample, record->why, sizeof record->why);
}

static void fill_record(struct probe *probe, struct leak *leak, uint64_t now)
{
        const struct thread *thread = leak_headline(leak);
        struct probe_leak *record = leak->record;

        record->header.type = PROBE_LEAK;
        record->header.size = sizeof *record;
        record->context_id = leak->key.context_id;
        record->kind = leak->key.kind;
        record->backend = backend_kind(probe->backend);
        record->leak_id = leak->id;
        record->uid = leak->account->uid;
        if (thread) {
                record->pid = thread->key.pid;
                record->tid = thread->key.tid;
                memcpy(record->comm, thread->sample.comm, sizeof record->comm);
        } else {
                record->reader = record->kernel_reader = PROBE_NOBODY;
        }
        fill_times(leak, now);
}

void publish_prepare(struct probe *probe, struct leak *leak)
{
        const struct thread *thread = leak_headline(leak);

        if (!leak->detail)
                fill_record(probe, leak, now_boottime_usec());
        else if (thread && disclosure_reader(&leak->watch->record, &thread->sample) != leak->record->reader)
                drop_evidence(leak);
}

static void publish_new(struct probe *probe, struct leak *leak, uint64_t now)
{
        uint64_t grace = leak->watch->record.grace_usec;

        if (!leak_verify(probe, leak))
                return;
        leak->found_usec = now;
        leak->id = ++probe->leaks.last_id;
        fill_record(probe, leak, now);
        leak->interval_usec =
                        grace < REPEAT_MAX_USEC / REPEAT_GRACES ? grace * REPEAT_GRACES : REPEAT_MAX_USEC;
        if (leak->interval_usec < REPEAT_MIN_USEC)
                leak->interval_usec = REPEAT_MIN_USEC;
        leak->repeat_usec = now + leak->interval_usec;
        leak->count_told = leak->count;
        leak_tell(probe, leak);
        journal_found(probe, leak, now);
}

static void publish_again(struct probe *probe, struct leak *leak, uint64_t now)
{
        const struct thread *thread = LIST_FIRST(&leak->threads);

        if (leak->count == leak->count_told && now < leak->repeat_usec)
                return;
        /* It may be over; but nobody could look. */
        if (thread && thread->sweep != probe->sweeper.number) {
                leak->repeat_usec = now + leak->interval_usec;
                return;
        }
        fill_record(probe, leak, now);
        leak->count_told = leak->count;
        leak_tell(probe, leak);
        if (now < leak->repeat_usec)
                return;
        publish_prepare(probe, leak);
        journal_found(probe, leak, now);
        leak->interval_usec = leak->interval_usec < REPEAT_MAX_USEC / REPEAT_FACTOR
                                              ? leak->interval_usec * REPEAT_FACTOR
                                              : REPEAT_MAX_USEC;
        leak->repeat_usec = now + leak->interval_usec;
}

void publish_all(struct probe *probe, uint64_t now)
{
        struct leak *leak, *next;

        HASH_ITER (hh, probe->leaks.by_key, leak, next) {
                if (leak->id == 0)
                        publish_new(probe, leak, now);
                else
                        publish_again(probe, leak, now);
        }
        budgets_trim(probe, now);
        accounts_trim(&probe->accounts, now);
        plan(probe);
}
