/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who reads of processes in /proc, and hangs. */

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/proc-reader-internal.h"
#include "util/proc-reader.h"
#include "tests/harness/fuse.h"
#include "tests/harness/process.h"
#include "tests/harness/suite.h"

#define SOME_UID 1001

/* What holds up whoever reads of some processes. Shared with the readers. */
static struct held {
        pid_t pids[64];
        enum reader_file file;
        bool works, is_over;
        unsigned n_naps, nap_usec; /* != 0: it lets go after these */
} * held;

static bool is_held(pid_t pid, enum reader_file file)
{
        if (file != held->file || __atomic_load_n(&held->is_over, __ATOMIC_ACQUIRE))
                return false;
        for (unsigned i = 0; i < ELEMENTSOF(held->pids); i++)
                if (held->pids[i] == pid)
                        return true;
        return false;
}

static __attribute__((noinline)) void sleep_once(void)
{
        if (vfork() == 0) {
                usleep(held->nap_usec);
                _exit(0);
        }
}

/* Who waits for a child of vfork() sleeps, and only SIGKILL wakes it. */
static void hold(pid_t pid, enum reader_file file)
{
        if (!is_held(pid, file))
                return;
        while (held->works && is_held(pid, file))
                ;
        if (held->works)
                return;
        for (unsigned i = 0; i < held->n_naps; i++)
                sleep_once();
        if (held->n_naps > 0)
                return;
        if (vfork() == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                while (is_held(pid, file))
                        usleep(1000);
                _exit(0);
        }
}

