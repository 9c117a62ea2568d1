/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/closer-internal.h"
#include "util/eventfd.h"
#include "util/proc.h"

#define IDLE_MSEC 2000 /* after that, a hand with a sender of its own ends */
#define LARGE_BLOCKS (INT64_C(1 << 20) / 512)

#define PIDFD_OF_THREAD O_EXCL /* linux/pidfd.h has it from Linux 6.9 on */

/* What a process has got, and closes. */
struct held {
        struct closer_fds fds;
        struct closer_fds fresh; /* go with the answer */
};

/* Fills in the descriptors, without taking them out of the socket. */
static void peek(int fd, size_t size, struct closer_fds *ret, bool *ret_are_all)
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

        ret->n = 0;
        *ret_are_all = true;
        if (recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
                return;
        *ret_are_all = !(m.msg_flags & MSG_CTRUNC);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
                        ret->n = (unsigned) ((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
                        memcpy(ret->fds, CMSG_DATA(c), ret->n * sizeof(int));
                }
}

static int open_process_or_thread(pid_t pid)
{
        int fd = pidfd_open_process(pid);

        /* Older and newer kernels say in these two ways that the number is a thread's. */
        return fd == -EINVAL || fd == -ENOENT ? (int) syscall(SYS_pidfd_open, pid, PIDFD_OF_THREAD) : fd;
}

/* A file of our own for what a pidfd stands for. If that still has its number after the open, then nobody
 * else has had it meanwhile. Where it has gone, or is not in our pid namespace, the new one is of a process
 * that has gone. -errno: there is no room. */
static int open_again(int pidfd, int gone)
{
        pid_t pid, again;
        int fd = -ESRCH;

        if (proc_pidfd_to_pid(pidfd, &pid) >= 0)
                fd = open_process_or_thread(pid);
        if (fd >= 0) {
                if (proc_pidfd_to_pid(pidfd, &again) >= 0 && again == pid)
                        return fd;
                close(fd);
        } else if (fd == -EMFILE || fd == -ENFILE) {
                return fd;
        }
        fd = fcntl(gone, F_DUPFD_CLOEXEC, 3);
        return fd < 0 ? -errno : fd;
}

/* Whether there was room for all. */
static bool open_all_again(struct held *h, int gone)
{
        for (unsigned i = 0; i < h->fds.n; i++) {
                int fd = open_again(h->fds.fds[i], gone);

                if (fd < 0) {
                        closer_fds_close(&h->fresh);
                        return false;
                }
                h->fresh.fds[h->fresh.n++] = fd;
        }
        return true;
}

/* A client can make a socket linger when it is closed. That at least need not be. But this can take for ever,
 * too: who sleeps in a call that sends may have the lock of the socket. */
static void linger_not(int fd)
{
        const struct linger none = {};

        (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

/* Looks at what waits in a socket, and holds it. */
static void look(int fd, const struct closer_job *job, int gone, struct closer_answer *answer, struct held *h)
{
        bool are_all;

        peek(fd, job->size, &h->fds, &are_all);
        h->fresh.n = 0;
        answer->n_fds = are_all ? h->fds.n : CLOSER_NOT_ALL;
        answer->foreign = !are_all;
        for (unsigned i = 0; i < h->fds.n; i++)
                if (!proc_fd_is_pidfd(h->fds.fds[i]))
                        answer->foreign = true;
        if (!answer->foreign && h->fds.n <= CLOSER_PIDFDS_MAX && !open_all_again(h, gone))
                answer->n_fds = CLOSER_NOT_ALL;
        answer->holds = answer->foreign || h->fds.n > 0;
        answer->pidfds = h->fresh.n;
        /* The daemon still has this socket, so nothing else is closed with it. */
        close(fd);
}

/* What is to be closed. The sender of this job closes its own first: else the last close could be there. */
static void hold(const struct closer_job *job, struct closer_answer *answer)
{
        answer->foreign = job->kind == CLOSER_CLOSE;
        answer->holds = true;
}

/* Whether there is something to answer before it is done. */
static bool do_first_part(
                const struct closer_job *job, int gone, struct closer_answer *answer, struct held *h)
{
        h->fresh.n = 0;
        if (job->kind == CLOSER_LOOK)
                look(h->fds.fds[0], job, gone, answer, h);
        else if (job->kind != CLOSER_WRITE)
                hold(job, answer);
        return job->kind != CLOSER_WRITE;
}

/* It runs only when nobody else wants to, from now on: to come to the front again takes a privilege. */
static void step_back(void)
{
        (void) sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){});
}

static struct closer_answer answer_to(const struct closer_job *job)
{
        return (struct closer_answer){.serial = job->serial,
                        .pid = getpid(),
                        .kind = job->kind,
                        .party = job->party,
                        .uid = job->uid};
}

/* Somebody else takes jobs from now on, and this process is for one sender alone. The daemon gets that end of
 * its socket. */
static void leave(int jobs, int leaving, struct closer_answer *answer, int own_end, struct held *h)
{
        pid_t self = getpid();
        struct closer_fds said = {.n = 1, .fds = {own_end}};

        answer->leaves = true;
        memcpy(said.fds + 1, h->fresh.fds, h->fresh.n * sizeof *said.fds);
        said.n += h->fresh.n;
        h->fresh.n = 0;
        (void) !write(leaving, &self, sizeof self);
        closer_say(jobs, answer, said.fds, said.n);
        closer_fds_close(&said);
        /* Who hangs shall not keep this open. */
        close(jobs);
        close(leaving);
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
static void drop(int own, struct closer_fds *fds, bool steps_back_for_large)
{
        bool ends = false;
        struct closer_job job;
        int none;

        while (closer_receive(own, &job, sizeof job, &none, 0) > 0 && job.kind != CLOSER_DROP)
                ;
        for (unsigned i = 0; i < fds->n && steps_back_for_large && !ends; i++)
                ends = is_large(fds->fds[i]);
        if (ends)
                step_back();
        for (unsigned i = 0; i < fds->n; i++) {
                linger_not(fds->fds[i]);
                close(fds->fds[i]);
        }
        if (ends)
                _exit(0);
}

/* Waits for a job for some time. */
static bool next_of_sender(int own, struct closer_job *ret_job, struct closer_fds *ret)
{
        struct pollfd p = {.fd = own, .events = POLLIN};

        /* What was sent before this shutdown is still received. */
        if (poll(&p, 1, IDLE_MSEC) == 0)
                (void) shutdown(own, SHUT_RD);
        return closer_receive_fds(own, ret_job, sizeof *ret_job, ret, 0) > 0 && ret->n > 0;
}

static void do_second_part(int own, const struct closer_job *job, struct held *h)
{
        if (job->kind != CLOSER_WRITE) {
                drop(own, &h->fds, job->steps_back_for_large);
                return;
        }
        (void) eventfd_fill(h->fds.fds[0]);
        close(h->fds.fds[0]);
}

static _Noreturn void stay_with_sender(int own, int gone, struct held *h)
{
        struct closer_answer over = {.pid = getpid()}, answer;
        struct closer_job job;

        closer_say(own, &over, NULL, 0);
        while (next_of_sender(own, &job, &h->fds)) {
                answer = answer_to(&job);
                if (do_first_part(&job, gone, &answer, h)) {
                        if (answer.foreign && job.steps_back)
                                step_back();
                        closer_say(own, &answer, h->fresh.fds, h->fresh.n);
                        closer_fds_close(&h->fresh);
                        if (!answer.holds)
                                continue;
                }
                do_second_part(own, &job, h);
                closer_say(own, &over, NULL, 0);
        }
        _exit(0);
}

_Noreturn void closer_hand(int jobs, int leaving, int gone)
{
        struct held h;
        int own[2];

        /* Later a client may have filled the table. */
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, own) < 0)
                _exit(1);
        for (;;) {
                struct closer_answer answer;
                struct closer_job job;

                if (closer_receive_fds(jobs, &job, sizeof job, &h.fds, 0) <= 0 || h.fds.n == 0)
                        _exit(0);
                answer = answer_to(&job);
                if (do_first_part(&job, gone, &answer, &h) && !answer.holds) {
                        closer_say(jobs, &answer, NULL, 0);
                        continue;
                }
                leave(jobs, leaving, &answer, own[1], &h);
                if (answer.foreign && job.steps_back)
                        step_back();
                do_second_part(own[0], &job, &h);
                stay_with_sender(own[0], gone, &h);
        }
}

/* The descriptors are lost here until the process ends. */
_Noreturn void closer_keep(int keeps, int leaving, int gone)
{
        pid_t self = getpid();
        struct closer_job job;
        struct held h;
        int fd;

        while (closer_receive(keeps, &job, sizeof job, &fd, 0) > 0 && job.kind != CLOSER_LEAVE)
                if (job.kind == CLOSER_LOOK && fd >= 0) {
                        struct closer_answer answer = {.serial = job.serial};

                        look(fd, &job, gone, &answer, &h);
                        closer_say(keeps, &answer, h.fresh.fds, h.fresh.n);
                        closer_fds_close(&h.fresh);
                }
        (void) !write(leaving, &self, sizeof self);
        close(keeps);
        close(leaving);
        step_back();
        _exit(0);
}
