/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What clients hold: done handles and the state page. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "harness.h"
#include "proto/state-page.h"

/* Whether both descriptors are one open file. */
static bool same_file(int a, int b)
{
        return syscall(SYS_kcmp, getpid(), getpid(), 0 /* KCMP_FILE */, a, b) == 0;
}

START_TEST(a_handle_is_an_eventfd_that_does_not_block)
{
        uint64_t value;
        int fd;

        create(bus, "h");
        fd = done_handle(bus, "h");
        ck_assert(!is_readable(fd));
        ck_assert_int_eq(read(fd, &value, sizeof value), -1);
        ck_assert_int_eq(errno, EAGAIN);
        close(fd);
}
END_TEST

START_TEST(two_connections_of_a_process_share_a_handle)
{
        _cleanup_bus_ sd_bus *other = connect_bus();
        unsigned fds;
        int one, two;

        create(bus, "h");
        OK(other, "Err", "s", "h");
        one = done_handle(bus, "h");
        fds = settled_fds();
        two = done_handle(other, "h");
        ck_assert(same_file(one, two));
        ck_assert_uint_eq(settled_fds(), fds); /* nor did it cost the daemon anything */
        OK(other, "Undone", "s", "h");
        OK(bus, "Undone", "s", "h"); /* there is none any more: no error */
        cancel(bus, "h", "");
        int three = done_handle(bus, "h");
        ck_assert(is_readable(three));
        ck_assert(!same_file(one, three));
        close(one);
        close(two);
        close(three);
}
END_TEST

/* Each context has a handle of its own. What a client does with its handle does not touch the parent's. */
static void own_handle(void *userdata)
{
        const int *parents = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        int fd = done_handle(b, "h");

        ck_assert(!same_file(fd, *parents));
        ck_assert_int_eq(write(fd, &(uint64_t){1}, 8), 8); /* forges its own */
        ck_assert(is_readable(fd));
        ck_assert(!is_readable(*parents));
        ck_assert_int_eq(code_of(b, "h"), 0);
        close(fd);
}

START_TEST(two_processes_have_a_handle_each)
{
        int fd;

        create(bus, "h");
        fd = done_handle(bus, "h");
        wait_for(spawn(own_handle, &fd));
        ck_assert(!is_readable(fd));
        close(fd);
}
END_TEST

START_TEST(law27_a_read_takes_the_signal_from_nobody)
{
        _cleanup_bus_ sd_bus *other = connect_bus();
        uint64_t value;
        int one, two;

        create(bus, "h");
        one = done_handle(bus, "h");
        two = done_handle(other, "h");
        cancel(bus, "h", "");
        for (int i = 0; i < 10000; i++) {
                ck_assert_int_eq(read(one, &value, sizeof value), 8);
                ck_assert_uint_eq(value, 1);
        }
        ck_assert(is_readable(one));
        ck_assert(is_readable(two));
        OK(bus, "Release", "s", "h");
        ck_assert(is_readable(one));
        close(one);
        close(two);
}
END_TEST

START_TEST(done_of_what_is_done_is_readable_at_once)
{
        char reference[64];
        uint64_t id = create(bus, "h");

        cancel(bus, "h", "");
        for (int i = 0; i < 3; i++) {
                int fd = done_handle(bus, "h");
                ck_assert(is_readable(fd));
                close(fd);
        }
        OK(bus, "Undone", "s", "h");
        OK(bus, "Release", "s", "h");
        snprintf(reference, sizeof reference, "h#%ju", (uintmax_t) id);
        int fd = done_handle(bus, reference);
        ck_assert(is_readable(fd));
        close(fd);
}
END_TEST

START_TEST(handles_on_the_object)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        int fd, one;

        create(bus, "h");
        one = done_handle(bus, "h");
        m = CALL_ON(bus, "/org/ctxd1/context/h", "Done", NULL);
        READ(m, "h", &fd);
        ck_assert(same_file(fd, one));
        OK_ON(bus, "/org/ctxd1/context/h", "Undone", NULL);
        close(one);
}
END_TEST

