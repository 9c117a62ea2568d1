/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

double median(double *values, size_t n);               /* sorts them */
double percentile(double *values, size_t n, double p); /* of sorted ones */
