/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "daemon/world/anchor.h"
#include "daemon/world/owner.h"
#include "daemon/world/process.h"

int owner_bind(struct anchor *anchor, struct process *p)
{
        int r;

        if (anchor->owner)
                return -EBUSY;
        r = process_watch(p);
        if (r < 0)
                return r;
        anchor->owner = process_ref(p);
        LIST_INSERT_HEAD(&process_ties(p)->owned, anchor, owned);
        return 0;
}

void owner_unbind(struct anchor *anchor)
{
        if (!anchor->owner)
                return;
        LIST_REMOVE(anchor, owned);
        anchor->owner = process_unref(anchor->owner);
}
