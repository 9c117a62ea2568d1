/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* test-bus TRANSPORT [uids|polkit|kin]: the tests of ctxd on that transport. "uids": the tests that need
 * root, because they act as several users. "polkit": a daemon that asks polkit. "kin": members that the
 * kernel knows through the probe. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "tests/world/group.h"

int main(int argc, char *argv[])
{
        bool is_direct;
        bool has_groups;
        int status;

        world_choose(argc > 1 ? argv[1] : NULL);
        is_direct = world.transport == TRANSPORT_DIRECT;
        if (argc > 2 && strcmp(argv[2], "uids") == 0) {
                if (getuid() != 0) {
                        puts("1..0 # SKIP only root can be several users");
                        return 0;
                }
                if (world.transport == TRANSPORT_DBUS_DAEMON && !bus_can_name_users()) {
                        puts("1..0 # SKIP no mount namespace, in which dbus-daemon would know the users");
                        return 0;
                }
                has_groups = is_direct && !group_missing();
                Suite *several[] = {suite_uids(), suite_identity(), suite_matrix(), suite_modes(),
                                suite_quotas_of_uids(), suite_descriptors(), suite_leaks(), suite_foreign(),
                                suite_turns_of_uids(), suite_hidden(), suite_pools(), suite_endings_of_uids(),
                                is_direct ? suite_slots() : NULL, is_direct ? suite_reserve() : NULL};
                /* The last two are about what a bus has no part in, and make thousands of contexts. */
                status = run_suites(several, ELEMENTSOF(several) - (is_direct ? 0 : 2));
                if (has_groups)
                        group_remove_left();
                return status;
        }

        if (argc > 2 && strcmp(argv[2], "polkit") == 0) {
                if (!polkit_enter())
                        return 0;
                Suite *of_polkit[] = {suite_polkit(), suite_polkit_actions(), suite_polkit_waits(),
                                suite_polkit_agent(), suite_polkit_clients(), suite_pools_of_polkit()};
                return run_suites(of_polkit, ELEMENTSOF(of_polkit));
        }

        if (argc > 2 && strcmp(argv[2], "kin") == 0) {
                Suite *of_members[] = {suite_kin(), suite_members_of_probe(), suite_slots_of_probe()};
                return run_suites(of_members, getuid() == 0 ? 3 : 2); /* the last acts as several users */
        }

        Suite *suites[] = {suite_laws(), suite_ends(), suite_large(), suite_deadlines(), suite_making(),
                        suite_handles(), suite_members(), suite_endings(), suite_query(), suite_signals(),
                        suite_objects(), suite_refusals(), suite_values(), suite_quotas(), suite_garbage(),
                        suite_lazy(), suite_crowd(), suite_turns(), suite_hostile(),
                        is_direct ? NULL : suite_bus_gone()};
        return run_suites(suites, ELEMENTSOF(suites) - is_direct);
}
