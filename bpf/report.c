/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Without the fields for the place in the code. They would name this file, and not the place of the leak. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "bpf/look.h"
#include "bpf/probe.h"
#include "bpf/report.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/proc.h"
#include "proto/leak-sentence.h"
#include "proto/message-ids.h"
#include "proto/names.h"
#include "proto/state-page.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define FIELDS_MAX 32

/* An entry that is being made. It owns its strings. A field is left out if there is no memory for it. */
struct entry {
        struct iovec fields[FIELDS_MAX];
        int n;
};

static void entry_add(struct entry *entry, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void entry_add(struct entry *entry, const char *format, ...)
{
        char *text;
        va_list ap;
        int n;

        if (entry->n >= FIELDS_MAX)
                return;
        va_start(ap, format);
        n = vasprintf(&text, format, ap);
        va_end(ap);
        if (n < 0)
                return;
        entry->fields[entry->n++] = (struct iovec){.iov_base = text, .iov_len = (size_t) n};
}

/* Adds a field, unless its text is empty. */
static void entry_add_text(struct entry *entry, const char *name, const char *text)
{
        if (text[0])
                entry_add(entry, "%s=%s", name, text);
}

static void entry_send(struct entry *entry, const char *level, const char *message)
{
        entry_add(entry, "MESSAGE=%s", message);
        if (access(JOURNAL_SOCKET, F_OK) < 0 || sd_journal_sendv(entry->fields, entry->n) < 0)
                log_line(level, "%s", message);
        for (int i = 0; i < entry->n; i++)
                free(entry->fields[i].iov_base);
}

static const char *err_text(const struct probe_watch *watch)
{
        return watch->state == STATE_WORD_DEADLINE_EXCEEDED ? CTXD_ERR_DEADLINE : CTXD_ERR_CANCELED;
}

/* journald adds the unit, the executable and the user of OBJECT_PID to the entry, and shows it in the log of
 * that unit. So it must be the process that this is about, and not one that has its number now. And the probe
 * must have seen in the kernel that the process takes part: it is a member, or it has mapped a page of
 * ctxd's, as a process does whose threads enter contexts. ctxd, which has fewer rights, may have named any
 * process. */
static bool takes_part(const struct probe *probe, const struct leak *leak)
{
        const struct thread *thread = leak_headline(leak);

        if (!leak->named || probe->link.uid == geteuid())
                return true;
        return thread && backend_maps(probe->backend, &thread->sample, probe->link.uid);
}

static bool is_own(const struct leak *leak)
{
        const struct probe_leak *record = leak->record;
        char path[32], text[1024];
        struct proc_stat stat;
        ssize_t n;

        if (!leak->takes_part)
                return false;
        snprintf(path, sizeof path, "/proc/%u/stat", record->pid);
        n = look_file(path, (pid_t) record->pid, leak->account->uid, text, sizeof text, NULL);
        if (n == -EBUSY)
                return false;
        /* If it has gone journald adds nothing. */
        return n < 0 || proc_stat_parse(text, &stat) < 0 ||
               stat.start_ticks == proc_nsec_to_ticks(leak->key.leader_start_nsec);
}

static const char *leak_kind_name(uint32_t kind)
{
        return kind == PROBE_LEAK_MORE ? "more" : kind == PROBE_LEAK_IGNORING ? "ignoring" : "blocked";
}

static void add_origin(struct entry *entry, const char *message_id)
{
        entry_add(entry, "MESSAGE_ID=%s", message_id);
        entry_add(entry, "SYSLOG_IDENTIFIER=ctxd");
        /* With this, `journalctl -u ctxd` shows the entry. */
        entry_add(entry, "OBJECT_SYSTEMD_UNIT=ctxd.service");
}

static void add_context(struct entry *entry, const struct probe_watch *watch, const char *message_id)
{
        add_origin(entry, message_id);
        entry_add(entry, "CTXD_CONTEXT=%s", watch->path);
        entry_add(entry, "CTXD_CONTEXT_ID=%" PRIu64, watch->context_id);
        entry_add(entry, "CTXD_ERR=%s", err_text(watch));
        entry_add(entry, "CTXD_CAUSE=%s", watch->cause[0] ? watch->cause : err_text(watch));
        if (watch->cause_uid != PROBE_NOBODY)
                entry_add(entry, "CTXD_CAUSE_UID=%" PRIu32, watch->cause_uid);
}

static void add_common(struct entry *entry, const struct probe *probe, const struct leak *leak,
                const char *message_id)
{
        const struct probe_leak *record = leak->record;

        add_context(entry, &leak->watch->record, message_id);
        if (record->pid > 0)
                entry_add(entry, "%s=%" PRIu32, is_own(leak) ? "OBJECT_PID" : "CTXD_PID", record->pid);
        entry_add(entry, "CTXD_LEAK=%s", leak_kind_name(record->kind));
        entry_add(entry, "CTXD_LEAK_ID=%" PRIu64, record->leak_id);
        if (record->tid > 0)
                entry_add(entry, "CTXD_TID=%" PRIu32, record->tid);
        entry_add(entry, "CTXD_BACKEND=%s", backend_name(backend_kind(probe->backend)));
}

static struct leak_facts facts_of(const struct leak *leak)
{
        const struct probe_watch *watch = &leak->watch->record;
        const struct probe_leak *record = leak->record;

        return (struct leak_facts){
                        .comm = record->comm,
                        .pid = record->pid,
                        .tid = record->tid,
                        .ignoring = record->kind == PROBE_LEAK_IGNORING,
                        .more = record->kind == PROBE_LEAK_MORE,
                        .context = watch->path,
                        .err = err_text(watch),
                        .cause = watch->cause,
                        .cause_uid = watch->cause_uid == geteuid() ? PROBE_NOBODY : watch->cause_uid,
                        .since_done_usec = record->since_done_usec,
                        .syscall = record->syscall_text,
                        .waits_on = record->waits_on,
                        .stack = record->stack,
                        .blocked_usec = record->blocked_usec,
                        .count = record->count,
                        .percent = (int) leak->percent,
        };
}

void report_found(struct probe *probe, struct leak *leak)
{
        const struct probe_leak *record = leak->record;
        struct leak_facts facts = facts_of(leak);
        struct entry entry = {};
        char message[3072];

        leak->takes_part = takes_part(probe, leak);
        add_common(&entry, probe, leak, facts.more ? CTXD_MESSAGE_LEAKS_LEFT_OUT : CTXD_MESSAGE_LEAK_FOUND);
        entry_add(&entry, "PRIORITY=4");
        if (record->blocked_usec != UINT64_MAX)
                entry_add(&entry, "CTXD_BLOCKED_USEC=%" PRIu64, record->blocked_usec);
        entry_add(&entry, "CTXD_SINCE_DONE_USEC=%" PRIu64, record->since_done_usec);
        entry_add_text(&entry, "CTXD_SYSCALL", record->syscall_text);
        entry_add_text(&entry, "CTXD_WAITS_ON", record->waits_on);
        entry_add_text(&entry, "CTXD_WHY", record->why);
        entry_add_text(&entry, "CTXD_KERNEL_STACK", record->kernel_stack);
        entry_add_text(&entry, "CTXD_STACK", record->stack);
        entry_add(&entry, "CTXD_COUNT=%" PRIu64, record->count);
        leak_sentence_found(&facts, message, sizeof message);
        entry_send(&entry, SD_WARNING, message);
}

void report_resolved(struct probe *probe, const struct leak *leak)
{
        struct leak_facts facts = facts_of(leak);
        struct entry entry = {};
        char message[3072];

        facts.since_done_usec = leak->resolved_usec - leak->watch->record.done_usec;
        add_common(&entry, probe, leak, CTXD_MESSAGE_LEAK_RESOLVED);
        entry_add(&entry, "PRIORITY=5");
        entry_add(&entry, "CTXD_SINCE_DONE_USEC=%" PRIu64, facts.since_done_usec);
        entry_add_text(&entry, "CTXD_SYSCALL", leak->record->syscall_text);
        leak_sentence_resolved(&facts, leak->how, message, sizeof message);
        entry_send(&entry, SD_NOTICE, message);
}

void report_left_out(struct probe *probe, const struct account *account)
{
        struct entry entry = {};
        char message[512];

        add_origin(&entry, CTXD_MESSAGE_LEAKS_LEFT_OUT);
        entry_add(&entry, "PRIORITY=4");
        entry_add(&entry, "CTXD_UID=%" PRIu32, account->uid);
        entry_add(&entry, "CTXD_COUNT=%" PRIu32, account->n_left_out);
        entry_add(&entry, "CTXD_BACKEND=%s", backend_name(backend_kind(probe->backend)));
        snprintf(message, sizeof message,
                        "%" PRIu32 " reports about processes of user %" PRIu32
                        " were left out: no more than %d are written in a minute about those of one user, "
                        "and %d about "
                        "one process",
                        account->n_left_out, account->uid, ACCOUNT_ENTRIES_MAX, BUDGET_OF_PROCESS);
        entry_send(&entry, SD_WARNING, message);
}

void report_unseen(struct probe *probe, const struct watch *watch)
{
        struct entry entry = {};
        char message[2048];

        add_context(&entry, &watch->record, CTXD_MESSAGE_LEAKS_LEFT_OUT);
        entry_add(&entry, "PRIORITY=4");
        entry_add(&entry, "CTXD_COUNT=%" PRIu32, watch->n_unseen);
        snprintf(message, sizeof message,
                        "nobody looks whether %" PRIu32 " of the threads that have entered context %s have "
                        "stopped: their user has entered contexts with "
                        "more threads than are looked at",
                        watch->n_unseen, watch->record.path);
        entry_send(&entry, SD_WARNING, message);
}

void report_unavailable(struct probe *probe)
{
        struct entry entry = {};
        char message[512];

        add_origin(&entry, CTXD_MESSAGE_PROBE_UNAVAILABLE);
        entry_add(&entry, "PRIORITY=4");
        entry_add(&entry, "CTXD_BACKEND=%s", backend_name(backend_kind(probe->backend)));
        snprintf(message, sizeof message, "leaks are looked for with %s: %s",
                        probe->backend ? "/proc alone, which sees less" : "nothing", probe->reason);
        entry_send(&entry, SD_WARNING, message);
}
