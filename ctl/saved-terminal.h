/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>
#include <termios.h>

/* The modes of the terminal before a command was run, which a command that is killed cannot set back. */
struct saved_terminal {
        int fd; /* -1: there is no terminal, or we are not in its foreground */
        struct termios modes;
};

#define SAVED_TERMINAL   \
        {                \
                .fd = -1 \
        }

void saved_terminal_take(struct saved_terminal *saved);
/* Puts us into the foreground again, where the command has taken that and is gone, and sets the modes back.
 * Where one has left them that reads single keys it may have drawn on the whole screen, so we leave the
 * alternate screen as well. Nothing happens where another job has the terminal by now. */
void saved_terminal_restore(const struct saved_terminal *saved);
/* We may write to the terminal without being in anybody's way. */
bool saved_terminal_is_ours(const struct saved_terminal *saved);
void saved_terminal_deinit(struct saved_terminal *saved);
