/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/walk.h"
#include "proto/path.h"

#define LEAK_BYTES 1024 /* beside its stacks */

static int append_leak_of(
                sd_bus_message *m, const struct request *q, const struct context *c, const struct leak *leak)
{
        char path[CTXD_PATH_MAX + 1];
        int r;

        r = sd_bus_message_open_container(m, SD_BUS_TYPE_STRUCT, "sta{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "st", context_path(c, path), c->id);
        if (r >= 0)
                r = message_append_leak(m, q->service->tree, &q->caller, c, leak);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int leaks(struct walk *w, uint32_t budget)
{
        struct request *q = &w->request;
        const struct leak *leak;
        struct context *c;
        int r = 0;

        if (!w->reply) {
                engine_begin_leaks(q->service->engine, &w->leaks);
                r = sd_bus_message_new_method_return(q->message, &w->reply);
                if (r >= 0)
                        r = sd_bus_message_open_container(w->reply, SD_BUS_TYPE_ARRAY, "(sta{sv})");
        }
        while (r >= 0 && !w->is_truncated && (leak = engine_next_leak(&w->leaks, q->context, &budget, &c))) {
                if (!request_allows(q, c, VERB_LOOK))
                        continue;
                w->is_truncated = w->contexts++ == w->limit;
                if (w->is_truncated)
                        break;
                w->bytes += LEAK_BYTES + strlen(leak->stack) + strlen(leak->kernel_stack);
                r = append_leak_of(w->reply, q, c, leak);
        }
        if (r >= 0 && budget == 0 && !w->is_truncated)
                return 0;
        return walk_send_list(w, r);
}

int verb_leaks(struct request *q)
{
        struct walk *w;
        uint32_t limit;
        int r = request_read_limit(q, &limit);

        if (r < 0)
                return r;
        w = walk_new(q, q->context, NULL, leaks);
        if (!w)
                return -ENOMEM;
        w->limit = limit;
        return walk_begin(w);
}
