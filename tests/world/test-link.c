/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/clock.h"
#include "proto/probe-record.h"
#include "tests/world/world.h"

/* The link, with the test itself as the probe: what it says right, and what it says wrong. */

static char directory[] = "/tmp/ctxd-test-XXXXXX", socket_path[64];
static const struct policy quiet = {.signal = 0, .kill_after_usec = CTXD_USEC_INFINITY};

static void start(uid_t uid, enum probe_mode mode)
{
        struct probe_options options = {.mode = mode, .uid = uid};

        world_start();
        strcpy(directory + strlen(directory) - 6, "XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(socket_path, sizeof socket_path, "%s/probe", directory);
        options.socket = socket_path;
        ck_assert_int_eq(engine_start(world.engine, &options), 0);
}

static void link_start(void)
{
        start(getuid(), PROBE_MODE_AUTO);
}

static void link_stop(void)
{
        world_stop();
        ck_assert_int_lt(access(socket_path, F_OK), 0);
        ck_assert_int_eq(rmdir(directory), 0);
}

static int connect_probe(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, socket_path);
        ck_assert_int_eq(connect(fd, (struct sockaddr *) &address, sizeof address), 0);
        return fd;
}

static bool has_nothing(void *userdata)
{
        return !is_readable(*(int *) userdata);
}

/* The next record from ctxd; 0 at the end of the connection. */
static size_t take(int fd, void *record, size_t size)
{
        ssize_t n;

        run_while(has_nothing, &fd);
        n = recv(fd, record, size, 0);
        return n > 0 ? (size_t) n : 0; /* what it left unread makes the end a reset */
}

static void give(int fd, const void *record, size_t size)
{
        ck_assert_int_eq(send(fd, record, size, MSG_NOSIGNAL), (ssize_t) size);
}

static bool says_off(void *userdata)
{
        return strcmp(engine_probe_backend(world.engine), "off") == 0;
}

static bool says_on(void *userdata)
{
        return !says_off(NULL);
}

static struct probe_hello hello_proc(void)
{
        return (struct probe_hello){
                        .header = {PROBE_HELLO, sizeof(struct probe_hello)},
                        .version = PROBE_PROTOCOL_VERSION,
                        .backend = PROBE_BACKEND_PROC,
                        .reason = "no BPF in a test",
        };
}

/* A connection on which both have said who they are. */
static int greet(void)
{
        struct probe_hello hello = hello_proc();
        struct probe_welcome welcome;
        int fd = connect_probe();

        ck_assert_uint_eq(take(fd, &welcome, sizeof welcome), sizeof welcome);
        ck_assert_uint_eq(welcome.header.type, PROBE_WELCOME);
        ck_assert_uint_eq(welcome.header.size, sizeof welcome);
        ck_assert_uint_eq(welcome.version, PROBE_PROTOCOL_VERSION);
        ck_assert_uint_eq(welcome.kept, 0);
        ck_assert_uint_eq(welcome.backend, PROBE_BACKEND_BPF);
        give(fd, &hello, sizeof hello);
        run_while(says_off, NULL);
        ck_assert_str_eq(engine_probe_backend(world.engine), "proc");
        ck_assert_str_eq(engine_probe_reason(world.engine), "no BPF in a test");
        return fd;
}

static struct context *member(const char *path, struct child **ret)
{
        struct context *c = make(path);
        struct refused refused;

        *ret = child_start(child_sleep);
        ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, c, (*ret)->pidfd, &quiet, &refused), 0);
        return c;
}

