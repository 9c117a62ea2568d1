/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/proc.h"
#include "util/clock.h"
#include "tests/world/world.h"

/* Members as the kernel knows them, with the real ctxd-probe ($CTXD_PROBE). */

static const struct policy quiet = {.signal = 0, .kill_after_usec = CTXD_USEC_INFINITY};
static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};
static const struct policy kill_at_once = {.signal = SIGTERM, .kill_after_usec = 0};

int __real_bpf_iterate(int link);
int __wrap_bpf_iterate(int link);
int __real_bpf_iterate_process(int program, int pidfd, uint32_t pid);
int __wrap_bpf_iterate_process(int program, int pidfd, uint32_t pid);

static unsigned countdown; /* the one that fails; 0: none */
static bool fails_again;   /* a process fails; then so does the look at all tasks that is made instead */

int __wrap_bpf_iterate(int link)
{
        if ((countdown > 0 && --countdown == 0) || fails_again) {
                fails_again = false;
                return -EMFILE;
        }
        return __real_bpf_iterate(link);
}

int __wrap_bpf_iterate_process(int program, int pidfd, uint32_t pid)
{
        fails_again = countdown > 0 && --countdown == 0;
        return fails_again ? -EMFILE : __real_bpf_iterate_process(program, pidfd, pid);
}

static void expect(struct child *c, char byte, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(child_say(c), byte);
        run_for(60000);
        ck_assert(child_silent(c));
}

START_TEST(law_30_what_is_born_is_a_member)
{
        struct child *c = child_start(child_breed), *stranger = child_start(child_count);
        struct context *root = make("r"), *a = make("r/a");
        struct member_process *list;
        struct member_task *tasks;
        size_t n;

        breed(c, "tf"); /* a thread is taken in, an older child is not */
        attach(a, c, &term);
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 2);
        breed(c, "ffdt");
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 6);
        ck_assert_uint_eq(engine_count_members(world.engine, root, true), 6);
        ck_assert_uint_eq(engine_count_members(world.engine, root, false), 0);

        ck_assert_int_eq(engine_processes(world.engine, root, true, &list, &n), 0);
        ck_assert_uint_eq(n, 4);
        ck_assert_uint_eq(list[0].pid, (uint32_t) c->pid);
        ck_assert_uint_eq(list[0].n_tasks, 3);
        ck_assert_ptr_eq(list[0].context, a);
        for (size_t i = 0; i < n; i++) {
                struct process *p;

                ck_assert_int_eq(engine_open_member(world.engine, &list[i], &p), 0);
                ck_assert_ptr_eq(context_of(p), a);
                engine_process_close(p);
        }
        free(list);
        ck_assert_int_eq(engine_tasks(world.engine, a, false, &tasks, &n), 0);
        ck_assert_uint_eq(n, 6);
        ck_assert_uint_eq(tasks[0].pid, tasks[0].tid);
        free(tasks);
        ck_assert_int_eq(engine_processes(world.engine, root, false, &list, &n), 0);
        ck_assert_uint_eq(n, 0);
        free(list);

        breed(c, "c");
        ck_assert_uint_eq(cancel(root), 6);
        expect(c, 'T', 4); /* law 32: once each; not the child from before */
        ck_assert(child_silent(stranger));
        ck_assert(a->busy);
}
END_TEST

START_TEST(law_31_drained_with_the_last_one)
{
        struct child *c = child_start(child_breed);
        struct context *root = make("r"), *a = make("r/a");
        struct member_process *list;
        size_t n;

        attach(a, c, &quiet);
        breed(c, "f");
        ck_assert_uint_eq(cancel(root), 2);
        kill(c->pid, SIGKILL);
        (void) child_wait(c);
        run_for(50000);
        ck_assert(a->busy); /* the child is left */
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 1);
        ck_assert_uint_eq(root->drained_usec, 0);
        ck_assert_int_eq(engine_processes(world.engine, a, false, &list, &n), 0);
        ck_assert_uint_eq(n, 1);
        kill((pid_t) list[0].pid, SIGKILL);
        free(list);
        run_while(is_busy, a);
        ck_assert_uint_ne(a->drained_usec, 0);
        ck_assert_uint_ne(root->drained_usec, 0);
}
END_TEST

