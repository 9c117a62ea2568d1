/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Threads that are members one by one: ctx_enter() under a shared context, and what the daemon and the probe
 * make of it. */

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <systemd/sd-bus.h>

#include "proto/names.h"
#include "proto/thread-page.h"
#include "tests/lib/shared/daemon.h"

static sd_bus *connect_bus(void)
{
        sd_bus *bus;

        ck_assert_int_ge(sd_bus_new(&bus), 0);
        ck_assert_int_ge(sd_bus_set_address(bus, the_daemon.address), 0);
        ck_assert_int_ge(sd_bus_set_bus_client(bus, 1), 0);
        ck_assert_int_ge(sd_bus_start(bus), 0);
        return bus;
}

static sd_bus_message *call(sd_bus *bus, const char *member, const char *types, ...)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m, *reply = NULL;
        va_list ap;
        int r;

        ck_assert_int_ge(sd_bus_message_new_method_call(
                                         bus, &m, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member),
                        0);
        va_start(ap, types);
        ck_assert_int_ge(sd_bus_message_appendv(m, types, ap), 0);
        va_end(ap);
        r = sd_bus_call(bus, m, 0, &error, &reply);
        ck_assert_msg(r >= 0, "%s: %s", member, error.message);
        sd_bus_message_unref(m);
        return reply;
}

/* Is the thread a member of the context, of kind "thread"? */
static bool is_member(sd_bus *bus, struct ctx *ctx, pid_t tid)
{
        sd_bus_message *reply = call(bus, "Members", "su", ctx_path(ctx), 0);
        const char *comm, *kind;
        uint32_t p, t;
        uint64_t since;
        bool found = false;

        ck_assert_int_gt(sd_bus_message_enter_container(reply, 'a', "(uusst)"), 0);
        while (sd_bus_message_read(reply, "(uusst)", &p, &t, &comm, &kind, &since) > 0)
                found = found || ((pid_t) t == tid && (pid_t) p == getpid() && strcmp(kind, "thread") == 0);
        sd_bus_message_unref(reply);
        return found;
}

/* The leak of the context's thread tid: 1 running, 2 resolved, 0 none; and how many there are of the
 * context. */
static int leak_of(sd_bus *bus, struct ctx *ctx, pid_t tid, unsigned *ret_n)
{
        sd_bus_message *reply = call(bus, "Leaks", "su", ctx_path(ctx), 0);
        int state = 0;

        *ret_n = 0;
        ck_assert_int_gt(sd_bus_message_enter_container(reply, 'a', "(sta{sv})"), 0);
        while (sd_bus_message_enter_container(reply, 'r', "sta{sv}") > 0) {
                int resolved = 0;
                uint32_t t = 0;

                ck_assert_int_ge(sd_bus_message_skip(reply, "st"), 0);
                ck_assert_int_gt(sd_bus_message_enter_container(reply, 'a', "{sv}"), 0);
                while (sd_bus_message_enter_container(reply, 'e', "sv") > 0) {
                        const char *name;

                        ck_assert_int_gt(sd_bus_message_read(reply, "s", &name), 0);
                        if (strcmp(name, "CTXD_TID") == 0)
                                sd_bus_message_read(reply, "v", "u", &t);
                        else if (strcmp(name, "CTXD_RESOLVED") == 0)
                                sd_bus_message_read(reply, "v", "b", &resolved);
                        else
                                sd_bus_message_skip(reply, "v");
                        sd_bus_message_exit_container(reply);
                }
                sd_bus_message_exit_container(reply);
                sd_bus_message_exit_container(reply);
                (*ret_n)++;
                if ((pid_t) t == tid)
                        state = resolved ? 2 : 1;
        }
        sd_bus_message_unref(reply);
        return state;
}

static bool probe_is(sd_bus *bus, const char *wanted)
{
        char *backend;
        bool is;

        ck_assert_int_ge(sd_bus_get_property_string(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "ProbeBackend", NULL, &backend),
                        0);
        is = strcmp(backend, wanted) == 0;
        free(backend);
        return is;
}

