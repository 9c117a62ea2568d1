/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What ctxd has to answer, said once more from doc/LAWS.md and proto/org.ctxd1.xml: a flat list of nodes, and
 * every question answered by looking at all of them. It asks the daemon's code nothing, so that a fault in
 * there is not in here, too. */

enum {
        NODES_MAX = 512,
        KEYS = 2,
        TEXT_MAX = 240,
        DEAD = 99, /* in the place of a victim's number: of a process that has exited */
        NOBODY = -1,
};

struct person {
        uid_t uid;
        gid_t gid, more; /* its groups */
};

struct node {
        struct node *parent; /* NULL: the background, which is the first */
        char label[32];
        uint64_t id;
        uid_t uid;
        gid_t gid;
        unsigned mode;
        bool done, overdue; /* overdue: done by its deadline */
        struct node *origin;
        char cause[24]; /* of its deadline, then of its end; empty: none was given */
        int error;
        uid_t by; /* who has cancelled it; (uid_t) -1: nobody */
        bool by_itself;
        uint64_t own, effective;         /* deadlines; effective is kept from when it is done */
        char values[KEYS][16];           /* empty: not set here */
        bool released, forgotten, waits; /* waits: it is forgotten with its last child */
        int owner;                       /* a victim, or NOBODY */
        unsigned lifelines, members;     /* members: a bit for each victim */
};

extern const char *const answer_keys[KEYS];

/* What a person may do to what it can name. The table of it is in answers-rights.c. */
enum right {
        RIGHT_LOOK, /* see it, its state, values and news; and wait for it */
        RIGHT_END,  /* Cancel, Release, Lifeline */
        RIGHT_PUT,  /* Attach, and contexts below it */
        RIGHT_MOVE, /* its deadline */
        RIGHT_MAP,  /* the state page of its owner */
};

bool is_root(const struct person *p); /* or who is as good */
bool is_in_group(const struct person *p, gid_t gid);
bool may(const struct person *p, const struct node *n, enum right right);
bool may_take_name(const struct person *p, const struct node *done);          /* of a first label */
bool shows_what_it_left(const struct person *p, const struct node *ancestor); /* to those below it */
/* Why it is done, as told to that person; and, for CanceledBy and CausePath, by whom and where. */
const char *cause_for(const struct person *p, const struct node *n, int *ret_error);
const struct node *origin_for(const struct person *p, const struct node *n);       /* NULL: it is not told */
const char *value_for(const struct person *p, const struct node *n, unsigned key); /* NULL: none */

/* An error's name, and its whole sentence where others could learn from that what is hidden from them. */
struct answer {
        const char *error; /* NULL: it succeeds */
        char text[TEXT_MAX + 32];
};

/* PATH or PATH#ID, and, for who makes one, what comes below that. */
struct name {
        char path[TEXT_MAX];      /* all labels; "/": the background */
        uint64_t id;              /* 0: none */
        size_t pinned;            /* how much of path is in front of the #; for who makes one */
        bool generate, by_object; /* by_object: as an object on the bus, if the member is there, too */
        char text[TEXT_MAX + 24]; /* as it is sent */
};

struct wish {
        struct name name;
        bool open, replace, parents, has_mode, has_gid, has_cause;
        unsigned mode;
        gid_t gid;
        uint64_t deadline;
        char cause[24], values[KEYS][16];
        int error, owner, attach; /* the latter two are victims */
};

void answers_reset(uint64_t now_usec);
void answers_settle(uint64_t now_usec); /* before every call */
struct node *answers_nodes(unsigned *ret_n);
void node_path(const struct node *n, char *ret);
const char *node_state(const struct node *n);
bool node_is_below(const struct node *n, const struct node *a);
bool node_is_drained(const struct node *n);
uint64_t node_deadline(const struct node *n);
struct node *node_walk(struct node *n, const struct node *root, bool skip); /* n is not gone; parents first */

struct node *answer_find(const struct person *p, const struct name *name, struct answer *ret);
/* Found by that person, and that may be done to it. */
struct node *answer_may(
                const struct person *p, const struct name *name, enum right right, struct answer *ret);
struct node *answer_create(const struct person *p, const struct wish *w, bool *ret_made, struct answer *ret);
void answer_made(struct node *n, const char *path, uint64_t id); /* as the reply says */
void answer_attach(
                const struct person *p, const struct name *name, int victim, uid_t uid, struct answer *ret);
/* Returns how many contexts it has ended, and how many members have to leave. */
unsigned end_by(struct node *n, const struct person *p, const char *cause, int error, unsigned *ret_members);
void release(struct node *n, const struct person *p);
void extend(struct node *n, uint64_t deadline_usec);
void lifeline_gone(struct node *n);
void victim_gone(int victim);
void retention_over(void);
uid_t victim_uid(int victim);
/* Who has attached it last, where it is a member. */
uid_t victim_attached_by(int victim);

/* What has happened since the last news_forget(), as a person hears it that has subscribed to these prefixes:
 * lines in no order. */
#define NEWS_MAX 256
unsigned news_for(const struct person *p, char prefixes[][TEXT_MAX], unsigned n_prefixes,
                char ret[NEWS_MAX][TEXT_MAX]);
void news_forget(void);
