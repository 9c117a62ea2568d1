/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/local/callback-thread.h"
#include "lib/remote/context.h"
#include "tests/law/local.h"
#include "tests/lib/calls/syscall.h"

/* What happens while a fork is under way, after the library's own handler (lib/local/fork.c): the handlers of
 * others, malloc()'s, and the copy of the memory, which takes long in a large process. */

static struct ctx *ctx, *child;
static int fd = -1;
static _Atomic bool begun, forked, cancelled;
static void (*meanwhile)(void);
static pthread_mutex_t others = PTHREAD_MUTEX_INITIALIZER;

static void go_on(void)
{
        if (meanwhile) {
                atomic_store(&begun, true);
                meanwhile();
        }
}

/* Registered before the library's, so called after it. */
__attribute__((constructor(101))) static void register_handler(void)
{
        pthread_atfork(go_on, NULL, NULL);
}

static bool forks_at_write;
static __thread bool forks_at_first_use;
static int taken[64];
static pid_t forked_pid = -1;

/* A handler forks right before the library writes to a descriptor. In the child, others have the numbers that
 * are free by then. */
static void fork_now(void)
{
        forks_at_write = false;
        forked_pid = fork();
        for (int i = 0; forked_pid == 0 && i < 64; i++)
                taken[i] = memfd_create("other", MFD_CLOEXEC);
}

/* The cancel has made ctx done, and does not get to the child before the fork has passed. */
static bool is_refused(long number, const long a[6])
{
        if (number == SYS_write && forks_at_write)
                fork_now();
        if (number == SYS_gettid && forks_at_first_use) {
                forks_at_first_use = false;
                forked_pid = fork();
        }
        while (number == SYS_write && a[0] == fd && !atomic_load(&forked))
                usleep(1000);
        return false;
}

static void setup(void (*during)(void))
{
        ctx = ctx_with_cancel(ctx_background());
        child = ctx_with_cancel(ctx);
        fd = ctx_done_fd(ctx);
        ck_assert_int_ge(fd, 0);
        meanwhile = during;
        begun = forked = cancelled = false;
}

static void teardown(void)
{
        ctx_unref(ctx);
        ctx_unref(child);
        fd = -1;
        meanwhile = NULL;
}

