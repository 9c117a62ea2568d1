/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sockets of connections that nobody is charged for, with descriptors in them, and what has come over a bus
 * where all who look hang. There can be any number, so they do not wait here for one who closes them. One
 * process after the other keeps some thousands, and closes them by its end, for which nobody waits. It leaves
 * when it is full, or after some time; where the one before it hangs, only when it is full, so that few
 * sockets do not use up all processes.
 *
 * A user whose sockets hang can fill them all. Then no connection is accepted until one of the processes has
 * ended: whose it is is not known before. So it would not help others if each party had processes of its own.
 * Connections that were accepted are served. From Linux 6.16 on no such connection brings any descriptor. */

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/foreign-jobs.h"
#include "util/log.h"
#include "util/proc.h"

#define KEEP_MAX 4096
#define KEEP_USEC 2000000
#define OWN_FDS 16 /* of such a process, and a reserve */

static void leave_later(struct foreign *f);

static bool let_leave(struct foreign *f)
{
        const struct closer_job job = {.kind = CLOSER_LEAVE};

        if (f->keeper.n_ending >= CLOSER_ENDING ||
                        closer_send(f->keeper.fd, &job, sizeof job, -1, MSG_DONTWAIT) < 0)
                return false;
        f->keeper.n_ending++;
        f->keeper.n = 0;
        f->keeper.leave_source = sd_event_source_disable_unref(f->keeper.leave_source);
        return true;
}

static int on_leave(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct foreign *f = userdata;

        f->keeper.leave_source = sd_event_source_disable_unref(f->keeper.leave_source);
        if (f->keeper.n_ending > 0 || !let_leave(f))
                leave_later(f);
        return 0;
}

static void leave_later(struct foreign *f)
{
        if (!f->keeper.leave_source && f->keeper.n > 0 && f->keeper.n_ending == 0)
                (void) sd_event_add_time_relative(f->event, &f->keeper.leave_source, CLOCK_MONOTONIC,
                                KEEP_USEC, 0, on_leave, f);
}

/* Returns 1 if there was an answer, 0 at the end, or -errno. The caller closes the pidfds. */
static int read_answer(struct foreign *f, struct closer_answer *ret, struct closer_fds *ret_pidfds)
{
        int r = closer_receive_fds(f->keeper.fd, ret, sizeof *ret, ret_pidfds, MSG_DONTWAIT);

        if (r > 0 && ret->serial == 0) {
                f->keeper.n_ending--;
                leave_later(f);
        }
        return r;
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct foreign *f = userdata;
        _cleanup_(closer_fds_close) struct closer_fds pidfds;
        struct closer_answer answer; /* a look's comes too late here */
        int r = read_answer(f, &answer, &pidfds);

        /* The other socket need not say that: others have it, too, and the first process may hang in its
         * end. */
        if (r <= 0 && r != -EAGAIN)
                foreign_start_again(f);
        return 0;
}

int foreign_keeper_start(struct foreign *f, int fd)
{
        struct rlimit table;

        f->keeper.fd = fd;
        f->keeper.max = KEEP_MAX;
        if (getrlimit(RLIMIT_NOFILE, &table) == 0 && table.rlim_cur < KEEP_MAX + OWN_FDS)
                f->keeper.max = table.rlim_cur > 2 * OWN_FDS ? (unsigned) table.rlim_cur - OWN_FDS : 1;
        return sd_event_add_io(f->event, &f->keeper.source, fd, EPOLLIN, on_answer, f);
}

void foreign_keeper_stop(struct foreign *f)
{
        f->keeper.source = sd_event_source_disable_unref(f->keeper.source);
        f->keeper.leave_source = sd_event_source_disable_unref(f->keeper.leave_source);
        closep(&f->keeper.fd);
        f->keeper.fd = -1;
        f->keeper.n = f->keeper.n_ending = 0;
}

/* Up to n descriptors will be kept for it. */
static bool give(struct foreign *f, const struct closer_job *job, int fd, unsigned n)
{
        if (f->keeper.fd < 0 || (f->keeper.n > 0 && f->keeper.n + n > f->keeper.max && !let_leave(f)) ||
                        closer_send(f->keeper.fd, job, sizeof *job, fd, MSG_DONTWAIT) < 0)
                return false;
        f->keeper.n += n;
        leave_later(f);
        return true;
}

bool foreign_keep(struct foreign *f, int fd)
{
        return give(f, &(struct closer_job){.kind = CLOSER_KEEP}, fd, 1);
}

int foreign_look_and_keep(struct look *l, int fd, uint32_t size, uint64_t usec)
{
        struct foreign *f = l->foreign;
        _cleanup_(closer_fds_close) struct closer_fds pidfds = {};
        struct closer_answer answer = {};
        const struct closer_job job = {.kind = CLOSER_LOOK, .serial = f ? ++f->last_serial : 0, .size = size};
        uint64_t end = now_monotonic_usec() + usec, now;
        struct pollfd p = {.events = POLLIN};
        int r = -EAGAIN;

        if (!f || !give(f, &job, fd, CLOSER_FDS_MAX))
                return -EBUSY;
        p.fd = f->keeper.fd;
        while (answer.serial != job.serial && (r > 0 || r == -EAGAIN) && (now = now_monotonic_usec()) < end)
                if (poll(&p, 1, (int) ((end - now) / 1000) + 1) > 0) {
                        closer_fds_close(&pidfds); /* of an answer that came too late */
                        r = read_answer(f, &answer, &pidfds);
                }
        if (answer.serial != job.serial || answer.n_fds == CLOSER_NOT_ALL)
                return -ETIMEDOUT;
        f->keeper.n -= CLOSER_FDS_MAX - answer.n_fds;
        l->size = size;
        foreign_look_over(l, &answer, &pidfds);
        /* There was no room here for the pidfds. But the others are kept, and may be received. */
        l->n_fds = answer.n_fds;
        return 0;
}

/* A descriptor in a stream comes with a byte at least. To ask how many there are is one call, which takes a
 * tenth of the time of a look into /proc. */
bool foreign_holds_fds(int fd)
{
        int bytes;

        return (ioctl(fd, SIOCINQ, &bytes) < 0 || bytes > 0) && proc_socket_holds_fds(fd);
}

void foreign_refuse(struct foreign *f, int fd)
{
        /* After the shutdown no more is sent to it. */
        if (!f || shutdown(fd, SHUT_RDWR) < 0 || !foreign_holds_fds(fd) || foreign_keep(f, fd) ||
                        f->keeper.waiting_fd >= 0)
                close(fd);
        else
                f->keeper.waiting_fd = fd;
}

bool foreign_may_refuse(struct foreign *f)
{
        struct pollfd p = {.events = POLLOUT};

        if (!f)
                return true;
        if (f->keeper.waiting_fd >= 0) {
                if (!foreign_keep(f, f->keeper.waiting_fd))
                        return false;
                close(f->keeper.waiting_fd);
                f->keeper.waiting_fd = -1;
        }
        p.fd = f->keeper.fd;
        return p.fd < 0 ||
               ((f->keeper.n < f->keeper.max || f->keeper.n_ending < CLOSER_ENDING) && poll(&p, 1, 0) > 0);
}
