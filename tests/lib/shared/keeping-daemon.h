/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A daemon of one context, as small as can be, which leaves behind what the next one takes over: the socket,
 * the state page, the done handle. What a restart keeps is then the library's business alone. */

struct kept {
        char directory[32], address[128];
        int listen_fd, page_fd, done_fd;
        struct {
                char cause[64];
                uint32_t n_asked;    /* Err */
                uint32_t n_calls;    /* all but those that make a connection */
                uint32_t n_released; /* Release */
                uint32_t n_undone;   /* Undone */
                bool is_found;       /* what CreateAndOpen says: it was there */
                bool bad_page;       /* CreateAndOpen gives another file */
                bool no_page;        /* it gives none, as to another user */
                bool says_nothing;   /* to Err */
                /* An authorization is needed for Err, and how often somebody would have asked a person. */
                bool wants_authorization;
                uint32_t n_interactive;
        } * state; /* shared by all */
};

void kept_init(struct kept *kept);
void kept_deinit(struct kept *kept);

/* Serves in a process of its own, and is ready when this returns. knows: the context, and keeps its page. */
pid_t keeping_daemon_start(struct kept *kept, uint64_t epoch, bool knows);
void keeping_daemon_kill(pid_t pid);