/* The status of a child that cancels what is done already, or is not. */
static int fork_and_cancel(void)
{
        int status;
        pid_t pid = fork();

        atomic_store(&forked, true);
        if (pid == 0) {
                alarm(60);
                _exit(ctx_cancel(ctx) >= 0 && ctx_err(child) == -ECANCELED ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        return status;
}

static void *cancel(void *userdata)
{
        pthread_mutex_t *held = userdata;

        if (held)
                pthread_mutex_lock(held);
        atomic_store(&cancelled, true); /* is about to be */
        while (!atomic_load(&begun))
                usleep(1000);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        if (held)
                pthread_mutex_unlock(held);
        return NULL;
}

static void take_long(void)
{
        uint64_t until = now_monotonic_usec() + 1000000;

        while (now_monotonic_usec() < until)
                ;
}

START_TEST(a_fork_that_takes_long)
{
        pthread_t thread;

        setup(take_long);
        ck_assert_int_eq(pthread_create(&thread, NULL, cancel, NULL), 0);
        ck_assert_int_eq(fork_and_cancel(), 0);
        pthread_join(thread, NULL);
        ck_assert_int_eq(ctx_err(child), -ECANCELED);
        teardown();
}
END_TEST

static void wait_for_others(void)
{
        pthread_mutex_lock(&others);
        pthread_mutex_unlock(&others);
}

/* As if a handler had interrupted malloc(): the fork waits for a thread that waits for the fork. */
START_TEST(a_fork_that_waits_for_who_waits)
{
        pthread_t thread;

        setup(wait_for_others);
        ck_assert_int_eq(pthread_create(&thread, NULL, cancel, &others), 0);
        while (!atomic_load(&cancelled))
                usleep(1000);
        forked = true;
        ck_assert_int_eq(fork_and_cancel(), 0);
        pthread_join(thread, NULL);
        teardown();
}
END_TEST

/* -- An allocator with a lock of its own, which it takes before a fork. It is started after the library was
 * loaded, so its handler is called before those that the library has registered by then. */

static pthread_mutex_t memory = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool has_lock, is_slow, is_inside;

static void lock_memory(void)
{
        pthread_mutex_lock(&memory);
        atomic_store(&has_lock, true);
}

static void unlock_memory(void)
{
        pthread_mutex_unlock(&memory);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
        if (atomic_exchange(&is_slow, false)) {
                atomic_store(&is_inside, true);
                for (int i = 0; i < 500 && !atomic_load(&has_lock); i++)
                        usleep(1000);
                pthread_mutex_lock(&memory);
                pthread_mutex_unlock(&memory);
        }
        return __real_calloc(n, size);
}

/* The child keeps its own deadline, for which it needs memory. Both are locked meanwhile. */
static void *move_deadline(void *parent)
{
        atomic_store(&is_slow, true);
        ck_assert_int_eq(ctx_extend(parent, now_boottime_usec() + 500000000), 0);
        ck_assert(!is_slow);
        return NULL;
}

/* The library's thread is started, and its descriptors stay. */
static void start_timers(void)
{
        CTX_AUTO_UNREF struct ctx *timed = ctx_with_timeout(ctx_background(), 1000000000);

        ck_assert_int_eq(ctx_extend(timed, now_boottime_usec() + 500000000), 0);
        ck_assert_int_ge(watch_take_over(), 0);
        watch_give_back();
}

START_TEST(a_fork_beside_who_needs_memory)
{
        struct ctx *parent = ctx_with_timeout(ctx_background(), 1000000000);
        struct ctx *timed = ctx_with_timeout(parent, 600000000);
        pthread_t thread;

        has_lock = is_inside = false;
        ck_assert_int_ge(ctx_done_fd(parent), 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, move_deadline, parent), 0);
        while (!atomic_load(&is_inside))
                usleep(1000);
        setup(NULL);
        ck_assert_int_eq(fork_and_cancel(), 0);
        teardown();
        pthread_join(thread, NULL);
        ctx_unref(timed);
        ctx_unref(parent);
}
END_TEST

static void writes_to_its_own(void (*wake)(void))
{
        struct stat st;
        int status;

        forks_at_write = true;
        wake();
        for (int i = 0; forked_pid == 0 && i < 64; i++)
                if (fstat(taken[i], &st) < 0 || st.st_size > 0)
                        _exit(1);
        if (forked_pid == 0)
                _exit(0);
        ck_assert(!forks_at_write);
        ck_assert_int_eq(waitpid(forked_pid, &status, 0), forked_pid);
        ck_assert_int_eq(status, 0);
}

START_TEST(a_fork_before_somebody_is_woken)
{
        ck_assert_int_ge(watch_take_over(), 0);
        writes_to_its_own(watch_kick);
        writes_to_its_own(callback_thread_wake);
        watch_give_back();
}
END_TEST

#define OTHERS 8

static struct inside *_Atomic of_others[OTHERS];

static void *use_and_stay(void *of)
{
        atomic_store((struct inside * _Atomic *) of, inside_me());
        for (;;)
                pause();
        return NULL;
}

/* In the child nobody else gets the place in which it says that it is in the middle of something. */
static void *use_for_the_first_time(void *unused)
{
        struct inside *mine;
        pthread_t thread;

        forks_at_first_use = true;
        mine = inside_me();
        if (forked_pid != 0)
                return NULL;
        for (int i = 0; i < OTHERS; i++) {
                if (pthread_create(&thread, NULL, use_and_stay, &of_others[i]) != 0)
                        _exit(2);
                while (!atomic_load(&of_others[i]))
                        usleep(1000);
                if (of_others[i] == mine)
                        _exit(1);
        }
        _exit(0);
        return NULL;
}

START_TEST(a_fork_in_a_handler_at_the_first_use_by_a_thread)
{
        pthread_t thread;
        int status;

        forked_pid = -1;
        ck_assert_int_eq(pthread_create(&thread, NULL, use_for_the_first_time, NULL), 0);
        pthread_join(thread, NULL);
        ck_assert_int_gt(forked_pid, 0);
        ck_assert_int_eq(waitpid(forked_pid, &status, 0), forked_pid);
        ck_assert_int_eq(status, 0);
}
END_TEST

static int wake_without_a_descriptor(int started, int go)
{
        struct rlimit limit;
        char byte;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = limit.rlim_max;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        ck_assert_int_eq(service_thread_start(), 0);
        ck_assert_int_eq(write(started, "", 1), 1);
        ck_assert_int_eq(read(go, &byte, 1), 1);
        return 0;
}

static void fork_without_a_descriptor(void)
{
        int set = callback_thread_take_over(eventfd(0, EFD_CLOEXEC)), started[2], go[2], status;
        struct rlimit limit, none;
        char byte;
        pid_t pid;

        ck_assert_int_ge(set, 0);
        ck_assert(pipe(started) == 0 && pipe(go) == 0);
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        none = limit;
        none.rlim_cur = 0;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
        pid = fork();
        if (pid == 0)
                _exit(wake_without_a_descriptor(started[1], go[0]));
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        ck_assert_int_eq(read(started[0], &byte, 1), 1);
        service_thread_wake();
        usleep(300000);
        ck_assert(is_readable(set));
        ck_assert_int_eq(write(go[1], "", 1), 1);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
}

/* It has the parent's descriptor for a while, and takes nothing from the parent. */
START_TEST(law_43_a_fork_without_a_descriptor)
{
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                fork_without_a_descriptor();
                _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        a_fork_before_somebody_is_woken,
                        a_fork_that_takes_long,
                        a_fork_that_waits_for_who_waits,
                        a_fork_beside_who_needs_memory,
                        a_fork_in_a_handler_at_the_first_use_by_a_thread,
                        law_43_a_fork_without_a_descriptor,
                        NULL,
        };

        warm = start_timers;
        pthread_atfork(lock_memory, unlock_memory, unlock_memory);
        return run_laws("forks that take their time", tests);
}
