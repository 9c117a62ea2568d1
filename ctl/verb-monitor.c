/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/json.h"
#include "ctl/leak.h"
#include "ctl/terminal.h"
#include "proto/path.h"

/* Prints the daemon's five signals, one in each line, until SIGINT or SIGTERM. */

struct monitor {
        struct ctl *ctl;
        int error;            /* -errno of a message that could not be read or printed */
        bool lost;            /* ctxd has left the bus, and with it our subscription */
        struct reference one; /* id: 0: all that have had its path */
        uint64_t next_id;     /* of the next one with that path; UINT64_MAX: there is none yet */
};

static int read_signal_message(sd_bus_message *m, json_object **ret)
{
        const char *member = sd_bus_message_get_member(m), *path, *err, *cause;
        json_object *object;
        uint64_t id;
        int r;

        if (strcmp(member, "LeakFound") == 0 || strcmp(member, "LeakResolved") == 0)
                return leak_read(m, ret);
        r = sd_bus_message_read(m, "st", &path, &id);
        if (r < 0)
                return r;
        object = json_object_new_object();
        json_add_text(object, "path", path);
        json_add_number(object, "id", id);
        if (strcmp(member, "ContextDone") == 0) {
                r = sd_bus_message_read(m, "ss", &err, &cause);
                if (r < 0) {
                        json_object_put(object);
                        return r;
                }
                json_add_text(object, "err", err);
                json_add_text(object, "cause", cause);
        }
        *ret = object;
        return 0;
}

/* An id comes after that of its parent, and nobody gets a child who has lost its path. So between the ids of
 * the one that is meant and of the next one with its path are those below the one that is meant. */
static bool is_meant(struct monitor *monitor, const char *path, uint64_t id)
{
        const struct reference *one = &monitor->one;
        size_t n = strlen(one->path);

        if (one->id == 0 || strncmp(path, one->path, n) != 0 || (path[n] != '\0' && path[n] != '/'))
                return true;
        if (path[n] == '/')
                return id > one->id && id < monitor->next_id;
        if (id > one->id && id < monitor->next_id)
                monitor->next_id = id;
        return id == one->id;
}

static void print_now(void)
{
        struct timespec now;
        struct tm tm;
        char text[16];

        clock_gettime(CLOCK_REALTIME, &now);
        localtime_r(&now.tv_sec, &tm);
        strftime(text, sizeof text, "%H:%M:%S", &tm);
        printf("%s%s.%03ld%s ", color_on(COLOR_GREY), text, now.tv_nsec / 1000000, color_off());
}

static enum color member_color(const char *member)
{
        if (strcmp(member, "ContextNew") == 0 || strcmp(member, "LeakResolved") == 0)
                return COLOR_GREEN;
        if (strcmp(member, "ContextRemoved") == 0)
                return COLOR_GREY;
        return strcmp(member, "LeakFound") == 0 ? COLOR_RED : COLOR_YELLOW;
}

static bool is_leak(const char *member)
{
        return strncmp(member, "Leak", 4) == 0;
}

static const char *path_in(const char *member, json_object *object)
{
        return json_get_text(object, is_leak(member) ? "CTXD_CONTEXT" : "path");
}

static uint64_t id_in(const char *member, json_object *object)
{
        return json_get_number(object, is_leak(member) ? "CTXD_CONTEXT_ID" : "id");
}

static void print_line(const char *member, json_object *object)
{
        const char *err = json_get_text(object, "err"), *cause = json_get_text(object, "cause");
        const char *path = path_in(member, object);
        uint64_t id = id_in(member, object);
        bool leak = is_leak(member);

        assert(member); /* for the compiler, which warns when it builds with sanitizers */
        print_now();
        printf("%s%-14s%s %s#%" PRIu64, color_on(member_color(member)), member, color_off(), path, id);
        if (strcmp(member, "LeakResolved") == 0 && leak_is_more(object))
                printf(" no more threads than those are left");
        else if (strcmp(member, "LeakResolved") == 0)
                printf(" %s[%s/%s] has left, or is no longer blocked", json_get_text(object, "OBJECT_COMM"),
                                json_get_text(object, "OBJECT_PID"), json_get_text(object, "CTXD_TID"));
        else if (leak)
                printf(" %s", json_get_text(object, "MESSAGE"));
        else if (*err) {
                putchar(' ');
                print_end(err, cause);
        }
        putchar('\n');
}

