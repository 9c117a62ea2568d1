/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sockets that their owner keeps locked. */

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"
#include "raw.h"

/* A socket whose owner sleeps in send(): it has the kernel's lock of the socket, and waits for a page. */
struct locked {
        int socket, faults;
        void *page;
        pthread_t thread;
};

static void *send_page(void *userdata)
{
        const struct locked *l = userdata;

        (void) !send(l->socket, l->page, 1, MSG_NOSIGNAL);
        return NULL;
}

static bool locked_start(struct locked *l)
{
        struct uffdio_api api = {.api = UFFD_API};
        struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
        struct uffd_msg fault;
        struct sockaddr_in address;
        int listener = lingering_listener(&address);

        l->faults = (int) syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
        if (l->faults < 0) {
                fprintf(stderr, "SKIP: userfaultfd: %s\n", strerror(errno));
                return false;
        }
        l->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        range.range.start = (uintptr_t) l->page;
        range.range.len = 4096;
        ck_assert_int_eq(ioctl(l->faults, UFFDIO_API, &api), 0);
        ck_assert_int_eq(ioctl(l->faults, UFFDIO_REGISTER, &range), 0);
        l->socket = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(connect(l->socket, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(pthread_create(&l->thread, NULL, send_page, l), 0);
        ck_assert(becomes_readable(l->faults));
        ck_assert_int_eq(read(l->faults, &fault, sizeof fault), sizeof fault);
        close(listener);
        return true;
}

static void locked_end(struct locked *l)
{
        struct uffdio_zeropage zero = {.range = {.start = (uintptr_t) l->page, .len = 4096}};

        ck_assert_int_eq(ioctl(l->faults, UFFDIO_ZEROPAGE, &zero), 0);
        ck_assert_int_eq(pthread_join(l->thread, NULL), 0);
        close(l->socket);
        close(l->faults);
}

/* This thread alone: the other one cannot be told. */
static void act_as(uid_t uid)
{
        ck_assert_int_eq(syscall(SYS_setresuid, uid, uid, 0), 0);
}

/* Each of two users sends one. Those who look for all do not wait for them. */
START_TEST(a_socket_whose_lock_is_held)
{
        static const uid_t uids[] = {ALICE, CAROL};
        int fds[ELEMENTSOF(uids)];
        struct locked l = {};
        struct raw m;

        if (!locked_start(&l))
                return;
        attach_message(&m);
        OK(bus, "Create", "sa{sv}", "hers", 1, "mode", "u", 0777);
        for (unsigned i = 0; i < ELEMENTSOF(uids); i++) {
                act_as(uids[i]);
                ck_assert_int_ge(fds[i] = raw_connect(), 0);
                ck_assert(raw_send(fds[i], m.bytes, m.n, &l.socket, 1));
                act_as(0);
        }
        work(bus, 5);
        for (int i = 0; i < 5; i++)
                run_as(BOB, attach_self, NULL);
        for (unsigned i = 0; i < ELEMENTSOF(uids); i++) {
                expect_no_pidfd(fds[i]);
                close(fds[i]);
        }
        locked_end(&l);
}
END_TEST

void add_locked(Suite *s)
{
        ADD_TESTS(s, "locked", start_plain, a_socket_whose_lock_is_held);
}