static void setup(void)
{
        held = mmap(NULL, sizeof *held, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(held, MAP_FAILED);
        reader_before = hold;
        ck_assert_int_eq(proc_reader_start(), 0);
}

static void teardown(void)
{
        __atomic_store_n(&held->is_over, true, __ATOMIC_RELEASE);
        proc_reader_stop();
}

static void sleep_for_ever(void *userdata)
{
        for (;;)
                pause();
}

/* A child is root's at first. */
static pid_t sleeper_of(uid_t uid)
{
        pid_t pid = geteuid() == 0 ? spawn_as(uid, sleep_for_ever, NULL) : spawn(sleep_for_ever, NULL);
        struct proc_status status;

        if (geteuid() == 0) {
                char text[4096];

                ck_assert_happens(proc_status_read_directly(pid, text, sizeof text, &status) == 0 &&
                                  status.uids[0] == uid);
        }
        return pid;
}

static int read_stat(pid_t pid)
{
        struct proc_stat stat;

        return proc_stat_read(pid, &stat);
}

static uint64_t waited(void)
{
        static uint64_t before;
        uint64_t now = proc_reader_waited_usec(), usec = now - before;

        before = now;
        return usec;
}

START_TEST(it_reads_as_its_caller)
{
        struct proc_stat a, b;
        struct proc_status c, d;
        char text[64];

        ck_assert(proc_reader_is_there());
        ck_assert_int_eq(proc_read(getppid(), &a, &c), 0);
        ck_assert_int_eq(proc_stat_read_directly(getppid(), &b), 0);
        /* Any line but the longest is read in as little memory as this. */
        ck_assert_int_eq(proc_status_read_directly(getppid(), text, sizeof text, &d), 0);
        ck_assert_uint_eq(a.start_ticks, b.start_ticks);
        ck_assert_int_eq(a.ppid, b.ppid);
        ck_assert_str_eq(a.comm, b.comm);
        ck_assert_int_eq(c.tgid, getppid());
        ck_assert_int_eq(c.ppid, a.ppid);
        ck_assert_mem_eq(c.uids, d.uids, sizeof c.uids);
        ck_assert_uint_eq(c.gid, getegid());
        ck_assert_uint_eq(c.caught, d.caught);
        ck_assert_uint_eq(c.ignored, d.ignored);
        ck_assert_int_eq(proc_read(INT32_MAX, &a, &c), -ESRCH);
        ck_assert_int_eq(proc_read(INT32_MAX, NULL, &c), -ESRCH);
}
END_TEST

START_TEST(one_process_holds_it_up)
{
        pid_t a = sleeper_of(SOME_UID), b = sleeper_of(SOME_UID);
        struct proc_status status;
        struct proc_stat stat;

        held->file = READER_STAT;
        held->pids[0] = a;
        ck_assert_int_eq(proc_read(a, &stat, &status), -EBUSY);
        ck_assert_uint_ge(waited(), 40000);
        /* It is not waited for again, and its other file and other processes can be read. */
        ck_assert_int_eq(proc_read(a, &stat, &status), -EBUSY);
        ck_assert_uint_eq(waited(), 0);
        ck_assert_int_eq(proc_status_read(a, &status), 0);
        ck_assert_int_eq(read_stat(b), 0);
        held->is_over = true;
        ck_assert_happens(read_stat(a) == 0);
        end_process(a);
        end_process(b);
}
END_TEST

/* The reader still waits for it, but another process may have its number now. */
START_TEST(a_number_that_is_used_again)
{
        pid_t a = sleeper_of(SOME_UID);

        held->file = READER_STAT;
        held->pids[0] = a;
        ck_assert_int_eq(read_stat(a), -EBUSY);
        end_process(a);
        held->pids[0] = 0;
        ck_assert_int_eq(read_stat(a), -ESRCH);
}
END_TEST

START_TEST(a_reader_that_works_for_long)
{
        pid_t a = sleeper_of(SOME_UID);

        held->file = READER_STATUS;
        held->works = true;
        held->pids[0] = a;
        ck_assert_int_eq(proc_read(a, NULL, &(struct proc_status){}), -EBUSY);
        ck_assert_int_eq(read_stat(a), 0);
        held->is_over = true;
        ck_assert_happens(proc_read(a, NULL, &(struct proc_status){}) == 0);
        end_process(a);
}
END_TEST

/* Together they take a part of a second. Another user's processes are read. */
START_TEST(a_user_with_many)
{
        pid_t other = sleeper_of(SOME_UID + 1);

        held->file = READER_STAT;
        for (unsigned i = 0; i < ELEMENTSOF(held->pids); i++)
                held->pids[i] = sleeper_of(SOME_UID);
        (void) waited();
        for (int n = 0; n < 3; n++)
                for (unsigned i = 0; i < ELEMENTSOF(held->pids); i++)
                        ck_assert_int_eq(read_stat(held->pids[i]), -EBUSY);
        ck_assert_uint_lt(waited(), 10 * 75000);
        if (geteuid() == 0)
                ck_assert_int_eq(read_stat(other), 0);
        for (unsigned i = 0; i < ELEMENTSOF(held->pids); i++)
                end_process(held->pids[i]);
        end_process(other);
}
END_TEST

/* Every one of the users has readers that wait. There is one left to read. */
START_TEST(many_users)
{
        pid_t other = sleeper_of(SOME_UID + 64);

        if (geteuid() != 0)
                return;
        held->file = READER_STAT;
        for (unsigned i = 0; i < ELEMENTSOF(held->pids); i++) {
                held->pids[i] = sleeper_of(SOME_UID + i);
                ck_assert_int_eq(read_stat(held->pids[i]), -EBUSY);
                ck_assert_int_eq(read_stat(other), 0);
        }
        for (unsigned i = 0; i < ELEMENTSOF(held->pids); i++)
                end_process(held->pids[i]);
        end_process(other);
}
END_TEST

/* It sleeps again and again. */
START_TEST(many_short_sleeps)
{
        pid_t a = sleeper_of(SOME_UID), b = sleeper_of(SOME_UID), other = sleeper_of(SOME_UID + 1);

        held->file = READER_STAT;
        held->n_naps = 100;
        held->nap_usec = 8000;
        held->pids[0] = a;
        held->pids[1] = b;
        for (int i = 0; i < 2; i++) {
                ck_assert_int_eq(read_stat(held->pids[i]), -EBUSY);
                ck_assert_uint_lt(waited(), 70000);
        }
        held->pids[1] = 0;
        if (geteuid() == 0) {
                ck_assert_int_eq(read_stat(b), -EBUSY);
                ck_assert_int_eq(read_stat(other), 0);
        }
        end_process(a);
        end_process(b);
        end_process(other);
}
END_TEST

/* Each answers just in time, and together they cost as much as some that hang. */
START_TEST(many_slow_answers)
{
        pid_t a = sleeper_of(SOME_UID), other = sleeper_of(SOME_UID + 1);

        held->file = READER_STAT;
        held->n_naps = 1;
        held->nap_usec = 15000;
        held->pids[0] = a;
        ck_assert_int_eq(read_stat(a), 0);
        for (int i = 0; i < 30; i++)
                (void) read_stat(a);
        ck_assert_uint_lt(waited(), 200000);
        ck_assert_int_eq(read_stat(a), -EBUSY);
        if (geteuid() == 0)
                ck_assert_int_eq(read_stat(other), 0);
        end_process(a);
        end_process(other);
}
END_TEST

/* Nobody looks at a reader that sleeps for so short. */
START_TEST(many_short_answers)
{
        pid_t a = sleeper_of(SOME_UID), other = sleeper_of(SOME_UID + 1);

        held->file = READER_STAT;
        held->n_naps = 1;
        held->nap_usec = 2000;
        held->pids[0] = a;
        ck_assert_int_eq(read_stat(a), 0);
        for (int i = 0; i < 300; i++)
                (void) read_stat(a);
        ck_assert_uint_lt(waited(), 400000);
        ck_assert_happens(read_stat(a) == -EBUSY);
        if (geteuid() == 0)
                ck_assert_int_eq(read_stat(other), 0);
        ck_assert_happens(read_stat(a) == 0); /* soon */
        end_process(a);
        end_process(other);
}
END_TEST

struct ender {
        pid_t pid;
        useconds_t after_usec;
};

static void *end_it(void *userdata)
{
        const struct ender *e = userdata;

        usleep(e->after_usec);
        (void) kill(e->pid, SIGKILL);
        return NULL;
}

/* Nobody can tell whose it was when its reader is found to hang. */
START_TEST(they_have_gone_when_the_reader_hangs)
{
        pid_t same = sleeper_of(SOME_UID), other = sleeper_of(SOME_UID + 1);
        struct ender e = {.after_usec = 1000};
        struct proc_status status;
        pthread_t thread;

        if (geteuid() != 0)
                return;
        ck_assert_ptr_ne(signal(SIGCHLD, SIG_IGN), SIG_ERR);
        held->file = READER_STATUS;
        for (int i = 0; i < 30; i++) {
                e.pid = held->pids[0] = sleeper_of(SOME_UID);
                ck_assert_int_eq(pthread_create(&thread, NULL, end_it, &e), 0);
                ck_assert_int_eq(proc_status_read(e.pid, &status), -EBUSY);
                ck_assert_int_eq(pthread_join(thread, NULL), 0);
                ck_assert_int_eq(proc_status_read(other, &status), 0);
        }
        ck_assert_int_eq(proc_status_read(same, &status), -EBUSY);
        ck_assert_uint_lt(waited(), 150000);
        (void) kill(same, SIGKILL);
        (void) kill(other, SIGKILL);
}
END_TEST

/* -- A process ends while its status is read. Then who reads closes the file that was mapped. */

#define GROUPS 65536

struct mapper {
        int said[2];
        pid_t pid;
};

/* The file's user, which stays, starts another one. */
static void map_file(int directory, void *userdata)
{
        struct mapper *m = userdata;
        pid_t pid = fork_tied();
        char *page;
        int fd;

        if (pid > 0) {
                ck_assert_int_eq(write(m->said[1], &pid, sizeof pid), sizeof pid);
                ck_assert_int_eq(write(m->said[1], "", 1), 1);
                return;
        }
        fd = openat(directory, "0", O_RDWR);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, "x", 1), 1);
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ck_assert_ptr_ne(page, MAP_FAILED);
        for (;;)
                pause();
}

