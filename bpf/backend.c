/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "bpf/backend.h"
#include "bpf/look.h"

struct backend *backend_free(struct backend *backend)
{
        if (backend)
                backend->ops->free(backend);
        return NULL;
}

enum probe_backend backend_kind(const struct backend *backend)
{
        return backend ? backend->ops->kind : PROBE_BACKEND_OFF;
}

const char *backend_name(enum probe_backend kind)
{
        switch (kind) {
        case PROBE_BACKEND_BPF:
                return "bpf";
        case PROBE_BACKEND_PROC:
                return "proc";
        default:
                return "off";
        }
}

int backend_sweep(struct backend *backend, const struct watches *watches, sample_func func, void *userdata)
{
        return backend ? backend->ops->sweep(backend, watches, func, userdata) : 0;
}

bool backend_missed(struct backend *backend, uint32_t pid)
{
        return backend && backend->ops->missed && backend->ops->missed(backend, pid);
}

void backend_entered(struct backend *backend, const struct watches *watches)
{
        if (backend && backend->ops->entered)
                backend->ops->entered(backend, watches);
}

#define STACK_MAX 4096

struct sample_job {
        struct backend *backend;
        struct sample sample;
        int fd;
        uint32_t uid;
        int r;
        struct evidence evidence;
        struct described described;
        char stack[STACK_MAX];
};

static struct sample_job *job_of(struct backend *backend, const struct sample *sample)
{
        struct sample_job *j = look_job(sizeof *j);

        if (j) {
                j->backend = backend;
                j->sample = *sample;
        }
        return j;
}

static int run_job(struct sample_job *j, void (*run)(void *job))
{
        int r = look_run(run, (pid_t) j->sample.pid, j->sample.uid);

        return r < 0 ? r : j->r;
}

static void look_for_evidence(void *job)
{
        struct sample_job *j = job;

        j->r = j->backend->ops->evidence(j->backend, &j->sample, &j->evidence, j->stack, sizeof j->stack);
}

int backend_evidence(struct backend *backend, const struct sample *sample, struct evidence *ret,
                char *ret_stack, size_t size)
{
        struct sample_job *j = job_of(backend, sample);
        int r = j ? run_job(j, look_for_evidence) : -ENOMEM;

        if (r < 0)
                return r;
        *ret = j->evidence;
        j->stack[size - 1] = '\0';
        memcpy(ret_stack, j->stack, size);
        return 0;
}

static void look_at_fd(void *job)
{
        struct sample_job *j = job;

        j->r = j->backend->ops->describe(j->backend, &j->sample, j->fd, &j->described);
}

int backend_describe(struct backend *backend, const struct sample *sample, int fd, struct described *ret)
{
        struct sample_job *j = job_of(backend, sample);
        int r;

        if (!j)
                return -ENOMEM;
        j->fd = fd;
        r = run_job(j, look_at_fd);
        if (r >= 0)
                *ret = j->described;
        return r;
}

static void look_at_mappings(void *job)
{
        struct sample_job *j = job;

        j->r = j->backend->ops->maps(j->backend, &j->sample, j->uid);
}

bool backend_maps(struct backend *backend, const struct sample *sample, uint32_t uid)
{
        struct sample_job *j = backend && backend->ops->maps ? job_of(backend, sample) : NULL;

        if (!j)
                return false;
        j->uid = uid;
        return run_job(j, look_at_mappings) > 0;
}

int backend_unchanged(struct backend *backend, const struct sample *sample)
{
        struct sample again;

        if (!backend || backend->ops->again(backend, sample, &again) < 0)
                return 0;
        return again.context_id == sample->context_id && again.tid == sample->tid &&
               again.start_nsec == sample->start_nsec && again.nvcsw == sample->nvcsw &&
               again.nivcsw == sample->nivcsw && again.state != 0;
}
