/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The thread page: whatever a process writes into its own, at any time, makes nothing of another process a
 * member, and keeps no context from becoming done. Here the process is this one, and a victim is another. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/engine/engine.h"
#include "util/clock.h"
#include "proto/thread-page.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/world.h"

#define STEPS_MAX 128

static struct process *self;
static int page = -1, kick = -1; /* the daemon's own, as the process has them */

static const char *const paths[] = {"a", "a/b", "b"};

static struct context *find(unsigned i)
{
        struct caller caller = {.comm = "fuzz"};
        struct context *c = NULL;
        struct refused refused;

        (void) tree_find(world.tree, &caller, paths[i], &c, &refused);
        return c;
}

static void make(unsigned i)
{
        struct create_options options = {.deadline_usec = UINT64_MAX, .mode = CONTEXT_MODE_INHERIT};
        struct caller caller = {.comm = "fuzz"};
        struct refused refused;
        struct context *c;

        (void) tree_create(world.tree, now_boottime_usec(), &caller, paths[i], &options, &c, &refused);
}

static void name_context(struct context *c)
{
        struct refused refused = {};
        int p, k, r;

        r = engine_threads(world.engine, self, c, &p, &k, &refused);
        if (r < 0) {
                REQUIRE(r == -EALREADY || r == -EDQUOT);
                return;
        }
        page = p;
        kick = k;
}

static void change(struct input *in)
{
        unsigned i = input_choice(in, 3), what = input_choice(in, 6);
        struct policy policy = {.kill_after_usec = UINT64_MAX};
        struct refused refused;
        struct context *c;
        uint32_t n;

        if (what == 0)
                make(i);
        c = find(i);
        if (!c)
                return;
        if (what <= 2)
                name_context(c);
        else if (what == 3)
                (void) engine_attach(world.engine, &caller_daemon, c, victims[i].pidfd, &policy, &refused);
        else if (what == 4)
                (void) tree_cancel(world.tree, now_boottime_usec(), &caller_daemon, c, NULL, &n, &refused);
        else
                (void) tree_release(world.tree, now_boottime_usec(), &caller_daemon, c, &refused);
        service_drain(&world.service, NULL);
}

static void write_entry(struct input *in)
{
        struct thread_entry entry = {};
        unsigned i = input_byte(in), who = input_byte(in), which = input_byte(in);

        if (page < 0)
                return;
        entry.tid = who < 128   ? (uint32_t) getpid()
                    : who < 160 ? 0
                    : who < 192 ? (uint32_t) victims[0].pid
                                : (uint32_t) input_raw(in, 4);
        entry.context_id = which < 240 ? which % 6 : input_raw(in, 8);
        entry.since_usec = input_number(in);
        i = i < 250 ? i % 8 : THREAD_PAGE_ENTRIES - 1 - (i - 250);
        REQUIRE(pwrite(page, &entry, sizeof entry,
                                (off_t) (sizeof(struct thread_page_header) + i * sizeof entry)) ==
                        sizeof entry);
}

/* Anything, anywhere in it; and what a client may try with a descriptor that it shares. */
static void write_anything(struct input *in)
{
        off_t at = (off_t) (input_raw(in, 2) % sizeof(struct thread_page));
        uint8_t bytes[512];
        size_t n;

        n = input_bytes(in, bytes, sizeof bytes);
        if (page < 0)
                return;
        if (at + (off_t) n <= (off_t) sizeof(struct thread_page))
                REQUIRE(pwrite(page, bytes, n, at) == (ssize_t) n);
        switch (input_choice(in, 8)) {
        case 0:
                REQUIRE(ftruncate(page, at) < 0 || at == sizeof(struct thread_page));
                break;
        case 1:
                (void) fallocate(page, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 4096);
                break;
        case 2:
                (void) fcntl(kick, F_SETFL, 0); /* a read of nothing would now wait */
                break;
        case 3:
                (void) fcntl(page, F_ADD_SEALS, F_SEAL_WRITE);
                break;
        default:
                break;
        }
}

static void kick_it(struct input *in)
{
        uint64_t n = input_byte(in);

        if (kick < 0)
                return;
        (void) fcntl(kick, F_SETFL, O_NONBLOCK); /* for us */
        (void) eventfd_write(kick, n < 250 ? n : UINT64_MAX - 1);
        if (n & 1)
                (void) fcntl(kick, F_SETFL, 0);
}

/* Of this process there are members by its own word, and each is a thread of it; of others those that were
 * attached. */
static void look(void)
{
        for (unsigned i = 0; i < 3; i++) {
                struct context *c = find(i);
                struct member_task *tasks;
                size_t n;

                if (!c || engine_tasks(world.engine, c, true, &tasks, &n) < 0)
                        continue;
                for (size_t k = 0; k < n; k++) {
                        REQUIRE(tasks[k].context && context_is_below(tasks[k].context, c));
                        if (tasks[k].has_entered)
                                REQUIRE(tasks[k].pid == (uint32_t) getpid());
                        else
                                REQUIRE(tasks[k].pid != (uint32_t) getpid());
                }
                (void) engine_count_members(world.engine, c, true);
                free(tasks);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {data, data + size};

        world_start();
        world.tree->retain_usec = 1000;
        REQUIRE(engine_process_open_pid(world.engine, getpid(), &self) == 0);
        for (unsigned i = 0; i < 3; i++)
                make(i);
        for (unsigned i = 0; i < STEPS_MAX && !input_is_empty(&in); i++) {
                switch (input_choice(&in, 8)) {
                case 0:
                case 1:
                        change(&in);
                        break;
                case 2:
                case 3:
                case 4:
                        write_entry(&in);
                        break;
                case 5:
                        write_anything(&in);
                        break;
                case 6:
                        look();
                        break;
                default:
                        kick_it(&in);
                }
                world_run();
                tree_check(world.tree);
        }
        look();
        self = engine_process_close(self);
        page = kick = -1;
        world_stop();
        return 0;
}
