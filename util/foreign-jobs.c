/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/foreign-jobs.h"

static struct sender_of_fds *sender_of(struct foreign *f, uid_t uid)
{
        struct sender_of_fds *s;

        HASH_FIND(hh, f->senders, &uid, sizeof uid, s);
        if (s)
                return s;
        s = calloc(1, sizeof *s);
        if (!s)
                return NULL;
        s->uid = uid;
        TAILQ_INIT(&s->waiting);
        HASH_ADD(hh, f->senders, uid, sizeof s->uid, s);
        if (!s->hh.tbl) {
                free(s);
                return NULL;
        }
        return s;
}

void foreign_sender_tidy(struct foreign *f, struct sender_of_fds *s)
{
        if (!TAILQ_EMPTY(&s->waiting) || s->asked || s->n_leaving > 0)
                return;
        HASH_DEL(f->senders, s);
        free(s);
}

void foreign_job_free(struct foreign_job *job)
{
        if (job->look)
                job->look->job = NULL;
        if (job->serial == 0 && job->kind != CLOSER_LOOK)
                close(job->fd);
        if (job->release)
                job->release(job->owned);
        free(job);
}

static bool may_ask(const struct foreign *f, const struct sender_of_fds *s)
{
        unsigned left = f->n_leaving < LEAVING_MAX ? LEAVING_MAX - f->n_leaving : 0;
        unsigned limit = s->uid == (uid_t) -1 ? LEAVING_OF_BUS : LEAVING_OF_USER;

        return !s->asked && s->n_leaving < limit && left > s->n_leaving * SHARE;
}

static int send_job(struct foreign *f, const struct foreign_job *job)
{
        struct closer_job bytes = {.serial = job->serial, .kind = job->kind, .size = job->size};

        return closer_send(f->fd, &bytes, sizeof bytes, job->fd, MSG_DONTWAIT);
}

void foreign_ask_next(struct foreign *f, struct sender_of_fds *s)
{
        struct foreign_job *job = TAILQ_FIRST(&s->waiting);

        if (!job || f->fd < 0 || !may_ask(f, s))
                return;
        job->serial = ++f->last_serial;
        f->is_full = send_job(f, job) < 0;
        if (f->is_full) {
                job->serial = 0; /* it is tried again at the next answer */
                return;
        }
        if (job->kind != CLOSER_LOOK)
                closep(&job->fd);
        TAILQ_REMOVE(&s->waiting, job, jobs);
        TAILQ_INSERT_TAIL(&f->asked, job, jobs);
        s->asked = job;
}

void foreign_ask_all(struct foreign *f)
{
        struct sender_of_fds *s, *next;

        HASH_ITER (hh, f->senders, s, next)
                foreign_ask_next(f, s);
}

struct foreign_job *foreign_job_new(struct foreign *f, uid_t uid, enum closer_kind kind, int fd)
{
        struct sender_of_fds *s = sender_of(f, uid);
        struct foreign_job *job = s ? calloc(1, sizeof *job) : NULL;

        if (!job) {
                if (s)
                        foreign_sender_tidy(f, s);
                return NULL;
        }
        job->kind = kind;
        job->fd = fd;
        job->sender = s;
        TAILQ_INSERT_TAIL(&s->waiting, job, jobs);
        return job;
}

void foreign_jobs_free(struct foreign_jobs *jobs)
{
        struct foreign_job *job;

        while ((job = TAILQ_FIRST(jobs))) {
                TAILQ_REMOVE(jobs, job, jobs);
                foreign_job_free(job);
        }
}
