/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "bpf/choose.h"
#include "bpf/look.h"
#include "bpf/probe.h"
#include "bpf/publish.h"
#include "util/cleanup.h"
#include "util/log.h"

#define BACKOFF_MIN_USEC UINT64_C(100000)
#define BACKOFF_MAX_USEC UINT64_C(5000000)

/* After a new connection: contexts that ctxd has not named again by then are forgotten. */
#define CONFIRM_USEC UINT64_C(10000000)

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata);
static int on_retry(sd_event_source *source, uint64_t usec, void *userdata);

static void link_close(struct link *link)
{
        link->io = sd_event_source_disable_unref(link->io);
        probe_connection_close(&link->connection);
        look_without(-1);
        link->greeted = link->is_full = false;
}

static void link_end(struct probe *probe, int error)
{
        probe->link.error = error;
        sd_event_exit(probe->event, error < 0 ? 1 : 0);
}

static void link_lost(struct probe *probe, const char *why)
{
        struct link *link = &probe->link;
        bool greeted = link->greeted;
        int r;

        if (link->connection.fd < 0)
                return;
        link_close(link);
        leaks_drop_news(probe);
        sweeper_pause(probe);
        if (!link->address) {
                log_debug("ctxd has left (%s)", why);
                link_end(probe, 0);
                return;
        }
        if (greeted)
                log_notice("the connection to ctxd is lost (%s), trying again", why);
        link->retry = sd_event_source_disable_unref(link->retry);
        r = sd_event_add_time_relative(
                        probe->event, &link->retry, CLOCK_MONOTONIC, link->backoff_usec, 0, on_retry, probe);
        if (r < 0)
                link_end(probe, r);
        link->backoff_usec =
                        link->backoff_usec * 2 > BACKOFF_MAX_USEC ? BACKOFF_MAX_USEC : link->backoff_usec * 2;
}

static int link_open(struct probe *probe, int fd)
{
        struct ucred credentials = {};
        socklen_t size = sizeof credentials;

        probe_connection_open(&probe->link.connection, fd);
        look_without(fd);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
                return -errno;
        probe->link.uid = credentials.uid;
        return sd_event_add_io(probe->event, &probe->link.io, fd, EPOLLIN, on_io, probe);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct probe *probe = userdata;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd, r;

        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        strncpy(address.sun_path, probe->link.address, sizeof address.sun_path - 1);
        if (connect(fd, (struct sockaddr *) &address, sizeof address) < 0) {
                log_debug("%s: %s", probe->link.address, strerror(errno));
                probe_connection_open(&probe->link.connection, fd);
                link_lost(probe, "not there");
                return 0;
        }
        r = link_open(probe, fd);
        if (r < 0)
                link_end(probe, r);
        return 0;
}

int link_init(struct probe *probe, const char *address, int fd)
{
        struct link *link = &probe->link;

        link->address = address;
        probe_connection_init(&link->connection);
        link->backoff_usec = BACKOFF_MIN_USEC;
        if (!address)
                return link_open(probe, fd);
        if (strlen(address) >= sizeof(((struct sockaddr_un *) NULL)->sun_path))
                return -ENAMETOOLONG;
        return sd_event_add_time_relative(probe->event, &link->retry, CLOCK_MONOTONIC, 0, 0, on_retry, probe);
}

void link_deinit(struct probe *probe)
{
        probe->link.retry = sd_event_source_disable_unref(probe->link.retry);
        link_close(&probe->link);
}

/* 1: sent, or there is nobody. 0: the socket takes no more now. */
static int link_send(struct probe *probe, const struct probe_header *header)
{
        struct link *link = &probe->link;
        int r = probe_connection_send(&link->connection, header, NULL, 0);

        if (r < 0)
                link_lost(probe, strerror(-r));
        if (r != 0)
                return 1;
        link->is_full = true;
        (void) sd_event_source_set_io_events(link->io, EPOLLIN | EPOLLOUT);
        return 0;
}

static int send_leak(struct probe *probe, struct leak *leak)
{
        struct probe_resolved resolved = {
                        .header = {.type = PROBE_RESOLVED, .size = sizeof resolved},
                        .leak_id = leak->id,
                        .context_id = leak->key.context_id,
        };

        if (leak->resolved_usec > 0)
                return link_send(probe, &resolved.header);
        publish_prepare(probe, leak);
        return link_send(probe, &leak->record->header);
}

static int send_swept(struct probe *probe)
{
        struct probe_swept record = {
                        .header = {.type = PROBE_SWEPT, .size = sizeof record},
                        .when_usec = probe->sweeper.swept_usec,
        };

        return link_send(probe, &record.header);
}

