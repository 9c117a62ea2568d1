/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Each kind of caller tries every method on one of alice's contexts in each mode: its owner, a member of
 * its group (the group is a supplementary one), another user, a system user and root. A caller who may not
 * read the context is refused in the same words as for a context that does not exist. */

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"

#define CAROL 1003
#define SYSTEM 999
#define TEAM 5000

#define PLACE "user-1001/place"
#define OBJECT "/org/ctxd1/context/user_2d1001/place"

enum needs {
        READ_IT,
        WRITE_IT,
        END_IT, /* as WRITE_IT, and its owner */
        /* The owner and root. */
        OWN_IT,
};

struct
try {
        const char *member, *types; /* after the path */
        enum needs needs;
        bool on_object;
        /* The error for callers who may do it. */
        const char *but;
};

static const struct try tries[] = {
                {"Err", "", READ_IT, true, NULL},
                {"Open", "b", READ_IT, false, NULL},
                {"Values", "", READ_IT, false, NULL},
                {"List", "su", READ_IT, false, NULL},
                {"Members", "u", READ_IT, false, NULL},
                {"Processes", "bu", READ_IT, false, NULL},
                {"Endings", "bu", READ_IT, false, NULL},
                {"Process", "u", READ_IT, false, CTXD_ERROR_NO_SUCH_PROCESS},
                {"Preview", "u", READ_IT, false, NULL},
                {"Leaks", "u", READ_IT, false, NULL},
                {"Done", "", READ_IT, true, NULL},
                {"Drained", "", READ_IT, true, NULL},
                {"Undone", "", READ_IT, true, NULL},
                {"Page", "", OWN_IT, false, NULL},
                {"Extend", "t", OWN_IT, true, NULL},
                {"Create", "a{sv}", WRITE_IT, false, NULL},
                {"CreateAndOpen", "a{sv}b", WRITE_IT, false, NULL},
                {"Attach", "ha{sv}", WRITE_IT, true, NULL},
                {"Threads", "", WRITE_IT, false, NULL},
                {"CancelCause", "is", END_IT, true, NULL},
                {"Cancel", "s", END_IT, true, NULL},
                {"Lifeline", "", END_IT, true, CTXD_ERROR_ALREADY_DONE}, /* of what is done by now */
                {"Release", "", END_IT, true, NULL},
};

struct actor {
        uid_t uid;
        bool in_team;
};

struct scene {
        struct actor actor;
        unsigned mode;
        uint64_t id;
};

static bool may(const struct scene *s, unsigned bit)
{
        if (s->actor.uid == 0)
                return true;
        if (s->actor.uid == ALICE)
                return bit == 4 || (s->mode & bit << 6);
        return s->mode & (s->actor.in_team ? bit << 3 : bit);
}

/* NULL: it is done. */
static const char *expected(const struct scene *s, const struct try *t)
{
        bool owns = s->actor.uid == ALICE || s->actor.uid == 0;
        bool allowed = t->needs == READ_IT || (t->needs != OWN_IT && may(s, 2)) ||
                       ((t->needs == OWN_IT || t->needs == END_IT) && owns);

        if (!may(s, 4))
                return CTXD_ERROR_NO_SUCH_CONTEXT;
        return allowed ? t->but : CTXD_ERROR_ACCESS_DENIED;
}

