/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/ctxclient.h"

/* script FIRST COUNT SCALE_MSEC [v]: runs the random scripts of these seeds on libctxclient and prints a hash
 * of all contexts after each step (v: all of them in words). go/main.go does the same on Go's package; the
 * two draw the same numbers, in the same order, from the same generator, and have to stay alike line by line.
 *
 * Exit 75: the machine was too slow for deadlines of SCALE_MSEC; to be run again with more. */

#define STEPS 40
#define KEYS 4

static const struct ctx_key keys[KEYS] = {CTX_KEY("k0"), CTX_KEY("k1"), CTX_KEY("k2"), CTX_KEY("k3")};

struct callback {
        struct ctx *ctx;
        struct ctx_after *after;
        _Atomic int runs;
        int stopped; /* what stop said, -1: not asked */
};

static struct ctx *all[STEPS + 1];
static unsigned n_all;
static struct callback callbacks[STEPS];
static unsigned n_callbacks;
static uint64_t state, base_usec, scale_msec, hash;
static bool verbose, waited, armed;

static uint64_t draw(uint64_t n)
{
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (state >> 33) % n;
}

static uint64_t now_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
        char text[256];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        if (verbose)
                fputs(text, stdout);
        for (const char *p = text; *p; p++)
                hash = (hash ^ (unsigned char) *p) * UINT64_C(1099511628211);
}

static void add(struct ctx *ctx)
{
        if (!ctx)
                abort();
        all[n_all++] = ctx;
}

static void derive_deadline(struct ctx *parent, int64_t offset_usec, unsigned step, bool with_cause)
{
        char text[32];

        snprintf(text, sizeof(text), "d%u", step);
        add(ctx_with_deadline_cause(parent, base_usec + (uint64_t) offset_usec, 0, with_cause ? text : NULL));
}

static void settle(void)
{
        for (unsigned i = 0; i < n_callbacks; i++)
                for (int n = 0; callbacks[i].stopped < 0 && ctx_err(callbacks[i].ctx) < 0 &&
                                callbacks[i].runs == 0;
                                n++) {
                        if (n > 3000000)
                                abort();
                        usleep(20);
                }
}

static void ran(void *userdata)
{
        atomic_fetch_add(&((struct callback *) userdata)->runs, 1);
}

static void describe(void)
{
        uint64_t now = now_usec();

        for (unsigned i = 0; i < n_all; i++) {
                int err = ctx_err(all[i]);
                const char *cause = "-";
                uint64_t deadline;

                ctx_cause(all[i], NULL, &cause);
                say("%u:%s,%s,", i, err == 0 ? "-" : err == -ECANCELED ? "C" : "D", cause);
                if (!ctx_deadline(all[i], &deadline))
                        say("-");
                else if (deadline <= now)
                        say("past");
                else
                        say("%" PRId64, (int64_t) (deadline - base_usec));
                for (unsigned k = 0; k < KEYS; k++)
                        say(",%" PRIuPTR, (uintptr_t) ctx_value(all[i], &keys[k]));
                say(" ");
        }
        for (unsigned i = 0; i < n_callbacks; i++)
                say("f%u:%d,%d ", i, callbacks[i].runs, callbacks[i].stopped);
}

static void cancel(struct ctx *ctx, unsigned step, bool with_cause)
{
        char text[32];

        snprintf(text, sizeof(text), "c%u", step);
        if (with_cause)
                ctx_cancel_cause(ctx, 0, text);
        else
                ctx_cancel(ctx);
}

static void wait_for_deadlines(void)
{
        uint64_t end = base_usec + scale_msec * 1000 * 3 / 2;

        waited = true;
        if (now_usec() > base_usec + scale_msec * 900)
                exit(75);
        while (now_usec() < end)
                usleep((unsigned) (end - now_usec()) + 1);
}

static void do_step(unsigned step, bool timed)
{
        uint64_t what = draw(100);
        struct ctx *ctx = all[draw(n_all)];
        uint64_t number = draw(1000), choice = draw(4);
        int64_t far_usec = (int64_t) (3600 + number) * 1000000 + step;

        if (what < 20) {
                add(ctx_with_cancel(ctx));
        } else if (what < 28) {
                derive_deadline(ctx, far_usec, step, choice < 2);
        } else if (what < 32) {
                derive_deadline(ctx, -1000000 - (int64_t) step, step, choice < 2);
        } else if (what < 40) {
                /* One alone: of two that pass at about the same time Go may run the parent's timer first. */
                bool soon = timed && !waited && !armed;

                armed |= soon;
                derive_deadline(ctx, soon ? (int64_t) scale_msec * 1000 + (int64_t) number : far_usec, step,
                                choice < 2);
        } else if (what < 52) {
                add(ctx_with_value(ctx, &keys[choice], (void *) (uintptr_t) (step + 1), NULL));
        } else if (what < 58) {
                add(ctx_without_cancel(ctx));
        } else if (what < 60) {
                add(ctx_with_timeout(ctx, 0));
        } else if (what < 78) {
                cancel(ctx, step, choice < 2);
        } else if (what < 88) {
                struct callback *callback = &callbacks[n_callbacks++];

                *callback = (struct callback){.ctx = ctx, .stopped = -1};
                callback->after = ctx_after_func(ctx, ran, callback);
                if (!callback->after)
                        abort();
        } else if (what < 94) {
                if (n_callbacks > 0) {
                        struct callback *callback = &callbacks[number % n_callbacks];
                        int stopped = ctx_after_stop(callback->after);

                        if (callback->stopped < 0)
                                callback->stopped = stopped;
                        else if (stopped != 0)
                                abort();
                }
        } else if (timed && !waited) {
                wait_for_deadlines();
        }
}

static void run(uint64_t seed)
{
        bool timed = seed % 16 == 0;

        state = seed;
        n_all = n_callbacks = 0;
        waited = armed = false;
        base_usec = now_usec();
        add(ctx_background());
        for (unsigned step = 0; step < STEPS; step++) {
                hash = UINT64_C(14695981039346656037);
                do_step(step, timed);
                if (timed && !waited && now_usec() > base_usec + scale_msec * 900)
                        exit(75);
                settle();
                describe();
                printf("%" PRIu64 " %u %016" PRIx64 "\n", seed, step, hash);
        }
        for (unsigned i = 0; i < n_callbacks; i++) {
                ctx_after_stop_wait(callbacks[i].after);
                ctx_after_unref(callbacks[i].after);
        }
        for (unsigned i = 0; i < n_all; i++)
                ctx_unref(all[i]);
}

int main(int argc, char **argv)
{
        uint64_t first, count;

        if (argc < 4)
                return 2;
        first = strtoull(argv[1], NULL, 10);
        count = strtoull(argv[2], NULL, 10);
        scale_msec = strtoull(argv[3], NULL, 10);
        verbose = argc > 4;
        for (uint64_t seed = first; seed < first + count; seed++)
                run(seed);
        return 0;
}