static int drained_fd(sd_bus *bus, struct ctx *ctx)
{
        sd_bus_message *reply = call(bus, "Drained", "s", ctx_path(ctx));
        int fd;

        ck_assert_int_gt(sd_bus_message_read(reply, "h", &fd), 0);
        fd = dup(fd);
        sd_bus_message_unref(reply);
        return fd;
}

/* A thread that enters a context, and then reads from a pipe until it is written to. */
struct reader {
        struct ctx *ctx;
        int pipe[2];
        pthread_t thread;
        _Atomic pid_t tid;
        bool stays; /* ends without leaving */
};

static void *reader_run(void *userdata)
{
        struct reader *r = userdata;
        char byte;

        ck_assert_int_eq(ctx_enter(r->ctx), 0);
        r->tid = (pid_t) syscall(SYS_gettid);
        ck_assert_int_eq(read(r->pipe[0], &byte, 1), 1);
        if (!r->stays)
                ctx_leave(r->ctx);
        return NULL;
}

static void reader_start(struct reader *r, struct ctx *ctx)
{
        *r = (struct reader){.ctx = ctx};
        ck_assert_int_eq(pipe(r->pipe), 0);
        ck_assert_int_eq(pthread_create(&r->thread, NULL, reader_run, r), 0);
        while (r->tid == 0)
                usleep(1000);
}

static void reader_end(struct reader *r)
{
        ck_assert_int_eq(write(r->pipe[1], "x", 1), 1);
        pthread_join(r->thread, NULL);
        close(r->pipe[0]);
        close(r->pipe[1]);
}

#define EVENTUALLY(condition)                                          \
        do {                                                           \
                for (unsigned i_ = 0; i_ < 5000 && !(condition); i_++) \
                        usleep(10000);                                 \
                ck_assert(condition);                                  \
        } while (0)

START_TEST(each_thread_is_a_member_of_its_own_context)
{
        struct ctx_client *client = new_client();
        struct ctx *a = make(client, fresh_path()), *b = make(client, fresh_path());
        sd_bus *bus = connect_bus();
        struct reader x, y;

        reader_start(&x, a);
        reader_start(&y, b);
        ck_assert(is_member(bus, a, x.tid));
        ck_assert(!is_member(bus, a, y.tid));
        ck_assert(is_member(bus, b, y.tid));
        ck_assert(!is_member(bus, a, getpid()));
        reader_end(&x);
        ck_assert(!is_member(bus, a, x.tid));
        reader_end(&y);
        sd_bus_flush_close_unref(bus);
        ctx_unref(a);
        ctx_unref(b);
        ctx_client_unref(client);
}
END_TEST

START_TEST(entries_nest_and_the_innermost_counts)
{
        struct ctx_client *client = new_client();
        struct ctx *a = make(client, fresh_path()), *b = make(client, fresh_path());
        pid_t tid = (pid_t) syscall(SYS_gettid);
        sd_bus *bus = connect_bus();

        ck_assert_int_eq(ctx_enter(a), 0);
        ck_assert(is_member(bus, a, tid));
        ck_assert_int_eq(ctx_enter(b), 0);
        ck_assert(!is_member(bus, a, tid));
        ck_assert(is_member(bus, b, tid));
        ctx_leave(b);
        ck_assert(is_member(bus, a, tid));
        ck_assert(!is_member(bus, b, tid));
        ctx_leave(a);
        ck_assert(!is_member(bus, a, tid));
        sd_bus_flush_close_unref(bus);
        ctx_unref(a);
        ctx_unref(b);
        ctx_client_unref(client);
}
END_TEST

static bool enters_now(sd_bus *bus, struct ctx *ctx)
{
        bool is;

        ck_assert_int_eq(ctx_enter(ctx), 0);
        is = is_member(bus, ctx, (pid_t) syscall(SYS_gettid));
        ctx_leave(ctx);
        return is;
}

#ifdef __SANITIZE_ADDRESS__
#define ALLOCATES_BY_MMAP true
#else
#define ALLOCATES_BY_MMAP false
#endif

