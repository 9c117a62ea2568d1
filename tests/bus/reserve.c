/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Alice has used up the memory or the descriptors of the daemon. Root's `ctxctl cancel` works all the same,
 * which is how it gets them back, and the log says once what has happened, and who has the most. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "raw.h"
#include "tests/world/group.h"

#define HEADROOM (8 * UINT64_C(1024) * 1024)
#define TABLE 300
#define CROWD_MAX 200

/* Alice, or several users, have taken all that they can get, and keep it. */
struct crowd {
        int ready[2], go[2];
        pid_t pid;
};

static void crowd_start(struct crowd *c, uid_t uid, void (*fn)(void *userdata))
{
        char byte;

        ck_assert(pipe(c->ready) == 0 && pipe(c->go) == 0);
        c->pid = spawn_as(uid, fn, c);
        close(c->ready[1]);
        ck_assert_int_eq(read(c->ready[0], &byte, 1), 1);
}

static void crowd_stays(const struct crowd *c)
{
        char byte;

        ck_assert_int_eq(write(c->ready[1], "", 1), 1);
        ck_assert_int_eq(read(c->go[0], &byte, 1), 1);
}

static void crowd_ends(const struct crowd *c)
{
        ck_assert_int_eq(write(c->go[1], "", 1), 1);
        wait_for(c->pid);
        close(c->ready[0]);
        close(c->go[0]);
        close(c->go[1]);
}

/* Bounds the running daemon. Returns what held before. */
static struct rlimit bound(__rlimit_resource_t resource, uint64_t value)
{
        struct rlimit before, limit;

        ck_assert_int_eq(prlimit(world.daemon.pid, resource, NULL, &before), 0);
        limit = (struct rlimit){value, before.rlim_max};
        ck_assert_int_eq(prlimit(world.daemon.pid, resource, &limit, NULL), 0);
        return before;
}

static void unbind(__rlimit_resource_t resource, struct rlimit before)
{
        ck_assert_int_eq(prlimit(world.daemon.pid, resource, &before, NULL), 0);
}

/* What it has of that now. */
static uint64_t used(__rlimit_resource_t resource)
{
        uintmax_t space, data;
        char path[64];
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/statm", world.daemon.pid);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        ck_assert_int_eq(fscanf(f, "%ju %*u %*u %*u %*u %ju", &space, &data), 2);
        fclose(f);
        return (resource == RLIMIT_AS ? space : data) * (uint64_t) getpagesize();
}

/* As root, who has no connection yet. */
static void ctxctl_works(const char *arguments)
{
        char command[256];
        int status;

        ck_assert_int_eq(setenv("CTXD_ADDRESS", world.daemon.address, 1), 0);
        snprintf(command, sizeof command, "\"$CTXCTL_PROGRAM\" %s >/dev/null", arguments);
        status = system(command);
        ck_assert_msg(status == 0, "ctxctl %s: wait status 0x%x; the daemon says:\n%s", arguments, status,
                        daemon_log());
}

static void expect_said_once(const char *what, const char *who)
{
        _cleanup_free_ char *text = daemon_log();
        const char *said = strstr(text, what);

        ck_assert_msg(said && strstr(said, who), "\"%s\" and \"%s\" is not said: %s", what, who, text);
        ck_assert_msg(!strstr(said + 1, what), "it is said more than once: %s", text);
}

/* A connection may be refused; then its calls fail. */
static sd_bus *try_to_connect(void)
{
        sd_bus *b = NULL;

        ck_assert_int_ge(sd_bus_new(&b), 0);
        ck_assert_int_ge(sd_bus_set_address(b, world.daemon.address), 0);
        (void) sd_bus_start(b);
        return b;
}

/* Makes a context with so many bytes. False: there is no memory for it. */
static bool make_large(sd_bus **b, unsigned n, size_t size)
{
        static char value[60001];
        char path[32];

        snprintf(path, sizeof path, "~/%u", n);
        memset(value, 'x', size);
        value[size] = '\0';
        for (int i = 0; i < 2; i++) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

                int r = sd_bus_call_method(*b, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Create",
                                &error, NULL, "sa{sv}", path, 2, "open", "b", 1, "values", "a{ss}", 1,
                                "org.example.x", value);

                ck_assert_int_ne(r, -ETIMEDOUT); /* it is answered, or disconnected */
                if (r >= 0)
                        return true;
                if (sd_bus_error_has_name(&error, SD_BUS_ERROR_NO_MEMORY))
                        return false;
                /* The daemon has closed the connection, for which there was no memory. */
                sd_bus_close_unref(*b);
                *b = try_to_connect();
        }
        return false;
}

static void use_up_memory(void *userdata)
{
        static const size_t sizes[] = {60000, 4000, 100, 0};
        _cleanup_bus_ sd_bus *b = connect_bus();
        unsigned n = 0;

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
                while (make_large(&b, n, sizes[i]))
                        ck_assert_uint_lt(++n, 200000);
        ck_assert_uint_gt(n, 50);
        crowd_stays(userdata);
}

static void without_memory(__rlimit_resource_t resource)
{
        struct rlimit before;
        struct crowd crowd;

#ifdef __SANITIZE_ADDRESS__
        return; /* the sanitizer has terabytes of address space */
#endif
        before = bound(resource, used(resource) + HEADROOM);
        crowd_start(&crowd, ALICE, use_up_memory);
        ctxctl_works("status");
        for (int i = 0; i < 3; i++)
                ctxctl_works("status user-1001");
        ctxctl_works("cancel user-1001 full");
        ck_assert_int_eq(code_of(bus, "user-1001/0"), ECANCELED);
        ctxctl_works("release user-1001");
        expect_said_once("No memory is left", "uid 1001 has the most contexts");
        crowd_ends(&crowd);
        /* All can go on under the same limit. */
        ck_assert(HAPPENS(count_listed(bus, "/") == 0));
        create(bus, "after");
        unbind(resource, before);
}

