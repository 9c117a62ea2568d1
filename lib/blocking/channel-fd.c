/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/blocking/channel.h"

/* The descriptor of a channel: an eventfd that is written to when a receive would not wait any more, and read
 * when it would. Both are asked of the kernel without the functions of libc that pthread_cancel(3) ends,
 * because the lock is held. */

void chan_set_fd(struct ctx_chan *chan)
{
        bool is_readable = chan->n > 0 || chan->closed || !STAILQ_EMPTY(&chan->returned) ||
                           !TAILQ_EMPTY(&chan->senders);
        uint64_t one = 1;

        if (is_readable == chan->is_readable)
                return;
        syscall(is_readable ? SYS_write : SYS_read, chan->fd, &one, sizeof(one));
        chan->is_readable = is_readable;
}

int ctx_chan_fd(struct ctx_chan *chan)
{
        int fd, error;

        if (!chan)
                return -EINVAL;
        lock_acquire(&chan->lock);
        if (chan->fd < 0)
                chan->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        error = errno;
        fd = chan->fd;
        chan_update_fd(chan);
        lock_release(&chan->lock);
        return fd < 0 ? -error : fd;
}
