/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who is reported, and who is not: laws 37 to 39. Times are wide; each test which expects silence has a leak
 * beside it that must be reported, so that silence means something. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/clock.h"
#include "tests/leaks/harness.h"

#define GRACE_USEC UINT64_C(300000)

static struct harness h;
static uint32_t slot;

static void setup(void)
{
        harness_start(&h, PROBE_BACKEND_BPF, NULL, NULL);
        slot = harness_context(&h);
}

static void teardown(void)
{
        harness_stop(&h);
}

static bool is_in(const struct probe_leak *leak, const char *call)
{
        return strncmp(leak->syscall_text, call, strlen(call)) == 0;
}

static int silent[2]; /* a pipe that nobody writes to */

static void read_silence(void *arg)
{
        char byte;

        for (;;)
                (void) !read(silent[0], &byte, 1);
}

static void *read_thread(void *arg)
{
        read_silence(arg);
        return NULL;
}

static void ignore_term_and_read(void *arg)
{
        signal(SIGTERM, SIG_IGN);
        read_silence(arg);
}

static pid_t plant(void (*fn)(void *arg), void *arg)
{
        pid_t pid;

        if (silent[0] == 0)
                ck_assert_int_eq(pipe(silent), 0);
        pid = spawn(fn, arg);
        wait_for_state(pid, pid, "S");
        ck_assert(harness_attach(&h, pid, slot));
        return pid;
}

/* One that waits until it is a member before it does anything, so that its children are members. */
static int attached[2];

static void await_attach(void)
{
        char byte;

        if (read(attached[0], &byte, 1) != 1)
                _exit(1);
}

static pid_t plant_and_go(void (*fn)(void *arg))
{
        pid_t pid;

        if (silent[0] == 0)
                ck_assert_int_eq(pipe(silent), 0);
        ck_assert_int_eq(pipe(attached), 0);
        pid = spawn(fn, NULL);
        ck_assert(harness_attach(&h, pid, slot));
        ck_assert_int_eq(write(attached[1], "a", 1), 1);
        return pid;
}

START_TEST(blocked_read)
{
        const struct probe_resolved *resolved;
        const struct probe_leak *leak;
        char expected[64], target[64] = "";
        uint64_t id;
        pid_t pid;

        pid = plant(ignore_term_and_read, NULL);
        sleep_usec(700000); /* it slept before it was cancelled, too */
        harness_cancel(&h, slot, GRACE_USEC);
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        ck_assert_uint_eq(leak->kind, PROBE_LEAK_BLOCKED);
        ck_assert_uint_eq(leak->backend, PROBE_BACKEND_BPF);
        ck_assert_uint_eq(leak->context_id, CONTEXT_OF(slot));
        ck_assert_uint_eq(leak->tid, (uint32_t) pid);
        ck_assert_uint_eq(leak->count, 1);
        snprintf(expected, sizeof expected, "read(%d)", silent[0]);
        ck_assert_str_eq(leak->syscall_text, expected);
        snprintf(expected, sizeof expected, "/proc/self/fd/%d", silent[0]);
        ck_assert_int_gt(readlink(expected, target, sizeof target - 1), 0);
        ck_assert_str_eq(leak->waits_on, target);
        ck_assert_str_eq(leak->why, "SIGTERM is ignored");
        ck_assert_msg(strstr(leak->kernel_stack, "pipe_read") != NULL, "the kernel stack is:\n%s",
                        leak->kernel_stack);
        ck_assert_uint_ge(leak->since_done_usec, GRACE_USEC);
        ck_assert_uint_ge(leak->blocked_usec, leak->since_done_usec + 500000);
        ck_assert_uint_lt(leak->blocked_usec, leak->since_done_usec + PATIENCE_USEC);
        ck_assert_uint_gt(h.n_swept, 0);

        id = leak->leak_id;
        reap(pid);
        resolved = harness_resolved(&h, id, PATIENCE_USEC);
        ck_assert_ptr_nonnull(resolved);
        ck_assert_uint_eq(resolved->context_id, CONTEXT_OF(slot));
}
END_TEST

