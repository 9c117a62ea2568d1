/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "bpf/look-cost.h"
#include "bpf/look.h"
#include "bpf/sample.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/proc.h"
#include "util/share.h"

/* A look takes 20 us, and a hundred times that where the machine is busy. */
#define LIMIT_MSEC 250
/* So often that time may pass where it waits for a CPU, and does not hang. */
#define LIMITS_MAX 8
#define LEFT_OUT_USEC UINT64_C(60000000)
/* All of a user are left out where so many are. */
#define LEFT_OUT_MAX 4
/* So long the end of one that was killed is waited for. If it does not come no signal ends its sleep. */
#define END_MSEC 100
/* So many of these there may be; each is of another user. */
#define STUCK_MAX (LOOKERS_MAX - 1)

/* At whom a look took too long. */
struct left_out {
        pid_t pid;
        int pidfd; /* another may have its number later */
        uint32_t party;
        bool is_party; /* all of the party are */
        uint64_t until_usec;
        pid_t stuck;    /* who has looked, and cannot be killed; 0: nobody */
        unsigned place; /* its */
        LIST_ENTRY(left_out) all;
};

static struct {
        void *job; /* LOOK_JOB_MAX bytes, which both have */
        pid_t pid; /* who looks; 0: nobody */
        int socket;
        int without;    /* -1: nothing */
        unsigned place; /* of who looks */
        LIST_HEAD(, left_out) left_out;
        struct look_costs costs;
        unsigned n_stuck;
} all = {.socket = -1, .without = -1};

void *look_job(size_t size)
{
        if (!all.job) {
                void *job = mmap(NULL, LOOK_JOB_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                                0);

                if (job == MAP_FAILED)
                        return NULL;
                all.job = job;
        }
        return memset(all.job, 0, size);
}

void look_without(int fd)
{
        all.without = fd;
}

/* How long this process has run, or waited for a CPU. */
static uint64_t awake_usec(int schedstat)
{
        unsigned long long waited = 0;
        char text[64];
        ssize_t n = pread(schedstat, text, sizeof text - 1, 0);

        text[n > 0 ? n : 0] = '\0';
        (void) sscanf(text, "%*u %llu", &waited);
        return clock_usec(CLOCK_PROCESS_CPUTIME_ID) + waited / 1000;
}

static _Noreturn void serve(int socket, pid_t parent)
{
        void (*run)(void *job);
        int schedstat = open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);

        (void) prctl(PR_SET_NAME, "ctxd-look");
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        closep(&all.without);
        while (getppid() == parent && recv(socket, &run, sizeof run, 0) == sizeof run) {
                uint64_t awake = awake_usec(schedstat), begin = now_monotonic_usec(), took, slept;

                run(all.job);
                took = now_monotonic_usec() - begin;
                awake = awake_usec(schedstat) - awake;
                slept = took > awake ? took - awake : 0;
                if (send(socket, &slept, sizeof slept, MSG_NOSIGNAL) != sizeof slept)
                        break;
        }
        _exit(0);
}

unsigned look_place(void)
{
        return all.place;
}

/* There is one, since one more may be there than can be stuck. */
static unsigned free_place(void)
{
        const struct left_out *l;
        unsigned place = 0;

again:
        LIST_FOREACH (l, &all.left_out, all)
                if (l->stuck > 0 && l->place == place) {
                        place++;
                        goto again;
                }
        return place;
}

static int begin(void)
{
        pid_t parent = getpid();
        int pair[2];

        if (all.pid > 0)
                return 0;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        all.place = free_place();
        all.pid = fork();
        if (all.pid == 0) {
                close(pair[0]);
                serve(pair[1], parent);
        }
        close(pair[1]);
        if (all.pid < 0) {
                int r = -errno;

                all.pid = 0;
                close(pair[0]);
                return r;
        }
        all.socket = pair[0];
        return 0;
}

void look_start(void)
{
        if (look_job(0))
                (void) begin();
}

/* Whether it has ended. */
static bool is_reaped(pid_t pid)
{
        return waitpid(pid, NULL, WNOHANG) != 0;
}

/* 0, or who does not end. */
static pid_t end(void)
{
        pid_t pid = all.pid;
        int pidfd;

        if (pid == 0)
                return 0;
        closep(&all.socket);
        all.pid = 0;
        pidfd = pidfd_open_process(pid);
        (void) kill(pid, SIGKILL);
        if (pidfd >= 0)
                (void) poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, END_MSEC);
        closep(&pidfd);
        if (is_reaped(pid))
                return 0;
        /* What it waits for may still be written there. */
        (void) munmap(all.job, LOOK_JOB_MAX);
        all.job = NULL;
        return pid;
}

static void forget(struct left_out *l)
{
        LIST_REMOVE(l, all);
        closep(&l->pidfd);
        free(l);
}

void look_stop(void)
{
        (void) end();
        while (!LIST_EMPTY(&all.left_out))
                forget(LIST_FIRST(&all.left_out));
        if (all.job)
                (void) munmap(all.job, LOOK_JOB_MAX);
        all.job = NULL;
}

