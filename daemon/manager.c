/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "daemon/manager.h"
#include "util/capability.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/heir.h"
#include "util/log.h"
#include "util/proc-reader.h"
#include "util/realtime.h"
#include "proto/membership.h"

#define SOCKET_NAME "bus" /* FileDescriptorName= of ctxd.socket */

static void warn_config(void *userdata, const char *file, unsigned line, const char *message)
{
        if (line > 0)
                log_warning("%s:%u: %s", file, line, message);
        else
                log_warning("%s: %s", file, message);
}

/* The directory of the configuration, if no file was named. An embedded daemon has none: it belongs to its
 * caller alone. */
static int config_directory(const struct manager *m, char *buffer, size_t size)
{
        const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
        int n;

        if (m->mode == MANAGER_SYSTEM)
                n = snprintf(buffer, size, "%s", CTXD_SYSCONFDIR "/ctxd");
        else if (m->mode == MANAGER_USER && base && base[0] == '/')
                n = snprintf(buffer, size, "%s/ctxd", base);
        else if (m->mode == MANAGER_USER && home && home[0] == '/')
                n = snprintf(buffer, size, "%s/.config/ctxd", home);
        else
                return -ENOENT;
        return n > 0 && (size_t) n < size ? 0 : -ENAMETOOLONG;
}

static int read_config(const struct manager *m, struct config *ret)
{
        char directory[PATH_MAX];
        int r;

        if (m->config_file)
                return config_load(m->config_file, warn_config, NULL, ret);
        r = config_directory(m, directory, sizeof directory);
        if (r >= 0)
                r = config_load_directory(directory, warn_config, NULL, ret);
        if (r == -ENOENT) {
                config_defaults(ret);
                r = 0;
        }
        return r;
}

/* How many descriptors clients may make us open. The rest of the table is for ourselves. */
#define DESCRIPTORS_OF_OURS 128

static uint64_t descriptors_for_users(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
                return UINT64_MAX;
        return limit.rlim_cur > 2 * DESCRIPTORS_OF_OURS ? limit.rlim_cur - DESCRIPTORS_OF_OURS
                                                        : limit.rlim_cur / 2;
}

static void apply_config(struct manager *m)
{
        const struct config *c = &m->config;
        struct users *users = &m->tree->users;
        const uint64_t descriptors = descriptors_for_users(),
                       pools[POOLS] = {
                                       [POOL_CONTEXTS] = c->max_contexts,
                                       [POOL_DESCRIPTORS] = descriptors,
                                       [POOL_MEMBERS] = c->max_members,
                                       [POOL_SLOTS] = MEMBERSHIP_SLOTS_MAX - 1,
                                       [POOL_QUESTIONS] = SERVICE_QUESTIONS_OF_ALL,
                                       [POOL_BYTES] = c->max_bytes,
                                       [POOL_SUBSCRIPTIONS] = c->max_subscriptions,
                                       [POOL_INCOMING] = SERVICE_INCOMING_OF_ALL,
                                       [POOL_STALLED] = SERVICE_STALLED_OF_ALL,
                                       [POOL_MESSAGES] = SERVICE_MESSAGES_OF_ALL,
                                       [POOL_UNREAD] = c->max_unread_bytes,
                                       /* The kernel has one count for all descriptors that we have sent
                                        * and nobody has read. */
                                       [POOL_FLIGHT] = descriptors,
                       };

        m->tree->retain_usec = c->retain_usec;
        m->tree->default_grace_usec = c->leak_grace_usec;
        for (int i = 0; i < POOLS; i++)
                users->pools[i].limit = pools[i];
        users->limit[RESOURCE_CONTEXTS] = c->max_contexts_per_user;
        users->limit[RESOURCE_HANDLES] = c->max_handles_per_user;
        users->limit[RESOURCE_MEMBERS] = c->max_members_per_user;
        users->limit[RESOURCE_CONNECTIONS] = c->max_connections_per_user;
        users->limit[RESOURCE_QUESTIONS] = SERVICE_QUESTIONS_MAX;
        users->limit[RESOURCE_SUBSCRIPTIONS] = c->max_subscriptions_per_user;
        users->limit[RESOURCE_BYTES] = c->max_bytes_per_user;
        users->limit[RESOURCE_UNREAD] = c->max_unread_bytes_per_user;
        users->limit[RESOURCE_INCOMING] = SERVICE_INCOMING_MAX;
        users->limit[RESOURCE_STALLED] = SERVICE_STALLED_MAX;
        users->limit[RESOURCE_MESSAGES] = SERVICE_MESSAGES_MAX;
        users->limit[RESOURCE_FLIGHT] = descriptors / 16;
        m->tree->max_value_bytes = c->max_value_bytes;
        m->service.kill_after_usec = c->kill_after_usec;
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        struct manager *m = userdata;
        struct config config;
        int r;

        sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_boottime_usec());
        r = read_config(m, &config);
        if (r < 0) {
                log_error("The configuration was not read, the old one stays: %s", strerror(-r));
        } else {
                if (config.probe != m->config.probe)
                        log_notice("Probe= takes effect when ctxd is started again");
                m->config = config;
                apply_config(m);
                log_info("The configuration was read again");
        }
        sd_notify(0, "READY=1");
        return 0;
}

