/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mman.h>

#include "lib/local/fork.h"
#include "lib/local/handler.h"
#include "lib/local/raw.h"

/* The child of a fork has only the thread that has forked. A list that another thread was changing at that
 * moment, or a tree that it was making done, would stay as it was for ever. So a fork waits until no other
 * thread is in the middle of that, and those that want to begin wait for the fork.
 *
 * A thread that goes inside writes that into a place of its own, and looks at the gate: a plain store and a
 * plain load, since every list is changed under a lock, and nothing is done more often. A fork closes the
 * gate, and looks at the places of all threads. Between these two it has the kernel put a barrier into every
 * thread (membarrier).
 *
 * A thread inside that goes in once more is let through, since the fork waits for it. It waits for no thread
 * that the gate keeps out: such a thread holds no lock that is taken inside. A fork in a signal handler that
 * has itself interrupted the library waits for nobody: others may wait for the lock that is held below it. */

__thread struct inside *inside_mine __attribute__((tls_model("initial-exec")));
_Atomic uint32_t inside_gate;

/* The places of the threads. They are never freed. The first ones are there from the start.
 *
 * Nothing says that a thread has ended: for the destructor of a key, pthread_setspecific() may call calloc(),
 * and the thread may be in a signal handler that has interrupted malloc(). So who finds no place looks whose
 * thread is gone. */
struct places {
        _Atomic uint64_t used; /* a bit for each */
        struct places *_Atomic next;
        struct inside places[63];
};

static struct places first;
static bool has_barrier, is_closed;
static _Atomic pid_t forker; /* the thread that has closed the gate */
/* How many are in use, and with how many it is worth while to look. */
static _Atomic unsigned n_used, look_at = 63;

#define ALL_USED (~UINT64_C(0) >> 1)

static struct inside *take(struct places *p)
{
        uint64_t used = atomic_load(&p->used);

        while (used != ALL_USED) {
                int i = __builtin_ctzll(~used);

                if (atomic_compare_exchange_weak(&p->used, &used, used | UINT64_C(1) << i)) {
                        atomic_fetch_add(&n_used, 1);
                        return &p->places[i];
                }
        }
        return NULL;
}

static uint64_t this_thread(void)
{
        return (uint64_t) getpid() << 32 | (uint32_t) syscall(SYS_gettid);
}

/* What it has put off is left to the next one. */
static void give_back(struct places *p, struct inside *place)
{
        uint64_t bit = UINT64_C(1) << (place - p->places);

        place->locked = false;
        place->walks = place->depth = 0;
        if (atomic_fetch_and(&p->used, ~bit) & bit)
                atomic_fetch_sub(&n_used, 1);
}

/* Of a process that a fork has left without its handlers, nothing is known. */
static bool has_ended(uint64_t owner)
{
        pid_t pid = (pid_t) (owner >> 32);

        return owner != 0 && pid == getpid() && syscall(SYS_tgkill, pid, (pid_t) owner, 0) < 0 &&
               errno == ESRCH;
}

static void take_from_the_dead(void)
{
        int saved = errno;

        for (struct places *p = &first; p; p = atomic_load(&p->next))
                for (uint64_t used = atomic_load(&p->used); used; used &= used - 1) {
                        struct inside *place = &p->places[__builtin_ctzll(used)];
                        uint64_t owner = atomic_load(&place->owner);

                        if (has_ended(owner) && atomic_compare_exchange_strong(&place->owner, &owner, 0))
                                give_back(p, place);
                }
        atomic_store(&look_at, 2 * atomic_load(&n_used) + 63);
        errno = saved;
}

/* The memory is the kernel's: the thread may be in a signal handler. Without any it cannot go on. */
static struct places *places_new(void)
{
        void *p;

        while ((p = mmap(NULL, sizeof(struct places), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                                0)) == MAP_FAILED)
                raw_sleep(1000000);
        return p;
}

static struct places *places_after(struct places *p)
{
        struct places *next = atomic_load(&p->next), *added;

        if (next)
                return next;
        added = places_new();
        if (atomic_compare_exchange_strong(&p->next, &next, added))
                return added;
        munmap(added, sizeof *added);
        return next;
}