START_TEST(killed_after)
{
        static const struct policy policy = {.signal = SIGTERM, .kill_after_usec = 50000};
        struct child *c = child_start(child_breed);
        struct context *a = make("a");
        uint64_t done;

        attach(a, c, &policy);
        breed(c, "ffd");
        breed(c, "c");
        cancel(a);
        done = a->done_usec;
        for (unsigned i = 0; i < 4; i++)
                ck_assert_int_eq(child_say(c), 'T');
        run_while(is_busy, a);
        ck_assert_uint_ge(a->drained_usec - done, 50000);
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 0);
}
END_TEST

/* The descriptor that it takes to look at all tasks is not to be had, at the first look or at a later one. An
 * attach that fails has left nothing, and one that succeeds has taken in all. */
START_TEST(law_35_an_attach_without_a_descriptor)
{
        unsigned failures = 0, successes = 0;

        for (unsigned i = 1; successes == 0 || countdown == 0; i++) {
                struct child *c = child_start(child_breed);
                struct context *a, *b;
                char names[2][8];
                bool attached;
                int r;

                snprintf(names[0], sizeof names[0], "a%u", i);
                snprintf(names[1], sizeof names[1], "b%u", i);
                a = make(names[0]);
                b = make(names[1]);
                breed(c, "tt");
                countdown = i;
                r = attach_by(a, c, &term);
                attached = r >= 0;
                if (!attached)
                        ck_assert_int_eq(r, -EMFILE);
                ck_assert_uint_eq(engine_count_members(world.engine, a, false), attached ? 3 : 0);
                ck_assert(a->busy == attached);
                ck_assert_uint_eq(a->n_policies, attached);
                ck_assert_uint_eq(a->user->used[RESOURCE_SLOTS], attached); /* the others are drained */
                failures += !attached;
                successes += attached;
                if (!attached)
                        attach(a, c, &term);
                ck_assert_uint_eq(engine_count_members(world.engine, a, false), 3);
                /* It moves, or stays where it was. */
                if (countdown == 0)
                        countdown = i;
                r = attach_by(b, c, &term);
                ck_assert_uint_eq(engine_count_members(world.engine, a, false), r < 0 ? 3 : 0);
                ck_assert_uint_eq(engine_count_members(world.engine, b, false), r < 0 ? 0 : 3);
                kill(c->pid, SIGKILL);
                (void) child_wait(c);
                run_while(is_busy, a);
                run_while(is_busy, b);
                ck_assert_uint_lt(i, 20);
        }
        countdown = 0;
        ck_assert_uint_ge(failures, 1);
}
END_TEST

/* Eight relays, in which each process hands over to its child and exits: nobody in it lives for long, the
 * whole for longer than anybody waits for its end. */
static void relay(uint64_t end_usec)
{
        while (now_boottime_usec() < end_usec) {
                if (fork() > 0) {
                        usleep(200);
                        _exit(0);
                }
        }
        _exit(0);
}

static int relays_signal = SIGTERM;

static void body_relays(int in, int out)
{
        uint64_t end_usec = now_boottime_usec() + 300000000;
        char byte;

        (void) signal(relays_signal, SIG_IGN);
        child_ready(out);
        (void) !read(in, &byte, 1);
        for (unsigned i = 0; i < 8; i++)
                if (fork() == 0)
                        relay(end_usec);
        child_ready(out);
        pause();
}

START_TEST(relays_are_ended)
{
        static const struct policy terms[] = {
                        {.signal = SIGTERM, .kill_after_usec = 0},
                        /* Which ends those that are told. */
                        {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY},
        };

        relays_signal = _i == 0 ? SIGTERM : SIGUSR1;
        for (unsigned i = 0; i < 5; i++) {
                struct child *c = child_start(body_relays);
                struct context *a;
                char path[16];

                snprintf(path, sizeof path, "a%u", i);
                a = make(path);
                attach(a, c, &terms[_i]);
                breed(c, "x");
                ck_assert_uint_ge(cancel(a), 2);
                run_while(is_busy, a);
                ck_assert_uint_eq(engine_count_members(world.engine, a, false), 0);
        }
}
END_TEST

