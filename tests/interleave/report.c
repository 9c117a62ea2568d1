/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/interleave/world.h"

/* Prints the order in which a program has failed: each step with its place in the source, and how to repeat
 * it. */

#define STEPS_SHOWN 120

static const char *const kinds[] = {
                [STEP_LOAD] = "load",
                [STEP_STORE] = "store",
                [STEP_UPDATE] = "update",
                [STEP_WAIT] = "wait",
                [STEP_WAKE] = "wake",
                [STEP_CLOCK] = "clock",
                [STEP_CALL] = "call",
                [STEP_FREE] = "free",
                [STEP_YIELD] = "yield",
};

static int find_base(struct dl_phdr_info *info, size_t size, void *ret)
{
        *(uintptr_t *) ret = info->dlpi_addr;
        return 1;
}

/* addr2line says for each address: the address, and for each function that is inlined there its name and the
 * place in it; the innermost first. */
static void print_steps(uint32_t from)
{
        char command[64 + STEPS_SHOWN * 24], line[512], function[256] = "", place[256] = "";
        uintptr_t base = 0;
        size_t length;
        uint32_t at = from;
        FILE *pipe;

        dl_iterate_phdr(find_base, &base);
        length = (size_t) snprintf(
                        command, sizeof command, "addr2line -a -f -i -s -e /proc/%d/exe", getpid());
        for (uint32_t i = from; i < world->n_steps; i++)
                length += (size_t) snprintf(command + length, sizeof command - length, " %#lx",
                                (unsigned long) ((uintptr_t) world->steps[i].pc - base - 1));
        fflush(stdout);
        pipe = popen(command, "r");
        for (bool more = pipe; more;) {
                more = fgets(line, sizeof line, pipe);
                line[strcspn(line, "\n")] = '\0';
                if (!more || strncmp(line, "0x", 2) == 0) {
                        if (*function) {
                                const struct trace *step = &world->steps[at];

                                printf("#   %c %-22s %-26s %s\n", 'A' + step->thread, function, place,
                                                kinds[step->kind]);
                                at++;
                        }
                        *function = *place = '\0';
                        continue;
                }
                snprintf(function, sizeof function, "%.200s", line);
                if (!fgets(line, sizeof line, pipe))
                        break;
                line[strcspn(line, "\n ")] = '\0';
                if (!*place)
                        snprintf(place, sizeof place, "%.200s", line);
        }
        if (pipe)
                pclose(pipe);
}

void report_failure(void)
{
        uint32_t from = world->n_steps > STEPS_SHOWN ? world->n_steps - STEPS_SHOWN : 0;

        printf("# %s: %s\n# thread, function, place, step:\n", world->program->name, world->message);
        if (from > 0)
                printf("#   (%u steps before)\n", from);
        if (world->n_steps > from)
                print_steps(from);
        if (world->current)
                printf("#   %c is where it failed\n", thread_name(world->current));
        printf("# again: tests/interleave/run --replay=");
        for (uint32_t i = 0; i < world->n_deviations; i++)
                printf("%s%u%c", i ? "," : "", world->deviations[i].at, world->deviations[i].to);
        printf(" %s\n", world->program->name);
        fflush(stdout);
}
