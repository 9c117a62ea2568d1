/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/shared-context.h"
#include "proto/thread-page.h"

/* What threads work for, told to the daemon by stores into this process's thread page (proto/thread-page.h). The
 * first thread that enters a context names it to the daemon, which is one call; every further entry, and every
 * leaving, is a handful of stores, and one system call more if the context is done by then, so that the daemon looks
 * again. Where there is no page (an older daemon, no right to be a member, no room in the page) the thread is not seen,
 * and nothing else is different. */

struct thread_map {
        uint64_t serial;          /* never used again: a thread's place in another map is none in this one */
        unsigned fork_generation; /* of the process that has it mapped */
        struct thread_page *page;
        int kick;
        struct thread_map *next; /* an older one */
};

enum {
        ENTRANCE_UNKNOWN,
        ENTRANCE_OPEN,
        ENTRANCE_CLOSED,
};

/* This thread's entry, kept between an enter and its leave, and tried first by the next one. */
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

/* Another thread may be at it just now, so it stays; nobody reads it any more. */
void threads_start_over(struct ctx_client *client)
{
        struct thread_map *map = atomic_exchange_explicit(&client->threads, NULL, memory_order_acq_rel);

        if (!map)
                return;
        map->next = client->old_threads;
        client->old_threads = map;
}

void threads_forget(struct shared *shared)
{
        atomic_store_explicit(&shared->entrance, ENTRANCE_UNKNOWN, memory_order_release);
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
        /* To the daemon a forked child is another process. */
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

/* Names the context to the daemon. */
static int ask(struct shared *shared)
{
        struct ctx_client *client = shared->client;
        sd_bus_message *reply = NULL;
        struct thread_map *map = NULL;
        int page, kick, r;

        r = shared_begin(shared);
        if (r < 0)
                return r;
        r = client_call(client, &reply, "Threads", "s", shared->reference);
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

static struct thread_map *map_of(struct shared *shared)
{
        int entrance = atomic_load_explicit(&shared->entrance, memory_order_acquire);

        if (shared->client->fork_generation != fork_generation)
                return NULL;
        if (entrance == ENTRANCE_UNKNOWN) {
                entrance = ask(shared) < 0 ? ENTRANCE_CLOSED : ENTRANCE_OPEN;
                atomic_store_explicit(&shared->entrance, entrance, memory_order_release);
        }
        return entrance == ENTRANCE_OPEN
                               ? atomic_load_explicit(&shared->client->threads, memory_order_acquire)
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

/* The daemon looked at the page when the context became done; if that is behind us it is to look again. */
static void kick_if_done(const struct ctx_shared *base, const struct thread_map *map)
{
        const uint64_t one = 1;
        int saved = errno;

        if (!base->word || atomic_load(base->word) == base->given)
                return;
        if (write(map->kick, &one, sizeof one) < 0)
                errno = saved; /* full: it has not looked yet, and will */
}

void threads_enter(struct ctx_shared *base)
{
        struct shared *shared = (struct shared *) base;
        struct thread_map *map = map_of(shared);
        struct thread_entry *entry = map ? claim(map) : NULL;

        if (!entry)
                return;
        __atomic_store_n(&entry->since_usec, now_usec(), __ATOMIC_RELAXED);
        __atomic_store_n(&entry->context_id, shared->id, __ATOMIC_SEQ_CST);
        kick_if_done(base, map);
}

void threads_leave(struct ctx_shared *base)
{
        struct shared *shared = (struct shared *) base;
        struct thread_map *map;
        struct thread_entry *entry;

        if (!place.held || shared->client->fork_generation != fork_generation)
                return;
        map = atomic_load_explicit(&shared->client->threads, memory_order_acquire);
        if (!map || place.serial != map->serial)
                return;
        place.held = false;
        entry = &map->page->entries[place.index];
        __atomic_store_n(&entry->context_id, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&entry->tid, 0, __ATOMIC_RELEASE);
        kick_if_done(base, map);
}