/* It wakes up for a moment: the leak is over, and the same thread is reported again after a whole grace. */
START_TEST(wakes_and_blocks_again)
{
        const struct probe_leak *leak;
        uint64_t id, woken;
        pid_t pid;

        pid = plant(read_silence, NULL);
        harness_cancel(&h, slot, GRACE_USEC);
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        id = leak->leak_id;
        woken = now_boottime_usec();
        ck_assert_int_eq(write(silent[1], "x", 1), 1);
        ck_assert_ptr_nonnull(harness_resolved(&h, id, PATIENCE_USEC));
        h.n_records = 0;
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        ck_assert_uint_ne(leak->leak_id, id);
        ck_assert_uint_ge(now_boottime_usec() - woken, GRACE_USEC);
        reap(pid);
}
END_TEST

START_TEST(forget_resolves)
{
        const struct probe_leak *leak;
        pid_t pid;

        pid = plant(read_silence, NULL);
        harness_cancel(&h, slot, GRACE_USEC);
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        harness_forget(&h, slot);
        ck_assert_ptr_nonnull(harness_resolved(&h, leak->leak_id, PATIENCE_USEC));
        reap(pid);
}
END_TEST

START_TEST(endless_grace)
{
        uint32_t other = harness_context(&h);
        pid_t spared, blamed;

        spared = plant(read_silence, NULL);
        blamed = plant(read_silence, NULL);
        ck_assert(harness_attach(&h, blamed, other));
        harness_cancel(&h, slot, UINT64_MAX);
        harness_cancel(&h, other, GRACE_USEC);
        ck_assert_ptr_nonnull(harness_leak(&h, blamed, PATIENCE_USEC));
        ck_assert_ptr_null(harness_leak(&h, spared, 3 * GRACE_USEC));
        reap(spared);
        reap(blamed);
}
END_TEST

/* Who must not be reported */

static int done_handle;

static void poll_and_leave(void *arg)
{
        struct pollfd p[2] = {{.fd = done_handle, .events = POLLIN}, {.fd = silent[0], .events = POLLIN}};

        poll(p, 2, -1);
        _exit(0);
}

static void poll_and_linger(void *arg)
{
        struct pollfd p = {.fd = done_handle, .events = POLLIN};

        poll(&p, 1, -1);
        for (;;) /* wakes up again and again: no sleep lasts */
                sleep_usec(20000);
}

static int held[2];

static void fork_a_held_child(void *arg)
{
        pid_t pid;

        await_attach();
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                read_silence(NULL);
        }
        wait_for_state(pid, pid, "S");
        kill(pid, SIGSTOP);
        ck_assert_int_eq(write(held[1], "h", 1), 1);
        waitpid(pid, NULL, 0);
}

static bool was_reported(pid_t pid)
{
        for (size_t i = 0; i < h.n_records; i++)
                if (h.records[i].type == PROBE_LEAK && h.records[i].leak.pid == (uint32_t) pid &&
                                h.records[i].leak.kind == PROBE_LEAK_BLOCKED)
                        return true;
        return false;
}

