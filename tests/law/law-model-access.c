/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/model.h"

/* Law 36, and 35 and 46 with it: who may do what. The tables are written by hand, from the laws and the
 * manual. Every verb is tried by every kind of caller under all 512 modes, and a refused one must not have
 * changed anything: all that the tree holds is written down before and after. */

enum { ALICE = 1000, BOB = 2000, CAROL = 3000, GROUP = 50, DAEMON = 900 };

/* What a file's mode would let a caller do; the owner may always look. */
enum bits { NONE, R, W, RW, ALL /* whatever the mode says */ };

static const gid_t gids[] = {7, GROUP};

static const struct kind {
        const char *name;
        struct caller caller;
        enum { AS_OWNER, AS_GROUP, AS_OTHER, AS_ALL } as;
        bool reads_all;
} kinds[] = {
                {"the owner", {.uid = ALICE, .gid = ALICE}, AS_OWNER, false},
                /* The owner's bits alone count, also where the group's would give more. */
                {"the owner, in the group", {.uid = ALICE, .gid = GROUP}, AS_OWNER, false},
                {"one of the group", {.uid = BOB, .gid = GROUP}, AS_GROUP, false},
                {"one more of the group", {.uid = BOB, .gid = BOB, .gids = gids, .n_gids = 2}, AS_GROUP,
                                false},
                {"another user", {.uid = CAROL, .gid = CAROL}, AS_OTHER, false},
                {"a system user", {.uid = 33, .gid = 33}, AS_OTHER, false},
                {"one without a known group", {.uid = CAROL, .gid = (gid_t) -1}, AS_OTHER, false},
                {"one who may read all", {.uid = CAROL, .gid = CAROL, .privileges = PRIVILEGE_READ}, AS_OTHER,
                                true},
                {"one who may make first labels",
                                {.uid = CAROL, .gid = CAROL, .privileges = PRIVILEGE_FIRST_LABEL}, AS_OTHER,
                                false},
                {"one who may manage all", {.uid = CAROL, .gid = CAROL, .privileges = PRIVILEGE_MANAGE},
                                AS_ALL, true},
                {"the daemon's user", {.uid = DAEMON, .gid = DAEMON}, AS_ALL, true},
                {"root", {.uid = 0, .gid = 0}, AS_ALL, true},
};

static enum bits bits_of(const struct kind *kind, unsigned mode)
{
        unsigned bits = mode >> (kind->as == AS_OWNER ? 6 : kind->as == AS_GROUP ? 3 : 0);
        bool r = kind->as == AS_OWNER || kind->reads_all || (bits & 4), w = bits & 2;

        return kind->as == AS_ALL ? ALL : r && w ? RW : r ? R : w ? W : NONE;
}

static struct attachment member_of(const struct caller *caller)
{
        return (struct attachment){.uids = {caller->uid, caller->uid, caller->uid},
                        .wanted = {.signal = 15, .kill_after_usec = UINT64_MAX}};
}

static int do_cancel(const struct caller *caller, struct context *c, enum verb verb)
{
        return tree_cancel(t, now, caller, c, cause_new(5, "x", caller->uid, 1, "x"), NULL, &refused);
}

static int do_release(const struct caller *caller, struct context *c, enum verb verb)
{
        return tree_release(t, now, caller, c, &refused);
}

static int do_extend(const struct caller *caller, struct context *c, enum verb verb)
{
        return tree_extend(t, now, caller, c, now + 500, &refused);
}

static int do_attach(const struct caller *caller, struct context *c, enum verb verb)
{
        struct attachment a = member_of(caller);

        return tree_attach(t, now, caller, c, &a, &refused);
}

static int do_want(const struct caller *caller, struct context *c, enum verb verb)
{
        return tree_want(t, now, caller, c, verb, &refused);
}

static int do_find(const struct caller *caller, struct context *c, enum verb verb)
{
        char text[CTXD_PATH_ID_MAX + 1];

        return tree_find(t, caller, context_reference(c, text), &c, &refused);
}

