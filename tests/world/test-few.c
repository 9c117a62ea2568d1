/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Few members are found without a look at all tasks of the host (law 48), and none is missed. With the real
 * ctxd-probe ($CTXD_PROBE). */

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/membership.h"
#include "util/proc.h"
#include "tests/world/world.h"

static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};

static unsigned n_full;   /* looks at all tasks */
static unsigned n_single; /* looks at a process */

int __real_bpf_iterate(int link);
int __wrap_bpf_iterate(int link);
int __wrap_bpf_iterate(int link)
{
        n_full++;
        return __real_bpf_iterate(link);
}

int __real_bpf_iterate_process(int program, int pidfd, uint32_t pid);
int __wrap_bpf_iterate_process(int program, int pidfd, uint32_t pid);
int __wrap_bpf_iterate_process(int program, int pidfd, uint32_t pid)
{
        n_single++;
        return __real_bpf_iterate_process(program, pidfd, pid);
}

static void (*between_reads)(void); /* each read gives one record, and it is called in between */

ssize_t __real_bpf_iterator_read(int iterator, void *buffer, size_t size);
ssize_t __wrap_bpf_iterator_read(int iterator, void *buffer, size_t size);
ssize_t __wrap_bpf_iterator_read(int iterator, void *buffer, size_t size)
{
        const size_t one = sizeof(struct membership_task);

        if (!between_reads || size < one)
                return __real_bpf_iterator_read(iterator, buffer, size);
        between_reads();
        return __real_bpf_iterator_read(iterator, buffer, one);
}

static size_t list(struct context *c)
{
        struct member_task *tasks;
        size_t n;

        ck_assert_int_eq(engine_tasks(world.engine, c, true, &tasks, &n), 0);
        free(tasks);
        return n;
}

struct expected {
        struct child *child;
        unsigned n;
};

static bool lacks_signals(void *userdata)
{
        struct expected *e = userdata;

        for (; e->n > 0 && is_readable(e->child->out); e->n--)
                ck_assert_int_eq(child_say(e->child), 'T');
        return e->n > 0;
}

/* The last ones come in later pieces. */
static void expect_signals(struct child *c, unsigned n)
{
        run_while(lacks_signals, &(struct expected){c, n});
        ck_assert(child_silent(c));
}

START_TEST(law_48_a_family)
{
        struct child *c = child_start(child_breed), *other = child_start(child_breed);
        struct context *root = make("r"), *a = make("r/a"), *b = make("r/b");

        n_full = 0;
        attach(a, c, &term);
        attach(b, other, &term);
        breed(c, "ftdtf");
        breed(other, "d");
        ck_assert_uint_eq(list(a), 6);
        ck_assert_uint_eq(list(b), 2);
        ck_assert_uint_eq(list(root), 8);
        breed(c, "c");
        breed(other, "c");
        ck_assert_uint_eq(cancel(root), 8);
        expect_signals(c, 4);
        expect_signals(other, 2);
        ck_assert_uint_eq(n_full, 0);
}
END_TEST

/* Members go down only. */
START_TEST(law_48_moves)
{
        struct child *c = child_start(child_breed);
        struct context *a = make("a"), *below = make("a/b");

        n_full = 0;
        attach(a, c, &term);
        breed(c, "tf");
        attach(below, c, &term); /* without the child */
        breed(c, "f");
        ck_assert_uint_eq(list(a), 4);
        ck_assert_uint_eq(list(below), 3);
        breed(c, "c");
        ck_assert_uint_eq(cancel(a), 4);
        expect_signals(c, 3);
        ck_assert_uint_eq(n_full, 0);
}
END_TEST

/* So many of each kind come and go as would have no room beside each other. */
static void *gone(void *userdata)
{
        return NULL;
}

static void come_and_go(int in, int out)
{
        pthread_t thread;
        char byte;

        child_ready(out);
        (void) !read(in, &byte, 1);
        for (int i = 0; i < 2 * MEMBERSHIP_PROCESSES; i++) {
                pid_t pid = fork();

                if (pid == 0)
                        _exit(0);
                (void) waitpid(pid, NULL, 0);
                if (pthread_create(&thread, NULL, gone, NULL) == 0)
                        (void) pthread_join(thread, NULL);
        }
        child_count(in, out);
}

