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

#include "daemon/effect/internal.h"
#include "daemon/util/cleanup.h"
#include "proto/thread-page.h"

/* Threads that are members one by one, as their process says in its thread page (proto/thread-page.h).
 *
 * What it says is believed as far as it goes: a tid counts if it is a thread of that very process, and a context if
 * the process has named it before, by a call that asked whether it may. So a process can only lie about itself, and
 * then keeps what it could have kept by telling the truth: a done context undrained, and a name in a report.
 *
 * The page is read when a context that it may speak of becomes done, and when the process kicks; never otherwise. */

#define KICK_INTERVAL_USEC 50000
#define KICK_BURST 5

struct threads {
        struct effects *effects;
        struct process *process; /* a reference */
        int page, kick;
        sd_event_source *source;
        struct charge charge;
        LIST_HEAD(, thread_entrance) entrances;
};

/* A process has named a context. */
struct thread_entrance {
        struct threads *threads;
        struct member_slot *slot;
        struct charge charge;
        LIST_ENTRY(thread_entrance) by_slot, by_process;
};

static struct thread_entrance *entrance_free(struct thread_entrance *t)
{
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

static bool is_thread_of(pid_t pid, uint32_t tid)
{
        char path[64];

        snprintf(path, sizeof path, "/proc/%d/task/%u", (int) pid, tid);
        return access(path, F_OK) == 0;
}

/* A member of the context by its process is counted there. */
static bool is_member_anyway(struct effects *e, const struct thread_entrance *t)
{
        return e->membership.backend->look_up(e, t->threads->process) == t->slot;
}

int threads_each(struct effects *e, struct member_slot *slot,
                int (*cb)(void *userdata, struct process *p, uint32_t tid, uint64_t since_usec),
                void *userdata)
{
        struct thread_entrance *t;
        struct thread_page *page;
        int r = 0;

        if (LIST_EMPTY(&slot->entrances))
                return 0;
        page = malloc(sizeof *page);
        if (!page)
                return -ENOMEM;
        LIST_FOREACH (t, &slot->entrances, by_slot) {
                struct process *p = t->threads->process;

                if (is_member_anyway(e, t) || pread(t->threads->page, page, sizeof *page, 0) != sizeof *page)
                        continue;
                for (size_t i = 0; i < THREAD_PAGE_ENTRIES && r >= 0; i++) {
                        const struct thread_entry *entry = &page->entries[i];

                        if (entry->context_id == slot->context_id && entry->tid != 0 &&
                                        is_thread_of(p->identity.pid, entry->tid))
                                r = cb(userdata, p, entry->tid, entry->since_usec);
                }
                if (r < 0)
                        break;
        }
        free(page);
        return r;
}

static int count(void *userdata, struct process *p, uint32_t tid, uint64_t since_usec)
{
        (*(uint32_t *) userdata)++;
        return 0;
}

uint32_t threads_look(struct effects *e, struct member_slot *slot)
{
        uint32_t n = 0;

        if (threads_each(e, slot, count, &n) >= 0)
                slot->n_threads = n; /* else as many as before */
        return slot->n_threads;
}

static int on_kick(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct threads *t = userdata;
        struct effects *e = t->effects;
        struct thread_entrance *entrance;
        uint64_t value;
        struct iovec iov = {&value, sizeof value};

        /* The process shares the description: it can take O_NONBLOCK away, and the count before us. */
        (void) preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
        LIST_FOREACH (entrance, &t->entrances, by_process) {
                struct member_slot *slot = entrance->slot;

                if (!slot->context || !context_is_done(slot->context) || !slot->context->busy)
                        continue;
                if (threads_look(e, slot) == 0)
                        membership_look(e, slot);
                probe_link_threads(e, slot);
        }
        effects_event(e);
        return 0;
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
        user = user_ref(&e->tree->users, p->uid);
        r = user ? tree_charge(e->tree, &t->charge, user, RESOURCE_HANDLES, 1, ret_refused) : -ENOMEM;
        user_unref(&e->tree->users, user);
        if (r >= 0)
                r = page_new(&t->page);
        if (r >= 0) {
                t->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
                r = t->kick < 0 ? -errno
                                : sd_event_add_io(e->event, &t->source, t->kick, EPOLLIN, on_kick, t);
        }
        if (r >= 0)
                r = sd_event_source_set_ratelimit(t->source, KICK_INTERVAL_USEC, KICK_BURST);
        if (r >= 0)
                r = process_watch(p);
        if (r < 0) {
                sd_event_source_disable_unref(t->source);
                closep(&t->page);
                closep(&t->kick);
                charge_deinit(&t->charge);
                free(t);
                return r;
        }
        t->process = process_ref(p);
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
