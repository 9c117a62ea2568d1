/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/law/local.h"

/* Locks and channels where futex_waitv(2) is refused: by a filter of system calls, with EPERM or ENOSYS, or
 * by a kernel that does not have it. */

static const int errors[] = {EPERM, ENOSYS, EACCES};

static void refuse_waitv(int error)
{
        struct sock_filter filter[] = {
                        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex_waitv, 0, 1),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned) error),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {.len = sizeof(filter) / sizeof(*filter), .filter = filter};

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                _exit(77);
        if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) != -1 || errno != error)
                _exit(78);
}

struct world {
        struct ctx *ctx;
        struct ctx_mutex mutex;
        struct ctx_cond cond;
        struct ctx_sem sem;
        struct ctx_chan *chan;
        bool happened;
};

static void *give_all(void *userdata)
{
        struct world *w = userdata;
        int item = 7;

        usleep(50000);
        ctx_mutex_unlock(&w->mutex);
        usleep(50000);
        ctx_sem_post(&w->sem);
        usleep(50000);
        if (ctx_chan_send(w->ctx, w->chan, &item) != 0)
                _exit(20);
        usleep(50000);
        if (ctx_mutex_lock(w->ctx, &w->mutex) != 0)
                _exit(21);
        w->happened = true;
        ctx_cond_signal(&w->cond);
        ctx_mutex_unlock(&w->mutex);
        usleep(50000);
        ctx_cancel(w->ctx);
        return NULL;
}

static double cpu_time(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
        return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

/* In a child of its own: a filter stays for good. */
static int use_all(int error)
{
        struct world w = {.ctx = ctx_with_cancel(ctx_background()), .chan = ctx_chan_new(sizeof(int), 0)};
        struct ctx *timed = ctx_with_timeout(ctx_background(), 300000);
        pthread_t thread;
        int item = 0;

        refuse_waitv(error);
        if (ctx_mutex_trylock(&w.mutex) != 0 || pthread_create(&thread, NULL, give_all, &w) != 0)
                return 1;
        if (ctx_mutex_lock(w.ctx, &w.mutex) != 0)
                return 2;
        if (ctx_sem_wait(w.ctx, &w.sem) != 0)
                return 3;
        if (ctx_chan_recv(w.ctx, w.chan, &item) != 1 || item != 7)
                return 4;
        while (!w.happened)
                if (ctx_cond_wait(w.ctx, &w.cond, &w.mutex) != 0)
                        return 5;
        if (ctx_mutex_lock(w.ctx, &w.mutex) != -ECANCELED) /* this thread has it */
                return 6;
        pthread_join(thread, NULL);
        if (ctx_sem_wait(timed, &w.sem) != -ETIMEDOUT)
                return 7;
        /* It has slept nearly all the time. */
        return cpu_time() < 0.15 ? 0 : 8;
}

START_TEST(locks_work_without_futex_waitv)
{
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                alarm(120);
                _exit(use_all(errors[_i]));
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                return; /* filters are not allowed here */
        ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

int main(void)
{
        const TTest *const none[] = {NULL};

        return run_laws_and_loop("locks without futex_waitv", none, locks_work_without_futex_waitv, 3);
}
