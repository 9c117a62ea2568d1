/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/world/membership/membership.h"
#include "daemon/world/thread-page-internal.h"
#include "proto/thread-page.h"
#include "util/cleanup.h"

int thread_pages_new(struct thread_pages **ret, struct world *world, struct membership *membership)
{
        struct thread_pages *tp = calloc(1, sizeof *tp);

        if (!tp)
                return -ENOMEM;
        tp->world = world;
        tp->membership = membership;
        LIST_INIT(&tp->all);
        LIST_INIT(&tp->seen);
        *ret = tp;
        return 0;
}

static struct thread_entrance *entrance_free(struct thread_entrance *t)
{
        t->anchor->n_threads -= t->n;
        LIST_REMOVE(t, by_context);
        LIST_REMOVE(t, by_process);
        charge_deinit(&t->charge);
        free(t);
        return NULL;
}

void threads_drop_context(struct anchor *anchor)
{
        while (!LIST_EMPTY(&anchor->entrances))
                entrance_free(LIST_FIRST(&anchor->entrances));
}

static void threads_free(struct threads *t)
{
        LIST_REMOVE(t, all);
        if (process_ties(t->process)->threads == t)
                process_ties(t->process)->threads = NULL;
        kicks_leave(t);
        threads_unsee(t);
        watch_end(&t->kicked);
        closep(&t->page);
        closep(&t->kick);
        charge_deinit(&t->charge);
        process_unref(t->process);
        free(t);
}

struct thread_pages *thread_pages_free(struct thread_pages *tp)
{
        struct threads *t;

        if (!tp)
                return NULL;
        while ((t = LIST_FIRST(&tp->all))) {
                while (!LIST_EMPTY(&t->entrances))
                        entrance_free(LIST_FIRST(&t->entrances));
                threads_free(t);
        }
        assert(!tp->kicks && LIST_EMPTY(&tp->seen));
        free(tp);
        return NULL;
}

void threads_leave(struct thread_pages *tp, struct process *p, struct anchor *anchor)
{
        struct threads *t = process_ties(p)->threads;
        struct thread_entrance *entrance;

        LIST_FOREACH (entrance, &anchor->entrances, by_context)
                if (entrance->threads == t)
                        break;
        if (!entrance)
                return;
        entrance_free(entrance);
        fact_raise(&tp->world->facts, &anchor->member_left);
        if (LIST_EMPTY(&t->entrances))
                threads_free(t);
}

void threads_drop_process(struct thread_pages *tp, struct process *p)
{
        struct threads *t = process_ties(p)->threads;

        if (!t)
                return;
        while (!LIST_EMPTY(&t->entrances)) {
                struct anchor *anchor = LIST_FIRST(&t->entrances)->anchor;

                entrance_free(LIST_FIRST(&t->entrances));
                fact_raise(&tp->world->facts, &anchor->member_left);
        }
        threads_free(t);
}

static int page_new(struct world *world)
{
        const struct thread_page_header header = {.magic = THREAD_PAGE_MAGIC,
                        .version = THREAD_PAGE_VERSION,
                        .n_entries = THREAD_PAGE_ENTRIES};
        _cleanup_close_ int fd = world_memfd(world, "ctxd-threads");

        if (fd < 0)
                return fd;
        if (fchmod(fd, 0600) < 0 || ftruncate(fd, sizeof(struct thread_page)) < 0 ||
                        fallocate(fd, 0, 0, sizeof(struct thread_page)) < 0 ||
                        pwrite(fd, &header, sizeof header, 0) < 0 ||
                        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* It is not tied to the process yet. */
static int threads_new(struct thread_pages *tp, struct process *p, struct user *user, struct threads **ret,
                int *ret_resource)
{
        struct threads *t = calloc(1, sizeof *t);
        int r;

        if (!t)
                return -ENOMEM;
        t->pages = tp;
        t->page = t->kick = -1;
        LIST_INIT(&t->entrances);
        t->process = p;
        *ret_resource = RESOURCE_HANDLES;
        r = charge_init(&t->charge, user->users, user, RESOURCE_HANDLES, 1);
        if (r >= 0)
                r = t->page = page_new(tp->world);
        if (r >= 0)
                r = t->kick = world_eventfd(tp->world, 0);
        if (r >= 0)
                r = kicks_join(t);
        if (r >= 0)
                r = process_watch(p);
        if (r < 0) {
                kicks_leave(t);
                watch_end(&t->kicked);
                closep(&t->page);
                closep(&t->kick);
                charge_deinit(&t->charge);
                free(t);
                return r;
        }
        process_ref(p);
        LIST_INSERT_HEAD(&tp->all, t, all);
        *ret = t;
        return 0;
}

static int entrance_new(struct threads *t, struct anchor *anchor, struct user *user, int *ret_resource)
{
        struct thread_entrance *entrance;
        int r;

        LIST_FOREACH (entrance, &anchor->entrances, by_context)
                if (entrance->threads == t)
                        return 0;
        entrance = calloc(1, sizeof *entrance);
        if (!entrance)
                return -ENOMEM;
        entrance->threads = t;
        entrance->anchor = anchor;
        entrance->is_new = true;
        /* First, so that the look for room does not find the slot of the context empty. */
        LIST_INSERT_HEAD(&anchor->entrances, entrance, by_context);
        LIST_INSERT_HEAD(&t->entrances, entrance, by_process);
        *ret_resource = RESOURCE_MEMBERS;
        r = membership_room(t->pages->membership, user);
        if (r >= 0)
                r = charge_init(&entrance->charge, user->users, user, RESOURCE_MEMBERS, 1);
        if (r < 0)
                entrance_free(entrance);
        return r < 0 ? r : 1;
}

int thread_page_get(struct thread_pages *tp, struct process *p, struct anchor *anchor, struct user *user,
                int *ret_page, int *ret_kick, int *ret_resource)
{
        struct threads *t = process_ties(p)->threads;
        /* Another user may have kept the page from the time when the process was that user's. */
        bool is_new = !t || t->charge.user != user;
        int r;

        if (is_new) {
                r = threads_new(tp, p, user, &t, ret_resource);
                if (r < 0)
                        return r;
        }
        r = entrance_new(t, anchor, user, ret_resource);
        if (r < 0) {
                if (is_new)
                        threads_free(t);
                return r;
        }
        if (is_new) {
                threads_drop_process(tp, p);
                process_ties(p)->threads = t;
        }
        *ret_page = t->page;
        *ret_kick = t->kick;
        return r;
}