START_TEST(silence)
{
        enum { STOPPED, TRACED, LEAVES, LINGERS, STRANGER, HELD, QUIET };
        static const char *const names[QUIET] = {"stopped", "traced", "woken by its poll",
                        "waking again and again", "no member", "parent of a stopped child"};
        pid_t quiet[QUIET], blamed;
        uint64_t begin;
        bool late;
        char byte;

        ck_assert_int_eq(pipe(held), 0);
        done_handle = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
        ck_assert_int_ge(done_handle, 0);
        quiet[STOPPED] = plant(read_silence, NULL);
        kill(quiet[STOPPED], SIGSTOP);
        quiet[TRACED] = plant(read_silence, NULL);
        ck_assert_int_eq(ptrace(PTRACE_SEIZE, quiet[TRACED], 0, 0), 0);
        ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, quiet[TRACED], 0, 0), 0);
        quiet[LEAVES] = plant(poll_and_leave, NULL);
        quiet[LINGERS] = plant(poll_and_linger, NULL);
        quiet[STRANGER] = spawn(read_silence, NULL);
        quiet[HELD] = plant_and_go(fork_a_held_child);
        ck_assert_int_eq(read(held[0], &byte, 1), 1);
        blamed = plant(read_silence, NULL);
        wait_for_state(quiet[STOPPED], quiet[STOPPED], "T");
        wait_for_state(quiet[TRACED], quiet[TRACED], "t");

        begin = now_boottime_usec();
        harness_cancel(&h, slot, GRACE_USEC);
        ck_assert_int_eq(write(done_handle, &(uint64_t){UINT64_MAX - 1}, 8), 8);
        late = now_boottime_usec() - begin > GRACE_USEC / 2; /* too late for those who wait for it */
        ck_assert_ptr_nonnull(harness_leak(&h, blamed, PATIENCE_USEC));
        harness_wait(&h, 6 * GRACE_USEC, NULL, NULL);
        for (int i = 0; i < QUIET; i++)
                ck_assert_msg(!was_reported(quiet[i]) || (late && (i == LEAVES || i == LINGERS)),
                                "reported as blocked: %s", names[i]);

        /* Once it is let go, it is an ordinary leak. */
        kill(quiet[STOPPED], SIGCONT);
        ck_assert_ptr_nonnull(harness_leak(&h, quiet[STOPPED], PATIENCE_USEC));
        for (int i = 0; i < QUIET; i++)
                reap(quiet[i]);
        reap(blamed);
}
END_TEST

static void wait_until_frozen(const char *group)
{
        char path[128], text[256];

        snprintf(path, sizeof path, "%s/cgroup.events", group);
        for (int i = 0; i < 6000; i++) {
                int fd = open(path, O_RDONLY | O_CLOEXEC);
                ssize_t n;

                ck_assert_int_ge(fd, 0);
                n = read(fd, text, sizeof text - 1);
                close(fd);
                ck_assert_int_ge(n, 0);
                text[n] = '\0';
                if (strstr(text, "frozen 1"))
                        return;
                sleep_usec(10000);
        }
        ck_abort_msg("%s does not freeze", group);
}

START_TEST(frozen)
{
        char group[96], path[128];
        const char *root = NULL;
        pid_t pid, blamed;
        int fd;

        if (access("/sys/fs/cgroup/unified/cgroup.procs", W_OK) == 0)
                root = "/sys/fs/cgroup/unified";
        else if (access("/sys/fs/cgroup/cgroup.procs", W_OK) == 0)
                root = "/sys/fs/cgroup";
        if (!root)
                return; /* no cgroup to freeze */
        snprintf(group, sizeof group, "%s/ctxd-test-%d", root, getpid());
        if (mkdir(group, 0755) < 0)
                return;
        pid = plant(read_silence, NULL);
        blamed = plant(read_silence, NULL);
        snprintf(path, sizeof path, "%s/cgroup.procs", group);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        if (dprintf(fd, "%d", pid) < 0) { /* not everybody may move others */
                close(fd);
                reap(pid);
                reap(blamed);
                rmdir(group);
                return;
        }
        close(fd);
        snprintf(path, sizeof path, "%s/cgroup.freeze", group);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, "1", 1), 1);
        wait_until_frozen(group);
        harness_cancel(&h, slot, GRACE_USEC);
        ck_assert_ptr_nonnull(harness_leak(&h, blamed, PATIENCE_USEC));
        harness_wait(&h, 4 * GRACE_USEC, NULL, NULL);
        ck_assert(!was_reported(pid));
        ck_assert_int_eq(write(fd, "0", 1), 1);
        close(fd);
        ck_assert_ptr_nonnull(harness_leak(&h, pid, PATIENCE_USEC));
        reap(pid);
        reap(blamed);
        for (int i = 0; i < 100 && rmdir(group) < 0; i++)
                sleep_usec(10000);
}
END_TEST