START_TEST(law_43_an_enter_without_memory_fails_alone)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path());
        sd_bus *bus = connect_bus();
        struct rlimit before, none;

        ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
        none = before;
        none.rlim_cur = 1;
        if (!ALLOCATES_BY_MMAP)
                ck_assert_int_eq(setrlimit(RLIMIT_AS, &none), 0); /* the page cannot be mapped */
        ck_assert_int_eq(ctx_enter(ctx), 0);
        ctx_leave(ctx);
        ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
        ck_assert_happens(enters_now(bus, ctx));
        ctx_unref(ctx);
        ctx_client_unref(client);
        sd_bus_flush_close_unref(bus);
}
END_TEST

START_TEST(law_43_an_enter_without_a_key_fails_alone)
{
        static pthread_key_t keys[PTHREAD_KEYS_MAX];
        size_t n = 0;

        while (n < PTHREAD_KEYS_MAX && pthread_key_create(&keys[n], NULL) == 0)
                n++;
        ck_assert_int_eq(ctx_enter(ctx_background()), -EAGAIN);
        ck_assert_int_eq(pthread_key_delete(keys[--n]), 0);
        ck_assert_int_eq(ctx_enter(ctx_background()), 0);
        ctx_leave(ctx_background());
        while (n > 0)
                pthread_key_delete(keys[--n]);
}
END_TEST

START_TEST(law_31_drained_once_the_thread_has_left)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path());
        sd_bus *bus = connect_bus();
        struct reader x;
        int fd;

        reader_start(&x, ctx);
        fd = drained_fd(bus, ctx);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        usleep(50000);
        ck_assert(!is_readable(fd));
        reader_end(&x);
        EVENTUALLY(is_readable(fd));
        close(fd);
        sd_bus_flush_close_unref(bus);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(law_31_a_thread_that_ends_has_left)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path());
        sd_bus *bus = connect_bus();
        struct reader x;
        int fd;

        reader_start(&x, ctx);
        x.stays = true;
        fd = drained_fd(bus, ctx);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        reader_end(&x);
        EVENTUALLY(is_readable(fd));
        close(fd);
        sd_bus_flush_close_unref(bus);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

static struct ctx *inherited;

static int enter_and_wait(void *userdata)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = ctx_open(client, userdata);

        if (!ctx || ctx_enter(ctx) < 0)
                return 1;
        for (;;)
                pause();
}

START_TEST(law_31_a_process_that_is_killed_has_left)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path());
        char *path = strdup(ctx_path(ctx));
        sd_bus *bus = connect_bus();
        pid_t pid;
        int fd;

        pid = run_child(enter_and_wait, path);
        EVENTUALLY(({
                sd_bus_message *reply = call(bus, "Preview", "su", path, 0);
                uint32_t contexts, members;

                ck_assert_int_gt(sd_bus_message_read(reply, "uu", &contexts, &members), 0);
                sd_bus_message_unref(reply);
                members == 1;
        }));
        fd = drained_fd(bus, ctx);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        usleep(50000);
        ck_assert(!is_readable(fd));
        kill(pid, SIGKILL);
        wait_child(pid);
        EVENTUALLY(is_readable(fd));
        close(fd);
        free(path);
        sd_bus_flush_close_unref(bus);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(law_37_the_blocked_thread_is_reported_and_no_other)
{
        struct ctx_client *client = new_client();
        struct ctx *a = make(client, fresh_path()), *b = make(client, fresh_path());
        sd_bus *bus = connect_bus();
        struct reader x, y;
        unsigned n;

        if (probe_is(bus, "off")) {
                fputs("no probe here: nothing can be reported\n", stderr);
                return;
        }
        reader_start(&x, a);
        reader_start(&y, b);
        ck_assert_int_eq(ctx_cancel(a), 1);
        EVENTUALLY(leak_of(bus, a, x.tid, &n) == 1);
        ck_assert_uint_eq(n, 1);
        ck_assert_int_eq(leak_of(bus, b, y.tid, &n), 0);
        ck_assert_uint_eq(n, 0);
        reader_end(&x);
        EVENTUALLY(leak_of(bus, a, x.tid, &n) == 2); /* law 39 */
        reader_end(&y);
        sd_bus_flush_close_unref(bus);
        ctx_unref(a);
        ctx_unref(b);
        ctx_client_unref(client);
}
END_TEST

