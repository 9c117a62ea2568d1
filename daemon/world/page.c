/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/world/anchor.h"
#include "daemon/world/keeper.h"
#include "daemon/world/page.h"
#include "daemon/world/world.h"
#include "proto/state-page.h"
#include "util/cleanup.h"
#include "util/log.h"

/* A reader gets a descriptor that was opened read-only through /proc. The file has the mode 0600 and belongs
 * to the daemon, so another uid can neither map it for writing, nor reopen it, nor truncate it. Its size
 * never changes and its memory is allocated beforehand, so neither side can meet SIGBUS.
 *
 * The word of a slot keeps its done value until the slot is used again. Then it gets another generation. With
 * one generation a word is active only once, so a reader that comes late cannot take the new context for its
 * own. */

#define PAGE_SIZE_BYTES (64 * 1024)
#define KEEPER_OFFSET offsetof(struct state_page_header, keeper)
#define PAGE_SLOTS ((PAGE_SIZE_BYTES - sizeof(struct state_page_header)) / sizeof(struct state_slot))

struct page_slot {
        struct page *page;
        SLIST_ENTRY(page_slot) free;
};

struct page {
        struct page_set *set;
        int fd; /* read-only */
        uint8_t *map;
        uint32_t n_used;
        uint32_t n_touched; /* slots from here on were never used */
        SLIST_HEAD(, page_slot) free;
        TAILQ_ENTRY(page) pages; /* those with a free slot come first */
        struct page_slot slots[PAGE_SLOTS];
};

/* The pages of one uid. */
struct page_set {
        uid_t uid;
        TAILQ_HEAD(, page) pages;
        UT_hash_handle hh;
};

struct pages {
        struct world *world;
        uint64_t epoch;
        uint64_t last_number;
        struct page_set *sets; /* by uid */
};

static struct state_page_header *page_header(const struct page *p)
{
        return (struct state_page_header *) p->map;
}

static struct state_slot *slot_shared(const struct page_slot *s)
{
        struct state_slot *first = (struct state_slot *) (s->page->map + sizeof(struct state_page_header));

        return first + (s - s->page->slots);
}

static bool page_is_full(const struct page *p)
{
        return p->n_used == PAGE_SLOTS;
}

static int page_new(struct pages *ps, struct page_set *set, struct page **ret)
{
        _cleanup_close_ int fd = -1, readable = -1;
        char path[64];
        struct page *p;
        uint8_t *map;
        int r;

        fd = world_memfd(ps->world, "ctxd-state");
        if (fd < 0)
                return fd;
        if (fchmod(fd, 0600) < 0 || ftruncate(fd, PAGE_SIZE_BYTES) < 0 ||
                        fallocate(fd, 0, 0, PAGE_SIZE_BYTES) < 0)
                return -errno;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
                return -errno;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        readable = open(path, O_RDONLY | O_CLOEXEC);
        if (readable < 0)
                return -errno;

        p = calloc(1, sizeof *p);
        if (!p)
                return -ENOMEM;
        r = keeper_map(fd, PAGE_SIZE_BYTES, KEEPER_OFFSET, &map);
        if (r < 0) {
                free(p);
                return r;
        }
        p->set = set;
        p->fd = TAKE_FD(readable);
        p->map = map;
        SLIST_INIT(&p->free);
        *page_header(p) = (struct state_page_header){
                        .magic = STATE_PAGE_MAGIC,
                        .version = STATE_PAGE_VERSION,
                        .n_slots = PAGE_SLOTS,
                        .epoch = ps->epoch,
                        .keeper = page_header(p)->keeper,
                        .number = ++ps->last_number,
        };
        TAILQ_INSERT_HEAD(&set->pages, p, pages);
        *ret = p;
        return 0;
}

static void page_free(struct page *p)
{
        /* Somebody may still have the page mapped. Every slot of it reads done, and the epoch 0 says that
         * nobody writes to it any more. */
        __atomic_store_n(&page_header(p)->epoch, 0, __ATOMIC_RELEASE);
        TAILQ_REMOVE(&p->set->pages, p, pages);
        keeper_unmap(p->map, PAGE_SIZE_BYTES, KEEPER_OFFSET);
        close(p->fd);
        free(p);
}

static int page_set_get(struct pages *ps, uid_t uid, struct page_set **ret)
{
        struct page_set *set;

        HASH_FIND(hh, ps->sets, &uid, sizeof uid, set);
        if (!set) {
                set = calloc(1, sizeof *set);
                if (!set)
                        return -ENOMEM;
                set->uid = uid;
                TAILQ_INIT(&set->pages);
                HASH_ADD(hh, ps->sets, uid, sizeof set->uid, set);
                if (!set->hh.tbl) {
                        free(set);
                        return -ENOMEM;
                }
        }
        *ret = set;
        return 0;
}

