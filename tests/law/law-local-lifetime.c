/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>

#include "tests/law/local.h"

/* Law 22: who was woken may free what it has waited for, while the thread that has woken it is still in its
 * call. The memory of each thing is a page of its own, which is unmapped at once: whoever touches it
 * afterwards dies. */

/* -- One thread, step by step: after each instruction of a call a handler asks whether the waiter could have
 * returned by now, and if so, the page is gone. */

#if defined(__x86_64__)
#define HAVE_STEPS true

static void set_trap_flag(void)
{
        __asm__ volatile(
                        "lea -128(%%rsp), %%rsp; pushfq; orq $0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::
                                        : "memory", "cc");
}

static void clear_trap_flag(void)
{
        __asm__ volatile(
                        "lea -128(%%rsp), %%rsp; pushfq; andq $-257, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::
                                        : "memory", "cc");
}
#else
#define HAVE_STEPS false

static void set_trap_flag(void) {}

static void clear_trap_flag(void) {}
#endif

static _Atomic uint32_t *watched;
static uint32_t before, steps;
static bool gone;

static void *new_page(void)
{
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        ck_assert_ptr_ne(page, MAP_FAILED);
        return page;
}

static void after_step(int signal)
{
        steps++;
        if (gone || atomic_load(watched) == before)
                return;
        mprotect((void *) watched, 4096, PROT_NONE);
        gone = true;
}

/* word: what the waiter looks at. */
static void step_through(int (*call)(void *), void *page)
{
        struct sigaction action = {.sa_handler = after_step}, old;
        int r;

        watched = page;
        before = atomic_load(watched);
        gone = false;
        steps = 0;
        ck_assert_int_eq(sigaction(SIGTRAP, &action, &old), 0);
        set_trap_flag();
        r = call(page);
        clear_trap_flag();
        sigaction(SIGTRAP, &old, NULL);
        ck_assert_int_eq(r, 0);
        ck_assert(gone == HAVE_STEPS);
        munmap(page, 4096);
}

static int post(void *sem)
{
        return ctx_sem_post(sem);
}

static int unlock(void *mutex)
{
        return ctx_mutex_unlock(mutex);
}

static int signal_one(void *cond)
{
        return ctx_cond_signal(cond);
}

static int signal_all(void *cond)
{
        return ctx_cond_broadcast(cond);
}

static void *wait_for_sem(void *sem)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 1000);

        ck_assert_int_eq(ctx_sem_wait(ctx, sem), -ETIMEDOUT);
        return NULL;
}

START_TEST(law_22_a_post_ends_with_the_value)
{
        struct ctx_sem *sem = new_page();

        step_through(post, sem);
        /* Somebody waits, or has given up: the poster may think that it has to wake. */
        sem = new_page();
        wait_for_sem(sem);
        step_through(post, sem);
}
END_TEST

static void *lock_for_a_while(void *mutex)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 1000);

        ck_assert_int_eq(ctx_mutex_lock(ctx, mutex), -ETIMEDOUT);
        return NULL;
}

START_TEST(law_22_an_unlock_ends_with_the_word)
{
        struct ctx_mutex *mutex = new_page();

        ck_assert_int_eq(ctx_mutex_trylock(mutex), 0);
        step_through(unlock, mutex);
        mutex = new_page();
        ck_assert_int_eq(ctx_mutex_trylock(mutex), 0);
        lock_for_a_while(mutex);
        step_through(unlock, mutex);
}
END_TEST

START_TEST(law_22_a_signal_ends_with_the_sequence)
{
        step_through(signal_one, new_page());
        step_through(signal_all, new_page());
}
END_TEST

/* -- Two threads */

struct duet {
        _Atomic(void *) page;
        struct ctx *ctx;
};

#define ROUNDS 1000

/* The page of a round, or NULL: it is over. */
static void *next_page(struct duet *d)
{
        void *page;

        while (!(page = atomic_exchange(&d->page, NULL)))
                sched_yield();
        return page == MAP_FAILED ? NULL : page;
}

static void give_page(struct duet *d, void *page)
{
        atomic_store(&d->page, page);
}

static void run_duet(void *(*other)(void *), void (*round)(struct duet *, unsigned), unsigned rounds)
{
        struct duet d = {.ctx = ctx_with_cancel(ctx_background())};
        pthread_t thread;

        ck_assert_int_eq(pthread_create(&thread, NULL, other, &d), 0);
        for (unsigned i = 0; i < rounds; i++)
                round(&d, i);
        give_page(&d, MAP_FAILED);
        pthread_join(thread, NULL);
        ctx_unref(d.ctx);
}

