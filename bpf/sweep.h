/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "bpf/sample.h"

struct probe;
struct probe_threads;
struct probe_watch;

/* One timer serves all watched contexts. Each time there is a sweep, then come the verdicts and the
 * reports, and then the time of the next sweep is worked out. */
struct sweeper {
        sd_event_source *timer;
        uint64_t planned_usec; /* UINT64_MAX: no sweep is planned */
        uint64_t number;
        uint64_t changed_usec;    /* when a sweep last found something new */
        uint64_t not_before_usec; /* no verdict before that time */
        uint64_t behind_usec; /* the next sweep comes then, for the rest of the evidence; 0: there is none */
        uint64_t swept_usec;  /* when the last sweep began, of which ctxd has to be told; 0: it knows */
        bool entered_changed; /* the backend does not know yet who has entered */
        unsigned n_late;      /* sweeps in a row that came late */
        int64_t suspended_usec; /* CLOCK_BOOTTIME less CLOCK_MONOTONIC at the last sweep */
        struct sample *samples; /* of the last sweep, sorted by parent */
        size_t n_samples, n_allocated;
};

int sweeper_init(struct probe *probe);
void sweeper_deinit(struct probe *probe);
/* Watches a context from now on, or takes in what is new about it. */
int sweeper_watch(struct probe *probe, const struct probe_watch *record);
/* Takes in which threads have entered a watched context by themselves. */
int sweeper_threads(struct probe *probe, const struct probe_threads *record);
void sweeper_forget(struct probe *probe, uint64_t context_id, const char *how);
/* The connection was lost, and is there again. */
void sweeper_pause(struct probe *probe);
void sweeper_resume(struct probe *probe);
