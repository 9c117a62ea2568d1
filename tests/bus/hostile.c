/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One client does its worst while another one creates, takes handles and cancels. The tests do not measure
 * how late that one is served: on an unknown machine no limit would be right. */

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "harness.h"
#include "raw.h"

#define MANAGER CTXD_OBJECT, CTXD_MANAGER_INTERFACE

static void ask(sd_bus *b, const char *member, const char *path, bool answer)
{
        _cleanup_message_ sd_bus_message *m = NULL;

        ck_assert_int_ge(sd_bus_message_new_method_call(b, &m, CTXD_BUS_NAME, MANAGER, member), 0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", path), 0);
        if (strcmp(member, "Create") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "a{sv}", 0), 0);
        if (strcmp(member, "List") == 0)
                ck_assert_int_ge(sd_bus_message_append(m, "su", "", 0), 0);
        ck_assert_int_ge(sd_bus_message_set_expect_reply(m, answer), 0);
        ck_assert_int_ge(sd_bus_send(b, m, NULL), 0);
}

/* It has asked for many answers and signals, and does not read any of them. */
static void stop_in_the_middle(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Subscribe", "s", "/");
        for (int i = 0; i < 300; i++)
                ask(b, i % 3 == 0 ? "List" : i % 3 == 1 ? "Done" : "Values", "held", true);
        raise(SIGSTOP);
}

START_TEST(a_stopped_client)
{
        pid_t pid;
        int status;

        create(bus, "held");
        pid = spawn(stop_in_the_middle, NULL);
        ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
        ck_assert(WIFSTOPPED(status));
        work(bus, 300);
        ck_assert(cancel(bus, "held", ""));
        end_process(pid);
        work(bus, 10);
}
END_TEST

static void ask_and_ask(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        /* The daemon keeps only a limited number of calls of a sender that it does not know yet. */
        EXPECT_ACTIVE(b, "unanswered");
        for (int i = 0; i < 2000; i++)
                ask(b, "Create", "unanswered/", false);
        for (int i = 0; i < 2000; i++)
                ask(b, i % 2 ? "Err" : "Values", i % 3 ? "unanswered" : "nobody", i % 5 == 0);
        EXPECT_ACTIVE(b, "unanswered");
}

START_TEST(thousands_of_calls_that_nobody_waits_for)
{
        pid_t pid;

        create(bus, "unanswered");
        pid = spawn(ask_and_ask, NULL);
        work(bus, 300);
        wait_for(pid);
        ck_assert_uint_eq(count_listed(bus, "unanswered"), 2001); /* they were done all the same */
        ck_assert(cancel(bus, "unanswered", ""));
}
END_TEST

static void ask_and_go(void *userdata)
{
        for (int i = 0; i < 100; i++) {
                sd_bus *b = connect_bus();
                int self = open_pidfd(getpid());

                ask(b, "Subscribe", "/", i % 2);
                ask(b, "Create", "left/", i % 2);
                ask(b, i % 2 ? "Lifeline" : "Threads", "left", true);
                ask(b, "Done", "left", true);
                sd_bus_call_method_async(b, NULL, CTXD_BUS_NAME, MANAGER, "Attach", NULL, NULL, "sha{sv}",
                                "left", self, 0);
                sd_bus_call_method_async(b, NULL, CTXD_BUS_NAME, MANAGER, "Create", NULL, NULL, "sa{sv}",
                                "left/", 1, "bind", "s", "caller");
                sd_bus_flush(b);
                sd_bus_close_unref(b);
                close(self);
        }
}

START_TEST(clients_that_are_gone_before_the_answer)
{
        pid_t pids[3];

        create(bus, "left");
        for (size_t i = 0; i < ELEMENTSOF(pids); i++)
                pids[i] = spawn(ask_and_go, NULL);
        work(bus, 200);
        for (size_t i = 0; i < ELEMENTSOF(pids); i++)
                wait_for(pids[i]);
        work(bus, 10);
}
END_TEST

static void shout(void *userdata)
{
        static char text[4 << 20];
        _cleanup_bus_ sd_bus *b = connect_bus();

        memset(text, 'x', sizeof text - 1);
        for (int i = 0; i < 8; i++) {
                FAILS(b, CTXD_ERROR_INVALID_NAME, "Err", "s", text);
                FAILS(b, SD_BUS_ERROR_INVALID_ARGS, "Cancel", "ss", "loud", text);
                FAILS(b, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "loud/x", 1, "description", "s",
                                text);
        }
}

START_TEST(messages_of_many_megabytes)
{
        pid_t pid;

        create(bus, "loud");
        pid = spawn(shout, NULL);
        work(bus, 200);
        wait_for(pid);
        EXPECT_ACTIVE(bus, "loud");
}
END_TEST

