/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "bpf/account.h"
#include "bpf/backend.h"
#include "bpf/leak.h"
#include "bpf/link.h"
#include "bpf/sweep.h"
#include "bpf/watch.h"

/* The whole program. */
struct probe {
        sd_event *event;
        struct link link;
        struct backend *backend;
        bool chosen; /* the backend was chosen, and the capabilities were given up */
        char reason[BACKEND_REASON_MAX];
        struct accounts accounts;
        struct watches watches;
        struct leaks leaks;
        struct sweeper sweeper;
};
