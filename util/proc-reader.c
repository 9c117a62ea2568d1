/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/closer.h"
#include "util/log.h"
#include "util/proc-reader-internal.h"
#include "util/proc-reader.h"

/* A reader that does not answer is looked at. It hangs if it has slept for long in all where it cannot be
 * woken, however often; or if it has worked for long, since it may be freeing a large memory. If it waits for
 * the processor, the machine is busy, and there is time. */
#define LOOK_FIRST_USEC 4000
#define LOOK_USEC 9000
#define HANG_USEC 40000
#define WORK_USEC 20000 /* after the first look */
#define FREE_USEC 3000  /* of what an answer takes is charged to nobody */
#define SLOW_USEC (3 * UINT64_C(1000000))
#define TRIES 3 /* with other readers, where somebody ends them */
#define CHIEF_MSEC 1000

static struct {
        struct reader_place *places;
        struct reader reader;
        pid_t chief;
        int socket, chief_pidfd;
        uint64_t waited_usec;
} the = {.socket = -1, .chief_pidfd = -1};

static bool has_ended(int pidfd, int msec)
{
        struct pollfd p = {.fd = pidfd, .events = POLLIN};

        return poll(&p, 1, msec) > 0;
}

static void chief_stop(void)
{
        if (the.chief > 0) {
                (void) kill(the.chief, SIGKILL);
                if (the.chief_pidfd >= 0)
                        (void) has_ended(the.chief_pidfd, CHIEF_MSEC);
                (void) waitpid(the.chief, NULL, WNOHANG);
        }
        closep(&the.socket);
        closep(&the.chief_pidfd);
        the.socket = the.chief_pidfd = -1;
        the.chief = 0;
}

static int chief_start(void)
{
        pid_t self = getpid();
        int sockets[2], r = 0;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
                return -errno;
        the.chief = fork();
        if (the.chief == 0)
                reader_chief(self, sockets[1], the.places);
        r = the.chief < 0 ? -errno : 0;
        close(sockets[1]);
        the.socket = sockets[0];
        the.chief_pidfd = r < 0 ? r : pidfd_open_process(the.chief);
        if (the.chief_pidfd < 0) {
                r = the.chief_pidfd;
                chief_stop();
        }
        return r < 0 ? r : 0;
}

/* A place where nobody can write any more. */
static struct reader_place *free_place(void)
{
        for (unsigned i = 0; i < READER_PLACES; i++)
                if (!blame_has(&the.places[i]))
                        return &the.places[i];
        return NULL;
}

static int ask_chief(struct reader_place *place, struct reader *ret)
{
        struct pollfd p = {.fd = the.socket, .events = POLLIN};
        uint32_t number = (uint32_t) (place - the.places);
        int32_t pid;
        int r;

        *ret = (struct reader){.place = place, .pidfd = -1};
        r = closer_send(the.socket, &number, sizeof number, -1, MSG_DONTWAIT);
        if (r < 0)
                return r;
        do
                r = poll(&p, 1, CHIEF_MSEC);
        while (r < 0 && errno == EINTR);
        if (r <= 0)
                return -ETIMEDOUT;
        r = closer_receive(the.socket, &pid, sizeof pid, &ret->pidfd, MSG_DONTWAIT);
        if (r <= 0)
                return r < 0 ? r : -ECONNRESET;
        ret->pid = pid;
        return ret->pidfd < 0 ? -EMFILE : 0;
}

/* Where that fails all readers end with their chief. */
static int reader_start(void)
{
        struct reader_place *place = free_place();
        int r = -EBUSY;

        if (!place)
                return r;
        memset(place, 0, sizeof *place);
        for (unsigned n = 0; n < 2; n++) {
                r = the.chief > 0 ? 0 : chief_start();
                if (r >= 0)
                        r = ask_chief(place, &the.reader);
                if (r >= 0)
                        return 0;
                the.reader.place = NULL;
                chief_stop();
        }
        return r;
}

static void reader_stop(void)
{
        if (!the.reader.place)
                return;
        (void) pidfd_signal(the.reader.pidfd, SIGKILL);
        close(the.reader.pidfd);
        the.reader.place = NULL;
}

/* Its state. It never executes anything, and maps what is ours alone, so nothing of it can hang. */
static char state_of(pid_t pid)
{
        char path[64], text[4096];
        const char *state;

        snprintf(path, sizeof path, "/proc/%d/status", (int) pid);
        state = proc_read_small(path, text, sizeof text) < 0 ? NULL : strstr(text, "\nState:\t");
        return state ? state[strlen("\nState:\t")] : 'X';
}

static uint64_t work_usec(pid_t pid)
{
        clockid_t clock;

        return clock_getcpuclockid(pid, &clock) == 0 ? clock_usec(clock) : 0;
}

enum outcome {
        ANSWERS,
        HANGS,
        LOST, /* it has ended, was stopped, or makes no sense */
};

/* What a process has made its reader wait, and at which file. */
struct hold {
        uint64_t slept_usec, worked_usec;
        enum reader_file file;
};

