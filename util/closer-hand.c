/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/closer-internal.h"
#include "util/eventfd.h"
#include "util/proc.h"

#define IDLE_MSEC 2000 /* after that, a hand with a sender of its own ends */
#define LARGE_BLOCKS (INT64_C(1 << 20) / 512)

/* Fills in the descriptors, without taking them out of the socket. */
static unsigned peek(int fd, size_t size, int fds[CLOSER_FDS_MAX], bool *ret_are_all)
{
        static char bytes[CLOSER_LOOK_MAX];
        union {
                char bytes[CMSG_SPACE(CLOSER_FDS_MAX * sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov = {.iov_base = bytes, .iov_len = size < sizeof bytes ? size : sizeof bytes};
        struct msghdr m = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof control};
        unsigned n = 0;

        *ret_are_all = true;
        if (recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
                return 0;
        *ret_are_all = !(m.msg_flags & MSG_CTRUNC);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
                        n = (unsigned) ((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
                        memcpy(fds, CMSG_DATA(c), n * sizeof(int));
                }
        return n;
}

/* A client can make a socket linger when it is closed. That at least need not be. But this can take for ever,
 * too: who sleeps in a call that sends may have the lock of the socket. */
static void linger_not(int fd)
{
        const struct linger none = {};

        (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

/* Looks at what waits in a socket. Returns the number of descriptors that it has kept, since one of them is
 * foreign. */
static unsigned look(
                int fd, const struct closer_job *job, struct closer_answer *answer, int fds[CLOSER_FDS_MAX])
{
        bool are_all;
        unsigned n = peek(fd, job->size, fds, &are_all);

        answer->n_fds = are_all ? n : CLOSER_NOT_ALL;
        answer->foreign = !are_all;
        for (unsigned i = 0; i < n; i++)
                if (!proc_fd_is_pidfd(fds[i]))
                        answer->foreign = true;
        /* The daemon still has this socket, so nothing else is closed with it. */
        close(fd);
        for (unsigned i = 0; i < n && !answer->foreign; i++)
                close(fds[i]);
        return answer->foreign ? n : 0;
}

/* What is to be closed. The sender of this job closes its own first: else the last close could be there. */
static unsigned hold(int fd, struct closer_answer *answer, int fds[CLOSER_FDS_MAX])
{
        answer->foreign = true;
        fds[0] = fd;
        return 1;
}

/* It runs only when nobody else wants to, from now on: to come to the front again takes a privilege. */
static void step_back(void)
{
        (void) sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){});
}

/* Somebody else takes jobs from now on. */
static void leave(int jobs, int leaving, struct closer_answer *answer, int fd)
{
        pid_t self = getpid();

        answer->leaves = true;
        (void) !write(leaving, &self, sizeof self);
        closer_say(jobs, answer, fd);
        /* Who hangs shall not keep this open. */
        close(jobs);
        close(leaving);
}

/* From then on this process is for one sender alone. The daemon gets that end of its socket. */
static void leave_for_sender(
                int jobs, int leaving, struct closer_answer *answer, int own_end, bool steps_back)
{
        leave(jobs, leaving, answer, own_end);
        close(own_end);
        if (steps_back)
                step_back();
}

/* Its last close frees its memory, or its place on a disk. */
static bool is_large(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_blocks > LARGE_BLOCKS;
}

/* The daemon drops what it does not take. Until then this process has it, too, so that its own close is the
 * last one. Where that takes long and this process steps back, it ends, since it could not come to the front
 * again. */
static void drop(int own, const int *fds, unsigned n, bool steps_back_for_large)
{
        bool ends = false;
        struct closer_job job;
        int none;

        while (closer_receive(own, &job, sizeof job, &none, 0) > 0 && job.kind != CLOSER_DROP)
                ;
        for (unsigned i = 0; i < n && steps_back_for_large && !ends; i++)
                ends = is_large(fds[i]);
        if (ends)
                step_back();
        for (unsigned i = 0; i < n; i++) {
                linger_not(fds[i]);
                close(fds[i]);
        }
        if (ends)
                _exit(0);
}

/* Waits for a job for some time. */
static bool next_of_sender(int own, struct closer_job *ret_job, int *ret_fd)
{
        struct pollfd p = {.fd = own, .events = POLLIN};

        /* What was sent before this shutdown is still received. */
        if (poll(&p, 1, IDLE_MSEC) == 0)
                (void) shutdown(own, SHUT_RD);
        return closer_receive(own, ret_job, sizeof *ret_job, ret_fd, 0) > 0 && *ret_fd >= 0;
}

static void write_and_close(int fd)
{
        (void) eventfd_fill(fd);
        close(fd);
}

static _Noreturn void stay_with_sender(int own)
{
        struct closer_answer over = {.pid = getpid()}, answer;
        struct closer_job job;
        int fd, fds[CLOSER_FDS_MAX];
        unsigned n;

        closer_say(own, &over, -1);
        while (next_of_sender(own, &job, &fd)) {
                if (job.kind == CLOSER_WRITE) {
                        write_and_close(fd);
                } else {
                        answer = (struct closer_answer){.serial = job.serial, .pid = over.pid};
                        n = job.kind == CLOSER_LOOK ? look(fd, &job, &answer, fds) : hold(fd, &answer, fds);
                        closer_say(own, &answer, -1);
                        if (!answer.foreign)
                                continue;
                        drop(own, fds, n, job.steps_back_for_large);
                }
                closer_say(own, &over, -1);
        }
        _exit(0);
}

_Noreturn void closer_hand(int jobs, int leaving)
{
        int own[2];

        /* Later a client may have filled the table. */
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, own) < 0)
                _exit(1);
        for (;;) {
                struct closer_answer answer = {.pid = getpid()};
                struct closer_job job;
                int fd, fds[CLOSER_FDS_MAX];
                unsigned n = 0;

                if (closer_receive(jobs, &job, sizeof job, &fd, 0) <= 0 || fd < 0)
                        _exit(0);
                answer.serial = job.serial;
                if (job.kind == CLOSER_LOOK) {
                        n = look(fd, &job, &answer, fds);
                        if (!answer.foreign) {
                                closer_say(jobs, &answer, -1);
                                continue;
                        }
                } else if (job.kind == CLOSER_CLOSE) {
                        n = hold(fd, &answer, fds);
                }
                leave_for_sender(jobs, leaving, &answer, own[1], job.steps_back);
                if (job.kind == CLOSER_WRITE)
                        write_and_close(fd);
                else
                        drop(own[0], fds, n, job.steps_back_for_large);
                stay_with_sender(own[0]);
        }
}

/* The descriptors are lost here until the process ends. */
_Noreturn void closer_keep(int keeps, int leaving)
{
        pid_t self = getpid();
        struct closer_job job;
        int fd, fds[CLOSER_FDS_MAX];

        while (closer_receive(keeps, &job, sizeof job, &fd, 0) > 0 && job.kind != CLOSER_LEAVE)
                if (job.kind == CLOSER_LOOK && fd >= 0) {
                        struct closer_answer answer = {.serial = job.serial};

                        (void) look(fd, &job, &answer, fds);
                        closer_say(keeps, &answer, -1);
                }
        (void) !write(leaving, &self, sizeof self);
        close(keeps);
        close(leaving);
        step_back();
        _exit(0);
}
