/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Endings: which signal reaches whom, and whom none does, and why (law 47). */

#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "puppet.h"
#include "proto/thread-page.h"
#include "util/clock.h"

static const char *ending_of(sd_bus *b, const char *path, pid_t pid, char *buffer, size_t size)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Endings", "sbu", path, 1, 0);
        uint32_t found, by = 0;
        uint64_t start, kill_after = 0;
        int signal_number = -1;
        const char *key, *text, *why = "?", *in = "?";

        snprintf(buffer, size, "none");
        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "(uta{sv})"), 1);
        while (sd_bus_message_enter_container(m, 'r', "uta{sv}") > 0) {
                READ(m, "ut", &found, &start);
                ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "{sv}"), 1);
                while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                        READ(m, "s", &key);
                        if (strcmp(key, "signal") == 0)
                                READ(m, "v", "i", &signal_number);
                        else if (strcmp(key, "kill-after-usec") == 0)
                                READ(m, "v", "t", &kill_after);
                        else if (strcmp(key, "attached-by") == 0)
                                READ(m, "v", "u", &by);
                        else if (strcmp(key, "threads") == 0)
                                ck_assert_int_ge(sd_bus_message_skip(m, "v"), 0);
                        else {
                                READ(m, "v", "s", &text);
                                if (strcmp(key, "unsignalled") == 0)
                                        why = text;
                                else if (strcmp(key, "context") == 0)
                                        in = text;
                                else
                                        ck_assert_str_eq(key, "command");
                        }
                        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
                }
                ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
                ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
                if ((pid_t) found == pid)
                        snprintf(buffer, size, "%.*s %u %d %lld %s", (int) strcspn(in, "#"), in, by,
                                        signal_number, (long long) kill_after, why);
        }
        return buffer;
}

static const char *expected(
                const char *path, unsigned by, int signal_number, long long kill_after, const char *why)
{
        static char text[128];

        snprintf(text, sizeof text, "%s %u %d %lld %s", path, by, signal_number, kill_after, why);
        return text;
}

#define ENDS(b, path, pid, in, by, signal_number, kill_after, why)          \
        ck_assert_str_eq(ending_of((b), (path), (pid), (char[128]){}, 128), \
                        expected((in), (by), (signal_number), (kill_after), (why)))

START_TEST(law47_what_reaches_whom)
{
        int fds[3], truncated;
        pid_t told = sleeper(&fds[0]), silent = sleeper(&fds[1]), killed = sleeper(&fds[2]);

        OK(bus, "Create", "sa{sv}", "m/n", 1, "parents", "b", 1);
        OK(bus, "Attach", "sha{sv}", "m", fds[0], 2, "signal", "i", SIGUSR1, "kill-after-usec", "t",
                        UINT64_C(7000000));
        OK(bus, "Attach", "sha{sv}", "m/n", fds[1], 0);
        OK(bus, "Attach", "sha{sv}", "m", fds[2], 1, "kill-after-usec", "t", UINT64_C(600000000));
        ENDS(bus, "m", told, "m", getuid(), SIGUSR1, 7000000, "");
        ENDS(bus, "m", silent, "m/n", getuid(), 0, -1, "without");
        ENDS(bus, "m", killed, "m", getuid(), 0, 600000000, "without");
        _cleanup_message_ sd_bus_message *alone = CALL(bus, "Endings", "sbu", "m/n", 0, 1);
        ck_assert_int_ge(sd_bus_message_skip(alone, "a(uta{sv})"), 0);
        READ(alone, "b", &truncated);
        ck_assert(!truncated);
        _cleanup_message_ sd_bus_message *cut = CALL(bus, "Endings", "sbu", "m", 1, 2);
        ck_assert_int_ge(sd_bus_message_skip(cut, "a(uta{sv})"), 0);
        READ(cut, "b", &truncated);
        ck_assert(truncated);
        cancel(bus, "m", "");
        ENDS(bus, "m", silent, "m/n", getuid(), 0, -1, "without");
        end_process(told);
        end_process(silent);
        end_process(killed);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                close(fds[i]);
}
END_TEST

