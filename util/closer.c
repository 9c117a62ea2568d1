/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/closer.h"
#include "util/eventfd.h"
#include "util/proc.h"

/* One process starts the others, the hands, and never gets a descriptor of a client. All hands wait for jobs
 * at the same socket. A hand that gets something it must not close says that it leaves, and another one takes
 * its place. They are processes of their own, with tables of their own: a thread, or a process that shares
 * the daemon's table, would keep all of the daemon's sockets open for as long as it cannot end.
 *
 * To start a process takes a hundred times as long as to look, and to close can take longer still. So a hand
 * that has left stays with the sender for whom it has left, at a socket of its own. One that closes runs only
 * when nobody else wants to: who sends such descriptors takes no time from others. But all who are on a bus
 * are one sender, for whose looks all of them wait.
 *
 * Of those who keep sockets (closer.h) there is none before it is wanted, and then one that receives.
 *
 * All of this happens after a fork without exec, so nothing here allocates memory. */

#define HANDS 2 /* that wait for jobs */
#define FDS_MAX 253
#define IDLE_MSEC 2000 /* after that, a hand with a sender of its own ends */

/* Takes or gives a message with up to one descriptor. */
struct note {
        struct iovec iov;
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control;
        struct msghdr message;
};

static void note_init(struct note *n, void *bytes, size_t size)
{
        *n = (struct note){.iov = {.iov_base = bytes, .iov_len = size}};
        n->message = (struct msghdr){.msg_iov = &n->iov,
                        .msg_iovlen = 1,
                        .msg_control = &n->control,
                        .msg_controllen = sizeof n->control};
}

int closer_send(int socket, const void *bytes, size_t size, int fd, int flags)
{
        struct note n;
        struct cmsghdr *c;
        ssize_t k;

        note_init(&n, (void *) bytes, size);
        if (fd >= 0) {
                c = CMSG_FIRSTHDR(&n.message);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof fd);
                memcpy(CMSG_DATA(c), &fd, sizeof fd);
        } else {
                n.message.msg_controllen = 0;
        }
        while ((k = sendmsg(socket, &n.message, flags | MSG_NOSIGNAL)) < 0 && errno == EINTR)
                ;
        return k < 0 ? -errno : 0;
}

