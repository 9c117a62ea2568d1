/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/fuzz/talk-client.h"
#include "tests/fuzz/world.h"

/* The steps of a conversation. Each asks, and compares what it hears with answers.h. */

/* A name of a context that is there for somebody, or of none. */
void pick_name(struct input *in, const struct person *p, bool to_make, struct name *ret);

#define HOUR_USEC UINT64_C(3600000000)

extern uint64_t begin_usec; /* of the conversation */

/* The name as it is sent. */
void name_as_text(const struct person *p, bool to_make, struct name *n);

/* talk-change.c */
void talk_create(struct client *c, struct input *in);
void talk_attach(struct client *c, struct input *in);
void talk_cancel(struct client *c, struct input *in);
void talk_release(struct client *c, struct input *in);
void talk_extend(struct client *c, struct input *in);
void talk_subscribe(struct client *c, struct input *in);

/* talk-look.c: what only asks. */
void talk_values(struct client *c, struct input *in);
void talk_err(struct client *c, struct input *in);
void talk_list(struct client *c, struct input *in);
void talk_properties(struct client *c, struct input *in);
void talk_count(struct client *c, struct input *in);
void talk_preview(struct client *c, struct input *in);
void talk_leaks(struct client *c, struct input *in);
void talk_members(struct client *c, struct input *in);

/* talk-hold.c: descriptors that are handed out, and kept. */
void talk_done(struct client *c, struct input *in);
void talk_undone(struct client *c, struct input *in);
void talk_lifeline(struct client *c, struct input *in);
void talk_page(struct client *c, struct input *in);
void talk_close(struct input *in);
void held_check(void);
void held_close(void);