static int enter_inherited(void *userdata)
{
        /* The parent's client: not seen, and no harm done; the parent's page is not even mapped here. */
        if (ctx_enter(inherited) < 0)
                return 1;
        ctx_leave(inherited);
        return 0;
}

START_TEST(a_forked_child_has_no_part_in_the_page)
{
        struct ctx_client *client = new_client();
        pid_t tid = (pid_t) syscall(SYS_gettid);
        sd_bus *bus = connect_bus();

        inherited = make(client, fresh_path());
        ck_assert_int_eq(ctx_enter(inherited), 0);
        ck_assert_int_eq(wait_child(run_child(enter_inherited, NULL)), 0);
        ck_assert(is_member(bus, inherited, tid)); /* the child has not taken the parent's entry back */
        ctx_leave(inherited);
        sd_bus_flush_close_unref(bus);
        ctx_unref(inherited);
        ctx_client_unref(client);
}
END_TEST

START_TEST(a_hostile_page_lies_about_itself_alone)
{
        struct ctx_client *client = new_client();
        struct ctx *mine = make(client, fresh_path()), *other = make(client, fresh_path());
        sd_bus *bus = connect_bus();
        sd_bus_message *reply = call(bus, "Threads", "s", ctx_path(mine)), *again;
        const char *id = strchr(ctx_path(mine), '#') + 1, *other_id = strchr(ctx_path(other), '#') + 1;
        struct thread_page *page;
        int fd, kick;

        ck_assert_int_gt(sd_bus_message_read(reply, "hh", &fd, &kick), 0);
        ck_assert_int_eq(ftruncate(fd, 0), -1); /* sealed: whoever reads it need not fear */
        ck_assert_int_eq(ftruncate(fd, 1 << 20), -1);
        page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ck_assert_ptr_ne(page, MAP_FAILED);

        memset(page, 0xff, sizeof *page);
        for (unsigned i = 0; i < THREAD_PAGE_ENTRIES; i++)
                page->entries[i] = (struct thread_entry){.tid = i % 3 == 0   ? 1
                                                                : i % 3 == 1 ? UINT32_MAX
                                                                             : (uint32_t) getppid(),
                                .context_id = strtoull(i % 2 ? id : other_id, NULL, 10)};
        again = call(bus, "Members", "su", ctx_path(mine), 0);
        ck_assert_int_gt(sd_bus_message_enter_container(again, 'a', "(uusst)"), 0);
        ck_assert_int_gt(sd_bus_message_at_end(again, 0), 0); /* nobody: these are no threads of ours */
        sd_bus_message_unref(again);

        /* A context that this process has not named: not its to speak of. */
        page->entries[0] = (struct thread_entry){
                        .tid = (uint32_t) getpid(), .context_id = strtoull(other_id, NULL, 10)};
        ck_assert(!is_member(bus, other, getpid()));
        for (unsigned i = 0; i < 10000; i++)
                ck_assert_int_eq(write(kick, &(uint64_t){1}, 8), 8);
        ck_assert_int_eq(ctx_cancel(mine), 1); /* the daemon still serves */
        munmap(page, sizeof *page);
        sd_bus_message_unref(reply);
        sd_bus_flush_close_unref(bus);
        ctx_unref(mine);
        ctx_unref(other);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        each_thread_is_a_member_of_its_own_context,
                        entries_nest_and_the_innermost_counts,
                        law_43_an_enter_without_memory_fails_alone,
                        law_43_an_enter_without_a_key_fails_alone,
                        law_31_drained_once_the_thread_has_left,
                        law_31_a_thread_that_ends_has_left,
                        law_31_a_process_that_is_killed_has_left,
                        law_37_the_blocked_thread_is_reported_and_no_other,
                        a_forked_child_has_no_part_in_the_page,
                        a_hostile_page_lies_about_itself_alone,
                        NULL,
        };

        the_configuration = "[Daemon]\nLeakGraceSec=300ms\n";
        return run_tests_with_daemon("shared-entered", tests);
}
