/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/printable.h"
#include "ctl/bus.h"
#include "ctl/log-lines.h"
#include "ctl/terminal.h"
#include "ctl/text.h"

static void journal_closep(sd_journal **j)
{
        sd_journal_close(*j);
}
#define _cleanup_journal_ _cleanup_(journal_closep)

static int match(sd_journal *j, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int match(sd_journal *j, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list ap;
        int r;

        va_start(ap, format);
        r = vasprintf(&text, format, ap);
        va_end(ap);
        return r < 0 ? -ENOMEM : sd_journal_add_match(j, text, 0);
}

/* Anybody may log fields of that name: they have to come from the daemon's user. Ids are of this boot. */
static int match_context(sd_journal *j, const struct ctl *ctl, const struct listed *c)
{
        char boot[SD_ID128_STRING_MAX];
        sd_id128_t id;
        int r;

        if ((r = sd_id128_get_boot(&id)) < 0 || (r = match(j, "CTXD_CONTEXT=%s", c->path)) < 0 ||
                        (r = match(j, "CTXD_CONTEXT_ID=%" PRIu64, c->id)) < 0 ||
                        (r = match(j, "_UID=%u", ctl->user ? getuid() : 0)) < 0)
                return r;
        return match(j, "_BOOT_ID=%s", sd_id128_to_string(id, boot));
}

/* A file that may not be read is left out without a word when the journal is opened. */
static bool is_readable(const char *directory)
{
        char path[128], machine[SD_ID128_STRING_MAX];
        sd_id128_t id;

        if (sd_id128_get_machine(&id) < 0)
                return true;
        snprintf(path, sizeof path, "%s/%s/system.journal", directory, sd_id128_to_string(id, machine));
        return access(path, R_OK) == 0 || errno != EACCES;
}

static void tell_unreadable(const struct ctl *ctl)
{
        static bool has_told;

        if (!has_told && !ctl->user && (!is_readable("/var/log/journal") || !is_readable("/run/log/journal")))
                print_error("you may not read the system's journal, so its lines are not shown; members of "
                            "the groups adm and systemd-journal may");
        has_told = true;
}

/* The value of a field, as a new string; "" where there is none. */
static char *get(sd_journal *j, const char *field)
{
        _cleanup_free_ char *text = NULL;
        const void *data;
        size_t size, skip = strlen(field) + 1;

        if (sd_journal_get_data(j, field, &data, &size) < 0 || size < skip)
                return strdup("");
        text = strndup((const char *) data + skip, size - skip);
        return text ? printable_new(text, false) : NULL;
}

/* "Nov 30 16:40:01 host ctxd[123]: text" */
static int print_entry(sd_journal *j)
{
        _cleanup_free_ char *host = get(j, "_HOSTNAME"), *who = get(j, "SYSLOG_IDENTIFIER"),
                            *pid = get(j, "_PID"), *message = get(j, "MESSAGE"), *line = NULL;
        char stamp[64] = "";
        struct tm tm;
        uint64_t usec;
        time_t t;

        if (!host || !who || !pid || !message || sd_journal_get_realtime_usec(j, &usec) < 0)
                return -ENOMEM;
        t = (time_t) (usec / 1000000);
        if (localtime_r(&t, &tm))
                strftime(stamp, sizeof stamp, "%b %d %H:%M:%S", &tm);
        if (asprintf(&line, "%s %s %s[%s]: %s", stamp, host, who, pid, message) < 0) {
                line = NULL;
                return -ENOMEM;
        }
        text_put(stdout, line, strlen(line), terminal_columns());
        putchar('\n');
        return 0;
}

void log_lines_print(const struct ctl *ctl, const struct listed *c, uint64_t lines)
{
        _cleanup_journal_ sd_journal *j = NULL;
        int r;

        if (lines == 0 || !bus_is_service(ctl))
                return;
        r = sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY);
        if (r >= 0)
                r = match_context(j, ctl, c);
        if (r >= 0)
                r = sd_journal_seek_tail(j);
        if (r >= 0)
                r = sd_journal_previous_skip(j, lines);
        if (r > 0)
                putchar('\n');
        while (r > 0) {
                r = print_entry(j);
                if (r >= 0)
                        r = sd_journal_next(j);
        }
        fflush(stdout);
        if (r < 0 && r != -ENOENT)
                print_error("cannot read the journal: %s", strerror(-r));
        else
                tell_unreadable(ctl);
}
