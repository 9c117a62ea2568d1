/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The peer: an sd-bus server that does nothing but answer what ctxd answers. Create gives a path, Done a
 * fresh eventfd, and Cancel writes the last one. */

#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/names.h"
#include "tests/bench/common.h"

static int handle = -1;

static int on_create(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *path;

        if (sd_bus_message_read(m, "s", &path) < 0 || sd_bus_message_skip(m, "a{sv}") < 0)
                return -EINVAL;
        return sd_bus_reply_method_return(m, "sto", path, UINT64_C(17), "/org/ctxd1/context/bench");
}

static int on_done(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        if (handle >= 0)
                close(handle);
        handle = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
        return sd_bus_reply_method_return(m, "h", handle);
}

static int on_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        eventfd_write(handle, UINT64_MAX - 1);
        return sd_bus_reply_method_return(m, "buu", 1, 1, 0);
}

static int on_release(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        return sd_bus_reply_method_return(m, NULL);
}

static const sd_bus_vtable vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD("Create", "sa{sv}", "sto", on_create, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD("Done", "s", "h", on_done, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD("Cancel", "ss", "buu", on_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD("Release", "s", NULL, on_release, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_VTABLE_END,
};

void bare_setup(sd_bus *bus)
{
        if (sd_bus_add_object_vtable(bus, NULL, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, vtable, NULL) < 0)
                DIE("the peer has no object");
}
