/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "bpf/missed.h"

void missed_add(struct missed *m, uint32_t pid, int r)
{
        if (r >= 0 || r == -ESRCH || r == -ENOENT)
                return;
        if (m->n == m->n_allocated) {
                size_t n = m->n_allocated ? m->n_allocated * 2 : 64;
                uint32_t *larger = reallocarray(m->pids, n, sizeof *larger);

                if (!larger)
                        return;
                m->pids = larger;
                m->n_allocated = n;
        }
        m->pids[m->n++] = pid;
}

static int compare(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

        return (x > y) - (x < y);
}

void missed_sort(struct missed *m)
{
        if (m->n > 0)
                qsort(m->pids, m->n, sizeof *m->pids, compare);
}

bool missed_has(const struct missed *m, uint32_t pid)
{
        return m->n > 0 && bsearch(&pid, m->pids, m->n, sizeof pid, compare);
}
