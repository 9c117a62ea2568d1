/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The few system calls bpf(2) that ctxd makes with the maps and links of its probe. None of them needs a
 * capability; the descriptor is enough. There are so few that ctxd needs no libbpf. Each returns 0 or a
 * descriptor, or -errno. */

/* The functions for elements and the one that reads an iterator work at a real-time priority
 * (util/realtime.h). */
int bpf_map_look_up(int map, const void *key, void *ret_value);
int bpf_map_update(int map, const void *key, const void *value);
int bpf_map_delete(int map, const void *key);
/* Returns a descriptor for bpf_iterator_read(). */
int bpf_iterate(int link);
/* The same for the tasks of one process alone, by its pidfd, or where that is -1 by its pid. */
int bpf_iterate_process(int program, int pidfd, uint32_t pid);
ssize_t bpf_iterator_read(int iterator, void *buffer, size_t size);
/* Reads one to its end, and closes it: it gives no data, but it does its work while it is read. An error in
 * place of a descriptor is passed on. */
int bpf_iterator_run(int iterator);

struct bpf_map_facts {
        uint32_t type, id, key_size, value_size, max_entries;
};

int bpf_map_facts(int map, struct bpf_map_facts *ret);
