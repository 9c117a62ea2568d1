/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/talk.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "proto/names.h"
#include "proto/path.h"

#define SOON_USEC 10000

uint64_t begin_usec;
static unsigned n_texts; /* of values and causes: no two are the same */

static uint64_t pick_deadline(struct input *in)
{
        unsigned n = input_choice(in, 16);

        if (n < 8)
                return UINT64_MAX;
        if (n == 8)
                return 1;
        if (n > 9)
                return begin_usec + (n - 9) * HOUR_USEC;
        soon_usec = now_boottime_usec() + SOON_USEC;
        return soon_usec;
}

uid_t victim_uid(int victim)
{
        return victim == 2 && getuid() == 0 ? world_uids[1] : getuid();
}

/* Mostly one that is the person's. */
static int pick_victim(struct input *in, const struct person *p)
{
        unsigned n = input_choice(in, 16);

        return n == 0 ? DEAD : n < 4 || p->uid == victim_uid(2) ? 2 : 1;
}

static int victim_fd(int victim)
{
        return victim == DEAD ? victim_dead_pidfd() : victims[victim].pidfd;
}

static void pick_wish(struct input *in, const struct person *p, struct wish *w)
{
        static const unsigned modes[] = {0, 0700, 0744, 0755, 0766, 0777, 0740, 0770, 0722, 0044, 0400, 0707};
        static const gid_t groups[] = {50, 1000, 4242, 0};
        unsigned what = (unsigned) input_raw(in, 2);

        *w = (struct wish){.owner = NOBODY, .attach = NOBODY, .deadline = UINT64_MAX};
        pick_name(in, p, true, &w->name);
        if ((w->has_mode = what & 1))
                w->mode = modes[input_choice(in, ELEMENTSOF(modes))];
        if ((w->has_gid = (what & 6) == 6))
                w->gid = groups[input_choice(in, ELEMENTSOF(groups))];
        w->open = what & 8;
        w->replace = (what & 0x30) == 0x30;
        w->parents = what & 0x40;
        if (what & 0x80)
                w->deadline = pick_deadline(in);
        if ((w->has_cause = what & 0x100)) {
                w->error = what & 0x200 ? 5 : 0;
                if (what & 0x400)
                        snprintf(w->cause, sizeof w->cause, "late %u", ++n_texts);
        }
        for (unsigned i = 0; i < KEYS; i++)
                if (what & 0x800U << i)
                        snprintf(w->values[i], sizeof w->values[i], "value %u", ++n_texts);
        if ((what & 0x6000) == 0x6000)
                w->owner = pick_victim(in, p);
        if ((what & 0x8010) == 0x8010)
                w->attach = pick_victim(in, p);
}

/* To open what is there, and to have a process in it: it takes two rights (law 46). */
static void pick_joining_wish(struct input *in, const struct person *p, struct wish *w)
{
        *w = (struct wish){.owner = NOBODY, .open = true, .deadline = UINT64_MAX};
        pick_name(in, p, false, &w->name);
        if (w->name.id % 2 == 0)
                w->name.id = 0;
        w->name.generate = strcmp(w->name.path, "/") == 0;
        name_as_text(p, true, &w->name);
        w->attach = pick_victim(in, p);
}

static void append_wish(sd_bus_message *m, const struct wish *w)
{
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        if (w->has_mode)
                r |= sd_bus_message_append(m, "{sv}", "mode", "u", w->mode);
        if (w->has_gid)
                r |= sd_bus_message_append(m, "{sv}", "group", "u", w->gid);
        if (w->deadline != UINT64_MAX)
                r |= sd_bus_message_append(m, "{sv}", "deadline-usec", "t", w->deadline);
        if (w->has_cause)
                r |= sd_bus_message_append(m, "{sv}", "cause", "(is)", w->error, w->cause);
        if (w->owner != NOBODY)
                r |= sd_bus_message_append(m, "{sv}", "owner", "h", victim_fd(w->owner));
        if (w->attach != NOBODY)
                r |= sd_bus_message_append(m, "{sv}", "attach", "h", victim_fd(w->attach));
        r |= sd_bus_message_append(m, "{sv}{sv}{sv}", "open", "b", w->open, "replace", "b", w->replace,
                        "parents", "b", w->parents);
        r |= sd_bus_message_open_container(m, 'e', "sv");
        r |= sd_bus_message_append(m, "s", "values");
        r |= sd_bus_message_open_container(m, 'v', "a{ss}");
        r |= sd_bus_message_open_container(m, 'a', "{ss}");
        for (unsigned i = 0; i < KEYS; i++)
                if (w->values[i][0])
                        r |= sd_bus_message_append(m, "{ss}", answer_keys[i], w->values[i]);
        for (unsigned i = 0; i < 4; i++)
                r |= sd_bus_message_close_container(m);
        REQUIRE(r >= 0);
}

/* The parent, as an object, and what the new one is called below it. */
static const char *split(const struct wish *w, struct name *ret_parent)
{
        char *slash;

        *ret_parent = w->name;
        if (w->name.generate)
                return "";
        slash = strrchr(ret_parent->path, '/');
        if (slash)
                *slash = '\0';
        else
                strcpy(ret_parent->path, "/");
        return w->name.path + (slash ? slash - ret_parent->path + 1 : 0);
}

