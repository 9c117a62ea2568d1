/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/model/user.h"
#include "daemon/world/lifeline.h"
#include "daemon/world/world.h"
#include "util/cleanup.h"
#include "util/watch.h"

struct lifeline {
        struct world *world;
        int fd;
        struct watch hang_up;
        struct fact closed;
        struct charge charge;
};

static void on_hang_up(struct watch *w)
{
        struct lifeline *l = (struct lifeline *) ((char *) w - offsetof(struct lifeline, hang_up));

        fact_raise(&l->world->facts, &l->closed);
        facts_wake(&l->world->facts);
}

int lifeline_new(struct lifeline **ret, struct world *world, uint64_t context_id, struct user *user,
                int *ret_fd)
{
        struct lifeline *l = calloc(1, sizeof *l);
        int ends[2], r;

        if (!l)
                return -ENOMEM;
        l->world = world;
        l->fd = -1;
        l->hang_up.ready = on_hang_up;
        l->closed = (struct fact){.kind = FACT_LIFELINE_CLOSED, .id = context_id};
        r = charge_init(&l->charge, user->users, user, RESOURCE_HANDLES, 1);
        if (r >= 0)
                r = world_pipe(world, ends);
        if (r < 0) {
                lifeline_free(l);
                return r;
        }
        l->fd = ends[1];
        /* No event has to be asked for: that nobody reads any more is an error, and always reported. */
        r = watch_begin(world->watches, &l->hang_up, l->fd, 0);
        if (r < 0) {
                close(ends[0]);
                lifeline_free(l);
                return r;
        }
        *ret_fd = ends[0];
        *ret = l;
        return 0;
}

struct lifeline *lifeline_free(struct lifeline *l)
{
        if (!l)
                return NULL;
        fact_withdraw(&l->world->facts, &l->closed);
        watch_end(&l->hang_up);
        closep(&l->fd);
        charge_deinit(&l->charge);
        free(l);
        return NULL;
}

int lifeline_open(const struct lifeline *l)
{
        char path[32];
        int fd;

        snprintf(path, sizeof path, "/proc/self/fd/%d", l->fd);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        return fd < 0 ? -errno : fd;
}
