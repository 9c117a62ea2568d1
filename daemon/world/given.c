/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <systemd/sd-bus.h>
#include <unistd.h>
#include <uthash.h>

#include "daemon/world/batch.h"
#include "daemon/world/given.h"
#include "util/cleanup.h"
#include "util/closer.h"
#include "util/foreign.h"
#include "util/share.h"
#include "util/turn.h"

/* What waits for so long is charged; at most twice as long. */
#define CHARGE_USEC 1000000
/* A close of one can wait for others, so that they are handed over together. */
#define TOGETHER_USEC 10000

/* A file, and those of our descriptors that are of it. */
struct given {
        struct holder *holder;
        unsigned n_open;
        int fd; /* the last one, which waits to be closed */
        STAILQ_ENTRY(given) waiting;
};

/* A uid that has such files. */
struct holder {
        uid_t uid;
        unsigned n_files, n_waiting;
        STAILQ_HEAD(, given) waiting;
        UT_hash_handle hh;
};

static struct {
        pid_t pid; /* a fork has all of this, too, and means other descriptors by the same numbers */
        struct foreign *foreign;
        struct given **marks; /* by descriptor */
        size_t n_marks;
        struct holder *holders;
        struct turn full_turn;
        sd_event_source *soon, *late;
} all;

static int really_close(int fd)
{
        return (int) syscall(SYS_close, fd);
}

static struct given *find(int fd)
{
        if (fd < 0 || (size_t) fd >= all.n_marks || !all.marks[fd] || getpid() != all.pid)
                return NULL;
        return all.marks[fd];
}

static int make_room(int fd)
{
        size_t n = all.n_marks > 0 ? all.n_marks : 64;
        struct given **marks;

        while (n <= (size_t) fd)
                n *= 2;
        if (n == all.n_marks)
                return 0;
        marks = reallocarray(all.marks, n, sizeof *marks);
        if (!marks)
                return -ENOMEM;
        memset(marks + all.n_marks, 0, (n - all.n_marks) * sizeof *marks);
        all.marks = marks;
        all.n_marks = n;
        return 0;
}

static struct holder *holder_of(uid_t uid)
{
        struct holder *h;

        HASH_FIND(hh, all.holders, &uid, sizeof uid, h);
        if (h)
                return h;
        h = calloc(1, sizeof *h);
        if (!h)
                return NULL;
        h->uid = uid;
        STAILQ_INIT(&h->waiting);
        HASH_ADD(hh, all.holders, uid, sizeof h->uid, h);
        if (!h->hh.tbl) {
                free(h);
                return NULL;
        }
        return h;
}

static void holder_tidy(struct holder *h)
{
        if (h->n_files > 0)
                return;
        HASH_DEL(all.holders, h);
        free(h);
}

static void given_free(struct given *g)
{
        struct holder *h = g->holder;

        h->n_files--;
        free(g);
        holder_tidy(h);
}

int given_mark(int fd, uid_t uid)
{
        struct given *g;

        if (!all.foreign || find(fd))
                return 0;
        g = make_room(fd) < 0 ? NULL : calloc(1, sizeof *g);
        if (!g)
                return -ENOMEM;
        g->holder = holder_of(uid);
        if (!g->holder) {
                free(g);
                return -ENOMEM;
        }
        g->holder->n_files++;
        g->n_open = 1;
        all.marks[fd] = g;
        return 0;
}

void given_unmark(int fd)
{
        struct given *g = find(fd);

        if (!g)
                return;
        all.marks[fd] = NULL;
        if (--g->n_open == 0)
                given_free(g);
}

