/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "ctl/saved-terminal.h"
#include "ctl/terminal.h"

/* The screen that was there before (1047 and not 1049, which would put the cursor somewhere where the other
 * screen was never shown), the last line of it, the cursor, plain keys, no reports of the mouse, no brackets
 * around what is pasted, plain text. */
#define PLAIN_SCREEN                                                                                \
        "\033[?1047l\033[9999;1H\033[?25h\033[?1l\033>\033[?1000l\033[?1002l\033[?1003l\033[?1006l" \
        "\033[?2004l\033[0m\r\n"

void saved_terminal_take(struct saved_terminal *saved)
{
        saved->fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (saved->fd >= 0 && (tcgetpgrp(saved->fd) != getpgrp() || tcgetattr(saved->fd, &saved->modes) < 0))
                saved_terminal_deinit(saved);
}

bool saved_terminal_is_ours(const struct saved_terminal *saved)
{
        return saved->fd >= 0 && tcgetpgrp(saved->fd) == getpgrp();
}

/* A shell that was the command has made its own group the foreground. */
static bool take_foreground(const struct saved_terminal *saved)
{
        pid_t group = tcgetpgrp(saved->fd);
        sigset_t mask;

        if (group == getpgrp())
                return true;
        if (group <= 0 || kill(-group, 0) == 0 || errno != ESRCH)
                return false;
        sigemptyset(&mask);
        sigaddset(&mask, SIGTTOU); /* else we would be stopped */
        sigprocmask(SIG_BLOCK, &mask, NULL);
        return tcsetpgrp(saved->fd, getpgrp()) == 0;
}

static bool are_same(const struct termios *a, const struct termios *b)
{
        return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
               a->c_lflag == b->c_lflag && memcmp(a->c_cc, b->c_cc, sizeof a->c_cc) == 0;
}

void saved_terminal_restore(const struct saved_terminal *saved)
{
        struct termios now;

        if (saved->fd < 0 || !take_foreground(saved) || tcgetattr(saved->fd, &now) < 0 ||
                        are_same(&now, &saved->modes))
                return;
        (void) tcsetattr(saved->fd, TCSANOW, &saved->modes);
        if ((saved->modes.c_lflag & ICANON) && !(now.c_lflag & ICANON) && terminal_is_capable())
                (void) !write(saved->fd, PLAIN_SCREEN, strlen(PLAIN_SCREEN));
}

void saved_terminal_deinit(struct saved_terminal *saved)
{
        closep(&saved->fd);
        saved->fd = -1;
}