/* What each verb answers, to the owner and to others, who have those bits. */
static const struct law {
        const char *name;
        int (*act)(const struct caller *caller, struct context *c, enum verb verb);
        enum verb verb;
        int owner[4], other[4], all; /* NONE, R, W, RW */
        /* The privilege that a refusal names: of what may not be read, and of what may. */
        unsigned hidden, denied;
} laws[] = {
#define SEE                            \
        {                              \
                -ENOENT, 0, -ENOENT, 0 \
        }
#define DENIED                                     \
        {                                          \
                -ENOENT, -EACCES, -ENOENT, -EACCES \
        }
#define CHANGE                               \
        {                                    \
                -ENOENT, -EACCES, -ENOENT, 0 \
        }
#define END                \
        {                  \
                0, 0, 0, 0 \
        }
                {"Find", do_find, VERB_LOOK, SEE, SEE, 0, PRIVILEGE_READ, 0},
                {"Err, Values, Members, Leaks", do_want, VERB_LOOK, SEE, SEE, 0, PRIVILEGE_READ, 0},
                {"Done", do_want, VERB_DONE, SEE, SEE, 0, PRIVILEGE_READ, 0},
                {"Drained", do_want, VERB_DRAINED, SEE, SEE, 0, PRIVILEGE_READ, 0},
                {"Cancel", do_cancel, VERB_CANCEL, END, CHANGE, 1, PRIVILEGE_MANAGE, PRIVILEGE_MANAGE},
                {"Release", do_release, VERB_RELEASE, END, CHANGE, 0, PRIVILEGE_MANAGE, PRIVILEGE_MANAGE},
                {"Lifeline", do_want, VERB_LIFELINE, END, CHANGE, 0, PRIVILEGE_MANAGE, PRIVILEGE_MANAGE},
                {"Threads", do_want, VERB_ENTER, CHANGE, CHANGE, 0, PRIVILEGE_MANAGE, PRIVILEGE_MANAGE},
                {"Attach", do_attach, VERB_ATTACH, CHANGE, CHANGE, 0, PRIVILEGE_MANAGE, PRIVILEGE_MANAGE},
                {"Extend", do_extend, VERB_EXTEND, SEE, DENIED, 0, PRIVILEGE_MANAGE, PRIVILEGE_MANAGE},
                /* Its owner's alone: not even who may manage all is given it; only root is. */
                {"Page", do_want, VERB_PAGE, SEE, DENIED, -EACCES, PRIVILEGE_READ, 0},
};

#define N(array) (sizeof(array) / sizeof *(array))

/* All that the tree holds, as text that the caller frees. */
static char *written_down(void)
{
        char path[CTXD_PATH_ID_MAX + 1], *text;
        uint32_t n_reserved = 0;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        ck_assert_ptr_nonnull(f);
        for (const struct party *p = t->users.parties; p; p = p->hh.next)
                n_reserved += p->n_reserved;
        fprintf(f, "%" PRIu64 " %" PRIu64 " %u %u %u", t->last_id, t->last_label, t->n_contexts, n_reserved,
                        t->users.n);
        for (const struct context *c = t->background; c; c = context_next(c, t->background)) {
                fprintf(f, "\n%s %d%d%d%d %o %u:%u anchor %p handles %d pending %x",
                                context_reference(c, path), c->state, c->released, c->busy, c->forgotten,
                                c->mode, c->uid, c->gid, (void *) c->anchor, c->has_handles,
                                c->pending & ~(unsigned) EFFECT_RECORD);
                fprintf(f, " times %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " cause %s",
                                c->deadline_usec, c->wake_usec, c->done_usec, c->drained_usec,
                                c->cause ? c->cause->message : "");
                for (unsigned i = 0; i < c->n_policies; i++)
                        fprintf(f, " policy %d,%" PRIu64 ",%u", c->policies[i].signal,
                                        c->policies[i].kill_after_usec, c->policies[i].uid);
        }
        for (const struct user *u = t->users.by_uid; u; u = u->hh.next)
                fprintf(f, "\nuid %u: %" PRIu64 " contexts, %" PRIu64 " bytes", u->uid,
                                u->used[RESOURCE_CONTEXTS], u->used[RESOURCE_BYTES]);
        fclose(f);
        return text;
}

