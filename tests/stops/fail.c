/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Each system call of ctxd fails once, in turn, while a client goes through a script: ctxd does not end, what
 * the client was told is so, the next calls work, and no descriptor is left. What a call fails with is what
 * it may fail with on a bad day, and not because of a mistake of its caller. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "tests/harness/base.h"
#include "tests/harness/daemon.h"
#include "tests/stops/script.h"

#ifdef __x86_64__

#define WARM_UP 3

/* No write: those are to handles, where it can fail only if that can be read already. */
static const struct {
        long number;
        int errors[3];
} failures[] = {
                {SYS_openat, {EMFILE, ENOMEM}},
                {SYS_read, {EINTR}},
                {SYS_recvmsg, {EINTR, ENOMEM}},
                {SYS_sendmsg, {EINTR, ENOBUFS}},
                {SYS_recvfrom, {EINTR, ENOMEM}},
                {SYS_sendto, {EINTR, ENOBUFS}},
                {SYS_accept4, {EMFILE, ECONNABORTED}},
                {SYS_epoll_wait, {EINTR}},
                {SYS_epoll_ctl, {ENOMEM, ENOSPC}},
                {SYS_poll, {EINTR, ENOMEM}},
                {SYS_ppoll, {EINTR, ENOMEM}},
                {SYS_mmap, {ENOMEM}},
                {SYS_mremap, {ENOMEM}},
                {SYS_brk, {ENOMEM}},
                {SYS_fcntl, {EMFILE}},
                {SYS_dup, {EMFILE}},
                {SYS_socketpair, {EMFILE}},
                {SYS_pipe2, {EMFILE}},
                {SYS_eventfd2, {EMFILE, ENFILE}},
                {SYS_timerfd_create, {EMFILE}},
                {SYS_memfd_create, {EMFILE, ENOMEM}},
                {SYS_pidfd_open, {EMFILE, ENOMEM}},
                {SYS_pidfd_send_signal, {EAGAIN}},
                {SYS_clone, {EAGAIN, ENOMEM}},
                {SYS_clone3, {EAGAIN, ENOMEM}},
                {SYS_ftruncate, {ENOSPC}},
                {SYS_fallocate, {ENOSPC, EINTR}},
                {SYS_newfstatat, {ENOMEM}},
                {SYS_fstat, {ENOMEM}},
                {SYS_ioctl, {ENOMEM}},
                {SYS_getdents64, {ENOMEM}},
                {SYS_name_to_handle_at, {ENOMEM}},
};

/* 0: this call does not fail so often. */
static int error_of(long number, unsigned which)
{
        for (size_t i = 0; i < ELEMENTSOF(failures); i++)
                if (failures[i].number == number && which < ELEMENTSOF(failures[i].errors))
                        return failures[i].errors[which];
        return 0;
}

struct client {
        pid_t pid;
        int go[2], said[2];
};

/* Runs the script, says so, and checks it when it is told to. */
static _Noreturn void be_client(struct client *c, const char *address)
{
        const char *wrong;
        struct ledger l;
        char byte;

        script_run(address, &l);
        (void) !write(c->said[1], "s", 1);
        (void) !read(c->go[0], &byte, 1);
        wrong = script_check(address, &l);
        if (wrong)
                (void) !write(c->said[1], wrong, strlen(wrong));
        _exit(0);
}

static void client_start(struct client *c, const char *address)
{
        if (pipe2(c->go, O_CLOEXEC) < 0 || pipe2(c->said, O_CLOEXEC) < 0)
                give_up("a pipe", errno);
        c->pid = fork_tied();
        if (c->pid == 0)
                be_client(c, address);
        if (c->pid < 0)
                give_up("fork", errno);
        close(c->go[0]);
        close(c->said[1]);
}

static bool client_is_over(const struct client *c)
{
        return is_readable(c->said[0]);
}

/* What it finds wrong; "": nothing. */
static void client_end(struct client *c, char wrong[128])
{
        size_t n = 0;
        ssize_t k;
        char byte;

        (void) !read(c->said[0], &byte, 1);
        (void) !write(c->go[1], "g", 1);
        while (n < 127 && (k = read(c->said[0], wrong + n, 127 - n)) > 0)
                n += (size_t) k;
        wrong[n] = '\0';
        close(c->go[1]);
        close(c->said[0]);
        waitpid(c->pid, NULL, 0);
}

/* -- ctxd under our hands */

struct failed {
        long number; /* of the system call; -1: the script was over before */
        int error;
};

static void must(long r, const char *what)
{
        if (r < 0)
                give_up(what, errno);
}

/* Makes the nth call of those that can fail so, and fail. The client is started, and its script is over
 * when this returns. False: ctxd has ended. */