/* A thread is a member for a moment after it was joined. */
static bool has_others(void *context)
{
        return list(context) != 1;
}

START_TEST(law_48_after_many)
{
        struct child *c = child_start(come_and_go);
        struct context *a = make("a");

        n_full = 0;
        attach(a, c, &term);
        breed(c, "x");
        run_while(has_others, a);
        ck_assert_uint_eq(cancel(a), 1);
        expect_signals(c, 1);
        ck_assert_uint_eq(n_full, 0);
}
END_TEST

/* Nobody is missed where there is no room for all, nor when they are few again. */
START_TEST(a_crowd)
{
        char what[2 * MEMBERSHIP_PROCESSES + 1] = "";
        struct child *c = child_start(child_breed);
        struct context *a = make("a");

        memset(what, 'f', sizeof what - 1);
        attach(a, c, &term);
        breed(c, what);
        n_full = 0;
        ck_assert_uint_eq(list(a), sizeof what);
        ck_assert_uint_gt(n_full, 0);
        breed(c, "c");
        ck_assert_uint_eq(cancel(a), sizeof what);
        expect_signals(c, sizeof what);
}
END_TEST

static void *idle(void *userdata)
{
        for (;;)
                pause();
        return NULL;
}

/* A look at a process costs as much as that at some tasks in a look at all. So it is made where the host has
 * many, and a user with many processes does not hold others up where it has few. */
#define PROCESSES 21
#define PRICE 32
#define IDLE_THREADS (2 * PROCESSES * PRICE)

static unsigned host_tasks(void)
{
        unsigned n = 0;
        char text[128];

        ck_assert_int_eq(proc_read_small("/proc/loadavg", text, sizeof text), 0);
        ck_assert_int_eq(sscanf(text, "%*s %*s %*s %*u/%u", &n), 1);
        return n;
}

static void many_threads(int in, int out)
{
        pthread_attr_t attr;
        pthread_t thread;

        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN);
        for (int i = 0; i < IDLE_THREADS; i++)
                if (pthread_create(&thread, &attr, idle, NULL) != 0)
                        _exit(1);
        child_sleep(in, out);
}

START_TEST(law_48_what_costs_less)
{
        struct child *c = child_start(child_breed);
        struct context *a = make("a");
        unsigned n_tasks;

        attach(a, c, &term);
        for (int i = 1; i < PROCESSES; i++)
                breed(c, "f");
        n_tasks = host_tasks();
        n_single = 0;
        ck_assert_uint_eq(list(a), PROCESSES);
        n_tasks = n_tasks > host_tasks() ? n_tasks : host_tasks();
        ck_assert_uint_le(n_single * PRICE, n_tasks);
        child_start(many_threads);
        n_full = n_single = 0;
        ck_assert_uint_eq(list(a), PROCESSES);
        ck_assert_uint_eq(n_full, 0);
        ck_assert_uint_eq(n_single, PROCESSES);
}
END_TEST

/* The first thread of a process ends before the other one, which stays a member. */
static int out_of_leader;

static void *outlive(void *userdata)
{
        pthread_t *leader = userdata;

        (void) pthread_join(*leader, NULL);
        (void) !write(out_of_leader, "!", 1);
        for (;;)
                pause();
        return NULL;
}

static void without_leader(int in, int out)
{
        static pthread_t leader;
        pthread_t thread;
        char byte;

        out_of_leader = out;
        leader = pthread_self();
        child_ready(out);
        (void) !read(in, &byte, 1);
        if (pthread_create(&thread, NULL, outlive, &leader) != 0)
                _exit(1);
        (void) syscall(SYS_exit, 0); /* pthread_exit() needs a library that not every root has */
}

START_TEST(a_leader_ends)
{
        struct child *c = child_start(without_leader);
        struct context *a = make("a");

        attach(a, c, &term);
        breed(c, "x");
        ck_assert_uint_eq(list(a), 1);
        ck_assert_uint_eq(cancel(a), 1);
        (void) child_wait(c); /* of SIGTERM */
}
END_TEST

