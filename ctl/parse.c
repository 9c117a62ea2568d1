/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/timespan.h"
#include "ctl/ctxctl.h"
#include "ctl/parse.h"

int parse_unsigned(const char *text, uint64_t max, uint64_t *ret)
{
        uint64_t value = 0;

        if (!*text)
                return -EINVAL;
        for (; *text; text++)
                if (!isdigit((unsigned char) *text) || __builtin_mul_overflow(value, 10, &value) ||
                                __builtin_add_overflow(value, (uint64_t) (*text - '0'), &value) ||
                                value > max)
                        return -EINVAL;
        *ret = value;
        return 0;
}

int read_timespan(const char *option, const char *text, uint64_t *ret_usec)
{
        int r = parse_timespan(text, ret_usec);

        if (r == 0)
                return 0;
        print_error("%s '%s' is %s: write 5s, 1min 30s, 500ms or infinity, for example", option, text,
                        r == -ERANGE ? "too long a time" : "not a time");
        return EXIT_USAGE;
}

int read_interval(const char *option, const char *text, uint64_t *ret_usec)
{
        int r = read_timespan(option, text, ret_usec);

        if (r > 0 || *ret_usec > 0)
                return r;
        print_error("%s must be more than 0", option);
        return EXIT_USAGE;
}

static int parse_signal(const char *text, int *ret_signal)
{
        uint64_t number;

        if (strcasecmp(text, "none") == 0) {
                *ret_signal = 0;
                return 0;
        }
        if (parse_unsigned(text, (uint64_t) SIGRTMAX, &number) == 0) {
                *ret_signal = (int) number;
                return 0;
        }
        if (strncasecmp(text, "SIG", 3) == 0)
                text += 3;
        for (int s = 1; s < NSIG; s++) {
                const char *name = sigabbrev_np(s);

                if (name && strcasecmp(name, text) == 0) {
                        *ret_signal = s;
                        return 0;
                }
        }
        return -EINVAL;
}

int read_signal(const char *text, int *ret_signal)
{
        if (parse_signal(text, ret_signal) == 0)
                return 0;
        print_error("there is no signal '%s': write SIGTERM, INT, 15 or none, for example", text);
        return EXIT_USAGE;
}

int read_process(const char *text, int *ret_pidfd)
{
        uint64_t pid;
        int fd;

        if (parse_unsigned(text, INT32_MAX, &pid) < 0 || pid == 0) {
                print_error("'%s' is not a process id: write a number, as pgrep prints it", text);
                return EXIT_USAGE;
        }
        fd = (int) syscall(SYS_pidfd_open, (pid_t) pid, 0);
        if (fd < 0) {
                print_error(errno == ESRCH ? "there is no process %s; ps shows which there are"
                                           : "cannot open process %s: %m",
                                text);
                return EXIT_FAILED;
        }
        *ret_pidfd = fd;
        return 0;
}
