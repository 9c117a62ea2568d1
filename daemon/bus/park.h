/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

/* All that goes to a bus is in one queue, and whoever is told something waits for what is in it. So a long
 * reply is made and sent when the queue is empty, and what is short comes between two of them. That alone
 * would leave the queue to who asks for long ones all the time. So where several users call, long replies
 * follow each other with pauses, in which the bus could carry a hundred times as much. */

struct endpoint;
struct walk;

struct parking {
        TAILQ_HEAD(, walk) walks; /* that wait for the bus; the first to come is the first to go on */
        sd_event_source *post, *timer;
        uint64_t until_usec;  /* when the pause is over */
        uint64_t heard_usec;  /* when somebody has called */
        uint64_t shared_usec; /* when another party has called soon after that before */
        uint32_t party;       /* that has called last */
};

/* What it waits by is made here: where memory is short later on, nobody could wait, and would ask for a turn
 * again and again. */
int park_init(struct parking *p, sd_event *event);
void park_deinit(struct parking *p);
/* Whether the walk has to wait now, as long as its reply already is. */
bool park_has_to_wait(const struct walk *w);
/* The same. Then the walk gets a turn when it need not wait any more. */
bool park(struct walk *w);
/* A call of that uid has come from the bus. */
void park_heard(struct parking *p, uid_t uid);
/* A reply of so many bytes, which has waited, goes to that endpoint. */
void park_replies(const struct endpoint *e, uint64_t bytes);
