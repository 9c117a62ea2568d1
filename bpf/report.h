/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

struct probe;
struct account;
struct leak;
struct watch;

/* The entries for the journal. Without a journal they are lines on standard error. */
void report_found(struct probe *probe, struct leak *leak);
void report_resolved(struct probe *probe, const struct leak *leak);
/* How many entries about processes of this user were left out. */
void report_left_out(struct probe *probe, const struct account *account);
/* That nobody looks at some threads that have entered this context. */
void report_unseen(struct probe *probe, const struct watch *watch);
void report_unavailable(struct probe *probe);
