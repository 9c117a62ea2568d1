/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/handle.h"
#include "ctl/json.h"
#include "ctl/live.h"
#include "ctl/terminal.h"
#include "ctl/text.h"

/* The signals that end the program have a handler, and are not read from a descriptor as the others are: so
 * ^C ends it also while it waits for a daemon that does not answer. */

/* The alternate screen, without a cursor, and without going on in the next line where one is full. */
#define TAKE "\033[?1049h\033[?25l\033[?7l"
#define GIVE_BACK "\033[?7h\033[?25h\033[?1049l"

static struct {
        volatile sig_atomic_t taken, has_modes;
        struct termios modes; /* as they were */
} screen;

static bool write_all(const char *text, size_t n)
{
        while (n > 0) {
                ssize_t written = write(STDOUT_FILENO, text, n);

                if (written < 0 && errno != EINTR)
                        return false; /* nobody looks at it any more */
                if (written > 0) {
                        text += written;
                        n -= (size_t) written;
                }
        }
        return true;
}

void live_end(void)
{
        if (!screen.taken)
                return;
        screen.taken = false;
        (void) write_all(GIVE_BACK, strlen(GIVE_BACK));
        if (screen.has_modes)
                tcsetattr(STDIN_FILENO, TCSANOW, &screen.modes);
}

/* We may be here because the terminal takes nothing (^S, a connection that hangs), so we do not wait for it.
 * The descriptor's flags are also the shell's. */
static void on_end(int signal)
{
        int flags = fcntl(STDOUT_FILENO, F_GETFL);

        if (flags >= 0)
                (void) fcntl(STDOUT_FILENO, F_SETFL, flags | O_NONBLOCK);
        live_end();
        if (flags >= 0)
                (void) fcntl(STDOUT_FILENO, F_SETFL, flags);
        _exit(EXIT_DONE);
}

/* Keys come at once, and are not shown. ^C and ^Z stay what they are. */
static void take_screen(void)
{
        struct termios modes;

        fflush(stdout);
        if (!screen.taken)
                screen.has_modes = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &screen.modes) == 0;
        screen.taken = true;
        if (screen.has_modes) {
                modes = screen.modes;
                modes.c_lflag &= ~(tcflag_t) (ICANON | ECHO);
                modes.c_cc[VMIN] = 1;
                modes.c_cc[VTIME] = 0;
                tcsetattr(STDIN_FILENO, TCSANOW, &modes);
        }
        (void) write_all(TAKE, strlen(TAKE));
}

static int catch_signals(int *ret_fd)
{
        static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
        struct sigaction action = {.sa_handler = on_end};
        sigset_t mask;

        sigfillset(&action.sa_mask);
        for (size_t i = 0; i < ELEMENTSOF(ends); i++)
                sigaction(ends[i], &action, NULL);
        sigemptyset(&mask);
        sigaddset(&mask, SIGWINCH);
        sigaddset(&mask, SIGTSTP);
        sigaddset(&mask, SIGCONT);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) >= 0)
                *ret_fd = signalfd(-1, &mask, SFD_CLOEXEC);
        if (*ret_fd >= 0)
                return 0;
        print_error("cannot wait for signals: %m");
        return EXIT_FAILED;
}

static void read_signals(int fd)
{
        struct signalfd_siginfo info;

        if (read(fd, &info, sizeof info) != sizeof info)
                return;
        if (info.ssi_signo == SIGTSTP) {
                live_end();
                raise(SIGSTOP);
        } else if (info.ssi_signo == SIGCONT) {
                take_screen();
        }
}

/* Each line is erased before it is written: behind it, in the last column, that would erase its end. */
static void put_frame(FILE *out, const char *text)
{
        size_t rows = terminal_rows(), columns = terminal_columns(), n_lines = 0;
        char more[64];

        for (const char *p = text; (p = strchr(p, '\n')); p++)
                n_lines++;
        fputs("\033[H", out);
        for (size_t i = 0; i < rows && i < n_lines; i++) {
                size_t n = strcspn(text, "\n");

                fputs(i > 0 ? "\r\n\033[K" : "\033[K", out);
                if (i + 1 == rows && n_lines > rows) {
                        snprintf(more, sizeof more, "%s and %zu more", glyph(GLYPH_ELLIPSIS), n_lines - i);
                        text_put(out, more, strlen(more), columns);
                } else {
                        text_put(out, text, n, columns);
                }
                text += n + 1;
        }
        if (n_lines == 0)
                fputs("\033[J", out);
        else if (n_lines < rows)
                fputs("\r\n\033[J", out);
}

