/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "proto/state-page.h"
#include "tests/leaks/harness.h"

const char *harness_probe_path;
uid_t harness_uid;

void wait_for_state(pid_t pid, pid_t tid, const char *letters)
{
        ck_assert_msg(HAPPENS(strchr(letters, task_state(pid, tid))), "%d/%d is not in one of the states %s",
                        pid, tid, letters);
}

/* The conversation */

static void send_welcome(struct harness *h, enum probe_backend backend, const int *kept)
{
        struct probe_welcome welcome = {
                        .header = {PROBE_WELCOME, sizeof welcome},
                        .version = PROBE_PROTOCOL_VERSION,
                        .kept = kept ? PROBE_FDS : 0,
                        .backend = backend,
        };
        union {
                char buffer[CMSG_SPACE(sizeof(int) * PROBE_FDS)];
                struct cmsghdr align;
        } control = {};
        struct iovec iov = {&welcome, sizeof welcome};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

        if (kept) {
                struct cmsghdr *c;

                message.msg_control = &control;
                message.msg_controllen = sizeof control;
                c = CMSG_FIRSTHDR(&message);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * PROBE_FDS);
                memcpy(CMSG_DATA(c), kept, sizeof(int) * PROBE_FDS);
        }
        ck_assert_int_eq(sendmsg(h->socket, &message, MSG_NOSIGNAL), sizeof welcome);
}

static void receive_hello(struct harness *h)
{
        union {
                char buffer[CMSG_SPACE(sizeof(int) * PROBE_FDS)];
                struct cmsghdr align;
        } control = {};
        struct iovec iov = {&h->hello, sizeof h->hello};
        struct msghdr message = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof control};
        struct pollfd p = {.fd = h->socket, .events = POLLIN};
        struct cmsghdr *c;

        ck_assert_int_eq(poll(&p, 1, PATIENCE_USEC / 1000), 1);
        ck_assert_int_eq(recvmsg(h->socket, &message, MSG_CMSG_CLOEXEC), sizeof h->hello);
        ck_assert_uint_eq(h->hello.header.type, PROBE_HELLO);
        c = CMSG_FIRSTHDR(&message);
        if (c) {
                ck_assert_uint_eq(c->cmsg_len, CMSG_LEN(sizeof(int) * PROBE_FDS));
                memcpy(h->fds, CMSG_DATA(c), sizeof h->fds);
        }
        ck_assert_int_eq(h->hello.backend == PROBE_BACKEND_BPF, c != NULL);
}

static int on_event(void *userdata, void *data, size_t size)
{
        struct harness *h = userdata;
        const struct membership_event *event = data;

        ck_assert_uint_ge(size, sizeof *event);
        if (event->slot < ELEMENTSOF(h->drained)) {
                if (event->kind == MEMBERSHIP_DRAINED)
                        h->drained[event->slot]++;
                else
                        h->born[event->slot]++;
        }
        return 0;
}

static void map_membership(struct harness *h)
{
        h->slots = mmap(NULL, sizeof *h->slots * MEMBERSHIP_SLOTS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED,
                        h->fds[PROBE_FD_SLOTS], 0);
        ck_assert_ptr_ne(h->slots, MAP_FAILED);
        h->stats = mmap(NULL, 4096, PROT_READ, MAP_SHARED, h->fds[PROBE_FD_STATS], 0);
        ck_assert_ptr_ne(h->stats, MAP_FAILED);
        h->events = ring_buffer__new(h->fds[PROBE_FD_EVENTS], on_event, h, NULL);
        ck_assert_ptr_nonnull(h->events);
}

