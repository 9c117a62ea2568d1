/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/clock.h"
#include "tests/world/group.h"
#include "tests/world/world.h"

/* Crowds that fork while they are cancelled. Each is bounded: by the number of processes that a uid of its
 * own may have, and in time, should nobody end it. */

#define CROWD_MAX 120
#define CROWD_USEC UINT64_C(100000000)

static uid_t crowd_uid; /* of this test alone: what runs beside it counts as well */

static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};

static void stop(void)
{
        world_stop();
        group_remove_all();
}

/* Every one of them forks for as long as it lives. */
static void body_bomb(int in, int out)
{
        const struct rlimit limit = {CROWD_MAX, CROWD_MAX};
        uint64_t end_usec = now_boottime_usec() + CROWD_USEC;

        if (setrlimit(RLIMIT_NPROC, &limit) < 0 || setresgid(crowd_uid, crowd_uid, crowd_uid) < 0 ||
                        setresuid(crowd_uid, crowd_uid, crowd_uid) < 0)
                _exit(1);
        child_bomb(in, out, end_usec);
}

static bool is_small(void *userdata)
{
        return engine_count_members(world.engine, userdata, false) < CROWD_MAX / 2;
}

static void end_a_bomb(bool in_a_group)
{
        struct child *bomb, *stranger = child_start(child_count);
        struct context *c = make("bomb"), *other = make("other");

        crowd_uid = 61000 + (uid_t) getpid() % 4000;
        bomb = child_start(body_bomb);
        attach(other, stranger, &term);
        if (in_a_group)
                group_enter(group_new(NULL), bomb->pid);
        attach(c, bomb, &(struct policy){.signal = SIGTERM, .kill_after_usec = 100000, .uid = crowd_uid});
        child_tell(bomb, 'g');
        run_while(is_small, c);
        cancel(c);
        ck_assert_uint_eq(cancel(other), 1); /* while it rages */
        ck_assert_int_eq(child_say(stranger), 'T');
        run_while(is_busy, c);
        ck_assert_uint_lt(now_boottime_usec(), c->created_usec + CROWD_USEC); /* it did not end by itself */
        ck_assert_uint_eq(engine_count_members(world.engine, c, false), 0);
        if (getenv("CTXD_FIGURES"))
                printf("# a crowd of %d that forks: %.1f ms from the kill to drained\n", CROWD_MAX,
                                (double) (c->drained_usec - c->done_usec - 100000) / 1000);
}

START_TEST(law_32_a_fork_bomb_is_ended)
{
        end_a_bomb(false);
}
END_TEST

START_TEST(law_32_a_fork_bomb_in_a_group_is_ended)
{
        end_a_bomb(true);
}
END_TEST

/* It forks until the signal comes; handling it, it stops. So each child was begun before, though the kernel
 * may have dated its birth after the signal: the copy of a large memory takes a while. */
static sigjmp_buf no_more;
static pid_t forker;

static void stop_forking(int signal_number)
{
        if (getpid() != forker)
                _exit(0);
        siglongjmp(no_more, 1);
}

/* posix_spawn() blocks all signals for the time of a fork, and so does fork() since glibc 2.41. */
static bool blocks;

static pid_t fork_it(void)
{
        uint64_t all = UINT64_MAX, before;
        pid_t pid;

        if (!blocks)
                return fork();
        syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof all);
        pid = fork();
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
        return pid;
}

static void body_forker(int in, int out)
{
        struct sigaction action = {.sa_handler = stop_forking}, plain = {.sa_handler = SIG_DFL};
        size_t size = 48 << 20;
        char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        volatile unsigned n = 0;
        char byte;

        (void) madvise(memory, size, MADV_NOHUGEPAGE);
        memset(memory, 1, size);
        (void) signal(SIGCHLD, SIG_IGN);
        forker = getpid();
        child_ready(out);
        if (read(in, &byte, 1) != 1)
                _exit(1);
        if (sigsetjmp(no_more, 1) == 0) {
                sigaction(SIGTERM, &action, NULL);
                child_ready(out);
                while (n++ < 100)
                        if (fork_it() == 0) {
                                sigaction(SIGTERM, &plain, NULL);
                                for (;;)
                                        pause();
                        }
        }
        for (;;)
                pause();
}

static bool is_more_than_one(void *userdata)
{
        return engine_count_members(world.engine, userdata, false) > 1;
}

static bool is_one(void *userdata)
{
        return !is_more_than_one(userdata);
}

START_TEST(law_32_a_fork_under_way_is_no_cleaning_up)
{
        for (unsigned i = 0; i < 10; i++) {
                struct child *child;
                struct context *c;
                char path[16];

                blocks = i % 2 == 1;
                child = child_start(body_forker);
                snprintf(path, sizeof path, "f%u", i);
                c = make(path);
                attach(c, child, &term);
                breed(child, "g");
                run_while(is_one, c);
                cancel(c);
                run_while(is_more_than_one, c);
                ck_assert(!is_readable(child->pidfd)); /* itself, which has caught it */
                kill(child->pid, SIGKILL);
                run_while(is_busy, c);
        }
}
END_TEST

/* It blocks the signal, as a shell does around a fork. A child that is begun after the signal has come was
 * begun by no handler. */
static void body_blocker(int in, int out)
{
        uint64_t term_alone = UINT64_C(1) << (SIGTERM - 1), before;
        pid_t pid;
        char byte;

        (void) signal(SIGCHLD, SIG_IGN);
        syscall(SYS_rt_sigprocmask, SIG_BLOCK, &term_alone, &before, sizeof before);
        child_ready(out);
        while (read(in, &byte, 1) == 1) {
                pid = fork();
                if (pid == 0) {
                        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
                        for (;;)
                                pause();
                }
                child_ready(out);
        }
}

START_TEST(law_32_a_fork_while_the_signal_is_pending_is_no_cleaning_up)
{
        struct child *child = child_start(body_blocker);
        struct context *c = make("blocks");

        attach(c, child, &term);
        cancel(c);
        breed(child, "gg");
        run_while(is_more_than_one, c);
        ck_assert(!is_readable(child->pidfd));
        kill(child->pid, SIGKILL);
        run_while(is_busy, c);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("crowd");
        TCase *bpf = tcase_create("bpf"), *group = tcase_create("group");
        const char *no_group = group_missing(), *no_bpf = bpf_missing();
        int r;

        if (getuid() != 0 || (no_bpf && no_group)) {
                printf("1..0 # SKIP %s\n", getuid() != 0 ? "needs uids of its own" : no_bpf);
                return EXIT_SUCCESS;
        }
        tcase_add_checked_fixture(bpf, world_start_bpf, stop);
        tcase_add_checked_fixture(group, world_start, stop);
        tcase_set_timeout(bpf, 120);
        tcase_set_timeout(group, 120);
        if (!no_bpf) {
                tcase_add_test(bpf, law_32_a_fork_bomb_is_ended);
                tcase_add_test(bpf, law_32_a_fork_under_way_is_no_cleaning_up);
                tcase_add_test(bpf, law_32_a_fork_while_the_signal_is_pending_is_no_cleaning_up);
        }
        if (!no_group)
                tcase_add_test(group, law_32_a_fork_bomb_in_a_group_is_ended);
        suite_add_tcase(s, bpf);
        suite_add_tcase(s, group);
        r = run_suite(s);
        group_remove_left();
        return r;
}
