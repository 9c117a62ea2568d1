/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/world/keeper.h"
#include "util/clock.h"
#include "proto/state-page.h"
#include "tests/world/world.h"

/* As the library sees a context: a page that it has mapped, and the word that it was given. */
struct view {
        int fd;
        const uint8_t *map;
        size_t size;
        uint64_t offset, word, number;
};

static struct view look(struct context *c)
{
        struct view v = {};
        struct page_place place;
        struct stat st;

        ck_assert_int_eq(engine_page(world.engine, c, &place), 0);
        v.offset = place.offset;
        v.word = place.word;
        v.number = place.number;
        v.fd = dup(place.fd);
        ck_assert_int_eq(fstat(v.fd, &st), 0);
        v.size = (size_t) st.st_size;
        v.map = mmap(NULL, v.size, PROT_READ, MAP_SHARED, v.fd, 0);
        ck_assert_ptr_ne(v.map, MAP_FAILED);
        ck_assert_uint_le(v.offset + sizeof(struct state_slot), v.size);
        return v;
}

static void unlook(struct view *v)
{
        munmap((void *) v->map, v->size);
        close(v->fd);
}

static const struct state_slot *slot(const struct view *v)
{
        return (const struct state_slot *) (v->map + v->offset);
}

static const struct state_page_header *header(const struct view *v)
{
        return (const struct state_page_header *) v->map;
}

static bool reads_active(const struct view *v)
{
        return __atomic_load_n(&slot(v)->word, __ATOMIC_ACQUIRE) == v->word;
}

START_TEST(words)
{
        struct context *a = make("a"), *b = make("a/b"),
                       *d = make_with_deadline("d", now_boottime_usec() + 3600000000);
        struct refused refused;
        struct caller caller = {};
        struct view va, vb, vd;

        world_drain(NULL);
        va = look(a);
        vb = look(b);
        vd = look(d);
        ck_assert_uint_eq(header(&va)->magic, STATE_PAGE_MAGIC);
        ck_assert_uint_eq(header(&va)->version, STATE_PAGE_VERSION);
        ck_assert_uint_ne(header(&va)->epoch, 0);
        ck_assert_uint_eq(va.size,
                        sizeof(struct state_page_header) + header(&va)->n_slots * sizeof(struct state_slot));
        ck_assert_uint_ne(va.offset, vb.offset);
        ck_assert_uint_eq(slot(&va)->deadline_usec, CTXD_USEC_INFINITY);
        ck_assert_uint_eq(slot(&vd)->deadline_usec, d->deadline_usec);
        ck_assert(reads_active(&va) && reads_active(&vb) && reads_active(&vd));

        ck_assert_int_eq(tree_extend(world.tree, now_boottime_usec(), &caller, d, d->deadline_usec + 1000000,
                                         &refused),
                        0);
        world_drain(NULL);
        ck_assert_uint_eq(slot(&vd)->deadline_usec, d->deadline_usec);

        cancel(a);
        ck_assert_uint_eq(slot(&va)->word, va.word | STATE_WORD_CANCELED);
        ck_assert_uint_eq(slot(&vb)->word, vb.word | STATE_WORD_CANCELED);
        ck_assert(reads_active(&vd));
        unlook(&va);
        unlook(&vb);
        unlook(&vd);
}
END_TEST

START_TEST(asked_for_when_done)
{
        struct context *c = make_with_deadline("a", 0);
        struct view v;

        world_drain(NULL);
        v = look(c);
        ck_assert_uint_eq(v.word & STATE_WORD_MASK, STATE_WORD_ACTIVE); /* what it is compared to */
        ck_assert_uint_eq(slot(&v)->word, v.word | STATE_WORD_DEADLINE_EXCEEDED);
        unlook(&v);
}
END_TEST

/* Law 6: whoever finds the handle readable finds the word done. */
static struct view watched;
static int watched_fd;

static void watch(int in, int out)
{
        child_ready(out);
        while (!is_readable(watched_fd)) {
        }
        child_ready(reads_active(&watched) ? -1 : out);
}

