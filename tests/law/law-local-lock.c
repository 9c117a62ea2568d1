/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "tests/law/local.h"

/* Law 26: no lock, item or child is lost. Most of these are races that are run many times, with a sum that
 * has to come out at the end. */

/* -- Locks */

struct locks {
        struct ctx_mutex mutex;
        struct ctx_cond cond;
        struct ctx_sem sem;
        struct ctx_chan *chan;
        unsigned long counter; /* under the mutex */
        unsigned tokens;       /* under the mutex, with the condition */
        _Atomic unsigned long taken, sent, received, sum_sent, sum_received;
        _Atomic unsigned ended;
        _Atomic bool over;
};

#define ROUNDS 2000
#define THREADS 4

static void *lock_and_count(void *userdata)
{
        struct locks *l = userdata;

        for (unsigned i = 0; i < ROUNDS; i++) {
                CTX_AUTO_UNREF struct ctx *ctx =
                                ctx_with_timeout(ctx_background(), i % 3 ? 1000000000 : i % 50);

                if (ctx_mutex_lock(ctx, &l->mutex) < 0) {
                        atomic_fetch_add(&l->ended, 1);
                        continue;
                }
                atomic_fetch_add(&l->taken, 1);
                l->counter++;
                if (i % 16 == 0)
                        sched_yield();
                ck_assert_int_eq(ctx_mutex_unlock(&l->mutex), 0);
        }
        return NULL;
}

static void run_threads(void *(*fn)(void *), struct locks *l)
{
        pthread_t threads[THREADS];

        for (int i = 0; i < THREADS; i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, fn, l), 0);
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
}

START_TEST(law_26_no_lock_is_lost)
{
        struct locks l = {};

        run_threads(lock_and_count, &l);
        ck_assert_uint_eq(l.counter, l.taken);
        ck_assert_uint_eq(l.taken + l.ended, THREADS * ROUNDS);
        ck_assert_int_eq(ctx_mutex_trylock(&l.mutex), 0);
}
END_TEST

/* Posts and takes are equal in the end, and nobody sleeps beside a semaphore that is not 0. */
static void *post_and_wait(void *userdata)
{
        struct locks *l = userdata;

        for (unsigned i = 0; i < ROUNDS; i++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), i % 40);

                ck_assert_int_eq(ctx_sem_post(&l->sem), 0);
                while (ctx_sem_wait(i % 4 ? ctx_background() : ctx, &l->sem) < 0) {
                        atomic_fetch_add(&l->ended, 1);
                        if (ctx_sem_wait(ctx_background(), &l->sem) == 0)
                                break;
                }
                atomic_fetch_add(&l->taken, 1);
        }
        return NULL;
}

START_TEST(law_26_no_post_is_lost)
{
        struct locks l = {};

        run_threads(post_and_wait, &l);
        ck_assert_uint_eq(l.taken, THREADS * ROUNDS);
        ck_assert_int_eq(ctx_sem_trywait(&l.sem), -EAGAIN);
        l.sem.value = UINT32_MAX;
        ck_assert_int_eq(ctx_sem_post(&l.sem), -EOVERFLOW);
}
END_TEST

static void *take_tokens(void *userdata)
{
        struct locks *l = userdata;
        unsigned i = 0;

        for (;;) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), i++ % 40);
                bool over;

                ck_assert_int_eq(ctx_mutex_lock(ctx_background(), &l->mutex), 0);
                while (l->tokens == 0 && !atomic_load(&l->over))
                        if (ctx_cond_wait(i % 3 ? ctx_background() : ctx, &l->cond, &l->mutex) < 0)
                                break;
                if (l->tokens > 0) {
                        l->tokens--;
                        l->taken++;
                }
                over = l->tokens == 0 && atomic_load(&l->over);
                ctx_mutex_unlock(&l->mutex);
                if (over)
                        return NULL;
        }
}

START_TEST(law_26_no_signal_is_lost)
{
        struct locks l = {};
        pthread_t threads[THREADS];

        for (int i = 0; i < THREADS; i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, take_tokens, &l), 0);
        for (int i = 0; i < ROUNDS; i++) {
                ck_assert_int_eq(ctx_mutex_lock(ctx_background(), &l.mutex), 0);
                l.tokens++;
                ctx_mutex_unlock(&l.mutex);
                ctx_cond_signal(&l.cond);
        }
        /* All of them are taken, with nobody to help by a broadcast. */
        for (int i = 0; i < 120000 && atomic_load(&l.taken) < ROUNDS; i++)
                usleep(500);
        ck_assert_uint_eq(l.taken, ROUNDS);
        ck_assert_int_eq(ctx_mutex_lock(ctx_background(), &l.mutex), 0);
        atomic_store(&l.over, true);
        ctx_mutex_unlock(&l.mutex);
        ctx_cond_broadcast(&l.cond);
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
}
END_TEST

