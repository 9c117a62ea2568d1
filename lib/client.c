/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/shared-context.h"
#include "lib/page.h"

#define DIRECT_ADDRESS "unix:path=" CTXD_SYSTEM_SOCKET

static int open_bus(const char *address, sd_bus **ret)
{
        sd_bus *bus = NULL;
        int r;

        if (!address) {
                r = sd_bus_open_system(&bus);
        } else {
                r = sd_bus_new(&bus);
                if (r >= 0)
                        r = sd_bus_set_address(bus, address);
                /* The direct socket answers Hello as a broker does, so an address may name either. */
                if (r >= 0)
                        r = sd_bus_set_bus_client(bus, 1);
                if (r >= 0)
                        r = sd_bus_start(bus);
        }
        if (r < 0) {
                sd_bus_unref(bus);
                return r;
        }
        *ret = bus;
        return 0;
}

static int ping(sd_bus *bus, sd_bus_error *error)
{
        return sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, "org.freedesktop.DBus.Peer", "Ping", error,
                        NULL, NULL);
}

/* Connects, and sees that a daemon answers. */
static int reach(struct ctx_client *client)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        char text[512];
        sd_bus *bus;
        int r;

        r = open_bus(client->address, &bus);
        if (r < 0) {
                snprintf(text, sizeof text, "Cannot reach ctxd at %s: %s",
                                client->address ? client->address : "the system bus", strerrordesc_np(-r));
                return client_failed(client, r, text);
        }
        r = ping(bus, &error);
        if (r < 0) {
                client_failed(client, r, error.message);
                sd_bus_error_free(&error);
                sd_bus_close(bus);
                sd_bus_unref(bus);
                return r;
        }
        client->bus = bus;
        return 0;
}

/* Where to: as told, else the direct socket if somebody is there, else the system bus (address NULL). */
static int find(struct ctx_client *client, const char *address)
{
        bool given = address;
        int r;

        if (!address)
                address = secure_getenv(CTXD_ENV_ADDRESS);
        given = address;
        client->address = strdup(address ? address : DIRECT_ADDRESS);
        if (!client->address)
                return -ENOMEM;
        if (given) {
                client->reached = strdup(address);
                if (!client->reached)
                        return -ENOMEM;
        }
        r = reach(client);
        if (r >= 0 || given)
                return r;
        free(client->address);
        client->address = NULL;
        return reach(client);
}

static void destroy(struct ctx_client *client)
{
        if (client->bus && !client_is_inherited(client))
                sd_bus_flush_close_unref(client->bus);
        else
                sd_bus_unref(client->bus); /* closes our copies of its descriptors, sends nothing */
        page_free_all(client->pages);
        thread_map_free(client->threads);
        pthread_mutex_destroy(&client->lock);
        free(client->address);
        free(client->reached);
        free(client);
}

struct ctx_client *ctx_client_new(const char *address)
{
        struct ctx_client *client = calloc(1, sizeof *client);
        int r;

        if (!client)
                return NULL;
        client->refs = 1;
        client->pid = getpid();
        client->fork_generation = fork_generation;
        pthread_mutex_init(&client->lock, NULL);
        r = find(client, address);
        if (r < 0) {
                client_failed(NULL, r, r == -ENOMEM ? NULL : ctx_client_error(client));
                destroy(client);
                errno = -r;
                return NULL;
        }
        return client;
}

struct ctx_client *client_ref(struct ctx_client *client)
{
        atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
        return client;
}

struct ctx_client *ctx_client_unref(struct ctx_client *client)
{
        if (client && atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel) == 1)
                destroy(client);
        return NULL;
}

bool client_is_inherited(const struct ctx_client *client)
{
        return client->pid != getpid();
}

/* A daemon that was restarted has closed its end; what is sent there is lost. */
static bool is_alive(sd_bus *bus)
{
        struct pollfd pollfd = {.fd = sd_bus_get_fd(bus), .events = POLLRDHUP};

        return sd_bus_is_open(bus) > 0 && poll(&pollfd, 1, 0) == 0;
}

int client_begin(struct ctx_client *client)
{
        int r = 0;

        if (client_is_inherited(client))
                return client_failed(client, -ECHILD,
                                "This connection belongs to the process that made it, before a fork");
        pthread_mutex_lock(&client->lock);
        if (client->bus && !is_alive(client->bus)) {
                sd_bus_close(client->bus);
                client->bus = sd_bus_unref(client->bus);
        }
        if (!client->bus)
                r = reach(client);
        if (r < 0) {
                pthread_mutex_unlock(&client->lock);
                return r;
        }
        return 0;
}

void client_end(struct ctx_client *client)
{
        pthread_mutex_unlock(&client->lock);
}
