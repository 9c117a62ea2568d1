/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdint.h>
#include <string.h>

#include "proto/leak-sentence.h"
#include "proto/names.h"
#include "tests/harness/suite.h"

static char text[256];

static struct leak_facts worker(void)
{
        return (struct leak_facts){
                        .comm = "worker",
                        .pid = 4242,
                        .tid = 4250,
                        .context = "web/req-17",
                        .err = CTXD_ERR_CANCELED,
                        .cause = "client went away",
                        .cause_uid = UINT32_MAX,
                        .since_done_usec = 5012345,
                        .syscall = "read(7)",
                        .waits_on = "pipe:[88123]",
                        .stack = "",
                        .blocked_usec = 17345678,
                        .count = 1,
                        .percent = -1,
        };
}

#define DONE "after context web/req-17 was canceled (client went away)"

START_TEST(blocked)
{
        struct leak_facts leak = worker();

        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text, "worker[4242/4250] is still blocked 5.0s " DONE ": read(7) on pipe:[88123], "
                               "asleep for 17.3s");
        leak.stack = "fetch_upstream (worker.c:88)\nmain (worker.c:12)";
        leak.count = 3;
        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text,
                        "worker[4242/4250] is still blocked 5.0s " DONE ": read(7) on pipe:[88123], "
                        "asleep for 17.3s in fetch_upstream (worker.c:88); 3 threads are in this place");
}
END_TEST

/* Of another's process nothing but the fact is known. */
START_TEST(just_the_fact)
{
        struct leak_facts leak = worker();

        leak.syscall = leak.waits_on = "";
        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text, "worker[4242/4250] is still blocked 5.0s " DONE ": asleep for 17.3s");
        leak.blocked_usec = UINT64_MAX;
        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text, "worker[4242/4250] is still blocked 5.0s " DONE);
        leak.syscall = "futex()";
        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text, "worker[4242/4250] is still blocked 5.0s " DONE ": futex()");
}
END_TEST

START_TEST(ignoring)
{
        struct leak_facts leak = worker();

        leak.ignoring = true;
        leak.since_done_usec = UINT64_C(65000000);
        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text, "worker[4242/4250] is still running 1min 5s " DONE);
        leak.percent = 98;
        leak.since_done_usec = UINT64_C(7380) * 1000000;
        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text, "worker[4242/4250] is still running 2h 3min " DONE
                               ": it has taken 98% of a CPU since");
}
END_TEST

START_TEST(causes)
{
        struct leak_facts leak = worker();

        leak.syscall = "";
        leak.blocked_usec = UINT64_MAX;
        leak.cause = CTXD_ERR_CANCELED; /* none was given */
        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text,
                        "worker[4242/4250] is still blocked 5.0s after context web/req-17 was canceled");
        leak.err = leak.cause = CTXD_ERR_DEADLINE;
        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text, "worker[4242/4250] is still blocked 5.0s after context web/req-17 passed its "
                               "deadline");
        leak.cause = "too slow";
        leak_sentence_resolved(&leak, "it has left", text, sizeof text);
        ck_assert_str_eq(text,
                        "worker[4242/4250]: leak resolved after 5.0s, it has left; context web/req-17 passed "
                        "its deadline (too slow)");
}
END_TEST

/* Root writes what another user has said. */
START_TEST(whose_words)
{
        struct leak_facts leak = worker();

        leak.syscall = "";
        leak.blocked_usec = UINT64_MAX;
        leak.cause_uid = 1001;
        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text,
                        "worker[4242/4250] is still blocked 5.0s after context web/req-17 was canceled "
                        "(user 1001: client went away)");
        leak.cause = CTXD_ERR_CANCELED;
        leak_sentence_resolved(&leak, "it has left", text, sizeof text);
        ck_assert_str_eq(text,
                        "worker[4242/4250]: leak resolved after 5.0s, it has left; context web/req-17 was "
                        "canceled");
}
END_TEST

START_TEST(more)
{
        struct leak_facts leak = {.more = true,
                        .context = "web/req-17",
                        .err = CTXD_ERR_CANCELED,
                        .cause = "client went away",
                        .cause_uid = UINT32_MAX,
                        .since_done_usec = 5012345,
                        .blocked_usec = UINT64_MAX,
                        .count = 4224};

        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_str_eq(text, "4224 more threads are still there 5.0s " DONE);
        leak_sentence_resolved(&leak, "they have left", text, sizeof text);
        ck_assert_str_eq(text, "more threads: leak resolved after 5.0s, they have left; context web/req-17 "
                               "was canceled "
                               "(client went away)");
}
END_TEST

/* It is one line, whatever the process is called and whoever has cancelled it. */
START_TEST(law_50_a_hostile_cause)
{
        struct leak_facts leak = worker();

        leak.comm = "\033[2J";
        leak.cause = "a\nforged\xe2\x80\xae";
        leak.waits_on = "/tmp/\r\xff";
        leak_sentence_found(&leak, text, sizeof text);
        ck_assert_ptr_nonnull(strstr(text, "\\x1b[2J[4242/4250] is still blocked"));
        ck_assert_ptr_nonnull(strstr(text, "was canceled (a\\nforged\\u202e)"));
        ck_assert_ptr_nonnull(strstr(text, "on /tmp/\\r\\xff"));
        leak_sentence_resolved(&leak, "it has left", text, sizeof text);
        ck_assert_ptr_null(strpbrk(text, "\n\033"));
}
END_TEST

START_TEST(cut)
{
        struct leak_facts leak = worker();
        char whole[256];

        leak_sentence_found(&leak, whole, sizeof whole);
        for (size_t size = 1; size < sizeof text; size++) {
                memset(text, 'x', sizeof text);
                leak_sentence_found(&leak, text, size);
                ck_assert_uint_eq(strlen(text), size - 1 < strlen(whole) ? size - 1 : strlen(whole));
                ck_assert_int_eq(strncmp(text, whole, strlen(text)), 0);
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {blocked, just_the_fact, ignoring, causes, whose_words, more,
                        law_50_a_hostile_cause, cut, NULL};

        return run_tests("leak-sentence", tests);
}
