/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Listens, and accepts who connects. The queue of the kernel is one for all, so it is emptied fast: who has
 * connected waits for a turn of its uid before anything else is done for it. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/bus/connection.h"
#include "daemon/bus/receive.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

#define PAUSE_USEC 100000

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

static uid_t uid_of(int fd)
{
        struct ucred cred;

        return peer_credentials(fd, &cred) < 0 ? (uid_t) -1 : cred.uid;
}

/* For root there are descriptors and memory in reserve. With those, others can at least be turned away. */
static int accept_with_reserve(struct service *s, int error)
{
        int fd;

        reserve_note(&s->reserve, &s->tree->users, error);
        reserve_give(&s->reserve);
        fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
                if (reserve_is_about(-errno))
                        pause_listening(s);
                return -1;
        }
        if (uid_of(fd) == 0)
                return fd;
        close(fd);
        return -1;
}

static int take_connection(struct service *s, int fd)
{
        int r;

        if (s->reserve.is_short)
                (void) reserve_lend(&s->reserve, uid_of(fd));
        r = connection_accept(s, fd);
        reserve_note(&s->reserve, &s->tree->users, r);
        return r;
}

/* Whether there was one. */
static bool accept_one(struct service *s)
{
        int fd, r;

        fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno == EMFILE && engine_give_back_descriptors(s->engine))
                fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && reserve_is_about(-errno))
                fd = accept_with_reserve(s, -errno);
        if (fd < 0)
                return false; /* this client made a fault, or has gone; others are not concerned */
        r = take_connection(s, fd);
        if (r < 0)
                log_debug("A connection was not taken: %s", strerror(-r));
        return true;
}

static int on_connection(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata)
{
        uint64_t until = now_monotonic_usec() + TURNS_USEC;
        struct service *s = userdata;
        bool more = true;

        while (more && now_monotonic_usec() < until) {
                more = accept_one(s);
                if (s->reserve.is_short)
                        reserve_refill(&s->reserve);
        }
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
        reserve_refill(&s->reserve);
        r = sd_event_add_io(s->event, &s->listen_source, fd, EPOLLIN, on_connection, s);
        if (r < 0)
                return r;
        s->listen_fd = TAKE_FD(fd);
        return 0;
}

int service_listen(struct service *s, const char *path, const char **ret_why)
{
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int r;

        *ret_why = NULL;
        if (fd < 0)
                return -errno;
        r = socket_file_bind(&s->socket_file, fd, path, 0666, ret_why);
        if (r >= 0 && listen(fd, SOMAXCONN) < 0)
                r = -errno;
        return r < 0 ? r : service_take_socket(s, TAKE_FD(fd));
}
