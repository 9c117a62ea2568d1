/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "daemon/world/membership/internal.h"
#include "daemon/world/membership/ring.h"

/* What bpf.c and bpf-maps.c share. Nobody else includes this. */

struct bpf_membership {
        int fds[PROBE_FDS];
        struct membership_slot *slots;
        struct membership_stats *stats;
        size_t slots_size, stats_size;
        struct ring ring;
        sd_event_source *events;
        uint64_t last_since_nsec;
        uint64_t seen_failed, seen_lost;
        bool adopt_again; /* it could not be looked whether somebody was missed */
};

static inline uint64_t bpf_counter(const __u64 *value)
{
        return __atomic_load_n(value, __ATOMIC_SEQ_CST);
}

static inline uint64_t bpf_failures(const struct bpf_membership *b)
{
        return bpf_counter(&b->stats->inherit_failed) + bpf_counter(&b->stats->adopt_failed);
}

/* bpf.c */
/* The ring has records. */
int bpf_events_ready(sd_event_source *source, int fd, uint32_t revents, void *userdata);

/* bpf-few.c: the tasks of few processes, without a look at all tasks of the host. Where they say 0, or less,
 * that look has to be made. */
void bpf_few_begin(struct membership *m, const struct member_slot *slot);
void bpf_few_end(struct membership *m, const struct member_slot *slot);
/* Takes all tasks of a process in. */
int bpf_few_adopt(struct bpf_membership *b, int pidfd);
/* Gives the members of a look to its callback. It has been called for all of them, or for none. */
int bpf_few_list(struct membership *m, struct member_look *l);

/* bpf.c */
uint32_t bpf_live(struct membership *m, struct member_slot *slot);
/* A record that an iterator has given. */
int bpf_give_record(struct membership *m, struct membership_task *t, member_cb cb, void *userdata);
