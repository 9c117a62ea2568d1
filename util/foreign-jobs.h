/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>
#include <uthash.h>

#include "util/closer.h"
#include "util/foreign.h"

/* Whose jobs wait for the processes of foreign.h, and who has the next turn. */

/* Processes that have something of one uid's to close, and those of all uids. Of what is left one uid gets
 * only a part. */
#define LEAVING_OF_USER 4
#define LEAVING_OF_BUS 32 /* with the broker between, all are one uid, -1 */
#define LEAVING_MAX 128
#define SHARE 8

TAILQ_HEAD(foreign_jobs, foreign_job);

/* A job waits, is asked, and may then have a process that closes something. */
struct foreign_job {
        uint64_t serial; /* 0: it waits */
        enum closer_kind kind;
        int fd; /* owned while the job waits; borrowed if it is a look */
        uint32_t size;
        pid_t pid;                    /* of the process that closes */
        struct look *look;            /* NULL: its answer is not wanted any more */
        void (*release)(void *owned); /* or NULL */
        void *owned;
        struct sender_of_fds *sender;
        TAILQ_ENTRY(foreign_job) jobs;
};

/* One uid. */
struct sender_of_fds {
        uid_t uid;
        struct foreign_jobs waiting;
        struct foreign_job *asked;
        unsigned n_leaving;
        UT_hash_handle hh;
};

struct foreign {
        sd_event *event;
        sd_event_source *source;
        int fd, null_fd;
        pid_t pid;    /* of the first process */
        bool is_full; /* the socket does not take another job */
        uint64_t last_serial, warned_usec, started_usec;
        struct sender_of_fds *senders;
        struct foreign_jobs asked, leaving;
        unsigned n_leaving;
};

struct foreign_job *foreign_job_new(struct foreign *f, uid_t uid, enum closer_kind kind, int fd);
void foreign_job_free(struct foreign_job *job);
void foreign_jobs_free(struct foreign_jobs *jobs);
/* Forgets a uid that has nothing left. */
void foreign_sender_tidy(struct foreign *f, struct sender_of_fds *s);

/* Gives the processes the next job of a uid, if it may have one; and of each uid. */
void foreign_ask_next(struct foreign *f, struct sender_of_fds *s);
void foreign_ask_all(struct foreign *f);
