/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "daemon/journal/encode.h"
#include "daemon/journal/internal.h"

/* Reads records into a tree, a group at a time: a group is looked at as a whole before its first record is
 * applied. */

/* The length of the group that begins there; 0: it is cut off. */
static int64_t group_length(const uint8_t *bytes, size_t size)
{
        struct record r = {};
        size_t length = 0;

        while (!r.is_last) {
                int64_t n = record_read(bytes + length, size - length, &r);

                if (n <= 0)
                        return n;
                length += (size_t) n;
        }
        return (int64_t) length;
}

struct replay {
        struct restore to;
        bool begun, whole;
};

static int apply(struct replay *p, struct record *r, bool again)
{
        int k;

        if (!p->begun || r->kind == RECORD_BEGIN) {
                if (p->begun || r->kind != RECORD_BEGIN || record_read_number(r, 8) != JOURNAL_MAGIC ||
                                !record_is_read(r))
                        return -EBADMSG;
                p->begun = true;
                return 0;
        }
        if (r->kind == RECORD_WHOLE) {
                if (p->whole || !record_is_read(r))
                        return -EBADMSG;
                p->whole = true;
                return 0;
        }
        k = decode(&p->to, r, again);
        if (k != -ENOENT)
                return k;
        return p->whole ? -EBADMSG : 0; /* the file had not come to that one yet */
}

static int apply_group(struct replay *p, const uint8_t *bytes, size_t length, bool again)
{
        int k = 0;

        while (k >= 0 && length > 0) {
                struct record r;
                int64_t n = record_read(bytes, length, &r);

                k = apply(p, &r, again);
                bytes += n;
                length -= (size_t) n;
        }
        return k;
}

static int replay(struct replay *p, const uint8_t *bytes, size_t size, size_t carried_out, size_t *ret_used)
{
        size_t used = 0;

        while (used < size) {
                int64_t n = group_length(bytes + used, size - used);
                int k;

                if (n < 0)
                        return (int) n;
                if (n == 0)
                        break;
                k = apply_group(p, bytes + used, (size_t) n, used >= carried_out);
                if (k < 0)
                        return k;
                used += (size_t) n;
        }
        if (!p->whole)
                return -ENODATA;
        *ret_used = used;
        return used < size;
}

int journal_replay(struct tree *t, const uint8_t *bytes, size_t size, size_t carried_out, size_t *ret_used)
{
        struct replay p = {};
        int r = tree_restore_begin(&p.to, t), k;

        if (r < 0)
                return r;
        r = replay(&p, bytes, size, carried_out, ret_used);
        k = r < 0 ? 0 : tree_restore_finish(&p.to);
        tree_restore_deinit(&p.to);
        return k < 0 ? k : r;
}