/* Attached while it forks: nobody is lost. */
static void body_chain(int in, int out)
{
        (void) signal(SIGCHLD, SIG_IGN);
        child_ready(out);
        for (;;) {
                if (fork() == 0)
                        _exit(0);
        }
}

START_TEST(attach_while_it_forks)
{
        for (unsigned i = 0; i < 20; i++) {
                struct child *c = child_start(body_chain);
                struct context *a;
                char path[16];

                snprintf(path, sizeof path, "c%u", i);
                a = make(path);
                attach(a, c, &kill_at_once);
                ck_assert_uint_ge(cancel(a), 1);
                run_while(is_busy, a);
                ck_assert_uint_eq(engine_count_members(world.engine, a, false), 0);
                (void) child_wait(c);
        }
}
END_TEST

static int cleanup_out;

static void clean_up(int signal_number)
{
        if (fork() == 0) {
                struct sigaction action = {.sa_handler = SIG_DFL};
                sigset_t none;

                sigaction(SIGTERM, &action, NULL); /* a signal would end it */
                sigemptyset(&none);
                sigprocmask(SIG_SETMASK, &none, NULL);
                for (unsigned i = 0; i < 10; i++)
                        usleep(10000);
                (void) !write(cleanup_out, "C", 1);
                pause();
        }
}

static void body_tidy(int in, int out)
{
        struct sigaction action = {.sa_handler = clean_up};

        cleanup_out = out;
        sigaction(SIGTERM, &action, NULL);
        child_sleep(in, out);
}

START_TEST(what_cleans_up_is_let_be_until_the_kill)
{
        static const struct policy policy = {.signal = SIGTERM, .kill_after_usec = 1500000};
        struct child *c = child_start(body_tidy);
        struct context *a = make("a");

        attach(a, c, &policy);
        ck_assert_uint_eq(cancel(a), 1);
        run_for(300000);                                  /* passes for the one that is born */
        if (now_boottime_usec() - a->done_usec < 1500000) /* else the kill may have been the first */
                ck_assert_int_eq(child_say(c), 'C');
        run_while(is_busy, a);
        ck_assert_uint_ge(a->drained_usec - a->done_usec, 1500000);
}
END_TEST

/* Whoever sends it once more while it handles it: a manager, a terminal, itself. */
static void clean_up_and_get_another(int signal_number)
{
        clean_up(signal_number);
        kill(getpid(), signal_number);
        for (;;)
                pause();
}

static void body_tidy_twice(int in, int out)
{
        struct sigaction action = {.sa_handler = clean_up_and_get_another};

        cleanup_out = out;
        sigaction(SIGTERM, &action, NULL);
        child_sleep(in, out);
}

START_TEST(what_cleans_up_is_let_be_whatever_comes_after_it)
{
        struct context *a = make("a");
        struct child *c[10];

        for (unsigned i = 0; i < 10; i++) {
                c[i] = child_start(body_tidy_twice);
                attach(a, c[i], &term);
        }
        ck_assert_uint_eq(cancel(a), 10);
        run_for(400000);
        for (unsigned i = 0; i < 10; i++)
                ck_assert_int_eq(child_say(c[i]), 'C');
}
END_TEST

START_TEST(many_that_clean_up)
{
        struct context *a = make("a");
        struct child *c[30];

        for (unsigned i = 0; i < 30; i++) {
                c[i] = child_start(body_tidy);
                attach(a, c[i], &term);
        }
        ck_assert_uint_eq(cancel(a), 30);
        run_for(400000);
        for (unsigned i = 0; i < 30; i++)
                ck_assert_int_eq(child_say(c[i]), 'C');
}
END_TEST

