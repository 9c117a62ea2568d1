/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/blocking/spawn.h"
#include "proto/names.h"

/* What happens between fork and exec. The program may have threads, so the child calls only what may be
 * called in a signal handler. */

static bool is_ours(const char *assignment)
{
        return strncmp(assignment, CTXD_ENV_CONTEXT "=", strlen(CTXD_ENV_CONTEXT "=")) == 0 ||
               strncmp(assignment, CTXD_ENV_ADDRESS "=", strlen(CTXD_ENV_ADDRESS "=")) == 0;
}

char **spawn_env(char *const *env, char *context, char *address)
{
        bool replace = context || address;
        char **result, **at;
        size_t n = 0;

        if (!env)
                env = environ;
        while (env[n])
                n++;
        at = result = calloc(n + 3, sizeof *result);
        if (!result)
                return NULL;
        if (context)
                *at++ = context;
        if (address)
                *at++ = address;
        for (; *env; env++)
                if (!replace || !is_ours(*env))
                        *at++ = *env;
        return result;
}

/* What parent and child share: a page of memory, and no descriptor. Another thread of the program may fork at
 * any time, and a pipe that its child inherits does not end. For the same reason the kernel itself tells the
 * parent that exec has succeeded: `running` is a robust futex of the child, and the kernel releases those of
 * a process when it calls exec or dies. */
struct spawn_page {
        _Atomic uint32_t gate;    /* enum gate; a futex */
        _Atomic uint32_t running; /* a futex */
        int error;                /* of what the child has tried */
        struct robust_list_head head;
        struct robust_list entry; /* stands for `running` */
};

enum gate { GATE_CLOSED, GATE_OPEN, GATE_GIVEN_UP };

static void page_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *timeout)
{
        syscall(SYS_futex, word, FUTEX_WAIT, value, timeout, NULL, 0);
}

static struct spawn_page *page_new(void)
{
        struct spawn_page *page =
                        mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        if (page == MAP_FAILED)
                return NULL;
        /* The kernel wakes who waits for it. */
        atomic_init(&page->running, FUTEX_WAITERS);
        page->head.list.next = &page->entry;
        page->head.futex_offset = (long) offsetof(struct spawn_page, running) -
                                  (long) offsetof(struct spawn_page, entry);
        page->entry.next = &page->head.list;
        return page;
}

/* 0: it is in another pid namespace. */
static bool has_parent(pid_t parent)
{
        pid_t now = getppid();

        return now == parent || now == 0;
}

/* What a wait is told of can be lost: the child may have been killed before the kernel knew of its futex, and
 * the kernel may refuse to tie it to its parent. So both look again after a while. */
static const struct timespec look_again = {.tv_nsec = 50000000};

static int wait_at_gate(struct spawn_page *page, pid_t parent)
{
        uint32_t gate;

        atomic_fetch_or(&page->running, (uint32_t) gettid());
        if (syscall(SYS_set_robust_list, &page->head, sizeof page->head) < 0) {
                page->error = errno;
                return -1;
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while ((gate = atomic_load(&page->gate)) == GATE_CLOSED && has_parent(parent))
                page_wait(&page->gate, GATE_CLOSED, &look_again);
        return gate == GATE_OPEN ? 0 : -1;
}

/* The code of a signal handler is gone after exec, and must not run before it. What the calling thread blocks
 * is its own business: a callback's blocks all, and so may any, in a program that takes its signals with
 * sigwait(3). The command would not hear the signal that its context sends. */
static void reset_signals(void)
{
        struct sigaction action;
        sigset_t none;

        for (int s = 1; s < NSIG; s++)
                if (sigaction(s, NULL, &action) == 0 && action.sa_handler != SIG_IGN &&
                                action.sa_handler != SIG_DFL)
                        sigaction(s, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
        sigemptyset(&none);
        /* From here on a signal that the context sends ends the child, should the rest take long. */
        sigprocmask(SIG_SETMASK, &none, NULL);
}

static int take_fds(const int fds[3])
{
        int moved[3] = {-1, -1, -1};

        for (int i = 0; i < 3; i++)
                if (fds[i] >= 0 && (moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3)) < 0)
                        return -errno;
        for (int i = 0; i < 3; i++)
                if (moved[i] >= 0 && dup2(moved[i], i) < 0)
                        return -errno;
        return 0;
}

static int prepare(const struct spawn_start *start)
{
        const struct ctx_spawn_options *options = start->options;

        if (take_fds(options->fds) < 0)
                return -1;
        if (options->directory && chdir(options->directory) < 0)
                return -1;
        return options->flags & CTX_SPAWN_TREE ? setpgid(0, 0) : 0;
}

static _Noreturn void be_child(const struct spawn_start *start, pid_t parent)
{
        if (wait_at_gate(start->page, parent) < 0)
                _exit(EXIT_FAILURE);
        reset_signals();
        if (prepare(start) == 0) {
                prctl(PR_SET_PDEATHSIG, 0);
                execvpe(start->argv[0], start->argv, start->env);
        }
        start->page->error = errno;
        _exit(127);
}

int spawn_fork(struct spawn_start *start)
{
        pid_t parent = getpid();
        sigset_t all, before;
        int r;

        start->page = page_new();
        if (!start->page)
                return -ENOMEM;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        /* Without the handlers of pthread_atfork(): they are for children that go on, and may take long. */
        start->pid = _Fork();
        if (start->pid == 0)
                be_child(start, parent);
        r = -errno;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (start->pid > 0)
                return 0;
        munmap(start->page, sizeof *start->page);
        return r;
}

static void open_gate(struct spawn_page *page, enum gate gate)
{
        atomic_store(&page->gate, gate);
        syscall(SYS_futex, &page->gate, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Not a child that lives. */
static bool is_gone(pid_t pid)
{
        siginfo_t info = {};

        return waitid(P_PID, (id_t) pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

int spawn_go_on(struct spawn_start *start)
{
        struct spawn_page *page = start->page;
        uint32_t word;
        int r;

        open_gate(page, GATE_OPEN);
        while (!((word = atomic_load(&page->running)) & FUTEX_OWNER_DIED)) {
                page_wait(&page->running, word, &look_again);
                if (atomic_load(&page->running) == word && is_gone(start->pid))
                        break;
        }
        r = -page->error;
        munmap(page, sizeof *page);
        return r;
}

void spawn_give_up(struct spawn_start *start)
{
        open_gate(start->page, GATE_GIVEN_UP);
        munmap(start->page, sizeof *start->page);
}
