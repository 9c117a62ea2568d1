/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/world/internal.h"
#include "daemon/world/thread-page.h"
#include "util/cleanup.h"
#include "proto/thread-page.h"

/* Threads that are members one by one, as their process says in its thread page (proto/thread-page.h): making the
 * page, and naming what they may enter. thread-look.c reads it. */

static struct thread_entrance *entrance_free(struct thread_entrance *t)
{
        t->slot->n_threads -= t->n;
        LIST_REMOVE(t, by_slot);
        LIST_REMOVE(t, by_process);
        charge_deinit(&t->charge);
        free(t);
        return NULL;
}

void threads_drop_slot(struct member_slot *slot)
{
        while (!LIST_EMPTY(&slot->entrances))
                entrance_free(LIST_FIRST(&slot->entrances));
}

static void threads_free(struct threads *t)
{
        t->process->threads = NULL;
        kicks_leave(t);
        threads_unsee(t);
        sd_event_source_disable_unref(t->source);
        closep(&t->page);
        closep(&t->kick);
        charge_deinit(&t->charge);
        process_unref(t->process);
        free(t);
}

void threads_drop_process(struct effects *e, struct process *p)
{
        struct threads *t = p->threads;

        if (!t)
                return;
        while (!LIST_EMPTY(&t->entrances)) {
                struct member_slot *slot = LIST_FIRST(&t->entrances)->slot;

                entrance_free(LIST_FIRST(&t->entrances));
                (void) threads_look(e, slot);
                membership_look(e, slot);
        }
        threads_free(t);
}

void threads_deinit(struct effects *e)
{
        struct process *p, *next;

        HASH_ITER (hh, e->processes, p, next)
                if (p->threads) {
                        while (!LIST_EMPTY(&p->threads->entrances))
                                entrance_free(LIST_FIRST(&p->threads->entrances));
                        threads_free(p->threads); /* and perhaps p */
                }
}

static int page_new(int *ret)
{
        const struct thread_page_header header = {.magic = THREAD_PAGE_MAGIC,
                        .version = THREAD_PAGE_VERSION,
                        .n_entries = THREAD_PAGE_ENTRIES};
        _cleanup_close_ int fd = memfd_create("ctxd-threads", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0 || fchmod(fd, 0600) < 0 || ftruncate(fd, sizeof(struct thread_page)) < 0 ||
                        fallocate(fd, 0, 0, sizeof(struct thread_page)) < 0 ||
                        pwrite(fd, &header, sizeof header, 0) < 0 ||
                        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return -errno;
        *ret = TAKE_FD(fd);
        return 0;
}

static int threads_new(struct effects *e, struct process *p, struct refused *ret_refused)
{
        struct threads *t = calloc(1, sizeof *t);
        struct user *user;
        int r;

        if (!t)
                return -ENOMEM;
        t->effects = e;
        t->page = t->kick = -1;
        LIST_INIT(&t->entrances);
        t->process = p;
        user = user_ref(&e->tree->users, p->uid);
        r = user ? tree_charge(e->tree, &t->charge, user, RESOURCE_HANDLES, 1, ret_refused) : -ENOMEM;
        user_unref(&e->tree->users, user);
        if (r >= 0)
                r = page_new(&t->page);
        if (r >= 0) {
                t->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
                r = t->kick < 0 ? -errno : kicks_join(t);
        }
        if (r >= 0)
                r = process_watch(p);
        if (r < 0) {
                kicks_leave(t);
                sd_event_source_disable_unref(t->source);
                closep(&t->page);
                closep(&t->kick);
                charge_deinit(&t->charge);
                free(t);
                return r;
        }
        process_ref(p);
        p->threads = t;
        return 0;
}

static int entrance_new(struct effects *e, struct threads *t, struct context *c, struct refused *ret_refused)
{
        struct thread_entrance *entrance;
        struct member_slot *slot;
        struct user *user;
        int r;

        r = membership_slot_take(e, c, &slot, ret_refused);
        if (r < 0)
                return r;
        LIST_FOREACH (entrance, &slot->entrances, by_slot)
                if (entrance->threads == t)
                        return 0;
        entrance = calloc(1, sizeof *entrance);
        if (!entrance)
                return -ENOMEM;
        user = user_ref(&e->tree->users, t->process->uid);
        r = user ? tree_charge(e->tree, &entrance->charge, user, RESOURCE_MEMBERS, 1, ret_refused) : -ENOMEM;
        user_unref(&e->tree->users, user);
        if (r < 0) {
                free(entrance);
                return r;
        }
        entrance->threads = t;
        entrance->slot = slot;
        entrance->is_new = true;
        LIST_INSERT_HEAD(&slot->entrances, entrance, by_slot);
        LIST_INSERT_HEAD(&t->entrances, entrance, by_process);
        return 0;
}

int thread_page_get(struct effects *e, struct process *p, struct context *c, int *ret_page, int *ret_kick,
                struct refused *ret_refused)
{
        int r;

        if (context_is_done(c)) {
                *ret_refused = (struct refused){.reason = REFUSED_DONE};
                context_reference(c, ret_refused->path);
                return -EALREADY;
        }
        if (!p->threads) {
                r = threads_new(e, p, ret_refused);
                if (r < 0)
                        return r;
        }
        r = entrance_new(e, p->threads, c, ret_refused);
        if (r < 0)
                return r;
        *ret_page = p->threads->page;
        *ret_kick = p->threads->kick;
        return 0;
}
