/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/leak-sentence.h"
#include "proto/names.h"
#include "util/printable.h"

static void append(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void append(char *text, size_t size, const char *format, ...)
{
        size_t n = strlen(text);
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(text + n, size - n, format, ap);
        va_end(ap);
}

/* The sentence has texts of the process that leaks, and of whoever has cancelled it (law 50). */
static void make_printable(char *text, size_t size)
{
        char *copy = strdup(text);

        text[0] = '\0';
        if (copy)
                (void) printable(copy, false, text, size);
        free(copy);
}

static void append_span(char *text, size_t size, uint64_t usec)
{
        uint64_t s = usec / 1000000;

        if (s < 60)
                append(text, size, "%" PRIu64 ".%" PRIu64 "s", s, usec % 1000000 / 100000);
        else if (s < 3600)
                append(text, size, "%" PRIu64 "min %" PRIu64 "s", s / 60, s % 60);
        else
                append(text, size, "%" PRIu64 "h %" PRIu64 "min", s / 3600, s / 60 % 60);
}

static void append_done(char *text, size_t size, const struct leak_facts *leak)
{
        append(text, size, "context %s %s", leak->context,
                        strcmp(leak->err, CTXD_ERR_DEADLINE) == 0 ? "passed its deadline" : "was canceled");
        if (!leak->cause[0] || strcmp(leak->cause, leak->err) == 0)
                return;
        if (leak->cause_uid != UINT32_MAX)
                append(text, size, " (user %" PRIu32 ": %s)", leak->cause_uid, leak->cause);
        else
                append(text, size, " (%s)", leak->cause);
}

static void append_place(char *text, size_t size, const struct leak_facts *leak)
{
        const char *before = ": ";

        if (leak->syscall[0]) {
                append(text, size, "%s%s%s%s", before, leak->syscall, leak->waits_on[0] ? " on " : "",
                                leak->waits_on);
                before = ", ";
        }
        if (leak->blocked_usec != UINT64_MAX) {
                append(text, size, "%sasleep for ", before);
                append_span(text, size, leak->blocked_usec);
        }
        if (leak->stack[0])
                append(text, size, " in %.*s", (int) strcspn(leak->stack, "\n"), leak->stack);
}

void leak_sentence_found(const struct leak_facts *leak, char *ret, size_t size)
{
        ret[0] = '\0';
        if (leak->more) {
                append(ret, size, "%" PRIu64 " more threads are still there ", leak->count);
                append_span(ret, size, leak->since_done_usec);
                append(ret, size, " after ");
                append_done(ret, size, leak);
                return;
        }
        append(ret, size, "%s[%" PRIu32 "/%" PRIu32 "] is still %s ", leak->comm, leak->pid, leak->tid,
                        leak->ignoring ? "running" : "blocked");
        append_span(ret, size, leak->since_done_usec);
        append(ret, size, " after ");
        append_done(ret, size, leak);
        if (!leak->ignoring)
                append_place(ret, size, leak);
        else if (leak->percent >= 0)
                append(ret, size, ": it has taken %d%% of a CPU since", leak->percent);
        if (leak->count > 1 && leak->count != UINT64_MAX)
                append(ret, size, "; %" PRIu64 " threads are in this place", leak->count);
        make_printable(ret, size);
}

void leak_sentence_resolved(const struct leak_facts *leak, const char *how, char *ret, size_t size)
{
        ret[0] = '\0';
        if (leak->more)
                append(ret, size, "more threads: leak resolved after ");
        else
                append(ret, size, "%s[%" PRIu32 "/%" PRIu32 "]: leak resolved after ", leak->comm, leak->pid,
                                leak->tid);
        append_span(ret, size, leak->since_done_usec);
        append(ret, size, ", %s; ", how);
        append_done(ret, size, leak);
        make_printable(ret, size);
}
