/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the crowd of one user asks for at one moment takes many turns of the daemon's loop, and others are
 * served between them (law 48). A test counts what one turn does, and measures no time. */

#include <stdio.h>
#include <sys/resource.h>

#include "daemon/bus/later.h"
#include "inside.h"
#include "proto/path.h"

/* So many answers or signals may one turn send. */
#define AT_ONCE_MAX 300
#define NODES_MAX 100
#define XML_MAX 20000

#define LARGE 20000 /* many slices */
#define CROWD 50
#define EACH 60

START_TEST(law_48_thousands_who_wait_for_one_end)
{
        struct client *first;

        make_many("large", LARGE);
        first = client_new();
        for (unsigned i = 1; i < CROWD; i++)
                client_new();
        run();
        SEND(first, "Cancel", "ss", "large", "");
        n_heard();
        while (TAILQ_EMPTY(&tree->endings))
                ck_assert_int_ge(sd_event_run(event, 1000000), 0);
        for (unsigned i = 1; i < CROWD; i++)
                for (unsigned k = 0; k < EACH; k++)
                        SEND(&clients[i], "Cancel", "ss", "large", "");
        ck_assert_uint_le(run(), AT_ONCE_MAX);
        ck_assert_uint_eq(first->n_answers, 1);
        for (unsigned i = 1; i < CROWD; i++)
                ck_assert_uint_eq(clients[i].n_answers, EACH);
        for (unsigned i = 0; i < CROWD; i++)
                ck_assert_uint_eq(clients[i].n_errors, 0);
        ck_assert_uint_eq(service.laters.of_all->waiting.n, 0);
        ck_assert_ptr_null(TAILQ_NEXT(service.laters.of_all, queues));
        ck_assert_ptr_eq(TAILQ_FIRST(&service.laters.queues), service.laters.of_all);
}
END_TEST

#define SUBSCRIBERS 500
#define NEWS 20

/* All of them have subscribed, some of them twice, and somebody makes some contexts. */
static struct client *subscribe_all(void)
{
        struct client *maker = client_new();

        make("told");
        service_drain(&service, NULL);
        for (unsigned i = 0; i < SUBSCRIBERS; i++) {
                struct client *c = client_new();

                SEND(c, "Subscribe", "s", "told");
                if (i % 2)
                        SEND(c, "Subscribe", "s", "/");
        }
        run();
        return maker;
}

static void make_news(struct client *maker)
{
        char path[32];

        for (unsigned i = 1; i <= NEWS; i++) {
                snprintf(path, sizeof path, "told/%u", i);
                SEND(maker, "Create", "sa{sv}", path, 0);
        }
}

START_TEST(law_48_signals_to_a_crowd)
{
        struct client *maker = subscribe_all();

        make_news(maker);
        ck_assert_uint_le(run(), AT_ONCE_MAX);
        ck_assert_uint_eq(maker->n_answers, NEWS);
        ck_assert_uint_eq(maker->n_signals, 0);
        for (unsigned i = 1; i <= SUBSCRIBERS; i++)
                ck_assert_uint_eq(clients[i].n_signals, NEWS);
        ck_assert(!service_is_telling(&service));
        ck_assert(STAILQ_EMPTY(&tree->forgotten));
}
END_TEST

/* Every third one gives up its subscriptions, and every fifth one is gone. */
START_TEST(subscribers_that_go_meanwhile)
{
        struct client *maker = subscribe_all();

        make_news(maker);
        for (unsigned turn = 0; turn < 40; turn++) {
                n_heard();
                ck_assert_int_ge(sd_event_run(event, 1000000), 0);
                for (unsigned i = 1 + turn; i <= SUBSCRIBERS; i += 40)
                        if (i % 5 == 0) {
                                clients[i].bus = sd_bus_close_unref(clients[i].bus);
                        } else if (i % 3 == 0) {
                                SEND(&clients[i], "Unsubscribe", "s", "told");
                                SEND(&clients[i], "Unsubscribe", "s", "/");
                        }
        }
        run();
        ck_assert_uint_eq(maker->n_answers, NEWS);
        for (unsigned i = 1; i <= SUBSCRIBERS; i++)
                if (i % 5 != 0 && i % 3 != 0)
                        ck_assert_uint_eq(clients[i].n_signals, NEWS);
        ck_assert(!service_is_telling(&service));
}
END_TEST

