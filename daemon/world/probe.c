/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/world/anchor.h"
#include "daemon/world/probe-internal.h"
#include "proto/names.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/proc.h"
#include "util/utf8.h"

/* The probe is lost if it has read nothing for so long, though there was something to read. */
#define STALLED_USEC 30000000

static void set_reason(struct probe *p, const char *reason)
{
        snprintf(p->reason, sizeof p->reason, "%s", reason);
        (void) utf8_mend(p->reason);
}

int probe_new(struct probe **ret, struct world *world)
{
        struct probe *p = calloc(1, sizeof *p);

        if (!p)
                return -ENOMEM;
        p->world = world;
        p->listen_fd = p->child_pidfd = -1;
        p->socket_file = SOCKET_FILE_NONE;
        p->ready.kind = FACT_PROBE_READY;
        probe_connection_init(&p->connection);
        LIST_INIT(&p->watched);
        TAILQ_INIT(&p->queue);
        set_reason(p, "the probe has not been started");
        *ret = p;
        return 0;
}

static void watched_free(struct probe *p, struct probe_watched *w)
{
        if (w->is_queued)
                TAILQ_REMOVE(&p->queue, w, queue);
        LIST_REMOVE(w, all);
        if (w->anchor)
                w->anchor->watched = NULL;
        free(w);
}

/* The next probe is told everything anew. */
static void watched_free_all(struct probe *p)
{
        while (!LIST_EMPTY(&p->watched))
                watched_free(p, LIST_FIRST(&p->watched));
}

void probe_lost(struct probe *p, const char *why)
{
        if (!p->is_known || p->connection.fd >= 0)
                set_reason(p, why);
        if (p->connection.fd < 0)
                return;
        p->source = sd_event_source_disable_unref(p->source);
        probe_connection_close(&p->connection);
        watched_free_all(p);
        if (p->is_known)
                log_warning("The probe is gone: %s", why);
        p->is_welcomed = p->is_known = false;
        p->backend = PROBE_BACKEND_OFF;
        /* If it is our child it may hang. It is killed, and then started again. */
        if (p->child_pidfd >= 0 && p->child_source)
                (void) world_signal(p->world, p->child_pidfd, SIGKILL);
}

static int on_socket(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct probe *p = userdata;

        (void) sd_event_source_set_io_events(source, EPOLLIN);
        p->is_full = false;
        fact_raise(&p->world->facts, &p->ready);
        facts_wake(&p->world->facts);
        return 0;
}

int probe_connected(struct probe *p, int fd, pid_t pid)
{
        int r;

        r = sd_event_add_io(p->world->event, &p->source, fd, EPOLLIN, on_socket, p);
        if (r < 0) {
                close(fd);
                return r;
        }
        (void) sd_event_source_set_description(p->source, "probe");
        probe_connection_open(&p->connection, fd);
        p->pid = pid;
        p->is_welcomed = p->is_known = p->is_full = false;
        set_reason(p, CTXD_REASON_NOT_ANSWERED);
        fact_raise(&p->world->facts, &p->ready);
        return 0;
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        _cleanup_close_ int peer = -1;
        struct probe *p = userdata;
        struct ucred credentials;
        socklen_t size = sizeof credentials;

        peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (peer < 0)
                return 0;
        if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0 || credentials.uid != p->uid) {
                log_warning("Process %d of uid %u is not the probe", (int) credentials.pid,
                                (unsigned) credentials.uid);
                return 0;
        }
        if (p->connection.fd >= 0) {
                log_warning("Process %d wants to be the probe, but there is one", (int) credentials.pid);
                return 0;
        }
        (void) probe_connected(p, TAKE_FD(peer), credentials.pid);
        facts_wake(&p->world->facts);
        return 0;
}

