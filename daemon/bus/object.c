/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "daemon/bus/object.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* The privilege that a member of a context's own object needs: some members only look. */
static unsigned needed_for(const char *interface, const char *member)
{
        static const struct {
                const char *member;
                enum verb verb;
        } looking[] = {{"Err", VERB_LOOK}, {"Done", VERB_DONE}, {"Undone", VERB_LOOK},
                        {"Drained", VERB_DRAINED}};

        if (interface && strcmp(interface, "org.freedesktop.DBus.Properties") == 0)
                return verb_privilege(VERB_LOOK);
        if (interface && strcmp(interface, CTXD_CONTEXT_INTERFACE) != 0)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(looking); i++)
                if (strcmp(member, looking[i].member) == 0)
                        return verb_privilege(looking[i].verb);
        return verb_privilege(VERB_CANCEL);
}

unsigned object_privilege(struct tree *t, const struct caller *caller, sd_bus_message *m,
                struct reference *ret_reference)
{
        static const char prefix[] = CTXD_CONTEXT_OBJECT "/";
        const char *object = sd_bus_message_get_path(m), *why;
        _cleanup_free_ char *name = NULL;
        struct refused refused = {};
        struct context *c;
        unsigned needed;

        if (strncmp(object, prefix, strlen(prefix)) != 0)
                return 0;
        needed = needed_for(sd_bus_message_get_interface(m), sd_bus_message_get_member(m));
        if (needed == 0 || path_from_object(object, &name) < 0 ||
                        reference_parse(name, caller->uid, false, ret_reference, &why) < 0)
                return 0;
        tree_settle(t, now_boottime_usec());
        if (tree_find(t, caller, name, &c, &refused) >= 0 || refused.privilege == 0)
                return 0;
        return needed;
}
