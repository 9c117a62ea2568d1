/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/foreign-jobs.h"
#include "util/log.h"
#include "util/share.h"

#define WARN_INTERVAL_USEC (60 * UINT64_C(1000000))

static struct sender_of_fds *sender_of(struct foreign *f, uint32_t party, uid_t uid)
{
        struct sender_of_fds *s;

        HASH_FIND(hh, f->senders, &party, sizeof party, s);
        if (s)
                return s;
        s = calloc(1, sizeof *s);
        if (!s)
                return NULL;
        s->party = party;
        s->uid = uid;
        TAILQ_INIT(&s->waiting);
        TAILQ_INIT(&s->hands);
        HASH_ADD(hh, f->senders, party, sizeof s->party, s);
        if (!s->hh.tbl) {
                free(s);
                return NULL;
        }
        return s;
}

void foreign_sender_tidy(struct foreign *f, struct sender_of_fds *s)
{
        if (!TAILQ_EMPTY(&s->waiting) || s->asked || s->n_hands > 0)
                return;
        HASH_DEL(f->senders, s);
        free(s);
}

void foreign_job_free(struct foreign_job *job)
{
        if (job->look)
                job->look->job = NULL;
        if (job->kind != CLOSER_LOOK)
                closep(&job->fd);
        free(job->given);
        if (job->release)
                job->release(job->owned);
        free(job->hand);
        free(job);
}

bool foreign_job_is_for_given(const struct foreign_job *job)
{
        return job->kind == CLOSER_WRITE || job->kind == CLOSER_GIVEN;
}

bool foreign_job_answered(struct foreign_job *job, const struct closer_answer *answer,
                struct foreign_hand *hand, struct closer_fds *pidfds)
{
        struct look *l = job->look;

        if (!l) {
                closer_fds_close(pidfds);
                return false;
        }
        l->hand = hand;
        if (hand)
                hand->look = l;
        foreign_look_over(l, answer, pidfds);
        l->job = NULL;
        job->look = NULL;
        if (l->over)
                l->over(l);
        return true;
}

static struct closer_job bytes_of(const struct foreign_job *job)
{
        bool is_bus = job->sender->party == FOREIGN_BUS;

        return (struct closer_job){.serial = job->serial,
                        .kind = job->kind,
                        .size = job->size,
                        .party = job->sender->party,
                        .uid = job->sender->uid,
                        .steps_back = !is_bus && !foreign_job_is_for_given(job),
                        .steps_back_for_large = is_bus && job->sender->n_hands < STEPPING_BACK_OF_BUS};
}

static struct foreign_hand *idle_hand(const struct sender_of_fds *s, bool is_for_given)
{
        struct foreign_hand *hand;

        TAILQ_FOREACH (hand, &s->hands, of_sender)
                if (!hand->job && hand->fd >= 0 && hand->is_for_given == is_for_given)
                        return hand;
        return NULL;
}

static void warn_of_sender(struct foreign *f, const struct sender_of_fds *s)
{
        bool is_block = s->party >= SHARE_BLOCK && s->party != FOREIGN_BUS;
        uint64_t now = now_monotonic_usec();

        if (s->n_hands < LEAVING_OF_USER || (f->warned_usec > 0 && now - f->warned_usec < WARN_INTERVAL_USEC))
                return;
        f->warned_usec = now;
        log_warning("Descriptors that uid %u%s has sent, or was given, take long to close; others wait",
                        (unsigned) s->uid, is_block ? " or another of its block" : "");
}

/* Whether it may have another process, if that should be needed. Who has none may: else those who have many
 * could shut all others out. */
static bool may_ask(const struct foreign *f, const struct sender_of_fds *s)
{
        unsigned left = f->n_hands < LEAVING_MAX ? LEAVING_MAX - f->n_hands : 0;
        unsigned limit = s->party == FOREIGN_BUS ? LEAVING_OF_BUS : LEAVING_OF_USER;

        return s->n_hands == 0 || (s->n_hands < limit && left > s->n_hands * SHARE);
}

