/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/bus.h"
#include "ctl/drain.h"
#include "ctl/endings.h"
#include "ctl/format.h"
#include "ctl/handle.h"
#include "ctl/json.h"
#include "ctl/left.h"
#include "ctl/terminal.h"

/* Only the "Drained" handle says when the last member has left, since a thread can be a member without its
 * process. We ask for the processes from time to time, to show them. */

#define UPDATE_FIRST_USEC 20000
#define UPDATE_LAST_USEC 500000

/* Says whether the context has drained, or the time is up. 0, or a positive exit status. */
static int wait_and_update(struct left *left, int handle, uint64_t timeout_usec, bool *ret_drained)
{
        uint64_t pause = UPDATE_FIRST_USEC;

        for (;;) {
                uint64_t passed = now_boottime_usec() - left->since_usec;
                uint64_t rest = passed < timeout_usec ? timeout_usec - passed : 0;
                int r = handle_wait(left->ctl, handle, left->path, rest < pause ? rest : pause, ret_drained);

                if (r > 0 || *ret_drained || rest <= pause)
                        return r;
                if (!left->silent) {
                        r = left_update(left);
                        if (r > 0)
                                return r;
                }
                pause = pause < UPDATE_LAST_USEC / 2 ? 2 * pause : UPDATE_LAST_USEC;
        }
}

static void print_left(const struct left *left, uint64_t timeout_usec)
{
        char span[FORMAT_MAX];

        if (left->processes.n == 0) {
                printf("Not drained within %s: threads of other processes still work for %s%s\n",
                                format_timespan(span, timeout_usec), left->path,
                                left->processes.n_entered > 0 ? ":" : ".");
                endings_print_entered(&left->processes);
                return;
        }
        printf("%zu process%s did not stop within %s:\n", left->processes.n, left_plural(left->processes.n),
                        format_timespan(span, timeout_usec));
        left_print(left);
        if (left->processes.n_entered > 0)
                printf("Threads of other processes still work for %s:\n", left->path);
        endings_print_entered(&left->processes);
}

static int finish(struct left *left, bool drained, const char *backend, uint64_t timeout_usec,
                json_object *json)
{
        bool silent = left->silent;
        json_object *array;
        int r = 0;

        if (left->terminal)
                left_erase(left);
        left->silent = true; /* the list below shows who is left */
        if (!drained)
                r = left_update(left);
        if (!drained && r == 0)
                r = left_read_endings(left);
        left->silent = silent;
        if (r > 0)
                return r;
        if (drained && !left->silent && !left->terminal)
                left_print_gone(left);
        if (json) {
                json_object_object_add(json, "drained", json_object_new_boolean(drained));
                if (drained)
                        process_list_deinit(&left->processes);
                array = process_list_to_json(&left->processes);
                endings_add_entered(&left->processes, array);
                json_object_object_add(json, "left", array);
                json_add_text(json, "membership_backend", backend);
        } else if (drained) {
                printf("Drained: nobody is left under %s%s.\n", left->path,
                                strcmp(backend, "bpf") == 0 ? "" : ", as far as can be seen without BPF");
        } else {
                print_left(left, timeout_usec);
        }
        return drained ? EXIT_DONE : EXIT_NOT_DRAINED;
}

int drain_wait(struct ctl *ctl, const char *path, uint64_t timeout_usec, json_object *json)
{
        struct left left = {.ctl = ctl,
                        .path = path,
                        .to = stdout,
                        .silent = json,
                        .since_usec = now_boottime_usec()};
        _cleanup_free_ char *backend = NULL; /* that knows the members */
        _cleanup_close_ int handle = -1;
        bool drained = false;
        int r;

        left.terminal = !json && !ctl->full && isatty(STDOUT_FILENO) && terminal_is_capable();
        r = bus_property(ctl, "MembershipBackend", &backend);
        if (r == 0)
                r = handle_get(ctl, "Drained", path, &handle);
        if (r == 0)
                r = wait_and_update(&left, handle, timeout_usec, &drained);
        if (r == 0)
                r = finish(&left, drained, backend, timeout_usec, json);
        left_deinit(&left);
        return r;
}
