/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <string.h>

#include "tests/fuzz/talk.h"
#include "proto/names.h"

/* Who is in a context, and how its end reaches them. */

#define ROWS_MAX 256

static char expected[ROWS_MAX][TEXT_MAX], found[ROWS_MAX][TEXT_MAX];

/* The processes of what is at root, or below it, that the person may look at. Returns how many there are for
 * all. */
static unsigned pids_expected(
                const struct person *p, const struct node *root, bool recursive, unsigned *ret_shown)
{
        unsigned n_nodes, n_members = 0;
        struct node *nodes = answers_nodes(&n_nodes);

        *ret_shown = 0;
        for (unsigned i = 0; i < n_nodes; i++)
                for (unsigned v = 0; v < VICTIMS; v++) {
                        if (!(nodes[i].members & 1U << v) || !node_is_below(&nodes[i], root) ||
                                        (!recursive && &nodes[i] != root))
                                continue;
                        n_members++;
                        if (may(p, &nodes[i], RIGHT_LOOK))
                                snprintf(expected[(*ret_shown)++], TEXT_MAX, "%d", victims[v].pid);
                }
        return n_members;
}

static void pids_compare(struct client *c, const char *what, const char *types, unsigned n_expected)
{
        unsigned n_found = 0;
        uint32_t pid;

        REQUIRE(sd_bus_message_enter_container(c->answer, 'a', types) >= 0);
        while (sd_bus_message_enter_container(c->answer, 'r', NULL) > 0) {
                READ(c, "u", &pid);
                REQUIRE(sd_bus_message_skip(c->answer, NULL) >= 0);
                while (sd_bus_message_at_end(c->answer, false) == 0)
                        REQUIRE(sd_bus_message_skip(c->answer, NULL) >= 0);
                snprintf(found[n_found++], TEXT_MAX, "%u", pid);
                REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
        }
        REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
        lines_compare(what, expected, n_expected, found, n_found);
}

void talk_preview(struct client *c, struct input *in)
{
        uint32_t contexts, members, n_contexts = 0;
        unsigned n_members, n_shown;
        bool may_end, skip = false;
        struct answer answer;
        struct node *root;
        struct name name;

        pick_name(in, c->who, false, &name);
        root = answer_find(c->who, &name, &answer);
        call(c, "Preview", "su", name.text, 0);
        if (!is_answered(c, &answer))
                return;
        READ(c, "uu", &contexts, &members);
        may_end = root->parent && may(c->who, root, RIGHT_END);
        for (struct node *n = root; n; n = node_walk(n, root, skip)) {
                skip = n->done || (!may_end && !may(c->who, n, RIGHT_LOOK));
                n_contexts += !skip && n->parent;
        }
        n_members = pids_expected(c->who, root, true, &n_shown);
        REQUIRE(contexts == n_contexts && members == (may_end ? n_members : n_shown));
        pids_compare(c, "Preview", "(uusst)", n_shown);
}

/* Nobody looks for leaks here; but who may ask for them is asked all the same. */
void talk_leaks(struct client *c, struct input *in)
{
        struct answer answer;
        struct name name;

        pick_name(in, c->who, false, &name);
        (void) answer_find(c->who, &name, &answer);
        call(c, "Leaks", "su", name.text, 0);
        if (is_answered(c, &answer))
                pids_compare(c, "Leaks", "(sta{sv})", 0);
}

/* Of those victims that the person may see: nobody here attaches with a signal (law 47). */
static unsigned endings_expected(const struct person *p, const struct node *root)
{
        unsigned n_nodes, n = 0;
        const struct node *nodes = answers_nodes(&n_nodes);
        char path[TEXT_MAX];

        for (unsigned i = 0; i < n_nodes; i++)
                for (int v = 0; v < VICTIMS; v++) {
                        if (!(nodes[i].members & 1U << v) || !node_is_below(&nodes[i], root) ||
                                        !may(p, &nodes[i], RIGHT_LOOK))
                                continue;
                        node_path(&nodes[i], path);
                        snprintf(expected[n++], TEXT_MAX, "%d %.100s#%" PRIu64 " %u 0 without",
                                        victims[v].pid, path, nodes[i].id, victim_attached_by(v));
                }
        return n;
}

static void endings_compare(struct client *c, unsigned n_expected)
{
        const char *key, *text, *in = "", *why = "";
        uint32_t pid, by = 0;
        unsigned n_found = 0;
        uint64_t start;
        int number = -1;

        REQUIRE(sd_bus_message_enter_container(c->answer, 'a', "(uta{sv})") >= 0);
        while (sd_bus_message_enter_container(c->answer, 'r', "uta{sv}") > 0) {
                READ(c, "ut", &pid, &start);
                REQUIRE(sd_bus_message_enter_container(c->answer, 'a', "{sv}") >= 0);
                while (sd_bus_message_enter_container(c->answer, 'e', "sv") > 0) {
                        READ(c, "s", &key);
                        if (strcmp(key, "signal") == 0) {
                                READ(c, "v", "i", &number);
                        } else if (strcmp(key, "attached-by") == 0) {
                                READ(c, "v", "u", &by);
                        } else if (strcmp(key, "context") == 0 || strcmp(key, "unsignalled") == 0) {
                                READ(c, "v", "s", &text);
                                in = *key == 'c' ? text : in;
                                why = *key == 'u' ? text : why;
                        } else {
                                REQUIRE(sd_bus_message_skip(c->answer, "v") >= 0);
                        }
                        REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
                }
                REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
                snprintf(found[n_found++], TEXT_MAX, "%u %.100s %u %d %s", pid, in, by, number, why);
                REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
        }
        REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
        lines_compare("Endings", expected, n_expected, found, n_found);
}

void talk_members(struct client *c, struct input *in)
{
        unsigned how = input_choice(in, 4), victim = 1 + input_choice(in, VICTIMS - 1), n_shown;
        struct answer answer;
        struct node *n;
        struct name name;
        char pid[16];

        pick_name(in, c->who, false, &name);
        n = answer_find(c->who, &name, &answer);
        snprintf(pid, sizeof pid, "%d", victims[victim].pid);
        if (n)
                (void) pids_expected(c->who, n, how != 0, &n_shown);
        if (how == 3) {
                call(c, "Process", "su", name.text, victims[victim].pid);
                if (n) {
                        answer.error = CTXD_ERROR_NO_SUCH_PROCESS;
                        for (unsigned i = 0; i < n_shown; i++)
                                if (strcmp(expected[i], pid) == 0)
                                        answer.error = NULL;
                }
                (void) is_answered(c, &answer);
                return;
        }
        if (how == 2) {
                call(c, "Endings", "sbu", name.text, 1, 0);
                if (is_answered(c, &answer))
                        endings_compare(c, endings_expected(c->who, n));
                return;
        }
        if (how == 0)
                call(c, "Members", "su", name.text, 0);
        else
                call(c, "Processes", "sbu", name.text, 1, 0);
        if (is_answered(c, &answer))
                pids_compare(c, "members", how == 0 ? "(uusst)" : "(utus)", n_shown);
}
