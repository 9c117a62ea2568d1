/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/walk.h"
#include "proto/path.h"
#include "util/cleanup.h"

/* How the end of a context reaches its members, by what signal, and whom it does not reach, and why (law
 * 47). To know that of one process may take a look at /etc/subuid, so rows are made a few at a time. */

#define ENDING_BYTES 256 /* without the path */

static const char *const unsignalled_names[] = {
                [UNSIGNALLED_NO] = "",
                [UNSIGNALLED_WITHOUT] = "without",
                [UNSIGNALLED_HELPER] = "helper",
                [UNSIGNALLED_USER] = "user",
                [UNSIGNALLED_REFUSED] = "refused",
                [UNSIGNALLED_MISSED] = "missed",
};

static int append_ending(struct walk *w, const struct member_process *p, const struct member_ending *ending)
{
        char reference[CTXD_PATH_ID_MAX + 1];

        context_reference(p->context, reference);
        w->bytes += ENDING_BYTES + strlen(reference);
        return sd_bus_message_append(w->reply, "(uta{sv})", p->pid, p->start_usec, 6, "context", "s",
                        reference, "command", "s", p->comm, "attached-by", "u", ending->policy.uid, "signal",
                        "i", ending->policy.signal, "kill-after-usec", "t", ending->policy.kill_after_usec,
                        "unsignalled", "s", unsignalled_names[ending->unsignalled]);
}

/* Threads that have entered are nobody's to signal: their process hears of the end, or looks. There is a row
 * for each process that has some. */
static int append_entered(struct walk *w)
{
        _cleanup_free_ struct member_task *tasks = NULL;
        struct request *q = &w->request;
        char reference[CTXD_PATH_ID_MAX + 1];
        size_t n = 0;
        int r = engine_entered(q->service->engine, q->context, w->flag, &tasks, &n);

        for (size_t i = 0, next; r >= 0 && i < n && !w->is_truncated; i = next) {
                const struct member_task *t = &tasks[i];

                for (next = i + 1;
                                next < n && tasks[next].pid == t->pid && tasks[next].context == t->context;)
                        next++;
                if (!request_allows(q, t->context, VERB_LOOK))
                        continue;
                w->is_truncated = w->members++ == w->limit;
                if (w->is_truncated)
                        break;
                context_reference(t->context, reference);
                w->bytes += ENDING_BYTES + strlen(reference);
                r = sd_bus_message_append(w->reply, "(uta{sv})", t->pid, t->process_start_usec, 5, "context",
                                "s", reference, "command", "s", t->comm, "signal", "i", 0, "unsignalled", "s",
                                "entered", "threads", "u", (uint32_t) (next - i));
        }
        return r;
}

static int endings(struct walk *w, uint32_t budget)
{
        struct request *q = &w->request;
        struct member_process p;
        struct member_ending ending;
        int r = 0;

        if (!w->reply) {
                r = walk_look(w);
                if (r <= 0)
                        return r;
                r = sd_bus_message_new_method_return(q->message, &w->reply);
                if (r >= 0)
                        r = sd_bus_message_open_container(w->reply, SD_BUS_TYPE_ARRAY, "(uta{sv})");
        }
        for (; r >= 0 && budget > 0 && !w->is_truncated; budget--) {
                if (!members_look_next_ending(w->look, &w->next_member, &p, &ending))
                        break;
                if (!request_allows(q, p.context, VERB_LOOK))
                        continue;
                w->is_truncated = w->members++ == w->limit;
                if (w->is_truncated)
                        break;
                r = append_ending(w, &p, &ending);
        }
        if (r >= 0 && budget == 0)
                return 0;
        if (r >= 0 && !w->is_truncated)
                r = append_entered(w);
        return walk_send_list(w, r);
}

int verb_endings(struct request *q)
{
        int recursive, r;
        uint32_t limit;

        r = sd_bus_message_read(q->message, "b", &recursive);
        if (r < 0)
                return error_malformed(q->error, r);
        r = request_read_limit(q, &limit);
        return r < 0 ? r : walk_members(q, recursive, true, limit, endings);
}