/* Chains, pools, loops */

static void wait_for_reader(void *arg)
{
        pid_t pid;

        await_attach();
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                prctl(PR_SET_NAME, "reader");
                read_silence(NULL);
        }
        prctl(PR_SET_NAME, "waiter");
        while (waitpid(pid, NULL, 0) != pid)
                ;
}

static bool any_leak(struct harness *x, const void *arg)
{
        return x->n_records > 0;
}

/* Blame the child; the parent that waits for it is named with it, and has its turn when the child is gone. */
START_TEST(chain)
{
        const struct probe_leak *leak;
        char why[64];
        pid_t pid;

        pid = plant_and_go(wait_for_reader);
        wait_for_live(&h, slot, 2);
        wait_for_state(pid, pid, "S");
        harness_cancel(&h, slot, GRACE_USEC);
        ck_assert(harness_wait(&h, PATIENCE_USEC, any_leak, NULL));
        leak = &h.records[0].leak;
        ck_assert_uint_ne(leak->pid, (uint32_t) pid);
        ck_assert_str_eq(leak->comm, "reader");
        snprintf(why, sizeof why, "it is waited for by waiter[%d]", pid);
        ck_assert_msg(strstr(leak->why, why) != NULL, "why: %s", leak->why);
        ck_assert_ptr_null(harness_leak(&h, pid, 4 * GRACE_USEC));
        reap((pid_t) leak->pid);
        reap(pid);
}
END_TEST

/* The child shares its memory and has not execed: vfork() returns in the parent when it does. */
static void vfork_and_hang(void *arg)
{
        pid_t pid;

        await_attach();
        pid = vfork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                read_silence(NULL);
        }
}

START_TEST(vforking_parent)
{
        const struct probe_leak *leak;
        pid_t pid;

        pid = plant_and_go(vfork_and_hang);
        wait_for_live(&h, slot, 2);
        harness_cancel(&h, slot, GRACE_USEC);
        ck_assert(harness_wait(&h, PATIENCE_USEC, any_leak, NULL));
        leak = &h.records[0].leak;
        ck_assert_uint_ne(leak->pid, (uint32_t) pid);
        ck_assert(is_in(leak, "read("));
        ck_assert_ptr_null(harness_leak(&h, pid, 4 * GRACE_USEC));
        reap((pid_t) leak->pid);
        reap(pid);
}
END_TEST

#define POOL 20

static void pool(void *arg)
{
        pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        pthread_t thread;

        for (int i = 0; i < POOL; i++)
                pthread_create(&thread, NULL, read_thread, NULL);
        pthread_mutex_lock(&lock);
        pthread_mutex_lock(&lock);
}

static bool told_of_pool(struct harness *x, const void *arg)
{
        uint32_t readers = 0, lockers = 0;

        for (size_t i = 0; i < x->n_records; i++) {
                if (x->records[i].type != PROBE_LEAK)
                        continue;
                if (is_in(&x->records[i].leak, "read("))
                        readers = (uint32_t) x->records[i].leak.count;
                if (is_in(&x->records[i].leak, "futex("))
                        lockers = (uint32_t) x->records[i].leak.count;
        }
        return readers == POOL && lockers == 1;
}

/* Threads that hang in one place are one report with a count. */
START_TEST(pool_is_one_leak)
{
        uint64_t readers = 0;
        pid_t pid;

        pid = plant(pool, NULL);
        wait_for_live(&h, slot, POOL + 1);
        harness_cancel(&h, slot, GRACE_USEC);
        ck_assert(harness_wait(&h, PATIENCE_USEC, told_of_pool, NULL));
        for (size_t i = 0; i < h.n_records; i++) {
                if (h.records[i].type != PROBE_LEAK || !is_in(&h.records[i].leak, "read("))
                        continue;
                ck_assert(readers == 0 || readers == h.records[i].leak.leak_id);
                readers = h.records[i].leak.leak_id;
        }
        reap(pid);
        ck_assert_ptr_nonnull(harness_resolved(&h, readers, PATIENCE_USEC));
}
END_TEST