static void raise_descriptor_limit(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit);
        }
}

/* The path of the direct socket. Makes the directory for it. */
static int socket_path(const struct manager *m, char *buffer, size_t size)
{
        const char *runtime;
        int n;

        switch (m->mode) {
        case MANAGER_SYSTEM:
                n = snprintf(buffer, size, "%s", CTXD_SYSTEM_SOCKET);
                break;
        case MANAGER_USER:
                runtime = getenv("XDG_RUNTIME_DIR");
                if (!runtime) {
                        log_error("XDG_RUNTIME_DIR is not set: there is no place for the socket");
                        return -ENXIO;
                }
                n = snprintf(buffer, size, "%s/ctxd", runtime);
                if (n > 0 && (size_t) n < size && mkdir(buffer, 0700) < 0 && errno != EEXIST)
                        return -errno;
                n = snprintf(buffer, size, "%s/ctxd/bus", runtime);
                break;
        default:
                if (mkdir(m->directory, 0755) < 0 && errno != EEXIST) {
                        int r = -errno;

                        log_error("%s cannot be made: %s", m->directory, strerror(-r));
                        return r;
                }
                n = snprintf(buffer, size, "%s/bus", m->directory);
        }
        return n > 0 && (size_t) n < size ? 0 : -ENAMETOOLONG;
}

/* Takes the socket that systemd has opened for us. This comes before there is a child that could inherit
 * it. */
static void take_given(struct manager *m)
{
        char **names = NULL;
        int n = sd_listen_fds_with_names(1, &names);

        m->given = -1;
        if (n < 0)
                log_warning("What systemd has handed over cannot be told: %s", strerror(-n));
        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;

                if (m->given < 0 && strcmp(names[i], SOCKET_NAME) == 0 &&
                                sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0) {
                        m->given = fd;
                } else {
                        log_warning("Descriptor %d (%s) was handed over, and is not wanted", fd, names[i]);
                        close(fd);
                }
                free(names[i]);
        }
        free(names);
}

static int path_of_socket(int fd, char *buffer, size_t size)
{
        struct sockaddr_un address = {};
        socklen_t length = sizeof address - 1; /* its path may lack the NUL */

        if (getsockname(fd, (struct sockaddr *) &address, &length) < 0)
                return -errno;
        snprintf(buffer, size, "%s", address.sun_path);
        return 0;
}

/* Listens at systemd's socket, if there is one, else at a socket of our own. systemd's socket stays while we
 * are away, so nobody is refused then. */
static int listen_directly(struct manager *m, char *path, size_t size)
{
        bool given = m->given >= 0;
        const char *why = NULL;
        int r = given ? path_of_socket(m->given, path, size) : socket_path(m, path, size);

        if (r < 0)
                return r;
        r = given ? service_take_socket(&m->service, TAKE_FD(m->given))
                  : service_listen(&m->service, path, &why);
        if (r < 0)
                log_error("%s cannot be listened at: %s", path,
                                why                ? why
                                : r == -EADDRINUSE ? "another ctxd is there"
                                                   : strerror(-r));
        return r;
}

/* The service has no more than CAP_KILL from the start. Without a unit root has everything, and keeps as
 * little. The programs that are executed are probes, which drop what they do not need themselves. This comes
 * after the socket was made: its directory may be where only CAP_DAC_OVERRIDE leads. */
static int give_up_capabilities(const struct manager *m)
{
        const uint64_t probe = CAPABILITY(BPF) | CAPABILITY(PERFMON) | CAPABILITY(SYS_PTRACE) |
                               CAPABILITY(DAC_READ_SEARCH);

        if (m->mode == MANAGER_SYSTEM || geteuid() != 0)
                return 0;
        return capability_drop(CAPABILITY(KILL), probe);
}

