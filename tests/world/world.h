/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/engine/engine.h"
#include "util/turn.h"

/* A tree and its engine on an event loop, and real processes to play with. */

struct scene {
        sd_event *event;
        struct tree *tree;
        struct turn turn;
        struct engine *engine;
        unsigned n_new, n_done, n_removed, n_found, n_resolved, n_drained;
        uint64_t last_done_id;
};

extern struct scene world;

void world_start(void); /* fixtures */
void world_stop(void);
void world_start_bpf(void); /* with the real ctxd-probe ($CTXD_PROBE) */
void start_probe(void);     /* of a world that has begun without */

struct context *make(const char *path);
struct context *make_for(uid_t uid, const char *path);
struct context *make_with_deadline(const char *path, uint64_t deadline_usec);
unsigned membership_number(const struct context *c);
/* Carries out what was changed, counts what is new, and frees what was forgotten. */
uint32_t world_drain(const struct context *origin);
uint32_t cancel(struct context *c);  /* and drains; how many members */
void cancel_only(struct context *c); /* leaves the drain to the test */

/* Runs the loop until *value is at least wanted; fails the test after a long while. */
void run_until(const unsigned *value, unsigned wanted);
void run_while(bool (*pending)(void *userdata), void *userdata);
/* The callback of an eventfd by which somebody else calls, and how often it has been served (others.c). */
int serve_another(sd_event_source *source, int fd, uint32_t revents, void *userdata);
extern unsigned n_served;
/* As run_while(), and somebody else calls again and again meanwhile, and is served each time within so many
 * turns. In no turn does *value grow by more than most. */
void expect_turns(bool (*pending)(void *userdata), void *userdata, const unsigned *value, unsigned most,
                unsigned turns_max);
void run_for(uint64_t usec); /* for what must not happen; what is there by now is seen to */

/* For each leak of c and of what is below it, running ones first; stops when cb returns other than 0, and
 * returns it. */
int each_leak(struct engine *e, const struct context *c,
                int (*cb)(void *userdata, struct context *c, const struct leak *leak), void *userdata);

/* Children of the test. Each says that it is ready before child_start() returns, and is killed and reaped at
 * the end of the test. */
struct child {
        pid_t pid;
        int pidfd;
        int out; /* what it says */
        int in;  /* what it is told */
};

struct child *child_start(void (*body)(int in, int out));
void child_sleep(int in, int out); /* until it is killed */
void child_count(int in, int out); /* writes 'T' for each SIGTERM, and goes on */
/* Forks one for each 'f' it is told, a daemon for 'd', a thread for 't', which live on; with 'c' it counts
 * SIGTERM as they do, which it has ignored before. Each of them answers. */
void child_breed(int in, int out);
/* Once it is told, every one of them forks for as long as it lives, and until then at most. SIGTERM is
 * ignored. The caller has set a limit. */
_Noreturn void child_bomb(int in, int out, uint64_t end_usec);
/* Once it is told, each hands over to its child and exits, so nobody lives for long, and nobody's parent is
 * known. SIGTERM is ignored. */
void child_relay(int in, int out);
void child_ready(int out);
char child_say(struct child *c);    /* the next byte from it; 0: nothing for a long while, or the end */
bool child_silent(struct child *c); /* it has said nothing (more) */
void child_tell(struct child *c, char byte);
void breed(struct child *c, const char *what); /* tells it each, and has its answer */
int child_wait(struct child *c);               /* runs the loop until it has exited; its wait status */
void child_reap_all(void);

/* The daemon makes the child a member; returns what engine_attach() does. */
int attach_by(struct context *c, struct child *child, const struct policy *policy);
/* The same, which must not fail. */
void attach(struct context *c, struct child *child, const struct policy *policy);
/* The same, and this process, which is a subreaper, says that its orphans are members, too. */
void attach_to_reap(struct context *c, struct child *child, const struct policy *policy);
/* The context of which it is a member, or NULL. */
struct context *context_of(struct process *p);
/* For run_while(): the context has members. */
bool is_busy(void *context);

bool is_readable(int fd);

/* In main(): why there can be no BPF here, with $CTXD_PROBE as the probe; or NULL. */
const char *bpf_missing(void);

int run_suite(Suite *s);
