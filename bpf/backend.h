/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "bpf/sample.h"
#include "proto/probe-record.h"

/* A backend looks at tasks: with the BPF programs, or through /proc. There may be none. */

struct watches;
struct backend;

typedef void (*sample_func)(const struct sample *sample, void *userdata);

struct backend_ops {
        enum probe_backend kind;
        /* Calls func for each living thread that is a member of a done context. */
        int (*sweep)(struct backend *backend, const struct watches *watches, sample_func func,
                        void *userdata);
        /* Takes another sample of the same thread; -ESRCH if the thread has gone. */
        int (*again)(struct backend *backend, const struct sample *sample, struct sample *ret);
        /* Reads what is asked of a leaked thread alone, and its kernel stack as text. */
        int (*evidence)(struct backend *backend, const struct sample *sample, struct evidence *ret,
                        char *ret_stack, size_t size);
        /* Says what a descriptor of the thread refers to; socket.h makes a text of it. */
        int (*describe)(struct backend *backend, const struct sample *sample, int fd, struct described *ret);
        /* Whether the process of the thread has a file of that user mapped. NULL: this cannot be known. */
        bool (*maps)(struct backend *backend, const struct sample *sample, uint32_t uid);
        /* Whether the last sweep could not look at that process, so that nothing follows from what it did not
         * see. NULL: it sees all that there is. */
        bool (*missed)(struct backend *backend, uint32_t pid);
        void (*free)(struct backend *backend);
        /* Is called when other threads have entered a watched context than before. NULL: each sweep looks
         * for itself. */
        void (*entered)(struct backend *backend, const struct watches *watches);
};

struct backend {
        const struct backend_ops *ops;
};

#define BACKEND_REASON_MAX 256

/* Loads the programs, or takes over the maps and links of an earlier probe. kept: PROBE_FDS descriptors,
 * which stay the caller's, or NULL. Where it fails, ret_reason says why. */
int backend_bpf_new(const int *kept, struct backend **ret, char *ret_reason, size_t size);
/* Gives the descriptors that ctxd wants, in the order of enum probe_fd. They stay the backend's. */
int backend_bpf_fds(struct backend *backend, int ret_fds[PROBE_FDS]);
/* Whether these descriptors are maps of this backend. */
bool backend_bpf_has(struct backend *backend, const int *kept);

int backend_proc_new(struct backend **ret);

/* For each kind of backend. NULL is a backend that is off: it sees nothing. */
struct backend *backend_free(struct backend *backend);
enum probe_backend backend_kind(const struct backend *backend);
const char *backend_name(enum probe_backend kind);
int backend_sweep(struct backend *backend, const struct watches *watches, sample_func func, void *userdata);
bool backend_missed(struct backend *backend, uint32_t pid);
void backend_entered(struct backend *backend, const struct watches *watches);
/* These three have another process look (look.h). */
int backend_evidence(struct backend *backend, const struct sample *sample, struct evidence *ret,
                char *ret_stack, size_t size);
int backend_describe(struct backend *backend, const struct sample *sample, int fd, struct described *ret);
bool backend_maps(struct backend *backend, const struct sample *sample, uint32_t uid);
/* 1: the thread has not run since the sample was taken. 0: it has run, or it has gone. */
int backend_unchanged(struct backend *backend, const struct sample *sample);