static int listen_at(struct probe *p, const char *path)
{
        _cleanup_close_ int fd = -1;
        const char *why;
        int r;

        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        /* The mode lets only our own group connect; on_connection() then looks at the uid. The probe is root,
         * but has no capability to override modes, so it needs the group. */
        r = socket_file_bind(&p->socket_file, fd, path, 0660, &why);
        if (r < 0) {
                if (why)
                        log_error("%s cannot be listened at: %s", path, why);
                return r;
        }
        if (listen(fd, 4) < 0)
                return -errno;
        r = sd_event_add_io(p->world->event, &p->listen_source, fd, EPOLLIN, on_connection, p);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(p->listen_source, "probe-socket");
        p->listen_fd = TAKE_FD(fd);
        return 0;
}

int probe_start(struct probe *p, const struct probe_options *options)
{
        int r;

        p->mode = options->mode;
        p->uid = options->uid;
        if (options->mode == PROBE_MODE_OFF) {
                set_reason(p, "switched off by Probe=off");
                return 0;
        }
        if (options->program) {
                p->program = strdup(options->program);
                if (!p->program)
                        return -ENOMEM;
                r = probe_child_start(p);
                if (r < 0) {
                        log_warning("Cannot start %s: %s", p->program, strerror(-r));
                        snprintf(p->reason, sizeof p->reason, "cannot start ctxd-probe: %s", strerror(-r));
                        probe_child_again(p);
                }
                return 0;
        }
        if (options->socket) {
                r = listen_at(p, options->socket);
                if (r < 0)
                        return r;
                set_reason(p, CTXD_REASON_NOT_CONNECTED);
                return 0;
        }
        set_reason(p, "ctxd-probe was found neither beside ctxd nor where it is installed; --probe-program= "
                      "names it");
        log_warning("Nobody looks for leaks: %s", p->reason);
        return 0;
}

struct probe *probe_free(struct probe *p)
{
        if (!p)
                return NULL;
        watched_free_all(p);
        fact_withdraw(&p->world->facts, &p->ready);
        p->source = sd_event_source_disable_unref(p->source);
        p->listen_source = sd_event_source_disable_unref(p->listen_source);
        probe_connection_close(&p->connection);
        if (p->listen_fd >= 0)
                close(p->listen_fd);
        socket_file_remove(&p->socket_file);
        probe_child_stop(p);
        free(p->program);
        free(p);
        return NULL;
}

static void watched_queue(struct probe *p, struct probe_watched *w)
{
        if (w->is_queued)
                return;
        if (TAILQ_EMPTY(&p->queue))
                probe_connection_restart_clock(&p->connection);
        w->is_queued = true;
        TAILQ_INSERT_TAIL(&p->queue, w, queue);
}

void probe_watch(struct probe *p, struct anchor *anchor)
{
        struct probe_watched *w = anchor->watched;

        /* After HELLO the engine names all contexts. */
        if (!p->is_known)
                return;
        if (!w) {
                w = calloc(1, sizeof *w);
                if (!w) {
                        probe_lost(p, "out of memory");
                        return;
                }
                w->context_id = anchor->context_id;
                w->anchor = anchor;
                LIST_INSERT_HEAD(&p->watched, w, all);
                anchor->watched = w;
        }
        w->wants_watch = true;
        w->wants_threads = !LIST_EMPTY(&anchor->entrances);
        watched_queue(p, w);
}

void probe_threads(struct probe *p, struct anchor *anchor)
{
        if (!anchor->watched)
                return;
        anchor->watched->wants_threads = true;
        watched_queue(p, anchor->watched);
}

void probe_forget(struct probe *p, struct anchor *anchor)
{
        struct probe_watched *w = anchor->watched;

        if (!w)
                return;
        anchor->watched = NULL;
        w->anchor = NULL;
        if (!w->is_told) {
                watched_free(p, w);
                return;
        }
        w->wants_watch = w->wants_threads = false;
        w->wants_forget = true;
        watched_queue(p, w);
}

bool probe_is_new(const struct probe *p)
{
        return p->connection.fd >= 0 && !p->is_welcomed;
}

int probe_receive(struct probe *p, struct probe_message *ret)
{
        int r = p->connection.fd >= 0 ? probe_connection_receive(&p->connection, ret) : 0;

        if (r == -EPROTO)
                probe_lost(p, "it does not speak our language");
        else if (r < 0)
                probe_lost(p, "its connection has ended");
        return r > 0;
}

