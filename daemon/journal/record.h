/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The format of the journal. It is bytes in memory: little endian, without gaps, the same on each machine.
 *
 * A record is a checksum (u32), its length with all that (u32), its kind, the version of that kind, and flags
 * (u8 each), and its fields. The checksum is the CRC-32C of all that follows it. Records come in groups. The
 * last record of a group has RECORD_LAST. A group is what one drain has decided; it counts as a whole or not
 * at all.
 *
 * A file begins with RECORD_BEGIN, and the contexts as they were (RECORD_CONTEXT and RECORD_POLICIES), the
 * parents first, up to RECORD_WHOLE. A file without that is not finished, and the one before it counts.
 * Changes may be among them (journal.h).
 *
 * The number of a kind is never used again. Whoever changes the fields of a kind gives it another version,
 * reads the old one for ever, and keeps a file of it for the tests (tests/law/law-journal-file.c). */

enum record_kind {
        RECORD_BEGIN = 1, /* u64 JOURNAL_MAGIC */
        RECORD_WHOLE = 2,
        /* u64 id, u64 label: up to these none is given again. Ids are reserved in advance, because what is
         * made has its id in the world, in a map or a page, before it is recorded. */
        RECORD_USED = 3,
        RECORD_CONTEXT = 4,    /* encode.c */
        RECORD_END = 5,        /* encode.c */
        RECORD_DRAINED = 6,    /* u64 id, u64 usec */
        RECORD_RELEASED = 7,   /* u64 id */
        RECORD_DEADLINE = 8,   /* u64 id, u64 usec: its own */
        RECORD_POLICIES = 9,   /* u64 id, and each: i32 signal, u32 uid, u64 kill_after_usec */
        RECORD_FORGOTTEN = 10, /* u64 id of each */
};

#define JOURNAL_MAGIC UINT64_C(0x316c6e7264787463) /* "ctxdrnl1" */

#define RECORD_LAST (1 << 0) /* flag */

#define RECORD_HEADER 11 /* bytes */
#define RECORD_VERSION 1 /* of all kinds */

/* Writes records into memory, up to its end; then is_full. The record that was begun last is sealed when the
 * next one begins, or when its group ends. */
struct record_writer {
        uint8_t *p, *end;
        uint8_t *record; /* NULL: none was begun */
        bool is_full;
};

void record_begin(struct record_writer *w, enum record_kind kind);
/* Whether the last one is of that kind, and not sealed. */
bool record_is_open(const struct record_writer *w, enum record_kind kind);
/* Seals the last one, as the last one of its group. Nothing if none was begun. */
void record_end_group(struct record_writer *w);

static inline void record_write(struct record_writer *w, const void *data, size_t n)
{
        if ((size_t) (w->end - w->p) < n) {
                w->is_full = true;
                return;
        }
        memcpy(w->p, data, n);
        w->p += n;
}

/* Into memory that has room; returns where it goes on. */
static inline uint8_t *record_put_u16(uint8_t *p, uint16_t n)
{
        n = htole16(n);
        memcpy(p, &n, sizeof n);
        return p + sizeof n;
}

static inline uint8_t *record_put_u32(uint8_t *p, uint32_t n)
{
        n = htole32(n);
        memcpy(p, &n, sizeof n);
        return p + sizeof n;
}

static inline uint8_t *record_put_u64(uint8_t *p, uint64_t n)
{
        n = htole64(n);
        memcpy(p, &n, sizeof n);
        return p + sizeof n;
}

static inline void record_write_u8(struct record_writer *w, uint8_t n)
{
        record_write(w, &n, sizeof n);
}

static inline void record_write_u16(struct record_writer *w, uint16_t n)
{
        n = htole16(n);
        record_write(w, &n, sizeof n);
}

static inline void record_write_u32(struct record_writer *w, uint32_t n)
{
        n = htole32(n);
        record_write(w, &n, sizeof n);
}

static inline void record_write_u64(struct record_writer *w, uint64_t n)
{
        n = htole64(n);
        record_write(w, &n, sizeof n);
}

/* With the NUL, so that it can be read in place. */
static inline void record_write_text(struct record_writer *w, const char *text)
{
        record_write(w, text, strlen(text) + 1);
}

/* One that was read: its fields are those from p to end. What they do not have reads as 0 or "", and then
 * is_bad. */
struct record {
        enum record_kind kind;
        bool is_last;
        const uint8_t *p, *end;
        bool is_bad;
};

/* Reads the record at the beginning of the bytes, and returns its length. 0: it is cut off by their end.
 * -EBADMSG: it is none. -EPROTONOSUPPORT: it is whole, but of a version or kind that is not known here. */
int64_t record_read(const uint8_t *bytes, size_t size, struct record *ret);

uint64_t record_read_number(struct record *r, size_t n); /* n bytes */
const char *record_read_text(struct record *r);

static inline bool record_is_read(const struct record *r)
{
        return !r->is_bad && r->p == r->end;
}
