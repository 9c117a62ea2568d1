/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "daemon/journal/encode.h"
#include "daemon/journal/fields.h"

/* The fields are those of encode.c. */

static bool read_cause(struct record *r, unsigned fields, struct restored_cause *ret)
{
        if (!(fields & FIELD_CAUSE))
                return false;
        ret->error = (int) record_read_number(r, 4);
        ret->uid = (uid_t) record_read_number(r, 4);
        ret->pid = (pid_t) record_read_number(r, 4);
        for (size_t i = 0; i < sizeof ret->comm; i++)
                ret->comm[i] = (char) record_read_number(r, 1);
        ret->comm[sizeof ret->comm - 1] = '\0';
        ret->message = record_read_text(r);
        return true;
}

static bool read_end(struct record *r, unsigned fields, bool again, struct restored_end *ret)
{
        if (!(fields & FIELD_DONE))
                return false;
        ret->state = fields & FIELD_DEADLINE_EXCEEDED ? CONTEXT_DEADLINE_EXCEEDED : CONTEXT_CANCELED;
        ret->by_itself = fields & FIELD_BY_ITSELF;
        ret->again = again || (fields & FIELD_AGAIN);
        ret->done_usec = record_read_number(r, 8);
        ret->drained_usec = record_read_number(r, 8);
        ret->deadline_usec = record_read_number(r, 8);
        ret->origin_up = (unsigned) record_read_number(r, 1);
        return true;
}

static int decode_context(struct restore *to, struct record *r, bool again)
{
        struct value values[UINT8_MAX];
        struct restored_cause cause;
        struct restored_end end;
        struct restored_context d = {.values = values};
        unsigned fields;

        d.id = record_read_number(r, 8);
        d.parent_id = record_read_number(r, 8);
        d.created_usec = record_read_number(r, 8);
        d.own_deadline_usec = record_read_number(r, 8);
        d.grace_usec = record_read_number(r, 8);
        d.uid = (uid_t) record_read_number(r, 4);
        d.gid = (gid_t) record_read_number(r, 4);
        d.mode = (uint16_t) record_read_number(r, 2);
        fields = (unsigned) record_read_number(r, 2);
        d.n_values = record_read_number(r, 1);
        d.label = record_read_text(r);
        d.description = fields & FIELD_DESCRIBED ? record_read_text(r) : NULL;
        d.implied = fields & FIELD_IMPLIED;
        d.released = fields & FIELD_RELEASED;
        d.is_in_order = fields & FIELD_IN_ORDER;
        if (read_cause(r, fields, &cause))
                d.cause = &cause;
        if (read_end(r, fields, again && !d.is_in_order, &end))
                d.end = &end;
        for (size_t i = 0; i < d.n_values; i++) {
                values[i].key = (char *) record_read_text(r);
                values[i].value = (char *) record_read_text(r);
        }
        return !record_is_read(r) || (fields & ~FIELDS) ? -EBADMSG : tree_restore_context(to, &d);
}

static int decode_end(struct restore *to, struct record *r, bool again)
{
        struct restored_cause cause;
        struct restored_end end;
        uint64_t id = record_read_number(r, 8);
        unsigned fields = (unsigned) record_read_number(r, 2);
        bool done = read_end(r, fields, again, &end), caused = read_cause(r, fields, &cause);

        return !record_is_read(r) || !done ? -EBADMSG
                                           : tree_restore_end(to, id, &end, caused ? &cause : NULL);
}

static int decode_policies(struct restore *to, struct record *r)
{
        struct policy policies[CONTEXT_POLICIES_MAX];
        uint64_t id = record_read_number(r, 8);
        unsigned n = 0;

        for (; !r->is_bad && r->p < r->end && n < CONTEXT_POLICIES_MAX; n++) {
                policies[n].signal = (int) record_read_number(r, 4);
                policies[n].uid = (uid_t) record_read_number(r, 4);
                policies[n].kill_after_usec = record_read_number(r, 8);
        }
        return record_is_read(r) ? tree_restore_policies(to, id, policies, n) : -EBADMSG;
}

static int decode_forgotten(struct restore *to, struct record *r)
{
        int k = 0, first = 0;

        while (!r->is_bad && r->p < r->end) {
                k = tree_restore_forgotten(to, record_read_number(r, 8));
                if (k < 0 && first == 0)
                        first = k;
        }
        return r->is_bad ? -EBADMSG : first;
}

int decode(struct restore *to, struct record *r, bool again)
{
        uint64_t id, number;

        switch (r->kind) {
        case RECORD_CONTEXT:
                return decode_context(to, r, again);
        case RECORD_END:
                return decode_end(to, r, again);
        case RECORD_POLICIES:
                return decode_policies(to, r);
        case RECORD_FORGOTTEN:
                return decode_forgotten(to, r);
        case RECORD_RELEASED:
                id = record_read_number(r, 8);
                return record_is_read(r) ? tree_restore_released(to, id) : -EBADMSG;
        default:
                break;
        }
        id = record_read_number(r, 8);
        number = record_read_number(r, 8);
        if (!record_is_read(r))
                return -EBADMSG;
        switch (r->kind) {
        case RECORD_USED:
                return tree_restore_used(to, id, number);
        case RECORD_DRAINED:
                return tree_restore_drained(to, id, number);
        case RECORD_DEADLINE:
                return tree_restore_deadline(to, id, number);
        default:
                return -EBADMSG; /* not here */
        }
}
