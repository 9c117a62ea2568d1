/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "lib/ctxclient.h"
#include "lib/local/options.h"

/* Options structs of every version. A program and its library may be of different versions, so that each side
 * may know fields that the other does not (doc/ABI.md, "How structs grow"). It is done as the kernel does it
 * in copy_struct_from_user(). */

/* No struct will be as large as this. It bounds what is read where a program has not set the size. */
#define OPTIONS_SIZE_MAX 4096

/* The number of the newest version is the size of the struct, without padding at the end: a field that comes
 * later would lie in that padding. */
_Static_assert(sizeof(struct ctx_create_options) == CTX_CREATE_OPTIONS_SIZE_VER0, "has grown: a new version");
_Static_assert(sizeof(struct ctx_spawn_options) == CTX_SPAWN_OPTIONS_SIZE_VER1, "has grown: a new version");

int options_take(const void *options, size_t size_ver0, void *ret, size_t size)
{
        const unsigned char *bytes = options;
        size_t known;

        memcpy(&known, options, sizeof known);
        if (known < size_ver0)
                return -EINVAL;
        if (known > OPTIONS_SIZE_MAX)
                return -E2BIG;
        for (size_t i = size; i < known; i++)
                if (bytes[i] != 0)
                        return -E2BIG;
        memcpy(ret, options, known < size ? known : size);
        return 0;
}

/* The first bytes of the defaults, as many as the program knows, and 0 for what this library does not
 * know. */
static int options_init(void *options, size_t known, size_t size_ver0, const void *defaults, size_t size)
{
        if (!options || known < size_ver0)
                return -EINVAL;
        if (known > OPTIONS_SIZE_MAX)
                return -E2BIG;
        memset(options, 0, known);
        memcpy(options, defaults, known < size ? known : size);
        memcpy(options, &known, sizeof known);
        return 0;
}

int ctx_create_options_init(struct ctx_create_options *options, size_t size)
{
        static const struct ctx_create_options defaults = CTX_CREATE_OPTIONS;

        return options_init(options, size, CTX_CREATE_OPTIONS_SIZE_VER0, &defaults, sizeof defaults);
}

int ctx_spawn_options_init(struct ctx_spawn_options *options, size_t size)
{
        static const struct ctx_spawn_options defaults = CTX_SPAWN_OPTIONS;

        return options_init(options, size, CTX_SPAWN_OPTIONS_SIZE_VER0, &defaults, sizeof defaults);
}
