/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A server that gives each request 200 ms, and a client that asks for 10 ms of work and for 10 s of work.
 * When the time is up, the work stops, because it asks its context. The work needs to know nothing else.
 *
 *     cc deadline-server.c $(pkg-config --cflags --libs libctxclient) -o deadline-server && ./deadline-server
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ctxclient.h>

#define REQUEST_USEC 200000

/* The work knows nothing of requests or sockets. It sleeps in small steps until its context is done. */
static int work(struct ctx *ctx, unsigned msec)
{
        for (unsigned i = 0; i < msec; i++) {
                int r = ctx_sleep(ctx, 1000);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int serve(struct ctx *parent, int fd)
{
        CTX_AUTO_CANCEL struct ctx *ctx =
                        ctx_with_timeout_cause(parent, REQUEST_USEC, ETIME, "the request took too long");
        char line[32] = {0}, answer[128];
        const char *why = "done";
        ssize_t n;
        int r;

        if (!ctx)
                return -errno;
        n = ctx_read(ctx, fd, line, sizeof(line) - 1);
        if (n <= 0)
                return (int) n;
        r = work(ctx, (unsigned) atoi(line));
        if (r < 0)
                ctx_cause(ctx, NULL, &why);
        /* The request's context may be done, so the answer is written under the server's context. */
        n = snprintf(answer, sizeof(answer), "%s\n", why);
        n = ctx_write(parent, fd, answer, (size_t) n);
        return n < 0 ? (int) n : 0;
}

static int accept_loop(struct ctx *ctx, void *userdata)
{
        int listener = *(int *) userdata;

        for (;;) {
                int fd = ctx_accept(ctx, listener, NULL, NULL);

                if (fd < 0)
                        return fd == -ECANCELED ? 0 : fd;
                serve(ctx, fd);
                close(fd);
        }
}

static int ask(struct ctx *ctx, const struct sockaddr_in *address, const char *msec, char *answer,
                size_t size)
{
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ssize_t n = fd < 0 ? -errno
                           : ctx_connect(ctx, fd, (const struct sockaddr *) address, sizeof(*address));

        if (n >= 0)
                n = ctx_write(ctx, fd, msec, strlen(msec));
        if (n >= 0)
                n = ctx_read(ctx, fd, answer, size - 1);
        if (n >= 0)
                answer[n] = '\0';
        if (fd >= 0)
                close(fd);
        return n < 0 ? (int) n : 0;
}

int main(void)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout(ctx_background(), 20000000);
        socklen_t size = sizeof(address);
        struct ctx_group *group;
        char quick[64], slow[64];
        int listener, r;

        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!ctx || listener < 0 || bind(listener, (struct sockaddr *) &address, size) < 0 ||
                        listen(listener, 8) < 0 ||
                        getsockname(listener, (struct sockaddr *) &address, &size) < 0)
                return EXIT_FAILURE;

        group = ctx_group_new(ctx);
        if (!group)
                return EXIT_FAILURE;
        r = ctx_group_go(group, accept_loop, &listener);
        if (r >= 0)
                r = ask(ctx, &address, "10", quick, sizeof(quick));
        if (r >= 0)
                r = ask(ctx, &address, "10000", slow, sizeof(slow));
        if (r < 0)
                fprintf(stderr, "%s\n", strerror(-r));
        else
                printf("10 ms of work: %s10 s of work: %s", quick, slow);

        ctx_cancel(ctx_group_ctx(group));
        if (ctx_group_wait(group) < 0)
                r = -1;
        ctx_group_unref(group);
        close(listener);
        return r < 0 || strcmp(slow, "the request took too long\n") != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
