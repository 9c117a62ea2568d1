/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "util/proc.h"

/* What the two sides of proc-reader.h share. */

#define READER_PLACES 40 /* for the one that reads, and those that hang */

enum reader_file {
        READER_NONE = 0,
        READER_STAT = 1 << 0,
        READER_STATUS = 1 << 1,
        READER_SHORT = 1 << 2, /* no file: what answers have slept that came in time */
};

/* Where a reader is asked, and answers. Each has one of its own until it has ended: what wakes up late must
 * not write into another's answer. Requests and answers are numbers that are waited for: two processes wake
 * each other so in half the time that a socket takes. */
struct reader_place {
        uint32_t request, answer; /* the same: it has nothing to do */
        uint32_t leave;           /* after this answer */
        uint32_t reads;           /* the file that it reads now */
        uint32_t files;           /* that are asked for */
        int32_t pid, result;
        uint32_t slept_usec; /* so long this answer took, if it has slept for it; else 0 */
        struct proc_stat stat;
        struct proc_status status;
        char text[4096]; /* of status */
};

struct reader {
        struct reader_place *place; /* NULL: there is none */
        pid_t pid;
        int pidfd; /* readable: it has ended */
};

/* Gives readers: each takes the number of a place from the socket, and answers with a pid and a pidfd. */
_Noreturn void reader_chief(pid_t parent, int socket, struct reader_place *places);
/* For tests: what runs in a reader before it reads a file. Set before proc_reader_start(). */
extern void (*reader_before)(pid_t pid, enum reader_file file);

static inline uint32_t reader_load(const uint32_t *word)
{
        return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void reader_store(uint32_t *word, uint32_t value)
{
        __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* Until it is not that value any more, or something else has happened; -1: with errno. */
static inline long reader_sleep(uint32_t *word, uint32_t value, const struct timespec *timeout)
{
        return syscall(SYS_futex, word, FUTEX_WAIT, value, timeout, NULL, 0);
}

static inline void reader_wake(uint32_t *word)
{
        (void) syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* -- Those that hang, and who is to blame (proc-reader-blame.c). */

/* A process that is to be read. */
struct reader_target {
        pid_t pid;
        int pidfd; /* < 0: none */
        uint32_t party;
        bool is_certain; /* the party: that is not just what /proc shows */
};

/* -ESRCH: it has gone. Nobody waits for that. */
int blame_find(pid_t pid, struct reader_target *ret);
void blame_forget(struct reader_target *t);
/* Whether it is not to be read now. */
bool blame_refuses(const struct reader_target *t, unsigned files);
/* A reader hangs since so long, and is not used any more. These take the reader, and the pidfd. */
void blame_hang(struct reader *reader, struct reader_target *t, uint64_t usec);
/* It has answered, but late. */
void blame_slow(const struct reader_target *t, const struct reader_place *place, enum reader_file file,
                uint64_t usec);
/* It has answered in time, and has slept. */
void blame_short(const struct reader_target *t, const struct reader_place *place);
/* A reader is of no use, and is ended. It keeps its place until it has. */
void blame_lost(struct reader *reader, struct reader_target *t);
/* Whether a reader that hangs, or hung until now, has this place. */
bool blame_has(const struct reader_place *place);
void blame_end(void); /* all readers have ended, or never will */
