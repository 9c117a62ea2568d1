/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/local/patience.h"
#include "lib/local/raw.h"
#include "lib/remote/context.h"
#include "lib/remote/line-inside.h"

/* What ctx_cancel() and ctx_err() ask the daemon, they may ask in a signal handler. The thread that it has
 * interrupted may be inside malloc(), or inside sd-bus and hold the client's lock, and no call can know that.
 * So these two always ask by a line: a second connection, with messages that are made by hand, in memory that
 * the line has. Its socket belongs to whoever has taken the line from the client, and a caller that finds
 * none opens another one. So nobody waits for anybody but the daemon, and an answer takes one round trip as
 * elsewhere.
 *
 * The first line is opened together with the connection of sd-bus, with the same rights, since the process
 * may give them up later. All that is said first is sent at once, and what is answered to it is read when the
 * line is first used: so nothing is waited for. The daemon is addressed by the name with which it has
 * answered: over a bus, another one cannot be meant. */

#define LINES_KEPT (sizeof((struct ctx_client *) NULL)->lines / sizeof(struct line *))
/* If the kernel does not let it poll, the thread looks from time to time. */
#define POLL_FAILED_NSEC 1000000
/* Where the daemon's queue of those who connect is full, it is tried again so soon, at first and at last. */
#define FULL_MIN_USEC 100
#define FULL_MAX_USEC 10000

enum { SERIAL_HELLO = 1, SERIAL_ALIVE };

bool line_hold(const struct line *line, sigset_t *ret_before)
{
        sigset_t all;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, ret_before);
        return line->fork_generation == fork_generation && line->pid == getpid();
}

void line_let_go(const sigset_t *before)
{
        pthread_sigmask(SIG_SETMASK, before, NULL);
}

static void send_out(struct line *line, const struct wire *w)
{
        sigset_t before;

        if (!line_hold(line, &before) || w->is_over ||
                        send(line->fd, w->data, w->at, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t) w->at)
                line->is_broken = true;
        line_let_go(&before);
}

static struct line *line_free(struct line *line)
{
        if (line->fd >= 0)
                raw_close(line->fd);
        munmap(line, sizeof *line);
        return NULL;
}

static void say_hello(struct line *line)
{
        struct wire w = {.data = line->out, .size = sizeof line->out};

        wire_put_hello(&w, SERIAL_HELLO);
        wire_put_call(&w, &(struct wire_call){.destination = CTXD_BUS_NAME,
                                          .path = CTXD_OBJECT,
                                          .interface = CTXD_MANAGER_INTERFACE,
                                          .member = "Alive",
                                          .types = "",
                                          .serial = SERIAL_ALIVE,
                                          .flags = WIRE_NO_AUTO_START});
        line->serial = SERIAL_ALIVE;
        send_out(line, &w);
}

/* It does not wait. *ret_full: the queue was full. */
static struct line *line_open(const struct line_place *place, bool *ret_full)
{
        struct line *line =
                        mmap(NULL, sizeof *line, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        sigset_t before;

        if (line == MAP_FAILED)
                return NULL;
        (void) line_hold(line, &before);
        line->pid = getpid();
        line->fork_generation = fork_generation;
        line->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (line->fd < 0 || connect(line->fd, (const struct sockaddr *) &place->address, place->length) < 0) {
                *ret_full = line->fd >= 0 && errno == EAGAIN;
                line->is_broken = true;
        } else {
                say_hello(line);
        }
        line_let_go(&before);
        return line->is_broken ? line_free(line) : line;
}

static uint64_t this_threads_rights(void)
{
        return (uint64_t) geteuid() << 32 | getegid();
}

/* NULL: none can be opened now. The process may have given up rights since, or have more for a moment: a line
 * with those is not for what is asked elsewhere. */
static const struct line_address *address_of(struct ctx_client *client)
{
        return this_threads_rights() == atomic_load(&client->rights) ? atomic_load(&client->line_address)
                                                                     : NULL;
}

/* As sd-bus does it: the first address that answers. */
static struct line *open_first(struct ctx_client *client, bool *ret_full)
{
        unsigned generation = atomic_load(&client->line_generation);
        const struct line_address *a = address_of(client);
        struct line *line = NULL;

        *ret_full = false;
        for (size_t i = 0; a && i < a->n && !line && !*ret_full; i++)
                line = line_open(a->places + i, ret_full);
        if (line)
                line->generation = generation;
        return line;
}

/* Nothing says when there is room in a queue that is full. So it is tried again after pauses, which become
 * longer, as long as an answer would be awaited. */
struct line *line_open_new(struct ctx_client *client)
{
        uint64_t limit = client_limit(), silence = now_monotonic_usec() + LINE_SILENCE_USEC,
                 pause = FULL_MIN_USEC;
        struct line *line;
        bool is_full;

