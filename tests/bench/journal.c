/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The journal of changes, in process: what a record costs beside the Create that it is of, and a million
 * contexts written and read.
 *
 *     bench-journal [CONTEXTS [ROUNDS]]  */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/journal/journal.h"
#include "daemon/model/restore.h"
#include "tests/bench/common.h"
#include "util/crc32c.h"

#define BYTES_EACH 128 /* at most, with short labels */
#define ROUNDS_MAX 15
static struct refused refused;
static const struct caller root = {.pid = 1, .comm = "root"};

static uint64_t nsec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

static void drain(struct tree *t)
{
        unsigned effects;

        while (effect_take(t, &effects)) {
        }
        (void) tree_collect(t, UINT32_MAX);
}

/* Each by itself, so that the median is without what else runs on the machine. */
static double *creates, *records, *nothing;

/* Makes the contexts, and takes the time of the verbs and of the records apart. */
static struct tree *build(struct journal *j, unsigned n)
{
        struct create_options o = {
                        .deadline_usec = UINT64_MAX, .mode = CONTEXT_MODE_INHERIT, .parents = true};
        struct context *c;
        struct tree *t;
        char path[32];

        if (tree_new(&t) < 0)
                DIE("no memory");
        for (unsigned i = 0; i < n; i++) {
                uint64_t start, made, written, end;

                sprintf(path, "top/%06u", i);
                start = nsec();
                if (tree_create(t, 1, &root, path, &o, &c, &refused) != 1)
                        DIE("refused");
                made = nsec();
                if (journal_write(j, t, &t->effects) < 0)
                        DIE("no room");
                written = nsec();
                end = nsec();
                creates[i] = (double) (made - start);
                records[i] = (double) (written - made);
                nothing[i] = (double) (end - written);
                drain(t);
        }
        return t;
}

static double crc_of_a_record(uint32_t (*crc)(const void *data, size_t length))
{
        unsigned char record[67]; /* what is summed of one */
        uint64_t start = nsec();
        uint32_t sum = 0;

        memset(record, 7, sizeof record);
        for (int i = 0; i < 1000000; i++) {
                record[0] = (unsigned char) sum;
                sum += crc(record, sizeof record);
        }
        return (double) (nsec() - start) / 1000000 + (sum == 1);
}

static double cancel(struct journal *j, struct tree *t)
{
        uint64_t start = nsec();

        (void) tree_cancel(t, 2, &root, LIST_FIRST(&t->background->children), NULL, NULL, &refused);
        if (journal_write(j, t, &t->effects) < 0)
                DIE("no room");
        return (double) (nsec() - start) / t->n_contexts;
}

static double replay(const struct journal_buffer *file, unsigned n)
{
        uint64_t start = nsec(), took;
        struct tree *t;
        size_t used;

        if (tree_new(&t) < 0 || journal_replay(t, file->bytes, file->used, file->used, &used) != 0)
                DIE("it cannot be read");
        tree_restored(t, 3);
        took = nsec() - start;
        if (t->n_contexts != n + 1)
                DIE("some are missing");
        tree_free(t);
        return (double) took / 1e6;
}

static void start_journal(struct journal *j, struct journal_buffer *file)
{
        struct tree *t;

        file->used = 0;
        if (tree_new(&t) < 0 || journal_begin(j, t, file) < 0)
                DIE("no room");
        tree_free(t);
}

int main(int argc, char *argv[])
{
        unsigned n = argc > 1 ? (unsigned) atoi(argv[1]) : 1000000;
        size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 3;
        double create[ROUNDS_MAX], record[ROUNDS_MAX], snapshot[ROUNDS_MAX], each[ROUNDS_MAX],
                        whole[ROUNDS_MAX], ended[ROUNDS_MAX], quick[ROUNDS_MAX], slow[ROUNDS_MAX], bare,
                        bytes = 0, size = 0;
        struct journal_buffer file = {.size = (size_t) n * 160 + 4096}, other = file;

        if (n < 1 || rounds < 1 || rounds > ROUNDS_MAX) {
                fprintf(stderr, "usage: %s [CONTEXTS [ROUNDS]]\n", argv[0]);
                return 2;
        }
        file.bytes = malloc(file.size);
        other.bytes = malloc(other.size);
        creates = calloc(n, sizeof *creates);
        records = calloc(n, sizeof *records);
        nothing = calloc(n, sizeof *nothing);
        if (!file.bytes || !other.bytes || !creates || !records || !nothing)
                DIE("no memory");
        memset(file.bytes, 1, file.size); /* touched ahead */
        memset(other.bytes, 1, other.size);
        for (size_t i = 0; i < rounds; i++) {
                struct journal j;
                uint64_t start;
                struct tree *t;
                size_t before;

                start_journal(&j, &file);
                before = file.used;
                t = build(&j, n);
                bytes = (double) (file.used - before) / n;
                bare = median(nothing, n);
                create[i] = median(creates, n) - bare;
                record[i] = median(records, n) - bare;
                quick[i] = crc_of_a_record(crc32c);
                slow[i] = crc_of_a_record(crc32c_by_table);
                each[i] = replay(&file, n);
                other.used = 0;
                start = nsec();
                if (journal_compact_begin(&j, t, &other) < 0 || journal_compact(&j, t, UINT32_MAX) != 0)
                        DIE("no room");
                snapshot[i] = (double) (nsec() - start) / 1e6;
                size = (double) other.used / 1e6;
                whole[i] = replay(&other, n);
                ended[i] = cancel(&j, t);
                drain(t);
                tree_free(t);
        }
        table("the journal of changes; medians", "ctxd", "");
        row_limit("a Create in the model alone, ns", median(create, rounds), 0);
        row_limit("its record, ns", median(record, rounds), 50);
        row_limit("its record without the instruction, ns",
                        median(record, rounds) + median(slow, rounds) - median(quick, rounds), 50);
        row_limit("checksum of a record, ns", median(quick, rounds), 0);
        row_limit("the same by table, ns", median(slow, rounds), 0);
        row_limit("its record, bytes", bytes, BYTES_EACH);
        row_limit("a cancel of all with its record, ns each", median(ended, rounds), 60);
        row_limit("a snapshot of all, ms", median(snapshot, rounds), 0);
        row_limit("its size, MB", size, BYTES_EACH * n / 1e6);
        row_limit("a tree from the snapshot, ms", median(whole, rounds), 1600.0 * n / 1e6);
        row_limit("a tree from a record each, ms", median(each, rounds), 1600.0 * n / 1e6);
        free(creates);
        free(records);
        free(nothing);
        free(file.bytes);
        free(other.bytes);
        return 0;
}