static int draw_on_screen(const struct live *live)
{
        _cleanup_free_ char *text = NULL, *frame = NULL;
        size_t text_size, frame_size;
        FILE *out;
        int r;

        terminal_resized();
        out = open_memstream(&text, &text_size);
        r = out ? live->draw(live->userdata, out) : 0;
        if (!out || fclose(out) != 0 || !(out = open_memstream(&frame, &frame_size))) {
                print_error("out of memory");
                return EXIT_FAILED;
        }
        put_frame(out, text);
        if (fclose(out) != 0 || !write_all(frame, frame_size))
                r = EXIT_FAILED;
        return r;
}

static int draw(const struct live *live, bool first)
{
        int r;

        if (screen.taken)
                return draw_on_screen(live);
        if (!first && live->ctl->json == JSON_OFF)
                putchar('\n');
        r = live->ctl->json == JSON_OFF ? text_draw(live->draw, live->userdata)
                                        : live->draw(live->userdata, stdout);
        if (r == 0 && fflush(stdout) != 0) {
                print_error("cannot write: %m");
                r = EXIT_FAILED;
        }
        return r;
}

enum wake {
        WAKE_READ,
        WAKE_DRAW,
        WAKE_QUIT,
};

static enum wake read_keys(const struct live *live)
{
        char keys[64];
        ssize_t n = read(STDIN_FILENO, keys, sizeof keys);
        enum wake wake = WAKE_DRAW;

        if (n <= 0)
                return n < 0 && errno == EINTR ? WAKE_DRAW : WAKE_QUIT; /* the terminal has gone */
        /* What follows an escape is the name of a key that means nothing. */
        for (ssize_t i = 0; i < n && keys[i] != '\033'; i++) {
                if (keys[i] == 'q')
                        return WAKE_QUIT;
                if (keys[i] == ' ')
                        wake = WAKE_READ;
                else if (live->key)
                        live->key(live->userdata, keys[i]);
        }
        return wake;
}

/* On a bus this says nothing of ctxd; the next call does. */
static bool is_lost(struct ctl *ctl)
{
        int r;

        while ((r = sd_bus_process(ctl->bus, NULL)) > 0)
                ;
        return r < 0;
}

/* Until it is time to read or to draw again. 0, or a positive exit status after an error message. */
static int wait_until(const struct live *live, int signals, uint64_t when_usec, enum wake *ret)
{
        struct pollfd fds[] = {{.fd = signals, .events = POLLIN},
                        {.fd = screen.taken && screen.has_modes ? STDIN_FILENO : -1, .events = POLLIN},
                        {.fd = sd_bus_get_fd(live->ctl->bus), .events = POLLIN}};
        int r = poll_until(fds, ELEMENTSOF(fds), when_usec);

        *ret = r == 0 ? WAKE_READ : WAKE_DRAW;
        if (r < 0 && errno != EINTR) {
                print_error("cannot wait: %m");
                return EXIT_FAILED;
        }
        if (r <= 0)
                return 0;
        if (fds[2].revents && is_lost(live->ctl)) {
                print_error("lost the connection to ctxd");
                return EXIT_FAILED;
        }
        if (fds[0].revents)
                read_signals(signals);
        if (fds[1].revents)
                *ret = read_keys(live);
        return 0;
}

bool live_has_screen(const struct live *live)
{
        return !live->batch && live->ctl->json == JSON_OFF && isatty(STDOUT_FILENO) && terminal_is_capable();
}

static int run(const struct live *live, int signals)
{
        uint64_t now, when;
        enum wake wake = WAKE_READ;
        int r = 0;

        for (uint64_t i = 1; r == 0; i++) {
                r = draw(live, i == 1);
                if (r > 0 || i >= live->iterations)
                        break;
                now = now_boottime_usec();
                when = live->delay_usec < UINT64_MAX - now ? now + live->delay_usec : UINT64_MAX;
                while ((r = wait_until(live, signals, when, &wake)) == 0 && wake == WAKE_DRAW)
                        if (screen.taken && (r = draw(live, false)) > 0)
                                break;
                if (r > 0 || wake == WAKE_QUIT)
                        break;
                r = live->read(live->userdata);
        }
        return r;
}

int live_run(const struct live *live)
{
        _cleanup_close_ int signals = -1;
        int r = live->read(live->userdata);

        if (r == 0 && live_has_screen(live)) {
                r = catch_signals(&signals);
                live->ctl->ask_password = false; /* the first call has done so */
                if (r == 0)
                        take_screen();
        }
        if (r == 0)
                r = run(live, signals);
        live_end();
        return r;
}