START_TEST(watch_and_forget)
{
        struct probe_forget forget;
        struct probe_watch watch;
        struct refused refused;
        struct child *child;
        struct context *c;
        uint32_t n;
        int fd = greet();

        c = member("a", &child);
        ck_assert_int_eq(tree_cancel(world.tree, now_boottime_usec(), &caller_daemon, c,
                                         cause_new(71, "enough", 5, 4711, "who"), &n, &refused),
                        1);
        world_drain(NULL);
        ck_assert_uint_eq(take(fd, &watch, sizeof watch), sizeof watch);
        ck_assert_uint_eq(watch.header.type, PROBE_WATCH);
        ck_assert_uint_eq(watch.header.size, sizeof watch);
        ck_assert_uint_eq(watch.context_id, c->id);
        ck_assert_uint_eq(watch.slot, 0);
        ck_assert_uint_eq(watch.state, 1);
        ck_assert_uint_eq(watch.done_usec, c->done_usec);
        ck_assert_uint_eq(watch.grace_usec, c->grace_usec);
        ck_assert_uint_eq(watch.n_pids, 1);
        ck_assert_uint_eq(watch.pids[0], (uint32_t) child->pid);
        ck_assert_str_eq(watch.path, "a");
        ck_assert_str_eq(watch.cause, "enough");

        kill(child->pid, SIGKILL);
        ck_assert_uint_eq(take(fd, &forget, sizeof forget), sizeof forget);
        ck_assert_uint_eq(forget.header.type, PROBE_FORGET);
        ck_assert_uint_eq(forget.context_id, c->id);
        close(fd);
}
END_TEST

START_TEST(what_was_done_before_is_announced)
{
        struct probe_watch watch;
        struct child *child, *other;
        struct context *c = member("a", &child);
        int fd;

        (void) member("active", &other);
        cancel(c);
        for (unsigned i = 0; i < 2; i++) { /* to the next one as well */
                fd = greet();
                ck_assert_uint_eq(take(fd, &watch, sizeof watch), sizeof watch);
                ck_assert_uint_eq(watch.header.type, PROBE_WATCH);
                ck_assert_uint_eq(watch.context_id, c->id);
                run_for(20000);
                ck_assert(!is_readable(fd));
                close(fd);
                run_while(says_on, NULL);
                ck_assert_str_ne(engine_probe_reason(world.engine), "");
        }
}
END_TEST

static int look_at(void *userdata, struct context *c, const struct leak *leak)
{
        struct leak *ret = userdata;

        *ret = *leak;
        return 1;
}

static int count(void *userdata, struct context *c, const struct leak *leak)
{
        (*(unsigned *) userdata)++;
        return 0;
}

static struct probe_leak leak_of(const struct context *c, uint64_t id)
{
        struct probe_leak leak = {
                        .header = {PROBE_LEAK, sizeof leak},
                        .leak_id = id,
                        .context_id = c->id,
                        .kind = PROBE_LEAK_BLOCKED,
                        .backend = PROBE_BACKEND_PROC,
                        .pid = 17,
                        .tid = 18,
                        .count = 1,
                        .syscall_text = "read(7)",
                        .waits_on = "pipe:[1]",
                        .stack = "main",
        };

        return leak;
}

START_TEST(leaks)
{
        struct probe_resolved resolved = {{PROBE_RESOLVED, sizeof resolved}, 1, 0};
        struct probe_swept swept = {{PROBE_SWEPT, sizeof swept}, 4711};
        struct context *c, *elsewhere = make("b");
        struct probe_leak leak;
        struct child *child;
        struct leak kept;
        unsigned n = 0;
        int fd = greet();

        c = member("a", &child);
        cancel(c);
        leak = leak_of(c, 1);
        memset(leak.why, 'x', sizeof leak.why); /* no end */
        give(fd, &leak, sizeof leak);
        run_until(&world.n_found, 1);
        ck_assert_int_eq(each_leak(world.engine, c, look_at, &kept), 1);
        ck_assert_uint_eq(kept.pid, 17);
        ck_assert_str_eq(kept.syscall_text, "read(7)");
        ck_assert_str_eq(kept.waits_on, "pipe:[1]");
        ck_assert_str_eq(kept.stack, "main");
        ck_assert_str_eq(kept.kernel_stack, "");
        ck_assert_uint_eq(strlen(kept.why), sizeof leak.why - 1);
        ck_assert(!kept.is_resolved);
        ck_assert_int_eq(each_leak(world.engine, elsewhere, count, &n), 0);
        ck_assert_uint_eq(n, 0);

        leak.count = 2; /* the same, with newer figures */
        give(fd, &leak, sizeof leak);
        leak = leak_of(elsewhere, 2); /* of one that has no members */
        give(fd, &leak, sizeof leak);
        leak = leak_of(c, 3);
        give(fd, &leak, sizeof leak);
        run_until(&world.n_found, 2);
        ck_assert_uint_eq(engine_leaks_found(world.engine), 2);
        resolved.context_id = c->id;
        give(fd, &resolved, sizeof resolved);
        run_until(&world.n_resolved, 1);
        ck_assert_int_eq(each_leak(world.engine, NULL, look_at, &kept), 1);
        ck_assert_uint_eq(kept.leak_id, 3); /* running ones first */
        give(fd, &swept, sizeof swept);
        give(fd, &resolved, sizeof resolved); /* again: nothing */

        kill(child->pid, SIGKILL);
        run_until(&world.n_resolved, 2); /* whoever has left is no leak */
        ck_assert_uint_eq(engine_probe_last_sweep_usec(world.engine), 4711);
        ck_assert_int_eq(each_leak(world.engine, NULL, count, &n), 0);
        ck_assert_uint_eq(n, 2);
        close(fd);
}
END_TEST

