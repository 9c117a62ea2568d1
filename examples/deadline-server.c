/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A server whose clients say how long their work takes, and how long they wait for it. Work of 10 s with a
 * limit of 200 ms stops when the time is up. Where the client goes away, the work stops too. It asks its
 * context, and needs to know nothing else. ^C stops the server.
 *
 *     cc deadline-server.c $(pkg-config --cflags --libs libctxclient) -o deadline-server && ./deadline-server
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ctxclient.h>

struct server {
        int listener;
        int abandoned; /* requests that nobody has got an answer to */
};

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
        CTX_AUTO_CANCEL struct ctx *client = ctx_with_hangup(parent, fd);
        CTX_AUTO_CANCEL struct ctx *ctx = NULL;
        char line[32] = {0}, answer[128];
        unsigned msec, limit_msec;
        const char *why = "done";
        ssize_t n;
        int r;

        if (!client)
                return -errno;
        n = ctx_read(client, fd, line, sizeof(line) - 1);
        if (n <= 0 || sscanf(line, "%u %u", &msec, &limit_msec) != 2)
                return n < 0 ? (int) n : -EBADMSG;
        ctx = ctx_with_timeout_cause(client, limit_msec * UINT64_C(1000), ETIME, "the request took too long");
        if (!ctx)
                return -errno;
        r = work(ctx, msec);
        if (r < 0)
                ctx_cause(ctx, NULL, &why);
        /* The request's context may be done, so the answer is written under the client's. That is done where
         * nobody is left to read it. */
        n = snprintf(answer, sizeof(answer), "%s\n", why);
        n = ctx_write(client, fd, answer, (size_t) n);
        return n < 0 ? (int) n : 0;
}

static int accept_loop(struct ctx *ctx, void *userdata)
{
        struct server *server = userdata;

        for (;;) {
                int fd = ctx_accept(ctx, server->listener, NULL, NULL);

                if (fd < 0)
                        return fd == -ECANCELED ? 0 : fd;
                if (serve(ctx, fd) < 0)
                        server->abandoned++;
                close(fd);
        }
}

/* answer NULL: goes away without waiting for one. */
static int ask(struct ctx *ctx, const struct sockaddr_in *address, const char *request, char *answer,
                size_t size)
{
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ssize_t n = fd < 0 ? -errno
                           : ctx_connect(ctx, fd, (const struct sockaddr *) address, sizeof(*address));

        if (n >= 0)
                n = ctx_write(ctx, fd, request, strlen(request));
        if (n >= 0 && answer)
                n = ctx_read(ctx, fd, answer, size - 1);
        if (n >= 0 && answer)
                answer[n] = '\0';
        if (fd >= 0)
                close(fd);
        return n < 0 ? (int) n : 0;
}

int main(void)
{
        const int signals[] = {SIGINT, SIGTERM};
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        CTX_AUTO_CANCEL struct ctx *program = ctx_with_signals(ctx_background(), signals, 2);
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout(program, 60000000);
        socklen_t size = sizeof(address);
        struct server server = {0};
        struct ctx_group *group;
        char quick[64], slow[64], next[64];
        int r;

        server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!ctx || server.listener < 0 || bind(server.listener, (struct sockaddr *) &address, size) < 0 ||
                        listen(server.listener, 8) < 0 ||
                        getsockname(server.listener, (struct sockaddr *) &address, &size) < 0)
                return EXIT_FAILURE;

        group = ctx_group_new(ctx);
        if (!group)
                return EXIT_FAILURE;
        r = ctx_group_go(group, accept_loop, &server);
        if (r >= 0)
                r = ask(ctx, &address, "10 10000", quick, sizeof(quick));
        if (r >= 0)
                r = ask(ctx, &address, "10000 200", slow, sizeof(slow));
        if (r >= 0)
                r = ask(ctx, &address, "600000 600000", NULL, 0);
        /* The server takes one after the other. */
        if (r >= 0)
                r = ask(ctx, &address, "10 10000", next, sizeof(next));

        ctx_cancel(ctx_group_ctx(group));
        if (ctx_group_wait(group) < 0)
                r = -1;
        ctx_group_unref(group);
        close(server.listener);
        if (r < 0) {
                fprintf(stderr, "%s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        printf("10 ms of work: %s10 s of work: %s10 minutes, and the client goes away: abandoned\nnext: %s",
                        quick, slow, next);
        return strcmp(slow, "the request took too long\n") != 0 || strcmp(next, "done\n") != 0 ||
                                               server.abandoned != 1
                               ? EXIT_FAILURE
                               : EXIT_SUCCESS;
}