        while (!(line = open_first(client, &is_full)) && is_full) {
                uint64_t now = now_monotonic_usec();

                if (now >= limit || now >= silence)
                        break;
                raw_sleep((long) pause * 1000);
                pause = pause * 2 < FULL_MAX_USEC ? pause * 2 : FULL_MAX_USEC;
        }
        return line;
}

/* The other end was closed, or the client has come to another daemon. */
static bool has_ended(const struct ctx_client *client, const struct line *line)
{
        struct pollfd pollfd = {.fd = line->fd, .events = POLLRDHUP};

        if (line->generation != atomic_load(&client->line_generation))
                return true;
        return syscall(SYS_ppoll, &pollfd, 1, &(struct timespec){}, NULL, 0) > 0;
}

static struct line *take_kept(struct ctx_client *client)
{
        for (size_t i = 0; i < LINES_KEPT; i++) {
                struct line *line = atomic_exchange(&client->lines[i], NULL);

                if (line && !has_ended(client, line))
                        return line;
                if (line)
                        line_free(line);
        }
        return NULL;
}

/* Those that lead to an earlier daemon, or have other rights, are not used any more. */
void line_prepare(struct ctx_client *client, bool is_another)
{
        uint64_t rights = this_threads_rights(), before;
        bool is_full = false;
        struct line *line;

        line_set_address(client);
        before = atomic_exchange(&client->rights, rights);
        if (is_another || before != rights)
                atomic_fetch_add(&client->line_generation, 1);
        line = take_kept(client);
        if (!line)
                line = open_first(client, &is_full);
        if (line)
                line_give(client, line);
        atomic_store(&client->is_line_refused, !line && !is_full);
}

void line_free_all(struct ctx_client *client)
{
        struct line_address *a = client->line_addresses, *next;

        for (size_t i = 0; i < LINES_KEPT; i++) {
                struct line *line = atomic_exchange(&client->lines[i], NULL);

                if (line)
                        line_free(line);
        }
        for (; a; a = next) {
                next = a->next;
                free(a);
        }
}

struct line *line_take(struct ctx_client *client)
{
        struct line *line = take_kept(client);

