/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Takes samples from /proc, where the kernel refuses BPF. It sees the threads of the processes that ctxd
 * names in a WATCH, as far as their files can be read. It has a kernel stack only where /proc/PID/stack may
 * be read. It knows that a thread has slept on by the switches that the status file counts. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/backend.h"
#include "bpf/look.h"
#include "bpf/missed.h"
#include "bpf/socket.h"
#include "bpf/watch.h"
#include "util/cgroup.h"
#include "util/cleanup.h"

#define PF_IO_WORKER 0x10

struct proc_backend {
        struct backend backend;
        struct missed missed;
};

/* Translates the letter of /proc/PID/stat into the kernel's __state and exit_state, which the judge reads. */
static void set_state(struct sample *sample, char letter)
{
        static const struct {
                char letter;
                uint32_t state, exit_state;
        } states[] = {
                        {'R', 0, 0},
                        {'S', 0x1, 0},
                        {'D', 0x2, 0},
                        {'T', 0x4, 0},
                        {'t', 0x8, 0},
                        {'Z', 0, 0x20},
                        {'X', 0, 0x10},
                        {'I', 0x10, 0},
                        {'P', 0x40, 0},
        };

        sample->state = 0x4;
        for (size_t i = 0; i < ELEMENTSOF(states); i++)
                if (states[i].letter == letter) {
                        sample->state = states[i].state;
                        sample->exit_state = states[i].exit_state;
                }
}

