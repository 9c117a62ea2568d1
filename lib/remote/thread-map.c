/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/remote/context.h"
#include "proto/thread-page.h"

/* Tells the daemon which context each thread works for, by stores into the thread page of this process
 * (proto/thread-page.h). When the first thread enters a context, the daemon is told of that context with a
 * call. Every further enter and leave is a few stores. If the context is done by then, there is one system
 * call more, so that the daemon looks at the page again. There may be no page: the daemon is older, the
 * process may not be a member, or the page is full. Then the daemon does not see the thread, and everything
 * else works. */

struct thread_map {
        /* Never used again. So the place of a thread in one map is not taken for a place in another. */
        uint64_t serial;
        unsigned fork_generation; /* of the process that has mapped it */
        struct thread_page *page;
        int kick;
        struct thread_map *next; /* the next older one */
};

enum {
        ENTRANCE_UNKNOWN,
        ENTRANCE_OPEN,
        ENTRANCE_CLOSED,
};

/* The entry of this thread, from enter to leave. The next enter tries the same entry first. */
static __thread struct {
        uint64_t serial;
        uint32_t index;
        uint32_t tid;
        unsigned fork_generation; /* of tid */
        bool held;
} place __attribute__((tls_model("initial-exec")));

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

void thread_map_reset_entrance(struct remote_context *remote)
{
        atomic_store_explicit(&remote->entrance, ENTRANCE_UNKNOWN, memory_order_release);
}

static int map_new(int page_fd, int kick_fd, struct thread_map **ret)
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

/* Tells the daemon of the context. */
static int ask(struct remote_context *remote)
{
        struct ctx_client *client = remote->client;
        sd_bus_message *reply = NULL;
        struct thread_map *map = NULL;
        int page, kick, r;

        r = remote_context_begin(remote);
        if (r < 0)
                return r;
        r = client_call(client, &reply, "Threads", "s", remote->reference);
        if (r >= 0)
                r = sd_bus_message_read(reply, "hh", &page, &kick);
        if (r >= 0 && !atomic_load_explicit(&client->threads, memory_order_relaxed)) {
                r = map_new(page, kick, &map);
                if (r >= 0)
                        atomic_store_explicit(&client->threads, map, memory_order_release);
        }
        sd_bus_message_unref(reply);
        client_end(client);
        return r;
}

static struct thread_map *map_of(struct remote_context *remote)
{
        int entrance = atomic_load_explicit(&remote->entrance, memory_order_acquire);

        if (remote->client->fork_generation != fork_generation)
                return NULL;
        if (entrance == ENTRANCE_UNKNOWN) {
                entrance = ask(remote) < 0 ? ENTRANCE_CLOSED : ENTRANCE_OPEN;
                atomic_store_explicit(&remote->entrance, entrance, memory_order_release);
        }
        return entrance == ENTRANCE_OPEN
                               ? atomic_load_explicit(&remote->client->threads, memory_order_acquire)
                               : NULL;
}

static bool take(struct thread_entry *entry, uint32_t tid)
{
        uint32_t nobody = 0;

        return __atomic_load_n(&entry->tid, __ATOMIC_RELAXED) == 0 &&
               __atomic_compare_exchange_n(
                               &entry->tid, &nobody, tid, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static struct thread_entry *claim(struct thread_map *map)
{
        struct thread_entry *entries = map->page->entries;

        if (place.tid == 0 || place.fork_generation != fork_generation) {
                place.tid = (uint32_t) syscall(SYS_gettid);
                place.fork_generation = fork_generation;
                place.serial = 0;
        }
        if (place.serial != map->serial || !take(&entries[place.index], place.tid)) {
                uint32_t i;

                for (i = 0; i < THREAD_PAGE_ENTRIES; i++)
                        if (take(&entries[(place.tid + i) % THREAD_PAGE_ENTRIES], place.tid))
                                break;
                if (i == THREAD_PAGE_ENTRIES)
                        return NULL;
                place.index = (place.tid + i) % THREAD_PAGE_ENTRIES;
                place.serial = map->serial;
        }
        place.held = true;
        return &entries[place.index];
}

/* The daemon looks at the page when a context becomes done. If that was before this change, it has to look
 * again. */
static void kick_if_done(const struct ctx_shared *shared, const struct thread_map *map)
{
        const uint64_t one = 1;
        int saved = errno;

        if (!shared->word || atomic_load(shared->word) == shared->given)
                return;
        /* The eventfd is full. So the daemon has not looked yet, and will. */
        if (write(map->kick, &one, sizeof one) < 0)
                errno = saved;
}

void thread_map_enter(struct ctx_shared *shared)
{
        struct remote_context *remote = (struct remote_context *) shared;
        struct thread_map *map = map_of(remote);
        struct thread_entry *entry = map ? claim(map) : NULL;

        if (!entry)
                return;
        __atomic_store_n(&entry->since_usec, now_boottime_usec(), __ATOMIC_RELAXED);
        __atomic_store_n(&entry->context_id, remote->id, __ATOMIC_SEQ_CST);
        kick_if_done(shared, map);
}

void thread_map_leave(struct ctx_shared *shared)
{
        struct remote_context *remote = (struct remote_context *) shared;
        struct thread_map *map;
        struct thread_entry *entry;

        if (!place.held || remote->client->fork_generation != fork_generation)
                return;
        map = atomic_load_explicit(&remote->client->threads, memory_order_acquire);
        if (!map || place.serial != map->serial)
                return;
        place.held = false;
        entry = &map->page->entries[place.index];
        __atomic_store_n(&entry->context_id, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&entry->tid, 0, __ATOMIC_RELEASE);
        kick_if_done(shared, map);
}