/* One waiter whose time runs out at just the moment when the one wake-up comes, and, behind it, one with all
 * the time in the world: one of them has to have it. */
struct duel {
        struct locks l;
        int kind;
        struct ctx *brief;
        _Atomic unsigned waiting;
        int result;
};

static int wait_for_one(struct ctx *ctx, struct duel *d)
{
        int r = 0;

        atomic_fetch_add(&d->waiting, 1);
        if (d->kind == 0)
                return ctx_mutex_lock(ctx, &d->l.mutex);
        if (d->kind == 1)
                return ctx_sem_wait(ctx, &d->l.sem);
        if (d->kind == 2) {
                ck_assert_int_eq(ctx_mutex_lock(ctx_background(), &d->l.mutex), 0);
                while (d->l.tokens == 0 && r == 0)
                        r = ctx_cond_wait(ctx, &d->l.cond, &d->l.mutex);
                if (r == 0)
                        d->l.tokens--;
                ctx_mutex_unlock(&d->l.mutex);
                return r;
        }
        return ctx_chan_recv(ctx, d->l.chan, &d->l.counter) > 0 ? 0 : -ECANCELED;
}

static void give_one(struct duel *d)
{
        unsigned long item = 1;

        if (d->kind == 0) {
                ctx_mutex_unlock(&d->l.mutex);
        } else if (d->kind == 1) {
                ctx_sem_post(&d->l.sem);
        } else if (d->kind == 2) {
                ck_assert_int_eq(ctx_mutex_lock(ctx_background(), &d->l.mutex), 0);
                d->l.tokens++;
                ctx_mutex_unlock(&d->l.mutex);
                ctx_cond_signal(&d->l.cond);
        } else {
                ck_assert_int_eq(ctx_chan_send(ctx_background(), d->l.chan, &item), 0);
        }
}

static void *brief_waiter(void *userdata)
{
        struct duel *d = userdata;

        d->result = wait_for_one(d->brief, d);
        /* It has had it: now the other one's turn. */
        if (d->result == 0)
                give_one(d);
        return NULL;
}

static void *patient_waiter(void *userdata)
{
        return (void *) (intptr_t) wait_for_one(ctx_background(), userdata);
}

START_TEST(law_26_no_wake_up_is_lost)
{
        for (unsigned round = 0; round < 300; round++) {
                struct duel d = {.kind = _i};
                uint64_t deadline = now_boottime_usec() + 1500;
                pthread_t brief, patient;
                void *result;

                d.l.chan = ctx_chan_new(sizeof(unsigned long), 1);
                d.brief = ctx_with_deadline(ctx_background(), deadline);
                if (d.kind == 0)
                        ck_assert_int_eq(ctx_mutex_trylock(&d.l.mutex), 0);
                ck_assert_int_eq(pthread_create(&brief, NULL, brief_waiter, &d), 0);
                while (atomic_load(&d.waiting) < 1)
                        sched_yield();
                usleep(100);
                ck_assert_int_eq(pthread_create(&patient, NULL, patient_waiter, &d), 0);
                while (now_boottime_usec() + 20 < deadline + round % 40)
                        ;
                give_one(&d);
                pthread_join(brief, NULL);
                pthread_join(patient, &result); /* would hang */
                ck_assert_int_eq((int) (intptr_t) result, 0);
                ctx_unref(d.brief);
                ctx_chan_unref(d.l.chan);
        }
}
END_TEST

