/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Others are served while much is done for one (law 48). It is counted, and no time is measured. */

#include <check.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/world/world.h"

unsigned n_served;

int serve_another(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        uint64_t n;

        ck_assert_int_eq(read(fd, &n, sizeof n), sizeof n);
        n_served++;
        return 0;
}

void expect_turns(bool (*pending)(void *userdata), void *userdata, const unsigned *value, unsigned most,
                unsigned turns_max)
{
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        unsigned waited = 0, served, before;
        sd_event_source *source;

        ck_assert_int_ge(sd_event_add_io(world.event, &source, fd, EPOLLIN, serve_another, NULL), 0);
        ck_assert_int_eq(eventfd_write(fd, 1), 0);
        while (pending(userdata)) {
                before = *value;
                served = n_served;
                ck_assert_int_gt(sd_event_run(world.event, 60000000), 0);
                ck_assert_uint_le(*value - before, most);
                waited = n_served > served ? 0 : waited + 1;
                ck_assert_uint_le(waited, turns_max);
                if (waited == 0)
                        ck_assert_int_eq(eventfd_write(fd, 1), 0);
        }
        sd_event_source_disable_unref(source);
        close(fd);
}
