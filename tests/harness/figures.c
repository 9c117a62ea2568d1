/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "tests/harness/figures.h"

static int compare(const void *a, const void *b)
{
        double x = *(const double *) a, y = *(const double *) b;

        return (x > y) - (x < y);
}

double median(double *values, size_t n)
{
        qsort(values, n, sizeof *values, compare);
        return values[n / 2];
}

double percentile(double *values, size_t n, double p)
{
        size_t i = (size_t) ((double) n * p / 100);

        return values[i < n ? i : n - 1];
}
