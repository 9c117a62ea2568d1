/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/world/process.h"
#include "util/cleanup.h"
#include "util/pid-list.h"
#include "util/proc.h"
#include "tests/world/world.h"

START_TEST(stat_with_a_hostile_command)
{
        static const char rest[] =
                        " S 17 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1000 10 18446744073709551615";
        static const char *const commands[] = {"x", "a b", ") R 1 (", "((", "))", "", ") Z 1 1\n"};
        struct proc_stat s;
        char text[512];

        for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
                snprintf(text, sizeof text, "4711 (%s)%s", commands[i], rest);
                ck_assert_int_eq(proc_stat_parse(text, &s), 0);
                ck_assert_int_eq(s.state, 'S');
                ck_assert_int_eq(s.ppid, 17);
                ck_assert_uint_eq(s.start_ticks, 123456);
                ck_assert_uint_eq(s.cpu_ticks, 11);
                ck_assert_uint_eq(s.rss_pages, 10);
                ck_assert_str_eq(s.comm, commands[i]);
        }
        ck_assert_int_eq(proc_stat_parse("", &s), -EBADMSG);
        ck_assert_int_eq(proc_stat_parse("1 (x", &s), -EBADMSG);
        ck_assert_int_eq(proc_stat_parse(") (", &s), -EBADMSG);
        ck_assert_int_eq(proc_stat_parse("1 (x) S 1 2 3", &s), -EBADMSG);
}
END_TEST

static void rename_self(int in, int out)
{
        (void) prctl(PR_SET_NAME, "a) R 1 (b");
        child_sleep(in, out);
}

START_TEST(stat_of_real_processes)
{
        struct child *c = child_start(rename_self);
        struct proc_stat s, mine;
        struct proc_status status;

        ck_assert_int_eq(proc_stat_read(c->pid, &s), 0);
        ck_assert_str_eq(s.comm, "a) R 1 (b");
        ck_assert_int_eq(s.ppid, getpid());
        ck_assert_int_eq(proc_stat_read(getpid(), &mine), 0);
        ck_assert_uint_ge(s.start_ticks, mine.start_ticks);
        ck_assert_int_eq(proc_status_read(c->pid, &status), 0);
        ck_assert_uint_eq(status.uids[0], getuid());
        ck_assert_int_eq(status.tgid, c->pid);
        ck_assert_int_eq(status.ppid, getpid());
        ck_assert_uint_eq(proc_nsec_to_ticks(proc_ticks_to_nsec(s.start_ticks)), s.start_ticks);
        ck_assert_int_eq(proc_stat_read(INT32_MAX, &s), -ESRCH);
}
END_TEST

START_TEST(pidfds)
{
        struct child *c = child_start(child_sleep);
        int event = eventfd(0, EFD_CLOEXEC);
        pid_t pid;

        ck_assert_int_eq(proc_pidfd_to_pid(c->pidfd, &pid), 0);
        ck_assert_int_eq(pid, c->pid);
        ck_assert(!proc_pidfd_exited(c->pidfd));
        ck_assert_int_eq(proc_pidfd_to_pid(event, &pid), -EBADF);
        ck_assert_int_eq(proc_pidfd_to_pid(9999, &pid), -EBADF);
        ck_assert_int_eq(pidfd_signal(c->pidfd, SIGKILL), 0);
        while (!proc_pidfd_exited(c->pidfd)) {
        }
        ck_assert_int_eq(proc_pidfd_to_pid(c->pidfd, &pid), 0); /* a zombie has its pid still */
        (void) child_wait(c);
        ck_assert_int_eq(proc_pidfd_to_pid(c->pidfd, &pid), -ESRCH);
        ck_assert(proc_pidfd_exited(c->pidfd));
        close(event);
}
END_TEST

static uint64_t nsec_to_look(int fd)
{
        struct timespec before, after;
        pid_t pid;

        ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before), 0);
        ck_assert_int_eq(proc_pidfd_to_pid(fd, &pid), -EBADF);
        ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after), 0);
        return (uint64_t) (after.tv_sec - before.tv_sec) * 1000000000 + (uint64_t) after.tv_nsec -
               (uint64_t) before.tv_nsec;
}