static int print_signal(struct monitor *monitor, sd_bus_message *m, const char *member)
{
        struct ctl *ctl = monitor->ctl;
        json_object *object = NULL;
        int r = read_signal_message(m, &object);

        if (r < 0)
                return r;
        if (!is_meant(monitor, path_in(member, object), id_in(member, object))) {
                json_object_put(object);
                return 0;
        }
        if (ctl->json == JSON_OFF) {
                r = json_make_printable(object);
                if (r >= 0)
                        print_line(member, object);
                json_object_put(object);
                if (r < 0)
                        return r;
        } else {
                json_add_text(object, "signal", member);
                json_add_number(object, "time_usec", now_boottime_usec());
                json_print(ctl, object);
        }
        return fflush(stdout) == 0 ? 0 : -EIO;
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        static const char *const members[] = {
                        "ContextNew", "ContextDone", "ContextRemoved", "LeakFound", "LeakResolved"};
        struct monitor *monitor = userdata;
        const char *name, *old, *new;

        for (size_t i = 0; i < ELEMENTSOF(members); i++)
                if (sd_bus_message_is_signal(m, CTXD_MANAGER_INTERFACE, members[i])) {
                        int r = print_signal(monitor, m, members[i]);

                        if (r < 0)
                                monitor->error = r;
                        return 1;
                }
        /* ctxd may appear on the bus because of our call. Only when it goes is that the end. */
        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus", "NameOwnerChanged") &&
                        sd_bus_message_read(m, "sss", &name, &old, &new) >= 0 &&
                        strcmp(name, CTXD_BUS_NAME) == 0 && *old)
                monitor->lost = true;
        return 0;
}

/* PATH#ID: is it there, and has another one its path by now? */
static int find_one(struct monitor *monitor, const char *text)
{
        struct listing listing = {};
        struct context_end end;
        const char *why;
        int r = contexts_end(monitor->ctl, text, &end);

        if (r > 0)
                return r;
        if (reference_parse(text, getuid(), false, &monitor->one, &why) < 0)
                return bus_broken(-EINVAL);
        monitor->ctl->missing_is_fine = true;
        r = contexts_get(monitor->ctl, monitor->one.path, &listing);
        monitor->ctl->missing_is_fine = false;
        if (r == 0 && listing.items->id > monitor->one.id)
                monitor->next_id = listing.items->id;
        listing_deinit(&listing);
        return r == EXIT_NO_SUCH_CONTEXT ? 0 : r;
}

/* The filter comes first, so that no signal is missed. On a bus our connection stays when ctxd goes; the
 * bus tells us. */
static int subscribe(struct monitor *monitor, const char *prefix)
{
        struct ctl *ctl = monitor->ctl;
        int r = bus_connect(ctl);

        if (r > 0)
                return r;
        if ((r = sd_bus_add_filter(ctl->bus, NULL, on_message, monitor)) < 0 ||
                        (r = sd_bus_add_match(ctl->bus, NULL,
                                         "type='signal',sender='org.freedesktop.DBus',member='"
                                         "NameOwnerChanged',"
                                         "arg0='" CTXD_BUS_NAME "'",
                                         NULL, NULL)) < 0)
                return bus_failed(ctl, &SD_BUS_ERROR_NULL, r);
        r = strchr(prefix, '#') ? find_one(monitor, prefix) : 0;
        if (r == 0)
                r = bus_call(ctl, NULL, "Subscribe", "s", monitor->one.id ? monitor->one.path : prefix);
        if (r == 0 && ctl->legend) {
                fprintf(stderr, "Listening to %s and what is below it.\n", prefix);
                fflush(stderr);
        }
        return r;
}

static int listen_until_signal(struct monitor *monitor, int signals)
{
        sd_bus *bus = monitor->ctl->bus;
        int r;

        for (;;) {
                struct pollfd fds[] = {{.fd = signals, .events = POLLIN},
                                {.fd = sd_bus_get_fd(bus), .events = POLLIN}};

                while ((r = sd_bus_process(bus, NULL)) > 0 && monitor->error == 0)
                        ;
                if (monitor->error == -EIO) {
                        print_error("cannot write: %s", strerror(EIO));
                        return EXIT_FAILED;
                }
                if (monitor->error < 0)
                        return bus_broken(monitor->error);
                if (r < 0 || monitor->lost) {
                        print_error("lost the connection to ctxd");
                        return EXIT_FAILED;
                }
                if (poll(fds, ELEMENTSOF(fds), -1) > 0 && fds[0].revents)
                        return EXIT_DONE;
        }
}

int verb_monitor(struct ctl *ctl, int argc, char *argv[])
{
        struct monitor monitor = {.ctl = ctl, .next_id = UINT64_MAX};
        _cleanup_close_ int signals = -1;
        sigset_t mask;
        int r;

        if (!read_arguments(ctl, argc, argv, 0, 1, &r))
                return r;
        sigemptyset(&mask);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGTERM);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0 || (signals = signalfd(-1, &mask, SFD_CLOEXEC)) < 0) {
                print_error("cannot wait for signals: %m");
                return EXIT_FAILED;
        }
        r = subscribe(&monitor, optind < argc ? argv[optind] : "/");
        return r > 0 ? r : listen_until_signal(&monitor, signals);
}