static void append(sd_bus_message *m, const char *types, int pidfd)
{
        int r = 0;

        if (strcmp(types, "s") == 0)
                r = sd_bus_message_append(m, "s", "tried");
        else if (strcmp(types, "su") == 0)
                r = sd_bus_message_append(m, "su", "", 0);
        else if (strcmp(types, "u") == 0)
                r = sd_bus_message_append(m, "u", 0);
        else if (strcmp(types, "bu") == 0)
                r = sd_bus_message_append(m, "bu", 1, 0);
        else if (strcmp(types, "is") == 0)
                r = sd_bus_message_append(m, "is", EIO, "tried");
        else if (strcmp(types, "t") == 0)
                r = sd_bus_message_append(m, "t", UINT64_MAX);
        else if (strcmp(types, "a{sv}") == 0)
                r = sd_bus_message_append(m, "a{sv}", 0);
        else if (strcmp(types, "b") == 0)
                r = sd_bus_message_append(m, "b", 1);
        else if (strcmp(types, "a{sv}b") == 0)
                r = sd_bus_message_append(m, "a{sv}b", 0, 1);
        else if (strcmp(types, "ha{sv}") == 0)
                r = sd_bus_message_append(m, "ha{sv}", pidfd, 0);
        ck_assert_int_ge(r, 0);
}

/* Calls the method on the path, or without a path on the object. The caller frees the sentence of a
 * refusal. */
static char *try_it(sd_bus *b, const struct scene *s, const struct try *t, const char *path,
                const char *wanted, int pidfd)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;

        ck_assert_int_ge(sd_bus_message_new_method_call(b, &m, CTXD_BUS_NAME, path ? CTXD_OBJECT : OBJECT,
                                         path ? CTXD_MANAGER_INTERFACE : CTXD_CONTEXT_INTERFACE, t->member),
                        0);
        if (path)
                ck_assert_int_ge(sd_bus_message_append(m, "s", path), 0);
        append(m, t->types, pidfd);
        reply = send_call(b, m, &error);
        ck_assert_msg(reply ? !wanted : wanted && strcmp(error.name, wanted) == 0,
                        "uid %u, mode %o, %s of %s: %s (%s), and not %s", s->actor.uid, s->mode, t->member,
                        path ?: "the object", reply ? "done" : error.name, error.message ?: "",
                        wanted ?: "done");
        return error.message ? strdup(error.message) : NULL;
}

/* Compares the refusal with that for a context that does not exist: only the name may differ. */
static void same_words(sd_bus *b, const struct scene *s, const struct try *t, const char *path,
                const char *wanted, int pidfd)
{
        _cleanup_free_ char *hidden = NULL, *missing = NULL;
        char nowhere[64];

        hidden = try_it(b, s, t, path, wanted, pidfd);
        snprintf(nowhere, sizeof nowhere, "user-1001/plage%s", path + strlen(PLACE));
        missing = try_it(b, s, t, nowhere, wanted, pidfd);
        for (char *p = hidden; (p = strstr(p, "place"));)
                memcpy(p, "plage", 5);
        ck_assert_str_eq(hidden, missing);
}

static void try_all(void *userdata)
{
        const struct scene *s = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        char pinned[64];
        int pidfd;
        pid_t pid = sleeper(&pidfd);

        snprintf(pinned, sizeof pinned, PLACE "#%ju", (uintmax_t) s->id);
        for (size_t i = 0; i < ELEMENTSOF(tries); i++) {
                const struct try *t = &tries[i];
                const char *wanted = expected(s, t);
                char path[96];
                bool makes = strncmp(t->member, "Create", strlen("Create")) == 0;

                if (!may(s, 4)) {
                        /* Nobody may create in another user's tree, whether the context exists or not. */
                        same_words(b, s, t, makes ? PLACE "/" : PLACE,
                                        makes ? CTXD_ERROR_ACCESS_DENIED : CTXD_ERROR_NO_SUCH_CONTEXT, pidfd);
                        snprintf(path, sizeof path, "%s%s", pinned, makes ? "/" : "");
                        free(try_it(b, s, t, path, CTXD_ERROR_NO_SUCH_CONTEXT, pidfd));
                        if (t->on_object)
                                free(try_it(b, s, t, NULL, SD_BUS_ERROR_UNKNOWN_OBJECT, pidfd));
                        continue;
                }
                snprintf(path, sizeof path, "%s%s", i % 2 ? pinned : PLACE, makes ? "/" : "");
                free(try_it(b, s, t, path, wanted, pidfd));
                if (t->on_object && !(strcmp(t->member, "Release") == 0 && !wanted))
                        free(try_it(b, s, t, NULL, wanted, pidfd));
        }
        end_process(pid);
        close(pidfd);
}