/* Nobody is charged for what the caller itself has waited for the processor. */
static uint64_t at_most(uint64_t usec, uint64_t max)
{
        return usec < max ? usec : max;
}

static enum outcome await(
                const struct reader *reader, uint32_t request, uint64_t began_usec, struct hold *ret)
{
        uint64_t work = 0, usec = LOOK_FIRST_USEC, at_usec = began_usec, now_usec;
        uint32_t *answer = &reader->place->answer, now;
        char state = 'R';

        while ((now = reader_load(answer)) != request) {
                struct timespec timeout = {.tv_nsec = (long) usec * 1000};

                if (reader_sleep(answer, now, &timeout) >= 0 || errno != ETIMEDOUT)
                        continue;
                if (reader_load(answer) == request)
                        break;
                state = state_of(reader->pid);
                now_usec = now_monotonic_usec();
                if (has_ended(reader->pidfd, 0) || strchr("TtZX", state))
                        return LOST;
                work = work > 0 ? work : work_usec(reader->pid);
                ret->worked_usec = work_usec(reader->pid) - work;
                if (state != 'R')
                        ret->slept_usec += at_most(now_usec - at_usec, 2 * usec);
                if (state != 'R' || ret->file == READER_NONE)
                        ret->file = reader_load(&reader->place->reads);
                if (ret->slept_usec >= HANG_USEC || ret->worked_usec >= WORK_USEC ||
                                now_usec - began_usec > SLOW_USEC)
                        return HANGS;
                usec = LOOK_USEC;
                at_usec = now_usec;
        }
        if (state != 'R')
                ret->slept_usec += at_most(now_monotonic_usec() - at_usec, usec);
        return ANSWERS;
}

static int take(const struct reader_place *p, struct proc_stat *ret_stat, struct proc_status *ret_status)
{
        if (p->result < 0)
                return p->result;
        if (ret_stat) {
                *ret_stat = p->stat;
                ret_stat->comm[sizeof ret_stat->comm - 1] = '\0';
        }
        if (ret_status)
                *ret_status = p->status;
        return 0;
}

static void ask(struct reader_place *p, pid_t pid, unsigned files)
{
        p->pid = pid;
        p->files = files;
        p->text[0] = '\0';
        reader_store(&p->request, p->request + 1);
        reader_wake(&p->request);
}

static int read_through(struct reader_target *t, unsigned files, struct proc_stat *ret_stat,
                struct proc_status *ret_status)
{
        uint64_t began_usec = now_monotonic_usec(), usec;
        struct hold hold = {};
        enum outcome outcome;

        ask(the.reader.place, t->pid, files);
        outcome = await(&the.reader, the.reader.place->request, began_usec, &hold);
        the.waited_usec += now_monotonic_usec() - began_usec;
        usec = hold.slept_usec + hold.worked_usec;
        switch (outcome) {
        case ANSWERS:
                if (usec > FREE_USEC)
                        blame_slow(t, the.reader.place, hold.file, usec - FREE_USEC);
                if (the.reader.place->slept_usec > 0)
                        blame_short(t, the.reader.place);
                return take(the.reader.place, ret_stat, ret_status);
        case HANGS:
                blame_hang(&the.reader, t, usec);
                return -EBUSY;
        case LOST:
                break;
        }
        log_warning("The process that reads of others in /proc was ended or stopped, and is started again");
        blame_lost(&the.reader, t);
        return -EAGAIN;
}

static int try_read(pid_t pid, unsigned files, struct proc_stat *ret_stat, struct proc_status *ret_status)
{
        struct reader_target target;
        int r = blame_find(pid, &target);

        if (r < 0)
                return r;
        r = blame_refuses(&target, files) ? -EBUSY : the.reader.place ? 0 : reader_start();
        if (r >= 0)
                r = read_through(&target, files, ret_stat, ret_status);
        blame_forget(&target);
        return r;
}

int proc_reader_read(pid_t pid, struct proc_stat *ret_stat, struct proc_status *ret_status)
{
        unsigned files = (ret_stat ? READER_STAT : 0) | (ret_status ? READER_STATUS : 0);
        uint64_t before = the.waited_usec;
        int r = -EAGAIN;

        for (unsigned n = 0; n < TRIES && r == -EAGAIN && the.waited_usec - before < SLOW_USEC; n++)
                r = try_read(pid, files, ret_stat, ret_status);
        return r == -EAGAIN ? -EBUSY : r;
}

int proc_reader_start(void)
{
        void *memory = mmap(NULL, READER_PLACES * sizeof *the.places, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        int r;

        if (memory == MAP_FAILED)
                return -errno;
        the.places = memory;
        r = reader_start();
        if (r < 0)
                proc_reader_stop();
        return r;
}

void proc_reader_stop(void)
{
        if (!the.places)
                return;
        reader_stop();
        blame_end();
        chief_stop();
        (void) munmap(the.places, READER_PLACES * sizeof *the.places);
        the.places = NULL;
}

bool proc_reader_is_there(void)
{
        return the.places;
}

uint64_t proc_reader_waited_usec(void)
{
        return the.waited_usec;
}