/* Lets a thread of ours enter; what an entry holds is in thread-page.h. */
static void enter(sd_bus *b, const char *path, uint64_t id, struct thread_page **page, unsigned entry,
                uint32_t tid)
{
        _cleanup_message_ sd_bus_message *threads = CALL(b, "Threads", "s", path);
        int fd, kick;

        READ(threads, "hh", &fd, &kick);
        if (!*page)
                *page = mmap(NULL, sizeof **page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ck_assert_ptr_ne(*page, MAP_FAILED);
        (*page)->entries[entry] = (struct thread_entry){.tid = tid, .context_id = id, .since_usec = 1};
}

static void *pause_in_thread(void *tid)
{
        __atomic_store_n((uint32_t *) tid, (uint32_t) gettid(), __ATOMIC_RELEASE);
        pause();
        return NULL;
}

/* The rows of "entered": context, pid and how many threads. */
static unsigned entered_rows(sd_bus *b, const char *path, bool recursive, char ret[][128])
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Endings", "sbu", path, (int) recursive, 0);
        const char *key, *text, *in = "?";
        uint32_t pid, threads;
        uint64_t start;
        unsigned n = 0;

        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "(uta{sv})"), 1);
        while (sd_bus_message_enter_container(m, 'r', "uta{sv}") > 0) {
                bool is_entered = false;

                threads = 0;
                READ(m, "ut", &pid, &start);
                ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "{sv}"), 1);
                while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                        READ(m, "s", &key);
                        if (strcmp(key, "threads") == 0)
                                READ(m, "v", "u", &threads);
                        else if (strcmp(key, "unsignalled") == 0 || strcmp(key, "context") == 0) {
                                READ(m, "v", "s", &text);
                                is_entered = is_entered || strcmp(text, "entered") == 0;
                                in = strcmp(key, "context") == 0 ? text : in;
                        } else
                                ck_assert_int_ge(sd_bus_message_skip(m, "v"), 0);
                        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
                }
                ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
                ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
                ck_assert(is_entered == (threads > 0));
                if (is_entered) {
                        ck_assert_uint_lt(now_boottime_usec() - start, UINT64_C(600000000));
                        snprintf(ret[n++], 128, "%.*s %u %u", (int) strcspn(in, "#"), in, pid, threads);
                }
        }
        return n;
}

static uint32_t members_of_preview(sd_bus *b, const char *path)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Preview", "su", path, 0);
        uint32_t contexts, members;

        READ(m, "uu", &contexts, &members);
        return members;
}

/* They are counted by Cancel and Preview, and no signal is sent to them. */
static void who_has_entered(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        struct thread_page *page = NULL;
        uint32_t tid = 0;
        uint64_t m, n;
        pthread_t thread;
        char rows[4][128], wanted[2][128];
        int fd, truncated;
        pid_t told = sleeper(&fd);

        ck_assert_int_eq(pthread_create(&thread, NULL, pause_in_thread, &tid), 0);
        ck_assert_happens(__atomic_load_n(&tid, __ATOMIC_ACQUIRE) != 0);
        m = create(b, "m");
        n = create(b, "m/n");
        OK(b, "Attach", "sha{sv}", "m", fd, 1, "signal", "i", SIGUSR1);
        ck_assert_uint_eq(entered_rows(b, "m", true, rows), 0);
        enter(b, "m", m, &page, 0, (uint32_t) getpid());
        enter(b, "m", m, &page, 1, tid);
        enter(b, "m/n", n, &page, 2, tid);
        snprintf(wanted[0], sizeof wanted[0], "m %d 2", getpid());
        snprintf(wanted[1], sizeof wanted[1], "m/n %d 1", getpid());
        ck_assert_uint_eq(entered_rows(b, "m", false, rows), 1);
        ck_assert_str_eq(rows[0], wanted[0]);
        ck_assert_uint_eq(entered_rows(b, "m", true, rows), 2);
        bool is_first = strcmp(rows[0], wanted[0]) == 0;
        ck_assert_str_eq(rows[!is_first], wanted[0]);
        ck_assert_str_eq(rows[is_first], wanted[1]);
        ck_assert_uint_eq(members_of_preview(b, "m"), 4);
        ENDS(b, "m", told, "m", getuid(), SIGUSR1, 10000000, "");
        for (int limit = 1; limit <= 3; limit++) {
                _cleanup_message_ sd_bus_message *cut = CALL(b, "Endings", "sbu", "m", 1, limit);
                ck_assert_int_ge(sd_bus_message_skip(cut, "a(uta{sv})"), 0);
                READ(cut, "b", &truncated);
                ck_assert(truncated == (limit < 3));
        }
        memset(page->entries, 0, sizeof page->entries);
        ck_assert_uint_eq(entered_rows(b, "m", true, rows), 0);
        munmap(page, sizeof *page);
        end_process(told);
        close(fd);
}

START_TEST(law47_who_has_entered)
{
        wait_for(spawn(who_has_entered, NULL));
}
END_TEST

static volatile sig_atomic_t got;

static void get(int signal_number)
{
        got = 1;
}

