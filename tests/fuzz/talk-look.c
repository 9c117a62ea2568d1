/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tests/fuzz/talk.h"
#include "util/cleanup.h"
#include "proto/names.h"
#include "proto/path.h"

#define ROWS_MAX 256

static char expected[ROWS_MAX][TEXT_MAX], found[ROWS_MAX][TEXT_MAX];

static bool is_listed(const struct node *n)
{
        return !n->released || !node_is_drained(n);
}

/* Those that the person may look at, as if nothing below a hidden one was there. */
static struct node *next_shown(const struct person *p, struct node *n, const struct node *root, bool skip)
{
        while ((n = node_walk(n, root, skip)))
                if (!(skip = !is_listed(n) || !may(p, n, RIGHT_LOOK)))
                        break;
        return n;
}

static struct node *first_shown(const struct person *p, struct node *root)
{
        if (root->parent && is_listed(root))
                return root;
        return next_shown(p, root, root, !is_listed(root));
}

#define EACH_SHOWN(n, p, root) \
        for (struct node *n = first_shown((p), (root)); n; n = next_shown((p), n, (root), false))

static void values_compare(struct client *c, const struct node *n)
{
        const char *key, *value;
        unsigned n_expected = 0, n_found = 0;

        for (unsigned i = 0; i < KEYS; i++)
                if ((value = value_for(c->who, n, i)))
                        snprintf(expected[n_expected++], TEXT_MAX, "%s=%s", answer_keys[i], value);
        REQUIRE(sd_bus_message_enter_container(c->answer, 'a', "{ss}") >= 0);
        while (sd_bus_message_read(c->answer, "{ss}", &key, &value) > 0)
                snprintf(found[n_found++], TEXT_MAX, "%s=%s", key, value);
        REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
        lines_compare("values", expected, n_expected, found, n_found);
}

void talk_values(struct client *c, struct input *in)
{
        struct answer answer;
        struct node *n;
        struct name name;

        pick_name(in, c->who, false, &name);
        n = answer_find(c->who, &name, &answer);
        call(c, "Values", "s", name.text);
        if (is_answered(c, &answer))
                values_compare(c, n);
}

void talk_err(struct client *c, struct input *in)
{
        const char *err, *cause, *wanted;
        int code, error, wanted_error;
        struct answer answer;
        struct node *n;
        struct name name;

        pick_name(in, c->who, false, &name);
        n = answer_find(c->who, &name, &answer);
        call_on(c, &name, &answer, "Err", "");
        if (!is_answered(c, &answer))
                return;
        READ(c, "siis", &err, &code, &error, &cause);
        wanted = cause_for(c->who, n, &wanted_error);
        REQUIRE(strcmp(cause, wanted) == 0 && error == wanted_error);
        REQUIRE(code == (!n->done ? 0 : n->overdue ? ETIMEDOUT : ECANCELED));
        REQUIRE(strcmp(err, !n->done ? "" : n->overdue ? CTXD_ERR_DEADLINE : CTXD_ERR_CANCELED) == 0);
}

/* A page of it; returns whether there are more, and where to go on. */
static bool list_read(struct client *c, unsigned limit, unsigned *n_found, char *ret_after)
{
        const char *path, *state, *cause;
        uint64_t id, deadline, created;
        unsigned n = 0;
        int more;

        REQUIRE(sd_bus_message_enter_container(c->answer, 'a', "(ststts)") >= 0);
        for (; sd_bus_message_read(c->answer, "(ststts)", &path, &id, &state, &deadline, &created, &cause) >
                        0;
                        n++) {
                REQUIRE(*n_found < ROWS_MAX);
                snprintf(found[(*n_found)++], TEXT_MAX, "%.100s %" PRIu64 " %s %" PRIu64 " %s", path, id,
                                state, deadline, cause);
                snprintf(ret_after, TEXT_MAX, "%.200s#%" PRIu64, path, id);
        }
        REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
        READ(c, "b", &more);
        REQUIRE(limit == 0 || (more ? n == limit : n <= limit));
        return more;
}

void talk_list(struct client *c, struct input *in)
{
        unsigned n_expected = 0, n_found = 0, limit = input_byte(in) & 3;
        char after[TEXT_MAX] = "", path[TEXT_MAX];
        struct answer answer;
        struct node *root;
        struct name name;
        int error;

        pick_name(in, c->who, false, &name);
        root = answer_find(c->who, &name, &answer);
        do {
                call(c, "List", "ssu", name.text, after, limit);
                if (!is_answered(c, &answer))
                        return;
        } while (list_read(c, limit, &n_found, after));
        EACH_SHOWN(n, c->who, root)
        {
                REQUIRE(n_expected < ROWS_MAX);
                node_path(n, path);
                snprintf(expected[n_expected++], TEXT_MAX, "%.100s %" PRIu64 " %s %" PRIu64 " %s", path,
                                n->id, node_state(n), node_deadline(n), cause_for(c->who, n, &error));
        }
        lines_compare("List", expected, n_expected, found, n_found);
}