#define assert_same(before, what, who, mode)                                          \
        do {                                                                          \
                char *after_ = written_down();                                        \
                ck_assert_msg(strcmp(before, after_) == 0,                            \
                                "%s by %s, mode %04o, was refused and changed:\n%s\n" \
                                "now:\n%s",                                           \
                                what, who, mode, before, after_);                     \
                free(after_);                                                         \
        } while (0)

/* A tree of Alice's: what is tried is user-1000/p/c, whose group is GROUP; all above it can be read. */
static struct context *begin(unsigned mode)
{
        struct create_options o = plain;
        struct context *c;

        tree_free(t);
        setup();
        t->daemon_uid = DAEMON;
        o.mode = 0755;
        ck_assert_int_eq(tree_create(t, now, &alice, "~/p", &o, &c, &refused), 1);
        c->parent->mode = 0755;
        o.mode = mode;
        o.has_gid = true;
        o.gid = GROUP;
        ck_assert_int_eq(tree_create(t, now, &kinds[1].caller, "~/p/c", &o, &c, &refused), 1);
        drain();
        return c;
}

static int expected(const struct law *law, const struct kind *kind, enum bits bits)
{
        static const int column[] = {[NONE] = 0, [R] = 1, [W] = 2, [RW] = 3};
        int r;

        if (bits == ALL)
                return kind->caller.uid == 0 && law->all < 0 ? 0 : law->all;
        r = (kind->as == AS_OWNER ? law->owner : law->other)[column[bits]];
        return r == 0 ? (law->all > 0 ? law->all : 0) : r;
}

START_TEST(law_36_every_verb_caller_and_mode)
{
        const struct law *law = &laws[_i];

        for (unsigned mode = 0; mode <= 0777; mode++) {
                struct context *c = begin(mode);
                char *before = written_down();

                for (size_t k = 0; k < N(kinds); k++) {
                        const struct kind *kind = &kinds[k];
                        int r, should = expected(law, kind, bits_of(kind, mode));
                        unsigned privilege = should == -ENOENT ? law->hidden : law->denied;

                        ck_assert_msg(tree_allows(t, &kind->caller, c, law->verb) == (should >= 0),
                                        "%s by %s, mode %04o", law->name, kind->name, mode);
                        memset(&refused, 0, sizeof refused);
                        r = law->act(&kind->caller, c, law->verb);
                        ck_assert_msg(r == should, "%s by %s, mode %04o: %d, not %d", law->name, kind->name,
                                        mode, r, should);
                        tree_check(t);
                        if (r < 0) {
                                ck_assert_int_eq(refused.reason,
                                                r == -ENOENT ? REFUSED_NO_SUCH : REFUSED_ACCESS);
                                ck_assert_msg(refused.privilege == privilege,
                                                "%s by %s, mode %04o names %u, not %u", law->name, kind->name,
                                                mode, refused.privilege, privilege);
                                assert_same(before, law->name, kind->name, mode);
                                continue;
                        }
                        c = begin(mode);
                }
                free(before);
        }
}
END_TEST

START_TEST(law_36_nobody_ends_the_background)
{
        for (size_t k = 0; k < N(kinds); k++)
                for (size_t i = 0; i < N(laws); i++) {
                        bool look = laws[i].verb == VERB_LOOK;
                        char *before;

                        begin(0700);
                        before = written_down();
                        ck_assert_int_eq(laws[i].act(&kinds[k].caller, t->background, laws[i].verb),
                                        look ? 0 : -EPERM);
                        ck_assert(tree_allows(t, &kinds[k].caller, t->background, laws[i].verb) == look);
                        assert_same(before, laws[i].name, kinds[k].name, 0700U);
                        free(before);
                }
        for (size_t k = 0; k < N(kinds); k++)
                ck_assert_int_eq(tree_want(t, now, &kinds[k].caller, t->background, VERB_COUNT_ALL, &refused),
                                kinds[k].as == AS_ALL ? 0 : -EACCES);
}
END_TEST

