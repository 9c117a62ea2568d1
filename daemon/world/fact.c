/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/world/fact.h"
#include "util/turn.h"

void facts_init(struct facts *facts, struct turn *turn)
{
        TAILQ_INIT(&facts->queue);
        facts->turn = turn;
}

void fact_raise(struct facts *facts, struct fact *fact)
{
        if (fact->is_raised)
                return;
        fact->is_raised = true;
        TAILQ_INSERT_TAIL(&facts->queue, fact, facts);
}

void fact_withdraw(struct facts *facts, struct fact *fact)
{
        if (!fact->is_raised)
                return;
        fact->is_raised = false;
        TAILQ_REMOVE(&facts->queue, fact, facts);
}

bool fact_take(struct facts *facts, struct fact *ret)
{
        struct fact *fact = TAILQ_FIRST(&facts->queue);

        if (!fact)
                return false;
        fact_withdraw(facts, fact);
        *ret = *fact;
        return true;
}

void facts_wake(struct facts *facts)
{
        if (!TAILQ_EMPTY(&facts->queue))
                turn_again(facts->turn);
}
