/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/model.h"

/* Laws 34 to 36 for the daemon's contexts: names and ids, what a refused call leaves, and who may what. */

#define RETAIN (30 * UINT64_C(1000000))

static struct context *find_id(const char *path, uint64_t id)
{
        char text[CTXD_PATH_ID_MAX + 1];

        snprintf(text, sizeof text, "%s#%" PRIu64, path, id);
        return find(text);
}

START_TEST(law_34_a_path_names_one)
{
        struct create_options open = plain;
        struct context *c = make("a/b"), *d = NULL;

        ck_assert_int_eq(create_as(&root, "a/b", &plain, &d), -EEXIST);
        ck_assert_int_eq(refused.reason, REFUSED_EXISTS);
        ck_assert_str_eq(refused.path, "a/b");
        ck_assert_ptr_null(refused.detail);
        open.open = true;
        ck_assert_int_eq(create_as(&root, "a/b", &open, &d), 0);
        ck_assert_ptr_eq(d, c);
        cancel(c); /* it keeps its path */
        ck_assert_ptr_eq(find("a/b"), c);
        ck_assert_ptr_eq(find("/a/b"), c);
}
END_TEST

START_TEST(law_34_the_name_of_a_done_one_is_free)
{
        struct create_options open = plain, replace = plain;
        struct context *old = make("a/b"), *below = make("a/b/c"), *new = NULL, *next = NULL;
        uint64_t id = old->id, id_below = below->id;

        open.open = true;
        replace.open = replace.replace = true;
        cancel(old);
        ck_assert_int_eq(create_as(&root, "a/b", &plain, &new), 1);
        tree_check(t);
        assert_active(new);
        ck_assert_ptr_eq(find("a/b"), new);
        ck_assert_ptr_eq(find_id("a/b", id), old);
        ck_assert_ptr_null(find("a/b/c"));
        ck_assert_ptr_eq(find_id("a/b/c", id_below), below);
        assert_done(old, CONTEXT_CANCELED, old, ECANCELED, "context canceled");

        /* Late work does not go on under a name that somebody has cancelled. */
        cancel(new);
        ck_assert_int_eq(create_as(&root, "a/b", &open, &next), -EALREADY);
        ck_assert_int_eq(refused.reason, REFUSED_DONE);
        ck_assert_ptr_eq(find("a/b"), new);
        ck_assert_int_eq(create_as(&root, "a/b", &replace, &next), 1);
        ck_assert_ptr_eq(find("a/b"), next);
        ck_assert_int_eq(create_as(&root, "a/b", &replace, &new), 0); /* an active one is not replaced */
        ck_assert_ptr_eq(new, next);
}
END_TEST

START_TEST(law_34_open_of_an_overdue_name)
{
        struct create_options open = plain, replace = plain, dated = plain;
        struct context *c = NULL, *d = NULL;

        open.open = true;
        replace.open = replace.replace = true;
        dated.deadline_usec = now + 10;
        ck_assert_int_eq(create_as(&root, "a", &dated, &c), 1);
        at(now + 10);
        ck_assert_int_eq(create_as(&root, "a", &open, &d), -EALREADY);
        ck_assert_int_eq(create_as(&root, "a", &replace, &d), 1);
        ck_assert_ptr_ne(c, d);
        /* Its parent's end is its end. */
        c = make("p");
        make("p/q");
        cancel(c);
        ck_assert_int_eq(create_as(&root, "p/q", &open, &d), -EALREADY);
}
END_TEST

/* Its owner has exited, or its lifeline was closed: that is nobody's will. */
START_TEST(law_34_open_of_one_that_ended_by_itself)
{
        struct create_options open = plain;
        struct context *c = make("a"), *d = NULL;

        open.open = true;
        tree_cancel(t, now, &caller_daemon, c,
                        cause_new(0, "owner exited", caller_daemon.uid, caller_daemon.pid, NULL), NULL,
                        &refused);
        ck_assert_int_eq(create_as(&root, "a", &open, &d), 1);
        assert_active(d);
        ck_assert_ptr_ne(c, d);
}
END_TEST

/* Who may not make it there may not displace what is done there, and who cannot see it may. */
START_TEST(law_34_who_may_displace)
{
        struct create_options public = plain, hidden = plain, open = plain;
        struct context *c = NULL, *d = NULL;

        public.mode = 0744;
        ck_assert_int_eq(create_as(&root, "public", &public, &c), 1);
        ck_assert_int_eq(create_as(&root, "public/x", &public, &c), 1);
        cancel(c);
        ck_assert_int_eq(create_as(&alice, "public/x", &plain, &d), -EACCES);
        ck_assert_ptr_eq(find("public/x"), c);

        public.mode = 0777;
        hidden.mode = 0700;
        open.open = true;
        ck_assert_int_eq(create_as(&root, "all", &public, &c), 1);
        ck_assert_int_eq(create_as(&root, "all/x", &hidden, &c), 1);
        ck_assert_int_eq(create_as(&alice, "all/x", &plain, &d), -EEXIST);
        cancel(c);
        ck_assert_int_eq(create_as(&alice, "all/x", &open, &d), -EEXIST);
        ck_assert_int_eq(create_as(&alice, "all/x", &plain, &d), 1);
        ck_assert_uint_eq(d->uid, alice.uid);
}
END_TEST