struct inside *inside_new(void)
{
        struct inside *me, *none = NULL;
        uint64_t owner = this_thread();
        struct places *p;

        fork_first_use();
        if (atomic_load(&n_used) >= atomic_load(&look_at))
                take_from_the_dead();
        for (p = &first; !(me = take(p)); p = places_after(p))
                ;
        atomic_store(&me->owner, owner);
        /* A signal handler may have been faster. If it has forked, the place was given back here already. */
        if (!__atomic_compare_exchange_n(
                            &inside_mine, &none, me, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
                if (atomic_compare_exchange_strong(&me->owner, &owner, 0))
                        give_back(p, me);
                return inside_mine;
        }
        return me;
}

/* How long the thread that forks has been on a processor so far. Its clock has the number that
 * pthread_getcpuclockid(3) would say. 0: that is not known. */
static uint64_t forker_usec(void)
{
        clockid_t clock = (clockid_t) (~(unsigned) atomic_load(&forker) << 3 | 6);
        struct timespec ts;

        return clock_gettime(clock, &ts) < 0 ? 0
                                             : (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

/* A fork that has closed the gate may take as long as it likes: it copies what the process has of memory.
 * Whoever went inside meanwhile, the child would find there. But this thread may be in a signal handler that
 * has interrupted malloc(), or may hold the lock of another library, and the fork waits for that: then it
 * sleeps, and cannot pass before this thread has gone on. So after some time for which the other thread has
 * done nothing at all, this one goes inside. */
#define LOOK_USEC UINT64_C(10000)
#define STILL_LOOKS 200

static void wait_at_gate(struct inside *me, bool locked, unsigned walks)
{
        uint64_t usec = 0, before;

        for (unsigned n = 0; n < STILL_LOOKS && atomic_load(&inside_gate); n++) {
                atomic_store(&me->locked, false);
                atomic_store(&me->walks, 0);
                futex_wait_for(&inside_gate, 1, LOOK_USEC);
                atomic_store(&me->locked, locked);
                atomic_store(&me->walks, walks);
                before = usec;
                usec = forker_usec();
                if (usec != before)
                        n = 0;
        }
}

void inside_wait(struct inside *me)
{
        bool locked = atomic_load_explicit(&me->locked, memory_order_relaxed);
        unsigned walks = atomic_load_explicit(&me->walks, memory_order_relaxed);

        /* Unless it has been inside before. */
        if (locked + walks == 1)
                wait_at_gate(me, locked, walks);
}

static bool is_busy(const struct inside *place)
{
        return atomic_load(&place->locked) || atomic_load(&place->walks) > 0;
}

static void wait_for(const struct inside *place)
{
        for (unsigned n = 0; is_busy(place); n++)
                if (n < 100)
                        sched_yield();
                else
                        raw_sleep(50000);
}

void inside_close(void)
{
        struct inside *me = inside_me();

        is_closed = !is_busy(me);
        /* For the handlers, and to pass the gate. */
        inside_add(&me->walks, 1);
        if (!is_closed)
                return;
        atomic_store(&forker, (pid_t) syscall(SYS_gettid));
        atomic_store(&inside_gate, 1);
        if (has_barrier)
                syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
        for (struct places *p = &first; p; p = atomic_load(&p->next))
                for (uint64_t used = atomic_load(&p->used); used; used &= used - 1) {
                        const struct inside *place = &p->places[__builtin_ctzll(used)];

                        if (place != me)
                                wait_for(place);
                }
}

void inside_open(void)
{
        if (is_closed) {
                atomic_store(&inside_gate, 0);
                futex_wake_all(&inside_gate);
        }
}

void inside_forget_others(void)
{
        for (struct places *p = &first; p; p = atomic_load(&p->next))
                for (uint64_t used = atomic_load(&p->used); used; used &= used - 1) {
                        struct inside *place = &p->places[__builtin_ctzll(used)];

                        atomic_store(&place->owner, place == inside_mine ? this_thread() : 0);
                        if (place == inside_mine)
                                continue;
                        /* The child does what the handlers of these threads have put off. */
                        handler_adopt(atomic_exchange(&place->postponed, NULL));
                        give_back(p, place);
                }
}

__attribute__((constructor)) static void start(void)
{
        has_barrier = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}
