/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/bus/later.h"
#include "daemon/bus/walk.h"
#include "util/cleanup.h"
#include "util/utf8.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

struct peer *peer_new(struct endpoint *e, const char *name)
{
        struct peer *p = calloc(1, sizeof *p);

        if (!p)
                return NULL;
        p->name = strdup(name);
        if (!p->name) {
                free(p);
                return NULL;
        }
        p->endpoint = e;
        p->pidfd = -1;
        p->caller.uid = (uid_t) -1;
        p->caller.gid = (gid_t) -1;
        LIST_INIT(&p->subscriptions);
        LIST_INIT(&p->laters);
        LIST_INIT(&p->walks);
        return p;
}

struct peer *peer_free(struct peer *p)
{
        if (!p)
                return NULL;
        while (!LIST_EMPTY(&p->subscriptions))
                subscription_free(LIST_FIRST(&p->subscriptions));
        while (!LIST_EMPTY(&p->laters))
                later_free(LIST_FIRST(&p->laters));
        while (!LIST_EMPTY(&p->walks))
                walk_leave(LIST_FIRST(&p->walks));
        engine_process_close(p->process);
        closep(&p->pidfd);
        free(p->gids);
        free(p->name);
        free(p);
        return NULL;
}

void peer_read_comm(struct peer *p)
{
        char path[32];
        FILE *f;

        if (p->caller.pid <= 0)
                return;
        snprintf(path, sizeof path, "/proc/%d/comm", p->caller.pid);
        f = fopen(path, "re");
        if (!f)
                return;
        if (fgets(p->caller.comm, sizeof p->caller.comm, f))
                p->caller.comm[strcspn(p->caller.comm, "\n")] = '\0';
        (void) utf8_mend(p->caller.comm);
        fclose(f);
}

void peer_find_process(struct peer *p)
{
        struct process *process;
        uid_t uids[3];
        char comm[16];

        if (p->process || p->caller.pid <= 0 ||
                        engine_process_open_pid(p->endpoint->service->engine, p->caller.pid, &process) < 0)
                return;
        /* The pid may belong to another user's process by now. */
        if (engine_process_read(process, uids, comm) >= 0 &&
                        (uids[0] == p->caller.uid || uids[1] == p->caller.uid || uids[2] == p->caller.uid))
                p->process = process;
        else
                engine_process_close(process);
}

int peer_process(struct peer *p, struct process **ret)
{
        int r = 0;

        if (!p->process)
                /* Without a pidfd it has gone, or is in a pid namespace that we do not see. */
                r = p->pidfd < 0 ? -ESRCH
                                 : engine_process_open(p->endpoint->service->engine, p->pidfd, &p->process);
        if (r < 0)
                return r;
        *ret = p->process;
        return 0;
}

struct endpoint *endpoint_current(sd_bus *bus)
{
        /* The userdata of a call to a context's object is the context that was found. That of the slot is
         * still the endpoint, as it was registered. */
        return sd_bus_slot_get_userdata(sd_bus_get_current_slot(bus));
}

struct peer *peer_current(sd_bus *bus)
{
        struct endpoint *e = endpoint_current(bus);
        sd_bus_message *m = sd_bus_get_current_message(bus);

        return m ? e->peer_of(e, m) : NULL;
}

struct peer *peer_of_message(sd_bus_message *m)
{
        struct endpoint *e = endpoint_current(sd_bus_message_get_bus(m));

        return e->peer_of(e, m);
}

int peer_credentials(int fd, struct ucred *ret)
{
        socklen_t length = sizeof *ret;

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &length) < 0 ? -errno : 0;
}

int peer_identify(struct peer *p, int fd)
{
        struct ucred cred;
        socklen_t length;
        gid_t *gids;
        int r = peer_credentials(fd, &cred);

        if (r < 0)
                return r;
        p->caller.uid = cred.uid;
        p->caller.gid = cred.gid;
        p->caller.pid = cred.pid;

        length = sizeof p->pidfd;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &p->pidfd, &length) < 0) {
                p->pidfd = -1;
                /* Before Linux 6.5. Other errors mean that it has gone. */
                if (errno == ENOPROTOOPT)
                        peer_find_process(p);
        }

        length = 64 * sizeof *gids;
        for (;;) {
                gids = malloc(length);
                if (!gids)
                        return -ENOMEM;
                if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &length) >= 0)
                        break;
                free(gids);
                if (errno != ERANGE)
                        return -errno;
        }
        p->gids = gids;
        p->caller.gids = gids;
        p->caller.n_gids = length / sizeof *gids;
        peer_read_comm(p);
        return 0;
}
