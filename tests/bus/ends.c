/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Laws 28 and 29 with the real daemon: which process's exit ends a context, and which close does. */

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "puppet.h"

static int owned_by(const char *path, const struct puppet *p)
{
        int fd;

        OK(bus, "Create", "sa{sv}", path, 1, "owner", "h", p->pidfd);
        fd = done_handle(bus, path);
        ck_assert(!is_readable(fd));
        return fd;
}

static void expect_owner_exited(const char *path, int done)
{
        ck_assert(becomes_readable(done));
        EXPECT_ERR(bus, path, CTXD_ERR_CANCELED, ECANCELED, ECANCELED, "owner exited");
        close(done);
}

static void exit_when_told(int in, int out)
{
        (void) puppet_told(in);
        _exit(3);
}

START_TEST(law28_it_exits)
{
        struct puppet p = puppet_start(exit_when_told);
        int done = owned_by("a", &p), below;

        create(bus, "a/below");
        create(bus, "other");
        below = done_handle(bus, "a/below");
        puppet_tell(&p, 'x');
        /* The owner has exited, though nobody has reaped it yet. */
        expect_owner_exited("a", done);
        ck_assert(is_readable(below));
        EXPECT_ACTIVE(bus, "other");
        close(below);
        puppet_end(&p);
}
END_TEST

START_TEST(law28_it_is_killed)
{
        static const int signals[] = {SIGKILL, SIGUSR2, SIGTERM};

        for (size_t i = 0; i < ELEMENTSOF(signals); i++) {
                struct puppet p = puppet_start(puppet_pause);
                char path[] = {'a', (char) ('0' + i), '\0'};
                int done = owned_by(path, &p);

                kill(p.pid, signals[i]);
                expect_owner_exited(path, done);
                puppet_end(&p);
        }
}
END_TEST

static void become_cat(int in, int out)
{
        static char *const argv[] = {(char *) "cat", NULL};

        (void) puppet_told(in);
        if (dup2(in, 0) < 0 || dup2(out, 1) < 0)
                _exit(1);
        execvp(argv[0], argv);
        _exit(127);
}

static int pipes_of_thread[2];

static void *exec_from_thread(void *userdata)
{
        become_cat(pipes_of_thread[0], pipes_of_thread[1]);
        return NULL;
}

/* Another thread than the leader executes a program. It gets the leader's place and pid. */
static void become_cat_by_thread(int in, int out)
{
        pthread_t thread;

        pipes_of_thread[0] = in;
        pipes_of_thread[1] = out;
        if (pthread_create(&thread, NULL, exec_from_thread, NULL) != 0)
                _exit(1);
        for (;;)
                pause();
}

START_TEST(law28_an_exec_is_no_exit)
{
        static void (*const ways[])(int in, int out) = {become_cat, become_cat_by_thread};

        for (size_t i = 0; i < ELEMENTSOF(ways); i++) {
                struct puppet p = puppet_start(ways[i]);
                char path[] = {'a', (char) ('0' + i), '\0'};
                int done = owned_by(path, &p);

                puppet_tell(&p, 'x');
                puppet_tell(&p, 'y');
                ck_assert_int_eq(puppet_said(&p), 'y'); /* by the other program */
                EXPECT_ACTIVE(bus, path);
                ck_assert(!is_readable(done));
                close(p.to);
                p.to = -1;
                expect_owner_exited(path, done);
                puppet_end(&p);
        }
}
END_TEST

static void *go_on_alone(void *userdata)
{
        (void) puppet_told(pipes_of_thread[0]);
        syscall(SYS_exit_group, 0);
        return NULL;
}

static void leave_a_thread(int in, int out)
{
        pthread_t thread;

        pipes_of_thread[0] = in;
        if (pthread_create(&thread, NULL, go_on_alone, NULL) != 0)
                _exit(1);
        syscall(SYS_exit, 0);
}

START_TEST(law28_the_leader_is_not_the_process)
{
        struct puppet p = puppet_start(leave_a_thread);
        int done = owned_by("a", &p);

        puppet_await_state(&p, 'Z');
        EXPECT_ACTIVE(bus, "a");
        ck_assert(!is_readable(done));
        puppet_tell(&p, 'x');
        expect_owner_exited("a", done);
        puppet_end(&p);
}
END_TEST

/* Starts another process with the same pid. Returns 0 if the kernel does not allow that, or if somebody
 * else got the pid. */
static pid_t start_as(pid_t pid)
{
        struct clone_args args = {
                        .exit_signal = SIGCHLD, .set_tid = (uint64_t) (uintptr_t) &pid, .set_tid_size = 1};
        pid_t made = (pid_t) syscall(SYS_clone3, &args, sizeof args);

        if (made == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                puppet_pause(-1, -1);
        }
        return made < 0 ? 0 : made;
}

