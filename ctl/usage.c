/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/proc.h"
#include "ctl/usage.h"

struct sample {
        uint32_t pid;
        uint64_t start_usec;
        uint64_t cpu_ticks, rss_pages;
};

struct usage_look {
        uint64_t when_usec;
        struct sample *samples; /* sorted at the end */
        size_t n, allocated;
};

static int compare(const void *a, const void *b)
{
        const struct sample *x = a, *y = b;

        if (x->pid != y->pid)
                return x->pid < y->pid ? -1 : 1;
        return (x->start_usec > y->start_usec) - (x->start_usec < y->start_usec);
}

static const struct sample *find(const struct usage_look *look, const struct process *process)
{
        struct sample key = {.pid = process->pid, .start_usec = process->start_usec};

        return look->n > 0 ? bsearch(&key, look->samples, look->n, sizeof key, compare) : NULL;
}

struct usage_look *usage_look_new(void)
{
        return calloc(1, sizeof(struct usage_look));
}

struct usage_look *usage_look_free(struct usage_look *look)
{
        if (look)
                free(look->samples);
        free(look);
        return NULL;
}

int usage_look_add(struct usage_look *look, const struct process_list *list)
{
        for (size_t i = 0; i < list->n; i++) {
                const struct process *p = list->items + i;
                struct proc_stat stat;

                if (look->n == look->allocated) {
                        size_t n = look->allocated ? 2 * look->allocated : 64;
                        struct sample *samples = reallocarray(look->samples, n, sizeof *samples);

                        if (!samples)
                                return -ENOMEM;
                        look->samples = samples;
                        look->allocated = n;
                }
                if (proc_stat_read((pid_t) p->pid, &stat) >= 0 &&
                                stat.start_ticks == proc_nsec_to_ticks(p->start_usec * 1000))
                        look->samples[look->n++] = (struct sample){
                                        p->pid, p->start_usec, stat.cpu_ticks, stat.rss_pages};
        }
        return 0;
}

void usage_look_end(struct usage_look *look)
{
        look->when_usec = now_boottime_usec();
        if (look->n > 0)
                qsort(look->samples, look->n, sizeof *look->samples, compare);
}

struct usage usage_of(const struct usage_look *earlier, const struct usage_look *look,
                const struct process *process)
{
        const struct sample *now = find(look, process), *before = earlier ? find(earlier, process) : NULL;
        struct usage usage = {.cpu_known = earlier};
        uint64_t ticks;

        if (!now)
                return usage;
        usage.memory = now->rss_pages * (uint64_t) sysconf(_SC_PAGESIZE);
        if (!earlier || look->when_usec <= earlier->when_usec)
                return usage;
        /* One that is new has run since then alone; what one that joined has done before does not count. */
        if (!before && now->start_usec < earlier->when_usec)
                return usage;
        ticks = now->cpu_ticks - (before ? before->cpu_ticks : 0);
        usage.percent = 100e6 * (double) ticks / (double) sysconf(_SC_CLK_TCK) /
                        (double) (look->when_usec - earlier->when_usec);
        return usage;
}