START_TEST(another_probe_finds_the_same_leak)
{
        struct probe_leak leak;
        struct child *child;
        struct context *c = member("a", &child);
        struct leak kept;
        unsigned n = 0;
        int fd = greet();

        cancel(c);
        leak = leak_of(c, 1);
        give(fd, &leak, sizeof leak);
        run_until(&world.n_found, 1);
        close(fd);
        run_while(says_on, NULL);
        fd = greet();
        leak.tid = 99;
        leak.leak_id = 2;
        give(fd, &leak, sizeof leak); /* another thread */
        run_until(&world.n_found, 2);
        leak = leak_of(c, 1);
        leak.count = 5;
        give(fd, &leak, sizeof leak);
        run_for(50000); /* what has been given is read in it */
        ck_assert_uint_eq(world.n_found, 2);
        ck_assert_int_eq(each_leak(world.engine, c, count, &n), 0);
        ck_assert_uint_eq(n, 2);
        ck_assert_int_eq(each_leak(world.engine, c, look_at, &kept), 1);
        ck_assert_uint_eq(kept.count, 5);
        close(fd);
}
END_TEST

/* Law 49: so that it tells of a process no more than these could see. */
START_TEST(the_probe_is_told_who_has_attached)
{
        struct policy policy = quiet;
        struct context *c = make("a");
        struct probe_watch watch;
        struct refused refused;
        int fd = greet();

        for (policy.uid = 4711; policy.uid < 4713; policy.uid++)
                ck_assert_int_eq(engine_attach(world.engine, &caller_daemon, c,
                                                 child_start(child_sleep)->pidfd, &policy, &refused),
                                0);
        cancel(c);
        ck_assert_uint_eq(take(fd, &watch, sizeof watch), sizeof watch);
        ck_assert_uint_eq(watch.header.type, PROBE_WATCH);
        ck_assert_uint_eq(watch.n_uids, 2);
        ck_assert_uint_eq(watch.uids[0], 4711);
        ck_assert_uint_eq(watch.uids[1], 4712);
        close(fd);
}
END_TEST

struct tally {
        uint32_t pid;    /* whose leaks are counted */
        unsigned n_open; /* of that process */
        unsigned n_resolved;
        uint64_t n_more; /* that are only counted */
};

static int tally(void *userdata, struct context *c, const struct leak *leak)
{
        struct tally *t = userdata;

        if (leak->kind == PROBE_LEAK_MORE)
                t->n_more += leak->count;
        else if (leak->pid == t->pid && leak->is_resolved)
                t->n_resolved++;
        else if (leak->pid == t->pid)
                t->n_open++;
        return 0;
}

static struct tally tally_of(const struct context *c, uint32_t pid)
{
        struct tally t = {.pid = pid};

        ck_assert_int_eq(each_leak(world.engine, c, tally, &t), 0);
        return t;
}

static void give_slowly(int fd, const void *record, size_t size)
{
        struct pollfd p = {.fd = fd, .events = POLLOUT};

        while (poll(&p, 1, 0) == 0)
                ck_assert_int_ge(sd_event_run(world.event, 10000), 0);
        give(fd, record, size);
}

#define ALICE 1001
#define BOB 1002
#define FLOOD 1500

static bool bob_has_one(void *userdata)
{
        return tally_of(NULL, BOB).n_open == 1;
}

/* One user reports more leaks than are kept, in several contexts. The user has a share, beyond it they are
 * counted, and another user's leak is kept (law 37). */