START_TEST(law_36_the_daemon_may_end_all)
{
        struct context *c = begin(0);

        ck_assert_int_eq(tree_cancel(t, now, &caller_daemon, c, NULL, NULL, &refused), 1);
        c = begin(0);
        ck_assert_int_eq(tree_release(t, now, &caller_daemon, c, &refused), 0);
        ck_assert_ptr_nonnull(c->cause);
        ck_assert_uint_eq(c->cause->uid, (uid_t) -1);
}
END_TEST

/* Making something below p, or opening and attaching to it. Whoever may not read p is told of what is
 * above it. */
START_TEST(law_36_create_below_every_mode)
{
        static const int made[] = {[NONE] = -EACCES, [R] = -EACCES, [W] = -EACCES, [RW] = 1, [ALL] = 1};
        static const char *const paths[] = {"user-1000/p/c/x", "user-1000/p/c/", "user-1000/p/c/x/y"};

        for (unsigned mode = 0; mode <= 0777; mode++)
                for (size_t k = 0; k < N(kinds); k++) {
                        const struct kind *kind = &kinds[k];
                        int should = made[bits_of(kind, mode)];
                        struct attachment a = member_of(&kind->caller);
                        struct create_options o = plain;
                        struct context *c = begin(mode);
                        char *before = written_down();
                        int r;

                        o.attach = mode & 1 ? &a : NULL;
                        r = tree_create(t, now, &kind->caller, paths[mode % 3], &o, &c, &refused);
                        ck_assert_msg(r == should, "Create by %s, mode %04o: %d, not %d", kind->name, mode, r,
                                        should);
                        tree_check(t);
                        if (r < 0)
                                assert_same(before, "Create", kind->name, mode);
                        free(before);
                }
}
END_TEST

/* Everybody here may make first labels. To take the name of one that is done, one has to be allowed to
 * release it: w without r is not enough. */
START_TEST(law_36_the_name_of_a_first_label_under_every_mode)
{
        static const int taken[] = {[NONE] = -EEXIST, [R] = -EEXIST, [W] = -EEXIST, [RW] = 1, [ALL] = 1};

        for (unsigned mode = 0; mode <= 0777; mode++)
                for (size_t k = 0; k < N(kinds); k++) {
                        const struct kind *kind = &kinds[k];
                        int r, should = kind->as == AS_OWNER ? 1 : taken[bits_of(kind, mode)];
                        struct caller caller = kind->caller, owner = kinds[1].caller;
                        struct create_options o = plain;
                        struct context *c, *made = NULL;
                        char *before;

                        begin(0);
                        owner.privileges = PRIVILEGE_FIRST_LABEL;
                        caller.privileges |= PRIVILEGE_FIRST_LABEL;
                        o.mode = mode;
                        o.has_gid = true;
                        o.gid = GROUP;
                        ck_assert_int_eq(tree_create(t, now, &owner, "name", &o, &c, &refused), 1);
                        ck_assert_int_eq(tree_cancel(t, now, &root, c, NULL, NULL, &refused), 1);
                        drain();
                        before = written_down();
                        o = plain;
                        o.open = o.replace = mode & 1;
                        r = tree_create(t, now, &caller, "name", &o, &made, &refused);
                        ck_assert_msg(r == should, "Create by %s, mode %04o: %d, not %d", kind->name, mode, r,
                                        should);
                        tree_check(t);
                        if (r < 0)
                                assert_same(before, "Create", kind->name, mode);
                        free(before);
                }
}
END_TEST

