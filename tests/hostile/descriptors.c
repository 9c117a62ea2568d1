/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Descriptors that are not what they should be, take long to close, or are expensive to wake. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/bus/raw.h"
#include "tests/harness/fuse.h"
#include "tests/hostile/attack.h"

#define LINES 4

static sd_bus_message *attach(sd_bus *b, int fd)
{
        return call_of(b, "Attach", "sha{sv}", "~/hers", fd, 0);
}

static void make_hers(void)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "~/hers", 1, "open", "b", 1);
}

/* A set of sets that has thousands of things to look at when somebody polls it. */
#define WATCHED 5000

static int event, set;

static sd_bus_message *next_epoll(sd_bus *b, unsigned n)
{
        eventfd_t value;

        /* All are noted as ready, and none is. */
        (void) eventfd_write(event, 1);
        (void) eventfd_read(event, &value);
        return attach(b, set);
}

static void epoll_sets(void)
{
        const struct epoll_event in = {.events = EPOLLIN};

        make_hers();
        event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        set = epoll_create1(EPOLL_CLOEXEC);
        for (int i = 0; i < WATCHED; i++)
                ck_assert_int_eq(epoll_ctl(set, EPOLL_CTL_ADD, fcntl(event, F_DUPFD_CLOEXEC, 3),
                                                 &(struct epoll_event){in.events}),
                                0);
        call_for_ever(LINES, 0, next_epoll);
}

static int files[6];

static sd_bus_message *next_file(sd_bus *b, unsigned n)
{
        return attach(b, files[n % ELEMENTSOF(files)]);
}

static void all_kinds_of_files(void)
{
        int ends[2];

        make_hers();
        ck_assert_int_eq(pipe(ends), 0);
        files[0] = open("/", O_RDONLY | O_CLOEXEC);
        files[1] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        files[2] = open("/etc/passwd", O_PATH | O_CLOEXEC);
        files[3] = ends[0];
        files[4] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        files[5] = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
        call_for_ever(LINES, 0, next_file);
}

/* Each cancel has to wake all who wait for a handle: this many sets watch so many copies of it. */
#define SETS 446
#define COPIES 446
#define HANDLES 3

static void watch(sd_bus *b, const int *sets, const char *path)
{
        struct epoll_event in = {.events = EPOLLIN};
        int handle = done_handle(b, path);

        for (unsigned i = 0; i < COPIES; i++) {
                int copy = fcntl(handle, F_DUPFD_CLOEXEC, 3);

                for (unsigned n = 0; n < SETS; n++)
                        if (epoll_ctl(sets[n], EPOLL_CTL_ADD, copy, &in) < 0)
                                attack_impossible("no 600,000 epoll watches for a user");
        }
}

static void watchers(void)
{
        static int sets[SETS];
        sd_bus *b = connect_bus();
        char path[32];

        for (unsigned i = 0; i < SETS; i++)
                ck_assert_int_ge(sets[i] = epoll_create1(EPOLL_CLOEXEC), 0);
        for (unsigned i = 0; i < HANDLES; i++) {
                snprintf(path, sizeof path, "~/watched%u", i);
                create(b, path);
                watch(b, sets, path);
        }
        attack_ready();
        for (unsigned i = 0; i < HANDLES; i++) {
                snprintf(path, sizeof path, "~/watched%u", i);
                ck_assert(cancel(b, path, ""));
                attack_did(1);
                nap(100000);
        }
        for (;;)
                pause();
}

/* She sends the file on one connection after the other. sd-bus would close copies of it, and hang itself. */
#define SENDERS 300

