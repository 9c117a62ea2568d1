/* SPDX-License-Identifier: LGPL-2.1-or-later */
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#include "tests/interleave/world.h"

/* The calls of pthreads. A pthread_t is the index of a thread, plus 1. */

#define PC __builtin_return_address(0)
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

static struct {
        void (*prepare)(void), (*parent)(void), (*child)(void);
} at_fork[8];
static unsigned n_at_fork;

static void (*destructors[KEYS_MAX])(void *value);
static unsigned n_keys;

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *), void *userdata)
{
        struct thread *thread;

        step(STEP_CALL, NULL, PC);
        thread = thread_add(fn, userdata, false);
        *ret = (pthread_t) (thread - world->threads + 1);
        return 0;
}

int __wrap_pthread_detach(pthread_t id)
{
        world->threads[id - 1].is_librarys = true;
        return 0;
}

static bool has_ended(struct thread *thread)
{
        return ((const struct thread *) thread->ready_data)->state == THREAD_ENDED;
}

int __wrap_pthread_join(pthread_t id, void **ret)
{
        struct thread *other = &world->threads[id - 1];

        cancellation_begin();
        step(STEP_CALL, other, PC);
        if (other->state != THREAD_ENDED) {
                thread_about_to_block()->is_ready = has_ended;
                world->current->ready_data = other;
                thread_block();
        }
        cancellation_end();
        return 0;
}

int __wrap_pthread_tryjoin_np(pthread_t id, void **ret)
{
        struct thread *other = &world->threads[id - 1];

        step(STEP_CALL, other, PC);
        return other->state == THREAD_ENDED ? 0 : EBUSY;
}

int __wrap_pthread_setname_np(pthread_t id, const char *name)
{
        return 0;
}

int __wrap_pthread_once(int *once, void (*fn)(void))
{
        if (!*once) {
                *once = 2;
                fn();
        }
        return 0;
}

int __wrap_pthread_key_create(pthread_key_t *ret, void (*destructor)(void *value))
{
        if (n_keys == KEYS_MAX)
                return EAGAIN;
        destructors[n_keys] = destructor;
        *ret = n_keys++;
        return 0;
}

int __wrap_pthread_key_delete(pthread_key_t key)
{
        destructors[key] = NULL;
        return 0;
}

static struct thread *self(void)
{
        return world->current ? world->current : &world->threads[THREADS_MAX - 1];
}

int __wrap_pthread_setspecific(pthread_key_t key, const void *value)
{
        self()->keys[key] = (void *) (uintptr_t) value;
        return 0;
}

void *__wrap_pthread_getspecific(pthread_key_t key)
{
        return self()->keys[key];
}

void run_key_destructors(struct thread *thread)
{
        for (unsigned i = 0; i < n_keys; i++) {
                void *value = thread->keys[i];

                thread->keys[i] = NULL;
                if (value && destructors[i])
                        destructors[i](value);
        }
}

/* A program's signal is any one that a handler may be for. */
static int set_mask(int how, const sigset_t *set, sigset_t *ret_old)
{
        struct thread *thread = self();

        if (ret_old) {
                sigemptyset(ret_old);
                if (thread->signals_blocked)
                        sigaddset(ret_old, SIGUSR1);
        }
        if (set && (how == SIG_SETMASK || sigismember(set, SIGUSR1)))
                thread->signals_blocked = how != SIG_UNBLOCK && sigismember(set, SIGUSR1);
        return 0;
}

int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *ret_old)
{
        return set_mask(how, set, ret_old);
}

int __wrap_sigprocmask(int how, const sigset_t *set, sigset_t *ret_old)
{
        return set_mask(how, set, ret_old);
}

/* Cancellation. */

