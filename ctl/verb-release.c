/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/bus.h"

int verb_release(struct ctl *ctl, int argc, char *argv[])
{
        int r, status = EXIT_DONE;

        if (!read_arguments(ctl, argc, argv, 1, -1, &r))
                return r;
        r = bus_connect(ctl);
        if (r > 0)
                return r;
        /* One that cannot be released does not keep the others. */
        for (int i = optind; i < argc; i++) {
                r = bus_call(ctl, NULL, "Release", "s", argv[i]);
                if (status == EXIT_DONE)
                        status = r;
        }
        return status;
}
