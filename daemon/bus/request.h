/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/peer.h"

/* One method call: who asks, on which context, and where the answer goes. The Manager's members take a
 * path first, the Context's have theirs by object; from there on both are the same verbs. */

struct request {
        struct service *service;
        struct endpoint *endpoint;
        struct peer *peer;
        struct caller caller;    /* the peer, with what polkit has granted this call */
        struct context *context; /* NULL: the verb names none */
        sd_bus_message *message;
        sd_bus_error *error;
        unsigned privilege; /* the one for the want of which it was refused; 0: none would have helped */
};

int request_init(struct request *q, sd_bus_message *m, sd_bus_error *error);
/* Reads a path from the message and finds it. */
int request_init_path(struct request *q, sd_bus_message *m, sd_bus_error *error);
/* The same for a prefix, where an empty one is everything. */
int request_init_prefix(struct request *q, sd_bus_message *m, sd_bus_error *error);
int request_init_context(struct request *q, sd_bus_message *m, struct context *c, sd_bus_error *error);

/* What a method's handler returns for r, which the verb or the init did: where it was refused for the want
 * of a privilege, polkit is asked, and the call is made once more when there is an answer. lacks: the
 * privilege that it takes on a context that the caller may not even read. */
int request_end(struct request *q, unsigned lacks, int r);
/* A refusal by the model. */
int request_refused(struct request *q, const struct refused *refused, int r);

/* May the caller do that to c, which lies below q->context or elsewhere? */
bool request_allows(const struct request *q, const struct context *c, enum verb verb);
/* May the caller do that to q->context? 0, or the error. For what the world does to a context; the verbs
 * of the model ask by themselves. */
int request_want(struct request *q, enum verb verb);

/* Attaching, which Create does as well: the process of a pidfd, and all that the model wants to know of
 * it. The caller gives up *ret_process. And what a refusal is called. */
struct attach_options;
int request_attachment(struct request *q, int pidfd, const struct attach_options *options,
                struct process **ret_process, struct attachment *ret);
int request_attach_error(struct request *q, const struct refused *refused, int r);

/* Carries out the effects; as the last step before a reply. */
uint32_t request_commit(struct request *q);
/* The reply and the commit, where the reply takes copies of what the commit may let go of: descriptors
 * that are borrowed, texts of a context that may be forgotten. */
int request_reply(struct request *q, const char *types, ...);

/* The verbs: the message stands after the path. Each replies, or returns what sd-bus is to answer. */
int verb_create(struct request *q); /* Create(s path, a{sv}) */
int verb_derive(struct request *q); /* Derive(s label, a{sv}) on q->context */
int verb_cancel(struct request *q);
int verb_cancel_cause(struct request *q);
int verb_extend(struct request *q);
int verb_release(struct request *q);

int verb_done(struct request *q);
int verb_undone(struct request *q);
int verb_drained(struct request *q);
int verb_lifeline(struct request *q);
int verb_alive(struct request *q);
int verb_page(struct request *q);
int verb_threads(struct request *q);
int verb_attach(struct request *q);
int verb_process(struct request *q);

int verb_err(struct request *q);
int verb_values(struct request *q);
int verb_list(struct request *q);
int verb_processes(struct request *q);
int verb_members(struct request *q);
int verb_preview(struct request *q);
int verb_leaks(struct request *q);
int verb_current(struct request *q);
int verb_subscribe(struct request *q);
int verb_unsubscribe(struct request *q);

/* Shared with the properties and signals. */
const char *state_name(const struct context *c);
int append_values(sd_bus_message *m, const struct context *c);
int append_leak(sd_bus_message *m, const struct context *c, const struct leak *leak);
