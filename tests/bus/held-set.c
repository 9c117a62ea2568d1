/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness.h"
#include "held-set.h"

bool missing_start(struct missing *m)
{
        struct uffdio_api api = {.api = UFFD_API};
        struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};

        m->faults = (int) syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
        if (m->faults < 0) {
                fprintf(stderr, "SKIP: userfaultfd: %s\n", strerror(errno));
                return false;
        }
        m->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        range.range.start = (uintptr_t) m->page;
        range.range.len = 4096;
        ck_assert_int_eq(ioctl(m->faults, UFFDIO_API, &api), 0);
        ck_assert_int_eq(ioctl(m->faults, UFFDIO_REGISTER, &range), 0);
        return true;
}

void missing_is_touched(const struct missing *m)
{
        struct uffd_msg fault;

        ck_assert(becomes_readable(m->faults));
        ck_assert_int_eq(read(m->faults, &fault, sizeof fault), sizeof fault);
}

void missing_end(struct missing *m)
{
        struct uffdio_zeropage zero = {.range = {.start = (uintptr_t) m->page, .len = 4096}};

        ck_assert_int_eq(ioctl(m->faults, UFFDIO_ZEROPAGE, &zero), 0);
        close(m->faults);
}

bool held_start(struct held_set *h)
{
        if (!missing_start(&h->missing))
                return false;
        ck_assert_int_ge(h->set = epoll_create1(EPOLL_CLOEXEC), 0);
        ck_assert_int_ge(h->ready = eventfd(1, EFD_CLOEXEC), 0);
        return true;
}

void held_add(const struct held_set *h, int fd)
{
        ck_assert_int_eq(epoll_ctl(h->set, EPOLL_CTL_ADD, fd, &(struct epoll_event){}), 0);
}

static void *wait_into_page(void *userdata)
{
        const struct held_set *h = userdata;

        (void) epoll_wait(h->set, h->missing.page, 1, -1);
        return NULL;
}

void held_lock(struct held_set *h)
{
        const struct epoll_event event = {.events = EPOLLIN};

        ck_assert_int_eq(epoll_ctl(h->set, EPOLL_CTL_ADD, h->ready, (struct epoll_event *) &event), 0);
        ck_assert_int_eq(pthread_create(&h->thread, NULL, wait_into_page, h), 0);
        missing_is_touched(&h->missing);
}

void held_end(struct held_set *h)
{
        missing_end(&h->missing);
        ck_assert_int_eq(pthread_join(h->thread, NULL), 0);
        close(h->ready);
        close(h->set);
}