static void page_set_collect(struct pages *ps, struct page_set *set)
{
        if (!TAILQ_EMPTY(&set->pages))
                return;
        HASH_DEL(ps->sets, set);
        free(set);
}

static struct page_slot *slot_take(struct page *p)
{
        struct page_slot *s = SLIST_FIRST(&p->free);

        if (s)
                SLIST_REMOVE_HEAD(&p->free, free);
        else {
                s = p->slots + p->n_touched++;
                s->page = p;
        }
        p->n_used++;
        if (page_is_full(p)) {
                TAILQ_REMOVE(&p->set->pages, p, pages);
                TAILQ_INSERT_TAIL(&p->set->pages, p, pages);
        }
        return s;
}

int page_get(struct pages *ps, struct anchor *anchor, const struct page_state *state, struct page_place *ret)
{
        struct page_slot *s = anchor->page_slot;
        struct state_slot *shared;
        uint64_t generation;

        if (!s) {
                struct page_set *set;
                struct page *p;
                int r;

                r = page_set_get(ps, state->uid, &set);
                if (r < 0)
                        return r;
                p = TAILQ_FIRST(&set->pages);
                if (!p || page_is_full(p)) {
                        r = page_new(ps, set, &p);
                        if (r < 0) {
                                page_set_collect(ps, set);
                                return r;
                        }
                }
                s = slot_take(p);
                shared = slot_shared(s);
                generation = (shared->word >> 2) + 1;
                __atomic_store_n(&shared->deadline_usec, state->deadline_usec, __ATOMIC_RELEASE);
                __atomic_store_n(&shared->word, generation << 2 | state->word, __ATOMIC_RELEASE);
                anchor->page_slot = s;
        }
        shared = slot_shared(s);
        *ret = (struct page_place){
                        .fd = s->page->fd,
                        .number = page_header(s->page)->number,
                        .offset = (uint64_t) ((uint8_t *) shared - s->page->map),
                        .word = shared->word & ~(uint64_t) STATE_WORD_MASK,
        };
        return 0;
}

void page_update(struct anchor *anchor, const struct page_state *state)
{
        struct page_slot *s = anchor->page_slot;
        struct state_slot *shared;

        if (!s)
                return;
        shared = slot_shared(s);
        if (shared->deadline_usec != state->deadline_usec)
                __atomic_store_n(&shared->deadline_usec, state->deadline_usec, __ATOMIC_RELEASE);
        __atomic_store_n(&shared->word, (shared->word & ~(uint64_t) STATE_WORD_MASK) | state->word,
                        __ATOMIC_RELEASE);
}

void page_drop(struct pages *ps, struct anchor *anchor)
{
        struct page_slot *s = anchor->page_slot;
        struct state_slot *shared;
        struct page_set *set;
        struct page *p;

        if (!s)
                return;
        anchor->page_slot = NULL;
        shared = slot_shared(s);
        /* The slot of a context that is gone must not read active. */
        if ((shared->word & STATE_WORD_MASK) == STATE_WORD_ACTIVE)
                __atomic_store_n(&shared->word, shared->word | STATE_WORD_CANCELED, __ATOMIC_RELEASE);
        p = s->page;
        set = p->set;
        SLIST_INSERT_HEAD(&p->free, s, free);
        if (page_is_full(p)) {
                TAILQ_REMOVE(&set->pages, p, pages);
                TAILQ_INSERT_HEAD(&set->pages, p, pages);
        }
        if (--p->n_used == 0)
                page_free(p);
        page_set_collect(ps, set);
}

int pages_new(struct pages **ret, struct world *world, uint64_t epoch)
{
        struct pages *ps;
        int r;

        r = keeper_check();
        if (r < 0)
                log_warning("The kernel does not mark the state pages when ctxd is killed, so libctxclient "
                            "learns of it only by its next call: %s",
                                strerror(-r));
        ps = calloc(1, sizeof *ps);
        if (!ps)
                return -ENOMEM;
        ps->world = world;
        ps->epoch = epoch;
        ps->last_number = epoch; /* which is random: no page of another daemon has the same number */
        *ret = ps;
        return 0;
}

struct pages *pages_free(struct pages *ps)
{
        struct page_set *set, *next_set;

        if (!ps)
                return NULL;
        /* The daemon ends. What is still active stays so, but the header says that there is no daemon. */
        HASH_ITER (hh, ps->sets, set, next_set) {
                struct page *p;

                while ((p = TAILQ_FIRST(&set->pages)))
                        page_free(p);
                HASH_DEL(ps->sets, set);
                free(set);
        }
        free(ps);
        return NULL;
}
