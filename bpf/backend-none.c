/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Is built instead of backend-bpf.c where clang, bpftool or libbpf is missing. */

#include <errno.h>
#include <stdio.h>

#include "bpf/backend.h"

int backend_bpf_new(const int *kept, struct backend **ret, char *ret_reason, size_t size)
{
        snprintf(ret_reason, size, "ctxd was built without its BPF programs");
        return -EOPNOTSUPP;
}

int backend_bpf_fds(struct backend *backend, int ret_fds[PROBE_FDS])
{
        return -EOPNOTSUPP;
}

bool backend_bpf_has(struct backend *backend, const int *kept)
{
        return false;
}