START_TEST(law_26_no_file_lock_is_lost)
{
        char path[] = "/tmp/ctx-law-26.XXXXXX";
        int mine, other = mkstemp(path);
        siginfo_t info;

        mine = open(path, O_RDWR);
        unlink(path);
        ck_assert_int_eq(ctx_flock(ctx_background(), mine, LOCK_EX), 0);
        ck_assert_int_eq(ctx_flock(ctx_background(), other, LOCK_SH | LOCK_NB), -EWOULDBLOCK);
        for (unsigned i = 0; i < 60; i++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 50 * i);
                int r = ctx_flock(ctx, other, LOCK_EX);

                ck_assert_int_eq(r, -ETIMEDOUT);
                /* Gone: the other one can have it again. */
                ck_assert_int_eq(flock(mine, LOCK_UN), 0);
                ck_assert_int_eq(flock(mine, LOCK_EX | LOCK_NB), 0);
        }
        ck_assert_int_eq(flock(mine, LOCK_UN), 0);
        ck_assert_int_eq(ctx_flock(ctx_background(), other, LOCK_EX), 0);
        ck_assert_int_eq(flock(mine, LOCK_EX | LOCK_NB), -1);
        /* Nobody is left to be waited for. */
        ck_assert_int_eq(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL), -1);
        ck_assert_int_eq(errno, ECHILD);
        close(mine);
        close(other);
}
END_TEST

struct file_lock {
        int fd, result;
        struct ctx *ctx;
};

static void *lock_file(void *userdata)
{
        struct file_lock *l = userdata;

        l->result = ctx_flock(l->ctx, l->fd, LOCK_EX);
        return NULL;
}

START_TEST(law_26_a_file_lock_that_is_given_up_is_taken)
{
        char path[] = "/tmp/ctx-law-26.XXXXXX";
        int other = mkstemp(path), mine = open(path, O_RDWR);
        struct file_lock l = {.fd = other, .ctx = ctx_with_timeout(ctx_background(), 20000000)};
        pthread_t thread;

        unlink(path);
        ck_assert_int_eq(flock(mine, LOCK_EX), 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, lock_file, &l), 0);
        usleep(3000);
        ck_assert_int_eq(flock(mine, LOCK_UN), 0);
        pthread_join(thread, NULL);
        ck_assert_int_eq(l.result, 0);
        ck_assert_int_eq(flock(mine, LOCK_EX | LOCK_NB), -1);
        ctx_unref(l.ctx);
        close(mine);
        close(other);
}
END_TEST

/* The lock comes free at just the moment when the time runs out. */
START_TEST(law_26_a_file_lock_is_had_or_not)
{
        char path[] = "/tmp/ctx-law-26.XXXXXX";
        int other = mkstemp(path), mine = open(path, O_RDWR);

        unlink(path);
        for (unsigned round = 0; round < 150; round++) {
                uint64_t deadline = now_boottime_usec() + 1000;
                struct file_lock l = {.fd = other, .ctx = ctx_with_deadline(ctx_background(), deadline)};
                pthread_t thread;

                ck_assert_int_eq(flock(mine, LOCK_EX), 0);
                ck_assert_int_eq(pthread_create(&thread, NULL, lock_file, &l), 0);
                while (now_boottime_usec() + 30 < deadline + round % 60)
                        ;
                ck_assert_int_eq(flock(mine, LOCK_UN), 0);
                pthread_join(thread, NULL);
                if (l.result == 0)
                        ck_assert_int_eq(flock(mine, LOCK_EX | LOCK_NB), -1);
                else
                        ck_assert_int_eq(l.result, -ETIMEDOUT);
                if (l.result == 0)
                        ck_assert_int_eq(flock(other, LOCK_UN), 0);
                ck_assert_int_eq(flock(mine, LOCK_EX | LOCK_NB), 0);
                ck_assert_int_eq(flock(mine, LOCK_UN), 0);
                ctx_unref(l.ctx);
        }
        close(mine);
        close(other);
}
END_TEST

/* -- Items and children */

static void *send_items(void *userdata)
{
        struct locks *l = userdata;

        for (unsigned long i = 1; i <= ROUNDS; i++) {
                for (unsigned n = 0;; n++) {
                        CTX_AUTO_UNREF struct ctx *ctx =
                                        ctx_with_timeout(ctx_background(), n < 3 ? i % 60 : UINT64_MAX);
                        int r = ctx_chan_send(ctx, l->chan, &i);

                        if (r == 0)
                                break;
                        ck_assert_int_eq(r, -ETIMEDOUT);
                        atomic_fetch_add(&l->ended, 1);
                }
                atomic_fetch_add(&l->sent, 1);
                atomic_fetch_add(&l->sum_sent, i);
        }
        return NULL;
}

static void *recv_items(void *userdata)
{
        struct locks *l = userdata;

        for (unsigned n = 0;; n++) {
                CTX_AUTO_UNREF struct ctx *ctx =
                                ctx_with_timeout(ctx_background(), n % 3 ? n % 70 : UINT64_MAX);
                unsigned long item = 0;
                int r = ctx_chan_recv(ctx, l->chan, &item);

                if (r == 0)
                        return NULL;
                if (r < 0) {
                        ck_assert_int_eq(r, -ETIMEDOUT);
                        continue;
                }
                atomic_fetch_add(&l->received, 1);
                atomic_fetch_add(&l->sum_received, item);
        }
}

