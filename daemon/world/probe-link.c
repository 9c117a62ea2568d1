/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/world/internal.h"
#include "daemon/world/proc.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/utf8.h"

/* The probe is told of every done context that has members, and tells what it finds. Nothing here ever waits
 * for it: what its socket does not take at once is queued, and a probe that takes nothing for a long time is
 * given up, as is one that says what it must not. Its maps and links stay (membership-bpf.c) and are offered
 * to the next. */

#define RECORDS_AT_ONCE 256

static void backends_changed(struct effects *e)
{
        if (e->sink->backends_changed)
                e->sink->backends_changed(e->userdata);
}

static void set_reason(struct effects *e, const char *reason)
{
        snprintf(e->link.reason, sizeof e->link.reason, "%s", reason);
}

void probe_link_init(struct effects *e)
{
        probe_connection_init(&e->link.connection);
        e->link.listen_fd = e->link.child_pidfd = -1;
        STAILQ_INIT(&e->link.queue);
        set_reason(e, "the probe has not been started");
}

void probe_link_lost(struct effects *e, const char *why)
{
        struct probe_link *l = &e->link;

        if (l->connection.fd < 0) {
                if (!l->said_hello && why)
                        set_reason(e, why);
                return;
        }
        l->source = sd_event_source_disable_unref(l->source);
        probe_connection_close(&l->connection);
        probe_queue_clear(l);
        set_reason(e, why);
        if (l->said_hello)
                log_warning("The probe is gone: %s", why);
        l->said_hello = false;
        l->backend = PROBE_BACKEND_OFF;
        /* One of ours that hangs, or talks nonsense, is ended, and started again. */
        if (l->child_pidfd >= 0 && l->child_source)
                (void) pidfd_signal(l->child_pidfd, SIGKILL);
        backends_changed(e);
}

static int got_hello(struct effects *e, struct probe_message *m)
{
        struct probe_link *l = &e->link;
        struct probe_hello *hello = &m->hello;
        bool with_fds = hello->backend == PROBE_BACKEND_BPF && !(hello->kept && e->membership.bpf);
        int r;

        (void) utf8_mend(hello->reason);
        if (l->said_hello || hello->version != PROBE_PROTOCOL_VERSION || hello->backend > PROBE_BACKEND_BPF ||
                        (with_fds && m->n_fds == 0))
                return -EPROTO;
        if (with_fds) {
                r = membership_use_bpf(e, m->fds);
                if (r < 0) {
                        log_warning("Cannot use the probe's maps: %s", strerror(-r));
                        return r;
                }
                m->n_fds = 0; /* they are kept */
        }
        l->said_hello = true;
        l->backend = (enum probe_backend) hello->backend;
        set_reason(e, hello->reason);
        leaks_probe_new(e);
        backends_changed(e);
        probe_announce_all(e);
        return 0;
}

static int got_record(struct effects *e, struct probe_message *m)
{
        if (m->header.type == PROBE_HELLO)
                return got_hello(e, m);
        if (!e->link.said_hello)
                return -EPROTO;
        switch (m->header.type) {
        case PROBE_LEAK:
                leaks_add(e, &m->leak);
                return 0;
        case PROBE_RESOLVED:
                leaks_resolve(e, &m->resolved);
                return 0;
        case PROBE_SWEPT:
                e->link.last_sweep_usec = m->swept.when_usec;
                return 0;
        default:
                return -EPROTO;
        }
}

/* 1: a record was taken, 0: there is none, or the connection's end. */
static int receive(struct effects *e)
{
        struct probe_message m;
        int r;

        r = probe_connection_receive(&e->link.connection, &m);
        if (r > 0) {
                r = got_record(e, &m) < 0 ? -EPROTO : 1;
                probe_message_close(&m);
        }
        return r;
}

static void receive_all(struct effects *e)
{
        int r = 1;

        for (unsigned i = 0; i < RECORDS_AT_ONCE && r > 0; i++)
                r = receive(e);
        if (r == -EPROTO)
                probe_link_lost(e, "it does not speak our language");
        else if (r < 0)
                probe_link_lost(e, "its connection has ended");
}

static int link_ready(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct effects *e = userdata;

        receive_all(e);
        if (e->link.connection.fd >= 0 && (revents & EPOLLOUT))
                probe_queue_flush(e);
        effects_event(e);
        return 0;
}

