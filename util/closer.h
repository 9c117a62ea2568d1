/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The processes that touch descriptors of clients, and what the daemon says to them. foreign.h explains why
 * there are such processes. */

/* How many bytes of a socket may have to be looked at. */
#define CLOSER_LOOK_MAX (64 * 1024)
#define CLOSER_FDS_MAX 253   /* that come at once */
#define CLOSER_PIDFDS_MAX 16 /* that are replaced */
#define CLOSER_NOT_ALL UINT32_MAX

enum closer_kind {
        CLOSER_LOOK,  /* at the descriptors in the first bytes that wait in a socket */
        CLOSER_CLOSE, /* close a socket, with all that waits in it, after the sender of the job has */
        CLOSER_WRITE, /* write to an eventfd, so that it stays readable, and close it */
        CLOSER_GIVEN, /* close what clients were given, after the sender of the job has */
        CLOSER_DROP,  /* close what the last job has left open; brings no descriptor */
        CLOSER_KEEP,  /* keep a socket, with all that waits in it */
        CLOSER_LEAVE, /* end, which closes all that was kept; brings no descriptor */
};

/* A process that keeps sockets closes none before it ends. So whoever sends it a socket can close its own at
 * once: that is not the last close. Then the end may take for ever, and another process keeps what comes
 * next. So many may be about to end. */
#define CLOSER_ENDING 16

/* Brings a descriptor; CLOSER_GIVEN brings up to CLOSER_FDS_MAX. */
struct closer_job {
        uint64_t serial;
        uint32_t kind;
        uint32_t size;                 /* of the bytes to be looked at */
        uint32_t party, uid;           /* for the answer */
        uint32_t steps_back;           /* who leaves for this job runs only when nobody else wants to */
        uint32_t steps_back_for_large; /* who closes what takes long then steps back, and ends */
};

/* The answer to a job. A process that leaves goes on to close what it has got, or to write, which can take
 * for ever. Its answer brings a socket of its own first. It closes nothing that it holds before it gets
 * CLOSER_DROP there: whoever sent the job closes its own before. When it has closed all it answers with
 * serial 0 there, and takes more jobs of that sender. When a process has ended, there is an answer with
 * serial 0 at the socket that all share. */
struct closer_answer {
        uint64_t serial;
        int32_t pid;
        uint32_t n_fds;   /* CLOSER_NOT_ALL: there are some that it could not look at, and does not have */
        uint32_t foreign; /* one of them is no pidfd, or may be none; or it is to be closed */
        uint32_t holds;   /* it closes what it has got when it gets CLOSER_DROP */
        uint32_t pidfds;  /* so many come with this answer: files of our own for the processes */
        uint32_t leaves;
        uint32_t kind, party, uid; /* of the job */
};

struct closer {
        pid_t pid; /* the first one is a child of the caller */
        int jobs;  /* and answers */
        /* CLOSER_KEEP, CLOSER_LOOK at what is then kept, too, and CLOSER_LEAVE; there is an answer to a look,
         * and when one that has left has ended. */
        int keeps;
};

/* Starts the processes. They end when the sockets are closed. -errno. */
int closer_start(struct closer *ret);

/* The descriptors of a message. */
struct closer_fds {
        unsigned n;
        int fds[CLOSER_FDS_MAX];
};

void closer_fds_close(struct closer_fds *fds);

/* -errno; closer_receive_fds() returns 0 at the end, else 1. */
int closer_send_fds(int socket, const void *bytes, size_t size, const int *fds, unsigned n, int flags);
int closer_receive_fds(int socket, void *bytes, size_t size, struct closer_fds *ret, int flags);
/* The same with up to one descriptor (-1: none). */
int closer_send(int socket, const void *bytes, size_t size, int fd, int flags);
int closer_receive(int socket, void *bytes, size_t size, int *ret_fd, int flags);
