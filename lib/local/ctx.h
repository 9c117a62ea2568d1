/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "lib/ctxclient.h"
#include "lib/local/fork.h"
#include "lib/local/lock.h"
#include "proto/state-page.h"

/* The inside of a context.
 *
 * Each context that can be done by itself has one 32-bit word: its state, the lock of its list of children, and
 * flags. To lock is one compare-and-swap, to unlock is one plain store, since nobody but the holder of CTX_LOCK
 * may change a word. Nothing long happens under it: a few stores, or a short run of a cancel over children.
 *
 * A context whose state is another's (a value, a readonly view) points to that one with `source`; for all others
 * source is the context itself. So ctx_err() is two loads at any depth, because a cancel writes the state into
 * every descendant (cancel.c), and a deadline is inherited as a number.
 *
 * Who keeps whom alive: `refs` counts the program's references, and those of contexts that stand beside the tree
 * (values, views). A child in the tree is counted in `kids` of the nest that it was linked into, under the lock
 * that it needs anyway. A context is freed when both are zero. A parent holds nothing of its children: a child is
 * unlinked by whoever cancels it, by a cancel from above, or by its last unref, whichever comes first.
 *
 * When two threads meet at one parent's lock, its children are from then on kept in stripes, a nest for each few
 * threads (struct stripes), and nobody writes to the parent's own cache line any more. */

enum ctx_kind {
        CTX_KIND_BACKGROUND,
        CTX_KIND_TODO,
        CTX_KIND_CANCEL, /* also with a deadline: CTX_DEADLINE in the word says so */
        CTX_KIND_VALUE,
        CTX_KIND_WITHOUT_CANCEL,
        CTX_KIND_MERGE,
        CTX_KIND_READONLY,
        CTX_KIND_SHARED,
};

/* The two lowest bits are those of a state page (enum state_word). */
#define CTX_STATE UINT32_C(3)
#define CTX_LOCK UINT32_C(4)
#define CTX_WALKING UINT32_C(8)     /* done, and somebody is still making the descendants done */
#define CTX_UNWALKED UINT32_C(16)   /* done by a reader (deadline, shared ancestor), which does not walk */
#define CTX_WAITERS UINT32_C(32)    /* a futex wait on this word may be under way */
#define CTX_KIDS UINT32_C(64)       /* the own list of children is not empty, or there are stripes */
#define CTX_EXTRA UINT32_C(128)     /* there is a struct extra */
#define CTX_STRIPED UINT32_C(256)   /* new children go to stripes */
#define CTX_ORPHAN UINT32_C(512)    /* the last reference is gone, the nest's last child frees */
#define CTX_DEADLINE UINT32_C(1024) /* fixed at creation: deadline_usec is one */
#define CTX_SHARED UINT32_C(2048)   /* fixed at creation: is or has above it a shared context */
#define CTX_LOCK_MARK UINT32_C(0xff000000) /* with CTX_LOCK only: fork_lock_mark of the holder */

struct child;

struct nest {
        _Atomic uint32_t word;
        _Atomic uint32_t kids; /* written under the lock */
        struct child *first;
};

/* A place in a nest: a context; an arm of a merge, which leads to the merge; or a callback. */
struct child {
        struct child *next, *prev;
        struct ctx *parent; /* whose nest: a source. NULL: linked nowhere. A value or a view: what it was made of */
        _Atomic uint32_t refs;
        _Atomic uint8_t place; /* enum child_place, written under the nest's lock */
        uint8_t stripe;        /* 0: the parent's own nest */
        uint8_t kind;
        uint8_t flags;
};

enum child_place {
        PLACE_NONE,     /* in no list; a parent that is set is held all the same */
        PLACE_LINKED,   /* in the parent's list */
        PLACE_RELEASED, /* neither in the list nor in the count: the parent may be gone */
};

#define CHILD_ARM 1u         /* struct arm */
#define CHILD_STATIC 2u      /* never freed */
#define CHILD_DONE_REF 4u    /* holds a reference on `done` */
#define CHILD_VALUES_REF 8u  /* holds a reference on `values` */
#define CHILD_WIDE 16u       /* struct ctx_wide */
#define CHILD_SHARED_REF 32u /* holds a reference on `shared` (a without_cancel) */
#define CHILD_AFTER 64u      /* struct ctx_after */

/* Why. Either a number that is no pointer, or an object with a count of its own. */
struct cause {
        _Atomic int64_t refs;
        int error;
        char message[];
};

