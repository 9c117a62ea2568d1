/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/daemon-address.h"
#include "proto/names.h"
#include "util/clock.h"

/* As long as sd-bus waits for an answer. */
#define CONNECT_USEC UINT64_C(25000000)
#define PAUSE_MIN_USEC UINT64_C(100)
#define PAUSE_MAX_USEC UINT64_C(10000)

const char *daemon_given_address(const char *address)
{
        return address ? address : secure_getenv(CTXD_ENV_ADDRESS);
}

size_t daemon_places(const char *given, bool user, struct daemon_place places[DAEMON_PLACES_MAX])
{
        const char *directory = secure_getenv("XDG_RUNTIME_DIR");
        struct daemon_place *place = places;

        if (given) {
                *place = (struct daemon_place){.given = given};
                return 1;
        }
        *place = (struct daemon_place){.user = user};
        if (!user)
                snprintf(place++->address, sizeof place->address, "unix:path=%s", CTXD_SYSTEM_SOCKET);
        else if (directory && snprintf(place->address, sizeof place->address, "unix:path=%s/ctxd/bus",
                                              directory) < (int) sizeof place->address)
                place++;
        *place++ = (struct daemon_place){.user = user};
        return (size_t) (place - places);
}

const char *daemon_place_name(const struct daemon_place *place)
{
        if (place->given)
                return place->given;
        if (place->address[0])
                return place->address;
        return place->user ? "the session bus" : "the system bus";
}

static int open_address(const char *address, sd_bus **ret)
{
        sd_bus *bus;
        int r;

        r = sd_bus_new(&bus);
        if (r < 0)
                return r;
        r = sd_bus_set_address(bus, address);
        /* The direct socket answers Hello as a bus does. So an address may be that of either. */
        if (r >= 0)
                r = sd_bus_set_bus_client(bus, 1);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0) {
                sd_bus_unref(bus);
                return r;
        }
        *ret = bus;
        return 0;
}

int daemon_place_connect(const struct daemon_place *place, sd_bus **ret)
{
        const char *address = place->given ? place->given : place->address;
        int r;

        if (*address)
                return open_address(address, ret);
        r = place->user ? sd_bus_open_user(ret) : sd_bus_open_system(ret);
        return r < 0 ? r : 0;
}

int daemon_place_connect_in_time(const struct daemon_place *place, uint64_t usec, sd_bus **ret)
{
        uint64_t slept = 0, pause = PAUSE_MIN_USEC;
        int r;

        while ((r = daemon_place_connect(place, ret)) == -EAGAIN && slept < usec) {
                (void) nanosleep(&(struct timespec){.tv_nsec = (long) pause * 1000}, NULL);
                slept += pause;
                pause = pause * 2 < PAUSE_MAX_USEC ? pause * 2 : PAUSE_MAX_USEC;
        }
        return r;
}

int daemon_alive_message(sd_bus *bus, sd_bus_message **ret)
{
        return sd_bus_message_new_method_call(
                        bus, ret, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Alive");
}

bool daemon_has_answered(const sd_bus_error *error)
{
        return sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_METHOD) ||
               sd_bus_error_has_name(error, CTXD_ERROR_LIMITS_EXCEEDED);
}

/* sd-bus waits for 90 s where nobody answers to its first words. */
static int wait_until_ready(sd_bus *bus, uint64_t until_usec)
{
        int r;

        while ((r = sd_bus_is_ready(bus)) == 0) {
                r = sd_bus_process(bus, NULL);
                if (r == 0) {
                        uint64_t now = now_monotonic_usec();

                        if (now >= until_usec)
                                return -ETIMEDOUT;
                        r = sd_bus_wait(bus, until_usec - now);
                }
                if (r < 0 && r != -EINTR)
                        return r;
        }
        return r;
}

/* Who listens at our own socket is ctxd. On a bus nobody need be there. */
static int ask(const struct daemon_place *place, sd_bus *bus, uint64_t until_usec, sd_bus_error *error)
{
        sd_bus_message *question = NULL;
        uint64_t now, left = 0; /* as long as sd-bus waits */
        int r;

        r = wait_until_ready(bus, until_usec);
        if (r < 0 || (place->address[0] && !place->given))
                return r;
        now = now_monotonic_usec();
        if (until_usec != UINT64_MAX)
                left = now < until_usec ? until_usec - now : 1;
        r = daemon_alive_message(bus, &question);
        if (r >= 0)
                r = sd_bus_call(bus, question, left, error, NULL);
        sd_bus_message_unref(question);
        return r;
}

static int try_place(const struct daemon_place *place, uint64_t until_usec, sd_bus **ret, sd_bus_error *error)
{
        uint64_t now = now_monotonic_usec(), left = now < until_usec ? until_usec - now : 0;
        sd_bus *bus;
        int r;

        r = daemon_place_connect_in_time(place, left < CONNECT_USEC ? left : CONNECT_USEC, &bus);
        if (r < 0)
                return r;
        r = ask(place, bus, until_usec, error);
        if (r < 0 && !daemon_has_answered(error)) {
                sd_bus_close(bus);
                sd_bus_unref(bus);
                return r;
        }
        *ret = bus;
        return 0;
}

int daemon_connect(
                const char *given, bool user, uint64_t until_usec, sd_bus **ret, char *ret_text, size_t size)
{
        struct daemon_place places[DAEMON_PLACES_MAX];
        size_t n = daemon_places(given, user, places);
        int r = -ENXIO, length = 0;

        *ret_text = '\0';
        for (size_t i = 0; i < n; i++) {
                sd_bus_error error = SD_BUS_ERROR_NULL;

                r = try_place(places + i, until_usec, ret, &error);
                if (r < 0 && length >= 0 && (size_t) length < size)
                        length += snprintf(ret_text + length, size - (size_t) length, "%s %s: %s",
                                        i == 0 ? "at" : "; nor at", daemon_place_name(places + i),
                                        error.message ? error.message : strerrordesc_np(-r));
                sd_bus_error_free(&error);
                if (r >= 0)
                        return 0;
        }
        return r;
}
