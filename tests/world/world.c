/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/world/membership/internal.h"
#include "util/proc.h"
#include "util/clock.h"
#include "tests/world/world.h"

#define LONG_USEC 60000000
#define CHILDREN_MAX 64

struct scene world;
static struct child children[CHILDREN_MAX];
static unsigned n_children;

uint32_t world_drain(const struct context *origin)
{
        uint32_t n = engine_drain(world.engine, origin);
        struct ending *ending;
        struct news news;

        while (engine_take_news(world.engine, &news)) {
                world.n_new += news.kind == NEWS_CONTEXT_NEW;
                world.n_done += news.kind == NEWS_CONTEXT_DONE;
                world.n_removed += news.kind == NEWS_CONTEXT_REMOVED;
                world.n_found += news.kind == NEWS_LEAK_FOUND;
                world.n_resolved += news.kind == NEWS_LEAK_RESOLVED;
                if (news.kind == NEWS_CONTEXT_DONE)
                        world.last_done_id = news.context->id;
        }
        while ((ending = tree_take_ended(world.tree)))
                free(ending);
        (void) engine_collect(world.engine, UINT32_MAX);
        return n;
}

/* The number under which the kernel counts its members, as long as it has one. */
unsigned membership_number(const struct context *c)
{
        return c->anchor && c->anchor->slot ? c->anchor->slot->number : 0;
}

static int on_turn(sd_event_source *source, void *userdata)
{
        (void) tree_advance(world.tree, now_boottime_usec());
        engine_begin_turn(world.engine);
        world_drain(NULL);
        world.n_drained++;
        return 0;
}

int each_leak(struct engine *e, const struct context *c,
                int (*cb)(void *userdata, struct context *c, const struct leak *leak), void *userdata)
{
        uint32_t budget = UINT32_MAX;
        struct leak_cursor cursor;
        const struct leak *leak;
        struct context *of;
        int r = 0;

        engine_begin_leaks(e, &cursor);
        while (r == 0 && (leak = engine_next_leak(&cursor, c, &budget, &of)))
                r = cb(userdata, of, leak);
        engine_end_leaks(&cursor);
        return r;
}

void world_start(void)
{
        memset(&world, 0, sizeof world);
        (void) prctl(PR_SET_CHILD_SUBREAPER, 1);
        ck_assert_int_ge(sd_event_new(&world.event), 0);
        ck_assert_int_ge(tree_new(&world.tree), 0);
        world.tree->retain_usec = 30000000;
        world.tree->default_grace_usec = 5000000;
        ck_assert_int_ge(turn_init(&world.turn, world.event, "drain", on_turn, NULL), 0);
        ck_assert_int_ge(engine_new(&world.engine, world.event, world.tree, &world.turn), 0);
}

void world_stop(void)
{
        world.engine = engine_free(world.engine);
        turn_deinit(&world.turn);
        world.tree = tree_free(world.tree);
        world.event = sd_event_unref(world.event);
        child_reap_all();
}

static struct context *create(uid_t uid, const char *path, uint64_t deadline_usec)
{
        struct caller caller = {.uid = uid, .gid = uid, .pid = getpid()};
        struct create_options options = {
                        .deadline_usec = deadline_usec,
                        .mode = CONTEXT_MODE_INHERIT,
                        .parents = true,
        };
        struct refused refused = {};
        struct context *c;

        ck_assert_int_eq(tree_create(world.tree, now_boottime_usec(), &caller, path, &options, &c, &refused),
                        1);
        return c;
}

struct context *make(const char *path)
{
        return make_for(0, path);
}

struct context *make_for(uid_t uid, const char *path)
{
        return create(uid, path, CTXD_USEC_INFINITY);
}

struct context *make_with_deadline(const char *path, uint64_t deadline_usec)
{
        return create(0, path, deadline_usec);
}

void cancel_only(struct context *c)
{
        struct refused refused = {};
        uint32_t n;

        ck_assert_int_eq(tree_cancel(world.tree, now_boottime_usec(), &caller_daemon, c, NULL, &n, &refused),
                        1);
}

uint32_t cancel(struct context *c)
{
        cancel_only(c);
        return world_drain(c);
}

void run_while(bool (*pending)(void *userdata), void *userdata)
{
        uint64_t end_usec = now_boottime_usec() + LONG_USEC;

        while (pending(userdata)) {
                ck_assert_msg(now_boottime_usec() < end_usec, "nothing happened for a long while");
                ck_assert_int_ge(sd_event_run(world.event, 20000), 0);
        }
}

struct wait_for {
        const unsigned *value;
        unsigned wanted;
};

static bool is_less(void *userdata)
{
        struct wait_for *w = userdata;

        return *w->value < w->wanted;
}

void run_until(const unsigned *value, unsigned wanted)
{
        run_while(is_less, &(struct wait_for){value, wanted});
}