/* An epoll set writes all that it watches into its file in /proc. */
START_TEST(what_is_no_pidfd_costs_nothing)
{
        int small = epoll_create1(EPOLL_CLOEXEC), large = epoll_create1(EPOLL_CLOEXEC);
        int named = memfd_create("anon_inode:[pidfd]", MFD_CLOEXEC), fds[600];
        struct epoll_event event = {.events = EPOLLIN};
        uint64_t least = UINT64_MAX, of_large = UINT64_MAX;

        ck_assert(!proc_fd_is_pidfd(named));
        for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                ck_assert_int_ge(fds[i] = eventfd(0, EFD_CLOEXEC), 0);
                ck_assert_int_eq(epoll_ctl(large, EPOLL_CTL_ADD, fds[i], &event), 0);
        }
        for (int i = 0; i < 20; i++) {
                uint64_t a = nsec_to_look(small), b = nsec_to_look(large);

                least = a < least ? a : least;
                of_large = b < of_large ? b : of_large;
        }
        ck_assert_msg(of_large < 5 * least, "%lu ns, %lu for an empty one", (unsigned long) of_large,
                        (unsigned long) least);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                close(fds[i]);
        close(small);
        close(large);
        close(named);
}
END_TEST

static int collect_child(void *userdata, pid_t child)
{
        pid_t *wanted = userdata;

        for (unsigned i = 0; i < 2; i++)
                if (wanted[i] == child)
                        wanted[i] = 0;
        return 0;
}

static void body_block(int in, int out)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        child_sleep(in, out);
}

/* As a C library does it for the time of a fork: it blocks its own signals, too. */
static void body_block_all(int in, int out)
{
        uint64_t all = UINT64_MAX;

        syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof all);
        child_sleep(in, out);
}

static void body_ignore(int in, int out)
{
        (void) signal(SIGTERM, SIG_IGN);
        child_sleep(in, out);
}

/* Only root can have so many groups; else this is as child_count(). */
static void body_groups(int in, int out)
{
        static gid_t groups[5000];

        for (size_t i = 0; i < ELEMENTSOF(groups); i++)
                groups[i] = (gid_t) (100000 + i);
        (void) setgroups(ELEMENTSOF(groups), groups);
        child_count(in, out);
}

static bool handles(pid_t pid, int signal_number, bool *ret_ignored)
{
        struct proc_status status;

        ck_assert_int_eq(proc_status_read(pid, &status), 0);
        return proc_handles_signal(&status, signal_number, ret_ignored);
}

START_TEST(who_handles_a_signal)
{
        bool ignored;

        ck_assert(handles(child_start(body_groups)->pid, SIGTERM, &ignored));
        ck_assert(handles(child_start(child_count)->pid, SIGTERM, &ignored));
        ck_assert(handles(child_start(body_block)->pid, SIGTERM, &ignored));
        ck_assert(!handles(child_start(body_block_all)->pid, SIGTERM, &ignored));
        ck_assert(!handles(child_start(child_sleep)->pid, SIGTERM, &ignored));
        ck_assert(!ignored);
        ck_assert(!handles(child_start(body_ignore)->pid, SIGTERM, &ignored));
        ck_assert(ignored);
}
END_TEST

START_TEST(which_signal_is_pending)
{
        struct child *blocks = child_start(body_block), *sleeps = child_start(child_sleep);

        ck_assert(!proc_signal_is_pending(blocks->pid, SIGTERM));
        ck_assert_int_eq(kill(blocks->pid, SIGTERM), 0);
        ck_assert(proc_signal_is_pending(blocks->pid, SIGTERM));
        ck_assert(!proc_signal_is_pending(blocks->pid, SIGHUP));
        ck_assert(!proc_signal_is_pending(sleeps->pid, SIGTERM));
        ck_assert(!proc_signal_is_pending(INT32_MAX, SIGTERM));
}
END_TEST

START_TEST(children)
{
        pid_t wanted[2] = {child_start(child_sleep)->pid, child_start(child_sleep)->pid};

        ck_assert_int_eq(proc_each_child(getpid(), collect_child, wanted), 0);
        ck_assert_int_eq(wanted[0], 0);
        ck_assert_int_eq(wanted[1], 0);
        ck_assert_int_eq(proc_each_child(INT32_MAX, collect_child, wanted), 0);
}
END_TEST

static void *hold(void *userdata)
{
        *(pid_t *) userdata = (pid_t) syscall(SYS_gettid);
        for (;;)
                pause();
        return NULL;
}

static int thread_in, thread_out;

static void *fork_and_end(void *userdata)
{
        char byte;

        if (fork() == 0)
                child_sleep(-1, thread_out);
        return read(thread_in, &byte, 1) == 1 ? NULL : userdata;
}

static void body_of_threads(int in, int out)
{
        pthread_t thread;

        thread_in = in;
        thread_out = out;
        if (pthread_create(&thread, NULL, fork_and_end, NULL) != 0)
                _exit(1);
        pause();
}

static bool has_threads(const struct child *c)
{
        struct proc_stat stat;

        ck_assert_int_eq(proc_stat_read(c->pid, &stat), 0);
        return stat.n_threads > 1;
}