/* An introspection names some of the children, as many as take no longer than any other call. */
static unsigned n_nodes;
static size_t n_bytes;

static int on_introspection(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *xml;

        n_nodes = 0;
        ck_assert_int_gt(sd_bus_message_read(m, "s", &xml), 0);
        n_bytes = strlen(xml);
        for (; (xml = strstr(xml, "<node name=")); xml++)
                n_nodes++;
        return on_answer(m, userdata, error);
}

static void introspect(struct client *c, const char *name)
{
        _cleanup_free_ char *object = NULL;
        unsigned before = c->n_answers;

        ck_assert_int_ge(path_to_object(name, &object), 0);
        ck_assert_int_ge(sd_bus_call_method_async(c->bus, NULL, CTXD_BUS_NAME, object,
                                         "org.freedesktop.DBus.Introspectable", "Introspect",
                                         on_introspection, c, NULL),
                        0);
        run();
        ck_assert_uint_eq(c->n_answers, before + 1);
}

START_TEST(law_48_introspection_of_thousands)
{
        struct client *c = client_new();

        make_many("large", LARGE);
        run();
        introspect(c, "large");
        ck_assert_uint_eq(n_nodes, NODES_MAX);
}
END_TEST

START_TEST(law_48_introspection_of_long_names)
{
        struct client *c = client_new();
        char path[CTXD_PATH_MAX + 1];

        for (unsigned i = 0; i < NODES_MAX; i++) {
                snprintf(path, sizeof path, "large/%0*u", CTXD_LABEL_MAX, i);
                memset(path + strlen("large/"), '-', CTXD_LABEL_MAX - 10);
                make(path);
        }
        run();
        introspect(c, "large");
        ck_assert_uint_ge(n_nodes, 10);
        ck_assert_uint_le(n_bytes, XML_MAX);
}
END_TEST

/* A list that goes on where somebody was who is gone by now: that place is looked for in turns, too. */
START_TEST(law_48_a_list_that_goes_on)
{
        struct client *c = client_new();
        bool is_under_way = false;

        make_many("large", 200000);
        run();
        SEND(c, "List", "ssu", "large", "large/gone#1", 1);
        n_heard();
        while (n_heard() == 0) {
                ck_assert_int_ge(sd_event_run(event, 1000000), 0);
                is_under_way = is_under_way || !LIST_EMPTY(&tree->cursors);
        }
        ck_assert(is_under_way);
        ck_assert_uint_eq(c->n_errors, 0);
}
END_TEST

/* Its caller goes away while an Extend goes through the tree: it is done all the same. */
START_TEST(law_10_an_extend_whose_caller_goes_is_done)
{
        uint64_t now = now_boottime_usec();
        struct client *c = client_new();
        struct context *child;

        make_until("large", now + 100 * SECOND);
        make_many("large", 200000);
        child = make_until("large/0/own", now + 150 * SECOND);
        service_drain(&service, NULL);
        run();
        ck_assert_uint_eq(child->deadline_usec, now + 100 * SECOND);
        SEND(c, "Extend", "st", "large", now + 200 * SECOND);
        n_heard();
        while (child->parent->parent->deadline_usec == now + 100 * SECOND)
                ck_assert_int_ge(sd_event_run(event, 1000000), 0);
        c->bus = sd_bus_close_unref(c->bus);
        run();
        ck_assert_uint_eq(child->deadline_usec, now + 150 * SECOND);
        ck_assert(child->own_deadline);
}
END_TEST

#define DEADLINES 20000

static unsigned count_active(const struct context *parent)
{
        const struct context *c;
        unsigned n = 0;

        LIST_FOREACH (c, &parent->children, siblings)
                n += !context_is_done(c);
        return n;
}

