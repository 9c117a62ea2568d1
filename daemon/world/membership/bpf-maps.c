/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/world/membership/bpf-call.h"
#include "daemon/world/membership/bpf-internal.h"
#include "util/cleanup.h"

/* Takes the maps and links of a probe over, if they are what they have to be. */

static int map_expect(
                int map, uint32_t type, uint32_t value_size, uint32_t max_entries, struct bpf_map_facts *ret)
{
        struct bpf_map_facts facts;
        int r = bpf_map_facts(map, &facts);

        if (r < 0)
                return r;
        if (facts.type != type || (value_size > 0 && facts.value_size != value_size) ||
                        (max_entries > 0 && facts.max_entries != max_entries))
                return -EPROTO;
        if (ret)
                *ret = facts;
        return 0;
}

static size_t page_align(size_t n)
{
        size_t page = (size_t) sysconf(_SC_PAGESIZE);

        return (n + page - 1) / page * page;
}

static int map_array(int map, size_t size, int protection, void **ret)
{
        void *p = mmap(NULL, size, protection, MAP_SHARED, map, 0);

        if (p == MAP_FAILED)
                return -errno;
        *ret = p;
        return 0;
}

int bpf_membership_new(struct membership *m, const int fds[PROBE_FDS], struct bpf_membership **ret)
{
        struct bpf_map_facts events;
        struct bpf_membership *b;
        int r;

        r = map_expect(fds[PROBE_FD_MEMBERS], BPF_MAP_TYPE_TASK_STORAGE, sizeof(struct membership_value), 0,
                        NULL);
        if (r >= 0)
                r = map_expect(fds[PROBE_FD_REQUESTS], BPF_MAP_TYPE_TASK_STORAGE,
                                sizeof(struct membership_value), 0, NULL);
        if (r >= 0)
                r = map_expect(fds[PROBE_FD_SLOTS], BPF_MAP_TYPE_ARRAY, sizeof(struct membership_slot),
                                MEMBERSHIP_SLOTS_MAX, NULL);
        if (r >= 0)
                r = map_expect(fds[PROBE_FD_STATS], BPF_MAP_TYPE_ARRAY, sizeof(struct membership_stats), 1,
                                NULL);
        if (r >= 0)
                r = map_expect(fds[PROBE_FD_PROCESSES], BPF_MAP_TYPE_HASH,
                                sizeof(struct membership_processes), MEMBERSHIP_SLOTS_MAX, NULL);
        if (r >= 0)
                r = map_expect(fds[PROBE_FD_EVENTS], BPF_MAP_TYPE_RINGBUF, 0, 0, &events);
        if (r < 0)
                return r;

        b = calloc(1, sizeof *b);
        if (!b)
                return -ENOMEM;
        for (size_t i = 0; i < PROBE_FDS; i++)
                b->fds[i] = -1; /* on failure the caller keeps them */
        b->slots_size = page_align(MEMBERSHIP_SLOTS_MAX * sizeof *b->slots);
        b->stats_size = page_align(sizeof *b->stats);
        r = map_array(fds[PROBE_FD_SLOTS], b->slots_size, PROT_READ | PROT_WRITE, (void **) &b->slots);
        if (r >= 0)
                r = map_array(fds[PROBE_FD_STATS], b->stats_size, PROT_READ, (void **) &b->stats);
        if (r >= 0)
                r = ring_init(&b->ring, fds[PROBE_FD_EVENTS], events.max_entries);
        if (r >= 0)
                r = sd_event_add_io(m->world->event, &b->events, fds[PROBE_FD_EVENTS], EPOLLIN,
                                bpf_events_ready, m);
        if (r < 0) {
                bpf_membership_free(b);
                return r;
        }
        (void) sd_event_source_set_description(b->events, "membership");
        memcpy(b->fds, fds, sizeof b->fds);
        b->seen_failed = bpf_failures(b);
        b->seen_lost = bpf_counter(&b->stats->events_lost);
        *ret = b;
        return 0;
}

struct bpf_membership *bpf_membership_free(struct bpf_membership *b)
{
        if (!b)
                return NULL;
        sd_event_source_disable_unref(b->events);
        ring_deinit(&b->ring);
        if (b->slots)
                munmap(b->slots, b->slots_size);
        if (b->stats)
                munmap(b->stats, b->stats_size);
        for (size_t i = 0; i < PROBE_FDS; i++)
                if (b->fds[i] >= 0)
                        close(b->fds[i]);
        free(b);
        return NULL;
}

const int *bpf_membership_fds(const struct bpf_membership *b)
{
        return b ? b->fds : NULL;
}