void link_tell(struct probe *probe)
{
        struct link *link = &probe->link;
        struct leak *leak;

        /* If the connection is lost meanwhile, there are no news any more. */
        while (link->greeted && !link->is_full && (leak = leaks_first_news(&probe->leaks)))
                if (send_leak(probe, leak) > 0 && link->greeted)
                        leak_told(probe, leak);
        if (link->greeted && !link->is_full && probe->sweeper.swept_usec > 0 && send_swept(probe) > 0)
                probe->sweeper.swept_usec = 0;
}

int link_hello(struct probe *probe, bool kept)
{
        struct probe_hello hello = {
                        .header = {.type = PROBE_HELLO, .size = sizeof hello},
                        .version = PROBE_PROTOCOL_VERSION,
                        .backend = backend_kind(probe->backend),
                        .kept = kept,
        };
        int fds[PROBE_FDS], r;
        size_t n_fds = 0;

        memcpy(hello.reason, probe->reason, sizeof hello.reason);
        if (hello.backend == PROBE_BACKEND_BPF) {
                backend_bpf_fds(probe->backend, fds);
                n_fds = PROBE_FDS;
        }
        r = probe_connection_send(&probe->link.connection, &hello.header, fds, n_fds);
        if (r <= 0)
                return r < 0 ? r : -EAGAIN;
        probe->link.greeted = true;
        probe->link.backoff_usec = BACKOFF_MIN_USEC;
        return 0;
}

static int on_confirm(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct probe *probe = userdata;
        struct watch *watch, *next;

        if (!probe->link.greeted)
                return 0;
        HASH_ITER (hh, probe->watches.by_id, watch, next) {
                if (!watch->confirmed)
                        sweeper_forget(probe, watch->context_id, "its context has been forgotten");
        }
        return 0;
}

static int on_welcome(struct probe *probe, const struct probe_welcome *welcome, const int *kept)
{
        bool is_kept;
        int r;

        if (welcome->version != PROBE_PROTOCOL_VERSION)
                return -EPROTO;
        if (!probe->chosen) {
                r = backend_choose(probe, welcome, kept, &is_kept);
                if (r < 0) {
                        log_error("cannot start: %s", strerror(-r));
                        link_end(probe, r);
                        return 0;
                }
                if (probe->backend)
                        look_start();
        } else if (!backend_fits(probe, welcome, kept)) {
                log_notice("ctxd wants another probe");
                link_end(probe, -ESTALE);
                return 0;
        } else {
                is_kept = kept != NULL;
        }
        r = link_hello(probe, is_kept);
        if (r < 0)
                return r;
        (void) sd_notifyf(0, "READY=1\nSTATUS=Backend %s%s%s", backend_name(backend_kind(probe->backend)),
                        probe->reason[0] ? ": " : "", probe->reason);
        sweeper_resume(probe);
        return sd_event_add_time_relative(
                        probe->event, NULL, CLOCK_MONOTONIC, CONFIRM_USEC, 0, on_confirm, probe);
}

static int on_record(struct probe *probe, const struct probe_message *m)
{
        if (m->header.type == PROBE_WELCOME) {
                if (probe->link.greeted || m->welcome.kept != m->n_fds)
                        return -EPROTO;
                return on_welcome(probe, &m->welcome, m->n_fds > 0 ? m->fds : NULL);
        }
        if (!probe->link.greeted)
                return -EPROTO;
        switch (m->header.type) {
        case PROBE_WATCH:
                return sweeper_watch(probe, &m->watch);
        case PROBE_THREADS:
                return sweeper_threads(probe, &m->threads);
        case PROBE_FORGET:
                sweeper_forget(probe, m->forget.context_id, "its context is drained");
                return 0;
        default:
                return -EPROTO;
        }
}

/* Takes in one record. 0: there is none. */
static int link_receive(struct probe *probe)
{
        struct probe_message m;
        int r;

        r = probe_connection_receive(&probe->link.connection, &m);
        if (r > 0) {
                int q = on_record(probe, &m);

                probe_message_close(&m);
                if (q < 0)
                        return q;
        }
        return r;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct probe *probe = userdata;
        int r;

        if (revents & EPOLLOUT) {
                (void) sd_event_source_set_io_events(source, EPOLLIN);
                probe->link.is_full = false;
                link_tell(probe);
        }
        /* Not all records at once, so that the watchdog and the sweeps get their turn. */
        for (int i = 0; i < 64 && probe->link.connection.fd >= 0 && revents & ~(uint32_t) EPOLLOUT; i++) {
                r = link_receive(probe);
                if (r == 0)
                        break;
                if (r < 0) {
                        if (r == -EPROTO)
                                log_error("ctxd speaks another protocol");
                        link_lost(probe, strerror(-r));
                        break;
                }
        }
        return 0;
}
