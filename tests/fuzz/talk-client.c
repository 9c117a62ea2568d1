/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/fuzz/talk-client.h"
#include "tests/fuzz/world.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "proto/names.h"
#include "proto/path.h"

#define SHARED_GROUP 50

/* Root, two users who share a group, and a system user, who may make first labels. */
struct person people[PEOPLE] = {
                {0, 0, 0},
                {1000, 1000, SHARED_GROUP},
                {4242, 4242, SHARED_GROUP},
                {500, 500, 500},
};
struct client clients[CLIENTS];
uint64_t soon_usec;

void people_init(void)
{
        for (unsigned i = 0; i < CLIENTS; i++)
                clients[i].who = &people[i / 2];
        if (getuid() == 0)
                return;
        for (unsigned i = 0; i < PEOPLE; i++)
                people[i] = (struct person){getuid(), getgid(), getgid()};
}

/* The one place from which ctxd has who its peer is: the kernel, which gives the two ends of a socketpair the
 * credentials that their maker has at that time (SO_PEERCRED, SO_PEERGROUPS). Nothing in the daemon is
 * replaced: this thread has the identity of that person for the moment. */
static int connect_as(const struct person *p)
{
        gid_t groups[] = {p->gid, p->more};
        int fd;

        if (getuid() != 0)
                return world_connect(p->uid);
        REQUIRE(syscall(SYS_setgroups, 2, groups) == 0);
        REQUIRE(syscall(SYS_setresgid, -1, p->gid, -1) == 0);
        fd = world_connect(p->uid);
        REQUIRE(syscall(SYS_setresgid, -1, 0, -1) == 0);
        return fd;
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct client *c = userdata;
        const char *path, *err, *cause, *member = sd_bus_message_get_member(m);
        uint64_t id;

        if (!sd_bus_message_is_signal(m, CTXD_MANAGER_INTERFACE, NULL))
                return 0;
        REQUIRE(c->n_heard < NEWS_MAX && sd_bus_message_read(m, "st", &path, &id) >= 0);
        if (strcmp(member, "ContextDone") == 0) {
                REQUIRE(sd_bus_message_read(m, "ss", &err, &cause) >= 0);
                snprintf(c->heard[c->n_heard++], TEXT_MAX, "%s %.100s %" PRIu64 " %s, %s", member, path, id,
                                err, cause);
        } else {
                snprintf(c->heard[c->n_heard++], TEXT_MAX, "%s %.100s %" PRIu64, member, path, id);
        }
        return 0;
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct client *c = userdata;

        c->answer = sd_bus_message_ref(m);
        c->answered = true;
        return 0;
}

void client_close(struct client *c)
{
        sd_bus_message_unref(c->answer);
        c->answer = NULL;
        if (c->bus) {
                sd_bus_close(c->bus);
                sd_bus_unref(c->bus);
        }
        c->bus = NULL;
        c->n_prefixes = c->n_heard = 0;
}

static void client_read(struct client *c)
{
        while (c->bus && sd_bus_process(c->bus, NULL) > 0)
                ;
}

void client_open(struct client *c)
{
        int fd;

        if (c->bus)
                return;
        fd = connect_as(c->who);
        REQUIRE(fd >= 0);
        REQUIRE(sd_bus_new(&c->bus) >= 0 && sd_bus_set_fd(c->bus, fd, fd) >= 0);
        REQUIRE(sd_bus_negotiate_fds(c->bus, 1) >= 0 && sd_bus_start(c->bus) >= 0);
        REQUIRE(sd_bus_add_filter(c->bus, NULL, on_message, c) >= 0);
        for (unsigned i = 0; i < 20 && sd_bus_is_ready(c->bus) == 0; i++) {
                world_run();
                client_read(c);
        }
        REQUIRE(sd_bus_is_ready(c->bus) > 0);
}

void clients_run(void)
{
        world_run();
        for (unsigned i = 0; i < CLIENTS; i++)
                client_read(&clients[i]);
}

sd_bus_message *call_new(struct client *c, const char *object, const char *interface, const char *member)
{
        sd_bus_message *m;

        REQUIRE(sd_bus_message_new_method_call(c->bus, &m, CTXD_BUS_NAME, object, interface, member) >= 0);
        return m;
}