static bool run_traced(pid_t daemon, const char *address, struct client *c, unsigned nth, unsigned which,
                struct failed *ret)
{
        struct user_regs_struct regs;
        bool is_entry = false, is_to_fail = false;
        unsigned n = 0;
        int status;

        *ret = (struct failed){.number = -1};
        must(ptrace(PTRACE_SEIZE, daemon, 0, PTRACE_O_TRACESYSGOOD), "PTRACE_SEIZE");
        must(ptrace(PTRACE_INTERRUPT, daemon, 0, 0), "PTRACE_INTERRUPT");
        must(waitpid(daemon, &status, __WALL), "waitpid");
        client_start(c, address);
        must(ptrace(PTRACE_SYSCALL, daemon, 0, 0), "PTRACE_SYSCALL");
        for (;;) {
                pid_t pid = waitpid(daemon, &status, __WALL | WNOHANG);

                if (pid < 0 || (pid == daemon && !WIFSTOPPED(status)))
                        return false;
                if (pid == 0) {
                        if (!client_is_over(c)) {
                                nap(20);
                                continue;
                        }
                        must(ptrace(PTRACE_INTERRUPT, daemon, 0, 0), "PTRACE_INTERRUPT");
                        must(waitpid(daemon, &status, __WALL), "waitpid");
                        break;
                }
                if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
                        int signal = status >> 16 ? 0 : WSTOPSIG(status);

                        must(ptrace(PTRACE_SYSCALL, daemon, 0, signal), "PTRACE_SYSCALL");
                        continue;
                }
                is_entry = !is_entry;
                must(ptrace(PTRACE_GETREGS, daemon, 0, &regs), "PTRACE_GETREGS");
                if (is_entry && error_of((long) regs.orig_rax, which) != 0 && n++ == nth) {
                        *ret = (struct failed){(long) regs.orig_rax, error_of((long) regs.orig_rax, which)};
                        is_to_fail = true;
                        regs.orig_rax = (unsigned long long) -1;
                        must(ptrace(PTRACE_SETREGS, daemon, 0, &regs), "PTRACE_SETREGS");
                } else if (!is_entry && is_to_fail) {
                        is_to_fail = false;
                        regs.rax = (unsigned long long) -ret->error;
                        must(ptrace(PTRACE_SETREGS, daemon, 0, &regs), "PTRACE_SETREGS");
                }
                must(ptrace(PTRACE_SYSCALL, daemon, 0, 0), "PTRACE_SYSCALL");
        }
        must(ptrace(PTRACE_DETACH, daemon, 0, 0), "PTRACE_DETACH");
        return true;
}

static struct daemon ctxd;
static unsigned n_wrong, n_failed;

static void wrong_at(unsigned nth, const struct failed *f, const char *what)
{
        n_wrong++;
        printf("# call %u, system call %ld, which failed with %s: %s\n", nth, f->number,
                        strerrorname_np(f->error), what);
        fflush(stdout);
}

/* One after the other, until the script is over before that. */
static void fail_each(unsigned which)
{
        for (unsigned nth = 0;; nth++) {
                char wrong[128];
                struct client c;
                struct failed f;

                if (!run_traced(ctxd.pid, ctxd.address, &c, nth, which, &f)) {
                        wrong_at(nth, &f, "ctxd has ended");
                        kill(c.pid, SIGKILL);
                        waitpid(c.pid, NULL, 0);
                        daemon_again(&ctxd);
                        continue;
                }
                client_end(&c, wrong);
                if (f.number < 0)
                        return;
                n_failed++;
                if (*wrong)
                        wrong_at(nth, &f, wrong);
        }
}

static void report(unsigned number, bool is_fine, const char *what)
{
        printf("%sok %u - %s\n", is_fine ? "" : "not ", number, what);
        fflush(stdout);
}

int main(void)
{
        unsigned before, after;
        char wrong[128];

        daemon_start(&ctxd, "[Daemon]\nProbe=off\nRetainSec=100ms\n");
        for (unsigned i = 0; i < WARM_UP; i++) {
                struct client c;

                client_start(&c, ctxd.address);
                client_end(&c, wrong);
                if (*wrong)
                        give_up(wrong, 0);
        }
        before = daemon_settled_fds(&ctxd, 0);
        for (unsigned which = 0; which < 2; which++) {
                n_wrong = 0;
                fail_each(which);
                report(which + 1, n_wrong == 0,
                                which == 0 ? "each system call fails once" : "with another error");
        }
        after = daemon_settled_fds(&ctxd, 0);
        printf("# %u system calls have failed\n", n_failed);
        report(3, after <= before, "no descriptor is left");
        if (after > before)
                printf("# there were %u, and are %u\n", before, after);
        report(4, daemon_stop(&ctxd) == 0, "ctxd ends well");
        puts("1..4");
        return 0;
}

#else

int main(void)
{
        puts("1..0 # SKIP the registers of this processor are not known here");
        return 0;
}

#endif
