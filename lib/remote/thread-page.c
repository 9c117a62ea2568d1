/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/remote/context.h"
#include "lib/remote/thread-page.h"

/* The map of the thread page, for thread-map.c. */

static struct thread_map *thread_map_free(struct thread_map *map)
{
        if (map->fork_generation == fork_generation)
                munmap(map->page, sizeof *map->page);
        close(map->kick);
        free(map);
        return NULL;
}

void thread_map_free_all(struct thread_map *map)
{
        while (map) {
                struct thread_map *next = map->next;

                thread_map_free(map);
                map = next;
        }
}

/* Another thread may be using the map just now, so it is kept. No daemon reads it any more. */
void thread_map_start_over(struct ctx_client *client)
{
        struct thread_map *map = atomic_exchange_explicit(&client->threads, NULL, memory_order_acq_rel);

        if (!map)
                return;
        map->next = client->old_threads;
        client->old_threads = map;
}

int thread_map_new(int page_fd, int kick_fd, struct thread_map **ret)
{
        static _Atomic uint64_t last_serial;
        struct thread_map *map = calloc(1, sizeof *map);
        void *p;

        if (!map)
                return -ENOMEM;
        map->kick = fcntl(kick_fd, F_DUPFD_CLOEXEC, 3);
        p = map->kick < 0 ? MAP_FAILED
                          : mmap(NULL, sizeof *map->page, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0);
        if (p == MAP_FAILED) {
                int r = -errno;

                if (map->kick >= 0)
                        close(map->kick);
                free(map);
                return r;
        }
        /* For the daemon a forked child is another process. */
        madvise(p, sizeof *map->page, MADV_DONTFORK);
        map->page = p;
        map->fork_generation = fork_generation;
        map->serial = atomic_fetch_add(&last_serial, 1) + 1;
        if (map->page->header.magic != THREAD_PAGE_MAGIC ||
                        map->page->header.version != THREAD_PAGE_VERSION) {
                thread_map_free(map);
                return -EBADMSG;
        }
        *ret = map;
        return 0;
}

static bool take(struct thread_entry *entry, uint32_t tid)
{
        uint32_t nobody = 0;

        return __atomic_load_n(&entry->tid, __ATOMIC_RELAXED) == 0 &&
               __atomic_compare_exchange_n(
                               &entry->tid, &nobody, tid, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

struct thread_entry *thread_map_claim(struct thread_map *map, struct thread_place *p)
{
        struct thread_entry *entries = map->page->entries;

        if (p->serial != map->serial || !take(&entries[p->index], p->tid)) {
                uint32_t i;

                for (i = 0; i < THREAD_PAGE_ENTRIES; i++)
                        if (take(&entries[(p->tid + i) % THREAD_PAGE_ENTRIES], p->tid))
                                break;
                if (i == THREAD_PAGE_ENTRIES)
                        return NULL;
                p->index = (p->tid + i) % THREAD_PAGE_ENTRIES;
                p->serial = map->serial;
        }
        p->held = true;
        return &entries[p->index];
}
