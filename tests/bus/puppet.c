/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "puppet.h"

struct strings {
        void (*fn)(int in, int out);
        int in[2], out[2];
};

static void dance(void *userdata)
{
        const struct strings *s = userdata;

        /* The puppet must see the end of the pipe when the test closes its end. */
        close(s->in[1]);
        close(s->out[0]);
        s->fn(s->in[0], s->out[1]);
        _exit(0);
}

struct puppet puppet_start(void (*fn)(int in, int out))
{
        struct strings s = {.fn = fn};
        struct puppet p;

        ck_assert_int_eq(pipe2(s.in, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(s.out, O_CLOEXEC), 0);
        p.pid = spawn(dance, &s);
        p.pidfd = open_pidfd(p.pid);
        p.to = s.in[1];
        p.from = s.out[0];
        close(s.in[0]);
        close(s.out[1]);
        return p;
}

void puppet_end(struct puppet *p)
{
        if (p->pid > 0) {
                kill(p->pid, SIGKILL);
                waitpid(p->pid, NULL, 0);
        }
        close(p->pidfd);
        close(p->from);
        if (p->to >= 0)
                close(p->to);
}

void puppet_tell(const struct puppet *p, char byte)
{
        ck_assert_int_eq(write(p->to, &byte, 1), 1);
}

bool puppet_read(const struct puppet *p, void *buffer, size_t size)
{
        for (size_t length = 0; length < size;) {
                ssize_t n = becomes_readable(p->from) ? read(p->from, (char *) buffer + length, size - length)
                                                      : 0;

                if (n <= 0)
                        return false;
                length += (size_t) n;
        }
        return true;
}

char puppet_said(const struct puppet *p)
{
        char byte;

        return puppet_read(p, &byte, 1) ? byte : 0;
}

void puppet_await_state(const struct puppet *p, char state)
{
        ck_assert_happens(task_state(p->pid, p->pid) == state);
}

char puppet_told(int in)
{
        char byte;
        ssize_t n;

        while ((n = read(in, &byte, 1)) < 0 && errno == EINTR)
                ;
        if (n != 1)
                _exit(0);
        return byte;
}

void puppet_say(int out, char byte)
{
        if (write(out, &byte, 1) != 1)
                _exit(1);
}

void puppet_pause(int in, int out)
{
        for (;;)
                pause();
}
