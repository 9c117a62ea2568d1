/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Handles for which so many wait that to write them takes long. */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"

/* Alice has epoll sets wait for her done handles, so that a cancel has to wake them all. */
#define SETS 400
#define COPIES 400
#define EXPENSIVE 5

struct watcher {
        int ready[2], go[2];
};

static void watch(void *userdata)
{
        static int sets[SETS];
        const struct watcher *w = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        int handles[EXPENSIVE];
        struct epoll_event event = {.events = EPOLLIN};
        char path[32], byte;

        for (unsigned i = 0; i < SETS; i++)
                ck_assert_int_ge(sets[i] = epoll_create1(EPOLL_CLOEXEC), 0);
        for (unsigned k = 0; k < EXPENSIVE; k++) {
                int copies[COPIES];

                snprintf(path, sizeof path, "shared/%u", k);
                handles[k] = done_handle(b, path);
                for (unsigned i = 0; i < COPIES; i++) {
                        ck_assert_int_ge(copies[i] = fcntl(handles[k], F_DUPFD_CLOEXEC, 3), 0);
                        for (unsigned n = 0; n < SETS; n++)
                                ck_assert_int_eq(epoll_ctl(sets[n], EPOLL_CTL_ADD, copies[i], &event), 0);
                }
        }
        ck_assert_int_eq(write(w->ready[1], "", 1), 1);
        for (unsigned k = 0; k < EXPENSIVE; k++)
                ck_assert(becomes_readable(handles[k]));
        ck_assert_int_eq(write(w->ready[1], "", 1), 1);
        ck_assert_int_eq(read(w->go[0], &byte, 1), 1);
        /* The descriptors are closed with the process. */
        _exit(0);
}

static void be_watcher(void *userdata)
{
        const struct rlimit many = {4096, 4096};

        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &many), 0);
        run_as(ALICE, watch, userdata);
}

/* How long the daemon has been on a processor. */
static uint64_t daemon_nsec(void)
{
        unsigned long long nsec;
        char path[64];
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/schedstat", world.daemon.pid);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        ck_assert_int_eq(fscanf(f, "%llu", &nsec), 1);
        fclose(f);
        return nsec;
}

START_TEST(a_handle_for_which_many_wait)
{
        uint64_t spent[EXPENSIVE];
        struct watcher w;
        char path[32], byte;
        pid_t pid;

        if (access("/proc/self/schedstat", R_OK) < 0)
                return;
        ck_assert_int_eq(pipe(w.ready), 0);
        ck_assert_int_eq(pipe(w.go), 0);
        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0744);
        for (unsigned i = 0; i < EXPENSIVE; i++) {
                snprintf(path, sizeof path, "shared/%u", i);
                create(bus, path);
        }
        pid = spawn(be_watcher, &w);
        ck_assert_int_eq(read(w.ready[0], &byte, 1), 1);
        for (unsigned i = 0; i < EXPENSIVE; i++) {
                uint64_t before = daemon_nsec();

                snprintf(path, sizeof path, "shared/%u", i);
                ck_assert(cancel(bus, path, ""));
                work(bus, 1);
                spent[i] = daemon_nsec() - before;
        }
        /* All handles are written, but the daemon has woken the first one alone. */
        ck_assert_int_eq(read(w.ready[0], &byte, 1), 1);
        for (unsigned i = 1; i < EXPENSIVE; i++)
                ck_assert_msg(spent[i] < spent[0] / 4, "%" PRIu64 " us, and number %u %" PRIu64,
                                spent[0] / 1000, i, spent[i] / 1000);
        ck_assert_int_eq(write(w.go[1], "", 1), 1);
        wait_for(pid);
        work(bus, 20);
        for (int i = 0; i < 2; i++) {
                close(w.ready[i]);
                close(w.go[i]);
        }
}
END_TEST

void add_wakes(Suite *s)
{
        ADD_TESTS(s, "wakes", start_retaining, a_handle_for_which_many_wait);
}