static void take_handles(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        for (int i = 0; i < 100; i++) {
                char path[16];

                snprintf(path, sizeof path, "h/%d", i);
                done_handle(b, path);
        }
}

START_TEST(a_process_that_exits_gives_its_handles_up)
{
        unsigned before;

        create(bus, "h");
        for (int i = 0; i < 100; i++) {
                char path[16];

                snprintf(path, sizeof path, "h/%d", i);
                create(bus, path);
        }
        before = settled_fds();
        wait_for(spawn(take_handles, NULL));
        expect_fds(before);
}
END_TEST

static void fill_handle(int fd)
{
        fcntl(fd, F_SETFL, 0); /* no longer non-blocking, for the daemon neither */
        ck_assert_int_eq(write(fd, &(uint64_t){UINT64_MAX - 1}, 8), 8);
}

static void hostile_holder(void *userdata)
{
        const int *pipes = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        char byte;

        for (int i = 0; i < 8; i++) {
                char path[16];

                snprintf(path, sizeof path, "h/%d", i);
                fill_handle(done_handle(b, path));
        }
        fill_handle(done_handle(b, "h"));
        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(read(pipes[2], &byte, 1), 0);
}

START_TEST(a_full_blocking_handle_does_not_stop_the_daemon)
{
        int there[2], stay[2], fd;
        char byte;
        pid_t pid;

        create(bus, "h");
        for (int i = 0; i < 8; i++) {
                char path[16];

                snprintf(path, sizeof path, "h/%d", i);
                create(bus, path);
        }
        fd = done_handle(bus, "h/3");
        ck_assert(pipe2(there, O_CLOEXEC) == 0 && pipe2(stay, O_CLOEXEC) == 0);
        pid = spawn(hostile_holder, (int[]){there[0], there[1], stay[0], stay[1]});
        ck_assert_int_eq(read(there[0], &byte, 1), 1);
        ck_assert(cancel(bus, "h", "in spite of it"));
        ck_assert(becomes_readable(fd));
        ck_assert_int_eq(code_of(bus, "h/7"), ECANCELED);
        close(fd);
        end_process(pid);
        for (int i = 0; i < 2; i++) {
                close(there[i]);
                close(stay[i]);
        }
}
END_TEST

struct mapped {
        int fd;
        size_t size;
        const struct state_page_header *header;
        const struct state_slot *slot;
        uint64_t word;
};

static struct mapped map_page(sd_bus *b, const char *path)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Page", "s", path);
        struct mapped p;
        uint64_t offset;
        struct stat st;
        void *map;
        int fd;

        READ(m, "htt", &fd, &offset, &p.word);
        p.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        ck_assert_int_eq(fstat(p.fd, &st), 0);
        p.size = (size_t) st.st_size;
        ck_assert_uint_ge(offset, sizeof(struct state_page_header));
        ck_assert_uint_eq(offset % 16, 0);
        ck_assert_uint_le(offset + sizeof(struct state_slot), p.size);
        map = mmap(NULL, p.size, PROT_READ, MAP_SHARED, p.fd, 0);
        ck_assert_ptr_ne(map, MAP_FAILED);
        p.header = map;
        p.slot = (const struct state_slot *) ((const char *) map + offset);
        return p;
}

static uint64_t word_of(const struct mapped *p)
{
        return __atomic_load_n(&p->slot->word, __ATOMIC_ACQUIRE);
}

static void unmap_page(struct mapped *p)
{
        munmap((void *) p->header, p->size);
        close(p->fd);
}

