/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "proto/leak-sentence.h"
#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/leak.h"

#define LEAKS_MAX 1000

bool leak_is_resolved(json_object *leak)
{
        return json_object_get_boolean(json_object_object_get(leak, "CTXD_RESOLVED"));
}

bool leak_is_more(json_object *leak)
{
        return strcmp(json_get_text(leak, "CTXD_LEAK"), "more") == 0;
}

bool leak_is_held(json_object *leak)
{
        return strcmp(json_get_text(leak, "CTXD_LEAK"), "held") == 0;
}

void leaks_count(json_object *array, struct leak_counts *ret)
{
        *ret = (struct leak_counts){};
        for (size_t i = 0; i < json_object_array_length(array); i++) {
                json_object *leak = json_object_array_get_idx(array, i);

                if (leak_is_more(leak))
                        ret->more += json_get_number(leak, "CTXD_COUNT");
                else if (leak_is_held(leak))
                        ret->held++;
                else if (leak_is_resolved(leak))
                        ret->left++;
                else
                        ret->running++;
        }
}

static void compose_message(json_object *leak, char *buffer, size_t size)
{
        struct leak_facts facts = {
                        .comm = json_get_text(leak, "OBJECT_COMM"),
                        .pid = (uint32_t) json_get_number(leak, "OBJECT_PID"),
                        .tid = (uint32_t) json_get_number(leak, "CTXD_TID"),
                        .ignoring = strcmp(json_get_text(leak, "CTXD_LEAK"), "ignoring") == 0,
                        .more = leak_is_more(leak),
                        .context = json_get_text(leak, "CTXD_CONTEXT"),
                        .err = json_get_text(leak, "CTXD_ERR"),
                        .cause = json_get_text(leak, "CTXD_CAUSE"),
                        .cause_uid = UINT32_MAX,
                        .since_done_usec = json_get_number(leak, "CTXD_SINCE_DONE_USEC"),
                        .syscall = json_get_text(leak, "CTXD_SYSCALL"),
                        .waits_on = json_get_text(leak, "CTXD_WAITS_ON"),
                        .stack = json_get_text(leak, "CTXD_STACK"),
                        .blocked_usec = json_get_number(leak, "CTXD_BLOCKED_USEC"),
                        .count = json_get_number(leak, "CTXD_COUNT"),
                        .percent = -1,
        };

        leak_sentence_found(&facts, buffer, size);
}

int leak_read(sd_bus_message *m, json_object **ret)
{
        json_object *leak = json_object_new_object();
        char message[4096];
        const char *path;
        uint64_t id;
        int r;

        r = sd_bus_message_read(m, "st", &path, &id);
        if (r < 0) {
                json_object_put(leak);
                return r;
        }
        json_object_object_add(leak, "CTXD_CONTEXT", json_object_new_string(path));
        json_object_object_add(leak, "CTXD_CONTEXT_ID", json_object_new_uint64(id));
        r = json_from_dictionary(m, "{sv}", leak);
        if (r < 0) {
                json_object_put(leak);
                return r;
        }
        json_null_for_none(leak);
        compose_message(leak, message, sizeof message);
        json_object_object_add(leak, "MESSAGE", json_object_new_string(message));
        *ret = leak;
        return 0;
}

int leaks_read(struct ctl *ctl, const char *prefix, json_object *array, bool *ret_truncated)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        json_object *leak;
        int r, truncated;

        r = bus_call(ctl, &reply, "Leaks", "su", prefix, (uint32_t) LEAKS_MAX);
        if (r > 0)
                return r;
        r = sd_bus_message_enter_container(reply, 'a', "(sta{sv})");
        if (r < 0)
                return bus_broken(r);
        while ((r = sd_bus_message_enter_container(reply, 'r', "sta{sv}")) > 0) {
                r = leak_read(reply, &leak);
                if (r < 0)
                        return bus_broken(r);
                json_object_array_add(array, leak);
                r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        return bus_broken(r);
        }
        if (r < 0 || (r = sd_bus_message_exit_container(reply)) < 0 ||
                        (r = sd_bus_message_read(reply, "b", &truncated)) < 0)
                return bus_broken(r);
        *ret_truncated = truncated;
        return 0;
}
