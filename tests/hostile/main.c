/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* test-hostile TRANSPORT: one user attacks, and another one's cancels are timed. CK_RUN_CASE=trees, calls,
 * descriptors, members or backends runs some of it. */

#include <stdio.h>
#include <sys/resource.h>

#include "tests/hostile/attack.h"
#include "tests/world/group.h"

#define DESCRIPTORS 12000

int main(int argc, char *argv[])
{
        Suite *s;
        int status;

        world_choose(argc > 1 ? argv[1] : NULL);
        if (getuid() != 0) {
                puts("1..0 # SKIP only root can be several users");
                return 0;
        }
        if (world.transport == TRANSPORT_DBUS_DAEMON && !bus_can_name_users()) {
                puts("1..0 # SKIP no mount namespace, in which dbus-daemon would know the users");
                return 0;
        }
        if (!may_open(DESCRIPTORS)) {
                printf("1..0 # SKIP %d descriptors are needed (ulimit -Hn)\n", DESCRIPTORS);
                return 0;
        }
        /* For the daemon, a bus and Bob: see attack.c. */
        (void) setpriority(PRIO_PROCESS, 0, -20);
        s = suite_create("hostile");
        add_trees(s);
        add_descriptors(s);
        add_members(s);
        /* A flood of connections is the bus's matter, and backends do not know where a call has come from. */
        if (world.transport == TRANSPORT_DIRECT) {
                add_calls(s);
                add_backends(s);
        }
        status = run_suite(s);
        if (world.transport == TRANSPORT_DIRECT)
                group_remove_left();
        return status;
}