START_TEST(the_page_says_what_err_says)
{
        struct mapped p, q, d;

        create(bus, "p");
        OK(bus, "Create", "sa{sv}", "p/q", 1, "deadline-usec", "t", UINT64_MAX / 2);
        OK(bus, "Create", "sa{sv}", "d", 1, "timeout-usec", "t", UINT64_C(0));
        p = map_page(bus, "p");
        q = map_page(bus, "p/q");
        ck_assert_uint_eq(p.header->magic, STATE_PAGE_MAGIC);
        ck_assert_uint_eq(p.header->version, STATE_PAGE_VERSION);
        ck_assert_uint_ne(p.header->epoch, 0);
        ck_assert_uint_eq(word_of(&p), p.word);
        ck_assert_uint_eq(word_of(&q), q.word);
        ck_assert_uint_eq(p.slot->deadline_usec, UINT64_MAX);
        ck_assert_uint_eq(q.slot->deadline_usec, UINT64_MAX / 2);
        OK(bus, "Extend", "st", "p/q", UINT64_MAX / 4);
        ck_assert_uint_eq(q.slot->deadline_usec, UINT64_MAX / 4);

        cancel(bus, "p", "");
        ck_assert_uint_eq(word_of(&p), p.word | STATE_WORD_CANCELED);
        ck_assert_uint_eq(word_of(&q), q.word | STATE_WORD_CANCELED);
        d = map_page(bus, "d");
        ck_assert_uint_eq(word_of(&d), d.word | STATE_WORD_DEADLINE_EXCEEDED);
        unmap_page(&p);
        unmap_page(&q);
        unmap_page(&d);
}
END_TEST

struct opened {
        const char *path;
        uint64_t id, deadline_usec, number, offset, word;
        int made, n_pages;
        uint32_t state;
};

static struct opened read_opened(sd_bus_message *m)
{
        struct opened o = {};

        READ(m, "stbut", &o.path, &o.id, &o.made, &o.state, &o.deadline_usec);
        ck_assert_int_gt(sd_bus_message_enter_container(m, 'a', "h"), 0);
        while (sd_bus_message_read(m, "h", &(int){0}) > 0)
                o.n_pages++;
        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        READ(m, "ttt", &o.number, &o.offset, &o.word);
        return o;
}

/* Open says what List, Err and Page say, and CreateAndOpen says it of what it has made. */
START_TEST(all_of_it_in_one_call)
{
        _cleanup_message_ sd_bus_message *m = NULL, *n = NULL, *again = NULL, *root = NULL, *born = NULL;
        struct opened o;
        struct mapped p;

        m = CALL(bus, "CreateAndOpen", "sa{sv}b", "p", 1, "deadline-usec", "t", UINT64_MAX / 2, 1);
        o = read_opened(m);
        p = map_page(bus, "p");
        ck_assert_str_eq(o.path, "p");
        ck_assert_uint_eq(o.id, property_u64(bus, "p", "Id"));
        ck_assert(o.made);
        ck_assert_uint_eq(o.state, STATE_WORD_ACTIVE);
        ck_assert_uint_eq(o.deadline_usec, UINT64_MAX / 2);
        ck_assert_int_eq(o.n_pages, 1);
        ck_assert_uint_eq(o.number, p.header->number);
        ck_assert_uint_eq(o.offset, (uint64_t) ((const char *) p.slot - (const char *) p.header));
        ck_assert_uint_eq(o.word, p.word);

        /* Who has the page needs no descriptor. */
        again = CALL(bus, "CreateAndOpen", "sa{sv}b", "p", 1, "open", "b", 1, 0);
        o = read_opened(again);
        ck_assert(!o.made);
        ck_assert_int_eq(o.n_pages, 0);
        ck_assert_uint_eq(o.number, p.header->number);

        cancel(bus, "p", "");
        n = CALL(bus, "Open", "sb", "p", 1);
        o = read_opened(n);
        ck_assert(!o.made);
        ck_assert_uint_eq(o.state, STATE_WORD_CANCELED);
        ck_assert_int_eq(o.n_pages, 1);
        ck_assert_uint_eq(o.word, p.word);
        born = CALL(bus, "CreateAndOpen", "sa{sv}b", "d", 1, "timeout-usec", "t", UINT64_C(0), 0);
        ck_assert_uint_eq(read_opened(born).state, STATE_WORD_DEADLINE_EXCEEDED);

        root = CALL(bus, "Open", "sb", "/", 1); /* it has no slot */
        o = read_opened(root);
        ck_assert_str_eq(o.path, "/");
        ck_assert_uint_eq(o.number, 0);
        ck_assert_int_eq(o.n_pages, 0);
        unmap_page(&p);
}
END_TEST

