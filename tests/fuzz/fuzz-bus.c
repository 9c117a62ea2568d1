/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The D-Bus side of the daemon, by real messages over real connections of three callers. The input says which
 * member is called on which object, and with what: mostly of the types that it takes, sometimes not. Or it is
 * what comes over the socket, from the first byte or after the authentication. After each message the tree is
 * checked, and every call must have had its one answer, with an error that is among those of the API. */

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/bus/message-size.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "proto/path.h"
#include "tests/fuzz/call.h"
#include "tests/fuzz/world.h"

#define STEPS_MAX 64
#define CLIENTS 3

struct client {
        sd_bus *bus;
        bool deaf; /* does not read */
        unsigned asked, answered;
};

static struct client clients[CLIENTS];

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
        /* An answer is a message like any other, with all that there may be in one. */
        REQUIRE(message_is_up_to(m, SIZE_MAX - 4096) &&
                        !message_is_up_to(m, 0) == (sd_bus_message_is_empty(m) == 0));
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

static bool is_waiting(const struct client *c)
{
        return c->bus && !c->deaf && sd_bus_is_open(c->bus) > 0 && c->asked != c->answered;
}

static void run(void)
{
        uint64_t end_usec = now_boottime_usec() + WORLD_PATIENCE_USEC;
        bool waiting = true;

        for (unsigned i = 0;
                        i < 3 || (waiting && (i < WORLD_PATIENCE_ROUNDS || now_boottime_usec() < end_usec));
                        i++) {
                world_run_until(i < 3 ? 0 : 1000);
                waiting = false;
                for (unsigned k = 0; k < CLIENTS; k++) {
                        if (!clients[k].deaf)
                                client_read(&clients[k]);
                        waiting = waiting || is_waiting(&clients[k]);
                }
        }
        REQUIRE(!waiting);
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
        world_guard();
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
