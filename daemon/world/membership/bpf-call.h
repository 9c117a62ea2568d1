/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The few uses of bpf(2) that ctxd has for the maps and links of its probe. None needs a capability, only the
 * descriptor; so ctxd needs no libbpf. 0 or a descriptor, or -errno. */

/* The element and the iterator functions do their work at a real-time priority (util/realtime.h). */
int bpf_map_look_up(int map, const void *key, void *ret_value);
int bpf_map_update(int map, const void *key, const void *value);
int bpf_map_delete(int map, const void *key);
int bpf_iterate(int link); /* a descriptor to read */
ssize_t bpf_iterator_read(int iterator, void *buffer, size_t size);

struct bpf_map_facts {
        uint32_t type, id, key_size, value_size, max_entries;
};

int bpf_map_facts(int map, struct bpf_map_facts *ret);