static void alice_makes_it(void *userdata)
{
        const struct scene *s = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "~/place", 3, "mode", "u", s->mode, "group", "u", TEAM, "open", "b", 1);
}

struct in_role {
        const struct scene *scene;
        struct actor actor;
        void (*fn)(void *userdata);
};

static void play(void *userdata)
{
        const struct in_role *r = userdata;

        ck_assert_int_eq(setgroups(r->actor.in_team ? 1 : 0, (gid_t[]){TEAM}), 0);
        ck_assert_int_eq(setresgid(r->actor.uid, r->actor.uid, r->actor.uid), 0);
        ck_assert_int_eq(setresuid(r->actor.uid, r->actor.uid, r->actor.uid), 0);
        r->fn((void *) r->scene);
}

static void as(const struct scene *s, struct actor actor, void (*fn)(void *userdata))
{
        struct in_role r = {s, actor, fn};

        wait_for(spawn(play, &r));
}

/* It is as long as it has a member, and ctxd has to notice that the last one has exited. */
static bool is_known(const char *path)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Err", &error,
                        NULL, "s", path);

        ck_assert(r >= 0 || sd_bus_error_has_name(&error, CTXD_ERROR_NO_SUCH_CONTEXT));
        return r >= 0;
}

START_TEST(law36_everybody_tries_everything)
{
        static const unsigned modes[] = {0700, 0750, 0770, 0755, 0766, 0000, 0277};
        static const struct actor actors[] = {
                        {ALICE, true}, {BOB, true}, {CAROL, false}, {SYSTEM, false}, {0, false}};

        for (size_t m = 0; m < ELEMENTSOF(modes); m++)
                for (size_t a = 0; a < ELEMENTSOF(actors); a++) {
                        struct scene s = {.actor = actors[a], .mode = modes[m]};

                        as(&s, (struct actor){ALICE, true}, alice_makes_it);
                        s.id = property_u64(bus, PLACE, "Id");
                        as(&s, s.actor, try_all);
                        if (s.actor.uid == ALICE || (may(&s, 4) && may(&s, 2)))
                                ck_assert_happens(!is_known(PLACE));
                        else
                                EXPECT_ACTIVE(bus, PLACE);
                        release_all();
                }
}
END_TEST

#define NAME "name"

static void try_to_take_the_name(void *userdata)
{
        const struct scene *s = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();

        if (may(s, 4) && may(s, 2))
                OK(b, "Create", "sa{sv}", NAME, 0);
        else
                FAILS(b, CTXD_ERROR_EXISTS, "Create", "sa{sv}", NAME, 0);
}

/* The name of a first label that is done is for those who may release it, of all those who may make one. */
START_TEST(law36_who_takes_the_name_of_a_first_label)
{
        static const unsigned modes[] = {0700, 0720, 0740, 0760, 0702, 0704, 0706, 0000};
        static const struct actor actors[] = {{SYSTEM, true}, {SYSTEM, false}, {0, false}};

        for (size_t m = 0; m < ELEMENTSOF(modes); m++)
                for (size_t a = 0; a < ELEMENTSOF(actors); a++) {
                        struct scene s = {.actor = actors[a], .mode = modes[m]};

                        OK(bus, "Create", "sa{sv}", NAME, 2, "mode", "u", s.mode, "group", "u", TEAM);
                        cancel(bus, NAME, "");
                        as(&s, s.actor, try_to_take_the_name);
                        release_all();
                }
}
END_TEST

Suite *suite_matrix(void)
{
        Suite *s = suite_create("matrix");

        ADD_TESTS(s, "matrix", start_plain, law36_everybody_tries_everything);
        ADD_TESTS(s, "names", start_retaining, law36_who_takes_the_name_of_a_first_label);
        return s;
}
