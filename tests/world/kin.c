/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/proc.h"
#include "tests/world/kin.h"

/* Its child has a child. That child in between goes when it is told to. */
static void body_three(int in, int out)
{
        char byte;

        (void) signal(SIGTERM, SIG_IGN);
        if (fork() > 0)
                child_sleep(-1, out);
        if (fork() == 0)
                child_count(-1, out);
        child_ready(out);
        _exit(read(in, &byte, 1) == 1 ? 0 : 1);
}

struct child *start_three(void)
{
        struct child *child = child_start(body_three);

        for (int i = 0; i < 2; i++)
                ck_assert_int_eq(child_say(child), '!');
        return child;
}

size_t list(struct context *c, struct member_process *ret, size_t max)
{
        struct member_process *processes;
        size_t n;

        ck_assert_int_eq(engine_processes(world.engine, c, true, &processes, &n), 0);
        for (size_t i = 0; i < n && i < max; i++)
                ret[i] = processes[i];
        free(processes);
        return n;
}

uint32_t cancel_all(struct context *c)
{
        uint32_t n = cancel(c), more = 0;
        struct signal_pass *p = engine_take_signals(world.engine);

        while (p && engine_signals_go(world.engine, p, 10, &more) == 0) {
        }
        engine_signals_let_go(world.engine, p);
        return n + more;
}

static int take_one(void *userdata, pid_t child)
{
        *(pid_t *) userdata = child;
        return 1;
}

int take_other(void *userdata, pid_t child)
{
        pid_t *pids = userdata;

        if (child == pids[0])
                return 0;
        pids[1] = child;
        return 1;
}

static pid_t parent_of(pid_t pid)
{
        struct proc_stat stat;

        return proc_stat_read(pid, &stat) < 0 ? 0 : stat.ppid;
}

pid_t only_child_of(pid_t pid)
{
        pid_t child = 0;

        (void) proc_each_child(pid, take_one, &child);
        ck_assert_int_ne(child, 0);
        return child;
}

static bool is_its_parents(void *userdata)
{
        return parent_of(*(pid_t *) userdata) != getpid();
}

void orphan(struct child *child, pid_t last)
{
        child_tell(child, 'x');
        run_while(is_its_parents, &last);
}

bool is_zombie(uint32_t pid)
{
        struct proc_stat stat;

        return proc_stat_read((pid_t) pid, &stat) < 0 || proc_is_dead(&stat);
}

void body_breeder_below(int in, int out)
{
        if (fork() > 0)
                child_sleep(-1, out);
        child_breed(in, out);
}