/* The main thread's children have been read when another thread ends. Its children are the main thread's
 * then. */
START_TEST(children_of_a_thread_that_ends)
{
        struct child *c = child_start(body_of_threads);
        struct child_list l;
        pid_t pid = 0;
        int r;

        ck_assert_int_eq(child_list_open(&l, c->pid, false), 0);
        ck_assert_int_eq(child_list_next(&l, &pid), -EAGAIN);
        ck_assert_int_eq(child_list_next(&l, &pid), -EAGAIN);
        ck_assert_int_lt(l.file.fd, 0);
        child_tell(c, 'x');
        while (has_threads(c))
                usleep(1000);
        do
                r = child_list_next(&l, &pid);
        while (r == -EAGAIN);
        ck_assert_int_eq(r, 1);
        child_list_close(&l);
        kill(pid, SIGKILL);
}
END_TEST

START_TEST(processes_are_one_object)
{
        struct child *c = child_start(child_sleep);
        struct process *a, *b, *other;
        int event = eventfd(0, EFD_CLOEXEC), thread_fd;
        volatile pid_t tid = 0;
        char comm[16];
        pthread_t thread;
        uid_t uids[3];

        ck_assert_int_eq(engine_process_open(world.engine, c->pidfd, &a), 0);
        ck_assert_int_eq(engine_process_open_pid(world.engine, c->pid, &b), 0);
        ck_assert_ptr_eq(a, b);
        ck_assert_int_ne(process_pidfd(a), c->pidfd);
        ck_assert_int_eq(process_pid(a), c->pid);
        ck_assert_int_eq(engine_process_read(a, uids, comm), 0);
        ck_assert_uint_eq(uids[1], geteuid());

        ck_assert_int_eq(engine_process_open(world.engine, event, &other), -EINVAL);
        ck_assert_int_eq(engine_process_open_pid(world.engine, 0, &other), -ESRCH);
        ck_assert_int_eq(engine_process_open_pid(world.engine, INT32_MAX, &other), -ESRCH);

        ck_assert_int_eq(pthread_create(&thread, NULL, hold, (void *) &tid), 0);
        while (!tid) {
        }
        ck_assert_int_eq(engine_process_open_pid(world.engine, tid, &other), -ESRCH);
        thread_fd = (int) syscall(SYS_pidfd_open, tid, O_EXCL); /* PIDFD_THREAD, where there is one */
        if (thread_fd >= 0) {
                ck_assert_int_eq(engine_process_open(world.engine, thread_fd, &other), -EINVAL);
                close(thread_fd);
        }

        kill(c->pid, SIGKILL);
        while (!proc_pidfd_exited(c->pidfd)) {
        }
        ck_assert_int_eq(engine_process_open(world.engine, c->pidfd, &other), -ESRCH); /* a zombie */
        ck_assert_int_eq(engine_process_read(a, uids, comm), -ESRCH);
        (void) child_wait(c);
        ck_assert_int_eq(engine_process_open(world.engine, c->pidfd, &other), -ESRCH);
        ck_assert_int_eq(engine_process_read(a, uids, comm), -ESRCH);
        engine_process_close(a);
        engine_process_close(b);
        close(event);
}
END_TEST

START_TEST(member_by_start_time)
{
        struct child *c = child_start(child_sleep);
        struct member_process member = {.pid = (uint32_t) c->pid};
        struct proc_stat s;
        struct process *p;

        ck_assert_int_eq(proc_stat_read(c->pid, &s), 0);
        member.start_usec = proc_ticks_to_nsec(s.start_ticks) / 1000;
        ck_assert_int_eq(engine_open_member(world.engine, &member, &p), 0);
        ck_assert_int_eq(process_pid(p), c->pid);
        engine_process_close(p);
        member.start_usec -= 10000; /* an earlier bearer of the pid */
        ck_assert_int_eq(engine_open_member(world.engine, &member, &p), -ESRCH);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("proc");
        TCase *c = tcase_create("proc");

        tcase_add_checked_fixture(c, world_start, world_stop);
        tcase_set_timeout(c, 60);
        tcase_add_test(c, stat_with_a_hostile_command);
        tcase_add_test(c, stat_of_real_processes);
        tcase_add_test(c, pidfds);
        tcase_add_test(c, what_is_no_pidfd_costs_nothing);
        tcase_add_test(c, who_handles_a_signal);
        tcase_add_test(c, which_signal_is_pending);
        tcase_add_test(c, children);
        tcase_add_test(c, children_of_a_thread_that_ends);
        tcase_add_test(c, processes_are_one_object);
        tcase_add_test(c, member_by_start_time);
        suite_add_tcase(s, c);
        return run_suite(s);
}
