/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Leaks come and go while somebody goes through them. */

#include <stdlib.h>
#include <string.h>

#include "daemon/world/anchor.h"
#include "daemon/world/leak.h"
#include "daemon/world/world.h"
#include "proto/probe-record.h"
#include "tests/harness/suite.h"

#define CONTEXTS 6
#define LEAKS 400 /* ids, of all contexts */
#define ROUNDS 100
#define CURSORS 3

enum fate {
        NONE, /* it was not there when the cursor began, or has gone */
        OPEN,
        RESOLVED,
};

/* One who goes through all. */
static struct reader {
        struct leak_cursor cursor;
        enum fate at_begin[LEAKS + 1];
        unsigned shown[LEAKS + 1];
        bool begun, shows_resolved;
} readers[CURSORS];

static struct world world;
static struct leaks *leaks;
static struct anchor anchors[CONTEXTS];
static enum fate fates[LEAKS + 1];
static uint64_t next_id;

static struct anchor *anchor_of(uint64_t id)
{
        return &anchors[id % CONTEXTS];
}

static void find(void)
{
        struct probe_leak record = {.header = {PROBE_LEAK, sizeof record},
                        .leak_id = next_id,
                        .kind = PROBE_LEAK_BLOCKED,
                        .pid = (uint32_t) next_id,
                        .tid = (uint32_t) next_id};

        if (next_id > LEAKS)
                return;
        leaks_add(leaks, anchor_of(next_id), &record);
        fates[next_id++] = OPEN;
}

static void resolve(uint64_t id)
{
        const struct probe_resolved record = {.header = {PROBE_RESOLVED, sizeof record}, .leak_id = id};

        if (fates[id] != OPEN)
                return;
        leaks_resolve(leaks, anchor_of(id), &record);
        fates[id] = RESOLVED;
}

static void forget(struct anchor *a)
{
        leaks_drop(leaks, a);
        for (uint64_t id = 1; id <= LEAKS; id++)
                if (anchor_of(id) == a) {
                        fates[id] = NONE;
                        for (unsigned i = 0; i < CURSORS; i++)
                                readers[i].at_begin[id] = NONE;
                }
}

static void begin(struct reader *r)
{
        leaks_begin(leaks, &r->cursor);
        memcpy(r->at_begin, fates, sizeof fates);
        memset(r->shown, 0, sizeof r->shown);
        r->shows_resolved = false;
        r->begun = true;
}

/* All that was there from the begin to the end was shown once, in its round. */
static void end(struct reader *r)
{
        for (unsigned id = 1; id <= LEAKS; id++)
                if (r->shown[id] > 1 || (r->shown[id] == 0 && r->at_begin[id] != NONE))
                        ck_abort_msg("%u was shown %u times", id, r->shown[id]);
        leaks_end(&r->cursor);
        r->begun = false;
}

static void go_on(struct reader *r)
{
        bool is_its_turn;
        const struct leak *l;

        if (!r->begun) {
                begin(r);
                return;
        }
        l = leaks_next(&r->cursor, &is_its_turn);
        if (!l) {
                end(r);
                return;
        }
        r->shows_resolved |= r->cursor.resolved_ones;
        if (!is_its_turn)
                return;
        r->shown[l->leak_id]++;
        if (r->at_begin[l->leak_id] != NONE && r->shows_resolved != (r->at_begin[l->leak_id] == RESOLVED))
                ck_abort_msg("%u came in the wrong round", (unsigned) l->leak_id);
}

START_TEST(law48_leaks_come_and_go_beside_a_walk)
{
        srand(48);
        for (unsigned round = 0; round < ROUNDS; round++) {
                memset(fates, 0, sizeof fates);
                memset(readers, 0, sizeof readers);
                next_id = 1;
                ck_assert_int_eq(leaks_new(&leaks, &world), 0);
                for (unsigned i = 0; i < CONTEXTS; i++)
                        TAILQ_INIT(&anchors[i].leaks);
                for (unsigned n = 0; n < 20 * LEAKS; n++) {
                        unsigned what = (unsigned) rand() % 100;

                        if (what < 20)
                                find();
                        else if (what < 30)
                                resolve(1 + (uint64_t) rand() % LEAKS);
                        else if (what == 30 && rand() % 4 == 0)
                                forget(&anchors[rand() % CONTEXTS]);
                        else
                                go_on(&readers[rand() % CURSORS]);
                }
                for (unsigned i = 0; i < CURSORS; i++)
                        while (readers[i].begun)
                                go_on(&readers[i]);
                for (unsigned i = 0; i < CONTEXTS; i++)
                        forget(&anchors[i]);
                leaks_free(leaks);
        }
}
END_TEST

/* Those of a context that is not asked about. */
START_TEST(what_is_left_of_a_context_is_left_out)
{
        struct leak_cursor cursor;
        bool is_its_turn;
        unsigned n = 0;
        struct leak *l;

        next_id = 1;
        ck_assert_int_eq(leaks_new(&leaks, &world), 0);
        for (unsigned i = 0; i < CONTEXTS; i++)
                TAILQ_INIT(&anchors[i].leaks);
        while (next_id <= LEAKS)
                find();
        leaks_begin(leaks, &cursor);
        while ((l = leaks_next(&cursor, &is_its_turn))) {
                leaks_skip(&cursor, l->anchor);
                n++;
        }
        ck_assert_uint_eq(n, 2 * CONTEXTS);
        leaks_end(&cursor);
        for (unsigned i = 0; i < CONTEXTS; i++)
                leaks_drop(leaks, &anchors[i]);
        leaks_free(leaks);
}
END_TEST

int main(void)
{
        return run_tests("leaks", (const TTest *const[]){law48_leaks_come_and_go_beside_a_walk,
                                                  what_is_left_of_a_context_is_left_out, NULL});
}