START_TEST(no_address_space)
{
        without_memory(RLIMIT_AS);
}
END_TEST

/* This is the limit that the unit sets. */
START_TEST(no_data)
{
        without_memory(RLIMIT_DATA);
}
END_TEST

#define GROUP_BYTES (UINT64_C(48) * 1024 * 1024)

/* NULL: it cannot be. */
static const char *enter_bounded_group(void)
{
        const char *group = group_missing() ? NULL : group_controlled("memory");
        char bytes[32];

        if (!group) {
                puts("# skipped: no control group can bound memory");
                return NULL;
        }
        snprintf(bytes, sizeof bytes, "%ju", (uintmax_t) GROUP_BYTES);
        ck_assert(group_write(group, "memory.max", bytes) ||
                        group_write(group, "memory.limit_in_bytes", bytes));
        (void) group_write(group, "memory.swap.max", "0");
        group_enter(group, world.daemon.pid);
        return group;
}

/* A daemon of the test's own, in such a group. False: there can be none. */
static bool start_in_group(struct daemon *own)
{
        daemon_start(own, "[Daemon]\nProbe=off\n");
        world.daemon = *own;
        if (enter_bounded_group())
                return true;
        daemon_stop(own);
        return false;
}

static void end_in_group(struct daemon *own, const struct daemon *shared)
{
        daemon_stop(own);
        world.daemon = *shared;
        group_remove_left();
}

/* As its unit has it: LimitDATA= is below MemoryMax=. So calls fail, and the kernel does not kill it. */
START_TEST(no_data_in_a_bounded_group)
{
        struct daemon own = {}, shared = world.daemon;
        sd_bus *before = bus;

        if (!start_in_group(&own))
                return;
        bus = connect_bus();
        without_memory(RLIMIT_DATA);
        ck_assert_int_eq(waitpid(own.pid, NULL, WNOHANG), 0); /* it lives */
        sd_bus_close_unref(bus);
        bus = before;
        end_in_group(&own, &shared);
}
END_TEST

static void use_up_group(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        for (unsigned n = 0; n < 100000 && make_large(&b, n, 60000); n++)
                ;
}

/* Without that limit the kernel kills the daemon where the group is full. The next one serves. */
START_TEST(a_bounded_group_is_full)
{
        struct daemon own = {}, shared = world.daemon;
        sd_bus *b;
        int status = 0;

        if (!start_in_group(&own))
                return;
        wait_for(spawn_as(ALICE, use_up_group, NULL));
        ck_assert_happens(waitpid(own.pid, &status, WNOHANG) == own.pid);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        daemon_again(&own);
        b = connect_bus();
        create(b, "after");
        sd_bus_close_unref(b);
        end_in_group(&own, &shared);
}
END_TEST

static void make_one(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        create(b, "~/x");
}

static void use_up_connections(void *userdata)
{
        int fds[CROWD_MAX];
        unsigned n = 0;

        while (n < CROWD_MAX && (fds[n] = raw_connect()) >= 0)
                n++;
        ck_assert_uint_lt(n, CROWD_MAX);
        crowd_stays(userdata);
        while (n > 0)
                close(fds[--n]);
}

START_TEST(no_descriptor)
{
        struct rlimit before;
        struct crowd crowd;

        run_as(ALICE, make_one, NULL);
        before = bound(RLIMIT_NOFILE, world.fds + 12);
        crowd_start(&crowd, ALICE, use_up_connections);
        for (int i = 0; i < 3; i++)
                ctxctl_works("status user-1001");
        ctxctl_works("cancel user-1001");
        ck_assert_int_eq(code_of(bus, "user-1001/x"), ECANCELED);
        expect_said_once("No descriptor is left", "uid 1001 has the most");
        crowd_ends(&crowd);
        unbind(RLIMIT_NOFILE, before);
}
END_TEST

static void start_small_table(void)
{
        world.table = TABLE;
        world_start("RetainSec=10min\n", NULL);
}

/* What no single user may take many can: each of them gets a share of what is left. */
START_TEST(no_descriptor_for_any_user)
{
        struct crowd crowds[8];

        run_as(ALICE, make_one, NULL);
        for (size_t i = 0; i < ELEMENTSOF(crowds); i++)
                crowd_start(&crowds[i], (uid_t) (ALICE + i), use_up_connections);
        for (int i = 0; i < 3; i++)
                ctxctl_works("status user-1001");
        ctxctl_works("cancel user-1001");
        ck_assert_int_eq(code_of(bus, "user-1001/x"), ECANCELED);
        for (size_t i = 0; i < ELEMENTSOF(crowds); i++)
                crowd_ends(&crowds[i]);
}
END_TEST

Suite *suite_reserve(void)
{
        Suite *s = suite_create("reserve");

        ADD_TESTS(s, "reserve", start_retaining, no_address_space, no_descriptor);
        ADD_TESTS(s, "data", start_retaining, no_data);
        ADD_TESTS(s, "group", start_retaining, no_data_in_a_bounded_group, a_bounded_group_is_full);
        ADD_TESTS(s, "table", start_small_table, no_descriptor_for_any_user);
        return s;
}