void run_for(uint64_t usec)
{
        uint64_t now_usec = now_boottime_usec(), end_usec = now_usec + usec;

        for (; now_usec < end_usec; now_usec = now_boottime_usec())
                ck_assert_int_ge(sd_event_run(world.event, end_usec - now_usec), 0);
        /* What came meanwhile, though the time was over before we had a turn. */
        while (sd_event_run(world.event, 0) > 0) {
        }
}

void child_ready(int out)
{
        if (write(out, "!", 1) != 1)
                _exit(1);
}

struct child *child_start(void (*body)(int in, int out))
{
        struct child *c = &children[n_children];
        int in[2], out[2];

        ck_assert_uint_lt(n_children, CHILDREN_MAX);
        ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
        c->pid = fork();
        ck_assert_int_ge(c->pid, 0);
        if (c->pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) signal(SIGTERM, SIG_DFL); /* not as the test runner has it */
                close(in[1]);
                close(out[0]);
                body(in[0], out[1]);
                _exit(0);
        }
        n_children++;
        close(in[0]);
        close(out[1]);
        c->in = in[1];
        c->out = out[0];
        c->pidfd = (int) syscall(SYS_pidfd_open, c->pid, 0);
        ck_assert_int_ge(c->pidfd, 0);
        ck_assert_int_eq(child_say(c), '!');
        return c;
}

void child_sleep(int in, int out)
{
        (void) alarm(120); /* whatever becomes of the test */
        child_ready(out);
        for (;;)
                pause();
}

static int count_out;

static void count_one(int signal_number)
{
        int saved = errno;

        if (write(count_out, "T", 1) != 1)
                _exit(1);
        errno = saved;
}

void child_count(int in, int out)
{
        struct sigaction action = {.sa_handler = count_one};

        count_out = out;
        sigaction(SIGTERM, &action, NULL);
        child_sleep(in, out);
}

static void *thread_body(void *userdata)
{
        child_ready(*(int *) userdata);
        for (;;)
                pause();
        return NULL;
}

static void fork_counter(int in, int out, bool daemon)
{
        pid_t pid = fork();

        if (pid == 0) {
                if (!daemon)
                        child_count(in, out);
                setsid();
                pid = getpid();
                if (fork() == 0) {
                        while (getppid() == pid) /* it says that it is there once nobody is in between */
                                usleep(1000);
                        child_count(in, out);
                }
                _exit(0);
        }
        if (daemon)
                (void) waitpid(pid, NULL, 0);
}

void child_breed(int in, int out)
{
        struct sigaction ignore = {.sa_handler = SIG_IGN, .sa_flags = SA_RESTART};
        pthread_t thread;
        char byte;

        sigaction(SIGTERM, &ignore, NULL); /* until it has something to count */
        child_ready(out);
        for (;;) {
                if (read(in, &byte, 1) != 1)
                        _exit(0);
                if (byte == 'f' || byte == 'd')
                        fork_counter(in, out, byte == 'd');
                else if (byte == 'c')
                        child_count(in, out);
                else if (byte != 't' || pthread_create(&thread, NULL, thread_body, &out) != 0)
                        _exit(1);
        }
}

_Noreturn void child_bomb(int in, int out, uint64_t end_usec)
{
        char byte;

        (void) signal(SIGTERM, SIG_IGN);
        (void) signal(SIGCHLD, SIG_IGN);
        child_ready(out);
        if (read(in, &byte, 1) != 1)
                _exit(1);
        close(in);
        close(out);
        while (now_boottime_usec() < end_usec)
                (void) fork();
        _exit(0);
}

void child_relay(int in, int out)
{
        uint64_t end_usec = now_boottime_usec() + 100000000;
        char byte;

        (void) signal(SIGTERM, SIG_IGN);
        child_ready(out);
        if (read(in, &byte, 1) != 1)
                _exit(1);
        for (unsigned i = 0; i < 4; i++)
                if (fork() == 0) {
                        while (now_boottime_usec() < end_usec)
                                if (fork() > 0) {
                                        usleep(500);
                                        _exit(0);
                                }
                        _exit(0);
                }
        child_ready(out);
        _exit(0);
}

void breed(struct child *c, const char *what)
{
        for (; *what; what++) {
                child_tell(c, *what);
                ck_assert_int_eq(child_say(c), '!');
        }
}

char child_say(struct child *c)
{
        struct pollfd p = {.fd = c->out, .events = POLLIN};
        char byte;

        return poll(&p, 1, LONG_USEC / 1000) == 1 && read(c->out, &byte, 1) == 1 ? byte : 0;
}

bool child_silent(struct child *c)
{
        struct pollfd p = {.fd = c->out, .events = POLLIN};

        return poll(&p, 1, 50) == 0;
}

