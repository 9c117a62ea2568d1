/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Bob works in short runs with pauses between: a stall that comes now and then hits some of his cancels,
 * while without the pauses all the others would be over before it.
 *
 * He also waits for the kernel, which works for Alice, too, and for a bus, which carries what she says and is
 * told. To know how long, he makes the same calls to a bare server in turns with those to ctxd. That server
 * is idle but for him, so what he waits for it more than in a quiet run is not ctxd's doing. A stall that
 * began in a pause meets the first call after it, so the two take turns in being first, too. */

#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/bench/common.h"
#include "tests/harness/figures.h"
#include "tests/hostile/bob.h"

#define PAUSES 30
#define PAUSE_USEC 6000
#define TOGETHER 6
#define CYCLES (PAUSES * TOGETHER)
#define WARM_UP 20
#define RUN_USEC 2000000 /* so long, if they all are slow */

static struct {
        double usec[CYCLES], bare[CYCLES];
        size_t n;
} * shared;

static const struct attack *attack;
static int go[2], done[2];
static pid_t bobs, bare;

/* As a client does that waits where the queue of connections is full. */
static sd_bus *connect_anew(void)
{
        int fd = connect_socket();
        sd_bus *b;

        ck_assert_int_ge(fd, 0);
        ck_assert_int_ge(sd_bus_new(&b), 0);
        ck_assert_int_ge(sd_bus_set_fd(b, fd, fd), 0);
        ck_assert_int_ge(sd_bus_set_bus_client(b, true), 0);
        ck_assert_int_ge(sd_bus_negotiate_fds(b, true), 0);
        ck_assert_int_ge(sd_bus_start(b), 0);
        return b;
}

static sd_bus_message *ask(sd_bus *b, const char *server, const char *member, const char *types, ...)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        va_list ap;
        int r;

        va_start(ap, types);
        r = sd_bus_call_methodv(
                        b, server, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member, &error, &reply, types, ap);
        va_end(ap);
        ck_assert_msg(r >= 0, "%s: %s", member, error.message);
        return reply;
}

/* One cycle; what it takes. */
static double cycle(const struct server *of, int member)
{
        uint64_t start = now_monotonic_usec(), end;
        _cleanup_bus_ sd_bus *fresh = attack->reconnects ? of->connect() : NULL;
        sd_bus *b = fresh ? fresh : of->bus;
        const char *server = of->name;
        _cleanup_message_ sd_bus_message *handle = NULL, *cancelled = NULL;
        int fd, first;

        if (attack->with_member)
                sd_bus_message_unref(ask(b, server, "Create", "sa{sv}", "~/bobs", 1, "attach", "h", member));
        else
                sd_bus_message_unref(ask(b, server, "Create", "sa{sv}", "~/bobs", 0));
        handle = ask(b, server, "Done", "s", "~/bobs");
        READ(handle, "h", &fd);
        cancelled = ask(b, server, "Cancel", "ss", "~/bobs", "");
        READ(cancelled, "buu", &first, NULL, NULL);
        ck_assert(first);
        ck_assert(becomes_readable(fd));
        end = now_monotonic_usec();
        sd_bus_message_unref(ask(b, server, "Release", "s", "~/bobs"));
        return (double) (end - start);
}

static void bob(void *userdata)
{
        struct server ctxd = {CTXD_BUS_NAME, connect_anew, connect_bus()}, peer = peer_server();
        int member = -1;
        char byte;

        if (!attack->reconnects) /* it serves one after the other */
                peer.bus = peer.connect();
        if (attack->with_member)
                (void) sleeper(&member);
        for (int i = 0; i < WARM_UP; i++) {
                (void) cycle(&ctxd, member);
                (void) cycle(&peer, member);
        }
        while (read(go[0], &byte, 1) == 1) {
                uint64_t end_usec = now_monotonic_usec() + RUN_USEC;

                for (shared->n = 0; shared->n < CYCLES && now_monotonic_usec() < end_usec; shared->n++) {
                        bool ctxd_is_first = shared->n / TOGETHER % 2 == 0;

                        if (shared->n % TOGETHER == 0)
                                nap(PAUSE_USEC);
                        if (ctxd_is_first)
                                shared->usec[shared->n] = cycle(&ctxd, member);
                        shared->bare[shared->n] = cycle(&peer, member);
                        if (!ctxd_is_first)
                                shared->usec[shared->n] = cycle(&ctxd, member);
                }
                ck_assert_int_eq(write(done[1], "", 1), 1);
        }
}

void bob_start(const struct attack *a)
{
        attack = a;
        if (!shared) {
                shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                                0);
                ck_assert_ptr_ne(shared, MAP_FAILED);
                ck_assert(pipe(go) == 0 && pipe(done) == 0);
        }
        bare = peer_start();
        bobs = spawn_as(BOB, bob, NULL);
}

void bob_end(void)
{
        end_process(bobs);
        end_process(bare);
}

char hear(int fd, pid_t pid, const struct attack *a)
{
        char byte = '\0';

        (void) HAPPENS(is_readable(fd) || waitpid(pid, NULL, WNOHANG) != 0);
        ck_assert_msg(is_readable(fd), "%s: this does not begin, or does not end", a->name);
        ck_assert_int_eq(read(fd, &byte, 1), 1);
        return byte;
}

struct waited bob_works(void)
{
        struct waited w = {};
        size_t n;

        ck_assert_int_eq(write(go[1], "", 1), 1);
        (void) hear(done[0], bobs, attack);
        n = shared->n;
        (void) median(shared->usec, n);
        w.p99 = percentile(shared->usec, n, 99);
        w.most = shared->usec[n - 1];
        (void) median(shared->bare, n);
        w.bare = percentile(shared->bare, n, 99);
        return w;
}
