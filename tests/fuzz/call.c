/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/bus/vtables.h"
#include "util/cleanup.h"
#include "tests/fuzz/call.h"
#include "tests/fuzz/world.h"

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

void members_init(void)
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

const struct member *pick_member(struct input *in)
{
        uint16_t wanted = (uint16_t) input_raw(in, 2);
        const struct member *best = &members[0];

        for (unsigned i = 1; i < n_members; i++)
                if ((uint16_t) (members[i].hash - wanted) < (uint16_t) (best->hash - wanted))
                        best = &members[i];
        return best;
}

const char *pick_string(struct input *in)
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
                if (type == 'u' && n >= 60 && n < 60 + VICTIMS) /* somebody's pid */
                        n = (uint64_t) victims[n - 60].pid;
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

int append(sd_bus_message *m, const char *signature, struct input *in, unsigned depth)
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
