/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/model/tree.h"

/* Law 21 with a million contexts: what one of them takes, and how long each verb is busy with it. The figures
 * are printed; only the size is a test, since it is the same everywhere. */

#define CONTEXTS 1000000
#define BYTES_MAX 256

static struct refused refused;
static const struct caller root = {.uid = 0, .pid = 1, .comm = "root"};

static uint64_t nsec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

static uint64_t bytes_used(void)
{
        struct mallinfo2 info = mallinfo2();

        return info.uordblks + info.hblkhd;
}

static void fail(const char *what)
{
        printf("Bail out! %s\n", what);
        exit(EXIT_FAILURE);
}

static void drain(struct tree *t)
{
        unsigned effects;

        while (effect_take(t, &effects)) {
        }
        (void) tree_collect(t, UINT32_MAX);
}

/* wide: below one parent; else 64 levels deep, again and again */
static double measure(const char *name, bool wide, bool deadlines)
{
        struct create_options o = {
                        .deadline_usec = UINT64_MAX, .mode = CONTEXT_MODE_INHERIT, .parents = true};
        uint64_t before, begun, made, canceled, drained, collected, bytes;
        struct context *top, *c;
        char path[256];
        uint32_t n = 0;
        struct tree *t;

        if (tree_new(&t) < 0)
                fail("no memory");
        t->retain_usec = 1000;
        if (tree_create(t, 1, &root, "top", &o, &top, &refused) != 1)
                fail("the top was refused");
        drain(t);
        before = bytes_used();
        begun = nsec();
        for (unsigned i = 1; t->n_contexts <= CONTEXTS; i++) {
                size_t length = (size_t) snprintf(path, sizeof path, "top/%06u", i);

                for (unsigned level = 2; !wide && level < CTXD_LABELS_MAX; level++)
                        length += (size_t) snprintf(path + length, sizeof path - length, "/x");
                if (deadlines)
                        o.deadline_usec = 1000000 + (i * UINT64_C(2654435761)) % 1000000;
                if (tree_create(t, 2, &root, path, &o, &c, &refused) != 1)
                        fail("a create was refused");
        }
        made = nsec();
        drain(t);
        bytes = bytes_used() - before;
        drained = nsec();
        if (tree_cancel(t, 3, &root, top, NULL, &n, &refused) != 1 || n <= CONTEXTS)
                fail("the cancel did not reach all");
        canceled = nsec();
        drain(t);
        collected = nsec();
        while (tree_settle(t, 5000) > 0)
                drain(t);
        if (t->n_contexts != 0)
                fail("some were not forgotten");
        printf("# %s: %.1f bytes each; ns each: create %.0f, cancel %.1f, effects %.1f, forget %.1f\n", name,
                        (double) bytes / CONTEXTS, (double) (made - begun) / CONTEXTS,
                        (double) (canceled - drained) / CONTEXTS, (double) (collected - canceled) / CONTEXTS,
                        (double) (nsec() - collected) / CONTEXTS);
        tree_free(t);
        return (double) bytes / CONTEXTS;
}

int main(void)
{
        double wide = measure("wide", true, false);

        if (wide > 0)
                printf("%s 1 - law_21_a_million_contexts_fit: %.1f bytes each, %d allowed\n",
                                wide <= BYTES_MAX ? "ok" : "not ok", wide, BYTES_MAX);
        else
                printf("ok 1 - law_21_a_million_contexts_fit # SKIP this allocator does not say what it "
                       "gave\n");
        measure("deep", false, false);
        measure("deadlines", true, true);
        printf("ok 2 - law_21_a_million_contexts_are_canceled\n1..2\n");
        return wide <= BYTES_MAX ? EXIT_SUCCESS : EXIT_FAILURE;
}
