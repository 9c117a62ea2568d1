/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tests/bus/raw.h"
#include "tests/hostile/attack.h"

#define NO_REPLY 1 /* a flag in the third byte of a message */

static next_fn next_call;

sd_bus_message *call_of(sd_bus *b, const char *member, const char *types, ...)
{
        sd_bus_message *m;
        va_list ap;

        va_start(ap, types);
        m = new_callv(b, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member, types, ap);
        va_end(ap);
        return m;
}

static int send_next(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        static unsigned n;
        sd_bus *b = userdata;
        _cleanup_message_ sd_bus_message *m = next_call(b, n++);

        attack_did(1);
        return sd_bus_call_async(b, NULL, m, send_next, b, WIDE_SEC * UINT64_C(1000000));
}

void call_for_ever(unsigned lines, uint64_t ready_usec, next_fn next)
{
        uint64_t ready_at_usec = now_monotonic_usec() + ready_usec;
        bool ready = false, busy;
        sd_bus **buses = calloc(lines, sizeof *buses);
        struct pollfd *fds = calloc(lines, sizeof *fds);

        next_call = next;
        for (unsigned i = 0; i < lines; i++) {
                buses[i] = connect_bus();
                fds[i] = (struct pollfd){.fd = sd_bus_get_fd(buses[i]), .events = POLLIN};
                ck_assert_int_ge(send_next(NULL, buses[i], NULL), 0);
        }
        for (;;) {
                if (!ready && now_monotonic_usec() >= ready_at_usec) {
                        attack_ready();
                        ready = true;
                }
                busy = false;
                for (unsigned i = 0; i < lines; i++) {
                        int r = sd_bus_process(buses[i], NULL);

                        ck_assert_int_ge(r, 0);
                        busy |= r > 0;
                        (void) sd_bus_flush(buses[i]);
                }
                (void) poll(fds, lines, busy ? 0 : 1000);
        }
}

void flood_open(struct flood *f, unsigned lines, int bytes)
{
        *f = (struct flood){.fds = calloc(lines, sizeof(int)),
                        .at = calloc(lines, sizeof(size_t)),
                        .lines = lines};
        for (unsigned i = 0; i < lines; i++) {
                ck_assert_int_ge(f->fds[i] = raw_connect(), 0);
                ck_assert_int_eq(fcntl(f->fds[i], F_SETFL, O_NONBLOCK), 0);
                if (bytes > 0)
                        ck_assert_int_eq(setsockopt(f->fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes),
                                        0);
        }
}

void flood_close(struct flood *f)
{
        for (unsigned i = 0; i < f->lines; i++)
                close(f->fds[i]);
        free(f->fds);
        free(f->at);
        free(f->bytes);
}

#define CALLS 512 /* as many are sent at once */

void flood_say(struct flood *f, bool answers, const char *member, const char *types, ...)
{
        static struct raw m;
        va_list ap;

        raw_begin(&m, 1, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member, types);
        va_start(ap, types);
        for (const char *t = types; *t; t++)
                if (*t == 's')
                        raw_text(&m, va_arg(ap, const char *));
                else
                        raw_u32(&m, va_arg(ap, uint32_t));
        va_end(ap);
        raw_end(&m);
        m.bytes[2] = answers ? 0 : NO_REPLY;
        f->length = m.n;
        f->size = CALLS * m.n;
        f->bytes = malloc(f->size);
        for (size_t at = 0; at < f->size; at += m.n)
                memcpy(f->bytes + at, m.bytes, m.n);
}

static bool flood_line(struct flood *f, unsigned i)
{
        ssize_t n = send(f->fds[i], f->bytes + f->at[i], f->size - f->at[i], MSG_NOSIGNAL);

        if (n < 0) {
                ck_assert_msg(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET, "%s",
                                strerror(errno));
                return false;
        }
        f->at[i] = (f->at[i] + (size_t) n) % f->size;
        attack_did((unsigned) ((size_t) n / f->length));
        return true;
}

void flood_once(struct flood *f)
{
        for (unsigned i = 0; i < f->lines; i++)
                while (flood_line(f, i))
                        ;
}

void flood_for_ever(struct flood *f)
{
        struct epoll_event events[64];
        int set = epoll_create1(EPOLL_CLOEXEC);

        flood_once(f);
        for (unsigned i = 0; i < f->lines; i++) {
                struct epoll_event event = {.events = EPOLLOUT, .data.u32 = i};

                ck_assert_int_eq(epoll_ctl(set, EPOLL_CTL_ADD, f->fds[i], &event), 0);
        }
        attack_ready();
        for (;;) {
                int n = epoll_wait(set, events, ELEMENTSOF(events), -1);

                for (int i = 0; i < n; i++)
                        if (!flood_line(f, events[i].data.u32) && events[i].events & (EPOLLHUP | EPOLLERR))
                                (void) epoll_ctl(set, EPOLL_CTL_DEL, f->fds[events[i].data.u32], NULL);
        }
}

#define DIGITS 6

/* The options of a Create: none, or a deadline. */
static void say_options(struct raw *m, uint64_t deadline_usec)
{
        size_t at, begin;
        uint32_t size;

        raw_align(m, 4);
        at = m->n;
        raw_u32(m, 0);
        raw_align(m, 8);
        if (deadline_usec == 0)
                return;
        begin = m->n;
        raw_text(m, "deadline-usec");
        raw_u8(m, 1);
        raw_u8(m, 't');
        raw_u8(m, 0);
        raw_align(m, 8);
        raw_u32(m, (uint32_t) deadline_usec);
        raw_u32(m, (uint32_t) (deadline_usec >> 32));
        size = (uint32_t) (m->n - begin);
        memcpy(m->bytes + at, &size, sizeof size);
}

void grow(const char *parent, uint64_t timeout_usec, const char *label, unsigned n)
{
        grow_until(parent, timeout_usec, label, n, 0);
}

void grow_until(const char *parent, uint64_t timeout_usec, const char *label, unsigned n,
                uint64_t deadline_usec)
{
        static uint8_t many[1 << 16];
        static struct raw m;
        _cleanup_close_ int fd = raw_connect();
        _cleanup_bus_ sd_bus *b = connect_bus();
        char path[1025], digits[16];
        size_t size = 0;
        uint8_t *last;

        ck_assert_int_ge(fd, 0);
        OK(b, "Create", "sa{sv}", parent, 2, "timeout-usec", "t", timeout_usec, "parents", "b", 1);
        raw_begin(&m, 1, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Create", "sa{sv}");
        snprintf(path, sizeof path, "%s/%s%0*u", parent, label, DIGITS, 0);
        raw_text(&m, path);
        last = m.bytes + m.n - 1 - DIGITS;
        say_options(&m, deadline_usec);
        raw_end(&m);
        m.bytes[2] = NO_REPLY;
        /* Only the digits change: check notes each assertion that holds, so a message takes long to make. */
        for (unsigned i = 0; i < n; i++) {
                snprintf(digits, sizeof digits, "%0*u", DIGITS, i);
                memcpy(last, digits, DIGITS);
                if (size + m.n > sizeof many) {
                        raw_write(fd, many, size);
                        size = 0;
                }
                memcpy(many + size, m.bytes, m.n);
                size += m.n;
        }
        raw_write(fd, many, size);
        raw_begin(&m, 2, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Err", "s");
        snprintf(path, sizeof path, "%s/%s%0*u", parent, label, DIGITS, n - 1);
        raw_text(&m, path);
        raw_end(&m);
        raw_write(fd, m.bytes, m.n);
        n = (unsigned) raw_read(fd, path);
        ck_assert_msg(n == 2, "%s", path);
}