START_TEST(law_6_word_before_handle)
{
        struct refused refused;
        struct process *p;

        ck_assert_int_eq(engine_process_open_pid(world.engine, getpid(), &p), 0);
        for (unsigned i = 0; i < 20; i++) {
                struct context *root, *c;
                struct child *child;
                char path[32];
                int fd;

                snprintf(path, sizeof path, "a%u", i);
                root = make(path);
                for (unsigned k = 0; k < 300; k++) { /* so that it takes a while */
                        snprintf(path, sizeof path, "a%u/%u", i, k);
                        c = make(path);
                        ck_assert_int_ge(engine_handle(world.engine, p, 0, c, HANDLE_DONE, &fd, &refused), 0);
                }
                ck_assert_int_ge(engine_handle(world.engine, p, 0, root, HANDLE_DONE, &fd, &refused), 0);
                world_drain(NULL);
                watched_fd = dup(fd);
                watched = look(root);
                child = child_start(watch);
                cancel(root);
                ck_assert_int_eq(child_say(child), '!');
                unlook(&watched);
                close(watched_fd);
        }
        engine_process_close(p);
}
END_TEST

START_TEST(a_slot_is_another_generation_for_the_next)
{
        struct view old, new_;
        struct context *c;

        world.tree->retain_usec = 0;
        (void) look(make("keep")); /* so that the page stays */
        c = make("a");
        old = look(c);
        cancel(c);
        run_until(&world.n_removed, 1);
        ck_assert(!reads_active(&old));
        new_ = look(make("b"));
        ck_assert_uint_eq(new_.offset, old.offset);
        ck_assert_uint_ne(new_.word >> 2, old.word >> 2);
        ck_assert(reads_active(&new_));
        ck_assert(!reads_active(&old)); /* the old one's reader does not take it for its own */
        unlook(&old);
        unlook(&new_);
}
END_TEST

START_TEST(one_set_for_each_uid)
{
        struct view a = look(make_for(1001, "~/a")), b = look(make_for(1002, "~/a")),
                    c = look(make_for(1001, "~/b"));
        struct stat sa, sb, sc;

        ck_assert_int_eq(fstat(a.fd, &sa), 0);
        ck_assert_int_eq(fstat(b.fd, &sb), 0);
        ck_assert_int_eq(fstat(c.fd, &sc), 0);
        ck_assert_uint_ne(sa.st_ino, sb.st_ino);
        ck_assert_uint_eq(sa.st_ino, sc.st_ino);
        unlook(&a);
        unlook(&b);
        unlook(&c);
}
END_TEST

START_TEST(more_than_a_page)
{
        struct context *c[5000];
        struct view first, last;
        char path[32];

        for (unsigned i = 0; i < 5000; i++) {
                struct page_place place;

                snprintf(path, sizeof path, "a%u", i);
                c[i] = make(path);
                ck_assert_int_eq(engine_page(world.engine, c[i], &place), 0);
        }
        first = look(c[0]);
        last = look(c[4999]);
        ck_assert(reads_active(&first) && reads_active(&last));
        ck_assert_uint_eq(first.number, header(&first)->number);
        ck_assert_uint_eq(last.number, header(&last)->number);
        ck_assert_uint_ne(first.number, last.number);
        world.tree->retain_usec = 0;
        for (unsigned i = 0; i < 5000; i++)
                cancel_only(c[i]);
        world_drain(NULL);
        run_until(&world.n_removed, 5000);
        ck_assert(!reads_active(&first) && !reads_active(&last));
        ck_assert_uint_eq(header(&first)->epoch, 0); /* nobody is behind a page that was given back */
        unlook(&first);
        unlook(&last);
}
END_TEST

START_TEST(the_end_of_the_daemon_is_in_the_epoch)
{
        struct view v = look(make("a"));

        ck_assert_uint_ne(header(&v)->epoch, 0);
        ck_assert_uint_eq(header(&v)->keeper, (uint32_t) gettid());
        world.engine = engine_free(world.engine);
        ck_assert_uint_eq(header(&v)->epoch, 0);
        ck_assert_uint_eq(header(&v)->keeper, STATE_KEEPER_DIED);
        unlook(&v);
}
END_TEST

#define KEPT 5

/* As a daemon that is killed: of its pages some are gone again by then, the first, one in the middle, the
 * last. */
static void keep(const int *fds, unsigned gone, int out)
{
        uint8_t *maps[KEPT];

        for (unsigned i = 0; i < KEPT; i++)
                if (keeper_map(fds[i], 4096, 40, &maps[i]) < 0)
                        _exit(1);
        for (unsigned i = 0; i < KEPT; i++)
                if (gone & 1u << i)
                        keeper_unmap(maps[i], 4096, 40);
        (void) !write(out, "r", 1);
        for (;;)
                pause();
}