START_TEST(law28_a_pid_that_is_used_again_is_somebody_else)
{
        for (unsigned i = 0; i < 20; i++) {
                char first[16], second[16], member[16];
                int done, status, pidfd, next;
                struct puppet p;
                pid_t again;

                snprintf(first, sizeof first, "first%u", i);
                snprintf(second, sizeof second, "second%u", i);
                snprintf(member, sizeof member, "member%u", i);
                p = puppet_start(puppet_pause);
                done = owned_by(first, &p);
                create(bus, member);
                OK(bus, "Attach", "sha{sv}", member, p.pidfd, 2, "signal", "i", SIGKILL, "kill-after-usec",
                                "t", UINT64_C(0));
                /* The kernel tells start times in ticks of 10 ms. The two must not start in the same tick. */
                nap(50000);
                /* The daemon must learn of the exit when the pid is another process's already. */
                kill(world.daemon.pid, SIGSTOP);
                kill(p.pid, SIGKILL);
                ck_assert_int_eq(waitpid(p.pid, &status, 0), p.pid);
                again = start_as(p.pid);
                kill(world.daemon.pid, SIGCONT);
                expect_owner_exited(first, done);
                if (again > 0) {
                        pidfd = open_pidfd(again);
                        OK(bus, "Create", "sa{sv}", second, 1, "owner", "h", pidfd);
                        next = done_handle(bus, second);
                        cancel(bus, member, "");
                        EXPECT_ACTIVE(bus, second);
                        ck_assert(!is_readable(next));
                        ck_assert_int_eq(waitpid(again, &status, WNOHANG), 0); /* alive */
                        end_process(again);
                        expect_owner_exited(second, next);
                        close(pidfd);
                }
                p.pid = 0;
                puppet_end(&p);
                if (again > 0)
                        return;
        }
        printf("# no process may be given a pid here\n");
}
END_TEST

/* Lifelines. */

static void expect_closed(const char *path, int done)
{
        ck_assert(becomes_readable(done));
        EXPECT_ERR(bus, path, CTXD_ERR_CANCELED, ECANCELED, ECANCELED, "lifeline closed");
        close(done);
}

START_TEST(law29_the_last_of_several)
{
        int a, b, copy, done;

        create(bus, "a");
        a = lifeline_of(bus, "a");
        b = lifeline_of(bus, "a");
        copy = fcntl(b, F_DUPFD_CLOEXEC, 3);
        done = done_handle(bus, "a");
        close(a);
        EXPECT_ACTIVE(bus, "a");
        close(b);
        EXPECT_ACTIVE(bus, "a");
        ck_assert(!is_readable(done));
        close(copy);
        expect_closed("a", done);
}
END_TEST

static int held;

static void fork_and_leave(int in, int out)
{
        if (fork() == 0) {
                (void) puppet_told(in); /* or its end */
                _exit(0);
        }
        _exit(0);
}

/* A process that has inherited the lifeline holds it. */
START_TEST(law29_a_child_holds_on)
{
        struct puppet p;
        int done, status;

        create(bus, "a");
        held = lifeline_of(bus, "a");
        done = done_handle(bus, "a");
        p = puppet_start(fork_and_leave);
        close(held);
        ck_assert_int_eq(waitpid(p.pid, &status, 0), p.pid);
        p.pid = 0;
        EXPECT_ACTIVE(bus, "a");
        ck_assert(!is_readable(done));
        puppet_tell(&p, 'x');
        expect_closed("a", done);
        puppet_end(&p);
}
END_TEST

START_TEST(law29_an_exec_lets_go)
{
        struct puppet p;
        int done;

        create(bus, "a");
        held = lifeline_of(bus, "a");
        done = done_handle(bus, "a");
        p = puppet_start(become_cat);
        close(held);
        EXPECT_ACTIVE(bus, "a");
        puppet_tell(&p, 'x');
        expect_closed("a", done);
        puppet_end(&p);
}
END_TEST

START_TEST(law29_a_holder_is_killed)
{
        struct puppet p;
        int done;

        create(bus, "a");
        held = lifeline_of(bus, "a");
        done = done_handle(bus, "a");
        p = puppet_start(puppet_pause);
        close(held);
        EXPECT_ACTIVE(bus, "a");
        kill(p.pid, SIGKILL);
        expect_closed("a", done);
        puppet_end(&p);
}
END_TEST

/* A lifeline that was sent and not read yet is held by the message. */
START_TEST(law29_in_flight)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec iov = {(void *) "l", 1};
        struct msghdr message = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof control};
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        int pair[2], done;

        create(bus, "a");
        held = lifeline_of(bus, "a");
        done = done_handle(bus, "a");
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof held);
        memcpy(CMSG_DATA(c), &held, sizeof held);
        ck_assert_int_eq(sendmsg(pair[0], &message, 0), 1);
        close(held);
        close(pair[0]);
        EXPECT_ACTIVE(bus, "a");
        ck_assert(!is_readable(done));
        close(pair[1]);
        expect_closed("a", done);
}
END_TEST

Suite *suite_ends(void)
{
        Suite *s = suite_create("ends");

        ADD_TESTS(s, "ends", start_retaining, law28_it_exits, law28_it_is_killed, law28_an_exec_is_no_exit,
                        law28_the_leader_is_not_the_process, law28_a_pid_that_is_used_again_is_somebody_else,
                        law29_the_last_of_several, law29_a_child_holds_on, law29_an_exec_lets_go,
                        law29_a_holder_is_killed, law29_in_flight);
        return s;
}
