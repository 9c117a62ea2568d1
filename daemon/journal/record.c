/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "daemon/journal/record.h"
#include "util/crc32c.h"

enum { AT_LENGTH = 4, AT_KIND = 8, AT_VERSION = 9, AT_FLAGS = 10 };

/* What was begun and has no place is never read: the writer is full. */
static void seal(struct record_writer *w, uint8_t flags)
{
        uint8_t *record = w->record;
        uint32_t n;

        w->record = NULL;
        if (!record || w->is_full)
                return;
        n = htole32((uint32_t) (w->p - record));
        memcpy(record + AT_LENGTH, &n, sizeof n);
        record[AT_FLAGS] = flags;
        n = htole32(crc32c(record + AT_LENGTH, (size_t) (w->p - record) - AT_LENGTH));
        memcpy(record, &n, sizeof n);
}

void record_begin(struct record_writer *w, enum record_kind kind)
{
        uint8_t header[RECORD_HEADER] = {[AT_KIND] = (uint8_t) kind, [AT_VERSION] = RECORD_VERSION};

        seal(w, 0);
        w->record = w->p;
        record_write(w, header, sizeof header);
}

bool record_is_open(const struct record_writer *w, enum record_kind kind)
{
        return w->record && !w->is_full && w->record[AT_KIND] == kind;
}

void record_end_group(struct record_writer *w)
{
        seal(w, RECORD_LAST);
}

int64_t record_read(const uint8_t *bytes, size_t size, struct record *ret)
{
        uint32_t crc, length;

        if (size < RECORD_HEADER)
                return 0;
        memcpy(&crc, bytes, sizeof crc);
        memcpy(&length, bytes + AT_LENGTH, sizeof length);
        crc = le32toh(crc);
        length = le32toh(length);
        if (length < RECORD_HEADER)
                return -EBADMSG;
        if (length > size)
                return 0;
        if (crc32c(bytes + AT_LENGTH, length - AT_LENGTH) != crc)
                return -EBADMSG;
        if (bytes[AT_VERSION] != RECORD_VERSION || bytes[AT_KIND] < RECORD_BEGIN ||
                        bytes[AT_KIND] > RECORD_FORGOTTEN || (bytes[AT_FLAGS] & ~RECORD_LAST))
                return -EPROTONOSUPPORT;
        *ret = (struct record){
                        .kind = bytes[AT_KIND],
                        .is_last = bytes[AT_FLAGS] & RECORD_LAST,
                        .p = bytes + RECORD_HEADER,
                        .end = bytes + length,
        };
        return length;
}

uint64_t record_read_number(struct record *r, size_t n)
{
        uint64_t value = 0;

        if ((size_t) (r->end - r->p) < n) {
                r->is_bad = true;
                return 0;
        }
        memcpy(&value, r->p, n);
        r->p += n;
        return le64toh(value);
}

const char *record_read_text(struct record *r)
{
        const char *text = (const char *) r->p;
        const uint8_t *nul = memchr(r->p, '\0', (size_t) (r->end - r->p));

        if (!nul) {
                r->is_bad = true;
                return "";
        }
        r->p = nul + 1;
        return text;
}
