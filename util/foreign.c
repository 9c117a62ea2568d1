/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/foreign-jobs.h"
#include "util/log.h"
#include "util/proc.h"

#define AGAIN_USEC 1000000 /* who ends sooner is started again after that */
#define ANSWERS_AT_ONCE 4

/* A process has died that waited for jobs, and nobody knows which job it had. What they all should have
 * looked at is asked for again, and what they should have written is written again. */
static void give_up_asked(struct foreign *f)
{
        struct foreign_job *job;

        while ((job = TAILQ_FIRST(&f->asked))) {
                TAILQ_REMOVE(&f->asked, job, jobs);
                job->sender->asked = NULL;
                if (job->kind == CLOSER_WRITE) {
                        foreign_job_again(job);
                        continue;
                }
                if (job->look)
                        job->look->size = 0;
                (void) foreign_job_answered(job, &(struct closer_answer){}, NULL, &(struct closer_fds){});
                foreign_sender_tidy(f, job->sender);
                foreign_job_free(job);
        }
}

static void has_ended(struct foreign *f, pid_t pid)
{
        struct foreign_hand *hand;

        TAILQ_FOREACH (hand, &f->hands, hands)
                if (hand->pid == pid)
                        break;
        if (hand) {
                foreign_hand_gone(hand);
                return;
        }
        give_up_asked(f);
        foreign_ask_all(f);
}

/* The socket of who leaves comes first. -1: there was no room for it. */
static int take_first(struct closer_fds *fds)
{
        int fd = fds->n > 0 ? fds->fds[0] : -1;

        if (fds->n > 0)
                memmove(fds->fds, fds->fds + 1, --fds->n * sizeof *fds->fds);
        return fd;
}

/* NULL: it is not wanted any more. */
static struct foreign_job *take_asked(struct foreign *f, const struct closer_answer *answer)
{
        struct foreign_job *job;

        TAILQ_FOREACH (job, &f->asked, jobs)
                if (job->serial == answer->serial) {
                        TAILQ_REMOVE(&f->asked, job, jobs);
                        job->sender->asked = NULL;
                        return job;
                }
        /* Who leaves can hang, and counts in any case. */
        return answer->leaves ? foreign_job_of_hand(f, answer) : NULL;
}

static void has_answered(struct foreign *f, const struct closer_answer *answer, struct closer_fds *fds)
{
        struct foreign_job *job = take_asked(f, answer);
        struct sender_of_fds *s;

        if (!job)
                return;
        s = job->sender;
        if (answer->leaves) {
                int own = take_first(fds);

                foreign_hand_new(f, job, answer, own, fds);
        } else {
                (void) foreign_job_answered(job, answer, NULL, fds);
                foreign_job_free(job);
        }
        foreign_ask_next(f, s);
        foreign_sender_tidy(f, s);
}

static void take_answer(struct foreign *f, const struct closer_answer *answer, struct closer_fds *fds)
{
        bool was_full = f->is_full || f->n_hands >= LEAVING_MAX / 2;

        if (answer->serial == 0)
                has_ended(f, answer->pid);
        else
                has_answered(f, answer, fds);
        if (was_full)
                foreign_ask_all(f);
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *userdata);

static int start(struct foreign *f)
{
        struct closer closer;
        int r = closer_start(&closer);

        f->started_usec = now_monotonic_usec();
        if (r < 0)
                return r;
        f->pid = closer.pid;
        f->fd = closer.jobs;
        r = foreign_keeper_start(f, closer.keeps);
        if (r >= 0)
                r = f->pidfd = pidfd_open_process(f->pid);
        if (r >= 0)
                r = sd_event_add_io(f->event, &f->source, f->fd, EPOLLIN, on_answer, f);
        if (r >= 0)
                (void) sd_event_source_set_description(f->source, "foreign-descriptors");
        return r;
}

static int on_ended(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        (void) waitid(P_PIDFD, (id_t) fd, &(siginfo_t){}, WEXITED | WNOHANG);
        (void) sd_event_source_set_floating(source, false); /* this was its last reference */
        return 0;
}

/* The end of the first process can hang, too, in what nobody has taken yet. */
static void reap_later(struct foreign *f)
{
        sd_event_source *source;

        if (sd_event_add_io(f->event, &source, f->pidfd, EPOLLIN, on_ended, NULL) < 0)
                return;
        (void) sd_event_source_set_io_fd_own(source, true);
        (void) sd_event_source_set_floating(source, true);
        sd_event_source_unref(source);
        f->pidfd = -1;
}

static void stop(struct foreign *f)
{
        f->source = sd_event_source_disable_unref(f->source);
        closep(&f->fd);
        f->fd = -1;
        foreign_keeper_stop(f);
        if (f->pid > 0 && waitpid(f->pid, NULL, f->pidfd >= 0 ? WNOHANG : 0) == 0)
                reap_later(f);
        closep(&f->pidfd);
        f->pidfd = -1;
        f->pid = 0;
}

