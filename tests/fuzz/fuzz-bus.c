/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The D-Bus side of the daemon, by real messages over real connections of three callers. The input says which
 * member is called on which object, and with what: mostly of the types that it takes, sometimes not. Or it is
 * what comes over the socket, from the first byte or after the authentication. After each message the tree is
 * checked, and every call must have had its one answer, with an error that is among those of the API. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/bus/vtables.h"
#include "daemon/util/cleanup.h"
#include "proto/path.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/world.h"

#define STEPS_MAX 64
#define CLIENTS 3

struct client {
        sd_bus *bus;
        bool deaf; /* does not read */
        unsigned asked, answered;
};

static struct client clients[CLIENTS];

/* What can be called: the members of the vtables, and those that sd-bus adds. Chosen by a hash of their
 * names, so that an input means the same when there are more of them. */
struct member {
        const char *path, *interface, *name, *signature;
        uint16_t hash;
};

static struct member members[128];
static unsigned n_members;

static void member_add(const char *path, const char *interface, const char *name, const char *signature)
{
        struct member *m = &members[n_members++];

        REQUIRE(n_members < ELEMENTSOF(members));
        *m = (struct member){path, interface, name, signature ? signature : "", 5381};
        for (const char *p = interface; *p; p++)
                m->hash = (uint16_t) (m->hash * 33 + (uint8_t) *p);
        for (const char *p = name; *p; p++)
                m->hash = (uint16_t) (m->hash * 33 + (uint8_t) *p);
}

static void members_add(const char *path, const char *interface, const sd_bus_vtable *vtable)
{
        for (; vtable->type != _SD_BUS_VTABLE_END; vtable++)
                if (vtable->type == _SD_BUS_VTABLE_METHOD)
                        member_add(path, interface, vtable->x.method.member, vtable->x.method.signature);
}

static void members_init(void)
{
        static const char properties[] = "org.freedesktop.DBus.Properties";

        if (n_members > 0)
                return;
        members_add(CTXD_OBJECT, CTXD_MANAGER_INTERFACE, manager_vtable);
        members_add(NULL, CTXD_CONTEXT_INTERFACE, context_vtable);
        members_add("/org/freedesktop/DBus", "org.freedesktop.DBus", driver_vtable);
        member_add(NULL, properties, "Get", "ss");
        member_add(NULL, properties, "GetAll", "s");
        member_add(NULL, properties, "Set", "ssv");
        member_add(NULL, "org.freedesktop.DBus.Introspectable", "Introspect", "");
        member_add(NULL, "org.freedesktop.DBus.Peer", "Ping", "");
        member_add(NULL, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "");
}

static const struct member *pick_member(struct input *in)
{
        uint16_t wanted = (uint16_t) input_raw(in, 2);
        const struct member *best = &members[0];

        for (unsigned i = 1; i < n_members; i++)
                if ((uint16_t) (members[i].hash - wanted) < (uint16_t) (best->hash - wanted))
                        best = &members[i];
        return best;
}

static const char *pick_string(struct input *in)
{
        static const char *const strings[] = {
                        "",
                        "/",
                        "a",
                        "b",
                        "a/b",
                        "a/b/c",
                        "a/",
                        "a/b/",
                        "~",
                        "~/",
                        "~/x",
                        "user-1000",
                        "user-1000/x",
                        "user-4242/x/y",
                        "a#1",
                        "a#2",
                        "a/b#2",
                        "b#3",
                        "~/x#2",
                        "caller",
                        "none",
                        "org.example.key",
                        "org.example.other",
                        "nodot",
                        ":1.0",
                        ":1.1",
                        "org.ctxd1",
                        CTXD_MANAGER_INTERFACE,
                        CTXD_CONTEXT_INTERFACE,
                        "State",
                        "Values",
                        "CanceledBy",
                        "Contexts",
                        "a reason",
        };
        static char text[4097];
        unsigned n = input_byte(in);

        if (n < 224)
                return strings[n % ELEMENTSOF(strings)];
        if (n < 240)
                return input_text(in, text, sizeof text, true);
        /* A long one: labels, or a label, or a reason. */
        memset(text, 'x', sizeof text);
        text[n < 244 ? 128 : n < 248 ? 1024 : input_raw(in, 2) % (sizeof text - 1)] = '\0';
        if (n & 1)
                for (size_t i = 1; i + 1 < sizeof text && text[i] && text[i + 1]; i += 2)
                        text[i] = '/';
        return text;
}

