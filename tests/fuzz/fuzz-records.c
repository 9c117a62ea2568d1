/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What ctxd reads from its probe: records that the input makes, right ones and wrong ones, with descriptors
 * or without, while the contexts that they speak of come and go. Whatever the probe has said can be asked for
 * over D-Bus, and does not keep anything else from working. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/engine/internal.h"
#include "daemon/world/probe-internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "proto/probe-record.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/send-record.h"
#include "tests/fuzz/world.h"

#define STEPS_MAX 128
#define FDS_MAX 16

union record {
        struct probe_header header;
        struct probe_hello hello;
        struct probe_leak leak;
        struct probe_resolved resolved;
        struct probe_swept swept;
        uint8_t bytes[8192];
};

static int probe = -1; /* its end */
static sd_bus *client;
static unsigned asked, answered;

static uint64_t pick_id(struct input *in)
{
        unsigned n = input_byte(in);

        return n < 240 ? n % 6 : input_raw(in, 8);
}

/* Some text, or more than fits, without an end. */
static void fill_text(struct input *in, char *ret, size_t size)
{
        if (input_byte(in) == 255)
                memset(ret, 0xc3, size);
        else
                (void) input_bytes(in, ret, size);
}

static size_t make_leak(struct input *in, struct probe_leak *l)
{
        l->header = (struct probe_header){PROBE_LEAK, sizeof *l};
        l->leak_id = pick_id(in);
        l->context_id = pick_id(in);
        l->kind = input_byte(in);
        l->backend = input_byte(in);
        l->pid = input_byte(in);
        l->tid = input_byte(in);
        l->uid = l->pid % 4 * 1000;
        l->reader = l->tid % 3 == 0 ? PROBE_NOBODY : l->uid;
        l->kernel_reader = l->tid % 2 == 0 ? PROBE_NOBODY : l->uid;
        l->blocked_usec = input_number(in);
        l->count = input_number(in);
        fill_text(in, l->comm, sizeof l->comm);
        fill_text(in, l->syscall_text, sizeof l->syscall_text);
        fill_text(in, l->waits_on, sizeof l->waits_on);
        fill_text(in, l->why, sizeof l->why);
        fill_text(in, l->kernel_stack, sizeof l->kernel_stack);
        fill_text(in, l->stack, sizeof l->stack);
        return sizeof *l;
}

static size_t make_hello(struct input *in, struct probe_hello *h)
{
        h->header = (struct probe_header){PROBE_HELLO, sizeof *h};
        h->version = input_byte(in) < 240 ? PROBE_PROTOCOL_VERSION : 0;
        h->backend = input_byte(in) & 3;
        h->kept = input_byte(in) & 1;
        fill_text(in, h->reason, sizeof h->reason);
        return sizeof *h;
}

static size_t make_record(struct input *in, union record *ret)
{
        memset(ret, 0, sizeof *ret);
        switch (input_choice(in, 6)) {
        case 0:
                return make_hello(in, &ret->hello);
        case 1:
        case 2:
                return make_leak(in, &ret->leak);
        case 3:
                ret->resolved.header = (struct probe_header){PROBE_RESOLVED, sizeof ret->resolved};
                ret->resolved.leak_id = pick_id(in);
                ret->resolved.context_id = pick_id(in);
                return sizeof ret->resolved;
        case 4:
                ret->swept.header = (struct probe_header){PROBE_SWEPT, sizeof ret->swept};
                ret->swept.when_usec = input_number(in);
                return sizeof ret->swept;
        default:
                return input_bytes(in, ret->bytes, sizeof ret->bytes);
        }
}

static void probe_record(struct input *in)
{
        unsigned how = input_byte(in), n_fds = 0;
        union record record;
        size_t size;

        if (how >= 224)
                n_fds = how & 1 ? PROBE_FDS : input_choice(in, FDS_MAX);
        size = make_record(in, &record);
        if (how >= 192 && how < 224) /* cut, or too long, with a header that says so or does not */
                size = input_raw(in, 2) % sizeof record;
        if (how >= 208 && how < 224)
                record.header.size = (uint32_t) size;
        send_record(probe, &record, size, n_fds);
}

static void probe_connect(void)
{
        int fds[2];

        closep(&probe);
        probe = -1;
        world_run();
        if (world.engine->probe->connection.fd >= 0)
                return;
        REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
        probe = fds[1];
        REQUIRE(probe_connected(world.engine->probe, fds[0], getpid()) >= 0);
}

/* What ctxd says is right, whoever it speaks to. */
static void probe_read(void)
{
        union {
                struct probe_header header;
                struct probe_welcome welcome;
                struct probe_watch watch;
                uint8_t bytes[8192];
        } record;
        ssize_t n;

        while (probe >= 0 && (n = recv(probe, &record, sizeof record, MSG_DONTWAIT)) > 0) {
                REQUIRE((size_t) n >= sizeof record.header && record.header.size == (size_t) n);
                if (record.header.type != PROBE_WATCH)
                        continue;
                REQUIRE(n == sizeof record.watch && record.watch.context_id > 0 && record.watch.n_pids <= 64);
                REQUIRE(memchr(record.watch.path, 0, sizeof record.watch.path) &&
                                memchr(record.watch.cause, 0, sizeof record.watch.cause));
        }
}

