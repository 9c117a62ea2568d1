/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tests/interleave/world.h"

/* What a compiler calls with -fsanitize=thread, in place of ThreadSanitizer's own library. A plain access is
 * looked at. An atomic one is a step as well. */

#define PC __builtin_return_address(0)
/* No header of the compiler's declares these. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

void __tsan_init(void) {}
void __tsan_func_entry(void *pc) {}
void __tsan_func_exit(void) {}

#define PLAIN(size)                                \
        void __tsan_read##size(void *a)            \
        {                                          \
                memory_check(a, size);             \
        }                                          \
        void __tsan_write##size(void *a)           \
        {                                          \
                memory_check(a, size);             \
        }                                          \
        void __tsan_unaligned_read##size(void *a)  \
        {                                          \
                memory_check(a, size);             \
        }                                          \
        void __tsan_unaligned_write##size(void *a) \
        {                                          \
                memory_check(a, size);             \
        }                                          \
        void __tsan_read_write##size(void *a)      \
        {                                          \
                memory_check(a, size);             \
        }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

void __tsan_read_range(void *a, size_t size)
{
        memory_check(a, size);
}

void __tsan_write_range(void *a, size_t size)
{
        memory_check(a, size);
}

void *__real_memcpy(void *to, const void *from, size_t size);
void *__real_memset(void *to, int byte, size_t size);

void *__wrap_memcpy(void *to, const void *from, size_t size)
{
        memory_check(to, size);
        memory_check(from, size);
        return __real_memcpy(to, from, size);
}

void *__wrap_memset(void *to, int byte, size_t size)
{
        memory_check(to, size);
        return __real_memset(to, byte, size);
}

#define BEFORE(kind, a, size)          \
        do {                           \
                step(kind, a, PC);     \
                memory_check(a, size); \
        } while (0)

#define UPDATE(bits, name, builtin)                                                  \
        uint##bits##_t __tsan_atomic##bits##_##name(                                 \
                        volatile uint##bits##_t *a, uint##bits##_t value, int order) \
        {                                                                            \
                BEFORE(STEP_UPDATE, (void *) a, sizeof *a);                          \
                return builtin(a, value, __ATOMIC_SEQ_CST);                          \
        }

#define EXCHANGE(bits, name)                                                                          \
        int __tsan_atomic##bits##_compare_exchange_##name(volatile uint##bits##_t *a,                 \
                        uint##bits##_t *expected, uint##bits##_t value, int order, int failure_order) \
        {                                                                                             \
                BEFORE(STEP_UPDATE, (void *) a, sizeof *a);                                           \
                return __atomic_compare_exchange_n(                                                   \
                                a, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);       \
        }

#define ATOMIC(bits)                                                                                         \
        uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *a, int order)               \
        {                                                                                                    \
                uint##bits##_t value;                                                                        \
                                                                                                             \
                BEFORE(STEP_LOAD, (const void *) a, sizeof *a);                                              \
                value = __atomic_load_n(a, __ATOMIC_SEQ_CST);                                                \
                step_loaded((const void *) a, value, PC);                                                    \
                return value;                                                                                \
        }                                                                                                    \
        void __tsan_atomic##bits##_store(volatile uint##bits##_t *a, uint##bits##_t value, int order)        \
        {                                                                                                    \
                BEFORE(STEP_STORE, (void *) a, sizeof *a);                                                   \
                __atomic_store_n(a, value, __ATOMIC_SEQ_CST);                                                \
        }                                                                                                    \
        UPDATE(bits, exchange, __atomic_exchange_n)                                                          \
        UPDATE(bits, fetch_add, __atomic_fetch_add)                                                          \
        UPDATE(bits, fetch_sub, __atomic_fetch_sub)                                                          \
        UPDATE(bits, fetch_and, __atomic_fetch_and)                                                          \
        UPDATE(bits, fetch_or, __atomic_fetch_or)                                                            \
        UPDATE(bits, fetch_xor, __atomic_fetch_xor)                                                          \
        UPDATE(bits, fetch_nand, __atomic_fetch_nand)                                                        \
        EXCHANGE(bits, strong)                                                                               \
        EXCHANGE(bits, weak)                                                                                 \
        uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(volatile uint##bits##_t *a,                \
                        uint##bits##_t expected, uint##bits##_t value, int order, int failure_order)         \
        {                                                                                                    \
                BEFORE(STEP_UPDATE, (void *) a, sizeof *a);                                                  \
                __atomic_compare_exchange_n(a, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
                return expected;                                                                             \
        }
ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

void __tsan_atomic_thread_fence(int order) {}
void __tsan_atomic_signal_fence(int order) {}