int probe_link_connected(struct effects *e, int fd)
{
        struct probe_link *l = &e->link;
        int r;

        r = sd_event_add_io(e->event, &l->source, fd, EPOLLIN, link_ready, e);
        if (r < 0) {
                close(fd);
                return r;
        }
        (void) sd_event_source_set_description(l->source, "probe");
        probe_connection_open(&l->connection, fd);
        l->said_hello = false;
        set_reason(e, "the probe has not answered yet");
        r = probe_send_welcome(e);
        if (r < 0)
                probe_link_lost(e, strerror(-r));
        return r;
}

static int accept_ready(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        _cleanup_close_ int peer = -1;
        struct effects *e = userdata;
        struct ucred credentials;
        socklen_t size = sizeof credentials;

        peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (peer < 0)
                return 0;
        if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0 ||
                        credentials.uid != e->link.uid) {
                log_warning("Process %d of uid %u is not the probe", (int) credentials.pid,
                                (unsigned) credentials.uid);
                return 0;
        }
        if (e->link.connection.fd >= 0) {
                log_warning("Process %d wants to be the probe, but there is one", (int) credentials.pid);
                return 0;
        }
        (void) probe_link_connected(e, TAKE_FD(peer));
        effects_event(e);
        return 0;
}

static int listen_on(struct effects *e, const char *path)
{
        _cleanup_close_ int fd = -1;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int r;

        if (strlen(path) >= sizeof address.sun_path)
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        e->link.socket_path = strdup(path);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        (void) unlink(path);
        /* Only our group gets as far as being asked who it is: the probe, which is root but may not overrule
         * modes. */
        if (bind(fd, (struct sockaddr *) &address, sizeof address) < 0 || chmod(path, 0660) < 0 ||
                        listen(fd, 4) < 0)
                return -errno;
        r = sd_event_add_io(e->event, &e->link.listen_source, fd, EPOLLIN, accept_ready, e);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(e->link.listen_source, "probe-socket");
        e->link.listen_fd = TAKE_FD(fd);
        return 0;
}

int probe_link_start(struct effects *e, const struct effects_options *options)
{
        int r;

        e->link.mode = options->probe;
        e->link.uid = options->probe_uid;
        if (options->probe == PROBE_MODE_OFF) {
                set_reason(e, "switched off by Probe=off");
                return 0;
        }
        if (options->probe_program) {
                e->link.program = strdup(options->probe_program);
                if (!e->link.program)
                        return -ENOMEM;
                r = probe_child_start(e);
                if (r >= 0)
                        return 0;
                log_warning("Cannot start %s: %s", e->link.program, strerror(-r));
                snprintf(e->link.reason, sizeof e->link.reason, "cannot start ctxd-probe: %s", strerror(-r));
                probe_child_again(e);
                return 0;
        }
        if (options->probe_socket) {
                r = listen_on(e, options->probe_socket);
                if (r < 0)
                        return r;
                set_reason(e, "the probe has not connected yet");
        }
        return 0;
}

void probe_link_wait(struct effects *e, uint64_t timeout_usec)
{
        uint64_t now_usec = now_boottime_usec(), end_usec = now_usec + timeout_usec;

        for (; e->link.connection.fd >= 0 && !e->link.said_hello && now_usec < end_usec;
                        now_usec = now_boottime_usec()) {
                struct pollfd p = {.fd = e->link.connection.fd, .events = POLLIN};

                if (poll(&p, 1, (int) ((end_usec - now_usec) / 1000 + 1)) > 0)
                        receive_all(e);
        }
}

void probe_link_deinit(struct effects *e)
{
        struct probe_link *l = &e->link;

        probe_queue_clear(l);
        l->source = sd_event_source_disable_unref(l->source);
        l->listen_source = sd_event_source_disable_unref(l->listen_source);
        probe_connection_close(&l->connection);
        if (l->listen_fd >= 0) {
                close(l->listen_fd);
                if (l->socket_path)
                        (void) unlink(l->socket_path);
        }
        probe_child_stop(e);
        free(l->socket_path);
        free(l->program);
}

const char *probe_backend(const struct effects *e)
{
        switch (e->link.backend) {
        case PROBE_BACKEND_BPF:
                return "bpf";
        case PROBE_BACKEND_PROC:
                return "proc";
        case PROBE_BACKEND_OFF:
        default:
                return "off";
        }
}

const char *probe_reason(const struct effects *e)
{
        return e->link.reason;
}

uint64_t probe_last_sweep_usec(const struct effects *e)
{
        return e->link.last_sweep_usec;
}