int closer_receive(int socket, void *bytes, size_t size, int *ret_fd, int flags)
{
        struct cmsghdr *c;
        struct note n;
        ssize_t k;
        int fd = -1;

        note_init(&n, bytes, size);
        while ((k = recvmsg(socket, &n.message, flags | MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
                ;
        if (k < 0)
                return -errno;
        c = CMSG_FIRSTHDR(&n.message);
        if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
                memcpy(&fd, CMSG_DATA(c), sizeof fd);
        *ret_fd = fd;
        return k == (ssize_t) size ? 1 : 0;
}

static void say(int jobs, const struct closer_answer *answer, int fd)
{
        if (closer_send(jobs, answer, sizeof *answer, fd, 0) < 0)
                _exit(0); /* the daemon has gone */
}

/* Fills in the descriptors, without taking them out of the socket. */
static unsigned peek(int fd, size_t size, int fds[FDS_MAX], bool *ret_are_all)
{
        static char bytes[CLOSER_LOOK_MAX];
        union {
                char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
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
static unsigned look(int fd, const struct closer_job *job, struct closer_answer *answer, int fds[FDS_MAX])
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
static unsigned hold(int fd, struct closer_answer *answer, int fds[FDS_MAX])
{
        answer->foreign = true;
        fds[0] = fd;
        return 1;
}

/* Somebody else takes jobs from now on. */
static void leave(int jobs, int leaving, struct closer_answer *answer, int fd)
{
        pid_t self = getpid();

        answer->leaves = true;
        (void) !write(leaving, &self, sizeof self);
        say(jobs, answer, fd);
        /* Who hangs shall not keep this open. */
        close(jobs);
        close(leaving);
}

/* From then on this process is for one sender alone. The daemon gets that end of its socket. */
static void leave_for_sender(
                int jobs, int leaving, struct closer_answer *answer, int own_end, bool steps_back)
{
        const struct sched_param none = {};

        leave(jobs, leaving, answer, own_end);
        close(own_end);
        if (steps_back)
                (void) sched_setscheduler(0, SCHED_IDLE, &none);
}

/* The daemon drops what it does not take. Until then this process has it, too, so that its own close is the
 * last one. */
static void drop(int own, const int *fds, unsigned n)
{
        struct closer_job job;
        int none;

        while (closer_receive(own, &job, sizeof job, &none, 0) > 0 && job.kind != CLOSER_DROP)
                ;
        for (unsigned i = 0; i < n; i++) {
                linger_not(fds[i]);
                close(fds[i]);
        }
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
        int fd, fds[FDS_MAX];
        unsigned n;

        say(own, &over, -1);
        while (next_of_sender(own, &job, &fd)) {
                if (job.kind == CLOSER_WRITE) {
                        write_and_close(fd);
                } else {
                        answer = (struct closer_answer){.serial = job.serial, .pid = over.pid};
                        n = job.kind == CLOSER_LOOK ? look(fd, &job, &answer, fds) : hold(fd, &answer, fds);
                        say(own, &answer, -1);
                        if (!answer.foreign)
                                continue;
                        drop(own, fds, n);
                }
                say(own, &over, -1);
        }
        _exit(0);
}

static _Noreturn void hand(int jobs, int leaving)
{
        int own[2];

        /* Later a client may have filled the table. */
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, own) < 0)
                _exit(1);
        for (;;) {
                struct closer_answer answer = {.pid = getpid()};
                struct closer_job job;
                int fd, fds[FDS_MAX];
                unsigned n = 0;

                if (closer_receive(jobs, &job, sizeof job, &fd, 0) <= 0 || fd < 0)
                        _exit(0);
                answer.serial = job.serial;
                if (job.kind == CLOSER_LOOK) {
                        n = look(fd, &job, &answer, fds);
                        if (!answer.foreign) {
                                say(jobs, &answer, -1);
                                continue;
                        }
                } else if (job.kind == CLOSER_CLOSE) {
                        n = hold(fd, &answer, fds);
                }
                leave_for_sender(jobs, leaving, &answer, own[1], job.steps_back);
                if (job.kind == CLOSER_WRITE)
                        write_and_close(fd);
                else
                        drop(own[0], fds, n);
                stay_with_sender(own[0]);
        }
}

/* The descriptors are lost here until the process ends. */
static _Noreturn void keep(int keeps, int leaving)
{
        const struct sched_param none = {};
        pid_t self = getpid();
        struct closer_job job;
        int fd;

        while (closer_receive(keeps, &job, sizeof job, &fd, 0) > 0 && job.kind != CLOSER_LEAVE)
                ;
        (void) !write(leaving, &self, sizeof self);
        close(keeps);
        close(leaving);
        (void) sched_setscheduler(0, SCHED_IDLE, &none);
        _exit(0);
}

struct chief {
        int jobs, keeps, leaving[2], children;
        pid_t hands[HANDS], keeper, ending[CLOSER_ENDING]; /* 0: none */
};

static bool replace(pid_t *pids, unsigned n, pid_t pid, pid_t by)
{
        for (unsigned i = 0; i < n; i++)
                if (pids[i] == pid) {
                        pids[i] = by;
                        return true;
                }
        return false;
}

static void note_who_leaves(struct chief *c)
{
        pid_t pid;

        while (read(c->leaving[0], &pid, sizeof pid) == sizeof pid)
                if (pid != c->keeper) {
                        (void) replace(c->hands, HANDS, pid, 0);
                } else {
                        (void) replace(c->ending, CLOSER_ENDING, 0, pid);
                        c->keeper = 0;
                }
}

static void note_who_has_ended(struct chief *c)
{
        struct signalfd_siginfo info;
        pid_t pid;

        while (read(c->children, &info, sizeof info) == sizeof info)
                ;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
                note_who_leaves(c); /* before its end */
                if (pid == c->keeper)
                        c->keeper = 0;
                else if (replace(c->ending, CLOSER_ENDING, pid, 0))
                        say(c->keeps, &(struct closer_answer){.pid = pid}, -1);
                else {
                        (void) replace(c->hands, HANDS, pid, 0);
                        say(c->jobs, &(struct closer_answer){.pid = pid}, -1);
                }
        }
}

static pid_t start(const struct chief *c, void (*run)(int socket, int leaving), int socket, int other)
{
        pid_t self = getpid(), pid = fork();

        if (pid != 0)
                return pid;
        (void) prctl(PR_SET_NAME, "ctxd-close");
        /* A write can sleep for ever. */
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != self)
                _exit(0); /* it has died before that */
        close(c->leaving[0]);
        close(c->children);
        close(other);
        run(socket, c->leaving[1]);
        _exit(0);
}

static bool fill(struct chief *c)
{
        for (unsigned i = 0; i < HANDS; i++)
                if (c->hands[i] <= 0)
                        c->hands[i] = start(c, hand, c->jobs, c->keeps);
        return c->hands[0] > 0 && c->hands[1] > 0 && c->keeper >= 0;
}

static _Noreturn void chief(int jobs, int keeps)
{
        struct chief c = {.jobs = jobs, .keeps = keeps};
        sigset_t set;

        (void) prctl(PR_SET_NAME, "ctxd-closer");
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        sigprocmask(SIG_BLOCK, &set, NULL);
        signal(SIGCHLD, SIG_DFL);
        c.children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (c.children < 0 || pipe2(c.leaving, O_CLOEXEC | O_NONBLOCK) < 0)
                _exit(1);
        for (;;) {
                bool has_all = fill(&c);
                struct pollfd polls[] = {{.fd = jobs}, {.fd = c.leaving[0], .events = POLLIN},
                                {.fd = c.children, .events = POLLIN},
                                {.fd = c.keeper == 0 ? keeps : -1, .events = POLLIN}};

                /* Where a fork has failed, it is tried again. */
                if (poll(polls, ELEMENTSOF(polls), has_all ? -1 : 100) < 0 && errno != EINTR)
                        _exit(1);
                if (polls[0].revents & (POLLHUP | POLLERR))
                        _exit(0);
                note_who_leaves(&c);
                note_who_has_ended(&c);
                if (c.keeper < 0)
                        c.keeper = 0;
                else if (polls[3].revents & POLLIN)
                        c.keeper = start(&c, keep, keeps, jobs);
        }
}

/* Standard error stays, for a sanitizer. Else these processes would keep the daemon's descriptors open. */
static _Noreturn void be_chief(int jobs, int keeps)
{
        if (dup2(jobs, STDIN_FILENO) < 0 || dup2(keeps, STDOUT_FILENO) < 0 ||
                        close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
                _exit(1);
        chief(STDIN_FILENO, STDOUT_FILENO);
}

static int fork_chief(pid_t *ret_pid, int jobs, int keeps)
{
        *ret_pid = fork();
        if (*ret_pid == 0)
                be_chief(jobs, keeps);
        return *ret_pid < 0 ? -errno : 0;
}

int closer_start(struct closer *ret)
{
        int jobs[2], keeps[2], r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, jobs) < 0)
                return -errno;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, keeps) < 0) {
                r = -errno;
                close(jobs[0]);
                close(jobs[1]);
                return r;
        }
        r = fork_chief(&ret->pid, jobs[1], keeps[1]);
        close(jobs[1]);
        close(keeps[1]);
        if (r < 0) {
                close(jobs[0]);
                close(keeps[0]);
                return r;
        }
        ret->jobs = jobs[0];
        ret->keeps = keeps[0];
        return 0;
}
