/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "harness.h"
#include "raw.h"

#define BODY_SIZE_AT 4
#define FIELDS_SIZE_AT 12

void raw_u8(struct raw *m, uint8_t value)
{
        ck_assert_uint_lt(m->n, sizeof m->bytes);
        m->bytes[m->n++] = value;
}

void raw_align(struct raw *m, size_t to)
{
        while (m->n % to)
                raw_u8(m, 0);
}

static void put_u32(struct raw *m, size_t at, uint32_t value)
{
        for (int i = 0; i < 4; i++)
                m->bytes[at + (size_t) i] = (uint8_t) (value >> 8 * i);
}

void raw_u32(struct raw *m, uint32_t value)
{
        raw_align(m, 4);
        for (int i = 0; i < 4; i++)
                raw_u8(m, (uint8_t) (value >> 8 * i));
}

void raw_string(struct raw *m, const void *text, size_t length)
{
        raw_u32(m, (uint32_t) length);
        for (size_t i = 0; i < length; i++)
                raw_u8(m, ((const uint8_t *) text)[i]);
        raw_u8(m, 0);
}

void raw_text(struct raw *m, const char *text)
{
        raw_string(m, text, strlen(text));
}

static void field(struct raw *m, uint8_t code, const char *signature, const char *text)
{
        raw_align(m, 8);
        raw_u8(m, code);
        raw_u8(m, 1);
        raw_u8(m, (uint8_t) signature[0]);
        raw_u8(m, 0);
        if (signature[0] == 'g') {
                raw_u8(m, (uint8_t) strlen(text));
                for (const char *p = text; *p; p++)
                        raw_u8(m, (uint8_t) *p);
                raw_u8(m, 0);
        } else {
                raw_text(m, text);
        }
}

/* The alignment of the body counts from its own start. The header ends at a multiple of 8, so that this is
 * the same. */
static size_t body_at;

void raw_begin(struct raw *m, uint32_t serial, const char *path, const char *interface, const char *member,
                const char *signature)
{
        raw_begin_fds(m, serial, 0, path, interface, member, signature);
}

void raw_begin_fds(struct raw *m, uint32_t serial, uint32_t n_fds, const char *path, const char *interface,
                const char *member, const char *signature)
{
        m->n = 0;
        raw_u8(m, 'l');
        raw_u8(m, 1); /* method call */
        raw_u8(m, 0);
        raw_u8(m, 1);
        raw_u32(m, 0); /* the body's size: raw_end() */
        raw_u32(m, serial);
        raw_u32(m, 0); /* the fields' size */
        field(m, 1, "o", path);
        if (interface)
                field(m, 2, "s", interface);
        field(m, 3, "s", member);
        field(m, 6, "s", CTXD_BUS_NAME);
        if (signature[0])
                field(m, 8, "g", signature);
        if (n_fds > 0) {
                raw_align(m, 8);
                raw_u8(m, 9);
                raw_u8(m, 1);
                raw_u8(m, 'u');
                raw_u8(m, 0);
                raw_u32(m, n_fds);
        }
        put_u32(m, FIELDS_SIZE_AT, (uint32_t) (m->n - 16));
        raw_align(m, 8);
        body_at = m->n;
}

void raw_end(struct raw *m)
{
        put_u32(m, BODY_SIZE_AT, (uint32_t) (m->n - body_at));
}

void raw_write(int fd, const void *bytes, size_t n)
{
        for (size_t done = 0; done < n;) {
                ssize_t k = send(fd, (const char *) bytes + done, n - done, MSG_NOSIGNAL);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return; /* it may hang up on what we say: that is its answer */
                done += (size_t) k;
        }
}

bool raw_send(int fd, const void *bytes, size_t n, const int *fds, size_t n_fds)
{
        char control[CMSG_SPACE(253 * sizeof(int))] = {};
        struct iovec iov = {.iov_base = (void *) bytes, .iov_len = n};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
        struct cmsghdr *c;

        if (n_fds > 0) {
                m.msg_control = control;
                m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
        }
        return sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t) n;
}

bool raw_is_closed(int fd)
{
        const struct timeval wide = {.tv_sec = WIDE_SEC};
        char bytes[4096];
        ssize_t n;

        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wide, sizeof wide), 0);
        while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0 || (n < 0 && errno == EINTR))
                ; /* a stop interrupts what has a time limit */
        return n == 0 || errno == ECONNRESET;
}

static bool read_all(int fd, void *bytes, size_t n)
{
        for (size_t done = 0; done < n;) {
                ssize_t k = recv(fd, (char *) bytes + done, n - done, 0);

                if (k < 0 && errno == EINTR)
                        continue;
                ck_assert_msg(k >= 0 || errno == ECONNRESET, "no answer: %s", strerror(errno));
                if (k <= 0)
                        return false;
                done += (size_t) k;
        }
        return true;
}

static bool read_line(int fd, char *line, size_t size)
{
        size_t n = 0;

        while (n + 1 < size && read_all(fd, &line[n], 1))
                if (line[n++] == '\n') {
                        line[n] = '\0';
                        return true;
                }
        return false;
}

int raw_connect(void)
{
        const struct timeval wide = {.tv_sec = WIDE_SEC};
        char hello[64], uid[16], line[256];
        size_t n = 0;
        int fd = connect_socket();

        if (fd < 0)
                return -1;
        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wide, sizeof wide), 0);
        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wide, sizeof wide), 0);
        snprintf(uid, sizeof uid, "%u", getuid());
        n = (size_t) sprintf(hello, "%cAUTH EXTERNAL ", '\0');
        for (const char *p = uid; *p; p++)
                n += (size_t) sprintf(hello + n, "%02x", (unsigned) *p);
        n += (size_t) sprintf(hello + n, "\r\n");
        raw_write(fd, hello, n);
        if (!read_line(fd, line, sizeof line) || strncmp(line, "OK ", 3) != 0) {
                close(fd);
                return -1;
        }
        raw_write(fd, "NEGOTIATE_UNIX_FD\r\n", 19);
        if (!read_line(fd, line, sizeof line) || strncmp(line, "AGREE_UNIX_FD", 13) != 0) {
                close(fd);
                return -1;
        }
        raw_write(fd, "BEGIN\r\n", 7);
        return fd;
}

static uint32_t get_u32(const uint8_t *p)
{
        return p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

int raw_read(int fd, char name[128])
{
        static uint8_t rest[1024 * 1024];
        uint8_t head[16];
        size_t fields, body, n;

        name[0] = '\0';
        if (!read_all(fd, head, sizeof head))
                return 0;
        ck_assert_int_eq(head[0], 'l');
        body = get_u32(head + 4);
        fields = (get_u32(head + 12) + 7) / 8 * 8;
        n = fields + body;
        ck_assert_uint_lt(n, sizeof rest);
        if (!read_all(fd, rest, n))
                return 0;
        for (size_t at = 0; at + 8 < fields;) {
                uint8_t code = rest[at], type = rest[at + 2];
                uint32_t length;

                at += 4;
                if (type == 'g') {
                        at += rest[at] + 2U;
                } else if (type == 'u') {
                        at += 4;
                } else {
                        length = get_u32(rest + at);
                        if (code == 4 && length < 128) {
                                memcpy(name, rest + at + 4, length);
                                name[length] = '\0';
                        }
                        at += length + 5;
                }
                at = (at + 7) / 8 * 8;
        }
        return head[1];
}