/* They leave no trace in the context that they were moved from. */
START_TEST(law_48_moves_without_a_leader)
{
        struct context *a = make("a"), *below = make("a/b");

        attach(a, child_start(child_sleep), &term);
        for (int i = 0; i < MEMBERSHIP_PROCESSES; i++) {
                struct child *c = child_start(without_leader);

                attach(a, c, &term);
                breed(c, "x");
                attach(below, c, &term);
                kill(c->pid, SIGKILL);
                (void) child_wait(c);
        }
        n_full = 0;
        ck_assert_uint_eq(list(a), 1);
        ck_assert_uint_eq(n_full, 0);
}
END_TEST

/* An iterator that is limited to a process ends where the thread that it is at has gone. */
#define ENDING 2

static pthread_barrier_t all_end;

static void *end_when_told(void *userdata)
{
        (void) pthread_barrier_wait(&all_end);
        return NULL;
}

static void lose_threads(int in, int out)
{
        pthread_t threads[ENDING], last;
        char byte;

        (void) pthread_barrier_init(&all_end, NULL, ENDING + 1);
        for (int i = 0; i < ENDING; i++)
                if (pthread_create(&threads[i], NULL, end_when_told, NULL) != 0)
                        _exit(1);
        if (pthread_create(&last, NULL, idle, NULL) != 0)
                _exit(1);
        child_ready(out);
        (void) !read(in, &byte, 1);
        (void) pthread_barrier_wait(&all_end);
        for (int i = 0; i < ENDING; i++)
                (void) pthread_join(threads[i], NULL);
        child_sleep(in, out);
}

static struct child *loser;
static unsigned n_reads;

static bool has_many_threads(void *userdata)
{
        struct proc_stat stat;

        return proc_stat_read(loser->pid, &stat) == 0 && stat.n_threads > ENDING;
}

/* The first thread, and one that ends, have been met, and the iterator is at the other one. */
static void lose(void)
{
        if (++n_reads == 3) {
                breed(loser, "x");
                run_while(has_many_threads, NULL);
        }
}

START_TEST(threads_end_beside_the_look)
{
        struct context *losers = make("a");
        struct member_task *tasks;
        size_t n, n_left = 0;
        char path[64];

        loser = child_start(lose_threads);
        attach(losers, loser, &term);
        ck_assert_uint_eq(list(losers), ENDING + 2);
        n_reads = 0;
        between_reads = lose;
        ck_assert_int_eq(engine_tasks(world.engine, losers, true, &tasks, &n), 0);
        between_reads = NULL;
        ck_assert_uint_ge(n_reads, 3);
        for (size_t i = 0; i < n; i++) {
                snprintf(path, sizeof path, "/proc/%u/task/%u", tasks[i].pid, tasks[i].tid);
                n_left += access(path, F_OK) == 0;
        }
        free(tasks);
        ck_assert_uint_eq(n_left, 2); /* the first one, and the last one */
}
END_TEST

/* The rest runs in a pid namespace of its own, like a container's daemon. */
static const char *enter_namespace(void)
{
        pid_t pid;
        int status;

        if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
                return "it may not make a pid namespace";
        pid = fork();
        if (pid != 0) /* without a look for leaks, which would need a process in a namespace that has ended */
                _exit(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                                      : EXIT_FAILURE);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                        mount("proc", "/proc", "proc", 0, NULL) < 0)
                return "it may not mount /proc";
        return NULL;
}

int main(int argc, char *argv[])
{
        const char *reason = argc > 1 ? enter_namespace() : NULL;
        Suite *s = suite_create("few");
        TCase *c = tcase_create("few");

        if (!reason)
                reason = bpf_missing();
        if (reason) {
                printf("1..0 # SKIP %s\n", reason);
                return EXIT_SUCCESS;
        }
        tcase_add_checked_fixture(c, world_start_bpf, world_stop);
        tcase_set_timeout(c, 60);
        tcase_add_test(c, law_48_a_family);
        tcase_add_test(c, law_48_moves);
        tcase_add_test(c, law_48_after_many);
        tcase_add_test(c, a_crowd);
        tcase_add_test(c, law_48_what_costs_less);
        tcase_add_test(c, a_leader_ends);
        tcase_add_test(c, law_48_moves_without_a_leader);
        tcase_add_test(c, threads_end_beside_the_look);
        suite_add_tcase(s, c);
        return run_suite(s);
}