START_TEST(a_slot_used_again_is_another_generation)
{
        struct mapped old, new;

        create(bus, "p");
        create(bus, "keeps"); /* the page, so that the slot can come again */
        struct mapped keeps = map_page(bus, "keeps");
        old = map_page(bus, "p");
        OK(bus, "Release", "s", "p");
        ck_assert_uint_ne(word_of(&old), old.word);
        for (int i = 0; i < 100; i++) { /* RetainSec is a second here: some of these come after it */
                char path[16];

                snprintf(path, sizeof path, "n%d", i);
                create(bus, path);
                new = map_page(bus, path);
                ck_assert_uint_ne(word_of(&old), old.word);
                unmap_page(&new);
                usleep(20000);
        }
        ck_assert_uint_ne(word_of(&old), old.word);
        unmap_page(&old);
        unmap_page(&keeps);
}
END_TEST

START_TEST(the_page_cannot_be_written)
{
        struct mapped p;

        create(bus, "p");
        p = map_page(bus, "p");
        ck_assert_ptr_eq(mmap(NULL, p.size, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0), MAP_FAILED);
        ck_assert_int_eq(mprotect((void *) p.header, p.size, PROT_READ | PROT_WRITE), -1);
        ck_assert_int_eq(pwrite(p.fd, "", 1, 0), -1);
        ck_assert_int_eq(ftruncate(p.fd, 0), -1);
        EXPECT_ACTIVE(bus, "p");
        unmap_page(&p);
}
END_TEST

/* The same for every uid and transport. held-alive.c and tests/lib check that it becomes readable. */
START_TEST(alive_as_long_as_it_serves)
{
        _cleanup_bus_ sd_bus *other = connect_bus();
        _cleanup_message_ sd_bus_message *one = CALL(bus, "Alive", ""), *two = CALL(other, "Alive", "");
        uint64_t epoch, same;
        struct pollfd poll_one = {}, poll_two = {};

        READ(one, "ht", &poll_one.fd, &epoch);
        READ(two, "ht", &poll_two.fd, &same);
        ck_assert_uint_ne(epoch, 0);
        ck_assert_uint_eq(epoch, same);
        ck_assert_int_eq(poll(&poll_one, 1, 0), 0);
        ck_assert_int_eq(poll(&poll_two, 1, 0), 0);
        ck_assert_int_eq(write(poll_one.fd, "x", 1), -1); /* nobody can say anything by it */
        FAILS(bus, SD_BUS_ERROR_INVALID_ARGS, "Alive", "s", "argument");
}
END_TEST

Suite *suite_handles(void)
{
        Suite *s = suite_create("handles");

        ADD_TESTS(s, "handles", start_retaining, a_handle_is_an_eventfd_that_does_not_block,
                        two_connections_of_a_process_share_a_handle, two_processes_have_a_handle_each,
                        law27_a_read_takes_the_signal_from_nobody, done_of_what_is_done_is_readable_at_once,
                        handles_on_the_object, a_process_that_exits_gives_its_handles_up,
                        a_full_blocking_handle_does_not_stop_the_daemon, the_page_says_what_err_says,
                        all_of_it_in_one_call, the_page_cannot_be_written, alive_as_long_as_it_serves);
        ADD_TESTS(s, "forgotten", start_plain, a_slot_used_again_is_another_generation);
        return s;
}
