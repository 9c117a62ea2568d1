/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/ctxctl.h"
#include "ctl/format.h"
#include "ctl/terminal.h"

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MINUTE (60 * USEC_PER_SEC)
#define USEC_PER_HOUR (60 * USEC_PER_MINUTE)
#define USEC_PER_DAY (24 * USEC_PER_HOUR)

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

/* Digits, perhaps a dot and more digits, a unit. Returns how much it took. */
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
                for (; isdigit((unsigned char) *p); p++)
                        if (scale < 1000000) { /* finer than a microsecond of a second is lost */
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

int parse_timespan(const char *text, uint64_t *ret_usec)
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
        complain("%s '%s' is %s: write 5s, 1min 30s, 500ms, infinity", option, text,
                        r == -ERANGE ? "too long a time" : "no time");
        return EXIT_USAGE;
}

int parse_signal(const char *text, int *ret_signal)
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
        complain("there is no signal '%s': write SIGTERM, INT, 15, or none", text);
        return EXIT_USAGE;
}

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

char *format_timespan(char *buffer, uint64_t usec)
{
        static const struct {
                const char *name;
                uint64_t usec;
        } parts[] = {{"d", USEC_PER_DAY}, {"h", USEC_PER_HOUR}, {"min", USEC_PER_MINUTE}};
        size_t n = 0;

        if (usec == UINT64_MAX)
                return strcpy(buffer, "infinity");
        if (usec < USEC_PER_MSEC) {
                snprintf(buffer, FORMAT_MAX, usec ? "%" PRIu64 "us" : "0", usec);
                return buffer;
        }
        if (usec < USEC_PER_SEC) {
                snprintf(buffer, FORMAT_MAX, "%" PRIu64 "ms", usec / USEC_PER_MSEC);
                return buffer;
        }
        if (usec < USEC_PER_MINUTE) {
                snprintf(buffer, FORMAT_MAX, "%" PRIu64 ".%" PRIu64 "s", usec / USEC_PER_SEC,
                                usec % USEC_PER_SEC / (USEC_PER_SEC / 10));
                return buffer;
        }
        /* The two greatest parts: who reads 3d does not care about seconds. */
        buffer[0] = '\0';
        for (size_t i = 0, shown = 0; i < ELEMENTSOF(parts) && shown < 2; i++)
                if (usec >= parts[i].usec) {
                        n += (size_t) snprintf(buffer + n, FORMAT_MAX - n, "%s%" PRIu64 "%s", n ? " " : "",
                                        usec / parts[i].usec, parts[i].name);
                        usec %= parts[i].usec;
                        shown++;
                        if (i == ELEMENTSOF(parts) - 1 && shown < 2 && usec >= USEC_PER_SEC)
                                snprintf(buffer + n, FORMAT_MAX - n, " %" PRIu64 "s", usec / USEC_PER_SEC);
                }
        return buffer;
}

char *format_timestamp(char *buffer, uint64_t boottime_usec)
{
        struct timespec ts;
        struct tm tm;
        int64_t usec;
        time_t seconds;

        clock_gettime(CLOCK_REALTIME, &ts);
        usec = (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000 +
               (int64_t) (boottime_usec - now_boottime_usec());
        seconds = (time_t) (usec / 1000000);
        if (!localtime_r(&seconds, &tm) || strftime(buffer, FORMAT_MAX, "%a %F %T %Z", &tm) == 0)
                strcpy(buffer, "n/a");
        return buffer;
}

char *format_relative(char *buffer, uint64_t boottime_usec)
{
        uint64_t now = now_boottime_usec();

        if (boottime_usec > now)
                strcat(format_timespan(buffer, boottime_usec - now), " left");
        else
                strcat(format_timespan(buffer, now - boottime_usec), " ago");
        return buffer;
}

char *format_user(char *buffer, uid_t uid)
{
        const struct passwd *pw = getpwuid(uid);

        if (pw)
                snprintf(buffer, FORMAT_MAX, "%s", pw->pw_name);
        else
                snprintf(buffer, FORMAT_MAX, "%" PRIu32, uid);
        return buffer;
}

char *format_group(char *buffer, gid_t gid)
{
        const struct group *gr = getgrgid(gid);

        if (gr)
                snprintf(buffer, FORMAT_MAX, "%s", gr->gr_name);
        else
                snprintf(buffer, FORMAT_MAX, "%" PRIu32, gid);
        return buffer;
}

char *format_command(char *buffer, size_t size, pid_t pid, const char *comm)
{
        _cleanup_close_ int fd = -1;
        char name[64];
        ssize_t n = 0;

        snprintf(name, sizeof name, "/proc/%d/cmdline", pid);
        fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
                n = read(fd, buffer, size - 1);
        while (n > 0 && buffer[n - 1] == '\0')
                n--;
        if (n <= 0) {
                snprintf(buffer, size, "[%s]", comm);
                return buffer;
        }
        for (ssize_t i = 0; i < n; i++)
                if (buffer[i] == '\0')
                        buffer[i] = ' ';
        buffer[n] = '\0';
        text_defuse(buffer, false);
        return buffer;
}
