/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/bus/broker.h"
#include "daemon/bus/polkit.h"
#include "daemon/bus/receive.h"
#include "daemon/bus/sender.h"
#include "daemon/bus/vtables.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* The pauses between two attempts to get the name, how long an attempt may take, and how long they go on at
 * start. */
#define PAUSE_MIN_USEC 100000
#define PAUSE_MAX_USEC 5000000
#define ATTEMPT_USEC (20 * UINT64_C(1000000))
#define START_USEC (60 * UINT64_C(1000000))
/* The connection of one that was killed is there, and has the name, for an instant longer (util/heir.h). */
#define OTHER_USEC 2000000
/* So long a bus that does not read is waited for when the daemon ends. */
#define END_USEC 1000000

/* sd-bus takes 8 MiB where it may. What is in there nothing overtakes, and it is sent in one go. */
#define SEND_BUFFER (256 * 1024)

/* What RequestName answers; else somebody else has the name. */
enum { OWNER = 1, OWNER_ALREADY = 4 };

struct broker {
        struct endpoint endpoint; /* first: the vtables' userdata */
        bool user;
        struct senders senders;
        struct receiver receiver;
        int socket; /* the bus's once more, since sd-bus closes its own where the bus has gone; -1: none */

        bool owned_once;     /* we have had the name, and may have it still */
        bool is_ending;      /* nothing is answered any more */
        int failed;          /* we could not get it at start, and do not try again */
        sd_bus_slot *asking; /* for the name */
        sd_event_source *timer, *exit_source;
        bool pausing; /* the timer ends a pause, and not an attempt that takes too long */
        uint64_t pause_usec, started_usec;
        char complaint[160]; /* the last one */
};

static struct peer *broker_peer(struct endpoint *e, sd_bus_message *m)
{
        return senders_peer(&((struct broker *) e)->senders, sd_bus_message_get_sender(m));
}

static int broker_again(struct endpoint *e, sd_bus_message *m)
{
        int r = sd_bus_enqueue_for_read(e->bus, m);

        return r < 0 ? r : 1;
}

static void broker_sent(struct endpoint *e)
{
        /* Attached to the event loop, which sees to it. */
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct broker *b = userdata;
        int r = b->is_ending ? 1 : senders_take(&b->senders, m);

        return r != 0 ? r : values_property(m, error);
}

static void on_fetch(void *owner)
{
        senders_fetch(&((struct broker *) owner)->senders);
}

static int on_name_gone(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct broker *b = userdata;
        const char *name, *new_owner;

        if (sd_bus_message_read(m, "sss", &name, NULL, &new_owner) < 0)
                return 0;
        if (b->endpoint.service->polkit)
                polkit_name_changed(b->endpoint.service->polkit, name, new_owner);
        if (new_owner[0] == '\0')
                senders_forget(&b->senders, name);
        return 0;
}

/* sd-bus has closed its own. What waits in it nobody has looked at. */
static void close_socket(struct broker *b)
{
        receive_from_bus(NULL);
        foreign_forget(&b->receiver.look);
        if (b->socket >= 0)
                foreign_refuse(engine_foreign(b->endpoint.service->engine), b->socket);
        b->socket = -1;
}

static void broker_disconnect(struct broker *b)
{
        senders_clear(&b->senders);
        b->endpoint.service->polkit = polkit_free(b->endpoint.service->polkit);
        b->asking = sd_bus_slot_unref(b->asking);
        if (b->endpoint.bus) {
                sd_bus_detach_event(b->endpoint.bus);
                sd_bus_close(b->endpoint.bus);
                b->endpoint.bus = sd_bus_unref(b->endpoint.bus);
        }
        close_socket(b);
}

/* To wait does not help: somebody else has the name, we may not have it, or there is no address to be
 * tried. */
static bool is_final(int error, uint64_t tried_usec)
{
        return (error == -EEXIST && tried_usec >= OTHER_USEC) || error == -EACCES || error == -EPERM ||
               error == -EINVAL || error == -ENOMEDIUM;
}

/* Says why the name is not ours, but not the same with each attempt. */
static void complain(struct broker *b, const char *why)
{
        char complaint[sizeof b->complaint];

        snprintf(complaint, sizeof complaint, "%s: %s",
                        b->owned_once ? "The connection to the bus is lost" : "The bus cannot be used yet",
                        why);
        if (strcmp(complaint, b->complaint) == 0)
                return;
        strcpy(b->complaint, complaint);
        log_warning("%s; trying again", complaint);
}

static void set_timer(struct broker *b, uint64_t usec)
{
        (void) sd_event_source_set_time(b->timer, now_monotonic_usec() + usec);
        (void) sd_event_source_set_enabled(b->timer, SD_EVENT_ONESHOT);
}

/* The bus is not there, or went away, or does not give us the name. Contexts stay and direct connections go
 * on. Once we have had the name we try for ever; at start for a limited time, so that whoever started us is
 * told. */
static void broker_retry(struct broker *b, int error, const char *why)
{
        uint64_t tried_usec = now_monotonic_usec() - b->started_usec;

        if (b->pausing || b->failed < 0)
                return;
        if (!b->owned_once && (is_final(error, tried_usec) || tried_usec >= START_USEC)) {
                b->failed = error;
                return;
        }
        complain(b, why);
        b->pausing = true;
        set_timer(b, b->pause_usec);
        b->pause_usec = b->pause_usec * 2 < PAUSE_MAX_USEC ? b->pause_usec * 2 : PAUSE_MAX_USEC;
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        close_socket(userdata);
        broker_retry(userdata, -ECONNRESET, strerror(ECONNRESET));
        return 0;
}

