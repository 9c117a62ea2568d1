/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/peer.h"

/* One method call: who asks, about which context, and where the answer goes. A member of the Manager takes a
 * path as its first argument. A member of a Context has the context of its object. From there on both are the
 * same verbs. */

struct request {
        struct service *service;
        struct endpoint *endpoint;
        struct peer *peer;
        struct caller caller;    /* the peer, with what polkit has granted this call */
        struct context *context; /* NULL: the verb names none */
        sd_bus_message *message;
        sd_bus_error *error;
        unsigned privilege; /* it was refused for lack of this; 0: none would have helped */
};

int request_init(struct request *q, sd_bus_message *m, sd_bus_error *error);
/* Reads a path from the message and finds it. */
int request_init_path(struct request *q, sd_bus_message *m, sd_bus_error *error);
/* The same for a prefix. An empty one means everything. */
int request_init_prefix(struct request *q, sd_bus_message *m, sd_bus_error *error);
int request_init_context(struct request *q, sd_bus_message *m, struct context *c, sd_bus_error *error);

/* What a method's handler returns for r, which the verb or the init did: where it was refused for the want of
 * a privilege, polkit is asked, and the call is made once more when there is an answer. lacks: the privilege
 * that it takes on a context that the caller may not even read. */
int request_end(struct request *q, unsigned lacks, int r);
/* A refusal by the model. */
int request_refused(struct request *q, const struct refused *refused, int r);

/* Whether the caller may do that to c, which can be any context. */
bool request_allows(const struct request *q, const struct context *c, enum verb verb);
/* Whether the caller may do that to q->context: 0, or the error. It is for calls that change nothing in the
 * model; the verbs of the model authorise themselves. */
int request_want(struct request *q, enum verb verb);

/* For Attach, and for a Create with an attach: finds the process of a pidfd, and what the model has to know
 * of it. The caller gives up *ret_process. */
struct attach_options;
int request_attachment(struct request *q, int pidfd, const struct attach_options *options,
                struct process **ret_process, struct attachment *ret);
/* Asks whether the reply may have n descriptors. To be called before they are made. */
int request_want_to_send(struct request *q, unsigned n);
/* Replies as Open does. made: this call has made the context. send_page: with the page's descriptor, if that
 * can be sent. */
int request_reply_open(struct request *q, const struct context *c, const struct page_place *page, bool made,
                bool send_page);
/* Turns a failed attach into an error. */
int request_attach_error(struct request *q, const struct refused *refused, int r);

/* How many entries a list may have, where the caller says so. */
#define LIST_LIMIT_MAX 10000 /* it is also the limit if the caller says 0 */
uint32_t request_limit(uint32_t limit);
int request_read_limit(struct request *q, uint32_t *ret);

/* Carries out the effects. It is the last step before a reply. */
uint32_t request_commit(struct request *q);
/* Makes the reply, commits, and sends the reply. The reply has copies of borrowed descriptors and of a
 * context's texts, which may be gone after the commit. What the kernel does not send, or what there is no
 * room to copy, was not given: the verb takes it back (law 35), and returns the error. */
int request_reply(struct request *q, const char *types, ...);

/* A later reply to that peer could not even be an error. It would wait for ever, so it is disconnected. */
void endpoint_reply_lost(struct endpoint *e, const struct peer *p, int r);

/* The verbs. The path was read from the message already. Each verb replies, or returns what sd-bus has to
 * answer. */
int verb_create(struct request *q); /* Create(s path, a{sv}) */
int verb_derive(struct request *q); /* Derive(s label, a{sv}) on q->context */
int verb_create_and_open(struct request *q);
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
int verb_open(struct request *q);
int verb_threads(struct request *q);
int verb_attach(struct request *q);
int verb_process(struct request *q);

int verb_err(struct request *q);
int verb_values(struct request *q);
int verb_list(struct request *q);
int verb_processes(struct request *q);
int verb_endings(struct request *q);
int verb_members(struct request *q);
int verb_preview(struct request *q);
int verb_leaks(struct request *q);
int verb_current(struct request *q);
int verb_subscribe(struct request *q);
int verb_unsubscribe(struct request *q);

/* Shared with the properties and signals. */
const char *context_state_name(const struct context *c);
/* With what this caller may see (laws 36 and 49). */
int message_append_leak(sd_bus_message *m, const struct tree *t, const struct caller *caller,
                const struct context *c, const struct leak *leak);