START_TEST(one_user_does_not_fill_the_leaks)
{
        struct probe_resolved resolved = {{PROBE_RESOLVED, sizeof resolved}, 0, 0};
        struct child *children[3];
        struct context *of[] = {member("a", &children[0]), member("b", &children[1])};
        struct context *of_bob = member("c", &children[2]);
        const unsigned share = PROBE_LEAKS_MAX / 8;
        struct probe_leak leak;
        int fd = greet();

        cancel(of[0]);
        cancel(of[1]);
        cancel(of_bob);
        for (unsigned i = 0; i < FLOOD; i++) {
                leak = leak_of(of[i & 1], i + 1);
                leak.pid = leak.uid = ALICE;
                leak.tid = i + 1;
                give_slowly(fd, &leak, sizeof leak);
        }
        leak = leak_of(of_bob, FLOOD + 1);
        leak.pid = leak.uid = BOB;
        give_slowly(fd, &leak, sizeof leak);
        run_until(&world.n_found, share + 3); /* and two that count */
        ck_assert_uint_eq(tally_of(NULL, ALICE).n_open, share);
        ck_assert_uint_eq(tally_of(NULL, BOB).n_open, 1);
        ck_assert_uint_eq(tally_of(NULL, 0).n_more, FLOOD - share);
        ck_assert_uint_eq(tally_of(of[0], 0).n_more, (FLOOD - share) / 2);
        ck_assert_uint_eq(tally_of(of_bob, 0).n_more, 0);

        /* The probe's own figure takes the place of that. */
        leak = leak_of(of[1], FLOOD + 2);
        leak.kind = PROBE_LEAK_MORE;
        leak.count = 4711;
        give_slowly(fd, &leak, sizeof leak);
        resolved.context_id = of[1]->id;
        resolved.leak_id = 2;
        give_slowly(fd, &resolved, sizeof resolved);
        run_until(&world.n_resolved, 1);
        ck_assert_uint_eq(tally_of(of[1], 0).n_more, 4711);
        resolved.leak_id = FLOOD + 2;
        give_slowly(fd, &resolved, sizeof resolved);
        run_until(&world.n_resolved, 2);
        ck_assert_uint_eq(tally_of(of[1], 0).n_more, 0);

        /* What is resolved takes no place from what is open. Of it there is a share, too. */
        for (unsigned i = 0; i < FLOOD; i++) {
                leak = leak_of(of[0], 10000 + i);
                leak.pid = leak.uid = ALICE;
                leak.tid = 10000 + i;
                give_slowly(fd, &leak, sizeof leak);
                resolved.context_id = of[0]->id;
                resolved.leak_id = 10000 + i;
                give_slowly(fd, &resolved, sizeof resolved);
        }
        leak = leak_of(of_bob, 20000);
        leak.pid = leak.uid = BOB;
        leak.tid = 99;
        give_slowly(fd, &leak, sizeof leak);
        run_while(bob_has_one, NULL);
        ck_assert_uint_le(tally_of(NULL, ALICE).n_open, share);
        ck_assert_uint_le(tally_of(NULL, ALICE).n_resolved, share);
        ck_assert_uint_eq(tally_of(NULL, BOB).n_open, 2);
        close(fd);
}
END_TEST

/* Each breaks the protocol, after WELCOME, or after both greetings. */
enum wrong {
        WRONG_SHORT_HEADER,
        WRONG_HALF_HELLO,
        WRONG_SIZE_FIELD,
        WRONG_VERSION,
        WRONG_BACKEND,
        WRONG_BPF_WITHOUT_DESCRIPTORS,
        WRONG_BPF_WITH_OTHER_DESCRIPTORS,
        WRONG_TYPE_FIRST,
        WRONG_GREETED, /* from here on after HELLO */
        WRONG_TYPE = WRONG_GREETED,
        WRONG_HALF_LEAK,
        WRONG_LONG,
        WRONG_SECOND_HELLO,
        WRONG_WATCH_FROM_THE_PROBE,
        WRONG_DESCRIPTORS,
        WRONGS,
};

static void give_with_fds(int fd, void *record, size_t size, unsigned n)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int) * PROBE_FDS)];
        } control = {};
        struct iovec iov = {record, size};
        struct msghdr m = {
                        .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = CMSG_SPACE(sizeof(int) * n),
        };
        int event = eventfd(0, EFD_CLOEXEC), fds[PROBE_FDS];

        for (unsigned i = 0; i < n; i++)
                fds[i] = event;
        control.header = (struct cmsghdr){CMSG_LEN(sizeof(int) * n), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n);
        ck_assert_int_eq(sendmsg(fd, &m, 0), (ssize_t) size);
        close(event);
}