START_TEST(the_kernel_says_that_the_daemon_was_killed)
{
        static const unsigned gone[] = {0, 1, 1u << 2, 1u << (KEPT - 1), 1 | 1u << 2 | 1u << 3};
        uint32_t *seen[KEPT];
        int fds[KEPT], ready[2];
        char byte;
        pid_t pid;

        ck_assert_int_eq(pipe(ready), 0);
        for (unsigned i = 0; i < KEPT; i++) {
                fds[i] = memfd_create("keeper", MFD_CLOEXEC);
                ck_assert_int_eq(ftruncate(fds[i], 4096), 0);
                seen[i] = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fds[i], 0);
                ck_assert_ptr_ne(seen[i], MAP_FAILED);
        }
        pid = fork();
        if (pid == 0)
                keep(fds, gone[_i], ready[1]);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        for (unsigned i = 0; i < KEPT; i++)
                ck_assert_uint_eq(seen[i][10], gone[_i] & 1u << i ? STATE_KEEPER_DIED : (uint32_t) pid);
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        for (unsigned i = 0; i < KEPT; i++) {
                ck_assert_uint_eq(seen[i][10], STATE_KEEPER_DIED);
                munmap(seen[i], 4096);
                close(fds[i]);
        }
        close(ready[0]);
        close(ready[1]);
}
END_TEST

START_TEST(a_daemon_that_leaves_says_so_in_the_word)
{
        struct context *before = make("a"), *at_the_end = make("b");
        struct view va = look(before), vb = look(at_the_end);

        cancel(before);
        engine_stopping(world.engine);
        cancel(at_the_end);
        ck_assert_uint_eq(slot(&va)->word, va.word | STATE_WORD_CANCELED);
        ck_assert_uint_eq(slot(&vb)->word, vb.word | STATE_WORD_STOPPED);
        unlook(&va);
        unlook(&vb);
}
END_TEST

static int as_stranger(int fd)
{
        char path[64];
        void *map;

        if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
                return 10;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return 11;
        if (mprotect(map, 4096, PROT_READ | PROT_WRITE) == 0)
                return 12;
        if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
                return 13;
        if (open(path, O_RDWR) >= 0)
                return 14;
        if (open(path, O_WRONLY | O_TRUNC) >= 0)
                return 15;
        if (truncate(path, 0) == 0 || ftruncate(fd, 0) == 0)
                return 16;
        if (pwrite(fd, "x", 1, 0) >= 0)
                return 17;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0)
                return 18;
        if (fchmod(fd, 0666) == 0)
                return 19;
        if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0)
                return 20;
        return 0;
}

START_TEST(a_stranger_can_only_read)
{
        struct view v = look(make_for(65534, "user-65534/a"));
        int status;
        pid_t pid;

        ck_assert_int_lt(ftruncate(v.fd, 0), 0);
        ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, v.fd, 0), MAP_FAILED);
        if (getuid() == 0) {
                pid = fork();
                if (pid == 0)
                        _exit(as_stranger(v.fd));
                ck_assert_int_eq(waitpid(pid, &status, 0), pid);
                ck_assert(WIFEXITED(status));
                ck_assert_int_eq(WEXITSTATUS(status), 0);
        }
        unlook(&v);
}
END_TEST

static bool was_single_threaded;

/* The C library would never give up its locks again. Each allocation and each line from /proc would take
 * longer. */
START_TEST(the_daemon_never_has_a_second_thread)
{
        ck_assert_int_eq(__libc_single_threaded != 0, was_single_threaded);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("page");
        TCase *c = tcase_create("page");

        was_single_threaded = __libc_single_threaded;
        tcase_add_checked_fixture(c, world_start, world_stop);
        tcase_set_timeout(c, 60);
        tcase_add_test(c, words);
        tcase_add_test(c, asked_for_when_done);
        tcase_add_test(c, law_6_word_before_handle);
        tcase_add_test(c, a_slot_is_another_generation_for_the_next);
        tcase_add_test(c, one_set_for_each_uid);
        tcase_add_test(c, more_than_a_page);
        tcase_add_test(c, the_end_of_the_daemon_is_in_the_epoch);
        tcase_add_loop_test(c, the_kernel_says_that_the_daemon_was_killed, 0, 5);
        tcase_add_test(c, a_daemon_that_leaves_says_so_in_the_word);
        tcase_add_test(c, a_stranger_can_only_read);
        tcase_add_test(c, the_daemon_never_has_a_second_thread);
        suite_add_tcase(s, c);
        return run_suite(s);
}
