/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>
#include <uthash.h>

#include "util/closer.h"
#include "util/foreign.h"

/* Whose jobs wait for the processes of foreign.h, and who has the next turn. Two processes look for all. One
 * that has got something it has to close leaves them, and is the sender's own from then on. */

/* Processes of one party, and those of all parties. Of what is left one party gets only a part. */
#define LEAVING_OF_USER 4
#define LEAVING_OF_BUS 32
#define STEPPING_BACK_OF_BUS 4 /* on a busy machine they are not soon back */
#define LEAVING_MAX 128
#define SHARE 8
/* Where there are more, nobody keeps one that has nothing to do. */
#define LEAVING_IDLE_MAX 64

TAILQ_HEAD(foreign_jobs, foreign_job);

/* A job waits, is asked of those who look for all, and may then be a hand's. */
struct foreign_job {
        uint64_t serial; /* 0: it waits */
        enum closer_kind kind;
        /* Borrowed if it is a look. A write keeps it: if who writes is killed, another one has to. */
        int fd;
        struct closer_fds *given; /* of CLOSER_GIVEN, in place of that, until they were sent; or NULL */
        uint32_t size;
        struct foreign_hand *hand;    /* for when it needs one; NULL: it has one */
        struct look *look;            /* NULL: its answer is not wanted any more */
        void (*release)(void *owned); /* or NULL */
        void *owned;
        struct sender_of_fds *sender;
        TAILQ_ENTRY(foreign_job) jobs; /* of those that wait, or are asked */
};

/* A process that has left, until it has ended. */
struct foreign_hand {
        struct foreign *foreign;
        struct sender_of_fds *sender;
        pid_t pid;
        int fd;                  /* the other end is its own; -1: it takes no more jobs */
        bool is_for_given;       /* it writes to and closes what was given, and does nothing else; or not */
        sd_event_source *source; /* of its answers */
        struct foreign_job *job; /* NULL: it has nothing to do */
        struct look *look;       /* whose descriptors it has, too */
        TAILQ_ENTRY(foreign_hand) hands, of_sender;
};

/* One party. */
struct sender_of_fds {
        uint32_t party;
        uid_t uid;
        struct foreign_jobs waiting;
        struct foreign_job *asked;
        TAILQ_HEAD(, foreign_hand) hands;
        unsigned n_hands;
        UT_hash_handle hh;
};

struct foreign {
        sd_event *event;
        sd_event_source *source, *again_source;
        int fd, null_fd; /* fd: -1 where there are no processes */
        pid_t pid;       /* of the first process */
        int pidfd;
        bool is_full; /* the socket does not take another job */
        uint64_t last_serial, warned_usec, started_usec;
        struct sender_of_fds *senders; /* by party */
        struct foreign_jobs asked;
        TAILQ_HEAD(, foreign_hand) hands;
        unsigned n_hands;
        struct {
                int fd, waiting_fd; /* waiting_fd: the socket that is to be kept next; -1: none */
                sd_event_source *source, *leave_source;
                unsigned n, n_ending, max; /* sockets that one process keeps; processes that have left */
        } keeper;
};

struct foreign_job *foreign_job_new(
                struct foreign *f, uint32_t party, uid_t uid, enum closer_kind kind, int fd);
/* One that a process has which leaves, though it was given up here. NULL: there is no memory. */
struct foreign_job *foreign_job_of_hand(struct foreign *f, const struct closer_answer *answer);
void foreign_job_free(struct foreign_job *job);
void foreign_job_again(struct foreign_job *job); /* it waits again */
void foreign_jobs_free(struct foreign_jobs *jobs);
/* Forgets a party that has nothing left. */
void foreign_sender_tidy(struct foreign *f, struct sender_of_fds *s);
/* There is an answer: tells who has asked, and gives him the pidfds, or closes them. Whether anybody has. */
bool foreign_job_answered(struct foreign_job *job, const struct closer_answer *answer,
                struct foreign_hand *hand, struct closer_fds *pidfds);
bool foreign_job_is_for_given(const struct foreign_job *job);
/* Sends it. -errno. */
int foreign_job_send(const struct foreign_job *job, int socket);

/* Gives the processes the next jobs of a party, if it may have them; and of each party. */
void foreign_ask_next(struct foreign *f, struct sender_of_fds *s);
void foreign_ask_all(struct foreign *f);

/* foreign.c */

/* There is an answer to the look. It gets the pidfds. */
void foreign_look_over(struct look *l, const struct closer_answer *answer, struct closer_fds *pidfds);
/* The processes have gone. */
void foreign_start_again(struct foreign *f);

/* foreign-keeper.c */

int foreign_keeper_start(struct foreign *f, int fd);
/* The processes have gone. */
void foreign_keeper_stop(struct foreign *f);
/* Has a socket kept until the process ends that keeps it. The caller closes its own. Returns false if there
 * is no room. */
bool foreign_keep(struct foreign *f, int fd);
/* Descriptors may wait in a socket. */
bool foreign_holds_fds(int fd);

/* foreign-hands.c */

/* A process has left for this job, which has got descriptors of its sender. fd: see closer.h. */
void foreign_hand_new(struct foreign *f, struct foreign_job *job, const struct closer_answer *answer, int fd,
                struct closer_fds *pidfds);
/* It has ended. */
void foreign_hand_gone(struct foreign_hand *hand);
/* It need not keep descriptors any more for whom it has looked. */
void foreign_hand_drop(struct foreign_hand *hand);
/* Gives it a job. Returns false if it takes none. */
bool foreign_hand_ask(struct foreign_hand *hand, struct foreign_job *job);
/* The one that has this job, or NULL. */
struct foreign_hand *foreign_hand_of(const struct foreign_job *job);
/* There is an answer of it. */
void foreign_hand_read(struct foreign_hand *hand);
/* It has nothing to do, and is to end. */
void foreign_hand_dismiss(struct foreign_hand *hand);