static void wake_within(sd_event_source *timer, uint64_t usec)
{
        if (sd_event_source_get_enabled(timer, NULL) > 0)
                return;
        (void) sd_event_source_set_time_relative(timer, usec);
        (void) sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

/* The order in which they were closed. -errno: they wait, and it is tried again. */
static int hand_over(struct holder *h)
{
        int fds[CLOSER_FDS_MAX], r;
        struct batch *b;
        struct given *g;
        unsigned n = 0;

        STAILQ_FOREACH (g, &h->waiting, waiting) {
                fds[n++] = g->fd;
                if (n == CLOSER_FDS_MAX)
                        break;
        }
        b = batch_new(h->uid, n);
        if (!b)
                return -ENOMEM;
        r = foreign_close(all.foreign, share_party(h->uid), h->uid, fds, n, batch_free, b);
        if (r < 0)
                batch_free(b);
        return r;
}

/* Whether all that has waited was handed over. */
static bool holder_flush(struct holder *h)
{
        while (h->n_waiting > 0) {
                unsigned n = h->n_waiting < CLOSER_FDS_MAX ? h->n_waiting : CLOSER_FDS_MAX;

                if (hand_over(h) < 0)
                        return false;
                h->n_waiting -= n;
                h->n_files -= n;
                while (n-- > 0) {
                        struct given *g = STAILQ_FIRST(&h->waiting);

                        STAILQ_REMOVE_HEAD(&h->waiting, waiting);
                        free(g);
                }
        }
        holder_tidy(h);
        return true;
}

void given_flush(void)
{
        struct holder *h, *next;
        bool is_done = true;

        if (!all.foreign)
                return;
        HASH_ITER (hh, all.holders, h, next)
                is_done = holder_flush(h) && is_done;
        if (!is_done || batches_wait())
                wake_within(all.late, CHARGE_USEC);
}

bool given_is_charged(uid_t uid)
{
        return batches_of_party_are_charged(uid);
}

static int on_full(sd_event_source *source, void *userdata)
{
        given_flush();
        return 0;
}

static int on_soon(sd_event_source *source, uint64_t usec, void *userdata)
{
        given_flush();
        return 0;
}

/* Where a process has not closed them by now they count as what their holder has. */
static int on_late(sd_event_source *source, uint64_t usec, void *userdata)
{
        batches_charge();
        foreign_try_again(all.foreign);
        given_flush();
        return 0;
}

/* The last one of its file: it waits. */
static void close_later(struct given *g, int fd)
{
        struct holder *h = g->holder;

        g->fd = fd;
        STAILQ_INSERT_TAIL(&h->waiting, g, waiting);
        if (++h->n_waiting == CLOSER_FDS_MAX)
                turn_again(&all.full_turn);
        else
                wake_within(all.soon, TOGETHER_USEC);
}

__attribute__((visibility("default"))) int close(int fd)
{
        struct given *g = find(fd);

        if (!g)
                return really_close(fd);
        all.marks[fd] = NULL;
        if (--g->n_open > 0)
                return really_close(fd);
        if (all.foreign)
                close_later(g, fd);
        else
                given_free(g);
        return 0;
}

static int dup_marked(int fd, int copy)
{
        struct given *g = copy >= 0 ? find(fd) : NULL;

        if (!g)
                return copy;
        if (make_room(copy) < 0) {
                (void) really_close(copy);
                errno = ENOMEM;
                return -1;
        }
        g->n_open++;
        all.marks[copy] = g;
        return copy;
}

static int do_fcntl(int fd, int command, void *argument)
{
#ifdef SYS_fcntl64
        int r = (int) syscall(SYS_fcntl64, fd, command, argument);
#else
        int r = (int) syscall(SYS_fcntl, fd, command, argument);
#endif

        return command == F_DUPFD_CLOEXEC || command == F_DUPFD ? dup_marked(fd, r) : r;
}

/* Programs call it by one of two names, which may both be one in the header. */
int given_fcntl(int fd, int command, ...) __asm__("fcntl") __attribute__((visibility("default")));
int given_fcntl64(int fd, int command, ...) __asm__("fcntl64")
                __attribute__((visibility("default"), alias("fcntl")));

int given_fcntl(int fd, int command, ...)
{
        va_list arguments;
        void *argument;

        va_start(arguments, command);
        argument = va_arg(arguments, void *);
        va_end(arguments);
        return do_fcntl(fd, command, argument);
}

static int add_timer(sd_event_source **ret, sd_event *event, sd_event_time_handler_t run, const char *name)
{
        int r = sd_event_add_time(event, ret, CLOCK_MONOTONIC, UINT64_MAX, TOGETHER_USEC / 2, run, NULL);

        if (r < 0)
                return r;
        (void) sd_event_source_set_description(*ret, name);
        return sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

int given_start(sd_event *event, struct foreign *foreign, struct users *users)
{
        int r;

        all.pid = getpid();
        batches_start(users);
        r = turn_init(&all.full_turn, event, "close-given", on_full, NULL);
        if (r >= 0)
                r = add_timer(&all.soon, event, on_soon, "close-given-soon");
        if (r >= 0)
                r = add_timer(&all.late, event, on_late, "charge-given");
        if (r < 0) {
                given_stop();
                return r;
        }
        all.foreign = foreign;
        return 0;
}

void given_stop(void)
{
        given_flush();
        turn_deinit(&all.full_turn);
        all.soon = sd_event_source_disable_unref(all.soon);
        all.late = sd_event_source_disable_unref(all.late);
        all.foreign = NULL;
}

/* Lets sd-bus duplicate and close one. */
bool given_takes_effect(void)
{
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        _cleanup_close_ int other = -1;
        sd_bus_message *m = NULL;
        int pair[2], fd = eventfd(0, EFD_CLOEXEC);
        struct given *g = fd >= 0 && given_mark(fd, 0) >= 0 ? find(fd) : NULL;
        bool has_copied = false;

        if (!g || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                goto end;
        other = pair[1];
        if (sd_bus_new(&bus) < 0 || sd_bus_set_fd(bus, pair[0], pair[0]) < 0) {
                (void) really_close(pair[0]);
                goto end;
        }
        if (sd_bus_start(bus) >= 0 && sd_bus_message_new_signal(bus, &m, "/", "org.ctxd1", "Try") >= 0 &&
                        sd_bus_message_append(m, "h", fd) >= 0)
                has_copied = g->n_open == 2;
        sd_bus_message_unref(m);
        has_copied = has_copied && g->n_open == 1;
end:
        given_unmark(fd);
        closep(&fd);
        return has_copied;
}
