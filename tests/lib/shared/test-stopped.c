/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/socket.h>

#include "lib/remote/line.h"
#include "tests/lib/shared/daemon.h"

/* A process that is stopped (SIGSTOP) for longer than a daemon may say nothing, right after it has looked for
 * the answer. The daemon has answered meanwhile. */

static bool may_stop, was_stopped;

ssize_t __real_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags)
{
        ssize_t r = __real_recvmsg(fd, m, flags);
        int saved = errno;

        if (may_stop && !was_stopped && r < 0 && saved == EAGAIN) {
                was_stopped = true;
                usleep(LINE_SILENCE_USEC + 100000);
        }
        errno = saved;
        return r;
}

START_TEST(law_03_a_cancel_that_was_first)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx;

        for (int i = 0; i < 1000 && !was_stopped; i++) {
                ctx = make(client, fresh_path());
                may_stop = true;
                ck_assert_int_eq(ctx_cancel(ctx), 1);
                may_stop = false;
                ctx_unref(ctx);
        }
        ck_assert(was_stopped);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {law_03_a_cancel_that_was_first, NULL};

        return run_tests_with_daemon("shared-stopped", tests);
}
