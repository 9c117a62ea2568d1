/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"
#include "util/printable.h"

void log_line(const char *level, const char *format, ...)
{
        static int journal = -1, debug = -1;
        char line[2048], shown[PRINTABLE_SIZE(sizeof line)];
        va_list ap;

        if (journal < 0) {
                journal = getenv("JOURNAL_STREAM") != NULL;
                debug = getenv("CTXD_DEBUG") != NULL;
        }
        if (!debug && strcmp(level, SD_DEBUG) == 0)
                return;
        va_start(ap, format);
        vsnprintf(line, sizeof line, format, ap);
        va_end(ap);
        /* Some of it may be a client's. */
        (void) printable(line, false, shown, sizeof shown);
        if (journal)
                fprintf(stderr, "%s%s\n", level, shown);
        else
                fprintf(stderr, "ctxd: %s\n", shown);
}