unsigned probe_next(struct probe *p, uint64_t *ret_context_id)
{
        const struct probe_watched *w = TAILQ_FIRST(&p->queue);

        if (!w)
                return 0;
        if (probe_connection_is_stalled(&p->connection, STALLED_USEC)) {
                probe_lost(p, "it does not read what it is told");
                return 0;
        }
        if (p->is_full)
                return 0;
        *ret_context_id = w->context_id;
        return w->wants_forget ? PROBE_FORGET : w->wants_watch ? PROBE_WATCH : PROBE_THREADS;
}

int probe_send(struct probe *p, const struct probe_header *record)
{
        struct probe_watched *w = TAILQ_FIRST(&p->queue);
        int r = record ? probe_connection_send(&p->connection, record, NULL, 0) : 1;

        if (r < 0) {
                probe_lost(p, "its socket was closed");
                return 0;
        }
        if (r == 0) {
                (void) sd_event_source_set_io_events(p->source, EPOLLIN | EPOLLOUT);
                p->is_full = true;
                return 0;
        }
        if (w->wants_forget) {
                watched_free(p, w);
                return 1;
        }
        if (w->wants_watch) {
                w->wants_watch = false;
                w->is_told = true;
        } else {
                w->wants_threads = false;
        }
        if (!w->wants_threads) {
                TAILQ_REMOVE(&p->queue, w, queue);
                w->is_queued = false;
        }
        return 1;
}

void probe_send_welcome(struct probe *p, const int *fds)
{
        struct probe_welcome welcome = {
                        .header = {PROBE_WELCOME, sizeof welcome},
                        .version = PROBE_PROTOCOL_VERSION,
                        .kept = fds ? PROBE_FDS : 0,
                        .backend = p->mode == PROBE_MODE_PROC ? PROBE_BACKEND_PROC : PROBE_BACKEND_BPF,
                        .strict = p->mode == PROBE_MODE_BPF,
        };
        int r;

        p->is_welcomed = true;
        r = probe_connection_send(&p->connection, &welcome.header, fds, fds ? PROBE_FDS : 0);
        if (r <= 0)
                probe_lost(p, strerror(r < 0 ? -r : EAGAIN));
}

void probe_accept(struct probe *p, const struct probe_hello *hello)
{
        p->is_known = true;
        p->backend = (enum probe_backend) hello->backend;
        set_reason(p, hello->reason);
}

bool probe_is_known(const struct probe *p)
{
        return p->is_known;
}

void probe_swept(struct probe *p, const struct probe_swept *record)
{
        p->last_sweep_usec = record->when_usec;
}

bool probe_wait(struct probe *p, uint64_t timeout_usec)
{
        struct pollfd poll_fd = {.fd = p->connection.fd, .events = POLLIN};

        return poll_fd.fd >= 0 && poll(&poll_fd, 1, (int) (timeout_usec / 1000 + 1)) > 0;
}

/* By a signal, or by a debugger. Its connection stays then, and nobody looks for leaks. */
static bool is_stopped(const struct probe *p)
{
        struct proc_stat stat;

        return p->is_known && proc_stat_read(p->pid, &stat) >= 0 && (stat.state == 'T' || stat.state == 't');
}

const char *probe_backend_name(const struct probe *p)
{
        static const char *const names[] = {[PROBE_BACKEND_OFF] = "off",
                        [PROBE_BACKEND_PROC] = "proc",
                        [PROBE_BACKEND_BPF] = "bpf"};

        return names[is_stopped(p) ? PROBE_BACKEND_OFF : p->backend];
}

const char *probe_reason(const struct probe *p)
{
        return is_stopped(p) ? "ctxd-probe is stopped" : p->reason;
}

uint64_t probe_last_sweep_usec(const struct probe *p)
{
        return p->last_sweep_usec;
}

bool probe_is_child(const struct probe *p)
{
        return p->program;
}
