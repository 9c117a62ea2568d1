/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Many connections. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/bus/raw.h"
#include "tests/hostile/attack.h"

#define FEW 300
#define MANY 4096
#define SMALL 16384
#define READERS 60
#define ROWS 9000
#define LABEL 127

static void flood_by(unsigned lines, int bytes)
{
        struct flood f;

        flood_open(&f, lines, bytes);
        flood_say(&f, false, "Err", "s", "~");
        flood_for_ever(&f);
}

static void few(void)
{
        flood_by(FEW, 0);
}

static void many(void)
{
        flood_by(MANY, SMALL); /* all together some 100 MB */
}

/* Paths of some 1,000 bytes, and a cause as long. */
static void unread(void)
{
        static char parent[1024] = "~", cause[1024];
        static char label[LABEL + 1];
        sd_bus *b = connect_bus();
        struct flood f;

        memset(label, 'x', LABEL);
        memset(cause, 'y', sizeof cause - 1);
        for (int i = 0; i < 6; i++) {
                strcat(parent, "/");
                strcat(parent, label);
        }
        grow(parent, UINT64_MAX, label + 7, ROWS);
        (void) cancel(b, parent, cause);
        flood_open(&f, READERS, 0);
        flood_say(&f, true, "List", "ssu", "/", "", 0);
        attack_ready();
        for (;;) {
                flood_once(&f);
                nap(300000);
                flood_close(&f);
                flood_open(&f, READERS, 0);
                flood_say(&f, true, "List", "ssu", "/", "", 0);
        }
}

static _Noreturn void hang_up_with(int bytes)
{
        struct flood f;

        for (bool began = false;; began = true) {
                flood_open(&f, FEW, bytes);
                flood_say(&f, false, "Err", "s", "~");
                flood_once(&f);
                flood_close(&f);
                if (!began)
                        attack_ready();
        }
}

static void hang_up(void)
{
        hang_up_with(0);
}

/* So that there are more of them. */
static void hang_up_soon(void)
{
        hang_up_with(SMALL);
}

/* They connect and say nothing. */
static void silent(void)
{
        static int fds[MANY];

        for (unsigned n = 0;; n++) {
                if (fds[n % MANY] > 0)
                        close(fds[n % MANY]);
                fds[n % MANY] = connect_socket();
                attack_did(1);
                if (n == MANY / 4)
                        attack_ready();
        }
}

START_TEST(a_few_hundred_connections)
{
        withstand(&(struct attack){"calls: 300 connections, no replies", few});
}
END_TEST

START_TEST(thousands_of_connections)
{
        withstand(&(struct attack){"calls: 4096 connections, no replies", many});
}
END_TEST

START_TEST(replies_that_nobody_reads)
{
        withstand(&(struct attack){"calls: 60 large replies that are not read", unread});
}
END_TEST

START_TEST(hang_ups_with_full_sockets)
{
        withstand(&(struct attack){"calls: hang-ups with full sockets", hang_up});
}
END_TEST

START_TEST(hang_ups_of_many)
{
        withstand(&(struct attack){"calls: hang-ups of many connections", hang_up_soon});
}
END_TEST

START_TEST(silent_connections)
{
        withstand(&(struct attack){"calls: silent connections", silent});
}
END_TEST

START_TEST(silent_connections_before_others)
{
        withstand(&(struct attack){"calls: silent connections; Bob reconnects", silent, .reconnects = true,
                        /* The kernel has one queue for all who connect. */
                        .max = 50});
}
END_TEST

static void start_keeping(void)
{
        world_prepare("RetainSec=10min\n", NULL);
        daemon_again(&world.daemon);
}

void add_calls(Suite *s)
{
        ATTACK(s, "calls", start_attacked, a_few_hundred_connections);
        ATTACK(s, "calls", start_attacked, thousands_of_connections);
        ATTACK(s, "calls", start_keeping, replies_that_nobody_reads);
        ATTACK(s, "calls", start_attacked, hang_ups_with_full_sockets);
        ATTACK(s, "calls", start_attacked, hang_ups_of_many);
        ATTACK(s, "calls", start_attacked, silent_connections);
        ATTACK(s, "calls", start_attacked, silent_connections_before_others);
}
