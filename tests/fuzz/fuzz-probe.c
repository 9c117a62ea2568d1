/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The probe: what it reads from ctxd, right and wrong, over connections that come and go, and what it then
 * makes of the threads that a backend shows it, which is the input, too. What it says itself must always be
 * right. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "bpf/disclosure.h"
#include "bpf/probe.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/send-record.h"

#define PATIENCE_USEC UINT64_C(20000000)
#define PATIENCE_ROUNDS 100
#define STEPS_MAX 128

union record {
        struct probe_header header;
        struct probe_welcome welcome;
        struct probe_watch watch;
        struct probe_forget forget;
        struct probe_threads threads;
        struct probe_hello hello;
        struct probe_leak leak;
        struct probe_resolved resolved;
        struct probe_swept swept;
        uint8_t bytes[8192];
};

static int listener = -1, daemon_fd = -1;
static char address[64];
static struct input *source; /* for the backend */

/* Nothing of this is for a journal; but what it would get has to be fields. */
int sd_journal_sendv(const struct iovec *fields, int n)
{
        for (int i = 0; i < n; i++) {
                const char *text = fields[i].iov_base, *end = memchr(text, '=', fields[i].iov_len);

                REQUIRE(end && end > text);
                for (const char *p = text; p < end; p++)
                        REQUIRE((*p >= 'A' && *p <= 'Z') || *p == '_');
        }
        return 0;
}

/* In place of the real one, which asks /proc: of one process in four just the fact. */
uint32_t disclosure_reader(const struct probe_watch *watch, const struct sample *sample)
{
        REQUIRE(watch->n_uids <= PROBE_UIDS_MAX);
        return sample->pid % 4 != 3 ? sample->uid : PROBE_NOBODY;
}

/* Threads, as the input has it: few of them, so that the same ones come again. */
static void make_sample(struct input *in, struct sample *s)
{
        static const int64_t calls[] = {-1, 0 /* read */, 7 /* poll */, 61 /* wait4 */, 247 /* waitid */,
                        58 /* vfork */, 202 /* futex */, 35, 9999};

        memset(s, 0, sizeof *s);
        s->context_id = 1 + input_choice(in, 4);
        s->pid = 100000000 + input_choice(in, 4); /* more than there can be */
        s->tid = s->pid + input_choice(in, 2);
        s->uid = 1000 + s->pid % 2;
        s->ppid = 100000000 + input_choice(in, 4);
        s->ptid = s->ppid;
        s->state = input_byte(in) & 0xf;
        s->flags = input_byte(in) & 0x1f;
        s->exit_state = input_byte(in) == 255;
        s->vfork = s->flags & 1;
        s->named = s->flags >> 1 & 1;
        s->nvcsw = input_choice(in, 2);
        s->start_nsec = s->leader_start_nsec = 1 + input_choice(in, 2);
        s->runtime_nsec = input_number(in);
        s->slept_nsec = input_number(in);
        s->syscall = calls[input_choice(in, ELEMENTSOF(calls))];
        for (unsigned i = 0; i < 2; i++)
                s->args[i] = input_byte(in) & 1 ? 100000000 + input_choice(in, 4) : input_number(in);
        (void) input_bytes(in, s->comm, sizeof s->comm - 1);
}

static int fake_sweep(
                struct backend *backend, const struct watches *watches, sample_func func, void *userdata)
{
        unsigned n = input_byte(source) & 15;
        struct sample s;

        if (n == 15)
                return -EIO;
        for (unsigned i = 0; i < n; i++) {
                make_sample(source, &s);
                func(&s, userdata);
        }
        return 0;
}

static int fake_again(struct backend *backend, const struct sample *sample, struct sample *ret)
{
        unsigned how = input_byte(source);

        if (how == 255)
                return -ESRCH;
        *ret = *sample;
        ret->nivcsw += how > 200;
        return 0;
}

static int fake_evidence(struct backend *backend, const struct sample *sample, struct evidence *ret,
                char *ret_stack, size_t size)
{
        memset(ret, 0, sizeof *ret);
        ret->sample = *sample;
        ret->nvcsw_after = sample->nvcsw + (input_byte(source) > 200);
        ret->nivcsw_after = sample->nivcsw;
        ret->n_frames = input_byte(source) & 63;
        ret->n_pollfds = input_byte(source) & 31;
        ret->frames[0] = input_byte(source);
        for (unsigned i = 0; i < SAMPLE_POLLFDS; i++)
                ret->pollfds[i].fd = (int) i - 1;
        (void) input_text(source, ret_stack, size, false);
        return 0;
}

static int fake_describe(struct backend *backend, const struct sample *sample, int fd, struct described *ret)
{
        if (input_byte(source) > 240)
                return -ENOENT;
        *ret = (struct described){};
        (void) input_text(source, ret->path, sizeof ret->path, false);
        return 0;
}

static void fake_free(struct backend *backend) {}

