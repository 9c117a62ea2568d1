/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "daemon/bus/service.h"

/* A whole daemon within the process, but for its sockets' names: tree, engine, service, and no probe. New
 * for each input; the victims, which are the processes that may be made members, live on. */

struct scene {
        sd_event *event;
        struct tree *tree;
        struct engine *engine;
        struct service service;
        int lowest; /* the lowest descriptor that was free before */
};

extern struct scene world;

#define WORLD_UIDS 3
extern const uid_t world_uids[WORLD_UIDS]; /* of callers; without root all are ours */

/* Before the first of the worlds: starts the processes that look at descriptors, without which no call can
 * bring any. They live on, since to start them takes longer than an input. */
void world_guard(void);
void world_start(void);
/* Takes all down; every descriptor has to be closed by then. */
void world_stop(void);

/* The client's end of a connection that was accepted as one of that uid, or -errno. */
int world_connect(uid_t uid);
/* How many are charged. A socket with descriptors in it is closed by another process, and charged until
 * then. */
uint64_t world_connections(void);
/* Runs the daemon until nothing is left to be done at once. */
void world_run(void);
/* The same, but waits for so long for something to come: a timer that is due may be late. */
void world_run_until(uint64_t usec);
/* For what has to come: so long, and so often, for a machine may have had something else to do all the
 * while. */
#define WORLD_PATIENCE_USEC UINT64_C(20000000)
#define WORLD_PATIENCE_ROUNDS 1000

/* Processes that wait to be signalled; anew if they have gone. One has a child, one an odd name, one another
 * uid. */
#define VICTIMS 3
struct victim {
        pid_t pid;
        int pidfd;
};
extern struct victim victims[VICTIMS];

void victims_ensure(void);
/* Until the next input. */
void victim_kill(unsigned i);
/* Of a process that has exited. */
int victim_dead_pidfd(void);
