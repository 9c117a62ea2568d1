/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The daemon may open 1,024 descriptors, as in many containers. A user who fills this table is refused, and
 * all others go on working. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "harness.h"
#include "raw.h"

#define TABLE 1024
#define MANAGER CTXD_OBJECT, CTXD_MANAGER_INTERFACE

static void start_small_table(void)
{
        world.table = TABLE;
        world_start("RetainSec=10min\n", NULL);
}

/* As alice: takes all that she can get, and keeps it. */
struct hog {
        int ready[2], go[2];
        unsigned taken;
};

static void hog_init(struct hog *h)
{
        ck_assert_int_eq(pipe(h->ready), 0);
        ck_assert_int_eq(pipe(h->go), 0);
}

static void hog_stays(const struct hog *h, unsigned taken)
{
        char byte;

        ck_assert_int_eq(write(h->ready[1], &taken, sizeof taken), sizeof taken);
        ck_assert_int_eq(read(h->go[0], &byte, 1), 1);
}

static unsigned hog_has(const struct hog *h)
{
        unsigned taken;

        ck_assert_int_eq(read(h->ready[0], &taken, sizeof taken), sizeof taken);
        return taken;
}

static void hog_ends(const struct hog *h, pid_t pid)
{
        ck_assert_int_eq(write(h->go[1], "", 1), 1);
        wait_for(pid);
        for (int i = 0; i < 2; i++) {
                close(h->ready[i]);
                close(h->go[i]);
        }
}

static void works(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        work(b, 20);
}

static void take_connections(void *userdata)
{
        static int fds[2000];
        unsigned taken = 0;

        for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                fds[i] = raw_connect();
                taken += fds[i] >= 0;
        }
        hog_stays(userdata, taken);
}

static void take_handles(void *userdata)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_ sd_bus *b = connect_bus();
        unsigned taken = 0;
        char path[32];

        for (; taken < 2 * TABLE; taken++) {
                _cleanup_message_ sd_bus_message *reply = NULL;

                snprintf(path, sizeof path, "~/%u", taken);
                OK(b, "Create", "sa{sv}", path, 0);
                if (sd_bus_call_method(b, CTXD_BUS_NAME, MANAGER, taken % 2 ? "Done" : "Drained", &error,
                                    &reply, "s", path) < 0)
                        break;
        }
        ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
        ck_assert_ptr_nonnull(strstr(error.message, "LimitNOFILE"));
        hog_stays(userdata, taken);
        OK(b, "Release", "s", "~");
}

struct as_alice {
        void (*fn)(void *userdata);
        struct hog hog;
};

static void be_alice(void *userdata)
{
        struct as_alice *a = userdata;

        run_as(ALICE, a->fn, &a->hog);
}

static void others_work_beside(void (*fn)(void *userdata))
{
        struct as_alice a = {.fn = fn};
        unsigned taken, before;
        pid_t pid;

        create(bus, "before");
        work(bus, 1);
        before = settled_fds();
        hog_init(&a.hog);
        pid = spawn(be_alice, &a);
        taken = hog_has(&a.hog);
        ck_assert_uint_gt(taken, 20);
        ck_assert_uint_lt(taken, TABLE);
        run_as(BOB, works, NULL);
        work(bus, 20);
        /* A client that was there before is served. */
        ck_assert(cancel(bus, "before", ""));
        hog_ends(&a.hog, pid);
        expect_fds(before);
        /* There is room again. */
        run_as(ALICE, works, NULL);
}

START_TEST(a_crowd_of_connections_leaves_room)
{
        others_work_beside(take_connections);
}
END_TEST

START_TEST(a_heap_of_handles_leaves_room)
{
        others_work_beside(take_handles);
}
END_TEST

/* The kernel counts descriptors that are sent but not read against the daemon's uid. So each client may
 * have only a few of them. */
static void do_not_read(void *userdata)
{
        const struct hog *h = userdata;
        unsigned refused = 0, sent = 0;
        char name[128], path[32];
        int fd = raw_connect(), type;
        struct raw m;

        for (; sent < 300; sent++) {
                snprintf(path, sizeof path, "shared/%u", sent % 60);
                raw_begin(&m, sent + 1, MANAGER, "Done", "s");
                raw_text(&m, path);
                raw_end(&m);
                raw_write(fd, m.bytes, m.n);
        }
        hog_stays(h, sent);
        /* Now the client reads everything. Answers without a descriptor say so, and the next call gets one
         * again. */
        for (unsigned i = 0; i < sent; i++) {
                type = raw_read(fd, name);
                ck_assert(type == 2 || (type == 3 && strcmp(name, CTXD_ERROR_LIMITS_EXCEEDED) == 0));
                refused += type == 3;
        }
        ck_assert_uint_gt(refused, 100);
        ck_assert_uint_lt(refused, 290);
        raw_write(fd, m.bytes, m.n);
        ck_assert_int_eq(raw_read(fd, name), 2);
        close(fd);
}

static void be_alice_who_does_not_read(void *userdata)
{
        run_as(ALICE, do_not_read, userdata);
}

START_TEST(descriptors_that_nobody_reads)
{
        char path[32];
        struct hog h;
        pid_t pid;

        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0744);
        for (int i = 0; i < 60; i++) {
                snprintf(path, sizeof path, "shared/%d", i);
                create(bus, path);
        }
        /* The daemon does not keep handles of contexts that are done. */
        ck_assert(cancel(bus, "shared", ""));
        hog_init(&h);
        pid = spawn(be_alice_who_does_not_read, &h);
        (void) hog_has(&h);
        run_as(BOB, works, NULL);
        work(bus, 20);
        hog_ends(&h, pid);
}
END_TEST

/* It has sent its authentication before the daemon accepts it. */
START_TEST(the_first_call_brings_a_descriptor)
{
        _cleanup_bus_ sd_bus *b = NULL;
        _cleanup_close_ int pidfd = open_pidfd(getpid());

        ck_assert_int_ge(pidfd, 0);
        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        ck_assert_int_ge(sd_bus_new(&b), 0);
        ck_assert_int_ge(sd_bus_set_address(b, world.daemon.address), 0);
        ck_assert_int_ge(sd_bus_start(b), 0);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        OK(b, "Create", "sa{sv}", "a", 1, "owner", "h", pidfd);
}
END_TEST

Suite *suite_descriptors(void)
{
        Suite *s = suite_create("descriptors");

        if (world.transport == TRANSPORT_DIRECT)
                ADD_TESTS(s, "descriptors", start_small_table, a_crowd_of_connections_leaves_room,
                                a_heap_of_handles_leaves_room, descriptors_that_nobody_reads,
                                the_first_call_brings_a_descriptor);
        add_unsent(s);
        return s;
}
