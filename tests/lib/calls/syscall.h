/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

/* Stands in for syscall(), to which the linker leads the library (--wrap). */

/* The test's own. True: errno is set, and the call fails. */
static bool is_refused(long number, const long a[6]);

long __real_syscall(long number, ...);
/* It takes six arguments, also where fewer were given. */
__attribute__((no_sanitize_address)) long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
        long a[6];
        va_list ap;

        va_start(ap, number);
        for (int i = 0; i < 6; i++)
                a[i] = va_arg(ap, long);
        va_end(ap);
        return is_refused(number, a) ? -1 : __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