static _Noreturn void send_hung_file(int fd)
{
        static struct raw m;

        raw_begin_fds(&m, 100, 1, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Attach", "sha{sv}");
        raw_text(&m, "~/hers");
        raw_u32(&m, 0);
        raw_u32(&m, 0);
        raw_align(&m, 8);
        raw_end(&m);
        attack_ready();
        for (unsigned i = 0; i < SENDERS; i++) {
                sd_bus *b = connect_bus();

                OK(b, "Err", "s", "~/hers");
                (void) raw_send(sd_bus_get_fd(b), m.bytes, m.n, &fd, 1);
                attack_did(1);
        }
        for (;;)
                pause();
}

static void use_hung_file(int fd, void *userdata)
{
        make_hers();
        if (fork_tied() == 0)
                send_hung_file(fd);
}

static void hung_files(void)
{
        struct hung_file h = {};

        if (!hung_file_start(&h, ALICE, use_hung_file, NULL))
                attack_impossible("no FUSE file system can be mounted");
        for (;;)
                pause();
}

static struct sockaddr_in address = {.sin_family = AF_INET};

/* Closing it waits until its bytes are sent, which never happens. */
static sd_bus_message *next_lingering(sd_bus *b, unsigned n)
{
        const struct linger minutes = {.l_onoff = 1, .l_linger = 300};
        static char bytes[1 << 16];
        int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sd_bus_message *m;

        ck_assert_int_eq(connect(s, (struct sockaddr *) &address, sizeof address), 0);
        while (send(s, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
                ;
        ck_assert_int_eq(setsockopt(s, SOL_SOCKET, SO_LINGER, &minutes, sizeof minutes), 0);
        m = attach(b, s);
        close(s);
        return m;
}

static void lingering_sockets(void)
{
        socklen_t length = sizeof address;
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        make_hers();
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(listen(listener, 4096), 0);
        ck_assert_int_eq(getsockname(listener, (struct sockaddr *) &address, &length), 0);
        call_for_ever(LINES, 0, next_lingering);
}

#define HUGE ((off_t) 256 << 20)

static sd_bus_message *next_memfd(sd_bus *b, unsigned n)
{
        _cleanup_close_ int fd = memfd_create("huge", MFD_CLOEXEC);

        ck_assert_int_eq(fallocate(fd, 0, 0, HUGE), 0);
        return attach(b, fd);
}

static void huge_memfds(void)
{
        make_hers();
        call_for_ever(1, 0, next_memfd);
}

START_TEST(epoll_sets_in_place_of_pidfds)
{
        withstand(&(struct attack){"descriptors: epoll sets in place of pidfds", epoll_sets});
}
END_TEST

START_TEST(files_in_place_of_pidfds)
{
        withstand(&(struct attack){"descriptors: files in place of pidfds", all_kinds_of_files});
}
END_TEST

START_TEST(a_handle_with_199000_watchers)
{
        withstand(&(struct attack){"descriptors: 199,000 watchers of a handle", watchers,
                        /* While the kernel wakes so many, their processor does nothing else, not even an
                         * interrupt: 10 to 40 ms, for whoever is on it just then. She can have that without
                         * ctxd, by writing to an eventfd of her own. That the daemon does not wait for it is
                         * shown in test-handle.c. */
                        .max = 100});
}
END_TEST

START_TEST(files_whose_close_hangs)
{
        withstand(&(struct attack){"descriptors: files that hang (FUSE)", hung_files, .as_root = true});
}
END_TEST

START_TEST(sockets_that_linger)
{
        withstand(&(struct attack){"descriptors: sockets that linger", lingering_sockets});
}
END_TEST

START_TEST(memfds_of_many_megabytes)
{
        withstand(&(struct attack){"descriptors: memfds of 256 MiB", huge_memfds,
                        /* The kernel of a virtual machine may give so much memory back in one go, 10 to 70
                         * ms, for whoever is on that processor; and a bus makes that close itself. */
                        .max = 100});
}
END_TEST

void add_descriptors(Suite *s)
{
        ATTACK(s, "descriptors", start_attacked, epoll_sets_in_place_of_pidfds);
        ATTACK(s, "descriptors", start_attacked, files_in_place_of_pidfds);
        ATTACK(s, "descriptors", start_attacked, a_handle_with_199000_watchers);
        ATTACK(s, "descriptors", start_attacked, sockets_that_linger);
        ATTACK(s, "descriptors", start_attacked, memfds_of_many_megabytes);
        /* A bus would hang itself: it closes its copy. */
        if (world.transport == TRANSPORT_DIRECT)
                ATTACK(s, "descriptors", start_attacked, files_whose_close_hangs);
}
