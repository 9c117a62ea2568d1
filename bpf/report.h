/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

struct probe;
struct leak;

/* The entries for the journal. Without a journal they are lines on standard error. */
void report_found(struct probe *probe, const struct leak *leak, uint32_t left_out);
void report_resolved(struct probe *probe, const struct leak *leak, uint64_t now, const char *how);
void report_unavailable(struct probe *probe);
