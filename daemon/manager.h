/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/service.h"
#include "daemon/config.h"

/* The daemon: the tree, what touches the world for it, and whom it serves. */

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

        int given; /* the socket that systemd has handed over, until it is served; -1: none */
        struct config config;
        sd_event *event;
        struct tree *tree;
        struct service service;
        bool serving;
};

int manager_start(struct manager *m);
int manager_run(struct manager *m);
void manager_stop(struct manager *m);