static sd_bus_message *creation_new(struct client *c, const struct wish *w, const char *member)
{
        _cleanup_free_ char *object = NULL;
        struct name parent;
        const char *label = split(w, &parent);
        sd_bus_message *m;

        if (strcmp(member, "Derive") == 0) {
                REQUIRE(path_to_object(parent.path, &object) >= 0);
                m = call_new(c, object, CTXD_CONTEXT_INTERFACE, member);
        } else {
                label = w->name.text;
                m = call_new(c, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member);
        }
        REQUIRE(sd_bus_message_append(m, "s", label) >= 0);
        append_wish(m, w);
        REQUIRE(strcmp(member, "CreateAndOpen") != 0 || sd_bus_message_append(m, "b", 0) >= 0);
        return m;
}

void talk_create(struct client *c, struct input *in)
{
        unsigned how = input_byte(in);
        const char *path, *member = how & 1 ? "CreateAndOpen" : "Create";
        struct answer answer;
        uint64_t id, deadline;
        struct node *n = NULL;
        struct name parent;
        bool made = false;
        struct wish w;
        uint32_t state;
        int is_made;

        if ((how & 6) == 6)
                pick_joining_wish(in, c->who, &w);
        else
                pick_wish(in, c->who, &w);
        (void) split(&w, &parent);
        if (w.name.by_object && w.name.id == 0)
                member = "Derive";
        if (strcmp(member, "Derive") == 0 && !answer_find(c->who, &parent, &answer))
                answer = (struct answer){.error = SD_BUS_ERROR_UNKNOWN_OBJECT};
        else
                n = answer_create(c->who, &w, &made, &answer);
        call_send(c, creation_new(c, &w, member));
        if (!is_answered(c, &answer))
                return;
        READ(c, "st", &path, &id);
        if (made)
                answer_made(n, path, id);
        else
                REQUIRE(id == n->id);
        if (strcmp(member, "CreateAndOpen") != 0)
                return;
        READ(c, "but", &is_made, &state, &deadline);
        REQUIRE(is_made == made && state == (!n->done ? 0U : n->overdue ? 2U : 1U));
        REQUIRE(deadline == node_deadline(n));
}

void talk_attach(struct client *c, struct input *in)
{
        int victim = pick_victim(in, c->who);
        struct answer answer;
        struct name name;

        pick_name(in, c->who, false, &name);
        answer_attach(c->who, &name, victim, victim == DEAD ? 0 : victim_uid(victim), &answer);
        call_on(c, &name, &answer, "Attach", "ha{sv}", victim_fd(victim), 0);
        (void) is_answered(c, &answer);
}

void talk_cancel(struct client *c, struct input *in)
{
        unsigned how = input_byte(in), n_contexts = 0, n_members = 0;
        int error = how & 1 ? 7 : 0, first, was_done;
        uint32_t contexts, members;
        struct answer answer;
        char cause[24] = "";
        struct node *n;
        struct name name;

        pick_name(in, c->who, false, &name);
        n = answer_may(c->who, &name, RIGHT_END, &answer);
        if (how & 2)
                snprintf(cause, sizeof cause, "why %u", ++n_texts);
        was_done = n && n->done;
        if (n)
                n_contexts = end_by(n, c->who, cause, error, &n_members);
        if (how & 1)
                call_on(c, &name, &answer, "CancelCause", "is", error, cause);
        else
                call_on(c, &name, &answer, "Cancel", "s", cause);
        if (!is_answered(c, &answer))
                return;
        READ(c, "buu", &first, &contexts, &members);
        REQUIRE(first == !was_done && contexts == n_contexts && members == n_members);
}

void talk_release(struct client *c, struct input *in)
{
        struct answer answer;
        struct node *n;
        struct name name;

        pick_name(in, c->who, false, &name);
        n = answer_may(c->who, &name, RIGHT_END, &answer);
        if (n)
                release(n, c->who);
        call_on(c, &name, &answer, "Release", "");
        (void) is_answered(c, &answer);
}

void talk_extend(struct client *c, struct input *in)
{
        uint64_t deadline = pick_deadline(in);
        struct answer answer;
        struct node *n;
        struct name name;

        pick_name(in, c->who, false, &name);
        n = answer_may(c->who, &name, RIGHT_MOVE, &answer);
        if (n && n->done)
                answer.error = CTXD_ERROR_ALREADY_DONE;
        else if (n && deadline > node_deadline(n->parent)) /* law 14 */
                answer.error = SD_BUS_ERROR_INVALID_ARGS;
        else if (n)
                extend(n, deadline);
        call_on(c, &name, &answer, "Extend", "t", deadline);
        (void) is_answered(c, &answer);
}

void talk_subscribe(struct client *c, struct input *in)
{
        bool back = (input_byte(in) & 3) == 0;
        unsigned i = 0;
        struct name name;

        pick_name(in, c->who, false, &name);
        name.id = 0;
        name_as_text(c->who, false, &name);
        while (i < c->n_prefixes && strcmp(c->prefixes[i], name.path) != 0)
                i++;
        if (!back && i == PREFIXES_MAX)
                return;
        call(c, back ? "Unsubscribe" : "Subscribe", "s", name.text);
        if (!is_answered(c, &(struct answer){.error = back && i == c->n_prefixes ? SD_BUS_ERROR_INVALID_ARGS
                                                                                 : NULL}))
                return;
        if (!back)
                strcpy(c->prefixes[i], name.path);
        else if (i != c->n_prefixes - 1)
                strcpy(c->prefixes[i], c->prefixes[c->n_prefixes - 1]);
        if (back)
                c->n_prefixes--;
        else if (i == c->n_prefixes)
                c->n_prefixes++;
}