/* Nobody owns what is above a first label. So to displace one takes the right to release it. */
START_TEST(law_36_who_may_displace_a_first_label)
{
        const struct caller daemon = {.uid = 33, .gid = 33, .pid = 3300, .comm = "daemon"};
        struct caller granted = alice;
        struct create_options replace = plain;
        struct context *c = make("backup"), *below = make("backup/job"), *d = NULL;

        granted.privileges = PRIVILEGE_FIRST_LABEL;
        replace.open = replace.replace = true;
        cancel(c);
        ck_assert_int_eq(create_as(&daemon, "backup", &plain, &d), -EEXIST);
        ck_assert_int_eq(create_as(&daemon, "backup", &replace, &d), -EEXIST);
        ck_assert_int_eq(create_as(&granted, "backup", &plain, &d), -EEXIST);
        ck_assert_ptr_eq(find("backup"), c);
        ck_assert_ptr_eq(find("backup/job"), below);
        ck_assert_int_eq(create_as(&root, "backup", &plain, &d), 1);
        /* Its owner may, and so may who can write to it. */
        ck_assert_int_eq(create_as(&daemon, "own", &plain, &c), 1);
        cancel(c);
        ck_assert_int_eq(create_as(&daemon, "own", &plain, &d), 1);
        replace.mode = 0777;
        c = make_with("shared", &replace);
        cancel(c);
        ck_assert_int_eq(create_as(&daemon, "shared", &plain, &d), 1);
}
END_TEST

START_TEST(law_34_release_frees_the_path_at_once)
{
        struct context *p = make("p"), *c = make("p/c"), *p2, *c2;
        uint64_t id = p->id, below = c->id;

        ck_assert_int_eq(tree_release(t, now, &alice, p, &refused), -ENOENT); /* not hers */
        ck_assert_int_eq(tree_release(t, now, &root, p, &refused), 0);
        tree_check(t);
        assert_done(c, CONTEXT_CANCELED, p, ECANCELED, "context released");
        ck_assert_ptr_null(find("p"));
        ck_assert_ptr_null(find("p/c"));
        p2 = make("p");
        c2 = make("p/c");
        assert_active(p2);
        ck_assert_ptr_eq(find("p"), p2);
        ck_assert_ptr_eq(find_id("p", id), p);
        ck_assert_ptr_eq(find_id("p", p2->id), p2);
        ck_assert_ptr_eq(find_id("p/c", below), c);
        ck_assert_ptr_eq(find_id("p/c", c2->id), c2);
        ck_assert_ptr_null(find_id("p/c", id)); /* another's id */
        ck_assert_ptr_null(find_id("p", 999));
        ck_assert_int_eq(tree_release(t, now, &root, p, &refused), 0);
        assert_active(p2);
        at(now + RETAIN);
        ck_assert_ptr_null(find_id("p", id));
        ck_assert_ptr_eq(find("p"), p2);
}
END_TEST

START_TEST(law_34_a_released_one_does_not_take_children)
{
        struct create_options o = plain;
        struct context *p = make("p"), *c;

        o.parents = false;
        tree_release(t, now, &root, p, &refused);
        ck_assert_int_eq(create_as(&root, "p/c", &o, &c), -ENOENT);
        ck_assert_str_eq(refused.path, "p");
}
END_TEST

START_TEST(law_34_ids_are_never_used_twice)
{
        uint64_t last = 0;

        for (int i = 0; i < 100; i++) {
                struct context *c = make("c");

                ck_assert_uint_gt(c->id, last);
                last = c->id;
                if (i % 3 == 0)
                        tree_discard(t, c);
                else
                        tree_release(t, now, &root, c, &refused);
                if (i % 7 == 0)
                        at(now + RETAIN);
                drain();
        }
}
END_TEST

START_TEST(law_34_made_up_labels_are_new)
{
        struct context *a = make("p/"), *b = make("p/"), *c;

        ck_assert_str_eq(a->label, "1");
        ck_assert_str_eq(b->label, "2");
        make("p/3");
        make("p/40");
        make("p/18446744073709551616");
        make("p/5x");
        ck_assert_str_eq(make("p/")->label, "41");
        c = make("p/50");
        tree_release(t, now, &root, c, &refused);
        at(now + RETAIN); /* it is forgotten, its label is not */
        ck_assert_str_eq(make("p/")->label, "51");
        ck_assert_str_eq(make("q/r/")->label, "52");
        ck_assert_str_eq(make("/")->label, "53");
}
END_TEST

