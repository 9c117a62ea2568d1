/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The input is a file of the journal: as it is, and again with the right checksums, so that what is behind
 * them is tried, too. Nothing of it may crash. What is read is a tree that holds, and that can be written
 * and read again as the same. Then all of it ends and goes. */

#include <errno.h>
#include <string.h>

#include "daemon/journal/journal.h"
#include "daemon/journal/record.h"
#include "daemon/model/restore.h"
#include "tests/fuzz/input.h"
#include "util/crc32c.h"

#define FILE_SIZE (1U << 22)

static uint8_t *with_sums(const uint8_t *data, size_t size)
{
        uint8_t *copy = malloc(size > 0 ? size : 1);
        uint32_t length, sum;

        REQUIRE(copy);
        memcpy(copy, data, size);
        for (size_t at = 0; size - at >= RECORD_HEADER; at += length) {
                memcpy(&length, copy + at + 4, sizeof length);
                length = le32toh(length);
                if (length < RECORD_HEADER || length > size - at)
                        break;
                sum = htole32(crc32c(copy + at + 4, length - 4));
                memcpy(copy + at, &sum, sizeof sum);
        }
        return copy;
}

static void drain(struct tree *t)
{
        struct ending *e;
        unsigned effects;

        while (effect_take(t, &effects)) {
        }
        (void) tree_collect(t, UINT32_MAX);
        while ((e = tree_take_ended(t)))
                free(e);
}

/* NULL: it cannot be read. */
static struct tree *read_tree(const uint8_t *data, size_t size, size_t carried_out)
{
        struct tree *t;
        size_t used;
        int r;

        REQUIRE(tree_new(&t) == 0);
        r = journal_replay(t, data, size, carried_out, &used);
        if (r < 0) {
                REQUIRE(r == -EBADMSG || r == -ENODATA || r == -EPROTONOSUPPORT);
                return tree_free(t);
        }
        REQUIRE(used <= size && (r == 0) == (used == size));
        tree_restored(t, 0);
        tree_check(t);
        drain(t);
        return t;
}

static void write_tree(struct tree *t, struct journal_buffer *f)
{
        struct journal j;

        f->used = 0;
        REQUIRE(journal_begin(&j, t, f) == 0);
}

/* Each deadline is moved, the parents' first. Then they pass, and so does the time for which what has ended
 * is kept. */
static void end_all(struct tree *t)
{
        struct refused refused;

        for (const struct context *c = t->background; (c = context_next(c, t->background));)
                (void) tree_extend(t, 0, &caller_daemon, (struct context *) c, UINT64_MAX - 2, &refused);
        tree_check(t);
        while (tree_settle(t, UINT64_MAX / 2) > 0)
                drain(t);
        tree_check(t);
        while (tree_settle(t, UINT64_MAX - 1) > 0)
                drain(t);
        tree_check(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct journal_buffer once, again;
        size_t carried_out = size > 0 ? data[size - 1] * size / 256 : 0;
        uint8_t *right = with_sums(data, size);
        struct tree *t, *back;

        if (!once.bytes) {
                once = (struct journal_buffer){.bytes = malloc(FILE_SIZE), .size = FILE_SIZE};
                again = (struct journal_buffer){.bytes = malloc(FILE_SIZE), .size = FILE_SIZE};
                REQUIRE(once.bytes && again.bytes);
        }
        tree_free(read_tree(data, size, carried_out));
        t = read_tree(right, size, carried_out);
        free(right);
        if (!t)
                return 0;
        write_tree(t, &once);
        back = read_tree(once.bytes, once.used, once.used);
        REQUIRE(back && back->last_id >= t->last_id && back->last_label == t->last_label);
        back->last_id = t->last_id; /* some were reserved */
        write_tree(back, &again);
        REQUIRE(again.used == once.used && memcmp(again.bytes, once.bytes, once.used) == 0);
        end_all(back);
        tree_free(back);
        tree_free(t);
        return 0;
}
