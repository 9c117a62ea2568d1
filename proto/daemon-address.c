/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/daemon-address.h"
#include "proto/names.h"

const char *reach_given(const char *address)
{
        return address ? address : secure_getenv(CTXD_ENV_ADDRESS);
}

size_t reach_places(const char *given, bool user, struct reach_place places[REACH_PLACES_MAX])
{
        const char *directory = secure_getenv("XDG_RUNTIME_DIR");
        struct reach_place *place = places;

        if (given) {
                *place = (struct reach_place){.given = given};
                return 1;
        }
        *place = (struct reach_place){.user = user};
        if (!user)
                snprintf(place++->address, sizeof place->address, "unix:path=%s", CTXD_SYSTEM_SOCKET);
        else if (directory && snprintf(place->address, sizeof place->address, "unix:path=%s/ctxd/bus",
                                              directory) < (int) sizeof place->address)
                place++;
        *place++ = (struct reach_place){.user = user};
        return (size_t) (place - places);
}

const char *reach_name(const struct reach_place *place)
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
        /* The direct socket answers Hello as a broker does, so that an address may name either. */
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

int reach_open(const struct reach_place *place, sd_bus **ret)
{
        const char *address = place->given ? place->given : place->address;
        int r;

        if (*address)
                return open_address(address, ret);
        r = place->user ? sd_bus_open_user(ret) : sd_bus_open_system(ret);
        return r < 0 ? r : 0;
}

int reach_question(sd_bus *bus, sd_bus_message **ret)
{
        return sd_bus_message_new_method_call(
                        bus, ret, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Alive");
}

bool reach_is_answer(const sd_bus_error *error)
{
        return sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_METHOD) ||
               sd_bus_error_has_name(error, CTXD_ERROR_LIMITS_EXCEEDED);
}

static int try(const struct reach_place *place, sd_bus **ret, sd_bus_message **ret_answer,
                sd_bus_error *error)
{
        sd_bus_message *question = NULL;
        sd_bus *bus;
        int r;

        r = reach_open(place, &bus);
        if (r < 0)
                return r;
        r = reach_question(bus, &question);
        if (r >= 0)
                r = sd_bus_call(bus, question, 0, error, ret_answer);
        sd_bus_message_unref(question);
        if (r < 0 && !reach_is_answer(error)) {
                sd_bus_close(bus);
                sd_bus_unref(bus);
                return r;
        }
        *ret = bus;
        return 0;
}

int reach(const char *given, bool user, sd_bus **ret, sd_bus_message **ret_answer, char *ret_text,
                size_t size)
{
        struct reach_place places[REACH_PLACES_MAX];
        size_t n = reach_places(given, user, places);
        int r = -ENXIO, length = 0;

        *ret_text = '\0';
        for (size_t i = 0; i < n; i++) {
                sd_bus_error error = SD_BUS_ERROR_NULL;
                sd_bus_message *answer = NULL;

                r = try(places + i, ret, &answer, &error);
                if (r >= 0 && ret_answer)
                        *ret_answer = sd_bus_message_ref(answer);
                sd_bus_message_unref(answer);
                if (r < 0 && length >= 0 && (size_t) length < size)
                        length += snprintf(ret_text + length, size - (size_t) length, "%s %s: %s",
                                        i == 0 ? "at" : "; nor at", reach_name(places + i),
                                        error.message ? error.message : strerrordesc_np(-r));
                sd_bus_error_free(&error);
                if (r >= 0)
                        return 0;
        }
        return r;
}