START_TEST(law_34_an_id_pins_the_parent)
{
        struct context *p = make("p"), *q = make("p/q"), *c = NULL;
        char text[CTXD_PATH_ID_MAX + 32], old[CTXD_PATH_ID_MAX + 32];

        snprintf(text, sizeof text, "p#%" PRIu64 "/x", p->id);
        ck_assert_int_eq(create_as(&root, text, &plain, &c), 1);
        ck_assert_ptr_eq(c->parent, p);
        ck_assert_ptr_eq(find("p/x"), c);
        ck_assert_int_eq(create_as(&root, text, &plain, &c), -EEXIST);
        snprintf(text, sizeof text, "p#%" PRIu64 "/q/y/z", p->id);
        ck_assert_int_eq(create_as(&root, text, &plain, &c), 1);
        ck_assert_ptr_eq(c->parent->parent, q);
        snprintf(old, sizeof old, "p/q#%" PRIu64 "/", q->id);
        ck_assert_int_eq(create_as(&root, old, &plain, &c), 1);
        ck_assert_ptr_eq(c->parent, q);
        snprintf(text, sizeof text, "p/q#%" PRIu64 "/w", q->id);

        /* Another's id, nobody's, and one that is not hers to see: the same refusal. */
        ck_assert_int_eq(create_as(&alice, text, &plain, &c), -ENOENT);
        ck_assert_int_eq(refused.reason, REFUSED_NO_SUCH);
        ck_assert_int_eq(strncmp(refused.path, text, strlen(text) - 2), 0);
        ck_assert_int_eq(create_as(&alice, "p/q#999/w", &plain, &c), -ENOENT);
        ck_assert_str_eq(refused.path, "p/q#999");
        ck_assert_int_eq(create_as(&root, "p/q#999/w", &plain, &c), -ENOENT);
        ck_assert_str_eq(refused.path, "p/q#999");
        ck_assert_int_eq(create_as(&root, "p/none#1/w", &plain, &c), -ENOENT);
        ck_assert_int_eq(create_as(&root, "none#1/w", &plain, &c), -ENOENT);
        ck_assert_ptr_null(find("p/none"));
        ck_assert_ptr_null(find("none"));

        /* A newcomer of the same name is not meant. */
        tree_release(t, now, &root, q, &refused);
        make("p/q");
        ck_assert_int_eq(create_as(&root, text, &plain, &c), -ENOENT);
        ck_assert_ptr_null(find("p/q/w"));
        /* One that is done gives birth to what is done. */
        cancel(p);
        snprintf(text, sizeof text, "p#%" PRIu64 "/late", p->id);
        ck_assert_int_eq(create_as(&root, text, &plain, &c), 1);
        assert_done(c, CONTEXT_CANCELED, p, ECANCELED, CTXD_ERR_CANCELED);
}
END_TEST

START_TEST(law_34_open_and_parents)
{
        struct create_options strict = plain, open = plain;
        struct context *c;

        strict.parents = false;
        open.open = true;
        ck_assert_int_eq(create_as(&root, "a/b/c", &strict, &c), -ENOENT);
        ck_assert_str_eq(refused.path, "a");
        ck_assert_uint_eq(t->n_contexts, 0);
        ck_assert_int_eq(create_as(&root, "a/b/c", &open, &c), 1);
        ck_assert_int_eq(create_as(&root, "a/b/d/e", &strict, &c), -ENOENT);
        ck_assert_str_eq(refused.path, "a/b/d");
        ck_assert_int_eq(create_as(&root, "a/b/d", &strict, &c), 1);
        ck_assert_int_eq(create_as(&root, "a/b#2", &strict, &c), -EINVAL);
        ck_assert_int_eq(refused.reason, REFUSED_NAME);
}
END_TEST