static void forget_old(void)
{
        struct left_out *l, *next;
        uint64_t now = LIST_EMPTY(&all.left_out) ? 0 : now_boottime_usec();

        for (l = LIST_FIRST(&all.left_out); l; l = next) {
                next = LIST_NEXT(l, all);
                if (l->stuck > 0 && is_reaped(l->stuck)) {
                        l->stuck = 0;
                        all.n_stuck--;
                }
                if (l->stuck == 0 && now >= l->until_usec)
                        forget(l);
        }
}

static bool is_left_out(pid_t pid, uid_t uid)
{
        const struct left_out *l;
        unsigned n = 0;

        forget_old();
        LIST_FOREACH (l, &all.left_out, all) {
                /* What is root's may be anybody's, so it leaves out no other. */
                bool is_same = uid != 0 && l->party == share_party(uid);

                if ((l->pid == pid && !proc_pidfd_exited(l->pidfd)) ||
                                (is_same && (l->is_party || l->stuck > 0)))
                        return true;
                n += is_same;
        }
        return n >= LEFT_OUT_MAX;
}

static void leave_out(pid_t pid, uid_t uid, bool is_party, pid_t stuck)
{
        struct left_out *l = calloc(1, sizeof *l);

        if (is_party && uid != 0)
                log_warning("To look at the processes of user %u takes too long. They are left out for a "
                            "while",
                                (unsigned) uid);
        else
                log_warning("To look at process %d of user %u takes too long. It is left out for a while",
                                (int) pid, (unsigned) uid);
        /* This may have taken long in all, and it goes on. */
        (void) sd_notify(0, "WATCHDOG=1");
        if (!l)
                return;
        l->pid = pid;
        l->pidfd = pidfd_open_process(pid);
        l->party = share_party(uid);
        l->is_party = is_party;
        l->until_usec = now_boottime_usec() + LEFT_OUT_USEC;
        l->stuck = stuck;
        l->place = all.place;
        all.n_stuck += stuck > 0;
        LIST_INSERT_HEAD(&all.left_out, l, all);
}

static bool waits_for_cpu(void)
{
        struct proc_stat stat;

        return proc_stat_read(all.pid, &stat) >= 0 && stat.state == 'R';
}

/* -EBUSY: it takes too long. Another -errno: whoever looks has gone. */
static int wait_for_end(uint64_t *ret_slept)
{
        struct pollfd p = {.fd = all.socket, .events = POLLIN};
        int r;

        for (int i = 0; i < LIMITS_MAX; i++) {
                do
                        r = poll(&p, 1, LIMIT_MSEC);
                while (r < 0 && errno == EINTR);
                if (r > 0)
                        return recv(all.socket, ret_slept, sizeof *ret_slept, MSG_DONTWAIT) ==
                                                               sizeof *ret_slept
                                               ? 0
                                               : -EIO;
                if (!waits_for_cpu())
                        break;
        }
        return -EBUSY;
}

uid_t look_payer(pid_t pid)
{
        _cleanup_close_ int pidfd = pidfd_open_process(pid);
        struct pidfd_owner owner;
        char path[32];
        struct stat st;

        if (pidfd >= 0 && pidfd_owner(pidfd, &owner) >= 0)
                return owner.uids[0];
        snprintf(path, sizeof path, "/proc/%d", (int) pid);
        return stat(path, &st) == 0 ? st.st_uid : 0;
}

int look_run(void (*run)(void *job), pid_t pid, uid_t uid)
{
        uint64_t slept;
        int r;

        if (is_left_out(pid, uid) || all.n_stuck >= STUCK_MAX)
                return -EBUSY;
        r = begin();
        if (r >= 0 && send(all.socket, &run, sizeof run, MSG_NOSIGNAL) != sizeof run)
                r = -EIO;
        if (r >= 0)
                r = wait_for_end(&slept);
        if (r == -EBUSY)
                leave_out(pid, uid, false, end());
        else if (r < 0)
                (void) end();
        else if (look_cost_add(&all.costs, pid, uid, slept, now_boottime_usec()))
                leave_out(pid, uid, true, 0);
        else if (slept > LOOK_FREE_USEC)
                (void) sd_notify(0, "WATCHDOG=1"); /* there may be many such */
        return r;
}

struct file_job {
        char path[96];
        size_t size;
        ssize_t n;
        uid_t owner;
        char text[8192];
};

static void read_file(void *userdata)
{
        struct file_job *j = userdata;
        _cleanup_close_ int fd = open(j->path, O_RDONLY | O_CLOEXEC);
        struct stat st;

        j->n = fd < 0 || fstat(fd, &st) < 0 ? -1 : read(fd, j->text, j->size);
        if (j->n < 0)
                j->n = -errno;
        else
                j->owner = st.st_uid;
}

ssize_t look_file(const char *path, pid_t pid, uid_t uid, char *ret, size_t size, uid_t *ret_owner)
{
        struct file_job *j = look_job(offsetof(struct file_job, text));
        int r;

        if (!j || size > sizeof j->text || strlen(path) >= sizeof j->path)
                return -ENOMEM;
        strcpy(j->path, path);
        j->size = size - 1;
        r = look_run(read_file, pid, uid);
        if (r < 0)
                return r;
        if (j->n < 0)
                return j->n;
        memcpy(ret, j->text, (size_t) j->n);
        ret[j->n] = '\0';
        if (ret_owner)
                *ret_owner = j->owner;
        return j->n;
}
