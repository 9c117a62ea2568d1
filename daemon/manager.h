/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/service.h"
#include "daemon/config.h"

/* The whole daemon: it makes the tree, the world and the service from the configuration, and runs them. */

enum manager_mode {
        MANAGER_SYSTEM,
        MANAGER_USER,
        MANAGER_EMBEDDED,
};

struct manager {
        enum manager_mode mode;
        const char *directory;     /* embedded: where the socket lies */
        const char *config_file;   /* or NULL */
        const char *probe_program; /* or NULL */

        int given; /* the socket that systemd has passed to us, until we serve on it; -1: none */
        struct config config;
        sd_event *event;
        struct tree *tree;
        struct service service;
        bool serving;
};

int manager_start(struct manager *m);
int manager_run(struct manager *m);
void manager_stop(struct manager *m);