        return line ? line : line_open_new(client);
}

void line_give(struct ctx_client *client, struct line *line)
{
        for (size_t i = 0; i < LINES_KEPT && !line->is_broken; i++) {
                struct line *none = NULL;

                if (atomic_compare_exchange_strong(&client->lines[i], &none, line))
                        return;
        }
        line_free(line);
}

void line_drop(struct line *line)
{
        line_free(line);
}

static void sleep_until(struct line *line, uint64_t until_usec)
{
        struct pollfd pollfd = {.fd = line->fd, .events = POLLIN};
        uint64_t now = now_monotonic_usec();
        struct timespec ts = timespec_of_usec(until_usec > now ? until_usec - now : 0);

        if (syscall(SYS_ppoll, &pollfd, 1, &ts, NULL, 0) < 0 && errno != EINTR)
                raw_sleep(POLL_FAILED_NSEC);
}

static void ping(struct line *line)
{
        struct wire w = {.data = line->out, .size = sizeof line->out};

        wire_put_call(&w, &(struct wire_call){.destination = line->daemon[0] ? line->daemon : CTXD_BUS_NAME,
                                          .path = CTXD_OBJECT,
                                          .interface = "org.freedesktop.DBus.Peer",
                                          .member = "Ping",
                                          .types = "",
                                          .serial = ++line->serial,
                                          .flags = WIRE_NO_AUTO_START});
        send_out(line, &w);
}

/* Waits for the answer as long as the daemon says something at all; with patient, as long as the connection
 * is there. */
static int await(struct line *line, uint32_t serial, bool patient)
{
        uint64_t began = now_monotonic_usec(), now = began, pinged = began, limit = client_limit();
        int r;

        if (patient)
                limit = patience_until_usec == CTX_NEVER ? UINT64_MAX : limit;
        line->heard_usec = began;
        /* The time is that before the look: the process may be stopped right after it. */
        for (; (r = line_look(line, serial)) == 0; now = now_monotonic_usec()) {
                uint64_t until = now + LINE_PING_USEC;

                if (now >= limit || (!patient && now >= line->heard_usec + LINE_SILENCE_USEC))
                        return 0;
                if (!patient && now >= pinged + LINE_PING_USEC) {
                        ping(line);
                        pinged = now;
                }
                if (line->is_broken) {
                        r = -ECONNRESET;
                        break;
                }
                sleep_until(line, until < limit ? until : limit);
        }
        if (r < 0)
                line->is_broken = true;
        return r;
}

/* 1, 0 or -ECONNRESET. */
static int make_ready(struct line *line, bool patient)
{
        int r = line->is_ready ? 1 : await(line, SERIAL_ALIVE, patient);

        if (r <= 0 || line->is_ready)
                return r;
        if (!line->stream.message.is_error) {
                (void) wire_get_u32(&line->stream.message.body);
                line->epoch = wire_get_u64(&line->stream.message.body);
        } else if (strcmp(line->stream.message.error, SD_BUS_ERROR_UNKNOWN_METHOD) != 0) {
                line->is_broken = true;
                return -ECONNRESET;
        }
        strncpy(line->daemon, *line->stream.message.sender ? line->stream.message.sender : CTXD_BUS_NAME,
                        sizeof line->daemon - 1);
        line->is_ready = true;
        return 1;
}

int line_epoch(struct line *line, uint64_t *ret)
{
        int r = make_ready(line, false);

        if (r > 0)
                *ret = line->epoch;
        return r;
}

void line_keep_ready(struct ctx_client *client)
{
        struct line *line = atomic_load(&client->is_line_refused) ? NULL : line_take(client);
        int r = line ? make_ready(line, false) : -ENOTCONN;

        if (line)
                line_give(client, line);
        if (r >= 0)
                return;
        /* No descriptor was left, or its user may not have so many connections. */
        atomic_store(&client->is_line_refused, true);
        watch_for_kicks();
}

static int call(struct ctx_client *client, struct line *line, struct wire_call *c, bool patient)
{
        struct wire w = {.data = line->out, .size = sizeof line->out};
        int r = make_ready(line, patient);

        if (r <= 0)
                return r;
        c->destination = line->daemon;
        c->path = CTXD_OBJECT;
        c->interface = CTXD_MANAGER_INTERFACE;
        c->serial = ++line->serial;
        c->flags |= WIRE_NO_AUTO_START;
        wire_put_call(&w, c);
        send_out(line, &w);
        if (line->is_broken)
                return -ECONNRESET;
        r = await(line, c->serial, patient);
        if (r <= 0 || !line->stream.message.is_error)
                return r;
        /* The daemon has gone from the bus since. */
        if (strcmp(line->stream.message.error, SD_BUS_ERROR_NAME_HAS_NO_OWNER) == 0 ||
                        strcmp(line->stream.message.error, SD_BUS_ERROR_SERVICE_UNKNOWN) == 0 ||
                        strcmp(line->stream.message.error, SD_BUS_ERROR_NO_REPLY) == 0) {
                line->is_broken = true;
                return -ECONNRESET;
        }
        return client_named_error(client, line->stream.message.error,
                        *line->stream.message.types == 's' ? wire_get_string(&line->stream.message.body)
                                                           : NULL);
}

int line_call(struct ctx_client *client, struct line *line, const char *member, const char *types,
                const char *reference)
{
        return call(client, line, &(struct wire_call){.member = member, .types = types, .text = reference},
                        false);
}

bool line_wants_authorization(const struct line *line)
{
        return line->stream.message.is_error &&
               strcmp(line->stream.message.error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED) == 0;
}

static struct line *open_to_bus(struct ctx_client *client)
{
        const struct line_address *a = address_of(client);
        bool is_full;

        return a && a->bus.length > 0 ? line_open(&a->bus, &is_full) : NULL;
}

int line_call_interactively(struct ctx_client *client, const char *member, const char *types,
                const char *reference, struct line **ret)
{
        struct wire_call c = {.member = member, .types = types, .text = reference, .flags = WIRE_INTERACTIVE};
        struct line *line = open_to_bus(client);
        int r = line ? call(client, line, &c, true) : -EACCES;

        if (line)
                line->is_broken = true; /* it is for this call alone */
        *ret = line;
        return r;
}

uint32_t line_read_u32(struct line *line)
{
        return wire_get_u32(&line->stream.message.body);
}

uint64_t line_read_u64(struct line *line)
{
        return wire_get_u64(&line->stream.message.body);
}

const char *line_read_string(struct line *line)
{
        return wire_get_string(&line->stream.message.body);
}
