/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "lib/local/ctx.h"
#include "lib/remote/mapped-page.h"

struct mapped_page {
        struct mapped_page *next;
        size_t size;
        const void *map;
        /* Since when the daemon of that epoch does not keep the page any more. Another daemon may take the
         * page over, and end as well. */
        _Atomic uint64_t orphaned_usec, orphaned_epoch;
};

static const struct state_page_header *header_of(const struct mapped_page *page)
{
        return page->map;
}

struct mapped_page *mapped_page_find(struct mapped_page *pages, uint64_t number)
{
        while (pages && header_of(pages)->number != number)
                pages = pages->next;
        return pages;
}

static int map(int fd, struct mapped_page **ret)
{
        const struct state_page_header *header;
        struct mapped_page *page;
        struct stat st;
        void *p;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_size < (off_t) sizeof *header)
                return -EBADMSG;
        p = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return -errno;
        header = p;
        page = header->magic == STATE_PAGE_MAGIC && header->version == STATE_PAGE_VERSION
                               ? malloc(sizeof *page)
                               : NULL;
        if (!page) {
                int r = header->magic == STATE_PAGE_MAGIC && header->version == STATE_PAGE_VERSION ? -ENOMEM
                                                                                                   : -EBADMSG;

                munmap(p, (size_t) st.st_size);
                return r;
        }
        *page = (struct mapped_page){.size = (size_t) st.st_size, .map = p};
        *ret = page;
        return 0;
}

static struct mapped_page *unmap(struct mapped_page *page)
{
        struct mapped_page *next = page->next;

        munmap((void *) page->map, page->size);
        free(page);
        return next;
}

int mapped_page_add(struct mapped_page **pages, int fd, struct mapped_page **ret)
{
        struct mapped_page *page = NULL, *known;
        int r;

        r = map(fd, &page);
        if (r < 0)
                return r;
        known = mapped_page_find(*pages, header_of(page)->number);
        if (known) {
                unmap(page);
        } else {
                page->next = *pages;
                *pages = page;
        }
        *ret = known ? known : page;
        return 0;
}

const struct state_slot *mapped_page_slot(const struct mapped_page *page, uint64_t offset)
{
        if (offset < sizeof(struct state_page_header) || offset % sizeof(uint64_t) != 0 ||
                        offset >= page->size || page->size - offset < sizeof(struct state_slot))
                return NULL;
        return (const struct state_slot *) ((const char *) page->map + offset);
}

const _Atomic uint32_t *mapped_page_keeper(const struct mapped_page *page)
{
        return (const _Atomic uint32_t *) &header_of(page)->keeper;
}

uint64_t mapped_page_number(const struct mapped_page *page)
{
        return header_of(page)->number;
}

bool mapped_page_is_kept(const struct mapped_page *page)
{
        return !(atomic_load_explicit(mapped_page_keeper(page), memory_order_acquire) & STATE_KEEPER_DIED);
}

uint64_t mapped_page_epoch(const struct mapped_page *page)
{
        return __atomic_load_n(&header_of(page)->epoch, __ATOMIC_ACQUIRE);
}

uint64_t mapped_page_orphaned_usec(struct mapped_page *page)
{
        uint64_t now = now_monotonic_usec(), epoch = mapped_page_epoch(page);

        if (atomic_load_explicit(&page->orphaned_epoch, memory_order_acquire) != epoch) {
                atomic_store_explicit(&page->orphaned_usec, now, memory_order_relaxed);
                atomic_store_explicit(&page->orphaned_epoch, epoch, memory_order_release);
        }
        return now - atomic_load_explicit(&page->orphaned_usec, memory_order_relaxed);
}

struct mapped_page *mapped_page_free_all(struct mapped_page *pages)
{
        while (pages)
                pages = unmap(pages);
        return NULL;
}