static struct context *context(const char *path, bool make)
{
        struct caller caller = {.comm = "fuzz"};
        struct create_options options = {.deadline_usec = UINT64_MAX, .mode = CONTEXT_MODE_INHERIT};
        struct context *c = NULL;
        struct refused refused;

        if (make)
                (void) tree_create(world.tree, now_boottime_usec(), &caller, path, &options, &c, &refused);
        else
                (void) tree_find(world.tree, &caller, path, &c, &refused);
        return c;
}

/* a, a/b and b come and go, each with a victim that is never signalled. */
static void change(struct input *in)
{
        static const char *const paths[] = {"a", "a/b", "b"};
        unsigned i = input_choice(in, 3), what = input_byte(in);
        struct policy policy = {.kill_after_usec = UINT64_MAX};
        struct context *c;
        struct refused refused;
        uint32_t n;

        what = what < 248 ? what % 4 : what;
        c = context(paths[i], what == 0);
        if (!c)
                return;
        if (what >= 248)
                victim_kill(i);
        else if (what <= 1)
                (void) engine_attach(world.engine, &caller_daemon, c, victims[i].pidfd, &policy, &refused);
        else if (what == 2)
                (void) tree_cancel(world.tree, now_boottime_usec(), &caller_daemon, c,
                                cause_new(1, "x", 0, 1, "fuzz"), &n, &refused);
        else
                (void) tree_release(world.tree, now_boottime_usec(), &caller_daemon, c, &refused);
        service_drain(&world.service, NULL);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
        const sd_bus_error *e = sd_bus_message_get_error(m);

        answered++;
        if (e)
                fprintf(stderr, "%s is answered with %s: %s\n", (const char *) userdata, e->name, e->message);
        REQUIRE(!e);
        return 0;
}

static void client_run(void)
{
        uint64_t end_usec = now_boottime_usec() + WORLD_PATIENCE_USEC;

        for (unsigned i = 0; i < 4 || (asked != answered && (i < WORLD_PATIENCE_ROUNDS ||
                                                                            now_boottime_usec() < end_usec));
                        i++) {
                world_run_until(i < 4 ? 0 : 1000);
                for (unsigned k = 0; k < 1000 && sd_bus_process(client, NULL) > 0; k++)
                        ;
        }
        REQUIRE(sd_bus_is_open(client) > 0 && asked == answered);
}

static void client_call(const char *path, const char *interface, const char *member, const char *types, ...)
{
        va_list ap;
        int r;

        va_start(ap, types);
        r = sd_bus_call_method_asyncv(
                        client, NULL, NULL, path, interface, member, on_answer, (void *) member, types, ap);
        va_end(ap);
        REQUIRE(r >= 0);
        asked++;
        client_run();
}

static void client_start(void)
{
        int fd = world_connect(0);

        asked = answered = 0;
        REQUIRE(fd >= 0 && sd_bus_new(&client) >= 0 && sd_bus_set_fd(client, fd, fd) >= 0 &&
                        sd_bus_start(client) >= 0);
        client_run();
        client_call(CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Subscribe", "s", "/");
}

static void ask(void)
{
        uint32_t budget = UINT32_MAX;
        struct leak_cursor cursor;
        const struct leak *leak;
        struct context *c;
        unsigned n = 0;

        engine_begin_leaks(world.engine, &cursor);
        while ((leak = engine_next_leak(&cursor, NULL, &budget, &c))) {
                REQUIRE(leak->anchor->context_id == c->id && leak->waits_on && leak->why &&
                                leak->kernel_stack && leak->stack);
                n++;
        }
        engine_end_leaks(&cursor);
        REQUIRE(n <= engine_leaks_found(world.engine));
        client_call(CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Leaks", "su", "/", 0);
        client_call(CTXD_OBJECT, "org.freedesktop.DBus.Properties", "GetAll", "s", CTXD_MANAGER_INTERFACE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {data, data + size};

        world_start();
        client_start();
        probe_connect();
        for (unsigned i = 0; i < STEPS_MAX && !input_is_empty(&in); i++) {
                switch (input_choice(&in, 8)) {
                case 0:
                case 1:
                case 2:
                        probe_record(&in);
                        break;
                case 3:
                case 4:
                        change(&in);
                        break;
                case 5:
                        probe_read();
                        break;
                case 6:
                        world.tree->default_grace_usec = input_number(&in);
                        break;
                default:
                        probe_connect();
                }
                world_run();
                tree_check(world.tree);
        }
        ask();
        sd_bus_close(client);
        client = sd_bus_unref(client);
        closep(&probe);
        probe = -1;
        world_run();
        world_stop();
        return 0;
}
