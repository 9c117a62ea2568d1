/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/ctxclient.h"

/* What the header offers as macros, as functions: for languages that can call C but have no C macros. Those
 * for options are in options.c. */

int ctx_version(void)
{
        return CTX_VERSION;
}

int ctx_key_init(struct ctx_key *key, const char *name)
{
        if (!key || !name)
                return -EINVAL;
        *key = (struct ctx_key) CTX_KEY(name);
        return 0;
}

int ctx_mutex_init(struct ctx_mutex *mutex)
{
        if (!mutex)
                return -EINVAL;
        *mutex = (struct ctx_mutex) CTX_MUTEX_INIT;
        return 0;
}

int ctx_cond_init(struct ctx_cond *cond)
{
        if (!cond)
                return -EINVAL;
        *cond = (struct ctx_cond) CTX_COND_INIT;
        return 0;
}

int ctx_sem_init(struct ctx_sem *sem, uint32_t value)
{
        if (!sem || value > CTX_SEM_VALUE_MAX)
                return -EINVAL;
        *sem = (struct ctx_sem) CTX_SEM_INIT(value);
        return 0;
}