/* It forks to clean up. Start times are in ticks of the kernel's clock, so it takes its time. */
static void cleans_up(int in, int out)
{
        static const struct timespec some = {.tv_nsec = 50000000};
        sigset_t term, before;
        pid_t child;

        (void) signal(SIGTERM, get);
        sigemptyset(&term);
        sigaddset(&term, SIGTERM);
        sigprocmask(SIG_BLOCK, &term, &before);
        puppet_say(out, '!');
        while (!got)
                sigsuspend(&before);
        nanosleep(&some, NULL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        child = fork();
        if (child == 0)
                puppet_pause(in, out);
        if (write(out, &child, sizeof child) != sizeof child)
                _exit(1);
        puppet_pause(in, out);
}

static bool is_helper(pid_t pid)
{
        char text[128];

        return strcmp(ending_of(bus, "m", pid, text, sizeof text),
                               expected("m", getuid(), SIGTERM, -1, "helper")) == 0;
}

START_TEST(law47_a_helper)
{
        struct puppet p = puppet_start(cleans_up);
        pid_t child;

        ck_assert_int_eq(puppet_said(&p), '!');
        create(bus, "m");
        OK(bus, "Attach", "sha{sv}", "m", p.pidfd, 2, "signal", "i", SIGTERM, "kill-after-usec", "t",
                        UINT64_MAX);
        cancel(bus, "m", "");
        ck_assert(puppet_read(&p, &child, sizeof child));
        ck_assert_happens(is_helper(child));
        ENDS(bus, "m", p.pid, "m", getuid(), SIGTERM, -1, "");
        puppet_end(&p);
        kill(child, SIGKILL);
}
END_TEST

/* Alice, who may become root. */
static void turncoat(int in, int out)
{
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2] = {};

        (void) signal(SIGTERM, SIG_IGN);
        data[0].permitted = data[0].effective = 1U << CAP_SETUID;
        if (prctl(PR_SET_KEEPCAPS, 1) < 0 || setresgid(ALICE, ALICE, ALICE) < 0 ||
                        setresuid(ALICE, ALICE, ALICE) < 0 || syscall(SYS_capset, &header, data) < 0)
                _exit(1);
        puppet_say(out, '!');
        (void) puppet_told(in);
        if (setresuid(0, 0, ALICE) < 0)
                _exit(1);
        puppet_say(out, '!');
        (void) puppet_told(in);
        if (setresuid(ALICE, ALICE, ALICE) < 0)
                _exit(1);
        puppet_say(out, '!');
        puppet_pause(in, out);
}

static void alice_attaches(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "~/job", 0);
        OK(b, "Attach", "sha{sv}", "~/job", *(int *) userdata, 2, "signal", "i", SIGTERM, "kill-after-usec",
                        "t", UINT64_MAX);
}

START_TEST(law47_who_runs_as_another)
{
        struct puppet p = puppet_start(turncoat), roots = puppet_start(turncoat);

        ck_assert_int_eq(puppet_said(&p), '!');
        ck_assert_int_eq(puppet_said(&roots), '!');
        run_as(ALICE, alice_attaches, &p.pidfd);
        OK(bus, "Attach", "sha{sv}", "user-1001/job", roots.pidfd, 2, "signal", "i", SIGTERM,
                        "kill-after-usec", "t", UINT64_MAX);
        ENDS(bus, "user-1001", p.pid, "user-1001/job", ALICE, SIGTERM, -1, "");
        puppet_tell(&p, 'x');
        puppet_tell(&roots, 'x');
        ck_assert_int_eq(puppet_said(&p), '!');
        ck_assert_int_eq(puppet_said(&roots), '!');
        ENDS(bus, "user-1001", p.pid, "user-1001/job", ALICE, SIGTERM, -1, "user");
        ENDS(bus, "user-1001", roots.pid, "user-1001/job", 0, SIGTERM, -1, "");
        cancel(bus, "user-1001/job", "");
        ENDS(bus, "user-1001", p.pid, "user-1001/job", ALICE, SIGTERM, -1, "user");
        ENDS(bus, "user-1001", roots.pid, "user-1001/job", 0, SIGTERM, -1, "");
        puppet_tell(&p, 'x');
        ck_assert_int_eq(puppet_said(&p), '!');
        ENDS(bus, "user-1001", p.pid, "user-1001/job", ALICE, SIGTERM, -1, "missed");
        puppet_end(&p);
        puppet_end(&roots);
}
END_TEST

Suite *suite_endings(void)
{
        Suite *s = suite_create("endings");

        ADD_TESTS(s, "endings", start_retaining, law47_what_reaches_whom, law47_who_has_entered,
                        law47_a_helper);
        return s;
}

Suite *suite_endings_of_uids(void)
{
        Suite *s = suite_create("endings of others");

        ADD_TESTS(s, "endings", start_retaining, law47_who_runs_as_another);
        return s;
}