/* A thread page with wrong entries that change all the time, from a process that kicks as often as it can. */
struct page_entry {
        uint32_t tid, reserved;
        uint64_t context_id, since_usec, reserved2;
};

#define NAMED 64

static void lie(void *userdata)
{
        const int *ready = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        struct page_entry *page = NULL;
        uint64_t ids[NAMED], one = 1;
        int kick = -1;

        for (int i = 0; i < NAMED; i++) {
                _cleanup_message_ sd_bus_message *m = NULL;
                char path[32];
                int fd;

                snprintf(path, sizeof path, "lies/%d", i);
                ids[i] = create(b, path);
                m = CALL(b, "Threads", "s", path);
                READ(m, "hh", &fd, &kick);
                kick = dup(kick);
                if (page)
                        continue;
                page = mmap(NULL, 32768, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                ck_assert_ptr_ne(page, MAP_FAILED);
        }
        for (unsigned n = 0;; n++) {
                struct page_entry *e = &page[2 + n % 1022];

                e->tid = n % 3 ? (uint32_t) getpid() : n * 2654435761U;
                e->since_usec = n;
                e->context_id = n % 7 ? ids[n % NAMED] : n;
                if (n % 512 == 0 && write(kick, &one, sizeof one) < 0 && errno != EAGAIN)
                        return;
                if (n == 5000)
                        ck_assert_int_eq(write(ready[1], "", 1), 1);
        }
}

START_TEST(a_thread_page_of_garbage)
{
        int ready[2];
        pid_t pid;
        char byte;

        ck_assert_int_eq(pipe(ready), 0);
        create(bus, "lies");
        pid = spawn(lie, ready);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        work(bus, 100);
        /* From now on the daemon looks at the page at each kick. */
        ck_assert(cancel(bus, "lies", ""));
        work(bus, 200);
        ck_assert_int_eq(code_of(bus, "lies/7"), ECANCELED);
        end_process(pid);
        close(ready[0]);
        close(ready[1]);
}
END_TEST

/* A message with more descriptors than the call, or any call, could take. The daemon closes them. */
START_TEST(descriptors_that_nobody_asked_for)
{
        unsigned before = settled_fds();
        int fds[100], fd;
        struct raw m;

        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                fds[i] = STDIN_FILENO;
        raw_begin(&m, 1, MANAGER, "Err", "s");
        raw_text(&m, "/");
        raw_end(&m);
        for (size_t n = 1; n < ELEMENTSOF(fds); n += 9) {
                fd = raw_connect();
                ck_assert(raw_send(fd, m.bytes, m.n, fds, n));
                shutdown(fd, SHUT_WR);
                ck_assert(raw_is_closed(fd));
                close(fd);
        }
        expect_fds(before);
        work(bus, 10);
}
END_TEST

/* A message begins, brings more and more descriptors, and never ends. */
START_TEST(half_a_message_with_descriptors)
{
        unsigned before = settled_fds();
        int crowd[50], fds[10];
        struct raw m;

        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                fds[i] = STDIN_FILENO;
        raw_begin(&m, 1, MANAGER, "Cancel", "ss");
        for (int i = 0; i < 100; i++)
                raw_text(&m, "x");
        raw_end(&m);
        for (size_t i = 0; i < ELEMENTSOF(crowd); i++) {
                crowd[i] = raw_connect();
                for (size_t at = 0; at < 300; at++)
                        if (!raw_send(crowd[i], m.bytes + at, 1, fds, ELEMENTSOF(fds)))
                                break;
        }
        for (size_t i = 0; i < ELEMENTSOF(crowd); i++) {
                ck_assert(raw_is_closed(crowd[i]));
                close(crowd[i]);
        }
        expect_fds(before);
        work(bus, 10);
}
END_TEST

/* Whether the daemon has read and counted all that was sent, and kept the connection. The test must wait
 * for this: otherwise the daemon may close a connection that was counted as kept when it reads the rest. */
static bool is_kept(int fd)
{
        struct pollfd p = {.fd = fd};
        int waiting;

        ck_assert_happens(ioctl(fd, SIOCOUTQ, &waiting) == 0 && waiting == 0);
        work(bus, 5);
        ck_assert_int_ge(poll(&p, 1, 0), 0);
        return !(p.revents & (POLLHUP | POLLERR));
}

/* Each client sends half a message. Together this is more than one uid may leave unfinished. */
START_TEST(half_a_message_of_many_megabytes)
{
        static uint8_t bytes[1 << 20];
        unsigned n = 0;
        int crowd[12];
        struct raw m;

        raw_begin(&m, 1, MANAGER, "Err", "s");
        raw_end(&m);
        /* The header announces 6 MiB. For each part sd-bus asks realloc() for as many, and that of the
         * sanitizers copies all. */
        m.bytes[6] = 0x60;
        for (size_t i = 0; i < ELEMENTSOF(crowd); i++) {
                crowd[i] = raw_connect();
                bool taken = raw_send(crowd[i], m.bytes, m.n, NULL, 0);

                for (int k = 0; k < 5 && taken; k++)
                        for (size_t at = 0; at < sizeof bytes && taken;) {
                                ssize_t sent = send(crowd[i], bytes + at, sizeof bytes - at, MSG_NOSIGNAL);

                                taken = sent > 0;
                                at += taken ? (size_t) sent : 0;
                        }
                n += taken && is_kept(crowd[i]);
                work(bus, 5);
        }
        ck_assert_uint_ge(n, 5);
        ck_assert_uint_lt(n, 8);
        for (size_t i = 0; i < ELEMENTSOF(crowd); i++)
                close(crowd[i]);
        work(bus, 5);
}
END_TEST

/* A socket that takes minutes to close. Whoever closes it last would have to wait. */
START_TEST(a_descriptor_that_lingers)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        const struct linger minutes = {.l_onoff = 1, .l_linger = 300};
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        static char bytes[1 << 16];
        socklen_t length = sizeof address;
        struct raw m;

        ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(listen(listener, 8), 0);
        ck_assert_int_eq(getsockname(listener, (struct sockaddr *) &address, &length), 0);
        raw_begin(&m, 1, MANAGER, "Err", "s");
        raw_text(&m, "/");
        raw_end(&m);
        for (int i = 0; i < 3; i++) {
                int s = socket(AF_INET, SOCK_STREAM, 0), fd = raw_connect();

                ck_assert_int_eq(connect(s, (struct sockaddr *) &address, sizeof address), 0);
                while (send(s, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
                        ;
                ck_assert_int_eq(setsockopt(s, SOL_SOCKET, SO_LINGER, &minutes, sizeof minutes), 0);
                ck_assert(raw_send(fd, m.bytes, m.n, &s, 1));
                /* The daemon has it now. */
                close(s);
                work(bus, 5);
                close(fd);
                work(bus, 5);
        }
        close(listener);
}
END_TEST

START_TEST(authentication_that_does_not_end)
{
        static const char *const begun[] = {"", "A", "\0AUTH EXTERNAL", "\0AUTH EXTERNAL\r\n", "\0NEGOTIATE"};
        static const size_t sizes[] = {0, 1, 14, 16, 10};
        int fds[ELEMENTSOF(begun)];

        for (size_t i = 0; i < ELEMENTSOF(begun); i++) {
                fds[i] = connect_socket();
                ck_assert_int_ge(fds[i], 0);
                raw_write(fds[i], begun[i], sizes[i]);
        }
        work(bus, 20);
        for (size_t i = 0; i < ELEMENTSOF(begun); i++) {
                ck_assert(raw_is_closed(fds[i]));
                close(fds[i]);
        }
        /* A client that has authenticated is kept. */
        work(bus, 20);
}
END_TEST

/* When sd-bus throws a message away it also forgets a few bytes of its own. The leak sanitizer must not
 * report those. */
static void start_forgetful(void)
{
        const char *options = getenv("ASAN_OPTIONS");
        _cleanup_free_ char *before = options ? strdup(options) : NULL;
        char changed[256];

        snprintf(changed, sizeof changed, "%s%sdetect_leaks=0", before ?: "", before ? ":" : "");
        setenv("ASAN_OPTIONS", changed, 1);
        start_retaining();
        if (before)
                setenv("ASAN_OPTIONS", before, 1);
        else
                unsetenv("ASAN_OPTIONS");
}

Suite *suite_hostile(void)
{
        Suite *s = suite_create("hostile");

        ADD_TESTS(s, "hostile", start_retaining, a_stopped_client, thousands_of_calls_that_nobody_waits_for,
                        clients_that_are_gone_before_the_answer, messages_of_many_megabytes,
                        a_thread_page_of_garbage);
        if (world.transport != TRANSPORT_DIRECT)
                return s;
        ADD_TESTS(s, "forgetful", start_forgetful, descriptors_that_nobody_asked_for,
                        a_descriptor_that_lingers);
        ADD_TESTS(s, "hostile", start_retaining, half_a_message_with_descriptors,
                        half_a_message_of_many_megabytes, authentication_that_does_not_end);
        return s;
}