/* A child that all may read tells of what it has from its parent to those alone who may read that, too. */
START_TEST(law_36_what_comes_from_an_ancestor_is_for_its_readers)
{
        for (unsigned mode = 0; mode <= 0777; mode++) {
                struct context *c = begin(mode), *child = NULL;
                struct create_options o = plain;
                struct shown_end end;

                o.mode = 0777;
                ck_assert_int_eq(tree_create(t, now, &root, "user-1000/p/c/x", &o, &child, &refused), 1);
                for (int done = 0; done < 2; done++) {
                        for (size_t k = 0; k < N(kinds); k++) {
                                enum bits bits = bits_of(&kinds[k], mode);
                                bool reads = bits != NONE && bits != W;

                                ck_assert(access_shows_values(t, &kinds[k].caller, c) == reads);
                                access_shown_end(t, &kinds[k].caller, child, &end);
                                ck_assert_str_eq(end.cause, !done ? "" : reads ? "why" : "context canceled");
                                ck_assert_int_eq(end.error, !done ? 0 : reads ? 5 : ECANCELED);
                                ck_assert_ptr_eq(end.by, done && reads ? c->cause : NULL);
                                ck_assert_ptr_eq(end.origin, done && reads ? c : NULL);
                        }
                        if (!done)
                                tree_cancel(t, now, &root, c, cause_new(5, "why", ALICE, 1, "x"), NULL,
                                                &refused);
                }
        }
}
END_TEST

START_TEST(law_46_open_is_for_readers_and_attach_for_writers)
{
        for (unsigned mode = 0; mode <= 0777; mode++)
                for (size_t k = 0; k < N(kinds); k++)
                        for (int attach = 0; attach < 2; attach++) {
                                const struct kind *kind = &kinds[k];
                                enum bits bits = bits_of(kind, mode);
                                struct attachment a = member_of(&kind->caller);
                                struct create_options o = plain;
                                struct context *c = begin(mode), *found = NULL;
                                char *before = written_down();
                                int r, should = bits == RW || bits == ALL || (bits == R && !attach) ? 0
                                                                                                    : -EACCES;
                                o.open = true;
                                o.attach = attach ? &a : NULL;
                                r = tree_create(t, now, &kind->caller, "user-1000/p/c", &o, &found, &refused);
                                ck_assert_msg(r == should, "Create, open%s by %s, mode %04o: %d, not %d",
                                                attach ? ", attach" : "", kind->name, mode, r, should);
                                ck_assert(r < 0 || found == c);
                                if (r < 0 || !attach)
                                        assert_same(before, "Create", kind->name, mode);
                                free(before);
                        }
}
END_TEST

START_TEST(law_32_only_a_process_that_the_caller_may_signal)
{
        for (unsigned foreign = 0; foreign < 8; foreign++)
                for (size_t k = 0; k < N(kinds); k++) {
                        const struct kind *kind = &kinds[k];
                        bool may = foreign == 0 || kind->caller.uid == 0;
                        struct attachment a = member_of(&kind->caller);
                        struct create_options o = plain;
                        struct context *c = begin(0777), *made = NULL;
                        char *before = written_down();

                        for (int i = 0; i < 3; i++)
                                a.uids[i] += foreign >> i & 1;
                        ck_assert_int_eq(tree_attach(t, now, &kind->caller, c, &a, &refused),
                                        may ? 0 : -EACCES);
                        ck_assert_int_eq(caller_want_process(&kind->caller, VERB_ENTER, a.uids, &refused),
                                        may ? 0 : -EACCES);
                        if (may) {
                                ck_assert_uint_eq(c->policies[a.policy].uid, kind->caller.uid);
                                free(before);
                                continue;
                        }
                        o.attach = &a;
                        ck_assert_int_eq(refused.reason, REFUSED_PROCESS);
                        ck_assert_uint_eq(refused.privilege, 0);
                        ck_assert_int_eq(tree_create(t, now, &kind->caller, "user-1000/p/c/x", &o, &made,
                                                         &refused),
                                        -EACCES);
                        assert_same(before, "Attach", kind->name, 0777U);
                        free(before);
                }
}
END_TEST

static int attach_from(const struct caller *caller, struct context *c, const struct context *from,
                struct policy wanted, struct policy *ret)
{
        struct attachment a = member_of(caller);
        int r;

        a.from = from;
        a.wanted = wanted;
        r = tree_attach(t, now, caller, c, &a, &refused);
        tree_check(t);
        if (r >= 0)
                *ret = c->policies[a.policy];
        return r;
}