static bool fake_maps(struct backend *backend, const struct sample *sample, uint32_t uid)
{
        return input_byte(source) & 1;
}

static const struct backend_ops fake_ops = {
                .kind = PROBE_BACKEND_PROC,
                .sweep = fake_sweep,
                .again = fake_again,
                .evidence = fake_evidence,
                .describe = fake_describe,
                .maps = fake_maps,
                .free = fake_free,
};
static struct backend fake = {&fake_ops};

/* A place to connect to that leaves nothing behind: bound, opened, and unlinked. */
static void listener_init(void)
{
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        char directory[] = "/tmp/ctxd-fuzz-XXXXXX";
        int fd;

        if (listener >= 0)
                return;
        REQUIRE(mkdtemp(directory));
        snprintf(un.sun_path, sizeof un.sun_path, "%s/probe", directory);
        listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        REQUIRE(listener >= 0 && bind(listener, (struct sockaddr *) &un, sizeof un) == 0 &&
                        listen(listener, 4) == 0);
        fd = open(un.sun_path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        REQUIRE(fd >= 0 && unlink(un.sun_path) == 0 && rmdir(directory) == 0);
        snprintf(address, sizeof address, "/proc/self/fd/%d", fd);
}

static void run(struct probe *probe)
{
        for (unsigned i = 0; i < 100 && sd_event_run(probe->event, 0) > 0; i++)
                ;
}

/* The connection again, at once; where the machine has something else to do first, a timer is late. */
static void reconnect(struct probe *probe)
{
        uint64_t end_usec = now_boottime_usec() + PATIENCE_USEC;

        closep(&daemon_fd);
        daemon_fd = -1;
        run(probe);
        if (probe->link.error != 0)
                return;
        if (probe->link.retry)
                (void) sd_event_source_set_time(probe->link.retry, 0);
        run(probe);
        for (unsigned i = 0; i < PATIENCE_ROUNDS || now_boottime_usec() < end_usec; i++) {
                daemon_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (daemon_fd >= 0)
                        break;
                (void) sd_event_run(probe->event, 10000);
        }
        REQUIRE(daemon_fd >= 0);
}

static void check_leak(const struct probe_leak *l)
{
        bool is_more = l->kind == PROBE_LEAK_MORE;

        REQUIRE(l->kind == PROBE_LEAK_BLOCKED || l->kind == PROBE_LEAK_IGNORING || is_more);
        REQUIRE(l->leak_id > 0 && l->count > 0 && (l->tid > 0) == !is_more);
        REQUIRE(l->reader == PROBE_NOBODY || l->reader == l->uid);
        REQUIRE(memchr(l->comm, 0, sizeof l->comm) && memchr(l->syscall_text, 0, sizeof l->syscall_text));
        REQUIRE(memchr(l->waits_on, 0, sizeof l->waits_on) && memchr(l->why, 0, sizeof l->why));
        REQUIRE(memchr(l->kernel_stack, 0, sizeof l->kernel_stack) && memchr(l->stack, 0, sizeof l->stack));
        if (l->pid % 4 == 3 || is_more)
                REQUIRE(!l->syscall_text[0] && !l->waits_on[0] && !l->why[0] && !l->kernel_stack[0]);
}

static void daemon_read(void)
{
        union record record;
        ssize_t n;

        while (daemon_fd >= 0 && (n = recv(daemon_fd, &record, sizeof record, MSG_DONTWAIT)) > 0) {
                REQUIRE((size_t) n >= sizeof record.header && record.header.size == (size_t) n);
                switch (record.header.type) {
                case PROBE_HELLO:
                        REQUIRE(n == sizeof record.hello &&
                                        memchr(record.hello.reason, 0, sizeof record.hello.reason));
                        break;
                case PROBE_LEAK:
                        REQUIRE(n == sizeof record.leak);
                        check_leak(&record.leak);
                        break;
                case PROBE_RESOLVED:
                        REQUIRE(n == sizeof record.resolved && record.resolved.leak_id > 0);
                        break;
                default:
                        REQUIRE(record.header.type == PROBE_SWEPT && n == sizeof record.swept);
                }
        }
}

static uint64_t pick_time(struct input *in)
{
        unsigned how = input_byte(in);

        return how < 200 ? now_boottime_usec() - how * 1000 : input_number(in);
}

static size_t make_watch(struct input *in, struct probe_watch *w)
{
        w->header = (struct probe_header){PROBE_WATCH, sizeof *w};
        w->context_id = 1 + input_choice(in, 4);
        w->state = input_byte(in) & 3;
        w->done_usec = pick_time(in);
        w->grace_usec = input_number(in);
        w->n_pids = (uint32_t) input_number(in);
        for (unsigned i = 0; i < 2; i++)
                w->pids[i] = 100000000 + input_choice(in, 4);
        if (input_byte(in) == 255)
                memset(w->path, 'x', sizeof w->path + sizeof w->cause);
        else {
                (void) input_bytes(in, w->path, sizeof w->path);
                (void) input_bytes(in, w->cause, sizeof w->cause);
        }
        w->n_uids = (uint32_t) input_bytes(in, w->uids, 16);
        w->n_uids = w->n_uids > 8 ? UINT32_MAX : w->n_uids;
        return sizeof *w;
}

static size_t make_threads(struct input *in, struct probe_threads *t)
{
        t->header = (struct probe_header){PROBE_THREADS, sizeof *t};
        t->context_id = 1 + input_choice(in, 4);
        t->n = (uint32_t) input_number(in);
        for (unsigned i = 0; i < 2; i++) {
                t->threads[i].pid = 100000000 + input_choice(in, 4);
                t->threads[i].tid = t->threads[i].pid + input_choice(in, 2);
                t->threads[i].uid = 1000 + i;
        }
        return sizeof *t;
}

static size_t make_record(struct input *in, union record *ret)
{
        memset(ret, 0, sizeof *ret);
        switch (input_choice(in, 6)) {
        case 0:
                ret->welcome.header = (struct probe_header){PROBE_WELCOME, sizeof ret->welcome};
                ret->welcome.version = input_byte(in) < 240 ? PROBE_PROTOCOL_VERSION : 7;
                ret->welcome.kept = input_byte(in) < 200 ? 0 : PROBE_FDS;
                ret->welcome.backend = input_byte(in) < 200 ? PROBE_BACKEND_PROC : input_choice(in, 4);
                ret->welcome.strict = input_byte(in) & 1;
                return sizeof ret->welcome;
        case 1:
        case 2:
                return make_watch(in, &ret->watch);
        case 3:
                ret->forget.header = (struct probe_header){PROBE_FORGET, sizeof ret->forget};
                ret->forget.context_id = 1 + input_choice(in, 5);
                return sizeof ret->forget;
        case 4:
                if (input_byte(in) >= 128)
                        return make_threads(in, &ret->threads);
                ret->threads.header = (struct probe_header){PROBE_THREADS, sizeof ret->threads};
                return sizeof ret->threads; /* of a context that is not there */
        default:
                return input_bytes(in, ret->bytes, sizeof ret->bytes);
        }
}

_Static_assert(2 * PROBE_FDS <= SEND_FDS_MAX, "more than are passed fit");

static void daemon_record(struct input *in)
{
        unsigned how = input_byte(in), n_fds = 0;
        union record record;
        size_t size;

        if (how >= 224)
                n_fds = how & 1 ? PROBE_FDS : input_choice(in, 2 * PROBE_FDS);
        size = make_record(in, &record);
        if (how >= 192 && how < 224)
                size = input_raw(in, 2) % sizeof record;
        if (how >= 208 && how < 224)
                record.header.size = (uint32_t) size;
        send_record(daemon_fd, &record, size, n_fds);
}

static void tick(struct probe *probe)
{
        int enabled;

        if (sd_event_source_get_enabled(probe->sweeper.timer, &enabled) < 0 || enabled == SD_EVENT_OFF)
                return;
        probe->sweeper.planned_usec = now_boottime_usec();
        (void) sd_event_source_set_time(probe->sweeper.timer, 0);
}

static void welcome(struct probe *probe)
{
        union record record = {.welcome = {{PROBE_WELCOME, sizeof record.welcome}, PROBE_PROTOCOL_VERSION, 0,
                                               PROBE_BACKEND_PROC}};

        send_record(daemon_fd, &record, sizeof record.welcome, 0);
        run(probe);
}

static void step(struct probe *probe, struct input *in)
{
        switch (input_choice(in, 8)) {
        case 0:
        case 1:
        case 2:
                daemon_record(in);
                break;
        case 3:
        case 4:
        case 5:
                tick(probe);
                break;
        case 6:
                daemon_read();
                break;
        default:
                reconnect(probe);
                if (input_byte(in) & 1)
                        welcome(probe);
        }
        run(probe);
        if (probe->link.connection.fd < 0)
                reconnect(probe);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {data, data + size};
        struct probe probe = {.backend = &fake, .chosen = true};

        source = &in;
        listener_init();
        REQUIRE(sd_event_new(&probe.event) >= 0);
        REQUIRE(sweeper_init(&probe) >= 0 && link_init(&probe, address, -1) >= 0);
        probe.leaks.max = 16; /* of which one user gets two */
        reconnect(&probe);
        probe.link.uid = geteuid() + (size & 1); /* another one's, or our own */
        welcome(&probe);
        /* One that does not fit is told to go: that is its end. */
        for (unsigned i = 0; i < STEPS_MAX && !input_is_empty(&in) && probe.link.error == 0; i++)
                step(&probe, &in);
        daemon_read();
        link_deinit(&probe);
        sweeper_deinit(&probe);
        sd_event_unref(probe.event);
        closep(&daemon_fd);
        daemon_fd = -1;
        return 0;
}
