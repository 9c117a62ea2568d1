/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Conversations: several people, with several connections each, make, open, look at, and end contexts, and
 * hang up. Each call is answered, or refused, as answers.h says; each list, value and cause holds what that
 * person may see, and each signal reaches those whom it concerns and nobody else. In the end all that they
 * were charged for is given back. */

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/talk.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "proto/names.h"
#include "proto/path.h"

#define STEPS_MAX 48

static const char *pick_first_label(struct input *in, const struct person *p, char *buffer)
{
        static const char *const labels[] = {"user-1000", "user-4242", "a", "b"};
        unsigned n = input_choice(in, 16);

        if (n < 4 || (n < 8 && p->uid < 1000))
                return labels[n % 4];
        sprintf(buffer, "user-%u", p->uid);
        return buffer;
}

static void append_labels(struct input *in, unsigned n, char *path)
{
        static const char *const labels[] = {"/a", "/b", "/c"};

        if (strcmp(path, "/") == 0)
                path[0] = '\0';
        while (n-- > 0 && strlen(path) < 100)
                strcat(path, labels[input_choice(in, 3)] + (path[0] == '\0'));
        if (path[0] == '\0')
                strcpy(path, "/");
}

void name_as_text(const struct person *p, bool to_make, struct name *n)
{
        size_t pinned = n->id == 0 ? 0 : to_make ? n->pinned : strlen(n->path);
        char own[32], id[24] = "";
        size_t length = (size_t) sprintf(own, "user-%u", p->uid);
        bool home = strncmp(n->path, own, length) == 0 && strchr("/", n->path[length]) && pinned == 0;

        if (pinned > 0)
                snprintf(id, sizeof id, "#%" PRIu64, n->id);
        else
                pinned = strlen(n->path);
        snprintf(n->text, sizeof n->text, "%s%.*s%s%s%s", home ? "~" : "",
                        (int) (pinned - (home ? length : 0)), n->path + (home ? length : 0), id,
                        n->path + pinned, n->generate && strcmp(n->path, "/") != 0 ? "/" : "");
        if (getenv("CTXD_FUZZ_TRACE"))
                fprintf(stderr, "%s:\n", n->text);
}

void pick_name(struct input *in, const struct person *p, bool to_make, struct name *ret)
{
        unsigned how = input_byte(in), n_nodes;
        struct node *nodes = answers_nodes(&n_nodes), *n;

        *ret = (struct name){};
        if (how & 3) { /* of one that was there at some time */
                unsigned which = input_byte(in);

                n = &nodes[n_nodes == 1 || which == 255 ? 0 : 1 + which % (n_nodes - 1)];
                node_path(n, ret->path);
                if ((how & 4) && n->parent)
                        ret->id = n->id + ((how >> 3 & 7) == 7); /* or of another one */
                ret->pinned = strlen(ret->path);
        } else {
                char buffer[32];

                strcpy(ret->path, pick_first_label(in, p, buffer));
                append_labels(in, how >> 2 & 3, ret->path);
        }
        ret->by_object = (how & 64) && ret->id == 0;
        if (to_make) {
                size_t before = strlen(ret->path);

                ret->generate = how >> 6 == 3;
                if (how & 3 && how >> 6 < 3)
                        append_labels(in, how >> 6, ret->path);
                if (strlen(ret->path) == before && !ret->generate)
                        ret->id = 0; /* what is to be made has no id yet */
                if (strcmp(ret->path, "/") == 0)
                        ret->generate = true;
        }
        name_as_text(p, to_make, ret);
}

/* To start a process anew takes longer than all the rest. */
static bool is_needed(int victim)
{
        unsigned n_nodes;
        const struct node *nodes = answers_nodes(&n_nodes);

        for (unsigned i = 1; i < n_nodes; i++)
                if (!nodes[i].forgotten && (nodes[i].owner == victim || nodes[i].members & 1U << victim))
                        return true;
        return false;
}

static void kill_victim(int victim)
{
        victim_kill((unsigned) victim);
        victim_gone(victim);
        clients_run();
        victims_ensure();
}

static void wait_while(bool (*holds)(void))
{
        uint64_t end_usec = now_boottime_usec() + WORLD_PATIENCE_USEC;

        while (holds() && now_boottime_usec() < end_usec)
                world_run_until(1000);
        REQUIRE(!holds());
}

static void let_retention_pass(void)
{
        (void) engine_give_back_descriptors(world.engine); /* a handle that was written keeps its context */
        retention_over();
        world.tree->retain_usec = 0;
        turn_again(&world.service.turn);
        clients_run();
        world.tree->retain_usec = HOUR_USEC;
}

static void (*const steps[])(struct client *c, struct input *in) = {talk_create, talk_create, talk_create,
                talk_create, talk_create, talk_cancel, talk_release, talk_extend, talk_attach, talk_subscribe,
                talk_subscribe, talk_values, talk_err, talk_list, talk_list, talk_properties, talk_count,
                talk_preview, talk_leaks, talk_members, talk_done, talk_undone, talk_lifeline, talk_page};

