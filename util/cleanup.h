/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Ownership by scope. _cleanup_(f) calls f(&variable) at the end of the block. TAKE_PTR and TAKE_FD give the
 * value to somebody else: they return it and clear the variable. */

#define _cleanup_(f) __attribute__((cleanup(f)))

#define TAKE_PTR(p)                    \
        ({                             \
                __typeof__(p) _p_ = p; \
                (p) = NULL;            \
                _p_;                   \
        })

#define TAKE_FD(fd)           \
        ({                    \
                int _f_ = fd; \
                (fd) = -1;    \
                _f_;          \
        })

static inline void freep(void *p)
{
        free(*(void **) p);
}

static inline void closep(int *fd)
{
        if (*fd >= 0)
                close(*fd);
}

static inline void fclosep(FILE **f)
{
        if (*f)
                fclose(*f);
}

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)
#define _cleanup_fclose_ _cleanup_(fclosep)

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))
