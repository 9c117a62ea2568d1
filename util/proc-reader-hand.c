/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "util/capability.h"
#include "util/clock.h"
#include "util/closer.h"
#include "util/proc-reader-internal.h"
#include "util/realtime.h"

/* The processes that read. The chief forks them, because it has little memory, and does nothing else. None
 * has a descriptor but standard error, for a sanitizer, and the chief's socket. */

void (*reader_before)(pid_t pid, enum reader_file file);

static void end_with(pid_t parent)
{
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(0); /* it has died before that */
}

/* How often this process has gone to sleep. */
static long sleeps(void)
{
        struct rusage usage;

        return getrusage(RUSAGE_SELF, &usage) < 0 ? 0 : usage.ru_nvcsw;
}

static void begin(struct reader_place *p, enum reader_file file)
{
        reader_store(&p->reads, file);
        if (reader_before)
                reader_before(p->pid, file);
}

/* status comes first: when the other one hangs, its user is known. */
static int read_files(struct reader_place *p)
{
        int r = 0;

        if (p->files & READER_STATUS) {
                begin(p, READER_STATUS);
                r = proc_status_read_directly(p->pid, p->text, sizeof p->text, &p->status);
        }
        if (r >= 0 && p->files & READER_STAT) {
                begin(p, READER_STAT);
                r = proc_stat_read_directly(p->pid, &p->stat);
        }
        reader_store(&p->reads, READER_NONE);
        return r;
}

static _Noreturn void hand(pid_t chief, struct reader_place *p)
{
        uint32_t last = reader_load(&p->answer), request;
        uint64_t began_usec;
        long slept;

        (void) prctl(PR_SET_NAME, "ctxd-read");
        end_with(chief);
        (void) realtime_begin(); /* who waits for it may have such a priority, and a crowd the processor */
        close(STDIN_FILENO);
        while (!reader_load(&p->leave)) {
                while ((request = reader_load(&p->request)) == last)
                        (void) reader_sleep(&p->request, last, NULL);
                last = request;
                slept = sleeps();
                began_usec = now_monotonic_usec();
                p->result = read_files(p);
                slept = sleeps() - slept;
                p->slept_usec = slept > 0 ? (uint32_t) (now_monotonic_usec() - began_usec) : 0;
                reader_store(&p->answer, request);
                reader_wake(&p->answer);
        }
        _exit(0);
}

_Noreturn void reader_chief(pid_t parent, int socket, struct reader_place *places)
{
        pid_t self = getpid();
        uint32_t place;
        int fd;

        (void) prctl(PR_SET_NAME, "ctxd-reader");
        (void) capability_drop(0, 0);
        end_with(parent);
        (void) signal(SIGCHLD, SIG_IGN); /* nobody waits for them */
        if (dup2(socket, STDIN_FILENO) < 0 || close(STDOUT_FILENO) < 0 ||
                        close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
                _exit(1);
        while (closer_receive(STDIN_FILENO, &place, sizeof place, &fd, 0) > 0 && place < READER_PLACES) {
                int32_t pid = fork();

                if (pid == 0)
                        hand(self, &places[place]);
                fd = pid > 0 ? pidfd_open_process(pid) : -1;
                if (closer_send(STDIN_FILENO, &pid, sizeof pid, fd, 0) < 0)
                        break;
                if (fd >= 0)
                        close(fd);
        }
        _exit(0);
}