START_TEST(law_30_no_member_leaves_by_attaching_itself_elsewhere)
{
        static const struct policy strict = {9, 100, 0}, none = {0, UINT64_MAX, 0}, late = {15, 500, 0},
                                   soon = {15, 50, 0};
        struct caller carol = kinds[4].caller, manager = carol;
        struct context *c = begin(0777), *from, *below, *read_only;
        struct create_options o = plain;
        struct policy got;
        char *before;

        /* Alice's process is held by root's context, below which anybody may make something. */
        manager.privileges = PRIVILEGE_MANAGE;
        o.mode = 0755;
        ck_assert_int_eq(create_as(&root, "held", &o, &from), 1);
        ck_assert_int_eq(create_as(&root, "read", &o, &read_only), 1);
        o.mode = 0777;
        ck_assert_int_eq(create_as(&root, "held/below", &o, &below), 1);
        ck_assert_int_eq(attach_from(&alice, from, NULL, none, &got), -EACCES);
        ck_assert_int_eq(attach_from(&root, from, NULL, strict, &got), 0);
        before = written_down();
        ck_assert_int_eq(attach_from(&alice, c, from, none, &got), -EACCES);
        ck_assert_int_eq(refused.reason, REFUSED_PROCESS);
        ck_assert_str_eq(refused.path, ""); /* which one that is may be none of her business */
        ck_assert_int_eq(attach_from(&manager, c, from, none, &got), -EACCES); /* it was asked about c */
        o.attach = &(struct attachment){.uids = {ALICE, ALICE, ALICE}, .from = from};
        ck_assert_int_eq(create_as(&alice, "~/p/c/x", &o, &c), -EACCES);
        assert_same(before, "Attach", "one who may not take it", 0777U);
        free(before);

        /* Down it goes, and takes what root has asked for with it. */
        ck_assert_int_eq(attach_from(&alice, below, from, none, &got), 0);
        ck_assert_int_eq(got.signal, 9);
        ck_assert_uint_eq(got.kill_after_usec, 100);
        ck_assert_uint_eq(got.uid, 0);
        ck_assert_int_eq(create_as(&alice, "held/below/x", &o, &c), 1);
        ck_assert_uint_eq(c->policies[0].uid, 0);
        /* Root takes it wherever it likes, with less. */
        ck_assert_int_eq(attach_from(&root, read_only, from, none, &got), 0);
        ck_assert_int_eq(got.signal, 0);

        /* By the same user it becomes stronger, never weaker: Bob's in Bob's, where he may only read now. */
        ck_assert_int_eq(create_as(&root, "late",
                                         &(struct create_options){.deadline_usec = UINT64_MAX, .mode = 0777},
                                         &from),
                        1);
        ck_assert_int_eq(create_as(&root, "late/x",
                                         &(struct create_options){.deadline_usec = UINT64_MAX, .mode = 0777},
                                         &below),
                        1);
        ck_assert_int_eq(attach_from(&bob, from, NULL, late, &got), 0);
        from->mode = 0755;
        ck_assert_int_eq(attach_from(&bob, below, from, soon, &got), 0);
        ck_assert_uint_eq(got.kill_after_usec, 50);
        ck_assert_int_eq(attach_from(&bob, below, from, none, &got), 0);
        ck_assert_int_eq(got.signal, 15);
        ck_assert_uint_eq(got.kill_after_usec, 500);
        ck_assert_uint_eq(got.uid, BOB);
}
END_TEST