static struct context *make_of(uid_t uid, const char *path, uint64_t deadline_usec)
{
        struct caller caller = {.uid = uid, .gid = uid, .pid = getpid()};
        struct create_options options = {
                        .deadline_usec = deadline_usec, .mode = CONTEXT_MODE_INHERIT, .parents = true};
        struct refused refused = {};
        struct context *c;

        ck_assert_int_eq(tree_create(tree, now_boottime_usec(), &caller, path, &options, &c, &refused), 1);
        return c;
}

/* Her deadlines pass at one moment, and his a little later: his does not wait for all of hers. */
START_TEST(law_48_deadlines_of_thousands)
{
        uint64_t soon = now_boottime_usec() + 5 * SECOND; /* by then they are made */
        struct client *c = client_new();
        struct context *his, *hers = NULL;
        char path[32];

        make("other");
        for (unsigned i = 0; i < DEADLINES; i++) {
                snprintf(path, sizeof path, "~/%u", i);
                hers = make_of(1001, path, soon);
        }
        his = make_of(1002, "~/his", soon + 1);
        service_drain(&service, NULL);
        SEND(c, "Err", "s", "other");
        run();
        ck_assert_uint_eq(c->n_answers, 1);
        ck_assert_uint_lt(now_boottime_usec(), soon);
        nap(soon + 2 - now_boottime_usec());
        while (!context_is_done(his))
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
        ck_assert_uint_gt(count_active(hers->parent), DEADLINES / 2);
        run();
        ck_assert_uint_eq(count_active(hers->parent), 0);
}
END_TEST

#define LEVELS 63
#define KEYS 64
#define VALUE_BYTES 1000

/* Below each other, each with as many values as there may be. */
static void make_values(char path[256])
{
        static char keys[KEYS][32], text[VALUE_BYTES + 1];
        struct value values[KEYS];
        struct create_options options = {.deadline_usec = CTXD_USEC_INFINITY,
                        .mode = CONTEXT_MODE_INHERIT,
                        .values = values,
                        .n_values = KEYS};
        struct refused refused = {};
        struct context *c;

        memset(text, 'x', VALUE_BYTES);
        path[0] = '\0';
        for (unsigned level = 0; level < LEVELS; level++) {
                for (unsigned i = 0; i < KEYS; i++) {
                        snprintf(keys[i], sizeof keys[i], "l%u.k%u", level, i);
                        values[i] = (struct value){keys[i], text};
                }
                strcat(path, level > 0 ? "/v" : "v");
                ck_assert_int_eq(tree_create(tree, now_boottime_usec(), &caller_daemon, path, &options, &c,
                                                 &refused),
                                1);
        }
        service_drain(&service, NULL);
}

/* It comes in slices, alone and among all properties; each once. */
static unsigned n_values, n_properties;

static void read_values(sd_bus_message *m)
{
        const char *key, *value;

        ck_assert_int_gt(sd_bus_message_enter_container(m, 'v', "a{ss}"), 0);
        ck_assert_int_gt(sd_bus_message_enter_container(m, 'a', "{ss}"), 0);
        for (n_values = 0; sd_bus_message_read(m, "{ss}", &key, &value) > 0; n_values++)
                ck_assert_uint_eq(strlen(value), VALUE_BYTES);
        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
}

static int on_property(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        read_values(m);
        return on_answer(m, userdata, error);
}

static int on_properties(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *name;

        ck_assert_int_gt(sd_bus_message_enter_container(m, 'a', "{sv}"), 0);
        for (n_properties = 0; sd_bus_message_enter_container(m, 'e', "sv") > 0; n_properties++) {
                ck_assert_int_gt(sd_bus_message_read(m, "s", &name), 0);
                if (strcmp(name, "Values") == 0)
                        read_values(m);
                else
                        ck_assert_int_ge(sd_bus_message_skip(m, "v"), 0);
                ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        }
        return on_answer(m, userdata, error);
}

