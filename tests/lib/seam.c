/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "lib/local/shared.h"
#include "tests/law/local.h"

/* The seam between local contexts and shared ones, with a state page of our own in the daemon's place. */

struct fake {
        struct ctx_shared shared;
        _Atomic uint64_t word, deadline;
        int fd, watched;
        const char *message;
};

static _Atomic int alive;

static int fake_settle(struct ctx_shared *shared, uint64_t word)
{
        return word / 4 == shared->given / 4 ? (int) (word & 3) : STATE_WORD_CANCELED;
}

static int fake_cause(struct ctx_shared *shared, int *ret_error, const char **ret_message)
{
        if (ret_error)
                *ret_error = EPIPE;
        if (ret_message)
                *ret_message = ((struct fake *) shared)->message;
        return 1;
}

static _Atomic bool asked, is_slow;

static int fake_done_fd(struct ctx_shared *shared, uint64_t *ret_usec)
{
        atomic_store(&asked, true);
        while (atomic_load(&is_slow))
                usleep(1000);
        return ((struct fake *) shared)->fd;
}

static int fake_watch(struct ctx_shared *shared)
{
        ((struct fake *) shared)->watched++;
        return 0;
}

static void fake_free(struct ctx_shared *shared)
{
        close(((struct fake *) shared)->fd);
        free(shared);
        atomic_fetch_sub(&alive, 1);
}

static const struct ctx_shared_ops fake_ops = {
                .settle = fake_settle,
                .cause = fake_cause,
                .done_fd = fake_done_fd,
                .watch = fake_watch,
                .free = fake_free,
};

/* Not inline: gcc would see a calloc() that ctx_unref() frees. */
__attribute__((noinline)) static struct fake *fake_new(const char *message)
{
        struct fake *fake = calloc(1, sizeof(struct fake));

        ctx_shared_init(&fake->shared, &fake_ops);
        fake->shared.given = 7 * 4;
        fake->word = fake->shared.given;
        fake->deadline = UINT64_MAX;
        fake->shared.word = &fake->word;
        fake->shared.deadline_usec = &fake->deadline;
        fake->fd = eventfd(0, EFD_CLOEXEC);
        fake->message = message;
        atomic_fetch_add(&alive, 1);
        return fake;
}

/* As the daemon does it; with the news, the library hears of it too. */
static void fake_end(struct fake *fake, bool news)
{
        atomic_store(&fake->word, fake->shared.given | STATE_WORD_CANCELED);
        eventfd_write(fake->fd, 1);
        if (news)
                ctx_finish(&fake->shared.wide.ctx, STATE_WORD_CANCELED, CAUSE_SHARED);
}

static struct ctx *ctx_of(struct fake *fake)
{
        return &fake->shared.wide.ctx;
}

static const struct ctx_key key = CTX_KEY("key");

START_TEST(a_local_child_reads_the_page)
{
        struct fake *fake = fake_new("gone");
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx_of(fake));
        CTX_AUTO_UNREF struct ctx *value = ctx_with_value(child, &key, fake, NULL);
        CTX_AUTO_UNREF struct ctx *below = ctx_with_timeout(value, 1000000000);
        CTX_AUTO_UNREF struct ctx *without = ctx_without_cancel(below);
        CTX_AUTO_UNREF struct ctx *free_one = ctx_with_cancel(without);
        CTX_AUTO_UNREF struct ctx *born;

        ck_assert_int_eq(ctx_err(below), 0);
        fake_end(fake, false);
        ck_assert_int_eq(ctx_err(below), -ECANCELED);
        ck_assert_int_eq(ctx_err(value), -ECANCELED);
        ck_assert_int_eq(ctx_err(without), 0);
        ck_assert_int_eq(ctx_err(free_one), 0);
        ck_assert_ptr_eq(ctx_shared_above(free_one), &fake->shared);
        assert_cause(below, EPIPE, "gone");
        born = ctx_with_cancel(below);
        assert_cause(born, EPIPE, "gone");
        ck_assert_int_eq(ctx_cancel(child), 0); /* that was first */
        /* It is latched: another generation of the slot is nothing to it. */
        atomic_store(&fake->word, fake->shared.given + 4);
        ck_assert_int_eq(ctx_err(below), -ECANCELED);
        ctx_unref(ctx_of(fake));
        assert_cause(below, EPIPE, "gone");
}
END_TEST

