/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/epoll-set.h"

/* The set is not in the epoll set of the loop: each descriptor that is then put into it takes a mutex that
 * all users of the machine share. One of them who watches 15,000 descriptors and goes on nesting his own sets
 * makes that wait for 2 to 8 ms. So the loop watches an eventfd. The kernel's asynchronous poll, which needs
 * no such mutex, writes to that when something in the set is ready. Where the kernel has none, the loop
 * watches the set itself. */

/* A wake costs one call, that which arms. The eventfd is watched for its edges, so nobody reads it. And what
 * the kernel says when it has written there is fetched only when its list of that is full. */

#define LIST_MAX 256

static int submit(struct epoll_set *s)
{
        struct iocb *requests[] = {&s->request};

        return syscall(SYS_io_submit, s->aio, 1, requests) == 1 ? 0 : -errno;
}

static void empty_list(const struct epoll_set *s)
{
        struct io_event events[LIST_MAX];

        (void) syscall(SYS_io_getevents, s->aio, 0, LIST_MAX, events, &(struct timespec){});
}

int epoll_set_arm(struct epoll_set *s)
{
        int r;

        if (s->aio == 0 || s->is_armed)
                return 0;
        r = submit(s);
        if (r == -EAGAIN) {
                empty_list(s);
                r = submit(s);
        }
        s->is_armed = r >= 0;
        return r;
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct epoll_set *s = userdata;

        s->is_armed = false;
        return s->ready(NULL, s->userdata);
}

int epoll_set_init(struct epoll_set *s, sd_event *event, sd_event_handler_t ready, void *userdata)
{
        *s = (struct epoll_set){.ready = ready, .userdata = userdata};
        s->fd = epoll_create1(EPOLL_CLOEXEC);
        s->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (s->fd < 0 || s->wake < 0)
                return -errno;
        s->request = (struct iocb){.aio_lio_opcode = IOCB_CMD_POLL,
                        .aio_fildes = (uint32_t) s->fd,
                        .aio_buf = POLLIN,
                        .aio_flags = IOCB_FLAG_RESFD,
                        .aio_resfd = (uint32_t) s->wake};
        if (syscall(SYS_io_setup, 1, &s->aio) < 0)
                s->aio = 0;
        if (epoll_set_arm(s) < 0) {
                (void) syscall(SYS_io_destroy, s->aio);
                s->aio = 0;
        }
        return s->aio != 0 ? sd_event_add_io(event, &s->source, s->wake, EPOLLIN | EPOLLET, on_wake, s)
                           : sd_event_add_io(event, &s->source, s->fd, EPOLLIN, on_wake, s);
}

void epoll_set_deinit(struct epoll_set *s)
{
        sd_event_source_disable_unref(s->source);
        if (s->aio != 0)
                (void) syscall(SYS_io_destroy, s->aio);
        closep(&s->fd);
        closep(&s->wake);
}
