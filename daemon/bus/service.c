/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/bus/broker.h"
#include "daemon/bus/connection.h"
#include "daemon/bus/peer.h"
#include "daemon/bus/receive.h"
#include "daemon/bus/service.h"
#include "daemon/bus/vtables.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

int endpoint_add_objects(struct endpoint *e)
{
        int r;

        r = sd_bus_add_object_vtable(e->bus, NULL, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, manager_vtable, e);
        if (r >= 0)
                r = sd_bus_add_fallback_vtable(e->bus, NULL, CTXD_CONTEXT_OBJECT, CTXD_CONTEXT_INTERFACE,
                                context_vtable, context_find, e);
        if (r >= 0)
                r = sd_bus_add_node_enumerator(e->bus, NULL, CTXD_CONTEXT_OBJECT, context_enumerate, e);
        return r;
}

uint32_t service_drain(struct service *s, const struct context *origin)
{
        uint32_t n = engine_drain(s->engine, origin);

        service_tell(s);
        engine_collect(s->engine);
        return n;
}

void service_finish(struct service *s)
{
        do
                service_drain(s, NULL);
        while (tree_advance(s->tree, now_boottime_usec()));
}

static int on_turn(sd_event_source *source, void *userdata)
{
        struct service *s = userdata;

        (void) tree_advance(s->tree, now_boottime_usec());
        service_drain(s, NULL);
        return 0;
}

int service_init(struct service *s, sd_event *event, struct tree *tree)
{
        sd_id128_t id;
        int r;

        *s = (struct service){.tree = tree, .listen_fd = -1, .reserve_fd = -1};
        LIST_INIT(&s->connections);
        LIST_INIT(&s->subscriptions);
        LIST_INIT(&s->laters);
        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        sd_id128_to_string(id, s->server_id);
        s->event = sd_event_ref(event);
        r = turn_init(&s->turn, event, "drain", on_turn, s);
        return r < 0 ? r : engine_new(&s->engine, event, tree, &s->turn);
}

void service_deinit(struct service *s)
{
        while (!LIST_EMPTY(&s->connections))
                connection_free(LIST_FIRST(&s->connections));
        s->broker = broker_free(s->broker);
        s->listen_source = sd_event_source_disable_unref(s->listen_source);
        s->pause_source = sd_event_source_disable_unref(s->pause_source);
        if (s->socket_path)
                unlink(s->socket_path);
        free(s->socket_path);
        closep(&s->listen_fd);
        closep(&s->reserve_fd);
        s->engine = engine_free(s->engine);
        turn_deinit(&s->turn);
        s->event = sd_event_unref(s->event);
}

#define PAUSE_USEC 100000
#define WARN_INTERVAL_USEC (60 * UINT64_C(1000000))

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct service *s = userdata;

        s->pause_source = sd_event_source_unref(s->pause_source);
        (void) sd_event_source_set_enabled(s->listen_source, SD_EVENT_ON);
        return 0;
}

/* A connection that cannot be accepted stays in the queue, and would wake the loop for ever. */
static void pause_listening(struct service *s)
{
        if (!s->pause_source && sd_event_add_time_relative(s->event, &s->pause_source, CLOCK_MONOTONIC,
                                                PAUSE_USEC, 0, on_pause_over, s) < 0)
                return;
        (void) sd_event_source_set_enabled(s->listen_source, SD_EVENT_OFF);
}

/* One descriptor is kept in reserve. It is closed, so that the connection can be accepted and closed. */
static void turn_away(struct service *s)
{
        int fd;

        if (s->reserve_fd < 0)
                s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (s->reserve_fd < 0) {
                pause_listening(s);
                return;
        }
        closep(&s->reserve_fd);
        fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        closep(&fd);
        s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void warn_of_full_table(struct service *s)
{
        uint64_t now = now_boottime_usec();

        if (s->warned_usec > 0 && now - s->warned_usec < WARN_INTERVAL_USEC)
                return;
        s->warned_usec = now;
        log_warning("No descriptor is left for a new connection; LimitNOFILE= raises the limit");
}

static int on_connection(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata)
{
        struct service *s = userdata;
        int fd, r;

        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno == EMFILE && engine_give_back_descriptors(s->engine))
                fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
                if (errno == EMFILE || errno == ENFILE) {
                        warn_of_full_table(s);
                        turn_away(s);
                } else if (errno == ENOMEM || errno == ENOBUFS) {
                        pause_listening(s);
                }
                return 0; /* this client made a fault, or has gone; others are not concerned */
        }
        r = connection_accept(s, fd);
        if (r < 0)
                log_debug("A connection was not taken: %s", strerror(-r));
        return 0;
}

int service_take_socket(struct service *s, int listen_fd)
{
        _cleanup_close_ int fd = listen_fd;
        int flags = fcntl(fd, F_GETFL), r;

        if (!receive_takes_effect())
                log_warning("sd-bus does not receive by the function that counts for it: one client can take "
                            "all "
                            "descriptors and much memory");

        /* Not blocking: the first client in the queue may have gone by the time that we accept it. */
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        r = sd_event_add_io(s->event, &s->listen_source, fd, EPOLLIN, on_connection, s);
        if (r < 0)
                return r;
        s->listen_fd = TAKE_FD(fd);
        return 0;
}

int service_listen(struct service *s, const char *path)
{
        union {
                struct sockaddr address;
                struct sockaddr_un un;
        } a = {.un.sun_family = AF_UNIX};
        _cleanup_close_ int fd = -1;

        if (strlen(path) >= sizeof a.un.sun_path)
                return -ENAMETOOLONG;
        strcpy(a.un.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        /* If another daemon listens there we must not take its path. */
        if (connect(fd, &a.address, sizeof a.un) >= 0)
                return -EADDRINUSE;
        closep(&fd);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        unlink(path);
        if (bind(fd, &a.address, sizeof a.un) < 0 || chmod(path, 0666) < 0 || listen(fd, SOMAXCONN) < 0)
                return -errno;
        s->socket_path = strdup(path);
        return s->socket_path ? service_take_socket(s, TAKE_FD(fd)) : -ENOMEM;
}

int service_own_name(struct service *s, bool user)
{
        int r = broker_new(s, user, &s->broker);

        while (r >= 0 && (r = broker_owns_name(s->broker)) == 0 &&
                        sd_event_get_state(s->event) != SD_EVENT_FINISHED)
                r = sd_event_run(s->event, UINT64_MAX);
        return r;
}
