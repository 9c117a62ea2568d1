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
