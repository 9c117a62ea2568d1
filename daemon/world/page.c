/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/world/internal.h"
#include "daemon/world/keeper.h"
#include "util/cleanup.h"
#include "proto/state-page.h"

/* State pages (proto/state-page.h): a set of memfds for each owning uid, each a header and slots. A context
 * gets a slot when somebody asks for it, and keeps it until it is forgotten.
 *
 * A reader gets a descriptor that was opened read-only through /proc: the file's mode is 0600 and its owner
 * the daemon, so another uid can neither map it for writing, nor reopen it, nor truncate it. Its size never
 * changes and its memory was allocated before, so that neither side can meet SIGBUS.
 *
 * A slot's word keeps its done value until the slot is used again, which makes it another generation: it is
 * never active twice with one generation, so a reader that comes late cannot take the new context for its
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

struct page_set {
        uid_t uid;
        TAILQ_HEAD(, page) pages;
        UT_hash_handle hh;
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

static int page_new(struct effects *e, struct page_set *set, struct page **ret)
{
        _cleanup_close_ int fd = -1, readable = -1;
        char path[64];
        struct page *p;
        uint8_t *map;
        int r;

        fd = memfd_create("ctxd-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
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
                        .epoch = e->epoch,
                        .keeper = page_header(p)->keeper,
        };
        TAILQ_INSERT_HEAD(&set->pages, p, pages);
        *ret = p;
        return 0;
}

static void page_free(struct page *p)
{
        /* Whoever still has it mapped reads done in every slot, and that nobody writes here any more. */
        __atomic_store_n(&page_header(p)->epoch, 0, __ATOMIC_RELEASE);
        TAILQ_REMOVE(&p->set->pages, p, pages);
        keeper_unmap(p->map, PAGE_SIZE_BYTES, KEEPER_OFFSET);
        close(p->fd);
        free(p);
}

static int page_set_get(struct effects *e, uid_t uid, struct page_set **ret)
{
        struct page_set *set;

        HASH_FIND(hh, e->pages, &uid, sizeof uid, set);
        if (!set) {
                set = calloc(1, sizeof *set);
                if (!set)
                        return -ENOMEM;
                set->uid = uid;
                TAILQ_INIT(&set->pages);
                HASH_ADD(hh, e->pages, uid, sizeof set->uid, set);
                if (!set->hh.tbl) {
                        free(set);
                        return -ENOMEM;
                }
        }
        *ret = set;
        return 0;
}

static void page_set_collect(struct effects *e, struct page_set *set)
{
        if (!TAILQ_EMPTY(&set->pages))
                return;
        HASH_DEL(e->pages, set);
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

static uint64_t state_of(const struct effects *e, const struct context *c)
{
        switch ((enum context_state) c->state) {
        case CONTEXT_CANCELED:
                return e->stopping ? STATE_WORD_STOPPED : STATE_WORD_CANCELED;
        case CONTEXT_DEADLINE_EXCEEDED:
                return STATE_WORD_DEADLINE_EXCEEDED;
        case CONTEXT_ACTIVE:
        default:
                return STATE_WORD_ACTIVE;
        }
}

int page_get(struct effects *e, struct context *c, int *ret_fd, uint64_t *ret_offset, uint64_t *ret_word)
{
        struct page_slot *s = c->page_slot;
        struct state_slot *shared;
        uint64_t generation;

        if (!s) {
                struct page_set *set;
                struct page *p;
                int r;

                r = page_set_get(e, c->uid, &set);
                if (r < 0)
                        return r;
                p = TAILQ_FIRST(&set->pages);
                if (!p || page_is_full(p)) {
                        r = page_new(e, set, &p);
                        if (r < 0) {
                                page_set_collect(e, set);
                                return r;
                        }
                }
                s = slot_take(p);
                shared = slot_shared(s);
                generation = (shared->word >> 2) + 1;
                __atomic_store_n(&shared->deadline_usec, c->deadline_usec, __ATOMIC_RELEASE);
                __atomic_store_n(&shared->word, generation << 2 | state_of(e, c), __ATOMIC_RELEASE);
                c->page_slot = s;
        }
        shared = slot_shared(s);
        *ret_fd = s->page->fd;
        *ret_offset = (uint64_t) ((uint8_t *) shared - s->page->map);
        *ret_word = shared->word & ~(uint64_t) STATE_WORD_MASK;
        return 0;
}

void page_update(struct effects *e, struct context *c)
{
        struct page_slot *s = c->page_slot;
        struct state_slot *shared;

        if (!s)
                return;
        shared = slot_shared(s);
        if (shared->deadline_usec != c->deadline_usec)
                __atomic_store_n(&shared->deadline_usec, c->deadline_usec, __ATOMIC_RELEASE);
        __atomic_store_n(&shared->word, (shared->word & ~(uint64_t) STATE_WORD_MASK) | state_of(e, c),
                        __ATOMIC_RELEASE);
}

void page_drop(struct effects *e, struct context *c)
{
        struct page_slot *s = c->page_slot;
        struct state_slot *shared;
        struct page_set *set;
        struct page *p;

        if (!s)
                return;
        c->page_slot = NULL;
        shared = slot_shared(s);
        if ((shared->word & STATE_WORD_MASK) == STATE_WORD_ACTIVE) /* nobody reads active where nothing is */
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
        page_set_collect(e, set);
}

/* The daemon leaves for good: what is still active stays so, but the header says that nobody is behind it. */
void pages_deinit(struct effects *e)
{
        struct page_set *set, *next_set;

        HASH_ITER (hh, e->pages, set, next_set) {
                struct page *p;

                while ((p = TAILQ_FIRST(&set->pages)))
                        page_free(p);
                HASH_DEL(e->pages, set);
                free(set);
        }
}