void harness_start(struct harness *h, enum probe_backend backend, const int *kept, void (*before_exec)(void))
{
        int pair[2];

        memset(h, 0, sizeof *h);
        for (size_t i = 0; i < PROBE_FDS; i++)
                h->fds[i] = -1;
        h->records = mmap(NULL, HARNESS_RECORDS_MAX * sizeof *h->records, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        ck_assert_ptr_ne(h->records, MAP_FAILED);
        /* The kernel notes the user who makes the pair. */
        ck_assert_int_eq(setresuid(-1, harness_uid, -1), 0);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        ck_assert_int_eq(setresuid(-1, 0, -1), 0);
        h->probe = fork();
        ck_assert_int_ge(h->probe, 0);
        if (h->probe == 0) {
                char argument[32];
                int fd = dup(pair[1]);

                prctl(PR_SET_PDEATHSIG, SIGKILL);
                snprintf(argument, sizeof argument, "--fd=%d", fd);
                if (before_exec)
                        before_exec();
                execl(harness_probe_path, harness_probe_path, argument, NULL);
                perror(harness_probe_path);
                _exit(127);
        }
        close(pair[1]);
        h->socket = pair[0];
        send_welcome(h, backend, kept);
        receive_hello(h);
        if (h->fds[0] >= 0)
                map_membership(h);
}

void harness_kill_probe(struct harness *h)
{
        kill(h->probe, SIGKILL);
        waitpid(h->probe, NULL, 0);
        close(h->socket);
        h->probe = 0;
}

void harness_stop(struct harness *h)
{
        int status;

        if (h->probe > 0) {
                close(h->socket);
                ck_assert_int_eq(waitpid(h->probe, &status, 0), h->probe);
                ck_assert_int_eq(status, 0);
        }
        if (h->slots) {
                ring_buffer__free(h->events);
                munmap(h->slots, sizeof *h->slots * MEMBERSHIP_SLOTS_MAX);
                munmap(h->stats, 4096);
        }
        for (size_t i = 0; i < PROBE_FDS; i++)
                closep(&h->fds[i]);
        munmap(h->records, HARNESS_RECORDS_MAX * sizeof *h->records);
}

static void take(struct harness *h, const void *data, size_t size)
{
        const struct probe_header *header = data;

        ck_assert_uint_ge(size, sizeof *header);
        ck_assert_uint_eq(size, header->size);
        if (header->type == PROBE_SWEPT) {
                ck_assert_uint_eq(size, sizeof(struct probe_swept));
                h->n_swept++;
                return;
        }
        ck_assert_uint_lt(h->n_records, HARNESS_RECORDS_MAX);
        h->records[h->n_records].type = header->type;
        if (header->type == PROBE_LEAK) {
                ck_assert_uint_eq(size, sizeof(struct probe_leak));
                memcpy(&h->records[h->n_records].leak, data, size);
        } else {
                ck_assert_uint_eq(header->type, PROBE_RESOLVED);
                ck_assert_uint_eq(size, sizeof(struct probe_resolved));
                memcpy(&h->records[h->n_records].resolved, data, size);
        }
        h->n_records++;
}

static bool never(struct harness *h, const void *arg)
{
        return false;
}

bool harness_wait(struct harness *h, uint64_t usec, bool (*done)(struct harness *h, const void *arg),
                const void *arg)
{
        uint64_t until = now_boottime_usec() + usec;
        static char buffer[65536];

        if (!done)
                done = never;
        for (;;) {
                struct pollfd p = {.fd = h->probe > 0 ? h->socket : -1, .events = POLLIN};

                if (h->events)
                        ring_buffer__consume(h->events);
                if (done(h, arg))
                        return true;
                if (now_boottime_usec() >= until)
                        return false;
                if (poll(&p, 1, 10) > 0) {
                        ssize_t n = recv(h->socket, buffer, sizeof buffer, MSG_DONTWAIT);

                        ck_assert_msg(n > 0, "the probe has left");
                        take(h, buffer, (size_t) n);
                }
        }
}

/* What ctxd does */

/* Operations on task storage must not be preempted: with preempt=full the hooks fail on that CPU meanwhile.
 */
bool harness_without_realtime;

static void set_realtime(bool on)
{
        struct sched_param param = {.sched_priority = on ? 1 : 0};

        if (harness_without_realtime)
                return;
        (void) sched_setscheduler(0, on ? SCHED_FIFO | SCHED_RESET_ON_FORK : SCHED_OTHER, &param);
}

uint32_t harness_context(struct harness *h)
{
        uint32_t slot = ++h->n_slots;

        __atomic_store_n(&h->slots[slot].done, SLOT_ACTIVE, __ATOMIC_SEQ_CST);
        __atomic_store_n(&h->slots[slot].wanted, 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(&h->slots[slot].context_id, CONTEXT_OF(slot), __ATOMIC_SEQ_CST);
        return slot;
}

void harness_request(struct harness *h, pid_t pid, uint32_t slot)
{
        struct membership_value value = {.context_id = CONTEXT_OF(slot), .slot = slot};
        struct timespec ts;
        int pidfd = (int) syscall(SYS_pidfd_open, pid, 0);

        ck_assert_int_ge(pidfd, 0);
        clock_gettime(CLOCK_BOOTTIME, &ts);
        value.since_nsec = (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
        if (value.since_nsec <= h->since_nsec)
                value.since_nsec = h->since_nsec + 1;
        h->since_nsec = value.since_nsec;
        if (h->delay_usec > 0)
                sleep_usec(h->delay_usec);
        set_realtime(true);
        (void) bpf_map_update_elem(h->fds[PROBE_FD_REQUESTS], &pidfd, &value, BPF_ANY);
        set_realtime(false);
        close(pidfd);
}

static void run_iterator(int link)
{
        char byte;
        int fd = bpf_iter_create(link);

        ck_assert_int_ge(fd, 0);
        set_realtime(true);
        while (read(fd, &byte, 1) > 0)
                ;
        set_realtime(false);
        close(fd);
}

static uint64_t adopt_count(const struct harness *h)
{
        return __atomic_load_n(&h->stats->adopted, __ATOMIC_SEQ_CST) +
               __atomic_load_n(&h->stats->adopt_failed, __ATOMIC_SEQ_CST);
}

void harness_adopt(struct harness *h)
{
        uint64_t before;

        do {
                before = adopt_count(h);
                run_iterator(h->fds[PROBE_FD_ADOPT]);
        } while (adopt_count(h) != before);
}

bool harness_attach(struct harness *h, pid_t pid, uint32_t slot)
{
        int pidfd = (int) syscall(SYS_pidfd_open, pid, 0);
        struct membership_value value;
        bool ok = false;

        ck_assert_int_ge(pidfd, 0);
        for (int i = 0; i < 3 && !ok; i++) {
                harness_request(h, pid, slot);
                harness_adopt(h);
                set_realtime(true);
                ok = bpf_map_lookup_elem(h->fds[PROBE_FD_MEMBERS], &pidfd, &value) == 0;
                set_realtime(false);
                ok = ok && value.context_id == CONTEXT_OF(slot) && value.since_nsec == h->since_nsec;
        }
        set_realtime(true);
        (void) bpf_map_delete_elem(h->fds[PROBE_FD_REQUESTS], &pidfd);
        set_realtime(false);
        close(pidfd);
        return ok;
}

struct membership_task *harness_list(struct harness *h, size_t *ret_n)
{
        size_t size = 64 * 1024 * 1024 / 16, n = 0;
        char *buffer = malloc(size);
        int fd = bpf_iter_create(h->fds[PROBE_FD_LIST]);
        ssize_t k;

        ck_assert_int_ge(fd, 0);
        ck_assert_ptr_nonnull(buffer);
        set_realtime(true);
        while ((k = read(fd, buffer + n, size - n)) > 0)
                n += (size_t) k;
        set_realtime(false);
        ck_assert_int_eq(k, 0);
        close(fd);
        ck_assert_uint_eq(n % sizeof(struct membership_task), 0);
        *ret_n = n / sizeof(struct membership_task);
        return (struct membership_task *) buffer;
}

bool harness_is_member(struct harness *h, pid_t tid, uint32_t slot)
{
        size_t n;
        struct membership_task *tasks = harness_list(h, &n);
        bool found = false;

        for (size_t i = 0; i < n; i++)
                if (tasks[i].tid == (uint32_t) tid && tasks[i].value.slot == slot &&
                                tasks[i].value.context_id == CONTEXT_OF(slot))
                        found = true;
        free(tasks);
        return found;
}

int32_t harness_live(struct harness *h, uint32_t slot)
{
        return __atomic_load_n(&h->slots[slot].live, __ATOMIC_SEQ_CST);
}

void wait_for_live(struct harness *h, uint32_t slot, int32_t n)
{
        ck_assert_msg(HAPPENS(harness_live(h, slot) == n), "live of slot %u is %d, not %d", slot,
                        harness_live(h, slot), n);
}

int32_t harness_listed(struct harness *h, uint32_t slot)
{
        size_t n;
        struct membership_task *tasks = harness_list(h, &n);
        int32_t found = 0;

        for (size_t i = 0; i < n; i++)
                if (tasks[i].value.slot == slot)
                        found++;
        free(tasks);
        return found;
}

static void send_watch(struct harness *h, uint64_t context_id, uint32_t slot, uint64_t grace_usec,
                const pid_t *pids, size_t n)
{
        struct probe_watch watch = {
                        .header = {PROBE_WATCH, sizeof watch},
                        .context_id = context_id,
                        .slot = slot,
                        .state = STATE_WORD_CANCELED,
                        .done_usec = now_boottime_usec(),
                        .grace_usec = grace_usec,
                        .cause = "client went away",
                        .n_uids = 1,
                        .uids = {h->attached_by},
                        .cause_uid = h->cause_uid,
        };

        snprintf(watch.path, sizeof watch.path, "test/context-%u", slot);
        for (size_t i = 0; i < n; i++)
                watch.pids[watch.n_pids++] = (uint32_t) pids[i];
        ck_assert_int_eq(send(h->socket, &watch, sizeof watch, MSG_NOSIGNAL), sizeof watch);
}

void harness_cancel(struct harness *h, uint32_t slot, uint64_t grace_usec)
{
        __atomic_store_n(&h->slots[slot].done, SLOT_DONE, __ATOMIC_SEQ_CST);
        send_watch(h, CONTEXT_OF(slot), slot, grace_usec, NULL, 0);
}

void harness_cancel_pids(
                struct harness *h, uint64_t context_id, uint64_t grace_usec, const pid_t *pids, size_t n)
{
        send_watch(h, context_id, 0, grace_usec, pids, n);
}

void harness_enter(struct harness *h, uint32_t slot, pid_t pid, pid_t tid)
{
        struct probe_threads threads = {
                        .header = {PROBE_THREADS, sizeof threads},
                        .context_id = CONTEXT_OF(slot),
                        .n = 1,
                        .threads = {{.pid = (uint32_t) pid, .tid = (uint32_t) tid}},
        };

        ck_assert_int_eq(send(h->socket, &threads, sizeof threads, MSG_NOSIGNAL), sizeof threads);
}

void harness_forget(struct harness *h, uint32_t slot)
{
        struct probe_forget forget = {{PROBE_FORGET, sizeof forget}, CONTEXT_OF(slot)};

        ck_assert_int_eq(send(h->socket, &forget, sizeof forget, MSG_NOSIGNAL), sizeof forget);
}

static bool has_leak(struct harness *h, const void *arg)
{
        for (size_t i = 0; i < h->n_records; i++)
                if (h->records[i].type == PROBE_LEAK && h->records[i].leak.pid == *(const uint32_t *) arg)
                        return true;
        return false;
}

const struct probe_leak *harness_leak(struct harness *h, pid_t pid, uint64_t usec)
{
        uint32_t number = (uint32_t) pid;

        if (!harness_wait(h, usec, has_leak, &number))
                return NULL;
        for (size_t i = 0; i < h->n_records; i++)
                if (h->records[i].type == PROBE_LEAK && h->records[i].leak.pid == number)
                        return &h->records[i].leak;
        return NULL;
}

static bool has_resolved(struct harness *h, const void *arg)
{
        for (size_t i = 0; i < h->n_records; i++)
                if (h->records[i].type == PROBE_RESOLVED &&
                                h->records[i].resolved.leak_id == *(const uint64_t *) arg)
                        return true;
        return false;
}

const struct probe_resolved *harness_resolved(struct harness *h, uint64_t leak_id, uint64_t usec)
{
        if (!harness_wait(h, usec, has_resolved, &leak_id))
                return NULL;
        for (size_t i = 0; i < h->n_records; i++)
                if (h->records[i].type == PROBE_RESOLVED && h->records[i].resolved.leak_id == leak_id)
                        return &h->records[i].resolved;
        return NULL;
}

static bool is_drained(struct harness *h, const void *arg)
{
        uint32_t slot = *(const uint32_t *) arg;

        return harness_live(h, slot) == 0 && h->drained[slot] > 0;
}

bool harness_drained(struct harness *h, uint32_t slot, uint64_t usec)
{
        return harness_wait(h, usec, is_drained, &slot);
}

/* Where the test, which check runs in a child, leaves what it found. */
static struct probe_hello *found_hello;

START_TEST(what_backend)
{
        struct harness h;

        harness_start(&h, PROBE_BACKEND_BPF, NULL, NULL);
        *found_hello = h.hello;
        harness_stop(&h);
}
END_TEST

static bool is_refused(void)
{
        Suite *suite = suite_create("backend");
        SRunner *runner;
        bool failed;

        found_hello = mmap(
                        NULL, sizeof *found_hello, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (found_hello == MAP_FAILED)
                abort();
        add_case(suite, "backend", (const TTest *const[]){what_backend, NULL});
        /* Not in TAP: what it finds out decides whether there are any tests. */
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_SILENT);
        failed = srunner_ntests_failed(runner) > 0;
        srunner_free(runner);
        if (failed || found_hello->backend == PROBE_BACKEND_BPF)
                return false;
        printf("1..0 # SKIP %s\n", found_hello->reason);
        return true;
}

int harness_main(int argc, char **argv, bool needs_bpf, Suite *suite)
{
        if (argc < 2) {
                fprintf(stderr, "%s CTXD-PROBE\n", argv[0]);
                return 2;
        }
        harness_probe_path = argv[1];
        if (needs_bpf && is_refused())
                return 0;
        return run_suite(suite);
}
