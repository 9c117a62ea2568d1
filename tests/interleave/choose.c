/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "tests/interleave/world.h"

/* Who goes on, where several can: by the search for all orders, at random, or as it was once. */

static unsigned choose_all(unsigned n, bool is_free, const void *pc)
{
        struct choice *choice;

        if (world->depth == CHOICES_MAX)
                fail("there is too much to choose");
        choice = &world->choices[world->depth];
        if (world->depth == world->n_choices) {
                *choice = (struct choice){.pc = pc, .n = (uint8_t) n, .is_free = is_free};
                world->n_choices++;
        }
        if (choice->n != n || choice->pc != pc || choice->is_free != is_free)
                fail("the program is not the same each time");
        world->depth++;
        return choice->taken;
}

static uint64_t next_random(void)
{
        world->random ^= world->random << 13;
        world->random ^= world->random >> 7;
        world->random ^= world->random << 17;
        return world->random;
}

static unsigned choose_random(unsigned n, bool is_free)
{
        if (is_free)
                return (unsigned) (next_random() % n);
        return next_random() % world->one_in == 0 ? 1 + (unsigned) (next_random() % (n - 1)) : 0;
}

/* The text is "17B,40C,41!": at the 17th decision thread B goes on. */
static unsigned choose_replay(const char *names, unsigned n, uint32_t at)
{
        char *end;

        if (!*world->replay || strtoul(world->replay, &end, 10) != at)
                return 0;
        for (unsigned i = 0; i < n; i++)
                if (names[i] == *end) {
                        world->replay = end[1] == ',' ? end + 2 : end + 1;
                        return i;
                }
        fail("thread %c cannot go on at %u", *end, at);
}

unsigned choose(const char *names, unsigned n, bool is_free, const void *pc)
{
        unsigned chosen;
        uint32_t at = is_free ? ++world->n_decisions : world->n_decisions;

        if (n == 1)
                return 0;
        if (world->strategy == STRATEGY_ALL)
                chosen = choose_all(n, is_free, pc);
        else if (world->strategy == STRATEGY_RANDOM)
                chosen = choose_random(n, is_free);
        else
                chosen = choose_replay(names, n, at);
        if (chosen > 0 && world->n_deviations < CHOICES_MAX)
                world->deviations[world->n_deviations++] = (struct deviation){.at = at, .to = names[chosen]};
        return chosen;
}