static int read_file(uint32_t pid, uint32_t tid, const char *name, char *ret, size_t size)
{
        char path[96];
        _cleanup_close_ int fd = -1;
        ssize_t n;

        snprintf(path, sizeof path, "/proc/%u/task/%u/%s", pid, tid, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        n = read(fd, ret, size - 1);
        if (n < 0)
                return -errno;
        ret[n] = '\0';
        return (int) n;
}

static uint64_t status_number(const char *status, const char *key)
{
        const char *line = strstr(status, key);

        return line ? strtoull(line + strlen(key), NULL, 10) : 0;
}

static int read_stat(uint32_t pid, uint32_t tid, struct sample *ret, uint64_t *ret_start)
{
        char stat[1024], letter, *open_paren, *close_paren;
        unsigned long long utime, stime, start;
        unsigned ppid, flags;
        int r;

        r = read_file(pid, tid, "stat", stat, sizeof stat);
        if (r < 0)
                return r;
        open_paren = strchr(stat, '(');
        close_paren = strrchr(stat, ')'); /* the name itself may have parentheses */
        if (!open_paren || !close_paren)
                return -EBADMSG;
        if (sscanf(close_paren + 1,
                            " %c %u %*d %*d %*d %*d %u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d "
                            "%llu",
                            &letter, &ppid, &flags, &utime, &stime, &start) != 6)
                return -EBADMSG;
        set_state(ret, letter);
        ret->ppid = ppid;
        ret->flags = flags;
        ret->runtime_nsec = (utime + stime) * 1000000000ULL / (unsigned long) sysconf(_SC_CLK_TCK);
        *ret_start = start * 1000000000ULL / (unsigned long) sysconf(_SC_CLK_TCK);
        snprintf(ret->comm, sizeof ret->comm, "%.*s", (int) (close_paren - open_paren - 1), open_paren + 1);
        return 0;
}

static int read_sample(
                uint64_t context_id, uint32_t pid, uint32_t tid, uint64_t leader_start, struct sample *ret)
{
        struct sample sample = {.context_id = context_id, .pid = pid, .tid = tid, .named = 1};
        char text[8192];
        uint64_t start;
        int r;

        r = read_stat(pid, tid, &sample, &start);
        if (r < 0)
                return r;
        sample.start_nsec = start;
        sample.leader_start_nsec = leader_start;
        sample.slept_nsec = UINT64_MAX;
        sample.syscall = -1;
        r = read_file(pid, tid, "status", text, sizeof text);
        if (r < 0)
                return r;
        sample.nvcsw = status_number(text, "\nvoluntary_ctxt_switches:");
        sample.nivcsw = status_number(text, "\nnonvoluntary_ctxt_switches:");
        sample.uid = (uint32_t) status_number(text, "\nUid:");
        sample.ptrace = (uint32_t) status_number(text, "\nTracerPid:");
        sample.core = (uint32_t) status_number(text, "\nCoreDumping:");
        if (read_file(pid, tid, "syscall", text, sizeof text) > 0) {
                long long number;

                if (sscanf(text, "%lld %llx %llx %llx %llx %llx %llx %llx %llx", &number, &sample.args[0],
                                    &sample.args[1], &sample.args[2], &sample.args[3], &sample.args[4],
                                    &sample.args[5], &sample.sp, &sample.ip) == 9)
                        sample.syscall = number;
        }
        *ret = sample;
        return 0;
}

/* A process that the cgroup freezer holds looks as if it slept interruptibly. */
static bool is_frozen(uint32_t pid)
{
        _cleanup_free_ char *by = NULL;

        return cgroup_frozen_by((pid_t) pid, &by) > 0;
}

#define SAMPLES_MAX 512

/* Another process takes the samples (look.h). */
struct process_job {
        uint64_t context_id;
        uint32_t pid;
        long at; /* of its directory of threads: where to go on; -1: that was all */
        int r;   /* how many there are, or -errno */
        struct sample samples[SAMPLES_MAX];
};

_Static_assert(sizeof(struct process_job) <= LOOK_JOB_MAX, "it fits");

static void look_at_process(void *job)
{
        struct process_job *j = job;
        struct sample leader = {};
        uint64_t start;
        char path[64];
        bool frozen;
        struct dirent *entry;
        DIR *dir;

        j->r = read_stat(j->pid, j->pid, &leader, &start);
        if (j->r < 0)
                return;
        snprintf(path, sizeof path, "/proc/%u/task", j->pid);
        dir = opendir(path);
        if (!dir) {
                j->r = -errno;
                return;
        }
        if (j->at > 0)
                seekdir(dir, j->at);
        j->at = -1;
        frozen = is_frozen(j->pid);
        while ((entry = readdir(dir))) {
                struct sample *sample = j->samples + j->r;
                uint32_t tid = (uint32_t) strtoul(entry->d_name, NULL, 10);

                /* The workers of an io_uring are the kernel's. They end with the process. */
                if (tid == 0 || read_sample(j->context_id, j->pid, tid, start, sample) < 0 ||
                                sample->exit_state || (sample->flags & PF_IO_WORKER))
                        continue;
                if (frozen)
                        sample->jobctl |= 1ULL << 23;
                if (++j->r == SAMPLES_MAX) {
                        j->at = telldir(dir);
                        break;
                }
        }
        closedir(dir);
}

static int sweep_process(uint64_t context_id, uint32_t pid, uint32_t uid, sample_func func, void *userdata)
{
        long at = 0;
        int n = 0, r;

        do {
                struct process_job *j = look_job(offsetof(struct process_job, samples));

                if (!j)
                        return -ENOMEM;
                j->context_id = context_id;
                j->pid = pid;
                j->at = at;
                r = look_run(look_at_process, (pid_t) pid, uid);
                if (r < 0 || j->r < 0)
                        return r < 0 ? r : j->r;
                for (int i = 0; i < j->r; i++)
                        func(j->samples + i, userdata);
                n += j->r;
                at = j->at;
        } while (at > 0);
        return n;
}

struct thread_job {
        uint64_t context_id;
        uint32_t pid, tid;
        uint64_t leader_start; /* 0: it is read, too */
        int r;
        struct sample sample;
};

static void look_at_thread(void *job)
{
        struct thread_job *j = job;
        struct sample leader = {};

        j->r = 0;
        if (j->leader_start == 0)
                j->r = read_stat(j->pid, j->pid, &leader, &j->leader_start);
        if (j->r >= 0)
                j->r = read_sample(j->context_id, j->pid, j->tid, j->leader_start, &j->sample);
        if (j->r >= 0 && is_frozen(j->pid))
                j->sample.jobctl |= 1ULL << 23;
}

static int take_sample(uint64_t context_id, uint32_t pid, uint32_t tid, uint32_t uid, uint64_t leader_start,
                struct sample *ret)
{
        struct thread_job *j = look_job(sizeof *j);
        int r;

        if (!j)
                return -ENOMEM;
        *j = (struct thread_job){
                        .context_id = context_id, .pid = pid, .tid = tid, .leader_start = leader_start};
        r = look_run(look_at_thread, (pid_t) pid, uid);
        if (r >= 0)
                r = j->r;
        if (r >= 0)
                *ret = j->sample;
        return r;
}

static int sweep_entered(struct proc_backend *b, const struct watch *watch, sample_func func, void *userdata)
{
        int n = 0;

        for (uint32_t i = 0; i < watch->n_entered; i++) {
                const struct entered_thread *t = &watch->entered[i];
                struct sample sample;
                int r;

                if (!t->is_looked_at)
                        continue;
                r = take_sample(watch->context_id, t->pid, t->tid, t->uid, 0, &sample);
                missed_add(&b->missed, t->pid, r);
                if (r < 0 || sample.exit_state)
                        continue;
                func(&sample, userdata);
                n++;
        }
        return n;
}

static int proc_sweep(
                struct backend *backend, const struct watches *watches, sample_func func, void *userdata)
{
        struct proc_backend *b = (struct proc_backend *) backend;
        struct watch *watch, *next;
        int n = 0;

        b->missed.n = 0;
        HASH_ITER (hh, watches->by_id, watch, next) {
                for (uint32_t i = 0; i < watch->record.n_pids; i++) {
                        uint32_t pid = watch->record.pids[i];
                        int r = sweep_process(
                                        watch->context_id, pid, look_payer((pid_t) pid), func, userdata);

                        if (r < 0)
                                missed_add(&b->missed, pid, r);
                        else
                                n += r;
                }
                n += sweep_entered(b, watch, func, userdata);
        }
        missed_sort(&b->missed);
        return n;
}

static int proc_again(struct backend *backend, const struct sample *sample, struct sample *ret)
{
        return take_sample(sample->context_id, sample->pid, sample->tid, sample->uid,
                        sample->leader_start_nsec, ret);
}

/* Without another process: this is called there. */
static int read_again(const struct sample *sample, struct sample *ret)
{
        return read_sample(sample->context_id, sample->pid, sample->tid, sample->leader_start_nsec, ret);
}

/* Only root with CAP_SYS_ADMIN may read the stack. Others get the name of the function in which the thread
 * sleeps. */
static int proc_evidence(struct backend *backend, const struct sample *sample, struct evidence *ret,
                char *ret_stack, size_t size)
{
        struct evidence evidence = {};
        struct sample after;
        int r;

        r = read_again(sample, &evidence.sample);
        if (r < 0)
                return r;
        r = read_file(sample->pid, sample->tid, "stack", ret_stack, size);
        if (r <= 0)
                r = read_file(sample->pid, sample->tid, "wchan", ret_stack, size);
        if (r <= 0 || strcmp(ret_stack, "0") == 0)
                ret_stack[0] = '\0';
        r = read_again(sample, &after);
        if (r < 0)
                return r;
        evidence.nvcsw_after = after.nvcsw;
        evidence.nivcsw_after = after.nivcsw;
        *ret = evidence;
        return 0;
}

static int proc_describe(struct backend *backend, const struct sample *sample, int fd, struct described *ret)
{
        char path[64];
        uint64_t inode;
        ssize_t n;

        *ret = (struct described){};
        snprintf(path, sizeof path, "/proc/%u/fd/%d", sample->pid, fd);
        n = readlink(path, ret->path, sizeof ret->path - 1);
        if (n < 0)
                return -errno;
        if (sscanf(ret->path, "socket:[%" SCNu64 "]", &inode) == 1)
                socket_find(sample->pid, sample->tid, fd, inode, ret);
        return 0;
}

static bool proc_missed(struct backend *backend, uint32_t pid)
{
        return missed_has(&((struct proc_backend *) backend)->missed, pid);
}

static void proc_free(struct backend *backend)
{
        free(((struct proc_backend *) backend)->missed.pids);
        free(backend);
}

static const struct backend_ops proc_ops = {
                .kind = PROBE_BACKEND_PROC,
                .sweep = proc_sweep,
                .again = proc_again,
                .evidence = proc_evidence,
                .describe = proc_describe,
                .missed = proc_missed,
                .free = proc_free,
};

int backend_proc_new(struct backend **ret)
{
        struct proc_backend *b = calloc(1, sizeof *b);

        if (!b)
                return -ENOMEM;
        b->backend.ops = &proc_ops;
        *ret = &b->backend;
        return 0;
}
