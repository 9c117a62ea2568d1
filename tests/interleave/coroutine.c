/* SPDX-License-Identifier: LGPL-2.1-or-later */
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <link.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/interleave/world.h"

/* Threads as coroutines.
 *
 * A coroutine's stack is made once. Every order begins it again by a jump to its entry, whatever was left on
 * the stack. The thread-local variables of the program lie in one block, which is copied at a switch. */

#define STACK_SIZE (256 * 1024)

struct world *world;

static unsigned char *tls, *first_tls, *main_tls;
static size_t tls_size;

static int find_tls(struct dl_phdr_info *info, size_t size, void *unused)
{
        for (int i = 0; i < info->dlpi_phnum; i++)
                if (info->dlpi_phdr[i].p_type == PT_TLS) {
                        tls = info->dlpi_tls_data;
                        tls_size = info->dlpi_phdr[i].p_memsz;
                }
        return 1; /* the program itself comes first */
}

static void entry(void)
{
        struct thread *thread = world->current;

        if (_setjmp(thread->entry) == 0)
                _longjmp(world->main, 1);
        thread = world->current;
        thread->fn(thread->userdata);
        thread_end();
}

static void make_stack(struct thread *thread)
{
        ucontext_t context, unused;
        void *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (stack == MAP_FAILED)
                abort();
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = STACK_SIZE;
        context.uc_link = NULL;
        makecontext(&context, entry, 0);
        world->current = thread;
        if (_setjmp(world->main) == 0)
                swapcontext(&unused, &context);
        world->current = NULL;
        thread->tls = malloc(tls_size + 1);
}

void coroutine_init(void)
{
        world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (world == MAP_FAILED)
                abort();
        dl_iterate_phdr(find_tls, NULL);
        first_tls = malloc(tls_size + 1);
        main_tls = malloc(tls_size + 1);
        if (tls)
                memcpy(first_tls, tls, tls_size);
        for (size_t i = 0; i < THREADS_MAX; i++)
                make_stack(&world->threads[i]);
}

struct thread *thread_add(void *(*fn)(void *userdata), void *userdata, bool is_librarys)
{
        for (size_t i = 0; i < THREADS_MAX; i++) {
                struct thread *thread = &world->threads[i];

                if (thread->state != THREAD_ABSENT)
                        continue;
                thread->state = THREAD_READY;
                thread->is_librarys = is_librarys;
                thread->fn = fn;
                thread->userdata = userdata;
                memcpy(thread->here, thread->entry, sizeof thread->here);
                if (tls)
                        memcpy(thread->tls, first_tls, tls_size);
                return thread;
        }
        fail("there are too many threads");
}

void coroutine_switch(struct thread *next)
{
        struct thread *before = world->current;

        if (next == before)
                return;
        if (before) {
                before->saved_errno = errno;
                if (tls)
                        memcpy(before->tls, tls, tls_size);
                if (_setjmp(before->here) != 0)
                        return;
        }
        world->current = next;
        errno = next->saved_errno;
        if (tls)
                memcpy(tls, next->tls, tls_size);
        _longjmp(next->here, 1);
}

void coroutine_reset(void)
{
        if (tls)
                memcpy(tls, first_tls, tls_size);
}

void coroutine_keep_main(void)
{
        if (tls)
                memcpy(main_tls, tls, tls_size);
}

void coroutine_back_to_main(void)
{
        if (tls)
                memcpy(tls, main_tls, tls_size);
}
