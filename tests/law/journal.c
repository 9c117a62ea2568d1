/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/law/journal.h"

static bool is_released(const struct context *c)
{
        while (c->parent && !c->released)
                c = c->parent;
        return c->parent;
}

static void describe_end(FILE *f, const struct context *c)
{
        const struct context *origin = context_origin(c);

        fprintf(f, " state %d of %" PRIu64 " by itself %d at %" PRIu64 " drained %" PRIu64, c->state,
                        origin->id, origin->by_itself, c->done_usec, c->drained_usec);
}

static void describe(FILE *f, const struct context *c)
{
        fprintf(f, "%" PRIu64 " below %" PRIu64 " '%s' '%s'", c->id, c->parent->id, c->label,
                        context_description(c));
        fprintf(f, " uid %u of %u gid %u mode %o made %" PRIu64 " grace %" PRIu64, c->uid, c->user->uid,
                        c->gid, c->mode, c->created_usec, c->grace_usec);
        fprintf(f, " implied %d released %d children %u", c->implied, is_released(c), c->n_children);
        fprintf(f, " busy %d below %u handles %d", c->busy, c->n_busy_below, c->has_handles);
        fprintf(f, " deadline %" PRIu64, c->deadline_usec);
        if (context_is_done(c))
                describe_end(f, c);
        else
                fprintf(f, " own %" PRIu64 " %d", c->wake_usec, c->own_deadline);
        if (c->cause)
                fprintf(f, " cause %d '%s' of %u/%d '%s'", c->cause->error, c->cause->message, c->cause->uid,
                                c->cause->pid, c->cause->comm);
        for (unsigned i = 0; i < c->n_values; i++)
                fprintf(f, " %s='%s'", c->values[i].key, c->values[i].value);
        for (unsigned i = 0; i < c->n_policies; i++)
                fprintf(f, " policy %d %u %" PRIu64, c->policies[i].signal, c->policies[i].uid,
                                c->policies[i].kill_after_usec);
        fprintf(f, "\n");
}

char *tree_text(struct tree *t)
{
        const struct context *root = t->background, *c = root;
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert(f);
        while ((c = context_next(c, root)))
                tree_reach(t, c);
        fprintf(f, "contexts %u last label %" PRIu64 "\n", t->n_contexts, t->last_label);
        for (c = context_next(root, root); c; c = context_next(c, root))
                describe(f, c);
        for (uid_t uid = 0; uid <= 1000; uid += 1000)
                for (const struct user *u = t->users.by_uid; u; u = u->hh.next)
                        if (u->uid == uid)
                                fprintf(f, "user %u: %" PRIu64 " contexts, %" PRIu64 " bytes\n", uid,
                                                u->used[RESOURCE_CONTEXTS], u->used[RESOURCE_BYTES]);
        fclose(f);
        return text;
}

bool text_is_same(const char *is, const char *should)
{
        size_t line = 0;

        if (strcmp(is, should) == 0)
                return true;
        for (size_t i = 0; is[i] == should[i]; i++)
                if (is[i] == '\n')
                        line = i + 1;
        printf("# is:     %.*s\n# should: %.*s\n", (int) strcspn(is + line, "\n"), is + line,
                        (int) strcspn(should + line, "\n"), should + line);
        return false;
}

struct context *context_of(const struct tree *t, uint64_t id)
{
        const struct context *c = t->background;

        while ((c = context_next(c, t->background)) && c->id != id) {
        }
        return (struct context *) c;
}

void file_init(struct journal_buffer *f, size_t size)
{
        *f = (struct journal_buffer){.bytes = malloc(size), .size = size};
        assert(f->bytes);
}

void file_deinit(struct journal_buffer *f)
{
        free(f->bytes);
        *f = (struct journal_buffer){};
}

static void bring_back_what_is_alive(struct tree *t, const struct tree *alive)
{
        const struct context *c = alive->background;

        while ((c = context_next(c, alive->background))) {
                if (c->busy && context_of(t, c->id))
                        tree_attached(t, context_of(t, c->id));
                if (c->has_handles && context_of(t, c->id))
                        tree_handles_given(t, context_of(t, c->id));
        }
}

int restore_from(const uint8_t *bytes, size_t size, size_t carried_out, const struct tree *alive,
                struct tree **ret)
{
        /* In memory of exactly that size, so that a read past its end is seen. */
        uint8_t *copy = malloc(size > 0 ? size : 1);
        struct tree *t;
        size_t used;
        int r;

        assert(copy && tree_new(&t) == 0);
        memcpy(copy, bytes, size);
        r = journal_replay(t, copy, size, carried_out, &used);
        free(copy);
        if (r < 0) {
                *ret = tree_free(t);
                return r;
        }
        assert(used <= size && (r == 1) == (used < size));
        if (alive) {
                t->retain_usec = alive->retain_usec;
                t->slice = alive->slice;
                bring_back_what_is_alive(t, alive);
        }
        tree_restored(t, alive ? alive->now_usec : 0);
        tree_check(t);
        *ret = t;
        return r;
}