START_TEST(the_pages_deadline)
{
        struct fake *fake = fake_new("late");
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx_of(fake));
        uint64_t deadline, soon = now_boottime_usec() + 3000;

        atomic_store(&fake->deadline, now_boottime_usec() + 1000000000);
        ck_assert_int_eq(ctx_deadline(child, &deadline), 1);
        ck_assert_uint_eq(deadline, fake->deadline);
        ck_assert_int_eq(ctx_err(child), 0);
        atomic_store(&fake->deadline, soon);
        ck_assert_int_eq(ctx_wait(child, UINT64_MAX), -ETIMEDOUT);
        ck_assert_uint_ge(now_boottime_usec(), soon);
        ck_assert_int_eq(ctx_err(ctx_of(fake)), -ETIMEDOUT);
        ctx_unref(ctx_of(fake));
}
END_TEST

/* Law 2: whichever is second changes nothing, in whatever way the merge has learned of the first. */
START_TEST(a_merge_keeps_its_cause)
{
        enum { BY_A_LOOK, BY_NEWS, AT_BIRTH, HOW };

        for (int how = BY_A_LOOK; how < HOW; how++) {
                struct fake *a = fake_new("a"), *b = fake_new("b"), *c = fake_new("c");
                CTX_AUTO_UNREF struct ctx *below = ctx_with_cancel(ctx_of(b));
                struct ctx *others[] = {below, ctx_of(c)};
                CTX_AUTO_UNREF struct ctx *early = ctx_merge(ctx_of(a), others, 2);
                CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(early);
                CTX_AUTO_UNREF struct ctx *late = NULL, *again = NULL;

                fake_end(b, how == BY_NEWS);
                if (how == BY_A_LOOK)
                        ck_assert_int_eq(ctx_err(child), -ECANCELED);
                if (how == AT_BIRTH)
                        ck_assert_int_eq(ctx_err(below), -ECANCELED);
                late = ctx_merge(ctx_of(a), others, 2);
                again = ctx_merge(early, &late, 1);
                ck_assert_int_eq(ctx_err(late), -ECANCELED);
                if (how != AT_BIRTH)
                        assert_cause(early, EPIPE, "b");
                fake_end(a, true);
                fake_end(c, false);
                if (how != AT_BIRTH) {
                        assert_cause(child, EPIPE, "b");
                        assert_cause(early, EPIPE, "b");
                }
                assert_cause(late, EPIPE, "b");
                ck_assert_int_eq(ctx_err(again), -ECANCELED);
                ctx_unref(ctx_of(a));
                ctx_unref(ctx_of(b));
                ctx_unref(ctx_of(c));
        }
}
END_TEST

/* The thread sleeps before it has looked at the clock, and meanwhile something happens. */
static void (*_Atomic meanwhile)(void);
static struct fake *subject;
int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
        void (*now)(void) = atomic_exchange(&meanwhile, NULL);

        if (now) {
                now();
                usleep(30000);
        }
        return __real_clock_gettime(clock, ret);
}

static void cancel_subject(void)
{
        fake_end(subject, false);
}

static void extend_subject(void)
{
        atomic_store(&subject->deadline, UINT64_MAX - 1);
}

START_TEST(a_look_at_the_clock_that_comes_late)
{
        for (int i = 0; i < 4; i++) {
                struct fake *fake = fake_new("in time");
                CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx_of(fake));
                uint64_t deadline = now_boottime_usec() + 20000;

                subject = fake;
                atomic_store(&fake->deadline, deadline);
                atomic_store(&meanwhile, i % 2 ? cancel_subject : extend_subject);
                ck_assert_int_eq(ctx_err(i / 2 ? child : ctx_of(fake)), i % 2 ? -ECANCELED : 0);
                ck_assert(now_boottime_usec() > deadline);
                ctx_unref(ctx_of(fake));
        }
}
END_TEST

START_TEST(a_merge_of_several_shared_ones)
{
        for (int which = 0; which < 3; which++) {
                struct fake *fakes[3] = {fake_new("a"), fake_new("b"), fake_new("c")};
                struct ctx *below = ctx_with_cancel(ctx_of(fakes[2])), *others[] = {ctx_of(fakes[1]), below};
                struct ctx *first = ctx_merge(ctx_of(fakes[0]), others, 1), *merged, *child;
                const char *messages[] = {"a", "b", "c"};
                uint64_t deadline;

                merged = ctx_merge(first, others, 2);
                child = ctx_with_cancel(merged);
                ck_assert_int_eq(ctx_err(child), 0);
                ck_assert_int_eq(ctx_deadline(child, NULL), 0);
                fakes[1]->deadline = now_boottime_usec() + 1000000000;
                ck_assert_int_eq(ctx_deadline(child, &deadline), 1);
                ck_assert_uint_eq(deadline, fakes[1]->deadline);
                ck_assert_int_eq(ctx_wait(child, 1000), 0);
                fake_end(fakes[which], false);
                ck_assert_int_eq(ctx_wait(child, UINT64_MAX), -ECANCELED);
                assert_cause(child, EPIPE, messages[which]);
                ck_assert_int_eq(ctx_err(first), which == 2 ? 0 : -ECANCELED);
                for (int i = 0; i < 3; i++)
                        ctx_unref(ctx_of(fakes[i]));
                ctx_unref(below);
                ctx_unref(first);
                ctx_unref(merged);
                assert_cause(child, EPIPE, messages[which]);
                ctx_unref(child);
                ck_assert_int_eq(alive, 0);
        }
}
END_TEST