START_TEST(moves)
{
        struct child *c = child_start(child_breed);
        struct context *a = make("a"), *below = make("a/b"), *other = make("c");
        struct process *p;

        ck_assert_int_eq(engine_process_open(world.engine, c->pidfd, &p), 0);
        ck_assert_ptr_null(context_of(p));
        breed(c, "t");
        attach(a, c, &term);
        breed(c, "f");
        ck_assert_int_eq(attach_by(other, c, &quiet), -EACCES);
        attach(below, c, &term);
        ck_assert_ptr_eq(context_of(p), below);
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 1); /* the child from before */
        ck_assert_uint_eq(engine_count_members(world.engine, below, false), 2);
        ck_assert_int_eq(attach_by(a, c, &quiet), -EACCES);
        engine_process_close(p);
}
END_TEST

static void body_setuid(int in, int out)
{
        if (setresuid(65534, 0, 0) < 0)
                _exit(1);
        child_count(in, out);
}

static void body_nobody(int in, int out)
{
        if (setresuid(65534, 65534, 65534) < 0)
                _exit(1);
        child_count(in, out);
}

START_TEST(only_whom_the_one_who_attached_might_signal)
{
        static const struct policy by_user = {.signal = SIGTERM, .kill_after_usec = 30000, .uid = 65534};
        struct child *root = child_start(child_count), *same = child_start(body_nobody);
        struct child *changed = child_start(body_setuid);
        struct context *a = make("a");

        attach(a, root, &by_user);
        attach(a, same, &by_user);
        attach(a, changed, &by_user);
        ck_assert_uint_eq(cancel(a), 3);
        ck_assert_int_eq(child_say(same), 'T');
        (void) child_wait(same);
        run_for(100000);
        ck_assert(child_silent(root));
        ck_assert(child_silent(changed));
        ck_assert(a->busy);
}
END_TEST

START_TEST(slots_are_given_back)
{
        unsigned first = 0;

        world.tree->retain_usec = 0;
        for (unsigned i = 0; i < 30; i++) {
                struct child *c = child_start(child_breed);
                struct context *a;
                char path[16];

                snprintf(path, sizeof path, "s%u", i);
                a = make(path);
                attach(a, c, &kill_at_once);
                breed(c, "f");
                if (i == 0)
                        first = membership_number(a);
                else
                        ck_assert_uint_eq(membership_number(a), first);
                ck_assert_uint_eq(engine_count_members(world.engine, a, false), 2);
                cancel(a);
                run_until(&world.n_removed, i + 1);
        }
}
END_TEST

/* From direct to BPF */

START_TEST(who_was_attached_before_the_probe_came)
{
        struct child *c, *lone;
        struct context *a, *done;

        world_start();
        c = child_start(child_breed);
        lone = child_start(child_count);
        a = make("a");
        done = make("d");
        ck_assert_str_eq(engine_membership_backend(world.engine), "direct");
        attach(a, c, &term);
        attach(done, lone, &quiet);
        cancel(done);
        breed(c, "ft");
        start_probe();
        ck_assert_str_eq(engine_membership_backend(world.engine), "bpf");
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 3);
        breed(c, "f");
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 4);
        breed(c, "c");
        ck_assert_uint_eq(cancel(a), 4);
        expect(c, 'T', 3);
        ck_assert(done->busy);
        kill(lone->pid, SIGKILL);
        run_while(is_busy, done);
        world_stop();
}
END_TEST

/* The probe goes, membership stays */

static int find_probe(void *userdata, pid_t pid)
{
        struct proc_stat s;

        if (proc_stat_read(pid, &s) == 0 && strcmp(s.comm, "ctxd-probe") == 0 && s.state != 'Z') {
                *(pid_t *) userdata = pid;
                return 1;
        }
        return 0;
}

static bool probe_is(void *userdata)
{
        return strcmp(engine_probe_backend(world.engine), userdata) == 0;
}