#define CAUSE_DEFAULT ((struct cause *) 0)
#define CAUSE_SHARED ((struct cause *) 2) /* ask the nearest shared ancestor */
#define CAUSE_ERROR(error) ((struct cause *) (((uintptr_t) (unsigned) (error) << 2) | 1)) /* default text */

static inline bool cause_is_object(const struct cause *cause)
{
        return cause && ((uintptr_t) cause & 3) == 0;
}

struct extra;

struct ctx {
        struct nest nest;
        struct ctx *source;
        struct child child;
        struct cause *cause;    /* why; written once, under the lock, before the state */
        uint64_t deadline_usec; /* CLOCK_BOOTTIME, the effective one of the local contexts; CTX_NEVER: none */
        struct ctx *values;     /* the nearest value context from here up */
        struct extra *extra;    /* written once, under the lock */
};

#define CTX_NEVER UINT64_MAX

/* What a context under a shared one, one with a deadline that has a cause, and every value, merge and shared
 * context, has more. */
struct ctx_wide {
        struct ctx ctx;
        struct ctx *shared; /* the nearest shared one from here up, or NULL */
        struct ctx *done; /* whose end is this one's as well, under CTX_SHARED: that one, or several (merge-shared.c) */
        struct cause *deadline_cause; /* what the cause will be when the deadline passes */
};

struct ctx_value {
        struct ctx_wide wide;
        const struct ctx_key *key;
        void *value;
        void (*destroy)(void *value);
        struct ctx *above; /* the next value context */
};

struct arm {
        struct child child;
        struct ctx *merge;
};

struct ctx_merge {
        struct ctx_wide wide;
        struct ctx *stack; /* of a walk, since a merge that is reached by an arm may be in a list as well */
        size_t n_arms;
        struct arm arms[];
};

/* -- A shared context: what lib/shared*.c fills in ---------------------------------------------------------------
 *
 * struct ctx_shared is the start of its own struct. Made with ctx_shared_init() (one reference, kind SHARED, flag
 * CTX_SHARED, wide.shared = itself). The core reads the slot in ctx_err() and friends by itself; ops are called
 * with no lock held, never recursively, from any thread. */

struct ctx_shared;

struct ctx_shared_ops {
        /* The slot's word is no longer `given`, or nobody keeps the page (or there is no slot: word == NULL): 0 if
         * active all the same, else enum state_word. Must not block on the network for a word of the same
         * generation. */
        int (*settle)(struct ctx_shared *shared, uint64_t word);
        /* 1 with error and text (which live as long as shared), for a context that is done; may ask the daemon. */
        int (*cause)(struct ctx_shared *shared, int *ret_error, const char **ret_message);
        /* A borrowed descriptor, readable once it is done. */
        int (*done_fd)(struct ctx_shared *shared);
        /* Before a sleep that the end of this context is to end. True: somebody keeps it, done_fd() is what to poll,
         * and *ret_fd, a descriptor that hangs up once that is over (-1: none). False: nobody does just now, so that
         * there is nothing to poll, and a step was made to find somebody again. In both cases look again after
         * *ret_usec at the latest. May be NULL. */
        bool (*before_sleep)(struct ctx_shared *shared, int *ret_fd, uint64_t *ret_usec);
        /* done_fd() could not be asked for: is that because nobody is there who could answer? With guard. */
        bool (*has_no_daemon)(struct ctx_shared *shared);
        /* Somebody sleeps on its descriptor alone, and the library sees to it that it is told if the daemon is gone.
         * Idempotent. May be NULL. */
        int (*watch_daemon)(struct ctx_shared *shared);
        /* Sees to it that ctx_finish() is called by the library once it is done. Idempotent. */
        int (*watch)(struct ctx_shared *shared);
        /* message may be NULL. As ctx_cancel_cause(); returns after the daemon has; may call ctx_finish(). */
        int (*cancel)(struct ctx_shared *shared, int error, const char *message);
        /* Where there is no slot that says so. May be NULL. */
        uint64_t (*deadline)(struct ctx_shared *shared);
        /* Attaches a process. signal and kill_after_usec as in struct ctx_spawn_options. 0 or a negative errno. */
        int (*attach)(struct ctx_shared *shared, int pidfd, int signal, uint64_t kill_after_usec);
        /* Is it done, by what can be seen without a call to the daemon? */
        bool (*seems_done)(struct ctx_shared *shared);
        /* What a child process is told in $CTXD_CONTEXT, and in $CTXD_ADDRESS (NULL: nothing). */
        const char *(*path)(struct ctx_shared *shared);
        const char *(*address)(struct ctx_shared *shared);
        /* The calling thread works for it now, and for no other shared one; it works for none any more. May be NULL. */
        void (*enter)(struct ctx_shared *shared);
        void (*leave)(struct ctx_shared *shared);
        /* The last reference is gone. Frees the whole. */
        void (*free)(struct ctx_shared *shared);
};

