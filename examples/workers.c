/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A pipeline of threads with two channels: one thread makes numbers, four threads square them, one thread
 * adds them up. When the first thread fails, all others end, wherever they are blocked. Here the adding
 * thread fails once it has enough.
 *
 *     cc workers.c $(pkg-config --cflags --libs libctxclient) -o workers && ./workers */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ctxclient.h>

#define WORKERS 4
#define ENOUGH 1000000

struct pipeline {
        struct ctx_chan *numbers, *squares;
        unsigned long sum;
};

/* Goes on until its context is done. */
static int produce(struct ctx *ctx, void *userdata)
{
        struct pipeline *p = userdata;

        for (unsigned long i = 1;; i++) {
                int r = ctx_chan_send(ctx, p->numbers, &i);

                if (r < 0)
                        return r;
        }
}

static int square(struct ctx *ctx, void *userdata)
{
        struct pipeline *p = userdata;
        unsigned long number;
        int r;

        while ((r = ctx_chan_recv(ctx, p->numbers, &number)) > 0) {
                number *= number;
                r = ctx_chan_send(ctx, p->squares, &number);
                if (r < 0)
                        return r;
        }
        return r;
}

static int add_up(struct ctx *ctx, void *userdata)
{
        struct pipeline *p = userdata;
        unsigned long number;
        int r;

        while ((r = ctx_chan_recv(ctx, p->squares, &number)) > 0) {
                p->sum += number;
                if (p->sum >= ENOUGH)
                        return -EXFULL;
        }
        return r;
}

int main(void)
{
        struct ctx_group *group = ctx_group_new(ctx_background());
        struct pipeline p = {
                        .numbers = ctx_chan_new(sizeof(unsigned long), 0),
                        .squares = ctx_chan_new(sizeof(unsigned long), 8),
        };
        int r;

        if (!group || !p.numbers || !p.squares)
                return EXIT_FAILURE;
        r = ctx_group_go(group, produce, &p);
        for (int i = 0; r >= 0 && i < WORKERS; i++)
                r = ctx_group_go(group, square, &p);
        if (r >= 0)
                r = ctx_group_go(group, add_up, &p);
        if (r < 0)
                ctx_cancel(ctx_group_ctx(group));
        r = ctx_group_wait(group);
        printf("all have ended (%s), the sum is %lu\n", strerror(-r), p.sum);

        ctx_group_unref(group);
        ctx_chan_unref(p.numbers);
        ctx_chan_unref(p.squares);
        return r == -EXFULL && p.sum >= ENOUGH ? EXIT_SUCCESS : EXIT_FAILURE;
}
