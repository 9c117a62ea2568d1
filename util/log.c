/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"

void log_line(const char *level, const char *format, ...)
{
        static int journal = -1, debug = -1;
        char line[2048];
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
        if (journal)
                fprintf(stderr, "%s%s\n", level, line);
        else
                fprintf(stderr, "ctxd: %s\n", line);
}
