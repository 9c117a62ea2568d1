/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/journal/encode.h"
#include "daemon/journal/fields.h"

/* RECORD_CONTEXT: u64 id, parent, created_usec, own deadline, grace_usec; u32 uid, gid; u16 mode, fields; u8
 * number of values; the label; if there is one, the description, the cause and the end; key and text of each
 * value. RECORD_END: u64 id; u16 fields; the end; if there is one, the cause.
 *
 * An end is u64 done_usec, drained_usec, deadline_usec, and u8 origin_up. A cause is i32 error, u32 uid, u32
 * pid, 16 bytes comm, and the message. Texts end with a NUL. */

static void write_cause(struct record_writer *w, const struct cause *cause)
{
        record_write_u32(w, (uint32_t) cause->error);
        record_write_u32(w, cause->uid);
        record_write_u32(w, (uint32_t) cause->pid);
        record_write(w, cause->comm, sizeof cause->comm);
        record_write_text(w, cause->message);
}

/* That it was drained as soon as it was done follows, unless there are members. */
static void write_end(struct record_writer *w, const struct context *c)
{
        record_write_u64(w, c->done_usec);
        record_write_u64(w, c->drained_usec == c->done_usec && c->n_busy_below == 0 ? 0 : c->drained_usec);
        record_write_u64(w, c->deadline_usec);
        record_write_u8(w, c->origin_up);
}

static unsigned fields_of(const struct context *c)
{
        return (context_is_done(c) ? FIELD_DONE : 0) | (c->cause ? FIELD_CAUSE : 0) |
               (c->state == CONTEXT_DEADLINE_EXCEEDED ? FIELD_DEADLINE_EXCEEDED : 0) |
               (c->by_itself ? FIELD_BY_ITSELF : 0) | (c->released ? FIELD_RELEASED : 0) |
               (c->implied ? FIELD_IMPLIED : 0) | (c->described ? FIELD_DESCRIBED : 0);
}

static void write_policies(struct record_writer *w, const struct context *c)
{
        record_begin(w, RECORD_POLICIES);
        record_write_u64(w, c->id);
        for (unsigned i = 0; i < c->n_policies; i++) {
                record_write_u32(w, (uint32_t) c->policies[i].signal);
                record_write_u32(w, c->policies[i].uid);
                record_write_u64(w, c->policies[i].kill_after_usec);
        }
}

void encode_context(struct record_writer *w, const struct context *c, unsigned more)
{
        uint8_t fixed[5 * 8 + 2 * 4 + 2 * 2 + 1], *p = fixed; /* at once: this is the one that costs */

        p = record_put_u64(p, c->id);
        p = record_put_u64(p, c->parent->id);
        p = record_put_u64(p, c->created_usec);
        p = record_put_u64(p, context_is_done(c) ? UINT64_MAX : c->wake_usec);
        p = record_put_u64(p, c->grace_usec);
        p = record_put_u32(p, c->uid);
        p = record_put_u32(p, c->gid);
        p = record_put_u16(p, c->mode);
        p = record_put_u16(p, (uint16_t) (fields_of(c) | more));
        *p = c->n_values;
        record_begin(w, RECORD_CONTEXT);
        record_write(w, fixed, sizeof fixed);
        record_write_text(w, c->label);
        if (c->described)
                record_write_text(w, context_description(c));
        if (c->cause)
                write_cause(w, c->cause);
        if (context_is_done(c))
                write_end(w, c);
        for (unsigned i = 0; i < c->n_values; i++) {
                record_write_text(w, c->values[i].key);
                record_write_text(w, c->values[i].value);
        }
        if (c->n_policies > 0)
                write_policies(w, c);
}

static void write_number(
                struct record_writer *w, enum record_kind kind, const struct context *c, uint64_t usec)
{
        record_begin(w, kind);
        record_write_u64(w, c->id);
        record_write_u64(w, usec);
}

void encode_decisions(struct record_writer *w, const struct context *c)
{
        bool moved = c->decided & DECIDED_DEADLINE;

        if (c->decided & DECIDED_MADE) { /* with all that came since */
                encode_context(w, c, 0);
                return;
        }
        if (c->decided & DECIDED_POLICIES)
                write_policies(w, c);
        /* Of one whose deadline was moved before it ended with its parent only the end is left to be told. */
        if ((c->decided & DECIDED_END) || (moved && context_is_done(c))) {
                record_begin(w, RECORD_END);
                record_write_u64(w, c->id);
                record_write_u16(w, (uint16_t) fields_of(c));
                write_end(w, c);
                if (c->cause)
                        write_cause(w, c->cause);
        } else if (c->decided & DECIDED_DRAINED) {
                write_number(w, RECORD_DRAINED, c, c->drained_usec);
        }
        if (moved && !context_is_done(c))
                write_number(w, RECORD_DEADLINE, c, c->wake_usec);
        if (c->decided & DECIDED_RELEASED) {
                record_begin(w, RECORD_RELEASED);
                record_write_u64(w, c->id);
        }
}

void encode_forgotten(struct record_writer *w, const struct context *c)
{
        if (!record_is_open(w, RECORD_FORGOTTEN))
                record_begin(w, RECORD_FORGOTTEN);
        record_write_u64(w, c->id);
}