START_TEST(law_35_a_failed_attach_leaves_nothing)
{
        struct context *c = begin(0700), *made;
        struct attachment a = member_of(&alice), b = a;
        struct create_options o = plain;
        char *before;

        /* The kernel has refused: the policy goes, unless it was there before. */
        before = written_down();
        for (int i = 0; i < 2 * CONTEXT_POLICIES_MAX; i++) {
                ck_assert_int_eq(tree_attach(t, now, &alice, c, &a, &refused), 0);
                tree_attach_undo(t, c, &a);
                assert_same(before, "Attach", "the owner", 0700U);
        }
        free(before);
        ck_assert_int_eq(tree_attach(t, now, &alice, c, &a, &refused), 0);
        before = written_down();
        ck_assert_int_eq(tree_attach(t, now, &alice, c, &b, &refused), 0);
        ck_assert_uint_eq(b.policy, a.policy);
        tree_attach_undo(t, c, &b);
        assert_same(before, "Attach", "the owner", 0700U);

        /* The same for what was opened, and what was made goes as a whole. */
        o.attach = &b;
        o.open = true;
        b.wanted.signal = 9;
        ck_assert_int_eq(create_as(&alice, "~/p/c", &o, &made), 0);
        ck_assert_uint_eq(b.policy, 1);
        tree_attach_undo(t, made, &b);
        assert_same(before, "Create", "the owner", 0700U);
        free(before);
        ck_assert_int_eq(create_as(&alice, "~/p/x/y", &o, &made), 1);
        ck_assert_uint_eq(made->n_policies, 1);
        ck_assert_int_eq(made->policies[b.policy].signal, 9);
        tree_discard(t, made);
        ck_assert_ptr_null(find("user-1000/p/x"));
        tree_check(t);
}
END_TEST

START_TEST(law_35_nothing_is_made_that_would_be_done)
{
        struct context *c = begin(0700), *made = NULL;
        struct attachment a = member_of(&alice);
        struct create_options o = plain;
        char *before = written_down();

        o.attach = &a;
        o.deadline_usec = now;
        ck_assert_int_eq(create_as(&alice, "~/p/c/late", &o, &made), -EALREADY);
        ck_assert_str_eq(refused.path, "user-1000/p/c/late");
        ck_assert_int_eq(create_as(&alice, "~/p/c/", &o, &made), -EALREADY);
        /* Its parent is not done, and nobody is told so. */
        ck_assert_int_eq(strncmp(refused.path, "user-1000/p/c/", strlen("user-1000/p/c/")), 0);
        assert_same(before, "Create", "the owner", 0700U);
        free(before);
        o.deadline_usec = now + 10;
        for (int i = 0; i < CONTEXT_POLICIES_MAX; i++) {
                a.wanted.signal = i;
                ck_assert_int_eq(tree_attach(t, now, &alice, c, &a, &refused), 0);
        }
        before = written_down();
        a.wanted.signal = 63;
        o.open = true;
        ck_assert_int_eq(create_as(&alice, "~/p/c", &o, &made), -EDQUOT);
        assert_same(before, "Create", "the owner", 0700U);
        free(before);
        cancel(c);
        drain();
        before = written_down();
        ck_assert_int_eq(create_as(&alice, "~/p/c/x", &o, &made), -EALREADY);
        ck_assert_int_eq(tree_attach(t, now, &alice, c, &a, &refused), -EALREADY);
        assert_same(before, "Create", "the owner", 0700U);
        free(before);
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("law-model-access");
        TCase *tcase = tcase_create("model");
        SRunner *runner;
        int failed;

        tcase_set_timeout(tcase, 120);
        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_loop_test(tcase, law_36_every_verb_caller_and_mode, 0, (int) N(laws));
        tcase_add_test(tcase, law_36_nobody_ends_the_background);
        tcase_add_test(tcase, law_36_the_daemon_may_end_all);
        tcase_add_test(tcase, law_36_create_below_every_mode);
        tcase_add_test(tcase, law_36_the_name_of_a_first_label_under_every_mode);
        tcase_add_test(tcase, law_36_what_comes_from_an_ancestor_is_for_its_readers);
        tcase_add_test(tcase, law_46_open_is_for_readers_and_attach_for_writers);
        tcase_add_test(tcase, law_32_only_a_process_that_the_caller_may_signal);
        tcase_add_test(tcase, law_30_no_member_leaves_by_attaching_itself_elsewhere);
        tcase_add_test(tcase, law_35_a_failed_attach_leaves_nothing);
        tcase_add_test(tcase, law_35_nothing_is_made_that_would_be_done);
        suite_add_tcase(suite, tcase);
        runner = srunner_create(suite);
        srunner_set_tap(runner, "-");
        srunner_run_all(runner, CK_SILENT);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
