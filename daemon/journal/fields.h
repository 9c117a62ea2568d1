/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Of RECORD_CONTEXT and RECORD_END: what follows, and what is so. */
enum field {
        FIELD_DONE = 1 << 0,
        FIELD_CAUSE = 1 << 1,
        FIELD_DEADLINE_EXCEEDED = 1 << 2, /* else canceled */
        FIELD_BY_ITSELF = 1 << 3,
        FIELD_AGAIN = 1 << 4,
        FIELD_RELEASED = 1 << 5,
        FIELD_IMPLIED = 1 << 6,
        FIELD_DESCRIBED = 1 << 7,
        FIELD_IN_ORDER = 1 << 8, /* they come in the order of context_next() */
        FIELDS = (1 << 9) - 1,
};