int foreign_job_send(const struct foreign_job *job, int socket)
{
        const struct closer_job bytes = bytes_of(job);

        return job->given ? closer_send_fds(socket, &bytes, sizeof bytes, job->given->fds, job->given->n,
                                            MSG_DONTWAIT)
                          : closer_send(socket, &bytes, sizeof bytes, job->fd, MSG_DONTWAIT);
}

/* Asks those who look for all. */
static bool ask_all(struct foreign *f, struct foreign_job *job)
{
        struct sender_of_fds *s = job->sender;
        struct foreign_hand *idle;

        if (s->asked)
                return false;
        if (!may_ask(f, s)) {
                /* One that does the other kind, and has nothing to do, makes room. */
                idle = idle_hand(s, !foreign_job_is_for_given(job));
                if (idle)
                        foreign_hand_dismiss(idle);
                else
                        warn_of_sender(f, s);
                return false;
        }
        job->serial = ++f->last_serial;
        f->is_full = foreign_job_send(job, f->fd) < 0;
        if (f->is_full) {
                job->serial = 0; /* it is tried again at the next answer */
                return false;
        }
        TAILQ_INSERT_TAIL(&f->asked, job, jobs);
        s->asked = job;
        return true;
}

/* Asks a process of the party's own. */
static bool ask_own(struct foreign *f, struct foreign_job *job)
{
        struct foreign_hand *hand;

        while ((hand = idle_hand(job->sender, foreign_job_is_for_given(job)))) {
                job->serial = ++f->last_serial;
                if (foreign_hand_ask(hand, job))
                        return true;
                job->serial = 0;
                foreign_hand_dismiss(hand);
        }
        return false;
}

/* Who was asked has it, too, and closes it after that. */
static void close_sent(struct foreign_job *job)
{
        if (job->kind == CLOSER_CLOSE) {
                closep(&job->fd);
                job->fd = -1;
        } else if (job->given) {
                closer_fds_close(job->given);
                free(job->given);
                job->given = NULL;
        }
}

void foreign_ask_next(struct foreign *f, struct sender_of_fds *s)
{
        struct foreign_job *job;

        while (f->fd >= 0 && (job = TAILQ_FIRST(&s->waiting))) {
                TAILQ_REMOVE(&s->waiting, job, jobs);
                if (!ask_own(f, job) && !ask_all(f, job)) {
                        TAILQ_INSERT_HEAD(&s->waiting, job, jobs);
                        return;
                }
                close_sent(job);
        }
}

void foreign_ask_all(struct foreign *f)
{
        struct sender_of_fds *s, *next;

        HASH_ITER (hh, f->senders, s, next)
                foreign_ask_next(f, s);
}

struct foreign_job *foreign_job_new(
                struct foreign *f, uint32_t party, uid_t uid, enum closer_kind kind, int fd)
{
        struct sender_of_fds *s = sender_of(f, party, uid);
        struct foreign_job *job = s ? calloc(1, sizeof *job) : NULL;
        struct foreign_hand *hand = job ? calloc(1, sizeof *hand) : NULL;

        if (!hand) {
                if (s)
                        foreign_sender_tidy(f, s);
                free(job);
                return NULL;
        }
        job->kind = kind;
        job->fd = fd;
        job->hand = hand;
        job->sender = s;
        TAILQ_INSERT_TAIL(&s->waiting, job, jobs);
        return job;
}

struct foreign_job *foreign_job_of_hand(struct foreign *f, const struct closer_answer *answer)
{
        /* What it writes to is not here any more. */
        enum closer_kind kind = answer->kind == CLOSER_WRITE ? CLOSER_GIVEN : (enum closer_kind) answer->kind;
        struct foreign_job *job = foreign_job_new(f, answer->party, answer->uid, kind, -1);

        if (!job)
                return NULL;
        TAILQ_REMOVE(&job->sender->waiting, job, jobs);
        job->serial = answer->serial;
        return job;
}

void foreign_job_again(struct foreign_job *job)
{
        job->serial = 0;
        TAILQ_INSERT_HEAD(&job->sender->waiting, job, jobs);
}

void foreign_jobs_free(struct foreign_jobs *jobs)
{
        struct foreign_job *job;

        while ((job = TAILQ_FIRST(jobs))) {
                TAILQ_REMOVE(jobs, job, jobs);
                foreign_job_free(job);
        }
}