static void spin(void *arg)
{
        sleep_usec(1000); /* to be found asleep once */
        for (volatile uint64_t i = 0;; i = i + 1)
                ;
}

START_TEST(ignoring)
{
        const struct probe_leak *leak;
        pid_t pid;

        pid = spawn(spin, NULL);
        ck_assert(harness_attach(&h, pid, slot));
        harness_cancel(&h, slot, GRACE_USEC);
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        ck_assert_uint_eq(leak->kind, PROBE_LEAK_IGNORING);
        ck_assert_uint_ge(leak->since_done_usec, GRACE_USEC);
        reap(pid);
        ck_assert_ptr_nonnull(harness_resolved(&h, leak->leak_id, PATIENCE_USEC));
}
END_TEST

static void poll_silence(void *arg)
{
        struct pollfd p[2] = {{.fd = silent[0], .events = POLLIN}, {.fd = -1}};

        for (;;)
                poll(p, 2, -1);
}

START_TEST(poll_names_its_set)
{
        const struct probe_leak *leak;
        char expected[64];
        pid_t pid;

        pid = plant(poll_silence, NULL);
        harness_cancel(&h, slot, GRACE_USEC);
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        snprintf(expected, sizeof expected, "%d: pipe:[", silent[0]);
        ck_assert_msg(strncmp(leak->waits_on, expected, strlen(expected)) == 0, "waits on: %s",
                        leak->waits_on);
        reap(pid);
}
END_TEST

static char fifo[64];

static void open_fifo(void *arg)
{
        prctl(PR_SET_NAME, "a\033[2Jb\n");
        (void) !open(fifo, O_RDONLY | O_CLOEXEC);
}

START_TEST(open_names_its_path)
{
        const struct probe_leak *leak;
        char directory[] = "/tmp/ctxd-test-XXXXXX";
        pid_t pid;

        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(fifo, sizeof fifo, "%s/fifo\033[2J", directory);
        ck_assert_int_eq(mkfifo(fifo, 0600), 0);
        pid = plant(open_fifo, NULL);
        harness_cancel(&h, slot, GRACE_USEC);
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        /* Neither its name nor the path is let loose on a terminal. */
        ck_assert_str_eq(leak->comm, "a?[2Jb?");
        *strchr(fifo, '\033') = '?';
        ck_assert_str_eq(leak->waits_on, fifo);
        *strchr(fifo, '?') = '\033';
        reap(pid);
        unlink(fifo);
        rmdir(directory);
}
END_TEST

/* Nothing is swept while nothing is watched. */
START_TEST(idle)
{
        const struct probe_leak *leak;
        size_t before;
        pid_t pid;

        pid = plant(read_silence, NULL);
        harness_wait(&h, 1000000, NULL, NULL);
        ck_assert_uint_eq(h.n_swept, 0);
        harness_cancel(&h, slot, GRACE_USEC);
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        ck_assert_uint_gt(h.n_swept, 0);
        harness_forget(&h, slot);
        ck_assert_ptr_nonnull(harness_resolved(&h, leak->leak_id, PATIENCE_USEC)); /* it has been read */
        before = h.n_swept;
        harness_wait(&h, 1000000, NULL, NULL);
        ck_assert_uint_eq(h.n_swept, before);
        reap(pid);
}
END_TEST

int main(int argc, char **argv)
{
        const TTest *const tests[] = {
                        blocked_read,
                        wakes_and_blocks_again,
                        forget_resolves,
                        endless_grace,
                        silence,
                        frozen,
                        chain,
                        vforking_parent,
                        pool_is_one_leak,
                        ignoring,
                        poll_names_its_set,
                        open_names_its_path,
                        idle,
                        NULL,
        };
        Suite *suite = suite_create("verdict");

        tcase_add_checked_fixture(add_case(suite, "verdict", tests), setup, teardown);
        return harness_main(argc, argv, true, suite);
}
