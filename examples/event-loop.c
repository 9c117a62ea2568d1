/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Contexts in an sd-event loop, without threads: the descriptor of each context is an event source. Three
 * requests run at the same time, each with its own deadline. A timer cancels the second one. The loop ends
 * when all are done.
 *
 *     cc event-loop.c $(pkg-config --cflags --libs libctxclient libsystemd) -o event-loop && ./event-loop */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>

#include <ctxclient.h>

#define REQUESTS 3

struct request {
        struct ctx *ctx;
        unsigned number;
};

static unsigned running = REQUESTS;
static int results[REQUESTS];

static int request_done(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct request *request = userdata;
        const char *why;

        ctx_cause(request->ctx, &results[request->number], &why);
        printf("request %u: %s\n", request->number, why);
        /* The descriptor of a done context stays readable. */
        sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return --running == 0 ? sd_event_exit(sd_event_source_get_event(source), 0) : 0;
}

static int user_went_away(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct request *request = userdata;

        return ctx_cancel_cause(request->ctx, EPIPE, "the user went away") < 0 ? -EINVAL : 0;
}

int main(void)
{
        struct request requests[REQUESTS];
        CTX_AUTO_CANCEL struct ctx *server = ctx_with_cancel(ctx_background());
        sd_event *event = NULL;
        int r;

        r = sd_event_new(&event);
        for (unsigned i = 0; r >= 0 && i < REQUESTS; i++) {
                requests[i] = (struct request){
                                .ctx = ctx_with_timeout(
                                                server, i == 1 ? 60000000 : (i + 1) * UINT64_C(10000)),
                                .number = i,
                };
                if (!requests[i].ctx)
                        return EXIT_FAILURE;
                r = sd_event_add_io(event, NULL, ctx_done_fd(requests[i].ctx), EPOLLIN, request_done,
                                &requests[i]);
        }
        if (r >= 0)
                r = sd_event_add_time_relative(
                                event, NULL, CLOCK_MONOTONIC, 5000, 1, user_went_away, &requests[1]);
        if (r >= 0)
                r = sd_event_loop(event);
        sd_event_unref(event);
        for (unsigned i = 0; i < REQUESTS; i++)
                ctx_unref(requests[i].ctx);
        return r >= 0 && results[0] == ETIMEDOUT && results[1] == EPIPE && results[2] == ETIMEDOUT
                               ? EXIT_SUCCESS
                               : EXIT_FAILURE;
}