static int pick_fd(struct input *in)
{
        switch (input_choice(in, 8)) {
        case 0:
        case 1:
        case 2:
                return fcntl(victims[input_choice(in, VICTIMS)].pidfd, F_DUPFD_CLOEXEC, 3);
        case 3:
                return fcntl(victim_dead_pidfd(), F_DUPFD_CLOEXEC, 3);
        case 4:
                return eventfd(0, EFD_CLOEXEC);
        case 5:
                return open("/dev/null", O_RDONLY | O_CLOEXEC);
        case 6:
                return open("/proc/self", O_PATH | O_CLOEXEC);
        default:
                return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        }
}

static int append(sd_bus_message *m, const char *signature, struct input *in, unsigned depth);

/* The a{sv} of Create and Attach. */
static int append_options(sd_bus_message *m, struct input *in, unsigned depth)
{
        static const struct {
                const char *name, *signature;
        } options[] = {
                        {"timeout-usec", "t"},
                        {"deadline-usec", "t"},
                        {"cause", "(is)"},
                        {"values", "a{ss}"},
                        {"mode", "u"},
                        {"group", "u"},
                        {"bind", "s"},
                        {"owner", "h"},
                        {"attach", "h"},
                        {"signal", "i"},
                        {"kill-after-usec", "t"},
                        {"grace-usec", "t"},
                        {"parents", "b"},
                        {"open", "b"},
                        {"description", "s"},
                        {"timeout", "t"},
        };
        unsigned n = input_choice(in, 6);
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        for (unsigned i = 0; i < n && r >= 0; i++) {
                unsigned k = input_byte(in);
                const char *signature = options[k % 16].signature;

                if (k >= 240)
                        signature = options[input_choice(in, 16)].signature;
                r = sd_bus_message_open_container(m, 'e', "sv");
                if (r >= 0)
                        r = sd_bus_message_append(m, "s", options[k % 16].name);
                if (r >= 0)
                        r = sd_bus_message_open_container(m, 'v', signature);
                if (r >= 0)
                        r = append(m, signature, in, depth + 1);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_basic(sd_bus_message *m, char type, struct input *in)
{
        _cleanup_close_ int fd = -1;
        uint64_t n;

        switch (type) {
        case 's':
                return sd_bus_message_append_basic(m, 's', pick_string(in));
        case 'o':
        case 'g':
                return sd_bus_message_append_basic(m, type, type == 'o' ? CTXD_OBJECT : "a{sv}");
        case 'h':
                fd = pick_fd(in);
                return sd_bus_message_append_basic(m, 'h', &fd);
        case 'b':
                return sd_bus_message_append_basic(m, 'b', &(int){input_byte(in) & 1});
        default:
                n = input_number(in);
                return sd_bus_message_append_basic(m, type, &n);
        }
}

static int append_variant(sd_bus_message *m, struct input *in, unsigned depth)
{
        static const char *const contents[] = {
                        "s", "u", "t", "h", "(is)", "a{ss}", "ay", "v", "a{sv}", "b", "i", "d"};
        const char *signature = contents[input_choice(in, ELEMENTSOF(contents))];
        int r = sd_bus_message_open_container(m, 'v', signature);

        if (r >= 0)
                r = append(m, signature, in, depth + 1);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* The length of the first complete type. */
static size_t type_length(const char *signature)
{
        size_t n = 0;
        int depth = 0;

        while (signature[n] == 'a')
                n++;
        do {
                depth += signature[n] == '(' || signature[n] == '{';
                depth -= signature[n] == ')' || signature[n] == '}';
                n++;
        } while (depth > 0 && signature[n]);
        return n;
}

static int append_container(sd_bus_message *m, char type, const char *inner, size_t length, struct input *in,
                unsigned depth)
{
        char contents[64];
        unsigned n = type == 'a' ? input_choice(in, 4) : 1;
        int r;

        snprintf(contents, sizeof contents, "%.*s", (int) length, inner);
        r = sd_bus_message_open_container(m, type, contents);
        for (unsigned i = 0; i < n && r >= 0; i++)
                r = append(m, contents, in, depth + 1);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append(sd_bus_message *m, const char *signature, struct input *in, unsigned depth)
{
        int r = 0;

        if (depth > 8)
                return -E2BIG;
        for (; *signature && r >= 0; signature += type_length(signature)) {
                size_t n = type_length(signature);

                if (strncmp(signature, "a{sv}", 5) == 0)
                        r = append_options(m, in, depth);
                else if (*signature == 'a')
                        r = append_container(m, 'a', signature + 1, n - 1, in, depth);
                else if (*signature == '(')
                        r = append_container(m, 'r', signature + 1, n - 2, in, depth);
                else if (*signature == '{')
                        r = append_container(m, 'e', signature + 1, n - 2, in, depth);
                else if (*signature == 'v')
                        r = append_variant(m, in, depth);
                else
                        r = append_basic(m, *signature, in);
        }
        return r;
}

/* Not one of the API, but what sd-bus makes of an errno: a failure that nobody has thought of. */
static bool is_bare(const sd_bus_error *e)
{
        return strncmp(e->name, "System.Error.", 13) == 0 || strcmp(e->name, SD_BUS_ERROR_FAILED) == 0 ||
               strcmp(e->name, SD_BUS_ERROR_NO_REPLY) == 0 ||
               strcmp(e->message, strerror(sd_bus_error_get_errno(e))) == 0;
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
        const sd_bus_error *e = sd_bus_message_get_error(m);
        struct client *c = userdata;

        c->answered++;
        if (getenv("CTXD_FUZZ_TRACE"))
                (void) sd_bus_message_dump(m, stderr, SD_BUS_MESSAGE_DUMP_WITH_HEADER);
        if (e && sd_bus_is_open(c->bus) > 0 && is_bare(e)) {
                fprintf(stderr, "answered with %s: %s\n", e->name, e->message);
                abort();
        }
        return 0;
}

static void client_read(struct client *c)
{
        for (unsigned i = 0; i < 1000 && c->bus && sd_bus_process(c->bus, NULL) > 0; i++)
                ;
}

static void run(void)
{
        for (unsigned i = 0; i < 3; i++) {
                world_run();
                for (unsigned k = 0; k < CLIENTS; k++)
                        if (!clients[k].deaf)
                                client_read(&clients[k]);
        }
        for (unsigned k = 0; k < CLIENTS; k++)
                if (clients[k].bus && !clients[k].deaf && sd_bus_is_open(clients[k].bus) > 0)
                        REQUIRE(clients[k].asked == clients[k].answered);
        tree_check(world.tree);
}

static void client_close(struct client *c)
{
        if (!c->bus)
                return;
        sd_bus_close(c->bus);
        sd_bus_unref(c->bus);
        memset(c, 0, sizeof *c);
}

static bool client_open(struct client *c)
{
        int fd;

        if (c->bus && sd_bus_is_open(c->bus) > 0)
                return true;
        client_close(c);
        fd = world_connect(world_uids[c - clients]);
        if (fd < 0)
                return false;
        REQUIRE(sd_bus_new(&c->bus) >= 0 && sd_bus_set_fd(c->bus, fd, fd) >= 0);
        REQUIRE(sd_bus_negotiate_fds(c->bus, 1) >= 0 && sd_bus_start(c->bus) >= 0);
        for (unsigned i = 0; i < 20 && sd_bus_is_open(c->bus) > 0 && sd_bus_is_ready(c->bus) == 0; i++) {
                world_run();
                (void) sd_bus_process(c->bus, NULL);
        }
        return sd_bus_is_ready(c->bus) > 0;
}

static void call(struct client *c, struct input *in)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        static const char *const wrong[] = {"", "s", "u", "h", "ss", "sa{sv}", "sv", "a{ss}", "ssss", "(is)",
                        "v", "x", "ay", "b", "o", "d"};
        const struct member *member = pick_member(in);
        unsigned how = input_byte(in);
        _cleanup_free_ char *object = NULL;
        const char *path = member->path;
        int r;

        if (!path || how >= 248) {
                const char *text = pick_string(in);

                if (path_check(text, NULL) < 0 || path_to_object(text, &object) < 0)
                        path = how & 1 ? CTXD_OBJECT : CTXD_CONTEXT_OBJECT;
                else
                        path = object;
        }
        if (sd_bus_message_new_method_call(c->bus, &m, how & 1 ? NULL : CTXD_BUS_NAME, path,
                            how & 2 ? NULL : member->interface, member->name) < 0)
                return;
        r = append(m, (how & 0x7c) == 0x7c ? wrong[input_choice(in, ELEMENTSOF(wrong))] : member->signature,
                        in, 0);
        if (r < 0)
                return;
        if (getenv("CTXD_FUZZ_TRACE"))
                fprintf(stderr, "uid %u calls %s.%s\n", world_uids[c - clients], member->interface,
                                member->name);
        if ((how & 0x7c) == 0x78) {
                if (sd_bus_message_set_expect_reply(m, 0) >= 0)
                        (void) sd_bus_send(c->bus, m, NULL);
                return;
        }
        if (sd_bus_call_async(c->bus, NULL, m, on_answer, c, UINT64_MAX) >= 0)
                c->asked++;
}

static void step(struct input *in)
{
        unsigned what = input_byte(in);
        struct client *c = &clients[what % CLIENTS];

        switch (what / CLIENTS) {
        case 0:
                client_close(c);
                break;
        case 1:
                c->deaf = !c->deaf;
                break;
        case 2:
                world.service.kill_after_usec = input_number(in);
                break;
        case 3:
                world.tree->retain_usec = input_number(in);
                break;
        case 4: { /* a caller's command is as odd as it likes, too */
                char name[16];

                (void) prctl(PR_SET_NAME, input_text(in, name, sizeof name, false));
                client_close(c);
                break;
        }
        case 5: {
                unsigned resource = input_choice(in, RESOURCES);

                world.tree->users.limit[resource] = input_byte(in);
                break;
        }
        default:
                if (client_open(c))
                        call(c, in);
        }
        run();
}

static void calls(struct input *in)
{
        /* Whoever comes first, and what is there, is the same for each input. */
        for (unsigned i = 0; i < CLIENTS; i++)
                REQUIRE(client_open(&clients[i]));
        for (unsigned i = 0; i < STEPS_MAX && !input_is_empty(in); i++)
                step(in);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_close(&clients[i]);
        (void) prctl(PR_SET_NAME, "fuzz-bus");
}

static void raw(struct input *in, bool authenticated)
{
        static const char hello[] = "\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";
        _cleanup_close_ int fd = world_connect(world_uids[input_choice(in, WORLD_UIDS)]);
        size_t left;
        char reply[4096];

        REQUIRE(fd >= 0);
        if (authenticated) {
                REQUIRE(send(fd, hello, sizeof hello - 1, MSG_NOSIGNAL) == sizeof hello - 1);
                world_run();
        }
        while ((left = (size_t) (in->end - in->p)) > 0) {
                size_t n = left < 64 ? left : 1 + left / 2; /* in pieces: half a message is none */
                ssize_t k = send(fd, in->p, n, MSG_NOSIGNAL);

                if (k <= 0)
                        break;
                in->p += k;
                world_run();
                while (recv(fd, reply, sizeof reply, 0) > 0)
                        ;
                tree_check(world.tree);
        }
        (void) shutdown(fd, SHUT_WR);
        world_run();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {data, data + size};
        unsigned mode = input_byte(&in);

        members_init();
        (void) victim_dead_pidfd();
        world_start();
        if (mode == 1 || mode == 2)
                raw(&in, mode == 1);
        else
                calls(&in);
        world_run();
        tree_check(world.tree);
        world_stop();
        return 0;
}
