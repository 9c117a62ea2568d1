/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "ctl/ctxctl.h"
#include "ctl/format.h"
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

static const struct {
        const char *name;
        uint64_t usec;
} units[] = {
                {"us", 1},
                {"usec", 1},
                {"µs", 1},
                {"ms", USEC_PER_MSEC},
                {"msec", USEC_PER_MSEC},
                {"", USEC_PER_SEC},
                {"s", USEC_PER_SEC},
                {"sec", USEC_PER_SEC},
                {"second", USEC_PER_SEC},
                {"seconds", USEC_PER_SEC},
                {"m", USEC_PER_MINUTE},
                {"min", USEC_PER_MINUTE},
                {"minute", USEC_PER_MINUTE},
                {"minutes", USEC_PER_MINUTE},
                {"h", USEC_PER_HOUR},
                {"hr", USEC_PER_HOUR},
                {"hour", USEC_PER_HOUR},
                {"hours", USEC_PER_HOUR},
                {"d", USEC_PER_DAY},
                {"day", USEC_PER_DAY},
                {"days", USEC_PER_DAY},
                {"w", 7 * USEC_PER_DAY},
                {"week", 7 * USEC_PER_DAY},
                {"weeks", 7 * USEC_PER_DAY},
};

static int unit_usec(const char *name, size_t length, uint64_t *ret)
{
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (strlen(units[i].name) == length && strncmp(units[i].name, name, length) == 0) {
                        *ret = units[i].usec;
                        return 0;
                }
        return -EINVAL;
}

/* One part of a time: digits, perhaps a dot and more digits, and a unit. Returns the number of bytes read. */
static int parse_part(const char *text, uint64_t *ret_usec)
{
        const char *p = text, *name;
        uint64_t whole = 0, unit, fraction = 0, scale = 1;

        if (!isdigit((unsigned char) *p) && *p != '.')
                return -EINVAL;
        for (; isdigit((unsigned char) *p); p++)
                if (__builtin_mul_overflow(whole, 10, &whole) ||
                                __builtin_add_overflow(whole, (uint64_t) (*p - '0'), &whole))
                        return -ERANGE;
        if (*p == '.') {
                if (!isdigit((unsigned char) *++p))
                        return -EINVAL;
                /* Digits after the sixth are ignored. */
                for (; isdigit((unsigned char) *p); p++)
                        if (scale < 1000000) {
                                fraction = fraction * 10 + (uint64_t) (*p - '0');
                                scale *= 10;
                        }
        }
        p += strspn(p, " \t");
        name = p;
        while (*p && !isdigit((unsigned char) *p) && *p != '.' && *p != ' ' && *p != '\t')
                p++;
        if (unit_usec(name, (size_t) (p - name), &unit) < 0)
                return -EINVAL;
        if (__builtin_mul_overflow(whole, unit, &whole) ||
                        __builtin_add_overflow(whole,
                                        unit / scale * fraction + unit % scale * fraction / scale, &whole))
                return -ERANGE;
        *ret_usec = whole;
        return (int) (p - text);
}

static int parse_timespan(const char *text, uint64_t *ret_usec)
{
        uint64_t sum = 0, part;

        text += strspn(text, " \t");
        if (strcmp(text, "infinity") == 0) {
                *ret_usec = UINT64_MAX;
                return 0;
        }
        if (!*text)
                return -EINVAL;
        while (*text) {
                int n = parse_part(text, &part);

                if (n < 0)
                        return n;
                if (__builtin_add_overflow(sum, part, &sum))
                        return -ERANGE;
                text += n;
                text += strspn(text, " \t");
        }
        *ret_usec = sum;
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
                print_error("'%s' is not a process id", text);
                return EXIT_USAGE;
        }
        fd = (int) syscall(SYS_pidfd_open, (pid_t) pid, 0);
        if (fd < 0) {
                print_error("cannot open process %s: %m", text);
                return EXIT_FAILED;
        }
        *ret_pidfd = fd;
        return 0;
}