void call_send(struct client *c, sd_bus_message *m)
{
        uint64_t end_usec = now_boottime_usec() + WORLD_PATIENCE_USEC;

        c->answer = sd_bus_message_unref(c->answer);
        c->answered = false;
        if (getenv("CTXD_FUZZ_TRACE"))
                fprintf(stderr, "uid %u calls %s\n", c->who->uid, sd_bus_message_get_member(m));
        REQUIRE(sd_bus_call_async(c->bus, NULL, m, on_answer, c, UINT64_MAX) >= 0);
        sd_bus_message_unref(m);
        for (unsigned i = 0; !c->answered && (i < WORLD_PATIENCE_ROUNDS || now_boottime_usec() < end_usec);
                        i++) {
                world_run_until(i < 3 ? 0 : 1000);
                client_read(c);
        }
        REQUIRE(c->answered);
        if (getenv("CTXD_FUZZ_TRACE"))
                (void) sd_bus_message_dump(c->answer, stderr, SD_BUS_MESSAGE_DUMP_WITH_HEADER);
        (void) sd_bus_message_rewind(c->answer, true);
}

void call(struct client *c, const char *member, const char *types, ...)
{
        sd_bus_message *m = call_new(c, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member);
        va_list ap;

        va_start(ap, types);
        REQUIRE(sd_bus_message_appendv(m, types, ap) >= 0);
        va_end(ap);
        call_send(c, m);
}

void call_on(struct client *c, const struct name *name, struct answer *expected, const char *member,
                const char *types, ...)
{
        _cleanup_free_ char *object = NULL;
        sd_bus_message *m;
        va_list ap;

        if (name->by_object) {
                REQUIRE(path_to_object(name->path, &object) >= 0);
                m = call_new(c, object, CTXD_CONTEXT_INTERFACE, member);
                if (expected->error && strcmp(expected->error, CTXD_ERROR_NO_SUCH_CONTEXT) == 0)
                        *expected = (struct answer){.error = SD_BUS_ERROR_UNKNOWN_OBJECT};
        } else {
                m = call_new(c, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member);
                REQUIRE(sd_bus_message_append(m, "s", name->text) >= 0);
        }
        va_start(ap, types);
        REQUIRE(sd_bus_message_appendv(m, types, ap) >= 0);
        va_end(ap);
        call_send(c, m);
}

bool is_answered(struct client *c, const struct answer *expected)
{
        const sd_bus_error *e = sd_bus_message_get_error(c->answer);
        const char *wanted = expected->error;
        bool same;

        if (soon_usec != 0 && now_boottime_usec() >= soon_usec)
                return false;
        if (!e || !wanted)
                same = !e && !wanted;
        else
                same = strcmp(e->name, wanted) == 0 &&
                       (!expected->text[0] || strcmp(e->message, expected->text) == 0);
        if (!same) {
                fprintf(stderr, "uid %u was answered: %s: %s\nnot: %s: %s\n", c->who->uid,
                                e ? e->name : "success", e ? e->message : "", wanted ? wanted : "success",
                                expected->text);
                abort();
        }
        return !e;
}

static int compare_lines(const void *a, const void *b)
{
        return strcmp(a, b);
}

void lines_compare(const char *what, char (*expected)[TEXT_MAX], unsigned n_expected, char (*found)[TEXT_MAX],
                unsigned n_found)
{
        bool same = n_expected == n_found;

        qsort(expected, n_expected, TEXT_MAX, compare_lines);
        qsort(found, n_found, TEXT_MAX, compare_lines);
        for (unsigned i = 0; same && i < n_found; i++)
                same = strcmp(expected[i], found[i]) == 0;
        if (same)
                return;
        fprintf(stderr, "%s:\n", what);
        for (unsigned i = 0; i < n_found; i++)
                fprintf(stderr, "  there is       %s\n", found[i]);
        for (unsigned i = 0; i < n_expected; i++)
                fprintf(stderr, "  there has to be %s\n", expected[i]);
        abort();
}

void clients_compare_news(void)
{
        static char expected[NEWS_MAX][TEXT_MAX];

        for (unsigned i = 0; i < CLIENTS; i++) {
                struct client *c = &clients[i];
                char what[64];
                unsigned n;

                if (!c->bus)
                        continue;
                n = news_for(c->who, c->prefixes, c->n_prefixes, expected);
                snprintf(what, sizeof what, "signals to uid %u", c->who->uid);
                lines_compare(what, expected, n, c->heard, c->n_heard);
                c->n_heard = 0;
        }
        news_forget();
}