/* The answer to RequestName. */
static int on_name(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const sd_bus_error *e = sd_bus_message_get_error(m);
        struct broker *b = userdata;
        uint32_t result = 0;

        b->asking = sd_bus_slot_unref(b->asking);
        if (e) {
                broker_retry(b, -sd_bus_message_get_errno(m), e->message ? e->message : e->name);
        } else if (sd_bus_message_read(m, "u", &result) < 0 || (result != OWNER && result != OWNER_ALREADY)) {
                broker_retry(b, -EEXIST, "another has the name " CTXD_BUS_NAME);
        } else {
                if (b->owned_once)
                        log_notice("The bus is back");
                (void) sd_event_source_set_enabled(b->timer, SD_EVENT_OFF);
                b->owned_once = true;
                b->pause_usec = PAUSE_MIN_USEC;
                b->complaint[0] = '\0';
        }
        return 0;
}

/* Nothing here waits for the bus, which may be stopped: direct connections are served meanwhile. */
static int broker_connect(struct broker *b)
{
        const int size = SEND_BUFFER;
        sd_bus *bus;
        int r;

        broker_disconnect(b);
        r = b->user ? sd_bus_open_user(&b->endpoint.bus) : sd_bus_open_system(&b->endpoint.bus);
        if (r < 0)
                return r;
        bus = b->endpoint.bus;
        b->receiver = (struct receiver){.fd = sd_bus_get_fd(bus),
                        .is_waited_for = true,
                        .look = {.foreign = engine_foreign(b->endpoint.service->engine),
                                        .party = FOREIGN_BUS,
                                        .uid = (uid_t) -1}};
        receive_from_bus(&b->receiver);
        b->socket = fcntl(b->receiver.fd, F_DUPFD_CLOEXEC, 3);
        if (b->socket < 0 || setsockopt(b->receiver.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) < 0)
                return -errno;
        if ((r = sd_bus_add_filter(bus, NULL, on_message, b)) < 0 ||
                        (r = sd_bus_match_signal_async(bus, NULL, "org.freedesktop.DBus",
                                         "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged",
                                         on_name_gone, NULL, b)) < 0 ||
                        (r = sd_bus_match_signal(bus, NULL, "org.freedesktop.DBus.Local",
                                         "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local",
                                         "Disconnected", on_disconnected, b)) < 0 ||
                        (r = endpoint_add_objects(&b->endpoint)) < 0 ||
                        (!b->user && (r = polkit_new(&b->endpoint, &b->endpoint.service->polkit)) < 0) ||
                        (r = sd_bus_attach_event(bus, b->endpoint.service->event, SD_EVENT_PRIORITY_NORMAL)) <
                                        0 ||
                        (r = sd_bus_request_name_async(bus, &b->asking, CTXD_BUS_NAME, 0, on_name, b)) < 0)
                return r;
        return 0;
}

static void broker_try(struct broker *b)
{
        int r = broker_connect(b);

        if (r < 0)
                broker_retry(b, r, strerror(-r));
        else
                set_timer(b, ATTEMPT_USEC);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct broker *b = userdata;

        if (!b->pausing) {
                broker_retry(b, -ETIMEDOUT, "it does not answer");
                return 0;
        }
        b->pausing = false;
        broker_try(b);
        return 0;
}

/* The event loop ends. sd-bus would close the bus now, before it is said what has ended, and would wait for
 * ever where the bus does not read. */
static int on_exit_of_loop(sd_event_source *source, void *userdata)
{
        struct broker *b = userdata;

        return b->endpoint.bus ? sd_bus_detach_event(b->endpoint.bus) : 0;
}

int broker_new(struct service *s, bool user, struct broker **ret)
{
        struct broker *b = calloc(1, sizeof *b);
        int r;

        if (!b)
                return -ENOMEM;
        b->user = user;
        b->socket = -1;
        b->endpoint = (struct endpoint){
                        .service = s, .peer_of = broker_peer, .sent = broker_sent, .again = broker_again};
        b->senders.endpoint = &b->endpoint;
        s->turns.fetch = on_fetch;
        s->turns.fetch_owner = b;
        b->pause_usec = PAUSE_MIN_USEC;
        b->started_usec = now_monotonic_usec();
        r = sd_event_add_time(s->event, &b->timer, CLOCK_MONOTONIC, 0, 1, on_timer, b);
        if (r >= 0)
                r = sd_event_source_set_enabled(b->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_exit(s->event, &b->exit_source, on_exit_of_loop, b);
        if (r >= 0)
                r = sd_event_source_set_priority(b->exit_source, SD_EVENT_PRIORITY_IMPORTANT);
        if (r < 0) {
                broker_free(b);
                return r;
        }
        broker_try(b);
        *ret = b;
        return 0;
}

int broker_owns_name(const struct broker *b)
{
        return b->failed < 0 ? b->failed : b->owned_once;
}

/* As sd_bus_flush() does it, which has no limit. */
static void send_rest(struct broker *b)
{
        uint64_t end = now_monotonic_usec() + END_USEC, now, n;

        b->is_ending = true;
        while (sd_bus_get_n_queued_write(b->endpoint.bus, &n) >= 0 && n > 0 &&
                        (now = now_monotonic_usec()) < end) {
                int r = sd_bus_process(b->endpoint.bus, NULL);

                if (r < 0 || (r == 0 && sd_bus_wait(b->endpoint.bus, end - now) < 0))
                        break;
        }
}

struct broker *broker_free(struct broker *b)
{
        if (!b)
                return NULL;
        /* One that is not ready would be waited for. */
        if (b->endpoint.bus && sd_bus_is_ready(b->endpoint.bus) > 0)
                send_rest(b);
        broker_disconnect(b);
        b->endpoint.service->turns.fetch = NULL;
        sd_event_source_disable_unref(b->timer);
        sd_event_source_disable_unref(b->exit_source);
        free(b);
        return NULL;
}
