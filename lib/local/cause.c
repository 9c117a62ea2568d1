/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/local/ctx.h"
#include "proto/names.h"

struct cause *cause_new(int error, const char *message)
{
        struct cause *cause;
        size_t length;

        if (!cause_has_text(message))
                return cause_without_text(error);

        length = strlen(message) + 1;
        cause = malloc(sizeof(struct cause) + length);
        if (!cause)
                return cause_without_text(error);

        atomic_init(&cause->refs, 1);
        cause->error = error;
        memcpy(cause->message, message, length);
        return cause;
}

void cause_drop_object(struct cause *cause, int64_t n)
{
        if (atomic_fetch_sub_explicit(&cause->refs, n, memory_order_acq_rel) == n)
                free(cause);
}

void cause_read(struct cause *cause, uint32_t state, int *ret_error, const char **ret_message)
{
        int error = 0;

        if (cause_is_object(cause))
                error = cause->error;
        else if ((uintptr_t) cause & 4)
                error = (int) ((uintptr_t) cause >> 3);

        if (ret_error)
                *ret_error = error > 0 ? error : -state_to_errno(state);
        if (ret_message)
                *ret_message = cause_is_object(cause)                  ? cause->message
                               : state == STATE_WORD_DEADLINE_EXCEEDED ? CTXD_ERR_DEADLINE
                                                                       : CTXD_ERR_CANCELED;
}
