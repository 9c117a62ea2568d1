/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* copy [SECONDS]: copies standard input to standard output, until the input ends, or the time is up, or
 * somebody presses Ctrl-C. It writes all that it has read before it ends. At the end it prints the number
 * of bytes.
 *
 *     cc copy.c $(pkg-config --cflags --libs libctxclient) -o copy && ./copy 5 </dev/zero | wc -c */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <ctxclient.h>

/* A signal handler must not cancel a context. A thread that waits for the signal may. */
static void *wait_for_signal(void *userdata)
{
        sigset_t set;
        int signal;

        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        if (sigwait(&set, &signal) == 0)
                ctx_cancel_cause(userdata, EINTR, "a signal came");
        ctx_unref(userdata);
        return NULL;
}

static int write_all(struct ctx *ctx, const char *buffer, size_t n)
{
        while (n > 0) {
                ssize_t r = ctx_write(ctx, STDOUT_FILENO, buffer, n);

                if (r < 0)
                        return (int) r;
                buffer += r;
                n -= (size_t) r;
        }
        return 0;
}

static int copy(struct ctx *ctx, unsigned long *total)
{
        static char buffer[65536];
        /* What was read is written under this context, which has the values of ctx, but is not canceled
         * with it. */
        CTX_AUTO_UNREF struct ctx *detached = ctx_without_cancel(ctx);
        ssize_t n;

        while ((n = ctx_read(ctx, STDIN_FILENO, buffer, sizeof(buffer))) > 0) {
                CTX_AUTO_CANCEL struct ctx *flush = detached ? ctx_with_timeout(detached, 1000000) : NULL;
                int r = flush ? write_all(flush, buffer, (size_t) n) : -ENOMEM;

                if (r < 0)
                        return r;
                *total += (unsigned long) n;
        }
        return (int) n;
}

int main(int argc, char **argv)
{
        double seconds = argc > 1 ? atof(argv[1]) : 0;
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout_cause(ctx_background(),
                        seconds > 0 ? (uint64_t) (seconds * 1e6) : UINT64_MAX, ETIMEDOUT, "time is up");
        const char *why = "all of it";
        unsigned long total = 0;
        pthread_t thread;
        sigset_t set;
        int r;

        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        if (!ctx || pthread_create(&thread, NULL, wait_for_signal, ctx_ref(ctx)) != 0)
                return EXIT_FAILURE;
        pthread_detach(thread);

        r = copy(ctx, &total);
        if (r < 0)
                ctx_cause(ctx, NULL, &why);
        fprintf(stderr, "%lu bytes: %s\n", total, why);
        return r < 0 && ctx_err(ctx) == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