static void have_groups(void)
{
        static gid_t groups[GROUPS];

        for (unsigned i = 0; i < GROUPS; i++)
                groups[i] = 100000 + i;
        ck_assert_int_eq(setgroups(GROUPS, groups), 0);
}

START_TEST(a_process_ends_while_it_is_read)
{
        struct hung_file file = {.hangs_in_last_close = true};
        struct mapper m;
        struct ender e = {.after_usec = 1000};
        struct proc_status status;
        pthread_t thread;
        char byte;
        int r;

        if (geteuid() != 0)
                return;
        ck_assert_int_eq(pipe(m.said), 0);
        have_groups();
        if (!hung_file_start(&file, SOME_UID, map_file, &m))
                return;
        ck_assert_int_eq(read(m.said[0], &m.pid, sizeof m.pid), sizeof m.pid);
        ck_assert_int_eq(read(m.said[0], &byte, 1), 1);
        nap(100000);
        e.pid = m.pid;
        ck_assert_int_eq(pthread_create(&thread, NULL, end_it, &e), 0);
        r = proc_status_read(m.pid, &status);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        fprintf(stderr, "# status of a process that ends: %d after %lu us\n", r, (unsigned long) waited());
        ck_assert(r == -EBUSY || r == 0 || r == -ESRCH);
        ck_assert_int_eq(read_stat(getppid()), 0);
        hung_file_end(&file);
        ck_assert_int_eq(read_stat(getppid()), 0);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("proc-reader");
        TCase *c = add_case(s, "proc-reader",
                        (const TTest *const[]){it_reads_as_its_caller, one_process_holds_it_up,
                                        a_number_that_is_used_again, a_reader_that_works_for_long,
                                        a_user_with_many, many_users, many_short_sleeps, many_slow_answers,
                                        many_short_answers, they_have_gone_when_the_reader_hangs,
                                        a_process_ends_while_it_is_read, NULL});

        tcase_add_checked_fixture(c, setup, teardown);
        return run_suite(s);
}
