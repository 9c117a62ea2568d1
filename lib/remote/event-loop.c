/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <systemd/sd-event.h>

#include "lib/local/callback-thread.h"
#include "lib/local/thread.h"
#include "lib/local/timer.h"
#include "lib/remote/context.h"

/* The library in the program's own event loop. ctx_client_process() does what the library's threads would do:
 * that of the callbacks (local/callback-thread.c) and that of the shared contexts (watch.c). The program
 * polls the epoll set of the first, which has that of the second in it. */

/* One thread at a time takes over. In a child of a fork nothing is taken over, so it guards nothing there. */
static struct lock taking = LOCK_INIT(LOCK_EVENT_LOOP);
static _Atomic bool processing;

/* The event sources of the client that is attached. Only the thread of the loop uses them. */
static struct ctx_client *_Atomic attached;
static sd_event_source *io_source, *time_source;

/* The descriptor, or a negative errno. */
static int take_over(struct ctx_client *client)
{
        THREAD_STAYS;
        int fd, r;

        if (!client)
                return -EINVAL;
        if (client_is_inherited(client))
                return client_set_error(client, -ECHILD,
                                "This connection belongs to the process that made it, before a fork");
        lock_acquire(&taking);
        fd = r = watch_take_over();
        if (r >= 0) {
                r = callback_thread_take_over(fd);
                if (r < 0)
                        watch_give_back();
        }
        lock_release(&taking);
        if (r == -EBUSY)
                return client_set_error(
                                client, r, "The library has a thread already: take it into the loop before");
        return r < 0 ? client_set_error(client, r, NULL) : r;
}

int ctx_client_get_fd(struct ctx_client *client)
{
        return take_over(client);
}

int ctx_client_get_events(struct ctx_client *client)
{
        int r = take_over(client);

        return r < 0 ? r : POLLIN;
}

int ctx_client_get_timeout(struct ctx_client *client, uint64_t *ret_monotonic_usec)
{
        int r = take_over(client);
        uint64_t usec;

        if (r < 0)
                return r;
        usec = timer_retry_usec();
        if (watch_next_usec() < usec)
                usec = watch_next_usec();
        if (ret_monotonic_usec)
                *ret_monotonic_usec = usec;
        return usec != CTX_NEVER;
}

/* Also where an exception of C++ leaves a callback, or its thread ends in it. */
static void end_processing(_Atomic bool **guard)
{
        atomic_store(*guard, false);
}

/* Contexts come first, so that their callbacks run in the same call. A callback may free the client. */
static int process(void)
{
        __attribute__((cleanup(end_processing), unused)) _Atomic bool *guard = &processing;
        bool told = watch_dispatch();

        return callback_thread_dispatch() || told;
}

int ctx_client_process(struct ctx_client *client)
{
        int r = take_over(client);

        if (r < 0)
                return r;
        if (atomic_exchange(&processing, true))
                return client_set_error(client, -EBUSY, "Callbacks are being run");
        return process();
}

static int process_attached(struct ctx_client *client)
{
        int r = ctx_client_process(client);

        /* If the loop runs inside a callback, there is nothing to do yet. */
        return r == -EBUSY ? 0 : r;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        return process_attached(userdata);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        return process_attached(userdata);
}

static int on_prepare(sd_event_source *source, void *userdata)
{
        uint64_t usec;
        int r;

        r = ctx_client_get_timeout(userdata, &usec);
        if (r > 0)
                r = sd_event_source_set_time(time_source, usec);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(time_source, usec == CTX_NEVER ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

static void drop_sources(void)
{
        io_source = sd_event_source_disable_unref(io_source);
        time_source = sd_event_source_disable_unref(time_source);
}

static int add_sources(struct ctx_client *client, sd_event *event, int fd, int64_t priority)
{
        int r;

        r = sd_event_add_io(event, &io_source, fd, POLLIN, on_io, client);
        if (r >= 0)
                r = sd_event_add_time(event, &time_source, CLOCK_MONOTONIC, CTX_NEVER, 1, on_time, client);
        if (r >= 0)
                r = sd_event_source_set_enabled(time_source, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_source_set_priority(io_source, priority);
        if (r >= 0)
                r = sd_event_source_set_priority(time_source, priority);
        if (r >= 0)
                r = sd_event_source_set_prepare(io_source, on_prepare);
        if (r < 0)
                drop_sources();
        return r;
}

int ctx_client_attach_event(struct ctx_client *client, struct sd_event *event, int64_t priority)
{
        THREAD_STAYS;
        struct ctx_client *nobody = NULL;
        sd_event *own = NULL;
        int fd, r;

        fd = take_over(client);
        if (fd < 0)
                return fd;
        if (!atomic_compare_exchange_strong(&attached, &nobody, client))
                return client_set_error(client, -EBUSY, "A client is attached to a loop already");
        r = event ? 0 : sd_event_default(&own);
        if (r >= 0)
                r = add_sources(client, event ? event : own, fd, priority);
        sd_event_unref(own); /* the sources hold a reference */
        if (r < 0) {
                atomic_store(&attached, NULL);
                return client_set_error(client, r, NULL);
        }
        client_ref(client);
        return 0;
}

int ctx_client_detach_event(struct ctx_client *client)
{
        THREAD_STAYS;
        if (!client)
                return -EINVAL;
        if (client_is_inherited(client))
                return client_set_error(client, -ECHILD, "The loop is that of the process before a fork");
        if (atomic_load(&attached) != client)
                return 0;
        drop_sources();
        atomic_store(&attached, NULL);
        ctx_client_unref(client);
        return 1;
}

/* The loop belongs to the parent process. */
static void after_fork_in_child(void)
{
        atomic_store(&taking.word, LOCK_WORD_FREE);
        atomic_store(&processing, false);
        atomic_store(&attached, NULL);
        io_source = time_source = NULL;
}

FORK_PART(.in_child = after_fork_in_child)