/* Jobs wait meanwhile. */
static void start_later(struct foreign *f)
{
        (void) sd_event_source_set_time_relative(f->again_source, AGAIN_USEC);
        (void) sd_event_source_set_enabled(f->again_source, SD_EVENT_ONESHOT);
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct foreign *f = userdata;
        int r = start(f);

        if (r < 0) {
                log_error("The processes that look at descriptors of clients cannot be started: %s",
                                strerror(-r));
                stop(f);
                start_later(f);
                return 0;
        }
        foreign_ask_all(f);
        return 0;
}

/* Somebody has killed the processes. Those that hang are not counted any more. */
void foreign_start_again(struct foreign *f)
{
        bool at_once = now_monotonic_usec() - f->started_usec > AGAIN_USEC;
        struct foreign_hand *hand;

        stop(f);
        log_warning("The processes that look at descriptors of clients have gone, and are started again");
        if (!at_once || start(f) < 0) {
                stop(f);
                start_later(f);
        }
        while ((hand = TAILQ_FIRST(&f->hands)))
                foreign_hand_gone(hand);
        give_up_asked(f);
        foreign_ask_all(f);
}

/* Returns false if there is no answer now. */
static bool read_answer(struct foreign *f)
{
        _cleanup_(closer_fds_close) struct closer_fds fds;
        struct closer_answer answer;
        int r = closer_receive_fds(f->fd, &answer, sizeof answer, &fds, MSG_DONTWAIT);

        if (r > 0) {
                take_answer(f, &answer, &fds);
                return true;
        }
        if (r == 0)
                foreign_start_again(f);
        return false;
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        while (read_answer(userdata))
                ;
        return 0;
}

void foreign_take_answers(struct foreign *f)
{
        for (int i = 0; i < ANSWERS_AT_ONCE && f && !TAILQ_EMPTY(&f->asked) && read_answer(f); i++)
                ;
}

int foreign_new(struct foreign **ret, sd_event *event)
{
        struct foreign *f = calloc(1, sizeof *f);
        int r;

        if (!f)
                return -ENOMEM;
        TAILQ_INIT(&f->asked);
        TAILQ_INIT(&f->hands);
        f->event = sd_event_ref(event);
        r = f->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        f->fd = f->pidfd = f->keeper.fd = f->keeper.waiting_fd = -1;
        /* Made now, since there may be no descriptor for it later. */
        if (r >= 0)
                r = sd_event_add_time(event, &f->again_source, CLOCK_MONOTONIC, UINT64_MAX, 0, on_again, f);
        if (r >= 0)
                r = sd_event_source_set_enabled(f->again_source, SD_EVENT_OFF);
        if (r >= 0)
                r = start(f);
        if (r < 0) {
                foreign_free(f);
                return r;
        }
        *ret = f;
        return 0;
}

/* Those who should close these all hang. */
static void leave_open(struct foreign *f)
{
        struct sender_of_fds *s, *next;
        struct foreign_job *job;

        HASH_ITER (hh, f->senders, s, next)
                TAILQ_FOREACH (job, &s->waiting, jobs)
                        if (job->kind == CLOSER_CLOSE) {
                                job->fd = -1;
                        } else if (job->given) {
                                job->given->n = 0;
                        }
}

struct foreign *foreign_free(struct foreign *f)
{
        struct sender_of_fds *s, *next;
        struct foreign_hand *hand;

        if (!f)
                return NULL;
        leave_open(f);
        sd_event_source_disable_unref(f->source);
        sd_event_source_disable_unref(f->again_source);
        closep(&f->fd);
        f->fd = -1;
        closep(&f->pidfd);
        foreign_keeper_stop(f);
        closep(&f->null_fd);
        foreign_jobs_free(&f->asked);
        HASH_ITER (hh, f->senders, s, next)
                s->asked = NULL;
        while ((hand = TAILQ_FIRST(&f->hands)))
                foreign_hand_gone(hand);
        HASH_ITER (hh, f->senders, s, next) {
                foreign_jobs_free(&s->waiting);
                HASH_DEL(f->senders, s);
                free(s);
        }
        sd_event_unref(f->event);
        free(f);
        return NULL;
}

static void close_pidfds(struct look *l)
{
        while (l->n_pidfds > 0)
                close(l->pidfds[--l->n_pidfds]);
}

