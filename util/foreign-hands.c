/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The processes that have left for a sender, as the daemon sees them. */

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/foreign-jobs.h"

void foreign_hand_dismiss(struct foreign_hand *hand)
{
        hand->source = sd_event_source_disable_unref(hand->source);
        closep(&hand->fd);
        hand->fd = -1;
}

static void end_job(struct foreign_hand *hand)
{
        struct foreign_job *job = hand->job;

        hand->job = NULL;
        if (job)
                foreign_job_free(job);
}

/* It has closed all that it had. */
static void has_closed(struct foreign_hand *hand)
{
        end_job(hand);
        if (hand->foreign->n_hands > LEAVING_IDLE_MAX)
                foreign_hand_dismiss(hand);
}

static void take_answer(
                struct foreign_hand *hand, const struct closer_answer *answer, struct closer_fds *pidfds)
{
        struct foreign *f = hand->foreign;

        if (answer->serial == 0)
                has_closed(hand);
        else if (!hand->job || hand->job->serial != answer->serial)
                return;
        else if (!answer->holds) {
                (void) foreign_job_answered(hand->job, answer, NULL, pidfds);
                has_closed(hand);
        } else if (!foreign_job_answered(hand->job, answer, hand, pidfds)) {
                foreign_hand_drop(hand);
        }
        foreign_ask_next(f, hand->sender);
}

struct foreign_hand *foreign_hand_of(const struct foreign_job *job)
{
        struct foreign_hand *hand;

        TAILQ_FOREACH (hand, &job->sender->hands, of_sender)
                if (hand->job == job)
                        return hand;
        return NULL;
}

void foreign_hand_read(struct foreign_hand *hand)
{
        _cleanup_(closer_fds_close) struct closer_fds pidfds;
        struct closer_answer answer;
        int r = closer_receive_fds(hand->fd, &answer, sizeof answer, &pidfds, MSG_DONTWAIT);

        if (r > 0)
                take_answer(hand, &answer, &pidfds);
        else if (r != -EAGAIN)
                foreign_hand_dismiss(hand); /* it ends */
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        foreign_hand_read(userdata);
        return 0;
}

void foreign_hand_new(struct foreign *f, struct foreign_job *job, const struct closer_answer *answer, int fd,
                struct closer_fds *pidfds)
{
        const struct closer_answer unknown = {.n_fds = CLOSER_NOT_ALL, .foreign = true, .holds = true};
        struct foreign_hand *hand = TAKE_PTR(job->hand);

        hand->foreign = f;
        hand->sender = job->sender;
        hand->pid = answer->pid;
        hand->fd = fd;
        hand->is_for_given = foreign_job_is_for_given(job);
        hand->job = job;
        TAILQ_INSERT_TAIL(&f->hands, hand, hands);
        TAILQ_INSERT_TAIL(&hand->sender->hands, hand, of_sender);
        f->n_hands++;
        hand->sender->n_hands++;
        if (fd < 0) {
                /* It waits for nobody, so what it has seen must not be received, and closed, here. */
                (void) foreign_job_answered(job, answer->holds ? &unknown : answer, NULL, pidfds);
                return;
        }
        /* Where that fails it is not known when it has closed all, but when it has ended. */
        (void) sd_event_add_io(f->event, &hand->source, fd, EPOLLIN, on_answer, hand);
        if (!foreign_job_answered(job, answer, answer->holds ? hand : NULL, pidfds) && answer->holds)
                foreign_hand_drop(hand);
}

void foreign_hand_gone(struct foreign_hand *hand)
{
        struct foreign *f = hand->foreign;
        struct sender_of_fds *s = hand->sender;
        struct foreign_job *again = NULL;

        foreign_hand_dismiss(hand);
        if (hand->look) {
                hand->look->hand = NULL;
                hand->look->size = 0; /* asked again: the last close could be here now */
        }
        if (hand->job && hand->job->look) {
                hand->job->look->size = 0; /* asked again */
                (void) foreign_job_answered(
                                hand->job, &(struct closer_answer){}, NULL, &(struct closer_fds){});
        }
        if (hand->job && hand->job->kind == CLOSER_WRITE)
                again = TAKE_PTR(hand->job);
        end_job(hand);
        TAILQ_REMOVE(&f->hands, hand, hands);
        TAILQ_REMOVE(&s->hands, hand, of_sender);
        f->n_hands--;
        s->n_hands--;
        if (again && !again->hand) {
                *hand = (struct foreign_hand){};
                again->hand = TAKE_PTR(hand); /* for the one who has it next */
        }
        if (again)
                foreign_job_again(again);
        free(hand);
        foreign_ask_next(f, s);
        foreign_sender_tidy(f, s);
}

void foreign_hand_drop(struct foreign_hand *hand)
{
        const struct closer_job job = {.kind = CLOSER_DROP};

        if (hand->look)
                hand->look->hand = NULL;
        hand->look = NULL;
        if (hand->fd < 0)
                return;
        /* Where nobody would hear that it goes on, it ends. */
        if (closer_send(hand->fd, &job, sizeof job, -1, MSG_DONTWAIT) < 0 || !hand->source)
                foreign_hand_dismiss(hand);
}

bool foreign_hand_ask(struct foreign_hand *hand, struct foreign_job *job)
{
        if (foreign_job_send(job, hand->fd) < 0)
                return false;
        hand->job = job;
        return true;
}
