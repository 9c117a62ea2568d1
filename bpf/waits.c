/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpf/chain.h"
#include "bpf/look.h"
#include "bpf/probe.h"
#include "bpf/socket.h"
#include "bpf/syscall.h"
#include "bpf/waits.h"
#include "util/cleanup.h"

#define CHAIN_MAX 8

void waits_make_printable(char *text)
{
        for (; *text; text++)
                if ((unsigned char) *text < 0x20 || *text == 0x7f)
                        *text = '?';
}

void waits_syscall(const struct sample *sample, char *ret, size_t size)
{
        const char *name = syscall_name(sample->syscall);

        ret[0] = '\0';
        if (sample->syscall < 0)
                return;
        if (!name) {
                snprintf(ret, size, "system call %lld", (long long) sample->syscall);
                return;
        }
        switch (syscall_kind(sample->syscall)) {
        case SYSCALL_FD:
        case SYSCALL_WAIT4:
                snprintf(ret, size, "%s(%d)", name, (int) sample->args[0]);
                break;
        case SYSCALL_WAITID:
                snprintf(ret, size, "%s(%d, %d)", name, (int) sample->args[0], (int) sample->args[1]);
                break;
        case SYSCALL_POLL:
                snprintf(ret, size, "%s(%u descriptors)", name, (unsigned) sample->args[1]);
                break;
        default:
                snprintf(ret, size, "%s()", name);
        }
}

/* Appends `more`, or "..." if there is no room for it. */
static void append(char *text, size_t size, const char *more)
{
        size_t n = strlen(text);

        if (n + strlen(more) < size)
                memcpy(text + n, more, strlen(more) + 1);
        else if (n + 4 <= size && (n < 3 || strcmp(text + n - 3, "...") != 0))
                memcpy(text + n, "...", 4);
}

void waits_name_process(int pid, char *ret, size_t size)
{
        char path[64], comm[32] = "";
        _cleanup_close_ int fd = -1;
        ssize_t n;

        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd >= 0 ? read(fd, comm, sizeof comm - 1) : -1;
        if (n > 0)
                comm[strcspn(comm, "\n")] = '\0';
        waits_make_printable(comm);
        snprintf(ret, size, "%s[%d]", n > 0 ? comm : "process", pid);
}

static void name_fds(struct probe *probe, const struct evidence *evidence, char *ret, size_t size)
{
        for (uint32_t i = 0; i < evidence->n_pollfds && i < SAMPLE_POLLFDS; i++) {
                char text[320], target[256];
                struct described described;

                if (evidence->pollfds[i].fd < 0)
                        continue;
                if (backend_describe(probe->backend, &evidence->sample, evidence->pollfds[i].fd, &described) <
                                0)
                        snprintf(target, sizeof target, "unknown");
                else
                        socket_text(&described, target, sizeof target);
                snprintf(text, sizeof text, "%s%d: %s", ret[0] ? ", " : "", evidence->pollfds[i].fd, target);
                append(ret, size, text);
        }
}

void waits_on(struct probe *probe, const struct evidence *evidence, char *ret, size_t size)
{
        const struct sample *sample = &evidence->sample;
        struct described described;
        int pid;

        ret[0] = '\0';
        switch (syscall_kind(sample->syscall)) {
        case SYSCALL_FD:
                if (backend_describe(probe->backend, sample, (int) sample->args[0], &described) < 0)
                        break;
                if (evidence->n_address > 0)
                        socket_set_destination(&described, evidence->path, evidence->n_address);
                socket_text(&described, ret, size);
                break;
        case SYSCALL_POLL:
                name_fds(probe, evidence, ret, size);
                break;
        case SYSCALL_WAIT4:
        case SYSCALL_WAITID:
                if (syscall_kind(sample->syscall) == SYSCALL_WAIT4)
                        pid = (int) sample->args[0];
                else
                        pid = sample->args[0] == 1 ? (int) sample->args[1] : 0;
                if (pid > 0)
                        waits_name_process(pid, ret, size);
                else
                        snprintf(ret, size, "any child");
                break;
        case SYSCALL_OPEN:
                snprintf(ret, size, "%s", evidence->path);
                break;
        case SYSCALL_FUTEX:
                /* Without its address, which would tell how the memory of the process is laid out. */
                snprintf(ret, size, "a futex");
                break;
        case SYSCALL_SLEEP:
                snprintf(ret, size, "a timer");
                break;
        default:
                break;
        }
        waits_make_printable(ret);
}

/* Says whether the thread blocks SIGTERM, or its process ignores or catches it. Its status file tells. */
static void why_signal(const struct sample *sample, char *ret, size_t size)
{
        static const struct {
                const char *key, *text;
        } sets[] = {
                        {"SigBlk:", "SIGTERM is blocked"},
                        {"SigIgn:", "SIGTERM is ignored"},
                        {"SigCgt:", "SIGTERM is caught"},
        };
        char path[64], status[8192];

        snprintf(path, sizeof path, "/proc/%u/task/%u/status", sample->pid, sample->tid);
        if (look_file(path, (pid_t) sample->pid, sample->uid, status, sizeof status, NULL) <= 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(sets); i++) {
                const char *line = strstr(status, sets[i].key);

                if (line && strtoull(line + strlen(sets[i].key), NULL, 16) >> (SIGTERM - 1) & 1) {
                        append(ret, size, sets[i].text);
                        return;
                }
        }
}

void waits_why(struct probe *probe, const struct sample *sample, char *ret, size_t size)
{
        const struct sweeper *s = &probe->sweeper;
        const struct sample *child = sample, *waiter;
        char chain[256] = "";

        ret[0] = '\0';
        if ((sample->state & 0x3) == 0x2 && !(sample->state & 0x100))
                append(ret, size, "its sleep is one that no signal ends");
        else
                why_signal(sample, ret, size);

        for (int i = 0; i < CHAIN_MAX && (waiter = chain_waiter(s->samples, s->n_samples, child)); i++) {
                char text[64];

                snprintf(text, sizeof text, "%s%s[%u]", i > 0 ? ", for which waits " : "", waiter->comm,
                                waiter->pid);
                append(chain, sizeof chain, text);
                child = waiter;
        }
        if (chain[0]) {
                append(ret, size, ret[0] ? "; it is waited for by " : "it is waited for by ");
                append(ret, size, chain);
        }
}
