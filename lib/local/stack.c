/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/local/stack.h"

/* The kernel does not say whether a thread is in a signal handler. But it puts what the handler has
 * interrupted on the stack, and there is a mark in that. So between here and the first frame of the thread
 * there is the mark, or the thread is in no handler. An unwinder would also know, but it takes locks and
 * calls malloc(), and the handler may have interrupted just that. What was left by a handler that is over may
 * be taken for one: then nothing is certain.
 *
 * The memory is read by the kernel, since where the stack ends is a guess if the program has made it
 * (coroutines). */

#define DEPTH_MAX (8U << 20)

static uintptr_t first_top; /* of the first thread */

__attribute__((constructor)) static void start(int argc, char *argv[])
{
        first_top = (uintptr_t) argv;
}

static bool read_at(uintptr_t at, void *ret, size_t size)
{
        struct iovec here = {ret, size}, there = {(void *) at, size};

        return syscall(SYS_process_vm_readv, getpid(), &here, 1UL, &there, 1UL, 0UL) == (long) size;
}

/* No mark of this file's own making is to be found by a later call. */
#define HIDDEN UINT64_C(0x5a5a5a5a5a5a5a5a)

static void erase(void *mark)
{
        *(volatile uint64_t *) mark = 0;
}

#if defined(__x86_64__)
#define MARK_IS_KNOWN true

/* The segment registers: cs, gs, fs, ss. */
static uint64_t mark(void)
{
        uint64_t cs, ss;

        __asm__("mov %%cs, %0" : "=r"(cs));
        __asm__("mov %%ss, %0" : "=r"(ss));
        return (cs & UINT16_MAX) | ss << 48;
}

static bool is_frame(uintptr_t at)
{
        uintptr_t begin = at - offsetof(ucontext_t, uc_mcontext.gregs[REG_CSGSFS]);
        uint8_t frame[offsetof(ucontext_t, uc_mcontext.fpregs) + sizeof(void *)];
        uintptr_t link, registers;

        if (!read_at(begin, frame, sizeof frame))
                return true;
        erase(frame + (at - begin));
        memcpy(&link, frame + offsetof(ucontext_t, uc_link), sizeof link);
        memcpy(&registers, frame + offsetof(ucontext_t, uc_mcontext.fpregs), sizeof registers);
        return link == 0 && registers - at < UINT16_MAX;
}
#elif defined(__aarch64__)
#define MARK_IS_KNOWN true

/* The head of what has the floating-point registers. */
static uint64_t mark(void)
{
        return UINT64_C(0x46508001) | UINT64_C(528) << 32;
}

static bool is_frame(uintptr_t at)
{
        return true;
}
#else
#define MARK_IS_KNOWN false

static uint64_t mark(void)
{
        return 0;
}

static bool is_frame(uintptr_t at)
{
        return true;
}
#endif

/* glibc has what belongs to another thread right above its stack. */
static uintptr_t top_above(uintptr_t at)
{
        uintptr_t own = (uintptr_t) pthread_self();

        return own > at && own < first_top ? own : first_top;
}

bool stack_is_ordinary(void)
{
        uintptr_t at = (uintptr_t) __builtin_frame_address(0) & ~(uintptr_t) 7, top = top_above(at);
        uint64_t words[128], hidden = mark() ^ HIDDEN;

        if (!MARK_IS_KNOWN || at >= top || top - at > DEPTH_MAX)
                return false;
        for (; at < top; at += sizeof words) {
                size_t n = (top - at) / sizeof *words < 128 ? (top - at) / sizeof *words : 128;

                if (!read_at(at, words, n * sizeof *words))
                        return false;
                for (size_t i = 0; i < n; i++) {
                        __asm__("" : "+r"(hidden)); /* the compiler does not know the mark */
                        if ((words[i] ^ HIDDEN) != hidden)
                                continue;
                        erase(words + i);
                        if (is_frame(at + i * sizeof *words))
                                return false;
                }
        }
        return true;
}
