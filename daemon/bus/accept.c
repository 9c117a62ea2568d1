/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Listens, and accepts who connects.
 *
 * The kernel has one queue of those who connect, for all users, and who comes first is first. So a user who
 * connects without end keeps it full. Then others wait for a place in it, which the kernel gives to those who
 * wait in connect() one after the other, and then for all who are before them. Three things make that short.
 * The queue is short. The accept does as little as it can: it finds out whose connection it is, and whether
 * that uid may have one more. If not, it is closed at once; all else waits for a turn of the uid. And to
 * accept is a turn of its own, of nobody's uid, which no crowd holds up. What it takes is charged to the uid
 * whose connection it was, too, so a uid that connects without end has its other turns after the accepts.
 *
 * What is left is the time of as many accepts as the queue has places, and of as many more as another user
 * has threads that wait in connect(). The kernel offers nothing against that: a listening socket of AF_UNIX
 * cannot be shared out, as those of TCP can, and does not say who waits before it is accepted. */

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/bus/connection.h"
#include "daemon/bus/receive.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* So many may wait to be accepted: as many as are accepted, or closed, in half a millisecond. Where there
 * are more, who waits in connect() goes on waiting there, and who does not has to try again. */
#define QUEUE 32
/* What an accept costs, and a little more, so that who connects without end has its turns after that. */
#define ACCEPT_USEC 16
#define PAUSE_USEC 100000
#define REFUSED_USEC 10000

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct service *s = userdata;

        s->pause_source = sd_event_source_unref(s->pause_source);
        taker_wait(&s->listener);
        return 0;
}

/* A connection that cannot be accepted stays in the queue, and would wake the loop for ever. */
static void pause_listening(struct service *s, uint64_t usec)
{
        if (!s->pause_source && sd_event_add_time_relative(s->event, &s->pause_source, CLOCK_MONOTONIC, usec,
                                                0, on_pause_over, s) < 0)
                return;
        (void) taker_watch(&s->listener, s->listen_fd, 0);
}

static uid_t uid_of(int fd)
{
        struct ucred cred;

        return peer_credentials(fd, &cred) < 0 ? TURNS_OF_NOBODY : cred.uid;
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
                        pause_listening(s, PAUSE_USEC);
                return -1;
        }
        if (uid_of(fd) == 0)
                return fd;
        foreign_refuse(engine_foreign(s->engine), fd);
        return -1;
}

static int take_connection(struct service *s, int fd)
{
        uid_t uid = uid_of(fd);
        int r;

        (void) reserve_lend(&s->reserve, uid);
        r = connection_accept(s, fd, uid);
        turns_spend(&s->turns, uid, ACCEPT_USEC);
        reserve_note(&s->reserve, &s->tree->users, r);
        return r;
}

/* Whether there was one. */
static bool accept_one(struct service *s)
{
        int fd, r;

        if (!foreign_may_refuse(engine_foreign(s->engine))) {
                pause_listening(s, REFUSED_USEC);
                return false;
        }
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

static void accept_some(struct taker *taker)
{
        struct service *s = (struct service *) ((char *) taker - offsetof(struct service, listener));
        uint64_t until = now_monotonic_usec() + TURN_USEC;
        bool more = !s->pause_source;

        while (more && now_monotonic_usec() < until) {
                more = accept_one(s);
                if (s->reserve.is_short)
                        reserve_refill(&s->reserve);
        }
        if (more)
                taker_wait(taker);
        else if (!s->pause_source && taker_watch(taker, s->listen_fd, EPOLLIN) < 0)
                pause_listening(s, PAUSE_USEC);
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
        /* systemd has opened it with a longer queue. */
        if (listen(fd, QUEUE) < 0)
                return -errno;
        /* So nobody has to close what a connection brings that is not taken, or never authenticates. By the
         * protocol a client sends no descriptor before we have agreed to that. */
        connection_let_send_fds(fd, false);
        reserve_refill(&s->reserve);
        r = taker_init(&s->listener, &s->turns, TURNS_OF_NOBODY, accept_some);
        if (r >= 0)
                r = taker_watch(&s->listener, fd, EPOLLIN);
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
        return r < 0 ? r : service_take_socket(s, TAKE_FD(fd));
}
