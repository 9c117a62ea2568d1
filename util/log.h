/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-daemon.h>

/* Writes a line to standard error. Where the journal reads it ($JOURNAL_STREAM) the priority stands in front.
 * Level is one of SD_ERR, SD_WARNING, SD_NOTICE, SD_INFO, SD_DEBUG. Debug lines are dropped unless
 * $CTXD_DEBUG is set. */
void log_line(const char *level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(SD_ERR, __VA_ARGS__)
#define log_warning(...) log_line(SD_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(SD_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(SD_INFO, __VA_ARGS__)
#define log_debug(...) log_line(SD_DEBUG, __VA_ARGS__)
