/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/bus.h"

int verb_release(struct ctl *ctl, int argc, char *argv[])
{
        int r;

        if (!read_arguments(ctl, argc, argv, 1, -1, &r))
                return r;
        for (int i = optind; i < argc; i++) {
                r = bus_call(ctl, NULL, "Release", "s", argv[i]);
                if (r > 0)
                        return r;
        }
        return EXIT_DONE;
}
