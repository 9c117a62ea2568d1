/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/clock.h"
#include "tests/leaks/harness.h"
#include "tests/leaks/journal.h"

#define RUN_SYSTEMD "/run/systemd"

bool journal_leave(int flags)
{
        return unshare(CLONE_NEWNS | flags) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

bool journal_can_listen(void)
{
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(journal_leave(0) ? 0 : 1);
        return waitpid(pid, &status, 0) == pid && status == 0;
}

int journal_listen(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = RUN_SYSTEMD "/journal/socket"};
        int fd;

        ck_assert(journal_leave(0));
        mkdir(RUN_SYSTEMD, 0755);
        ck_assert_int_eq(mount("tmpfs", RUN_SYSTEMD, "tmpfs", 0, NULL), 0);
        ck_assert_int_eq(mkdir(RUN_SYSTEMD "/journal", 0755), 0);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, sizeof address), 0);
        return fd;
}

char *journal_next(int fd, const char *message_id)
{
        static char entry[65536];
        uint64_t until = now_boottime_usec() + PATIENCE_USEC;

        while (now_boottime_usec() < until) {
                struct pollfd p = {.fd = fd, .events = POLLIN};
                ssize_t n;

                if (poll(&p, 1, 100) <= 0)
                        continue;
                n = recv(fd, entry, sizeof entry - 1, 0);
                ck_assert_int_gt(n, 0);
                for (ssize_t i = 0; i < n; i++) /* the lengths of multi-line fields */
                        if (entry[i] == 0)
                                entry[i] = ' ';
                entry[n] = '\0';
                if (strstr(entry, message_id))
                        return entry;
        }
        ck_abort_msg("no entry %s", message_id);
}

void has_line(const char *entry, const char *format, ...)
{
        char line[512], *text;
        va_list ap;

        va_start(ap, format);
        vsnprintf(line, sizeof line, format, ap);
        va_end(ap);
        ck_assert_int_gt(asprintf(&text, "\n%s", entry), 0);
        ck_assert_msg(strstr(text, line) != NULL, "no line %s in:%s", line, text);
        free(text);
}