static _Noreturn void unwind(struct thread *thread)
{
        __pthread_unwind_buf_t *innermost = thread->cleanup;
        struct __jmp_buf_tag *volatile jump;

        if (!innermost)
                thread_end();
        thread->cleanup = innermost->__pad[0];
        /* It has only the first part of a jmp_buf. No more of it is used. */
        jump = (struct __jmp_buf_tag *) (void *) innermost->__cancel_jmp_buf;
        _longjmp(jump, 1);
}

void cancellation_point(void)
{
        cancellation_begin();
        cancellation_end();
}

bool cancellation_is_due(const struct thread *thread)
{
        return world->is_exploring && thread->n_cancellable > 0 && thread->cancel_pending &&
               !thread->cancel_disabled && !thread->is_cancelled;
}

static void be_cancelled(struct thread *thread)
{
        if (!thread || !cancellation_is_due(thread))
                return;
        thread->is_cancelled = true;
        unwind(thread);
}

void cancellation_begin(void)
{
        if (!world->current)
                return;
        world->current->n_cancellable++;
        be_cancelled(world->current);
}

void cancellation_end(void)
{
        if (!world->current)
                return;
        be_cancelled(world->current);
        world->current->n_cancellable--;
}

void cancel_thread(char name)
{
        struct thread *thread = &world->threads[name - 'A'];

        step(STEP_CALL, &thread->cancel_pending, PC);
        thread->cancel_pending = true;
}

int __wrap_pthread_setcancelstate(int state, int *ret_old)
{
        struct thread *thread = self();

        if (ret_old)
                *ret_old = thread->cancel_disabled ? PTHREAD_CANCEL_DISABLE : PTHREAD_CANCEL_ENABLE;
        thread->cancel_disabled = state == PTHREAD_CANCEL_DISABLE;
        return 0;
}

/* Between two steps it makes no difference when it is cancelled. */
int __wrap_pthread_setcanceltype(int type, int *ret_old)
{
        struct thread *thread = self();

        if (ret_old)
                *ret_old = thread->is_asynchronous ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED;
        if (thread->is_asynchronous == (type == PTHREAD_CANCEL_ASYNCHRONOUS))
                return 0;
        thread->is_asynchronous = type == PTHREAD_CANCEL_ASYNCHRONOUS;
        if (thread->is_asynchronous)
                cancellation_begin();
        else
                cancellation_end();
        return 0;
}

void __wrap_pthread_testcancel(void)
{
        step(STEP_CALL, &self()->cancel_pending, PC);
        cancellation_point();
}

/* What pthread_cleanup_push() and pthread_cleanup_pop() are made of. */
void __wrap___pthread_register_cancel(__pthread_unwind_buf_t *buffer)
{
        buffer->__pad[0] = self()->cleanup;
        self()->cleanup = buffer;
}

void __wrap___pthread_unregister_cancel(__pthread_unwind_buf_t *buffer)
{
        self()->cleanup = buffer->__pad[0];
}

void __wrap_pthread_exit(void *ret)
{
        unwind(self());
}

void __wrap___pthread_unwind_next(__pthread_unwind_buf_t *buffer)
{
        unwind(self());
}

/* Fork. */

int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
        at_fork[n_at_fork].prepare = prepare;
        at_fork[n_at_fork].parent = parent;
        at_fork[n_at_fork++].child = child;
        return 0;
}

static void prepare_fork(void)
{
        for (unsigned i = n_at_fork; i-- > 0;)
                if (at_fork[i].prepare)
                        at_fork[i].prepare();
}

void fork_as_child(void)
{
        prepare_fork();
        for (size_t i = 0; i < THREADS_MAX; i++)
                if (&world->threads[i] != world->current && world->threads[i].state != THREAD_ABSENT)
                        world->threads[i].state = THREAD_ENDED;
        for (unsigned i = 0; i < n_at_fork; i++)
                if (at_fork[i].child)
                        at_fork[i].child();
}

void fork_as_parent(void)
{
        prepare_fork();
        for (unsigned i = 0; i < n_at_fork; i++)
                if (at_fork[i].parent)
                        at_fork[i].parent();
}