struct ctx_shared {
        struct ctx_wide wide;
        const struct ctx_shared_ops *ops;
        const _Atomic uint64_t
                        *word; /* the mapped slot, never unmapped while this lives; NULL: settle() is asked */
        const _Atomic uint64_t *deadline_usec;
        uint64_t given; /* the word in the active state */
        const _Atomic uint32_t *
                        keeper; /* of the slot's page: STATE_KEEPER_DIED says that nobody writes there; never NULL */
};

void ctx_shared_init(struct ctx_shared *shared, const struct ctx_shared_ops *ops);

/* The library has learned that it is done (state: enum state_word): makes the local descendants done with it, and
 * wakes all that wait. Idempotent, thread-safe. The caller holds a reference. */
void ctx_finish(struct ctx *ctx, uint32_t state, struct cause *cause);

/* enum state_word, by the slot and the clock. */
uint32_t ctx_shared_state(struct ctx_shared *shared);
uint64_t ctx_shared_deadline(struct ctx_shared *shared);

/* merge-shared.c. A stand-in for several shared contexts of which each can be the end; takes references. NULL: no
 * memory. */
struct ctx_shared *ctx_shared_any_of(struct ctx_shared *const *parts, size_t n);

/* -- For the other files of the library -------------------------------------------------------------------------- */

/* The nearest shared context from ctx up, for its done; NULL under a without_cancel. */
static inline struct ctx_shared *ctx_shared_done(const struct ctx *ctx)
{
        const struct ctx *source = ctx->source;

        if (!(atomic_load_explicit(&source->nest.word, memory_order_relaxed) & CTX_SHARED))
                return NULL;
        return (struct ctx_shared *) ((const struct ctx_wide *) source)->done;
}

/* The same for values and for the place in the tree: a without_cancel keeps it. */
static inline struct ctx_shared *ctx_shared_above(const struct ctx *ctx)
{
        if (!(ctx->child.flags & CHILD_WIDE))
                return NULL;
        return (struct ctx_shared *) ((const struct ctx_wide *) ctx)->shared;
}

static inline bool ctx_never_done(const struct ctx *source)
{
        return source->child.kind == CTX_KIND_BACKGROUND || source->child.kind == CTX_KIND_TODO ||
               source->child.kind == CTX_KIND_WITHOUT_CANCEL;
}

static inline uint64_t now_nsec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec * UINT64_C(1000000000) + (uint64_t) ts.tv_nsec;
}

/* For how long the library waits for a daemon: a suspend does not count. */
static inline uint64_t monotonic_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * UINT64_C(1000000) + (uint64_t) ts.tv_nsec / 1000;
}

/* Rounded down: what is past by this clock is past. */
static inline uint64_t now_usec(void)
{
        return now_nsec() / 1000;
}

/* The time that is usec from now, rounded up so that it is never early; CTX_NEVER where that overflows. */
uint64_t deadline_after(uint64_t usec);

/* The earliest of all that can end ctx by time, the shared ancestor's deadline included. */
uint64_t ctx_deadline_usec(struct ctx *ctx);

uint32_t nest_lock_slow(struct nest *nest);

/* If the word is still as the caller has read it, and unlocked. The one place, but for nest_lock_slow(), that locks:
 * a lock without its mark would be taken away after a fork. */
static inline bool nest_trylock(struct nest *nest, uint32_t *word)
{
        return !(*word & CTX_LOCK) &&
               atomic_compare_exchange_strong_explicit(&nest->word, word, *word | CTX_LOCK | fork_lock_mark,
                               memory_order_acquire, memory_order_relaxed);
}

/* rank: LOCK_NEST; or, while the lock of the parent's nest is held, LOCK_NEST_BELOW. */
static inline uint32_t nest_lock_at(struct nest *nest, enum lock_rank rank)
{
        uint32_t word = atomic_load_explicit(&nest->word, memory_order_relaxed);

        lock_order_take(rank);
        if (__builtin_expect(nest_trylock(nest, &word), 1))
                return word;
        return nest_lock_slow(nest);
}

static inline uint32_t nest_lock(struct nest *nest)
{
        return nest_lock_at(nest, LOCK_NEST);
}

static inline void nest_unlock_at(struct nest *nest, uint32_t word, enum lock_rank rank)
{
        lock_order_drop(rank);
        atomic_store_explicit(&nest->word, word, memory_order_release);
}

