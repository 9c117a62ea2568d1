/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/timespan.h"

#define SECOND UINT64_C(1000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static int unit_usec(const char *name, size_t length, uint64_t *ret)
{
        static const struct {
                uint64_t usec;
                const char *names[6];
        } units[] = {
                        {1, {"us", "usec", "µs"}},
                        {1000, {"ms", "msec"}},
                        {SECOND, {"", "s", "sec", "second", "seconds"}},
                        {MINUTE, {"m", "min", "minute", "minutes"}},
                        {HOUR, {"h", "hr", "hour", "hours"}},
                        {DAY, {"d", "day", "days"}},
                        {7 * DAY, {"w", "week", "weeks"}},
        };

        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                for (const char *const *n = units[i].names; *n; n++)
                        if (strlen(*n) == length && strncmp(*n, name, length) == 0) {
                                *ret = units[i].usec;
                                return 0;
                        }
        return -EINVAL;
}

/* Digits, perhaps a dot and more digits, and a unit. Returns what follows in *ret_end. */
static int parse_part(const char *p, uint64_t *ret_usec, const char **ret_end)
{
        uint64_t whole = 0, fraction = 0, scale = 1, unit;
        bool has_digits = isdigit((unsigned char) p[*p == '.']);
        size_t length;

        for (; isdigit((unsigned char) *p); p++)
                if (__builtin_mul_overflow(whole, 10, &whole) ||
                                __builtin_add_overflow(whole, (uint64_t) (*p - '0'), &whole))
                        return -ERANGE;
        /* Digits after the sixth are ignored. */
        if (*p == '.')
                for (p++; isdigit((unsigned char) *p); p++)
                        if (scale < 1000000) {
                                fraction = fraction * 10 + (uint64_t) (*p - '0');
                                scale *= 10;
                        }
        p += strspn(p, " \t");
        length = strcspn(p, " \t0123456789");
        if (!has_digits || unit_usec(p, length, &unit) < 0)
                return -EINVAL;
        if (__builtin_mul_overflow(whole, unit, &whole) ||
                        __builtin_add_overflow(whole, fraction * unit / scale, &whole))
                return -ERANGE;
        p += length;
        *ret_usec = whole;
        *ret_end = p + strspn(p, " \t");
        return 0;
}

int parse_timespan(const char *text, uint64_t *ret_usec)
{
        uint64_t sum = 0, part;
        int r;

        text += strspn(text, " \t");
        if (strcmp(text, "infinity") == 0) {
                *ret_usec = UINT64_MAX;
                return 0;
        }
        do {
                r = parse_part(text, &part, &text);
                if (r < 0)
                        return r;
                if (__builtin_add_overflow(sum, part, &sum))
                        return -ERANGE;
        } while (*text);
        *ret_usec = sum;
        return 0;
}
