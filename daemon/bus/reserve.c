/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/bus/reserve.h"
#include "daemon/model/user.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* In pieces, because a connection of root keeps some of what it was served with. */
#define PIECE_BYTES ((size_t) 64 * 1024)
/* With less than this the C library may not get any more from the kernel. */
#define ENOUGH_BYTES ((size_t) 2 * 1024 * 1024)
#define WARN_INTERVAL_USEC (60 * UINT64_C(1000000))

static void *take(size_t bytes)
{
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return p == MAP_FAILED ? NULL : p;
}

void reserve_init(struct reserve *r)
{
        *r = (struct reserve){};
        for (size_t i = 0; i < RESERVE_DESCRIPTORS; i++)
                r->fds[i] = -1;
}

void reserve_deinit(struct reserve *r)
{
        reserve_give(r);
}

bool reserve_is_about(int error)
{
        return error == -ENOMEM || error == -ENOBUFS || error == -EMFILE || error == -ENFILE;
}

static const struct user *who_has_most(const struct users *users, enum resource resource)
{
        const struct user *most = NULL;

        for (const struct user *u = users->by_uid; u; u = u->hh.next)
                if (!most || u->used[resource] > most->used[resource])
                        most = u;
        return most;
}

static void warn_of_memory(const struct users *users)
{
        const struct user *contexts = who_has_most(users, RESOURCE_CONTEXTS),
                          *bytes = who_has_most(users, RESOURCE_BYTES);

        if (!contexts)
                log_warning("No memory is left, so that connections and calls fail, but for root's");
        else
                log_warning("No memory is left, so that connections and calls fail, but for root's; uid %u "
                            "has "
                            "the most contexts, %" PRIu64 ", and uid %u the most bytes in theirs, %" PRIu64
                            "; LimitDATA= and MemoryMax= of the daemon's unit raise the limit",
                                contexts->uid, contexts->used[RESOURCE_CONTEXTS], bytes->uid,
                                bytes->used[RESOURCE_BYTES]);
}

static void warn_of_descriptors(const struct users *users)
{
        const struct user *most = who_has_most(users, RESOURCE_DESCRIPTORS);

        if (!most)
                log_warning("No descriptor is left for a new connection; LimitNOFILE= raises the limit");
        else
                log_warning("No descriptor is left for a new connection, but for root's; uid %u has the "
                            "most, "
                            "%" PRIu64 "; LimitNOFILE= of the daemon's unit raises the limit",
                                most->uid, most->used[RESOURCE_DESCRIPTORS]);
}

void reserve_note(struct reserve *r, const struct users *users, int error)
{
        bool of_descriptors = error == -EMFILE || error == -ENFILE;
        uint64_t now = now_boottime_usec(), *warned_usec = &r->warned_usec[of_descriptors];

        if (!reserve_is_about(error))
                return;
        r->is_short = true;
        if (*warned_usec > 0 && now - *warned_usec < WARN_INTERVAL_USEC)
                return;
        *warned_usec = now;
        if (of_descriptors)
                warn_of_descriptors(users);
        else
                warn_of_memory(users);
}

void reserve_give(struct reserve *r)
{
        for (size_t i = 0; i < RESERVE_PIECES; i++)
                if (r->pieces[i]) {
                        munmap(r->pieces[i], PIECE_BYTES);
                        r->pieces[i] = NULL;
                }
        for (size_t i = 0; i < RESERVE_DESCRIPTORS; i++) {
                closep(&r->fds[i]);
                r->fds[i] = -1;
        }
}

bool reserve_lend(struct reserve *r, uid_t uid)
{
        if (!r->is_short || uid != 0)
                return false;
        reserve_give(r);
        return true;
}

static int spare_fd(void)
{
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Whether there is more than the reserve. */
static bool is_over(void)
{
        _cleanup_close_ int fd = spare_fd();
        void *more = fd < 0 ? NULL : take(ENOUGH_BYTES);

        if (more)
                munmap(more, ENOUGH_BYTES);
        return more;
}

void reserve_refill(struct reserve *r)
{
        bool has_all = true;

        for (size_t i = 0; i < RESERVE_PIECES && has_all; i++) {
                if (!r->pieces[i])
                        r->pieces[i] = take(PIECE_BYTES);
                has_all = r->pieces[i];
        }
        for (size_t i = 0; i < RESERVE_DESCRIPTORS; i++) {
                if (r->fds[i] < 0)
                        r->fds[i] = spare_fd();
                has_all = has_all && r->fds[i] >= 0;
        }
        r->is_short = r->is_short && !(has_all && is_over());
}