static _Atomic pid_t waiter;

static void *wait_below(void *userdata)
{
        atomic_store(&waiter, gettid());
        return (void *) (intptr_t) ctx_wait(userdata, UINT64_MAX);
}

START_TEST(the_news_reach_all_below)
{
        struct fake *fake = fake_new("gone");
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx_of(fake));
        CTX_AUTO_UNREF struct ctx *middle = ctx_with_cancel(child);
        CTX_AUTO_UNREF struct ctx *below = ctx_with_cancel(middle);
        struct ctx_mutex mutex = CTX_MUTEX_INIT;
        int fd = ctx_done_fd(below);
        pthread_t thread;
        void *result;

        ck_assert_int_gt(fake->watched, 0);
        ck_assert_int_eq(ctx_mutex_trylock(&mutex), 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, wait_below, below), 0);
        while (!sleeps(atomic_load(&waiter))) /* one that comes later sees for itself */
                usleep(1000);
        /* Somebody in the middle has looked in the meantime, and did not walk. */
        atomic_store(&fake->word, fake->shared.given | STATE_WORD_CANCELED);
        ck_assert_int_eq(ctx_err(middle), -ECANCELED);
        ck_assert(!is_readable(fd));
        fake_end(fake, true);
        ck_assert(is_readable(fd));
        ck_assert_int_eq(ctx_mutex_lock(below, &mutex), -ECANCELED);
        pthread_join(thread, &result);
        ck_assert_int_eq((int) (intptr_t) result, -ECANCELED);
        ctx_unref(ctx_of(fake));
}
END_TEST

/* Another thread was in the middle of a derive when the program forked: in the child nobody will unlock. */
START_TEST(a_lock_that_was_held_at_fork)
{
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_cancel(ctx_background());
        uint32_t word = nest_lock(&parent->nest);
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                struct ctx *child = ctx_with_cancel(parent);

                alarm(120);
                _exit(ctx_cancel(parent) == 1 && ctx_err(child) == -ECANCELED && !ctx_unref(child) ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        nest_unlock(&parent->nest, word);
        ck_assert_int_eq(status, 0);
        ck_assert_int_eq(ctx_err(parent), 0);
        ck_assert_int_eq(ctx_cancel(parent), 1);
}
END_TEST

static void *poll_with(void *userdata)
{
        (void) !ctx_poll(userdata, NULL, 0, 0);
        return NULL;
}

/* The same with a merge: another thread was asking for the descriptor that stands for all of its parts. */
START_TEST(a_descriptor_of_a_merge_that_was_asked_for_at_fork)
{
        struct fake *fakes[2] = {fake_new("a"), fake_new("b")};
        struct ctx *other = ctx_of(fakes[1]), *merged = ctx_merge(ctx_of(fakes[0]), &other, 1);
        pthread_t thread;
        int status;
        pid_t pid;

        atomic_store(&asked, false);
        atomic_store(&is_slow, true);
        pthread_create(&thread, NULL, poll_with, merged);
        while (!atomic_load(&asked))
                usleep(1000);
        pid = fork();
        if (pid == 0) {
                alarm(10);
                atomic_store(&is_slow, false);
                _exit(ctx_poll(merged, NULL, 0, 0) == 0 ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        atomic_store(&is_slow, false);
        pthread_join(thread, NULL);
        ck_assert_int_eq(status, 0);
        ctx_unref(merged);
        for (int i = 0; i < 2; i++)
                ctx_unref(ctx_of(fakes[i]));
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        a_local_child_reads_the_page,
                        the_pages_deadline,
                        a_merge_of_several_shared_ones,
                        a_merge_keeps_its_cause,
                        a_look_at_the_clock_that_comes_late,
                        the_news_reach_all_below,
                        a_lock_that_was_held_at_fork,
                        a_descriptor_of_a_merge_that_was_asked_for_at_fork,
                        NULL,
        };

        return run_laws("local contexts under shared ones", tests);
}