static inline void nest_unlock(struct nest *nest, uint32_t word)
{
        nest_unlock_at(nest, word, LOCK_NEST);
}

/* enum state_word, settled: deadlines and shared ancestors are looked at. ctx is a source. */
uint32_t ctx_state(struct ctx *source);

/* The stripes and all else that most contexts never need. Made on demand, freed with the context. */
struct stripe {
        _Alignas(64) struct nest nest;
};

struct extra {
        struct stripe *_Atomic stripes;
        _Atomic int fd; /* of ctx_done_fd(), plus 1; 0: none yet. Written under the context's lock */
        _Atomic unsigned fork_generation; /* of fd */
};

#define STRIPES_MAX 16
extern unsigned n_stripes; /* a power of two */

/* The extra of a source, made if it is not there. NULL: no memory. */
struct extra *ctx_extra(struct ctx *source);

/* Adds a child to the tree, under the parent's source. 0, or the state that the parent is in, and then nothing
 * was changed. */
uint32_t child_link(struct child *child, struct ctx *parent);
/* Out of the list, and (release) out of the count. Returns true if the parent is dead with that: ctx_dead_free() it. */
bool child_unlink(struct child *child, bool release);
/* Splits the parent's nest into stripes. Failure to do so is of no consequence. */
void nest_split(struct ctx *parent);

struct cause *cause_new(int error, const char *message);
static inline struct cause *cause_ref(struct cause *cause)
{
        if (cause_is_object(cause))
                atomic_fetch_add_explicit(&cause->refs, 1, memory_order_relaxed);
        return cause;
}
void cause_drop(struct cause *cause, int64_t n);
void cause_read(struct cause *cause, uint32_t state, int *ret_error, const char **ret_message);

static inline int state_to_errno(uint32_t state)
{
        /* ECANCELED and ETIMEDOUT by state; 0 stays 0. */
        static const int16_t errors[4] = {0, -125, -110, -125};

        return errors[state & CTX_STATE];
}

/* Allocates and initialises a context of size bytes, not linked, one reference, its own source, with what it has
 * of the parent. NULL with errno. */
struct ctx *ctx_alloc(size_t size, enum ctx_kind kind, struct ctx *parent);
/* Links a context that is complete under its parent; or makes it done if the parent is. */
void ctx_link(struct ctx *ctx, struct ctx *parent);

/* A reference less. Contexts that die of it are put on *dead, to be buried once no lock is held. */
void ctx_drop(struct ctx *ctx, struct ctx **dead);
void ctx_dead_add(struct ctx *ctx, struct ctx **dead);
void ctx_dead_free(struct ctx *dead);
/* A reference more, if there is one. */
bool ctx_ref_if_alive(struct ctx *ctx);

/* Makes a source done, and all below it. 1: this call did it. Takes the caller's reference on cause. When it
 * returns, all below is done, whoever did it. */
int ctx_end(struct ctx *source, uint32_t state, struct cause *cause);

/* Called by a walk with no lock held, once the state is set; and by the destructor. */
void extra_fire(struct ctx *source, struct extra *extra);
void extra_free(struct extra *extra);

/* done-fd.c. The descriptor of a local source, made if it is not there; a shared ancestor is not part of it. */
int ctx_local_done_fd(struct ctx *source);

/* futex.c. Waiting is on the whole word of a context, with CTX_WAITERS set in it. */
void futex_wake_one(_Atomic uint32_t *word);
void futex_wake_all(_Atomic uint32_t *word);
/* Returns when word is not, or no longer, value; sometimes before. */
void futex_wait(_Atomic uint32_t *word, uint32_t value);
/* At most usec long (CTX_NEVER: for ever). A deadline counts a suspend and the kernel's timeout does not, so that
 * no wait is longer than FUTEX_WAIT_MAX. */
#define FUTEX_WAIT_MAX_USEC UINT64_C(60000000)
void futex_wait_for(_Atomic uint32_t *word, uint32_t value, uint64_t usec);
/* The word with CTX_WAITERS set, or 0 if the source is done by its word. */
uint32_t ctx_announce_wait(struct ctx *source);

/* after.c. A walk has come upon a callback, under the nest's lock. */
struct ctx_after;
enum after_queued {
        AFTER_NOT,        /* stopped, or of before a fork */
        AFTER_FOR_THREAD, /* in the helper's queue: it has to be woken */
        AFTER_DIRECT, /* the library's own: put on *direct, to be run by after_run_list() at the end of the walk */
};
enum after_queued after_queue(struct ctx_after *after, struct ctx_after **direct);
void after_run_list(struct ctx_after *direct);