static unsigned count_fds(void)
{
        unsigned n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

START_TEST(whoever_breaks_the_protocol_is_dropped)
{
        static char big[16384];
        struct probe_hello hello = hello_proc();
        struct probe_watch watch = {.header = {PROBE_WATCH, sizeof watch}};
        struct probe_header header = {PROBE_SWEPT, 4};
        struct probe_welcome welcome;
        struct context *c = make("a");
        struct probe_leak leak = leak_of(c, 1);
        unsigned fds = count_fds();
        int fd;

        if (_i < WRONG_GREETED) {
                fd = connect_probe();
                ck_assert_uint_eq(take(fd, &welcome, sizeof welcome), sizeof welcome);
        } else
                fd = greet();
        switch ((enum wrong) _i) {
        case WRONG_SHORT_HEADER:
                give(fd, &header, 4);
                break;
        case WRONG_HALF_HELLO:
                give(fd, &hello, sizeof hello / 2);
                break;
        case WRONG_SIZE_FIELD:
                hello.header.size--;
                give(fd, &hello, sizeof hello);
                break;
        case WRONG_VERSION:
                hello.version++;
                give(fd, &hello, sizeof hello);
                break;
        case WRONG_BACKEND:
                hello.backend = 99;
                give(fd, &hello, sizeof hello);
                break;
        case WRONG_BPF_WITHOUT_DESCRIPTORS:
                hello.backend = PROBE_BACKEND_BPF;
                give(fd, &hello, sizeof hello);
                break;
        case WRONG_BPF_WITH_OTHER_DESCRIPTORS:
                hello.backend = PROBE_BACKEND_BPF;
                give_with_fds(fd, &hello, sizeof hello, PROBE_FDS);
                break;
        case WRONG_TYPE_FIRST:
                give(fd, &leak, sizeof leak);
                break;
        case WRONG_TYPE:
                leak.header.type = 99;
                give(fd, &leak, sizeof leak);
                break;
        case WRONG_HALF_LEAK:
                leak.header.size = sizeof leak / 2;
                give(fd, &leak, sizeof leak / 2);
                break;
        case WRONG_LONG:
                ((struct probe_header *) big)->type = PROBE_LEAK;
                ((struct probe_header *) big)->size = sizeof big;
                give(fd, big, sizeof big);
                break;
        case WRONG_SECOND_HELLO:
                give(fd, &hello, sizeof hello);
                break;
        case WRONG_WATCH_FROM_THE_PROBE:
                give(fd, &watch, sizeof watch);
                break;
        case WRONG_DESCRIPTORS:
                give_with_fds(fd, &leak, sizeof leak, 2);
                break;
        case WRONGS:
                break;
        }
        ck_assert_uint_eq(take(fd, big, sizeof big), 0);
        ck_assert_str_eq(engine_probe_backend(world.engine), "off");
        ck_assert_str_eq(engine_membership_backend(world.engine), "direct");
        ck_assert_str_ne(engine_probe_reason(world.engine), "");
        close(fd);
        ck_assert_uint_eq(count_fds(), fds); /* what it sent was closed */
        close(greet());                      /* and another one is welcome */
}
END_TEST

START_TEST(one_probe_at_a_time)
{
        char byte;
        int fd = greet(), second = connect_probe();

        ck_assert_uint_eq(take(second, &byte, 1), 0);
        ck_assert_str_eq(engine_probe_backend(world.engine), "proc");
        close(second);
        close(fd);
}
END_TEST

START_TEST(a_probe_that_does_not_read_makes_nothing_later)
{
        enum { CONTEXTS = 300 };
        struct context *list[CONTEXTS];
        struct child *child = child_start(child_sleep);
        union {
                struct probe_header header;
                struct probe_watch watch;
                struct probe_forget forget;
        } record;
        const struct caller root = {.uid = 0};
        struct refused refused;
        char path[16];
        int fd = greet();

        /* Far more than the socket takes, and nobody reads: whoever waited would wait for ever. One process
         * goes from context to context, each done when it leaves: 299 WATCH and FORGET, and a WATCH. */
        for (unsigned i = 0; i < CONTEXTS; i++) {
                snprintf(path, sizeof path, "a%u", i);
                list[i] = make(path);
        }
        for (unsigned i = 0; i < CONTEXTS; i++) {
                ck_assert_int_eq(engine_attach(world.engine, &root, list[i], child->pidfd, &quiet, &refused),
                                0);
                cancel(list[i]);
        }
        for (unsigned i = 0; i < 2 * CONTEXTS; i++) {
                ck_assert_uint_gt(take(fd, &record, sizeof record), 0);
                /* A WATCH that was not sent before its context was left is not sent at all. */
                if (record.header.type == PROBE_FORGET)
                        continue;
                ck_assert_uint_eq(record.header.type, PROBE_WATCH);
                if (record.watch.context_id == list[CONTEXTS - 1]->id) {
                        close(fd);
                        return;
                }
        }
        ck_abort_msg("the last one was never announced");
}
END_TEST

static void start_for_another(void)
{
        start(getuid() + 12345, PROBE_MODE_AUTO);
}

START_TEST(another_uid_is_not_the_probe)
{
        struct stat st;
        char byte;
        int fd = connect_probe();

        ck_assert_uint_eq(take(fd, &byte, 1), 0);
        ck_assert_int_eq(stat(socket_path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0660);
        close(fd);
}
END_TEST

START_TEST(switched_off)
{
        struct probe_options options = {
                        .mode = PROBE_MODE_OFF, .socket = "/nonexistent/x", .program = "/nonexistent/y"};

        world_start();
        ck_assert_int_eq(engine_start(world.engine, &options), 0);
        ck_assert_str_eq(engine_probe_backend(world.engine), "off");
        ck_assert_ptr_nonnull(strstr(engine_probe_reason(world.engine), "Probe=off"));
        world_stop();
}
END_TEST

static bool has_no_answer(void *userdata)
{
        return strcmp(engine_probe_reason(world.engine), "the probe has not answered yet") == 0;
}

START_TEST(a_program_that_is_no_probe)
{
        static const char *const programs[] = {"/nonexistent/ctxd-probe", "/bin/true", "/bin/false"};
        struct probe_options options = {.mode = PROBE_MODE_AUTO, .program = programs[_i]};
        uint64_t before, took;

        world_start();
        before = now_boottime_usec();
        ck_assert_int_eq(engine_start(world.engine, &options), 0);
        took = now_boottime_usec() - before;
        /* Once it knows that nothing will come, it does not wait for that. */
        ck_assert(took < 5000000 || has_no_answer(NULL));
        ck_assert_str_eq(engine_probe_backend(world.engine), "off");
        run_while(has_no_answer, NULL);
        ck_assert_str_ne(engine_probe_reason(world.engine), "");
        ck_assert_str_eq(engine_membership_backend(world.engine), "direct");
        world_stop();
}
END_TEST

int main(void)
{
        Suite *s = suite_create("link");
        TCase *c = tcase_create("link"), *other = tcase_create("other"), *raw = tcase_create("raw");

        tcase_add_checked_fixture(c, link_start, link_stop);
        tcase_add_checked_fixture(other, start_for_another, link_stop);
        tcase_set_timeout(c, 60);
        tcase_set_timeout(raw, 60);
        tcase_add_test(c, watch_and_forget);
        tcase_add_test(c, what_was_done_before_is_announced);
        tcase_add_test(c, leaks);
        tcase_add_test(c, another_probe_finds_the_same_leak);
        tcase_add_test(c, the_probe_is_told_who_has_attached);
        tcase_add_test(c, one_user_does_not_fill_the_leaks);
        tcase_add_loop_test(c, whoever_breaks_the_protocol_is_dropped, 0, WRONGS);
        tcase_add_test(c, one_probe_at_a_time);
        tcase_add_test(c, a_probe_that_does_not_read_makes_nothing_later);
        tcase_add_test(other, another_uid_is_not_the_probe);
        tcase_add_test(raw, switched_off);
        tcase_add_loop_test(raw, a_program_that_is_no_probe, 0, 3);
        suite_add_tcase(s, c);
        suite_add_tcase(s, other);
        suite_add_tcase(s, raw);
        return run_suite(s);
}
