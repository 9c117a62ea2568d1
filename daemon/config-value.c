/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "daemon/config-value.h"
#include "proto/names.h"
#include "util/cleanup.h"

static const char *skip_space(const char *p)
{
        return p + strspn(p, " \t");
}

/* Reads digits at *p, and moves *p behind them. */
static int read_digits(const char **p, uint64_t *ret)
{
        uint64_t n = 0;

        if (!isdigit((unsigned char) **p))
                return -EINVAL;
        for (; isdigit((unsigned char) **p); (*p)++)
                if (__builtin_mul_overflow(n, 10, &n) ||
                                __builtin_add_overflow(n, (uint64_t) (**p - '0'), &n))
                        return -ERANGE;
        *ret = n;
        return 0;
}

static const struct unit {
        const char *name;
        uint64_t usec;
} units[] = {
                {"usec", 1},
                {"us", 1},
                {"µs", 1},
                {"msec", 1000},
                {"ms", 1000},
                {"seconds", 1000000},
                {"second", 1000000},
                {"sec", 1000000},
                {"s", 1000000},
                {"minutes", 60000000},
                {"minute", 60000000},
                {"min", 60000000},
                {"m", 60000000},
                {"hours", UINT64_C(3600000000)},
                {"hour", UINT64_C(3600000000)},
                {"hr", UINT64_C(3600000000)},
                {"h", UINT64_C(3600000000)},
                {"days", UINT64_C(86400000000)},
                {"day", UINT64_C(86400000000)},
                {"d", UINT64_C(86400000000)},
};

/* Reads the unit at *p. Without a unit it is seconds. */
static int read_unit(const char **p, uint64_t *ret)
{
        size_t n = strcspn(*p, " \t0123456789");

        if (n == 0) {
                *ret = 1000000;
                return 0;
        }
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (strlen(units[i].name) == n && strncmp(units[i].name, *p, n) == 0) {
                        *p += n;
                        *ret = units[i].usec;
                        return 0;
                }
        return -EINVAL;
}

int parse_timespan(const char *text, uint64_t *ret)
{
        const char *p = skip_space(text);
        uint64_t total = 0;

        if (strcmp(p, "infinity") == 0) {
                *ret = CTXD_USEC_INFINITY;
                return 0;
        }
        if (*p == '\0')
                return -EINVAL;
        while (*p) {
                uint64_t n, unit, fraction = 0, scale = 1;
                int r;

                r = read_digits(&p, &n);
                if (r < 0)
                        return r;
                if (*p == '.') /* 1.5s: digits below a µs are dropped */
                        for (p++; isdigit((unsigned char) *p); p++)
                                if (scale < 1000000) {
                                        fraction = fraction * 10 + (uint64_t) (*p - '0');
                                        scale *= 10;
                                }
                p = skip_space(p);
                r = read_unit(&p, &unit);
                if (r < 0)
                        return r;
                if (__builtin_mul_overflow(n, unit, &n) ||
                                __builtin_add_overflow(n, fraction * unit / scale, &n) ||
                                __builtin_add_overflow(total, n, &total))
                        return -ERANGE;
                p = skip_space(p);
        }
        *ret = total;
        return 0;
}

int parse_number(const char *text, uint64_t *ret)
{
        const char *p = skip_space(text);
        uint64_t n;
        int r;

        if (strcmp(p, "infinity") == 0) {
                *ret = UINT64_MAX;
                return 0;
        }
        r = read_digits(&p, &n);
        if (r < 0)
                return r;
        if (*skip_space(p) != '\0' || n == 0)
                return -EINVAL;
        *ret = n;
        return 0;
}

int parse_size(const char *text, uint64_t *ret)
{
        static const char suffixes[] = "BKMGT";
        const char *p = skip_space(text), *suffix;
        uint64_t n;
        int r;

        if (strcmp(p, "infinity") == 0) {
                *ret = UINT64_MAX;
                return 0;
        }
        r = read_digits(&p, &n);
        if (r < 0)
                return r;
        if (*p) {
                suffix = strchr(suffixes, *p);
                if (!suffix)
                        return -EINVAL;
                for (const char *s = suffixes; s < suffix; s++)
                        if (__builtin_mul_overflow(n, 1024, &n))
                                return -ERANGE;
                p++;
        }
        if (*skip_space(p) != '\0')
                return -EINVAL;
        *ret = n;
        return 0;
}

int parse_probe(const char *text, enum probe_mode *ret)
{
        static const char *const names[] = {
                        [PROBE_MODE_OFF] = "off",
                        [PROBE_MODE_AUTO] = "auto",
                        [PROBE_MODE_PROC] = "proc",
                        [PROBE_MODE_BPF] = "bpf",
        };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcmp(text, names[i]) == 0) {
                        *ret = (enum probe_mode) i;
                        return 0;
                }
        return -EINVAL;
}
