/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "bpf/sample.h"
#include "proto/probe-record.h"

/* What looks at tasks: the BPF programs, or /proc, or nothing. */

struct watches;
struct backend;

typedef void (*sample_func)(const struct sample *sample, void *userdata);

struct backend_ops {
        enum probe_backend kind;
        /* Calls func for each live member thread of a done context. */
        int (*sweep)(struct backend *backend, const struct watches *watches, sample_func func,
                        void *userdata);
        /* The thread once more; -ESRCH if it has gone. */
        int (*again)(struct backend *backend, const struct sample *sample, struct sample *ret);
        /* With the kernel stack, as text. */
        int (*evidence)(struct backend *backend, const struct sample *sample, struct evidence *ret,
                        char *ret_stack, size_t size);
        /* What a descriptor of the thread is: a path, pipe:[n], socket:[n]. */
        int (*describe)(struct backend *backend, const struct sample *sample, int fd, char *ret, size_t size);
        void (*free)(struct backend *backend);
        /* The threads that have entered a watched context are others now. NULL: asked at each sweep. */
        void (*entered)(struct backend *backend, const struct watches *watches);
};

struct backend {
        const struct backend_ops *ops;
};

#define BACKEND_REASON_MAX 256

/* Loads the programs, or takes over the maps and links of an earlier probe (kept: PROBE_FDS descriptors,
 * still the caller's, or NULL). A failure is explained in ret_reason. */
int backend_bpf_new(const int *kept, struct backend **ret, char *ret_reason, size_t size);
/* The descriptors for ctxd, in the order of enum probe_fd; they stay the backend's. */
int backend_bpf_fds(struct backend *backend, int ret_fds[PROBE_FDS]);
/* Whether these descriptors are its own maps. */
bool backend_bpf_has(struct backend *backend, const int *kept);

int backend_proc_new(struct backend **ret);

/* Any of them; NULL is one that is off, and sees nothing. */
struct backend *backend_free(struct backend *backend);
enum probe_backend backend_kind(const struct backend *backend);
const char *backend_name(enum probe_backend kind);
int backend_sweep(struct backend *backend, const struct watches *watches, sample_func func, void *userdata);
void backend_entered(struct backend *backend, const struct watches *watches);
/* 1: it is the same thread, and has not run since; 0: it moved or has gone. */
int backend_unchanged(struct backend *backend, const struct sample *sample);
