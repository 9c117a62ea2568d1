/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Thousands of blocked processes of one user. Another user's leak is reported all the same (law 37), the
 * probe stays, and the journal is not flooded. */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/clock.h"
#include "proto/message-ids.h"
#include "tests/leaks/harness.h"
#include "tests/leaks/journal.h"

#define GRACE_USEC UINT64_C(300000)
#define ALICE 1001
#define BOB 1002
/* More than what fits into the socket and into any queue of some size. They share their memory. */
#define CROWD 2000
#define STACK_SIZE 16384
#define ENTRIES_MAX 60 /* of the journal, a minute for each user */

static int silent[2], go[2], made[2];

/* It ends with its parent. */
static void become_mortal(uid_t uid)
{
        become_user(uid);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                abort();
}

static void read_silence(void)
{
        char byte;

        for (;;)
                (void) !syscall(SYS_read, silent[0], &byte, 1);
}

static int one_of_crowd(void *arg)
{
        syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
        read_silence();
        return 0;
}

/* Each of them is a process of its own, so each is a leak of its own. */
static void crowd(void *arg)
{
        char *stacks = mmap(NULL, CROWD * STACK_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        int n = 0;
        char byte;

        become_mortal(ALICE);
        if (stacks == MAP_FAILED || read(go[0], &byte, 1) != 1)
                abort();
        while (n < CROWD && clone(one_of_crowd, stacks + (n + 1) * STACK_SIZE,
                                            CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | SIGCHLD,
                                            NULL) > 0)
                n++;
        if (write(made[1], &n, sizeof n) != sizeof n)
                abort();
        read_silence();
}

static void one_of_bob(void *arg)
{
        become_mortal(BOB);
        read_silence();
}

static struct harness h;
static pid_t alice, bob;
static uint32_t of_alice, of_bob;
static int n_crowd; /* how many the machine lets us have */

static void start(void)
{
        ck_assert(pipe(silent) == 0 && pipe(go) == 0 && pipe(made) == 0);
        harness_start(&h, PROBE_BACKEND_BPF, NULL, NULL);
        of_alice = harness_context(&h);
        of_bob = harness_context(&h);
        alice = spawn(crowd, NULL);
        bob = spawn(one_of_bob, NULL);
        ck_assert(harness_attach(&h, alice, of_alice) && harness_attach(&h, bob, of_bob));
        ck_assert_int_eq(write(go[1], "", 1), 1);
        ck_assert_int_eq(read(made[0], &n_crowd, sizeof n_crowd), sizeof n_crowd);
        if (n_crowd < CROWD)
                printf("# a crowd of %d processes: there may be no more here\n", n_crowd);
        wait_for_live(&h, of_alice, n_crowd + 1);
        wait_for_state(bob, bob, "S");
}

static int journal;
static _Atomic size_t n_entries; /* about alice's context */

/* The journal always reads: a probe that writes to it would wait else. */
static void *read_journal(void *arg)
{
        static char entry[65536];
        ssize_t n;

        while ((n = recv(journal, entry, sizeof entry - 1, 0)) > 0)
                n_entries += memmem(entry, (size_t) n, "\nCTXD_CONTEXT=test/context-1\n", 29) != NULL;
        return NULL;
}

/* What ctxd is told of one context: the leaks that are open, and whether it is the same as what is there. */
static size_t open_leaks(uint32_t slot, uint64_t *ret_threads)
{
        size_t n = 0;

        *ret_threads = 0;
        for (size_t i = 0; i < h.n_records; i++) {
                const struct probe_leak *leak = &h.records[i].leak;
                bool is_last = h.records[i].type == PROBE_LEAK && leak->context_id == CONTEXT_OF(slot);

                for (size_t k = i + 1; k < h.n_records && is_last; k++)
                        is_last = h.records[k].type == PROBE_LEAK
                                                  ? h.records[k].leak.leak_id != leak->leak_id
                                                  : h.records[k].resolved.leak_id != leak->leak_id;
                if (!is_last)
                        continue;
                n++;
                *ret_threads += leak->count;
        }
        return n;
}

static bool all_are_counted(struct harness *x, const void *arg)
{
        uint64_t threads;

        (void) open_leaks(of_alice, &threads);
        return threads == (uint64_t) n_crowd + 1;
}

static bool all_are_resolved(struct harness *x, const void *arg)
{
        uint64_t threads;

        return open_leaks(of_alice, &threads) == 0;
}

START_TEST(law37_another_users_leak_is_reported)
{
        const struct probe_leak *leak;
        pthread_t reader;
        uint64_t threads, begin = now_boottime_usec();
        unsigned minutes;
        size_t n;

        journal = journal_listen();
        ck_assert_int_eq(pthread_create(&reader, NULL, read_journal, NULL), 0);
        start();
        harness_cancel(&h, of_alice, GRACE_USEC);
        harness_cancel(&h, of_bob, GRACE_USEC);
        /* For a while nobody reads what the probe says. */
        sleep_usec(3000000);
        leak = harness_leak(&h, bob, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        ck_assert_str_ne(leak->syscall_text, "");

        /* Of the crowd so many are told as one user may have, and of the others how many they are. */
        ck_assert(harness_wait(&h, PATIENCE_USEC, all_are_counted, NULL));
        n = open_leaks(of_alice, &threads);
        ck_assert_msg(n <= 1024, "%zu leaks of one user", n);
        minutes = (unsigned) ((now_boottime_usec() - begin) / 60000000) + 1;
        ck_assert_msg(n_entries > 0 && n_entries <= ENTRIES_MAX * (minutes + 1), "%zu entries in %u minutes",
                        n_entries, minutes);

        reap(alice);
        ck_assert(harness_wait(&h, PATIENCE_USEC, all_are_resolved, NULL));
        reap(bob);
        ck_assert_ptr_nonnull(harness_resolved(&h, leak->leak_id, PATIENCE_USEC));
        harness_stop(&h);
}
END_TEST

int main(int argc, char **argv)
{
        const TTest *const tests[] = {
                        law37_another_users_leak_is_reported,
                        NULL,
        };
        Suite *suite = suite_create("crowd");

        if (!journal_can_listen()) {
                printf("1..0 # SKIP no mount namespace, in which it could be the journal\n");
                return EXIT_SUCCESS;
        }
        add_case(suite, "crowd", tests);
        return harness_main(argc, argv, true, suite);
}
