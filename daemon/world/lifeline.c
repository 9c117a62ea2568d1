/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/world/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* Lifelines (law 29). We hold the read end of a pipe, and nothing but read ends: the kernel hangs it up when
 * the last write end is closed, however its holders ended. So no write end is kept to be given out again;
 * another one is opened through the read end. What is written to it is not read; a pipe holds little, and
 * that much only. */

struct lifeline {
        struct context *context; /* the key */
        int fd;
        sd_event_source *source;
        struct charge charge;
        UT_hash_handle hh;
        struct effects *effects;
};

static struct lifeline *lifeline_free(struct lifeline *l)
{
        sd_event_source_disable_unref(l->source);
        closep(&l->fd);
        charge_deinit(&l->charge);
        free(l);
        return NULL;
}

static struct lifeline *lifeline_find(const struct effects *e, const struct context *c)
{
        struct lifeline *l;

        HASH_FIND(hh, e->lifelines, &c, sizeof c, l);
        return l;
}

void lifeline_drop(struct effects *e, struct context *c)
{
        struct lifeline *l = e->lifelines ? lifeline_find(e, c) : NULL;

        if (!l)
                return;
        HASH_DEL(e->lifelines, l);
        lifeline_free(l);
}

void lifelines_deinit(struct effects *e)
{
        struct lifeline *l, *next;

        HASH_ITER (hh, e->lifelines, l, next) {
                HASH_DEL(e->lifelines, l);
                lifeline_free(l);
        }
}

static int on_closed(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct lifeline *l = userdata;
        struct effects *e = l->effects;
        struct refused refused = {};
        struct cause *cause;
        uint32_t n;
        int r;

        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        cause = cause_new(ECANCELED, "lifeline closed", (uid_t) -1, 0, NULL);
        r = tree_cancel(e->tree, now_boottime_usec(), &caller_daemon, l->context, cause, &n, &refused);
        if (r < 0)
                log_warning("Cannot cancel context %llu, whose lifeline was closed: %s",
                                (unsigned long long) l->context->id, strerror(-r));
        effects_event(e); /* which drops l */
        return 0;
}

/* Another write end of the same pipe. */
static int open_write_end(int read_end)
{
        char path[32];
        int fd;

        snprintf(path, sizeof path, "/proc/self/fd/%d", read_end);
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
        return fd < 0 ? -errno : fd;
}

static int lifeline_new(
                struct effects *e, uid_t uid, struct context *c, int *ret_fd, struct refused *ret_refused)
{
        struct lifeline *l;
        struct user *user;
        int ends[2], r;

        l = calloc(1, sizeof *l);
        if (!l)
                return -ENOMEM;
        l->context = c;
        l->effects = e;
        l->fd = -1;
        user = user_ref(&e->tree->users, uid);
        r = user ? tree_charge(e->tree, &l->charge, user, RESOURCE_HANDLES, 1, ret_refused) : -ENOMEM;
        user_unref(&e->tree->users, user);
        if (r < 0)
                goto fail;
        if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
                r = -errno;
                goto fail;
        }
        l->fd = ends[0];
        r = sd_event_add_io(e->event, &l->source, l->fd, 0, on_closed, l); /* a hang-up is always told */
        if (r >= 0) {
                HASH_ADD(hh, e->lifelines, context, sizeof l->context, l);
                r = l->hh.tbl ? 0 : -ENOMEM;
        }
        if (r < 0) {
                close(ends[1]);
                goto fail;
        }
        *ret_fd = ends[1];
        return 0;
fail:
        lifeline_free(l);
        return r;
}

int lifeline_get(struct effects *e, uid_t uid, struct context *c, int *ret_fd, struct refused *ret_refused)
{
        struct lifeline *l;
        int fd;

        if (context_is_done(c)) {
                *ret_refused = (struct refused){.reason = REFUSED_DONE};
                context_reference(c, ret_refused->path);
                return -EALREADY;
        }
        l = lifeline_find(e, c);
        if (!l)
                return lifeline_new(e, uid, c, ret_fd, ret_refused);
        fd = open_write_end(l->fd);
        if (fd < 0)
                return fd;
        *ret_fd = fd;
        return 0;
}
