/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* No code location fields: they would name this file, and not where the leak is. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "bpf/probe.h"
#include "bpf/report.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "proto/message-ids.h"
#include "proto/names.h"
#include "proto/state-page.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define FIELDS_MAX 32

/* An entry in the making: owned strings. A field that there was no memory for is missing. */
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

/* A field that is left out where there is nothing to say. */
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

static const char *format_span(char *buffer, size_t size, uint64_t usec)
{
        uint64_t s = usec / 1000000;

        if (s < 60)
                snprintf(buffer, size, "%" PRIu64 ".%" PRIu64 "s", s, usec % 1000000 / 100000);
        else if (s < 3600)
                snprintf(buffer, size, "%" PRIu64 "min %" PRIu64 "s", s / 60, s % 60);
        else
                snprintf(buffer, size, "%" PRIu64 "h %" PRIu64 "min", s / 3600, s / 60 % 60);
        return buffer;
}

static const char *err_text(const struct probe_watch *watch)
{
        return watch->state == STATE_WORD_DEADLINE_EXCEEDED ? CTXD_ERR_DEADLINE : CTXD_ERR_CANCELED;
}

static void describe_done(const struct probe_watch *watch, char *ret, size_t size)
{
        const char *how = watch->state == STATE_WORD_DEADLINE_EXCEEDED ? "reached its deadline"
                                                                       : "was canceled";

        if (watch->cause[0] && strcmp(watch->cause, err_text(watch)) != 0)
                snprintf(ret, size, "context %s %s (%s)", watch->path, how, watch->cause);
        else
                snprintf(ret, size, "context %s %s", watch->path, how);
}

static void add_common(struct entry *entry, const struct probe *probe, const struct leak *leak,
                const char *message_id)
{
        const struct probe_watch *watch = &leak->watch->record;
        const struct probe_leak *record = &leak->record;

        entry_add(entry, "MESSAGE_ID=%s", message_id);
        entry_add(entry, "SYSLOG_IDENTIFIER=ctxd");
        entry_add(entry, "OBJECT_PID=%" PRIu32, record->pid);
        /* So that `journalctl -u ctxd` shows it, as well as the log of the unit that journald finds for
         * OBJECT_PID. */
        entry_add(entry, "OBJECT_SYSTEMD_UNIT=ctxd.service");
        entry_add(entry, "CTXD_CONTEXT=%s", watch->path);
        entry_add(entry, "CTXD_CONTEXT_ID=%" PRIu64, watch->context_id);
        entry_add(entry, "CTXD_ERR=%s", err_text(watch));
        entry_add(entry, "CTXD_CAUSE=%s", watch->cause[0] ? watch->cause : err_text(watch));
        entry_add(entry, "CTXD_LEAK=%s", record->kind == PROBE_LEAK_IGNORING ? "ignoring" : "blocked");
        entry_add(entry, "CTXD_LEAK_ID=%" PRIu64, record->leak_id);
        entry_add(entry, "CTXD_TID=%" PRIu32, record->tid);
        entry_add(entry, "CTXD_BACKEND=%s", backend_name(backend_kind(probe->backend)));
}

static void write_found(const struct leak *leak, uint32_t left_out, char *ret, size_t size)
{
        const struct probe_leak *record = &leak->record;
        char done[2200], after[32], slept[32] = "", more[64] = "", missing[80] = "", asleep[48] = "";

        describe_done(&leak->watch->record, done, sizeof(done));
        format_span(after, sizeof(after), record->since_done_usec);
        if (record->count > 1)
                snprintf(more, sizeof(more), "; %" PRIu64 " threads are in this place", record->count);
        if (left_out > 0)
                snprintf(missing, sizeof(missing), " (%" PRIu32 " reports about this process were left out)",
                                left_out);
        if (record->kind == PROBE_LEAK_IGNORING) {
                snprintf(ret, size,
                                "%s[%" PRIu32 "/%" PRIu32
                                "] is still running %s after %s: it has taken %u%% of a CPU since%s%s",
                                record->comm, record->pid, record->tid, after, done, leak->percent, more,
                                missing);
                return;
        }
        if (record->blocked_usec != UINT64_MAX)
                snprintf(asleep, sizeof(asleep), ", asleep for %s",
                                format_span(slept, sizeof(slept), record->blocked_usec));
        snprintf(ret, size, "%s[%" PRIu32 "/%" PRIu32 "] is still blocked %s after %s: %s%s%s%s%s%s",
                        record->comm, record->pid, record->tid, after, done,
                        record->syscall_text[0] ? record->syscall_text : "in the kernel",
                        record->waits_on[0] ? " on " : "", record->waits_on, asleep, more, missing);
}

void report_found(struct probe *probe, const struct leak *leak, uint64_t now, uint32_t left_out)
{
        const struct probe_leak *record = &leak->record;
        struct entry entry = {};
        char message[3072];

        (void) now;
        add_common(&entry, probe, leak, CTXD_MESSAGE_LEAK_FOUND);
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
        write_found(leak, left_out, message, sizeof(message));
        entry_send(&entry, SD_WARNING, message);
}

void report_resolved(struct probe *probe, const struct leak *leak, uint64_t now, const char *how)
{
        const struct probe_leak *record = &leak->record;
        uint64_t after = now - leak->watch->record.done_usec;
        struct entry entry = {};
        char message[3072], done[2200], span[32];

        add_common(&entry, probe, leak, CTXD_MESSAGE_LEAK_RESOLVED);
        entry_add(&entry, "PRIORITY=5");
        entry_add(&entry, "CTXD_SINCE_DONE_USEC=%" PRIu64, after);
        entry_add_text(&entry, "CTXD_SYSCALL", record->syscall_text);
        describe_done(&leak->watch->record, done, sizeof(done));
        snprintf(message, sizeof(message), "%s[%" PRIu32 "/%" PRIu32 "]: leak resolved after %s, %s; %s",
                        record->comm, record->pid, record->tid, format_span(span, sizeof(span), after), how,
                        done);
        entry_send(&entry, SD_NOTICE, message);
}

void report_unavailable(struct probe *probe)
{
        struct entry entry = {};
        char message[512];

        entry_add(&entry, "MESSAGE_ID=%s", CTXD_MESSAGE_PROBE_UNAVAILABLE);
        entry_add(&entry, "SYSLOG_IDENTIFIER=ctxd");
        entry_add(&entry, "PRIORITY=4");
        entry_add(&entry, "OBJECT_SYSTEMD_UNIT=ctxd.service");
        entry_add(&entry, "CTXD_BACKEND=%s", backend_name(backend_kind(probe->backend)));
        snprintf(message, sizeof(message), "leaks are looked for with %s: %s",
                        probe->backend ? "/proc alone, which sees less" : "nothing", probe->reason);
        entry_send(&entry, SD_WARNING, message);
}
