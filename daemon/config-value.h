/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/config.h"
#include "util/timespan.h"

/* Parsers for the values of ctxd.conf, in systemd's form. They return 0, or -EINVAL or -ERANGE. */

/* 1 or more; "infinity". */
int parse_number(const char *text, uint64_t *ret);
/* Bytes, with K, M, G or T of 1024; "infinity". */
int parse_size(const char *text, uint64_t *ret);
int parse_probe(const char *text, enum probe_mode *ret);