static int serve(struct manager *m)
{
        char path[512];
        int r;

        r = listen_directly(m, path, sizeof path);
        if (r >= 0)
                r = give_up_capabilities(m);
        if (r < 0)
                return r;
        if (m->mode != MANAGER_EMBEDDED) {
                r = service_own_name(&m->service, m->mode == MANAGER_USER);
                if (r == 0)
                        return 0;
                if (r < 0) {
                        log_error("The name %s on the %s bus was not to be had: %s", CTXD_BUS_NAME,
                                        m->mode == MANAGER_USER ? "session" : "system",
                                        r == -EEXIST ? "another ctxd has it" : strerror(-r));
                        return r;
                }
        }
        log_info("Serving at unix:path=%s%s", path,
                        m->mode == MANAGER_EMBEDDED ? "" : " and as " CTXD_BUS_NAME);
        sd_notify(0, "READY=1");
        return 0;
}

/* That comes before all else: who waits in the socket that systemd keeps is not taken any more, and the next
 * daemon serves it. */
static int end_on(sd_event *event, int signal_number)
{
        sd_event_source *source;
        int r = sd_event_add_signal(event, &source, signal_number, NULL, NULL);

        if (r < 0)
                return r;
        r = sd_event_source_set_priority(source, SD_EVENT_PRIORITY_IMPORTANT);
        if (r >= 0)
                r = sd_event_source_set_floating(source, true);
        sd_event_source_unref(source);
        return r;
}

/* Somebody may still have a PATH#ID of a daemon that was here before, or on another host. It must not mean a
 * context of this one (law 34). 32 bits keep an id short enough to be read. */
static int begin_ids(struct tree *tree)
{
        uint32_t last;

        if (getrandom(&last, sizeof last, 0) != sizeof last)
                return -errno;
        tree->last_id = last;
        return 0;
}

int manager_start(struct manager *m)
{
        sigset_t signals;
        int r;

        take_given(m);
        r = read_config(m, &m->config);
        if (r < 0) {
                log_error("The configuration %s cannot be read: %s", m->config_file ? m->config_file : "",
                                strerror(-r));
                return r;
        }
        raise_descriptor_limit();
        (void) realtime_allow();

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGHUP);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        signal(SIGPIPE, SIG_IGN);

        if ((r = sd_event_default(&m->event)) < 0 || (r = end_on(m->event, SIGTERM)) < 0 ||
                        (r = end_on(m->event, SIGINT)) < 0 ||
                        (r = sd_event_add_signal(m->event, NULL, SIGHUP, on_reload, m)) < 0 ||
                        (r = sd_event_set_watchdog(m->event, 1)) < 0)
                return r;
        /* A user's own daemon serves nobody else, and reads by itself. */
        if (m->mode == MANAGER_SYSTEM || geteuid() == 0)
                r = proc_reader_start();
        if (r >= 0)
                r = heir_start();
        if (r >= 0)
                r = tree_new(&m->tree);
        if (r < 0)
                return r;
        m->tree->daemon_uid = geteuid();
        r = begin_ids(m->tree);
        if (r < 0)
                return r;
        m->serving = true;
        r = service_init(&m->service, m->event, m->tree);
        if (r >= 0)
                r = engine_guard(m->service.engine);
        if (r < 0)
                return r;
        apply_config(m);

        struct probe_options options = {
                        .mode = m->config.probe,
                        .program = m->mode == MANAGER_SYSTEM ? NULL : m->probe_program,
                        .socket = m->mode == MANAGER_SYSTEM ? CTXD_PROBE_SOCKET : NULL,
                        .uid = 0,
        };
        r = engine_start(m->service.engine, &options);
        if (r < 0)
                return r;
        return serve(m);
}

int manager_run(struct manager *m)
{
        /* It may have been told to end while it waited for the bus. */
        return sd_event_get_state(m->event) == SD_EVENT_FINISHED ? 0 : sd_event_loop(m->event);
}

/* Ends every context that is still active, with a cause that says why. So its members are signalled and its
 * handles become readable. */
static void end_all(struct manager *m)
{
        struct context *c, *next;

        engine_stopping(m->service.engine);
        for (c = LIST_FIRST(&m->tree->background->children); c; c = next) {
                struct cause *cause = cause_new(0, CTXD_CAUSE_STOPPED, geteuid(), getpid(), "ctxd");
                struct refused refused;
                uint32_t n;

                next = LIST_NEXT(c, siblings);
                if (cause)
                        tree_cancel(m->tree, now_boottime_usec(), &caller_daemon, c, cause, &n, &refused);
        }
        service_finish(&m->service);
}

void manager_stop(struct manager *m)
{
        if (m->serving) {
                sd_notify(0, "STOPPING=1");
                /* The service may have been begun, and not have got as far as its engine. */
                if (m->service.engine)
                        end_all(m);
                service_deinit(&m->service);
        }
        closep(&m->given);
        proc_reader_stop();
        m->tree = tree_free(m->tree);
        m->event = sd_event_unref(m->event);
}