static void expect_slices(struct client *c)
{
        unsigned turns = 0, before = c->n_answers;

        for (n_heard(); c->n_answers == before; n_heard()) {
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
                turns += !LIST_EMPTY(&tree->cursors);
        }
        ck_assert_uint_gt(turns, 0); /* it was under way while others could have been served */
        ck_assert_uint_eq(n_values, LEVELS * KEYS);
        n_values = 0;
}

START_TEST(law_48_a_property_of_megabytes)
{
        struct client *c = client_new();
        char path[256], object[512];

        make_values(path);
        snprintf(object, sizeof object, "%s/%s", CTXD_CONTEXT_OBJECT, path);
        run();
        ck_assert_int_ge(sd_bus_call_method_async(c->bus, NULL, CTXD_BUS_NAME, object,
                                         "org.freedesktop.DBus.Properties", "Get", on_property, c, "ss",
                                         CTXD_CONTEXT_INTERFACE, "Values"),
                        0);
        expect_slices(c);
        ck_assert_int_ge(sd_bus_call_method_async(c->bus, NULL, CTXD_BUS_NAME, object,
                                         "org.freedesktop.DBus.Properties", "GetAll", on_properties, c, "s",
                                         CTXD_CONTEXT_INTERFACE),
                        0);
        expect_slices(c);
        ck_assert_uint_eq(n_properties, 18);
}
END_TEST

/* Takes all that malloc() gives. What was taken is a list. */
struct taken {
        struct taken *next;
};

static struct taken *use_up_memory(void)
{
        struct taken *all = NULL, *one;

        for (size_t size = 1024 * 1024; size >= sizeof *one; size /= 2)
                while ((one = malloc(size))) {
                        one->next = all;
                        all = one;
                }
        return all;
}

/* A reply that comes later cannot be made, and neither can an error: then the caller does not wait for it. */
static void without_memory(struct client *c)
{
        struct rlimit before, now;
        struct taken *all, *next;

#ifdef __SANITIZE_ADDRESS__
        return; /* the sanitizer has terabytes of address space */
#endif
        ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
        now = (struct rlimit){1, before.rlim_max};
        ck_assert_int_eq(setrlimit(RLIMIT_AS, &now), 0);
        all = use_up_memory();
        run_deaf();
        for (; all; all = next) {
                next = all->next;
                free(all);
        }
        ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
        run_deaf();
        while (sd_bus_process(c->bus, NULL) > 0)
                ;
        ck_assert(c->n_answers == 1 || service.n_connections == 0);
}

START_TEST(law_43_a_list_without_memory)
{
        struct client *c = client_new();

        make_many("large", LARGE);
        run();
        SEND(c, "List", "ssu", "large", "", 0);
        while (LIST_EMPTY(&tree->cursors))
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
        ck_assert_int_gt(sd_event_run(event, SECOND), 0); /* the connection waits, too */
        ck_assert(!LIST_EMPTY(&tree->cursors));
        without_memory(c);
}
END_TEST

START_TEST(law_43_a_cancel_without_memory)
{
        struct client *c = client_new();

        make_many("large", LARGE);
        run();
        SEND(c, "Cancel", "ss", "large", "");
        while (TAILQ_EMPTY(&tree->endings))
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
        without_memory(c);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("storms");
        TCase *c = add_case(s, "storms",
                        (const TTest *const[]){law_48_thousands_who_wait_for_one_end,
                                        law_48_signals_to_a_crowd, subscribers_that_go_meanwhile,
                                        law_48_introspection_of_thousands, law_48_introspection_of_long_names,
                                        law_48_a_list_that_goes_on,
                                        law_10_an_extend_whose_caller_goes_is_done,
                                        law_48_deadlines_of_thousands, law_48_a_property_of_megabytes,
                                        law_43_a_list_without_memory, law_43_a_cancel_without_memory, NULL});

        tcase_add_checked_fixture(c, inside_setup, inside_teardown);
        return run_suite(s);
}
