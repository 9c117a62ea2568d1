/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "bpf/backend.h"

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

void backend_entered(struct backend *backend, const struct watches *watches)
{
        if (backend && backend->ops->entered)
                backend->ops->entered(backend, watches);
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