static void *post_sems(void *userdata)
{
        struct ctx_sem *sem;

        while ((sem = next_page(userdata)))
                ctx_sem_post(sem);
        return NULL;
}

static void wait_and_free(struct duet *d, unsigned i)
{
        struct ctx_sem *sem = new_page();

        give_page(d, sem);
        /* Asleep, or looking all the time. */
        if (i % 2)
                while (ctx_sem_trywait(sem) < 0)
                        ;
        else
                ck_assert_int_eq(ctx_sem_wait(d->ctx, sem), 0);
        munmap(sem, 4096);
}

START_TEST(law_22_a_semaphore_goes_with_its_waiter)
{
        run_duet(post_sems, wait_and_free, ROUNDS);
}
END_TEST

static void *unlock_mutexes(void *userdata)
{
        struct ctx_mutex *mutex;

        while ((mutex = next_page(userdata)))
                ck_assert_int_eq(ctx_mutex_unlock(mutex), 0);
        return NULL;
}

static void lock_and_free(struct duet *d, unsigned i)
{
        struct ctx_mutex *mutex = new_page();

        ck_assert_int_eq(ctx_mutex_trylock(mutex), 0);
        give_page(d, mutex);
        ck_assert_int_eq(ctx_mutex_lock(d->ctx, mutex), 0);
        munmap(mutex, 4096);
}

START_TEST(law_22_a_mutex_goes_with_the_next_holder)
{
        run_duet(unlock_mutexes, lock_and_free, ROUNDS);
}
END_TEST

struct event {
        struct ctx_mutex mutex;
        struct ctx_cond cond;
        bool happened;
};

static void *signal_events(void *userdata)
{
        struct event *event;

        while ((event = next_page(userdata))) {
                ck_assert_int_eq(ctx_mutex_lock(ctx_background(), &event->mutex), 0);
                event->happened = true;
                ctx_cond_signal(&event->cond);
                ctx_mutex_unlock(&event->mutex);
        }
        return NULL;
}

static void wait_for_event(struct duet *d, unsigned i)
{
        struct event *event = new_page();

        give_page(d, event);
        ck_assert_int_eq(ctx_mutex_lock(d->ctx, &event->mutex), 0);
        while (!event->happened)
                ck_assert_int_eq(ctx_cond_wait(d->ctx, &event->cond, &event->mutex), 0);
        ctx_mutex_unlock(&event->mutex);
        munmap(event, 4096);
}

START_TEST(law_22_a_condition_goes_with_its_waiter)
{
        run_duet(signal_events, wait_for_event, ROUNDS);
}
END_TEST

/* So large that it is a mapping of its own, which is gone after the last unref. */
#define BIG (1 << 18)

static void *send_one(void *userdata)
{
        static char item[BIG];
        struct ctx_chan *chan;

        while ((chan = next_page(userdata)))
                ck_assert_int_eq(ctx_chan_send(ctx_background(), chan, item), 0);
        return NULL;
}

static void recv_and_free(struct duet *d, unsigned i)
{
        struct ctx_chan *chan = ctx_chan_new(BIG, 1);
        static char item[BIG];

        ck_assert_int_eq(ctx_chan_send(d->ctx, chan, item), 0);
        give_page(d, chan);
        usleep(i % 2 ? 300 : 0); /* by then it waits for room */
        for (int n = 0; n < 2; n++)
                ck_assert_int_eq(ctx_chan_recv(d->ctx, chan, item), 1);
        ctx_chan_unref(chan);
}

/* A sender whose item was taken touches the channel no more. */
START_TEST(law_22_a_channel_goes_with_its_receiver)
{
        mallopt(M_MMAP_THRESHOLD, BIG / 2); /* and does not grow */
        run_duet(send_one, recv_and_free, 300);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_22_a_post_ends_with_the_value,
                        law_22_an_unlock_ends_with_the_word,
                        law_22_a_signal_ends_with_the_sequence,
                        law_22_a_semaphore_goes_with_its_waiter,
                        law_22_a_mutex_goes_with_the_next_holder,
                        law_22_a_condition_goes_with_its_waiter,
                        law_22_a_channel_goes_with_its_receiver,
                        NULL,
        };

        return run_laws("local contexts: what is freed by who was woken", tests);
}