START_TEST(law_35_a_refused_create_changes_nothing)
{
        static const struct value bad = {(char *) "nodot", (char *) "x"},
                                  good = {(char *) "a.b", (char *) "0123456789"};
        struct create_options o = plain, bad_mode = plain, bad_key = plain, big = plain;
        char text[CTXD_REASON_MAX + 2];
        struct context *c = NULL;

        make("there");
        drain();
        memset(text, 'x', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        bad_mode.mode = 01000;
        bad_key.values = &bad;
        bad_key.n_values = 1;
        big.values = &good;
        big.n_values = 1;
        t->users.limit[RESOURCE_BYTES] = 12;
        ck_assert_int_eq(create_as(&root, "x/y/z", &bad_mode, &c), -EINVAL);
        ck_assert_int_eq(create_as(&root, "x/y/z", &bad_key, &c), -EINVAL);
        ck_assert_int_eq(create_as(&root, "x/y/z", &big, &c), -EDQUOT);
        ck_assert_str_eq(refused.limit, "bytes");
        ck_assert_uint_eq(refused.used, 0);
        ck_assert_uint_eq(refused.allowed, 12);
        ck_assert_int_eq(create_as(&root, "", &o, &c), -EINVAL);
        ck_assert_int_eq(create_as(&root, "x//y", &o, &c), -EINVAL);
        ck_assert_int_eq(create_as(&root, "there", &o, &c), -EEXIST);
        o.description = text;
        ck_assert_int_eq(create_as(&root, "x/y/z", &o, &c), -EINVAL);
        o = plain;
        o.has_cause = true;
        o.cause_message = text;
        o.deadline_usec = now + 5;
        ck_assert_int_eq(create_as(&root, "x/y/z", &o, &c), -EINVAL);
        ck_assert_ptr_null(c);
        ck_assert_uint_eq(t->n_contexts, 1);
        ck_assert_uint_eq(t->last_id, 1);
        ck_assert_uint_eq(t->users.n, 1);
        ck_assert_uint_eq(tree_next_usec(t), UINT64_MAX);
        ck_assert_uint_eq(drain(), 0);
        text[CTXD_REASON_MAX] = '\0';
        t->users.limit[RESOURCE_BYTES] = 2 * CTXD_REASON_MAX;
        o.description = text;
        ck_assert_int_eq(create_as(&root, "x/y/z", &o, &c), 1);
        ck_assert_str_eq(context_description(c), text);
        ck_assert_str_eq(context_description(c->parent), "");
}
END_TEST

START_TEST(law_35_a_full_quota_changes_nothing)
{
        struct create_options o = plain;
        struct context *c = NULL, *kept;

        t->users.limit[RESOURCE_CONTEXTS] = 4;
        t->users.pools[POOL_CONTEXTS].limit = 6;
        make("a/b");
        drain();
        o.description = "something";
        ck_assert_int_eq(create_as(&root, "a/x/y/z", &o, &c), -EDQUOT); /* three, where two fit */
        ck_assert_str_eq(refused.limit, "contexts");
        ck_assert_str_eq(refused.limit_key, "MaxContextsPerUser");
        ck_assert_uint_eq(refused.used, 2);
        ck_assert_uint_eq(refused.allowed, 4);
        ck_assert_ptr_null(find("a/x"));
        ck_assert_uint_eq(drain(), 0);
        ck_assert_int_eq(create_as(&root, "a/x/y", &o, &c), 1);
        ck_assert_int_eq(create_as(&alice, "~/y", &o, &kept), 1);
        ck_assert_int_eq(create_as(&alice, "~/z", &o, &c), -EDQUOT);
        ck_assert_str_eq(refused.limit_key, "MaxContexts");
        ck_assert_uint_eq(refused.used, 6);
        ck_assert_uint_eq(refused.allowed, 6);
        ck_assert_uint_eq(t->users.pools[POOL_CONTEXTS].used, 6);
        ck_assert_uint_eq(kept->user->used[RESOURCE_BYTES], 9);
}
END_TEST

START_TEST(law_35_a_few_cannot_take_all)
{
        struct caller carol = {.uid = 5002, .gid = 5002};
        struct context *c, *hers[2];
        uint64_t ids[2];

        t->users.limit[RESOURCE_CONTEXTS] = 28;
        t->users.pools[POOL_CONTEXTS].limit =
                        48; /* of the last 6 each may hold half of what the others leave */
        for (int i = 0; i < 27; i++)
                ck_assert_int_eq(create_as(&alice, "~/", &plain, &hers[i & 1]), 1);
        for (int i = 0; i < 13; i++)
                ck_assert_int_eq(create_as(&bob, "~/", &plain, &c), 1);
        ck_assert_int_eq(create_as(&bob, "~/", &plain, &c), -EDQUOT);
        ck_assert_str_eq(refused.limit, "contexts of all users");
        ck_assert_uint_eq(refused.used, 42);
        ck_assert_uint_eq(refused.allowed, 42);
        ck_assert_int_eq(create_as(&carol, "~/a/b", &plain, &c), 1);
        ck_assert_int_eq(create_as(&carol, "~/c", &plain, &c), -EDQUOT);
        /* What others have released goes for it, oldest first. */
        for (int i = 0; i < 2; i++) {
                ids[i] = hers[i]->id;
                ck_assert_int_eq(tree_release(t, now, &alice, hers[i], &refused), 0);
        }
        ck_assert_int_eq(create_as(&carol, "~/x/y/z", &plain, &c), -EDQUOT); /* three, where two can go */
        ck_assert_uint_eq(t->users.pools[POOL_CONTEXTS].used, 45);
        ck_assert_int_eq(create_as(&root, "r", &plain, &c), 1); /* half of three */
        ck_assert_int_eq(create_as(&root, "s", &plain, &c), 1);
        ck_assert_ptr_null(find_id("user-1000/27", ids[0]));
        ck_assert_ptr_eq(find_id("user-1000/26", ids[1]), hers[1]);
        ck_assert_uint_eq(t->users.pools[POOL_CONTEXTS].used, 46);
        tree_check(t);
}
END_TEST

START_TEST(law_35_a_refused_call_does_not_make_room)
{
        struct context *p = make("p"), *c = make("c"), *q = NULL;
        uint64_t id = p->id;

        t->users.limit[RESOURCE_CONTEXTS] = 2;
        tree_release(t, now, &root, p, &refused);
        cancel(c); /* done, but it has its path: that is kept */
        ck_assert_int_eq(create_as(&root, "x/y", &plain, &q), -EDQUOT); /* one could go, two are needed */
        ck_assert_ptr_eq(find_id("p", id), p);
        ck_assert_int_eq(create_as(&root, "x", &plain, &q), 1);
        ck_assert_ptr_null(find_id("p", id));
        ck_assert_int_eq(create_as(&root, "y", &plain, &q), -EDQUOT);
        ck_assert_ptr_eq(find("c"), c);
}
END_TEST

START_TEST(law_35_room_is_made_oldest_first_and_of_the_same_user)
{
        struct context *a = make("a"), *b = make("b"), *c = make("c"), *hers, *x;
        uint64_t ids[] = {a->id, b->id, c->id}, hers_id;

        create_as(&alice, "~/hers", &plain, &hers);
        hers_id = hers->id;
        tree_release(t, now, &alice, hers, &refused);
        now++;
        tree_release(t, now, &root, b, &refused);
        tree_release(t, now, &root, a, &refused);
        tree_release(t, now, &root, c, &refused);
        t->users.limit[RESOURCE_CONTEXTS] = 3;
        make("x");
        ck_assert_ptr_null(find_id("b", ids[1]));
        ck_assert_ptr_eq(find_id("a", ids[0]), a);
        make("y");
        ck_assert_ptr_null(find_id("a", ids[0]));
        ck_assert_ptr_eq(find_id("c", ids[2]), c);
        ck_assert_ptr_eq(find_id("user-1000/hers", hers_id), hers);
        tree_attached(t, find("x"));
        tree_release(t, now, &root, find("x"), &refused); /* a member holds it */
        make("z");
        ck_assert_int_eq(create_as(&root, "zz", &plain, &x), -EDQUOT);
}
END_TEST

START_TEST(law_35_making_room_spares_the_parent)
{
        struct context *p = make("p"), *c = make("p/c"), *d;

        tree_attached(t, c);
        cancel(p);
        at(now + RETAIN); /* p waits for c alone */
        tree_left(t, now, c);
        tree_release(t, now, &root, c, &refused);
        t->users.limit[RESOURCE_CONTEXTS] = 2;
        ck_assert_int_eq(create_as(&root, "p/d", &plain, &d), 1);
        ck_assert(!p->forgotten && c->forgotten);
        at(now + RETAIN);
        ck_assert_uint_eq(t->n_contexts, 0);
}
END_TEST

START_TEST(law_35_making_room_for_what_is_taken_back)
{
        struct context *p = make("p"), *c = make("p/c"), *d;

        tree_attached(t, c);
        cancel(p);
        at(now + RETAIN);
        tree_left(t, now, c);
        tree_release(t, now, &root, c, &refused);
        t->users.limit[RESOURCE_CONTEXTS] = 2;
        ck_assert_int_eq(create_as(&root, "p/d", &plain, &d), 1);
        tree_discard(t, d);
        tree_check(t);
        ck_assert(p->forgotten); /* it waited for c alone */
}
END_TEST

/* The engine takes a new one back where its owner has exited meanwhile. The done one has its name still. */
START_TEST(law_35_a_create_over_a_done_name_is_taken_back)
{
        struct context *old = make("p/a"), *below = make("p/a/b"), *new = NULL, *displaced = NULL;

        cancel(old);
        drain();
        ck_assert_int_eq(tree_create_beside(t, now, &root, "p/a", &plain, &new, &displaced, &refused), 1);
        ck_assert_ptr_eq(displaced, old);
        tree_discard_beside(t, new, displaced);
        tree_check(t);
        ck_assert_ptr_eq(find("p/a"), old);
        ck_assert_ptr_eq(find("p/a/b"), below);
        drain();
        ck_assert_int_eq(tree_create_beside(t, now, &root, "p/a", &plain, &new, &displaced, &refused), 1);
        tree_displace(t, displaced);
        tree_check(t);
        ck_assert_ptr_eq(find("p/a"), new);
        ck_assert_ptr_null(find("p/a/b"));
        ck_assert_ptr_eq(find_id("p/a", old->id), old);
}
END_TEST

START_TEST(law_35_a_refused_cancel_changes_nothing)
{
        char text[CTXD_REASON_MAX + 2];
        struct context *c = make("c");

        memset(text, 'x', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        ck_assert_int_eq(cancel_because(c, 0, text, NULL), -EINVAL);
        assert_active(c);
        text[CTXD_REASON_MAX] = '\0';
        ck_assert_int_eq(cancel_because(c, 0, text, NULL), 1);
        ck_assert_uint_eq(c->user->used[RESOURCE_BYTES], CTXD_REASON_MAX);
        assert_done(c, CONTEXT_CANCELED, c, ECANCELED, text);
}
END_TEST

/* A cancel is never refused for a quota, nor for what all users share. It is the text for which there is
 * no room, so that no reasons take more than the quota. */
START_TEST(law_35_a_cancel_within_the_limit)
{
        struct context *own = make("own"), *all = make("all"), *fits = make("fits"), *owner = make("owner");

        t->users.limit[RESOURCE_BYTES] = 7;
        ck_assert_int_eq(cancel_because(own, EIO, "12345678", NULL), 1);
        assert_done(own, CONTEXT_CANCELED, own, EIO, "context canceled");
        ck_assert_uint_eq(own->cause->uid, 7); /* who it was stays */
        t->users.pools[POOL_BYTES].limit = 7;
        t->users.limit[RESOURCE_BYTES] = UINT64_MAX;
        ck_assert_int_eq(cancel_because(all, 0, "12345678", NULL), 1);
        assert_done(all, CONTEXT_CANCELED, all, ECANCELED, "context canceled");
        ck_assert_int_eq(cancel_because(fits, 0, "123456", NULL), 1);
        assert_done(fits, CONTEXT_CANCELED, fits, ECANCELED, "123456");
        ck_assert_uint_eq(fits->user->used[RESOURCE_BYTES], 6);
        /* What the daemon says is short, and there is no other place for it. */
        ck_assert_int_eq(tree_cancel(t, now, &caller_daemon, owner,
                                         cause_new(ECANCELED, "owner exited", 0, 0, ""), NULL, &refused),
                        1);
        assert_done(owner, CONTEXT_CANCELED, owner, ECANCELED, "owner exited");
        tree_check(t);
}
END_TEST

START_TEST(law_36_first_labels)
{
        static const struct caller service = {.uid = 33, .gid = 33}, last_system = {.uid = 999},
                                   first_user = {.uid = 1000};
        static const struct caller asked = {.uid = 1000, .privileges = PRIVILEGE_FIRST_LABEL};
        struct context *c = NULL;

        ck_assert_int_eq(create_as(&service, "web", &plain, &c), 1);
        ck_assert_int_eq(create_as(&last_system, "other", &plain, &c), 1);
        ck_assert_int_eq(create_as(&first_user, "mine", &plain, &c), -EACCES);
        ck_assert_int_eq(refused.reason, REFUSED_ACCESS);
        ck_assert_int_eq(create_as(&first_user, "/", &plain, &c), -EACCES);
        ck_assert_int_eq(create_as(&first_user, "user-01000", &plain, &c), -EACCES);
        ck_assert_int_eq(create_as(&first_user, "user-1001/x", &plain, &c), -EACCES);
        ck_assert_int_eq(create_as(&service, "user-1001", &plain, &c), -EACCES);
        ck_assert_int_eq(create_as(&asked, "asked", &plain, &c), 1);
        t->daemon_uid = 1000;
        ck_assert_int_eq(create_as(&first_user, "mine", &plain, &c), 1);
        t->daemon_uid = 0;
        /* The same for what exists as for what does not. */
        ck_assert_int_eq(create_as(&first_user, "web", &plain, &c), -EACCES);
}
END_TEST

START_TEST(law_36_own_tree)
{
        struct create_options strict = plain;
        struct context *c, *d;

        strict.parents = false;
        ck_assert_int_eq(create_as(&alice, "~/a", &strict, &c), 1);
        ck_assert_uint_eq(c->parent->uid, 1000);
        ck_assert_uint_eq(c->parent->mode, 0700);
        ck_assert_str_eq(c->parent->label, "user-1000");
        ck_assert_int_eq(create_as(&bob, "~/x/y", &strict, &c), -ENOENT);
        ck_assert_str_eq(refused.path, "user-2000/x");
        ck_assert_uint_eq(t->n_contexts, 2); /* and the tree was not left behind */
        ck_assert_int_eq(create_as(&bob, "~/", &strict, &c), 1);
        ck_assert_ptr_eq(find_as(&bob, "~")->children.lh_first, c);
        ck_assert_ptr_eq(find_as(&alice, "user-1000/a"), find_as(&alice, "~/a"));
        /* Made by root it is still its user's. */
        ck_assert_int_eq(create_as(&root, "user-3000/x", &strict, &d), 1);
        ck_assert_uint_eq(d->uid, 0);
        ck_assert_uint_eq(d->parent->uid, 3000);
        ck_assert_uint_eq(d->parent->user->uid, 3000);
        ck_assert_int_eq(create_as(&alice, "~", &strict, &d), -EEXIST);
}
END_TEST

START_TEST(law_36_what_may_not_be_read_does_not_exist)
{
        struct create_options o = plain;
        struct context *c, *d, *e;
        char missing[sizeof refused.path];
        char text[64];

        ck_assert_int_eq(create_as(&alice, "~/a/b", &plain, &c), 1);
        o.mode = 0744;
        ck_assert_int_eq(create_as(&alice, "~/a/read", &o, &d), 1);
        ck_assert_ptr_null(find_as(&bob, "user-1000/a/b"));
        strcpy(missing, refused.path);
        ck_assert_ptr_null(find_as(&bob, "user-1000/a/nothing"));
        ck_assert_str_eq(refused.path, missing);
        ck_assert_ptr_null(find_as(&bob, "user-1000/nothing/x"));
        ck_assert_str_eq(refused.path, missing);
        snprintf(text, sizeof text, "user-1000/a/b#%" PRIu64, c->id);
        ck_assert_ptr_null(find_as(&bob, text));
        ck_assert_str_eq(refused.path, text);
        snprintf(text, sizeof text, "user-1000/a/b#%" PRIu64, c->id + 100);
        ck_assert_ptr_null(find_as(&bob, text));
        ck_assert_str_eq(refused.path, text);
        ck_assert_ptr_eq(find_as(&bob, "user-1000/a/read"), d);
        ck_assert_int_eq(create_as(&bob, "user-1000/a/b", &plain, &e), -EACCES);
        strcpy(missing, refused.path);
        ck_assert_int_eq(create_as(&bob, "user-1000/a/nothing", &plain, &e), -EACCES);
        ck_assert_str_eq(refused.path, missing);
        ck_assert_int_eq(create_as(&bob, "user-1000/a/", &plain, &e), -EACCES);
        ck_assert_int_eq(create_as(&bob, "user-1000/a/read/x", &plain, &e), -EACCES);
        ck_assert_int_eq(tree_want(t, now, &bob, d, VERB_CANCEL, &refused), -EACCES);
        ck_assert_int_eq(tree_want(t, now, &bob, c, VERB_CANCEL, &refused), -ENOENT);
        ck_assert_int_eq(tree_want(t, now, &alice, c, VERB_CANCEL, &refused), 0);
        ck_assert_int_eq(tree_release(t, now, &bob, d, &refused), -EACCES);
        assert_active(d);
}
END_TEST

/* Nor can it be told from what is missing by how a Create is refused, or by what might have been asked
 * for. */
START_TEST(law_36_what_is_hidden_above_takes_nothing_away)
{
        struct create_options shared = plain;
        struct context *c = NULL, *d = NULL;

        make("private");
        shared.mode = 0766;
        ck_assert_int_eq(create_as(&root, "private/shared", &shared, &c), 1);
        ck_assert_ptr_null(find_as(&bob, "private"));
        ck_assert_ptr_eq(find_as(&bob, "private/shared"), c);
        ck_assert_int_eq(create_as(&bob, "private/shared/bobs", &plain, &d), 1);
        ck_assert_ptr_eq(d->parent, c);
        ck_assert_int_eq(create_as(&bob, "private/shared/", &plain, &d), 1);
        ck_assert_int_lt(create_as(&bob, "private/other", &plain, &d), 0);
}
END_TEST

START_TEST(law_36_hidden_and_missing_are_refused_alike)
{
        static const struct {
                const char *hidden, *missing;
                unsigned to_find, to_create;
        } pairs[] = {
                        {"web", "not", PRIVILEGE_READ, PRIVILEGE_FIRST_LABEL},
                        {"web/x", "not/x", PRIVILEGE_READ, PRIVILEGE_MANAGE},
                        {"web/x/y", "not/x/y", PRIVILEGE_READ, PRIVILEGE_MANAGE},
                        {"user-1000", "user-1001", PRIVILEGE_READ, PRIVILEGE_MANAGE},
                        {"user-1000/a", "user-1001/a", PRIVILEGE_READ, PRIVILEGE_MANAGE},
                        {"open/web", "open/not", PRIVILEGE_READ, PRIVILEGE_MANAGE},
                        {"open/web/x", "open/not/x", PRIVILEGE_READ, PRIVILEGE_MANAGE},
                        {"open/web/x#5", "open/not/x#5", PRIVILEGE_READ, PRIVILEGE_MANAGE},
                        {"user-2000/web/x", "user-2000/not/x", 0, 0},
                        {"open/web/bobs/web/x", "open/web/bobs/not/x", 0, 0},
                        {"user-2000/web#3", "user-2000/not#3", 0, 0},
        };
        struct create_options open = plain, strict = plain;
        struct context *c;

        strict.parents = false;
        open.mode = 0744;
        ck_assert_int_eq(create_as(&root, "web", &plain, &c), 1);
        ck_assert_int_eq(create_as(&root, "web/x", &plain, &c), 1);
        ck_assert_int_eq(create_as(&root, "open", &open, &c), 1);
        open.mode = 0700;
        ck_assert_int_eq(create_as(&root, "open/web", &open, &c), 1);
        ck_assert_int_eq(create_as(&root, "open/web/x", &open, &c), 1);
        open.mode = 0777; /* bob's for all purposes, though hidden in a way */
        ck_assert_int_eq(create_as(&root, "open/web/bobs", &open, &c), 1);
        open.mode = 0700;
        ck_assert_int_eq(create_as(&root, "open/web/bobs/web", &open, &c), 1);
        ck_assert_int_eq(create_as(&alice, "~/a", &plain, &c), 1);
        ck_assert_int_eq(create_as(&bob, "~", &plain, &c), 1);
        ck_assert_int_eq(create_as(&root, "user-2000/web", &plain, &c), 1); /* root's, in bob's tree */
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
                struct refused r[2] = {};

                ck_assert_ptr_null(find_as(&bob, pairs[i].hidden));
                r[0] = refused;
                ck_assert_ptr_null(find_as(&bob, pairs[i].missing));
                r[1] = refused;
                for (int j = 0; j < 2; j++) {
                        ck_assert_int_eq(r[j].reason, REFUSED_NO_SUCH);
                        ck_assert_uint_eq(r[j].privilege, pairs[i].to_find);
                }
                ck_assert_uint_eq(strlen(r[0].path) - strlen(r[1].path),
                                strlen(pairs[i].hidden) - strlen(pairs[i].missing));
                if (strchr(pairs[i].hidden, '#')) { /* which is then a parent's */
                        for (int j = 0; j < 2; j++) {
                                char text[64];

                                sprintf(text, "%s/new", j ? pairs[i].missing : pairs[i].hidden);
                                ck_assert_int_eq(create_as(&bob, text, &plain, &c), -ENOENT);
                                ck_assert_uint_eq(refused.privilege, pairs[i].to_create);
                        }
                        continue;
                }
                ck_assert_int_lt(create_as(&bob, pairs[i].hidden, &strict, &c), 0);
                r[0] = refused;
                ck_assert_int_lt(create_as(&bob, pairs[i].missing, &strict, &c), 0);
                r[1] = refused;
                ck_assert_int_eq(r[0].reason, r[1].reason);
                ck_assert_ptr_eq(r[0].detail, r[1].detail);
                for (int j = 0; j < 2; j++)
                        ck_assert_uint_eq(r[j].privilege, pairs[i].to_create);
        }
}
END_TEST

/* Who may make first labels is refused what lies below one that is hidden as below one that is missing. */
START_TEST(law_36_hidden_and_missing_are_alike_for_system_users)
{
        static const struct caller service = {.uid = 33, .gid = 33};
        static const char *const pairs[][2] = {{"web/x", "not/x"}, {"web/", "not/"}, {"web/x/y", "not/x/y"}};
        struct create_options strict = plain;
        struct context *c;

        strict.parents = false;
        ck_assert_int_eq(create_as(&root, "web", &plain, &c), 1);
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
                for (int j = 0; j < 2; j++) {
                        ck_assert_int_eq(create_as(&service, pairs[i][j], &strict, &c), -ENOENT);
                        ck_assert_str_eq(refused.path, j ? "not" : "web");
                        ck_assert_uint_eq(refused.privilege, PRIVILEGE_MANAGE);
                }
        ck_assert_int_eq(create_as(&service, "user-33/x/y", &strict, &c), -ENOENT);
        ck_assert_uint_eq(refused.privilege, 0);
}
END_TEST

START_TEST(law_36_privileges)
{
        struct caller reader = bob, manager = bob, maker = bob;
        struct context *c, *d, *e;

        reader.privileges = PRIVILEGE_READ;
        manager.privileges = PRIVILEGE_MANAGE;
        maker.privileges = PRIVILEGE_FIRST_LABEL;
        ck_assert_int_eq(create_as(&alice, "~/a", &plain, &c), 1);

        ck_assert_ptr_eq(find_as(&reader, "user-1000/a"), c);
        ck_assert(tree_allows(t, &reader, c, VERB_LOOK) && !tree_allows(t, &reader, c, VERB_CANCEL));
        ck_assert_ptr_null(find_as(&reader, "user-1000/b"));
        ck_assert_uint_eq(refused.privilege, 0);
        ck_assert_int_eq(create_as(&reader, "user-1000/a/x", &plain, &d), -EACCES);
        ck_assert_uint_eq(refused.privilege, PRIVILEGE_MANAGE);
        ck_assert_int_eq(tree_extend(t, now, &reader, c, now + 1, &refused), -EACCES);
        ck_assert_uint_eq(refused.privilege, PRIVILEGE_MANAGE);
        ck_assert_int_eq(create_as(&reader, "web", &plain, &d), -EACCES);

        ck_assert_ptr_null(find_as(&maker, "user-1000/a"));
        ck_assert_int_eq(create_as(&maker, "user-1000/x", &plain, &d), -EACCES);
        ck_assert_int_eq(create_as(&maker, "user-1001", &plain, &d), -EACCES);
        ck_assert_int_eq(create_as(&maker, "web", &plain, &d), 1);
        ck_assert_uint_eq(d->uid, 2000);

        ck_assert(tree_allows(t, &manager, c, VERB_LOOK) && tree_allows(t, &manager, c, VERB_CANCEL));
        ck_assert_ptr_eq(find_as(&manager, "user-1000/a"), c);
        ck_assert_ptr_null(find_as(&manager, "user-1000/b"));
        ck_assert_uint_eq(refused.privilege, 0);
        ck_assert_int_eq(create_as(&manager, "user-1000/a/x", &plain, &e), 1);
        ck_assert_int_eq(create_as(&manager, "first", &plain, &e), 1);
        ck_assert_int_eq(tree_extend(t, now, &manager, c, now + 1000000, &refused), 0);
}
END_TEST

START_TEST(law_36_modes_are_a_files)
{
        static const gid_t gids[] = {5, 50, 500};
        struct caller member = bob, group = bob;
        struct create_options o = plain;
        struct context *c, *d;

        member.gids = gids;
        member.n_gids = 3;
        group.gid = 50;
        o.has_gid = true;
        o.gid = 50;
        o.mode = 0740;
        ck_assert_int_eq(create_as(&alice, "~/c", &o, &c), -EACCES); /* she is not in it */
        ck_assert_int_eq(create_as(&root, "c", &o, &c), 1);
        ck_assert(tree_allows(t, &member, c, VERB_LOOK) && !tree_allows(t, &member, c, VERB_CANCEL));
        ck_assert(tree_allows(t, &group, c, VERB_LOOK) && !tree_allows(t, &group, c, VERB_CANCEL));
        ck_assert(!tree_allows(t, &bob, c, VERB_LOOK));
        o.mode = 0706;
        ck_assert_int_eq(create_as(&root, "d", &o, &d), 1);
        ck_assert(!tree_allows(t, &member, d, VERB_LOOK)); /* the group's bits, and not the others' */
        ck_assert(tree_allows(t, &bob, d, VERB_LOOK) && tree_allows(t, &bob, d, VERB_CANCEL));
        o.mode = 0077;
        o.has_gid = false;
        ck_assert_int_eq(create_as(&alice, "~/x", &o, &d), 1);
        /* The owner's bits, and not the others'; but to look and to end is always the owner's. */
        ck_assert(!tree_allows(t, &alice, d, VERB_ATTACH) && tree_allows(t, &bob, d, VERB_ATTACH));
        ck_assert(tree_allows(t, &alice, d, VERB_LOOK) && tree_allows(t, &alice, d, VERB_CANCEL));
        ck_assert(tree_allows(t, &bob, t->background, VERB_LOOK) &&
                        !tree_allows(t, &bob, t->background, VERB_CANCEL));
        /* Mode and group come from the parent. */
        ck_assert_int_eq(create_as(&root, "c/below", &plain, &d), 1);
        ck_assert_uint_eq(d->mode, 0740);
        ck_assert_uint_eq(d->gid, 50);
        t->daemon_uid = 2000;
        ck_assert(tree_allows(t, &bob, c, VERB_CANCEL));
}
END_TEST

int main(void)
{
        const TTest *tests[] = {
                        law_34_a_path_names_one,
                        law_34_the_name_of_a_done_one_is_free,
                        law_34_open_of_an_overdue_name,
                        law_34_open_of_one_that_ended_by_itself,
                        law_34_who_may_displace,
                        law_36_who_may_displace_a_first_label,
                        law_34_release_frees_the_path_at_once,
                        law_34_a_released_one_does_not_take_children,
                        law_34_ids_are_never_used_twice,
                        law_34_made_up_labels_are_new,
                        law_34_an_id_pins_the_parent,
                        law_34_open_and_parents,
                        law_35_a_refused_create_changes_nothing,
                        law_35_a_full_quota_changes_nothing,
                        law_35_a_few_cannot_take_all,
                        law_35_a_refused_call_does_not_make_room,
                        law_35_room_is_made_oldest_first_and_of_the_same_user,
                        law_35_making_room_spares_the_parent,
                        law_35_making_room_for_what_is_taken_back,
                        law_35_a_create_over_a_done_name_is_taken_back,
                        law_35_a_refused_cancel_changes_nothing,
                        law_35_a_cancel_within_the_limit,
                        law_36_first_labels,
                        law_36_own_tree,
                        law_36_what_is_hidden_above_takes_nothing_away,
                        law_36_hidden_and_missing_are_refused_alike,
                        law_36_hidden_and_missing_are_alike_for_system_users,
                        law_36_privileges,
                        law_36_what_may_not_be_read_does_not_exist,
                        law_36_modes_are_a_files,
                        NULL,
        };

        return run_laws("law-model-name", tests);
}