START_TEST(law_26_no_item_is_lost)
{
        size_t capacities[] = {0, 1, 7};

        for (int k = 0; k < 3; k++) {
                struct locks l = {.chan = ctx_chan_new(sizeof(unsigned long), capacities[k])};
                pthread_t senders[2], receivers[2];
                unsigned long item = 5;

                for (int i = 0; i < 2; i++) {
                        ck_assert_int_eq(pthread_create(&senders[i], NULL, send_items, &l), 0);
                        ck_assert_int_eq(pthread_create(&receivers[i], NULL, recv_items, &l), 0);
                }
                for (int i = 0; i < 2; i++)
                        pthread_join(senders[i], NULL);
                ck_assert_int_eq(ctx_chan_close(l.chan), 0);
                for (int i = 0; i < 2; i++)
                        pthread_join(receivers[i], NULL);
                ck_assert_uint_eq(l.sent, l.received);
                ck_assert_uint_eq(l.sum_sent, l.sum_received);
                ck_assert_int_eq(ctx_chan_close(l.chan), -EPIPE);
                ck_assert_int_eq(ctx_chan_send(ctx_background(), l.chan, &item), -EPIPE);
                ck_assert_int_eq(ctx_chan_recv(ctx_background(), l.chan, &item), 0);
                ctx_chan_unref(l.chan);
        }
}
END_TEST

START_TEST(law_26_a_channel_keeps_the_order)
{
        struct ctx_chan *chan = ctx_chan_new(sizeof(int), 3);
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout(ctx_background(), 1000);
        int item;

        for (int round = 0; round < 5; round++) {
                for (int i = 0; i < 3; i++)
                        ck_assert_int_eq(ctx_chan_send(ctx_background(), chan, &i), 0);
                for (int i = 0; i < 3; i++) {
                        ck_assert_int_eq(ctx_chan_recv(ctx_background(), chan, &item), 1);
                        ck_assert_int_eq(item, i);
                }
        }
        ck_assert_int_eq(ctx_chan_recv(ctx, chan, &item), -ETIMEDOUT);
        ck_assert_int_eq(ctx_chan_send(ctx_background(), chan, &item), 0);
        ck_assert_int_eq(ctx_chan_close(chan), 0);
        ck_assert_int_eq(ctx_chan_recv(ctx_background(), chan, &item), 1); /* what is in it comes out */
        ck_assert_int_eq(ctx_chan_recv(ctx_background(), chan, &item), 0);
        ctx_chan_unref(chan);
}
END_TEST

START_TEST(law_26_no_child_is_lost)
{
        unsigned ended = 0;
        int go[2];
        char byte;

        ck_assert_int_eq(pipe(go), 0);
        for (unsigned i = 0; i < 40; i++) {
                int status = -1;
                pid_t pid = fork(), r;

                if (pid == 0) {
                        if (i == 0) /* does not go before a wait for it was ended */
                                (void) !read(go[0], &byte, 1);
                        usleep(i * 50);
                        _exit((int) i);
                }
                for (;;) {
                        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 500);

                        r = ctx_waitpid(ctx, pid, &status);
                        if (r != -ETIMEDOUT)
                                break;
                        if (ended++ == 0)
                                ck_assert_int_eq(write(go[1], "g", 1), 1);
                }
                ck_assert_int_eq(r, pid);
                ck_assert(WIFEXITED(status));
                ck_assert_int_eq(WEXITSTATUS(status), (int) i);
                ck_assert_int_eq(ctx_waitpid(ctx_background(), pid, NULL), -ECHILD);
        }
        ck_assert_uint_gt(ended, 0);
        close(go[0]);
        close(go[1]);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_26_no_lock_is_lost,
                        law_26_no_post_is_lost,
                        law_26_no_signal_is_lost,
                        law_26_no_file_lock_is_lost,
                        law_26_a_file_lock_that_is_given_up_is_taken,
                        law_26_a_file_lock_is_had_or_not,
                        law_26_no_item_is_lost,
                        law_26_a_channel_keeps_the_order,
                        law_26_no_child_is_lost,
                        NULL,
        };

        return run_laws_and_loop(
                        "local contexts: locks, channels and children", tests, law_26_no_wake_up_is_lost, 4);
}