/* One property, as it has to be; false: it is not one that is known here. */
static bool property_expected(
                const struct person *p, const struct node *n, const char *name, char type, char *ret)
{
        const struct node *origin = origin_for(p, n);
        char path[TEXT_MAX];
        int error;

        (void) cause_for(p, n, &error);
        node_path(n, path);
        if (type == 's' && strcmp(name, "Path") == 0)
                strcpy(ret, path);
        else if (type == 's' && strcmp(name, "State") == 0)
                strcpy(ret, node_state(n));
        else if (type == 's' && strcmp(name, "Cause") == 0)
                strcpy(ret, cause_for(p, n, &error));
        else if (type == 's' && strcmp(name, "CausePath") == 0 && !origin)
                ret[0] = '\0';
        else if (type == 's' && strcmp(name, "CausePath") == 0) {
                node_path(origin, path);
                snprintf(ret, TEXT_MAX, "%.200s#%" PRIu64, path, origin->id);
        } else if (type == 'i' && strcmp(name, "CauseError") == 0)
                snprintf(ret, TEXT_MAX, "%d", error);
        else if (type == 't' && strcmp(name, "Id") == 0)
                snprintf(ret, TEXT_MAX, "%" PRIu64, n->id);
        else if (type == 't' && strcmp(name, "DeadlineUSec") == 0)
                snprintf(ret, TEXT_MAX, "%" PRIu64, node_deadline(n));
        else if (type == 'u' && n->parent && strcmp(name, "OwnerUID") == 0)
                snprintf(ret, TEXT_MAX, "%u", n->uid);
        else if (type == 'u' && n->parent && strcmp(name, "OwnerGID") == 0)
                snprintf(ret, TEXT_MAX, "%u", n->gid);
        else if (type == 'u' && n->parent && strcmp(name, "Mode") == 0)
                snprintf(ret, TEXT_MAX, "%u", n->mode);
        else
                return false;
        return true;
}

static void property_compare(struct client *c, const struct node *n, const char *name)
{
        const struct node *origin = origin_for(c->who, n);
        char text[TEXT_MAX] = "", wanted[TEXT_MAX];
        const char *contents, *s;
        uint32_t u;
        uint64_t t;
        int i;

        REQUIRE(sd_bus_message_peek_type(c->answer, NULL, &contents) > 0);
        REQUIRE(sd_bus_message_enter_container(c->answer, 'v', contents) > 0);
        if (strcmp(contents, "s") == 0) {
                READ(c, "s", &s);
                snprintf(text, sizeof text, "%s", s);
        } else if (strcmp(contents, "u") == 0) {
                READ(c, "u", &u);
                snprintf(text, sizeof text, "%u", u);
        } else if (strcmp(contents, "i") == 0) {
                READ(c, "i", &i);
                snprintf(text, sizeof text, "%d", i);
        } else if (strcmp(contents, "t") == 0) {
                READ(c, "t", &t);
                snprintf(text, sizeof text, "%" PRIu64, t);
        } else if (strcmp(name, "CanceledBy") == 0) {
                READ(c, "(uus)", &u, NULL, NULL);
                REQUIRE(u == (origin && !origin->overdue ? origin->by : UINT32_MAX));
        } else if (strcmp(name, "Values") == 0) {
                values_compare(c, n);
        } else {
                REQUIRE(sd_bus_message_skip(c->answer, contents) >= 0);
        }
        REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
        if (property_expected(c->who, n, name, contents[0], wanted) && strcmp(text, wanted) != 0) {
                fprintf(stderr, "uid %u: %s is %s, not %s\n", c->who->uid, name, text, wanted);
                abort();
        }
}

void talk_properties(struct client *c, struct input *in)
{
        _cleanup_free_ char *object = NULL;
        const char *name_of;
        struct answer answer;
        sd_bus_message *m;
        struct node *n;
        struct name name;

        pick_name(in, c->who, false, &name);
        name.id = 0; /* an object is named by its path alone */
        n = answer_find(c->who, &name, &answer);
        REQUIRE(path_to_object(name.path, &object) >= 0);
        m = call_new(c, object, "org.freedesktop.DBus.Properties", "GetAll");
        REQUIRE(sd_bus_message_append(m, "s", CTXD_CONTEXT_INTERFACE) >= 0);
        call_send(c, m);
        if (!n) { /* the object is not there */
                const sd_bus_error *e = sd_bus_message_get_error(c->answer);

                REQUIRE(e && strcmp(e->name, SD_BUS_ERROR_UNKNOWN_OBJECT) == 0);
                return;
        }
        REQUIRE(is_answered(c, &answer) && sd_bus_message_enter_container(c->answer, 'a', "{sv}") >= 0);
        while (sd_bus_message_enter_container(c->answer, 'e', "sv") > 0) {
                READ(c, "s", &name_of);
                property_compare(c, n, name_of);
                REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
        }
}

/* The Manager's property Contexts. */
void talk_count(struct client *c, struct input *in)
{
        sd_bus_message *m = call_new(c, CTXD_OBJECT, "org.freedesktop.DBus.Properties", "Get");
        uint32_t n_found, n_expected = 0;
        unsigned n_nodes;

        REQUIRE(sd_bus_message_append(m, "ss", CTXD_MANAGER_INTERFACE, "Contexts") >= 0);
        call_send(c, m);
        REQUIRE(is_answered(c, &(struct answer){}));
        READ(c, "v", "u", &n_found);
        EACH_SHOWN(n, c->who, answers_nodes(&n_nodes))
        n_expected++;
        REQUIRE(n_found == n_expected);
}
