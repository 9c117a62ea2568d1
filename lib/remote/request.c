/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "lib/local/patience.h"
#include "lib/local/raw.h"
#include "lib/remote/client.h"

/* Requests to the daemon, and waiting for their answers.
 *
 * Several threads may wait on one connection. One of them polls it, without the lock, and the others sleep on
 * a futex. It reads for all: what has come goes to the request that it answers. Then it wakes the others, and
 * one of those polls next. While a thread polls, nobody else reads. Else that thread could sleep although its
 * own answer has come. */

/* If the kernel does not let it poll, the thread looks from time to time. */
#define POLL_FAILED_NSEC 1000000

uint64_t client_limit(void)
{
        uint64_t limit = now_monotonic_usec() + CLIENT_ANSWER_USEC, now, left;

        if (patience_until_usec == CTX_NEVER)
                return limit;
        now = now_boottime_usec();
        left = patience_until_usec > now ? patience_until_usec - now : 0;
        return left < CLIENT_ANSWER_USEC ? limit - CLIENT_ANSWER_USEC + left : limit;
}

static void tell_news(struct ctx_client *client)
{
        atomic_fetch_add(&client->news, 1);
        if (client->n_sleepers > 0)
                futex_wake_all(&client->news);
}

static void end(struct ctx_client *client, struct client_request *request, int r, sd_bus_message *answer)
{
        TAILQ_REMOVE(&client->requests, request, of_client);
        request->is_open = false;
        request->r = r;
        if (request->on_end)
                request->on_end(request, r, answer);
        else
                request->answer = sd_bus_message_ref(answer);
}

void client_close(struct ctx_client *client, sd_bus *bus)
{
        if (!bus)
                return;
        if (bus == client->polled) {
                /* Its number must not become another file's. That thread wakes, and closes it. */
                shutdown(sd_bus_get_fd(bus), SHUT_RDWR);
                return;
        }
        sd_bus_close(bus);
        sd_bus_unref(bus);
}

void client_drop(struct ctx_client *client, int r)
{
        struct client_request *request;
        sd_bus *bus = client->bus;

        client->bus = NULL;
        client_close(client, bus);
        while ((request = TAILQ_FIRST(&client->requests)))
                end(client, request, client_bus_error(r), NULL);
        tell_news(client);
}

int client_request(struct ctx_client *client, struct client_request *request, sd_bus_message *m)
{
        int r = client->bus ? sd_bus_send(client->bus, m, &request->cookie) : -ENOTCONN;

        if (r < 0) {
                client_drop(client, r);
                return r;
        }
        request->is_open = true;
        TAILQ_INSERT_TAIL(&client->requests, request, of_client);
        return 0;
}

int client_tell(struct ctx_client *client, sd_bus_message *m)
{
        int r;

        if (!client->bus)
                return -ENOTCONN;
        r = sd_bus_message_set_expect_reply(m, 0);
        if (r >= 0)
                r = sd_bus_send(client->bus, m, NULL);
        return r < 0 ? r : 0;
}

void client_forget(struct ctx_client *client, struct client_request *request)
{
        if (!request->is_open)
                return;
        TAILQ_REMOVE(&client->requests, request, of_client);
        request->is_open = false;
}

static void deliver(struct ctx_client *client, sd_bus_message *m)
{
        struct client_request *request;
        uint64_t cookie;

        if (sd_bus_message_get_reply_cookie(m, &cookie) < 0)
                return;
        client->heard_usec = now_monotonic_usec();
        TAILQ_FOREACH (request, &client->requests, of_client)
                if (request->cookie == cookie) {
                        end(client, request, 0, m);
                        return;
                }
}

/* Nothing more is expected. To find out that nothing has come costs a system call. */
static bool is_idle(struct ctx_client *client)
{
        return TAILQ_EMPTY(&client->requests) && !(sd_bus_get_events(client->bus) & POLLOUT);
}

void client_read(struct ctx_client *client)
{
        while (client->bus && !client->polled) {
                sd_bus_message *m = NULL;
                int r = sd_bus_process(client->bus, &m);

                if (m)
                        deliver(client, m);
                if (r > 0 && sd_bus_is_open(client->bus) <= 0)
                        r = -ECONNRESET;
                if (r < 0)
                        client_drop(client, r);
                else if (m && is_idle(client))
                        r = 0;
                sd_bus_message_unref(m);
                if (r <= 0)
                        return;
        }
}

static void sleep_until(struct ctx_client *client, uint64_t until_usec)
{
        uint64_t now = now_monotonic_usec();
        uint32_t seen = atomic_load(&client->news);

        client->n_sleepers++;
        lock_release(&client->lock);
        futex_wait_for(&client->news, seen, until_usec > now ? until_usec - now : 0);
        lock_acquire(&client->lock);
        client->n_sleepers--;
}

void client_wait(struct ctx_client *client, uint64_t until_usec)
{
        sd_bus *bus = client->bus ? client->bus : client->attempt.bus;
        uint64_t now = now_monotonic_usec();
        struct timespec ts = timespec_of_usec(until_usec > now ? until_usec - now : 0);
        struct pollfd pollfd;

        if (client->polled || !bus) {
                sleep_until(client, until_usec);
                return;
        }
        pollfd = (struct pollfd){.fd = sd_bus_get_fd(bus), .events = (short) sd_bus_get_events(bus)};
        client->polled = bus;
        lock_release(&client->lock);
        if (ppoll(&pollfd, 1, &ts, NULL) < 0 && errno != EINTR)
                raw_sleep(POLL_FAILED_NSEC);
        lock_acquire(&client->lock);
        client->polled = NULL;
        if (bus != client->bus && bus != client->attempt.bus)
                client_close(client, bus);
        client_read(client);
        tell_news(client);
}