void foreign_look_over(struct look *l, const struct closer_answer *answer, struct closer_fds *pidfds)
{
        bool all_came = pidfds->n == answer->pidfds && pidfds->n <= ELEMENTSOF(l->pidfds);

        close_pidfds(l);
        l->n_fds = all_came ? answer->n_fds : CLOSER_NOT_ALL;
        l->only_pidfds = !answer->foreign;
        if (!all_came)
                return;
        memcpy(l->pidfds, pidfds->fds, pidfds->n * sizeof *l->pidfds);
        l->n_pidfds = pidfds->n;
        pidfds->n = 0;
}

int foreign_look(struct look *l, int fd, uint32_t size)
{
        struct foreign *f = l->foreign;
        struct foreign_job *job;

        assert(!l->job && size > 0 && size <= CLOSER_LOOK_MAX);
        if (!f)
                return -ENODEV;
        job = foreign_job_new(f, l->party, l->uid, CLOSER_LOOK, fd);
        if (!job)
                return -ENOMEM;
        job->size = l->size = size;
        job->look = l;
        l->job = job;
        foreign_ask_next(f, job->sender);
        return 0;
}

int foreign_wait(struct look *l, uint64_t usec)
{
        uint64_t end = now_monotonic_usec() + usec, now;

        if (l->job && l->job->serial == 0)
                return -EBUSY;
        while (l->job && l->foreign->fd >= 0 && (now = now_monotonic_usec()) < end) {
                struct foreign_hand *hand = foreign_hand_of(l->job);
                struct pollfd p[] = {{.fd = l->foreign->fd, .events = POLLIN},
                                {.fd = hand ? hand->fd : -1, .events = POLLIN}};

                if (poll(p, ELEMENTSOF(p), (int) ((end - now) / 1000) + 1) <= 0)
                        continue;
                /* First the hand, which may be gone after the other answer. */
                if (p[1].revents != 0)
                        foreign_hand_read(hand);
                else
                        (void) read_answer(l->foreign);
        }
        return l->job ? -ETIMEDOUT : 0;
}

bool foreign_is_held(const struct look *l)
{
        struct pollfd p = {.fd = l->hand ? l->hand->fd : -1};

        /* One that was heard to end has no socket any more. */
        return !l->hand || (p.fd >= 0 && (poll(&p, 1, 0) <= 0 || !(p.revents & (POLLHUP | POLLERR))));
}

void foreign_forget(struct look *l)
{
        struct foreign_job *job = l->job;

        l->job = NULL;
        l->size = l->n_fds = 0;
        close_pidfds(l);
        if (l->hand)
                foreign_hand_drop(l->hand);
        if (!job)
                return;
        job->look = NULL;
        if (job->serial > 0)
                return;
        TAILQ_REMOVE(&job->sender->waiting, job, jobs);
        foreign_sender_tidy(l->foreign, job->sender);
        foreign_job_free(job);
}

bool foreign_close_before(struct look *l, int fd, void (*release)(void *owned), void *owned)
{
        struct foreign *f = l->foreign;
        struct foreign_job *job;
        int copy;

        foreign_forget(l);
        if (!f || shutdown(fd, SHUT_RDWR) < 0 || !foreign_holds_fds(fd))
                return false;
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        job = copy >= 0 ? foreign_job_new(f, l->party, l->uid, CLOSER_CLOSE, copy) : NULL;
        if (!job) {
                closep(&copy);
                /* This needs neither a descriptor nor memory, and the caller's close is not the last one. */
                (void) foreign_keep(f, fd);
                return false;
        }
        job->release = release;
        job->owned = owned;
        foreign_ask_next(f, job->sender);
        return true;
}

int foreign_close(struct foreign *f, uint32_t party, uid_t uid, const int *fds, unsigned n,
                void (*release)(void *owned), void *owned)
{
        struct closer_fds *given = malloc(sizeof *given);
        struct foreign_job *job = given ? foreign_job_new(f, party, uid, CLOSER_GIVEN, -1) : NULL;

        assert(n > 0 && n <= CLOSER_FDS_MAX);
        if (!job) {
                free(given);
                return -ENOMEM;
        }
        memcpy(given->fds, fds, n * sizeof *fds);
        given->n = n;
        job->given = given;
        job->release = release;
        job->owned = owned;
        foreign_ask_next(f, job->sender);
        return 0;
}

int foreign_write(struct foreign *f, uint32_t party, uid_t uid, int fd, void (*release)(void *owned),
                void *owned)
{
        struct foreign_job *job = f && f->fd >= 0 ? foreign_job_new(f, party, uid, CLOSER_WRITE, fd) : NULL;

        if (!job)
                return -ENODEV;
        job->release = release;
        job->owned = owned;
        foreign_ask_next(f, job->sender);
        return 0;
}

void foreign_try_again(struct foreign *f)
{
        foreign_ask_all(f);
}

int foreign_dummy(const struct foreign *f)
{
        int fd = fcntl(f->null_fd, F_DUPFD_CLOEXEC, 3);

        return fd < 0 ? -errno : fd;
}