START_TEST(the_probe_dies_and_comes_back)
{
        struct child *c = child_start(child_breed), *later = child_start(child_sleep);
        struct context *a = make("a"), *b = make("b"), *over = make("over");
        pid_t probe = 0, next = 0;

        attach(a, c, &term);
        attach(over, later, &quiet);
        ck_assert_int_eq(proc_each_child(getpid(), find_probe, &probe), 1);
        kill(probe, SIGKILL);
        run_while(probe_is, (void *) "bpf");
        ck_assert_str_eq(engine_probe_backend(world.engine), "off");
        ck_assert_str_ne(engine_probe_reason(world.engine), "");
        ck_assert_str_eq(engine_membership_backend(world.engine), "bpf");

        breed(c, "f"); /* counted by hooks that nobody but us holds */
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 2);
        attach(b, child_start(child_sleep), &kill_at_once);
        ck_assert_uint_eq(cancel(b), 1);
        run_while(is_busy, b);
        ck_assert_uint_eq(cancel(over), 1);

        run_while(probe_is, (void *) "off");
        ck_assert_str_eq(engine_probe_backend(world.engine), "bpf");
        ck_assert_int_eq(proc_each_child(getpid(), find_probe, &next), 1);
        ck_assert_int_ne(probe, next);
        breed(c, "f");
        ck_assert_uint_eq(engine_count_members(world.engine, a, false), 3);
        breed(c, "c");
        ck_assert_uint_eq(cancel(a), 3);
        expect(c, 'T', 3);
}
END_TEST

struct wanted {
        struct context *context;
        unsigned n;
        pid_t pid;
};

static int look_at(void *userdata, struct context *c, const struct leak *leak)
{
        struct wanted *w = userdata;

        ck_assert_ptr_eq(c, w->context);
        ck_assert_uint_eq(leak->pid, (uint32_t) w->pid);
        ck_assert_uint_ne(leak->leak_id, 0);
        ck_assert_str_ne(leak->syscall_text, "");
        w->n++;
        return 0;
}

START_TEST(a_leak_is_reported_and_resolved)
{
        struct child *c = child_start(child_breed); /* blocks in a read */
        struct wanted wanted = {.context = make("a"), .pid = c->pid};

        wanted.context->grace_usec = 200000;
        attach(wanted.context, c, &term); /* which it ignores */
        cancel(wanted.context);
        run_until(&world.n_found, 1);
        ck_assert_int_eq(each_leak(world.engine, NULL, look_at, &wanted), 0);
        ck_assert_uint_eq(wanted.n, 1);
        ck_assert_uint_eq(engine_leaks_found(world.engine), 1);
        ck_assert_uint_ne(engine_probe_last_sweep_usec(world.engine), 0);
        kill(c->pid, SIGKILL);
        run_until(&world.n_resolved, 1);
        run_while(is_busy, wanted.context);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("bpf");
        TCase *c = tcase_create("bpf"), *raw = tcase_create("raw");
        const char *reason = bpf_missing();

        if (reason) {
                printf("1..0 # SKIP %s\n", reason);
                return EXIT_SUCCESS;
        }
        tcase_add_checked_fixture(c, world_start_bpf, world_stop);
        tcase_set_timeout(c, 60);
        tcase_set_timeout(raw, 60);
        tcase_add_test(c, law_30_what_is_born_is_a_member);
        tcase_add_test(c, law_31_drained_with_the_last_one);
        tcase_add_test(c, killed_after);
        tcase_add_test(c, law_35_an_attach_without_a_descriptor);
        tcase_add_loop_test(c, relays_are_ended, 0, 2);
        tcase_add_test(c, attach_while_it_forks);
        tcase_add_test(c, what_cleans_up_is_let_be_until_the_kill);
        tcase_add_test(c, many_that_clean_up);
        tcase_add_test(c, what_cleans_up_is_let_be_whatever_comes_after_it);
        tcase_add_test(c, moves);
        tcase_add_test(c, only_whom_the_one_who_attached_might_signal);
        tcase_add_test(c, slots_are_given_back);
        tcase_add_test(raw, who_was_attached_before_the_probe_came);
        tcase_add_test(c, the_probe_dies_and_comes_back);
        tcase_add_test(c, a_leak_is_reported_and_resolved);
        suite_add_tcase(s, c);
        suite_add_tcase(s, raw);
        return run_suite(s);
}