static uint64_t used(uid_t uid, enum resource resource)
{
        for (const struct user *u = world.tree->users.by_uid; u; u = u->hh.next)
                if (u->uid == uid)
                        return u->used[resource];
        return 0;
}

static bool is_hanging_up(void)
{
        uint64_t open = 0;

        for (unsigned k = 0; k < CLIENTS; k++)
                open += clients[k].bus != NULL;
        return world_connections() > open;
}

/* Who hangs up gives back what only a connection needs. */
static void check_charges(void)
{
        unsigned n_nodes;
        const struct node *nodes = answers_nodes(&n_nodes);

        wait_while(is_hanging_up);
        for (unsigned i = 0; i < PEOPLE; i++) {
                uint64_t connections = 0, subscriptions = 0, contexts = 0;

                for (unsigned k = 0; k < CLIENTS; k++)
                        if (clients[k].who->uid == people[i].uid && clients[k].bus) {
                                connections++;
                                subscriptions += clients[k].n_prefixes;
                        }
                for (unsigned k = 1; k < n_nodes; k++)
                        contexts += nodes[k].uid == people[i].uid && !nodes[k].forgotten;
                REQUIRE(used(people[i].uid, RESOURCE_CONNECTIONS) == connections);
                REQUIRE(used(people[i].uid, RESOURCE_SUBSCRIPTIONS) == subscriptions);
                REQUIRE(used(people[i].uid, RESOURCE_CONTEXTS) == contexts);
                REQUIRE(used(people[i].uid, RESOURCE_INCOMING) == 0 &&
                                used(people[i].uid, RESOURCE_STALLED) == 0);
        }
}

/* False: the machine was so busy that a deadline has passed before its time, and what is right is not known
 * any more. */
static bool let_deadline_pass(void)
{
        uint64_t now = now_boottime_usec(), end_usec = now + WORLD_PATIENCE_USEC;
        bool in_time = now < soon_usec;

        while (now_boottime_usec() <= soon_usec ||
                        ((tree_next_usec(world.tree) <= soon_usec || world.tree->n_taken > 0) &&
                                        now < end_usec)) {
                world_run_until(1000);
                now = now_boottime_usec();
        }
        soon_usec = 0;
        answers_settle(now_boottime_usec());
        clients_run();
        return in_time;
}

static bool step(struct input *in)
{
        unsigned what = input_choice(in, ELEMENTSOF(steps) + 4), who = input_choice(in, CLIENTS);
        struct client *c = &clients[who];

        answers_settle(now_boottime_usec());
        if (what < ELEMENTSOF(steps)) {
                client_open(c);
                steps[what](c, in);
                c->answer = sd_bus_message_unref(c->answer); /* with its descriptors */
        } else if (what == ELEMENTSOF(steps)) {
                client_close(c);
        } else if (what == ELEMENTSOF(steps) + 1) {
                talk_close(in);
        } else if (what == ELEMENTSOF(steps) + 2) {
                if (is_needed(1 + (int) (who & 1)))
                        kill_victim(1 + (int) (who & 1));
        } else {
                let_retention_pass();
        }
        clients_run();
        if (soon_usec != 0 && !let_deadline_pass())
                return false;
        tree_check(world.tree);
        clients_compare_news();
        held_check();
        check_charges();
        return true;
}

static const struct context *next_with_path(void)
{
        const struct context *c = world.tree->background;

        while ((c = context_next(c, world.tree->background)) && c->released)
                ;
        return c;
}

/* Everybody hangs up, root ends what is left, and nothing of anybody is left then. Members are not always
 * ended. */
static void farewell(bool kill_members)
{
        struct client *root = &clients[0];
        const struct context *c;
        char path[CTXD_PATH_ID_MAX + 1];

        for (unsigned i = 0; i < CLIENTS; i++)
                client_close(&clients[i]);
        held_close();
        clients_run();
        client_open(root);
        while ((c = next_with_path())) {
                call(root, "Release", "s", context_reference(c, path));
                REQUIRE(is_answered(root, &(struct answer){}));
        }
        client_close(root);
        wait_while(is_hanging_up);
        for (int i = 1; i < VICTIMS && kill_members; i++)
                if (world.tree->background->n_busy_below > 0)
                        kill_victim(i);
        let_retention_pass();
        if (world.tree->background->n_busy_below > 0)
                return;
        REQUIRE(world.tree->n_contexts == 0 && world.tree->users.n == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {data, data + size};

        world_guard();
        (void) victim_dead_pidfd();
        world_start();
        for (unsigned i = 0; i < RESOURCES; i++)
                world.tree->users.limit[i] = 4000; /* nobody is refused for that */
        world.tree->users.pools[POOL_CONTEXTS].limit = 10000;
        world.tree->users.limit[RESOURCE_BYTES] = 1000000;
        world.tree->retain_usec = HOUR_USEC;
        world.tree->daemon_uid = getuid();
        people_init();
        begin_usec = now_boottime_usec();
        soon_usec = 0;
        answers_reset(begin_usec);
        for (unsigned i = 0; i < STEPS_MAX && !input_is_empty(&in) && step(&in); i++)
                ;
        farewell(size % 4 == 0);
        world_stop();
        return 0;
}