void child_tell(struct child *c, char byte)
{
        ck_assert_int_eq(write(c->in, &byte, 1), 1);
}

static bool is_alive(void *userdata)
{
        return !is_readable(((struct child *) userdata)->pidfd);
}

int child_wait(struct child *c)
{
        int status;

        run_while(is_alive, c);
        ck_assert_int_eq(waitpid(c->pid, &status, 0), c->pid);
        c->pid = 0;
        return status;
}

static int end_child(void *userdata, pid_t pid)
{
        kill(pid, SIGKILL);
        return 0;
}

void child_reap_all(void)
{
        for (unsigned i = 0; i < n_children; i++) {
                struct child *c = &children[i];

                if (c->pid > 0) {
                        kill(c->pid, SIGKILL);
                        waitpid(c->pid, NULL, 0);
                }
                close(c->pidfd);
                close(c->in);
                close(c->out);
        }
        n_children = 0;
        /* What they have left behind is ours now. */
        while (proc_each_child(getpid(), end_child, NULL) == 0 && waitpid(-1, NULL, 0) > 0) {
        }
}

bool is_readable(int fd)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};

        return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

static bool has_no_answer(void *userdata)
{
        return strcmp(engine_probe_reason(userdata), "the probe has not answered yet") == 0;
}

void start_probe(void)
{
        struct probe_options options = {.mode = PROBE_MODE_BPF, .program = getenv("CTXD_PROBE")};

        ck_assert_int_ge(engine_start(world.engine, &options), 0);
        run_while(has_no_answer, world.engine); /* engine_start() waits for a while alone */
}

void world_start_bpf(void)
{
        world_start();
        start_probe();
        ck_assert_msg(strcmp(engine_membership_backend(world.engine), "bpf") == 0, "%s",
                        engine_probe_reason(world.engine));
}

static int on_idle_turn(sd_event_source *source, void *userdata)
{
        struct engine **e = userdata;

        engine_drain(*e, NULL);
        (void) engine_collect(*e, UINT32_MAX);
        return 0;
}

const char *bpf_missing(void)
{
        struct probe_options options = {.mode = PROBE_MODE_BPF, .program = getenv("CTXD_PROBE")};
        static char reason[512] = "out of memory";
        struct engine *e = NULL;
        struct turn turn = {};
        struct tree *t = NULL;
        sd_event *event = NULL;

        if (!options.program)
                return "CTXD_PROBE does not name a ctxd-probe";
        if (sd_event_new(&event) >= 0 && tree_new(&t) >= 0 &&
                        turn_init(&turn, event, "drain", on_idle_turn, &e) >= 0 &&
                        engine_new(&e, event, t, &turn) >= 0 && engine_start(e, &options) >= 0) {
                for (unsigned i = 0; i < 600 && has_no_answer(e); i++)
                        (void) sd_event_run(event, 100000);
                snprintf(reason, sizeof reason, "%s",
                                strcmp(engine_membership_backend(e), "bpf") == 0 ? ""
                                                                                 : engine_probe_reason(e));
        }
        engine_free(e);
        turn_deinit(&turn);
        tree_free(t);
        sd_event_unref(event);
        return reason[0] ? reason : NULL;
}

int run_suite(Suite *s)
{
        SRunner *runner = srunner_create(s);
        int failed;

        srunner_set_tap(runner, "-");
        srunner_run_all(runner, CK_SILENT);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int attach_by(struct context *c, struct child *child, const struct policy *policy)
{
        struct refused refused = {};

        return engine_attach(world.engine, &caller_daemon, c, child->pidfd, policy, &refused);
}

void attach(struct context *c, struct child *child, const struct policy *policy)
{
        ck_assert_int_eq(attach_by(c, child, policy), 0);
}

void attach_to_reap(struct context *c, struct child *child, const struct policy *policy)
{
        struct attachment a = {.wanted = *policy};
        struct refused refused = {};
        struct process *p, *self;

        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        ck_assert_int_eq(engine_process_open_pid(world.engine, getpid(), &self), 0);
        ck_assert(engine_may_reap(world.engine, p, self));
        ck_assert(!engine_may_reap(world.engine, self, p));
        ck_assert_int_eq(engine_describe(world.engine, p, &a), 0);
        a.reaper = self;
        ck_assert_int_eq(tree_attach(world.tree, now_boottime_usec(), &caller_daemon, c, &a, &refused), 0);
        ck_assert_int_eq(engine_join(world.engine, c, p, &a, &refused), 0);
        engine_process_close(p);
        engine_process_close(self);
}

struct context *context_of(struct process *p)
{
        struct context *c;

        ck_assert_int_ge(engine_context_of(world.engine, p, &c), 0);
        return c;
}

bool is_busy(void *context)
{
        return ((struct context *) context)->busy;
}
