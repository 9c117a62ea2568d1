/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "ctl/ctxctl.h"

/* Something that is drawn again and again. On a terminal it has the alternate screen to itself, until q or
 * ^C; elsewhere one drawing follows the other, with an empty line between them. */

struct live {
        struct ctl *ctl;
        uint64_t delay_usec; /* UINT64_MAX: only a key makes it read again */
        uint64_t iterations; /* how often it is read; UINT64_MAX: until the user ends it */
        bool batch;          /* leave the terminal alone */
        /* Reads what is to be drawn. 0, or a positive exit status after an error message. */
        int (*read)(void *userdata);
        /* Lines that are too wide are cut, and those that are too many are counted. */
        int (*draw)(void *userdata, FILE *out);
        /* Takes a key; what it changes is drawn at once. May be NULL. */
        void (*key)(void *userdata, char key);
        void *userdata;
};

/* Whether it gets the screen. */
bool live_has_screen(const struct live *live);
/* Returns the exit status. */
int live_run(const struct live *live);
/* Gives the terminal back, if it was taken. A signal's handler may call it. */
void live_end(void);
