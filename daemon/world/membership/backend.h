/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a backend of this room has to offer. One backend uses the kernel's maps (bpf.c). The other uses pidfds
 * and control groups (direct.c, cgroup.c). Nobody outside the room includes this. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct attached;
struct member_look;
struct member_slot;
struct membership;
struct own_cgroup;
struct process;
struct user;

/* A live task that is a member. */
struct member_record {
        struct member_slot *slot;
        uint32_t policy; /* index into the slot's policies */
        uint32_t pid, tid, ppid;
        uid_t uids[3]; /* real, effective, saved */
        uint64_t start_nsec, leader_start_nsec;
        /* Signals that were pending for its parent when it was born, as a mask; 0 if that is not known. */
        uint64_t pending;
        const char *comm;
};

/* If it returns anything but 0 the look ends, and returns that. */
typedef int (*member_cb)(void *userdata, const struct member_record *record);

struct membership_backend {
        const char *name;
        bool knows_pending; /* at the birth of a task */
        /* Is called before the first attach to a slot. */
        int (*slot_open)(struct membership *m, struct member_slot *slot);
        /* Is called when the slot's context is gone. False: somebody is still counted in it. */
        bool (*slot_close)(struct membership *m, struct member_slot *slot);
        /* -EDQUOT: a charge for *ret_resource was refused. */
        int (*attach)(struct membership *m, struct member_slot *slot, struct process *p, uint32_t policy,
                        int *ret_resource);
        /* 1: *ret is the slot of which the process is a member; 0: it is none; or -errno: that is not
         * known. */
        int (*look_up)(struct membership *m, struct process *p, struct member_slot **ret,
                        uint32_t *ret_policy);
        void (*set_done)(struct membership *m, struct member_slot *slot);
        uint32_t (*live)(struct membership *m, struct member_slot *slot); /* 0: the last one has left */
        /* How many have to leave. NULL: only a look can count them. */
        uint32_t (*count)(struct membership *m, struct member_slot *slot);
        /* Goes on with a look (look.h), as member_look_go() does. */
        int (*look)(struct membership *m, struct member_look *l, uint32_t *budget);
        void (*look_stop)(struct member_look *l); /* closes what it has open */
};

/* cgroup.c: the control group of an attached process. NULL: it has none of its own. */
struct own_cgroup *own_cgroup_new(struct membership *m, struct attached *a, struct process *p);
struct own_cgroup *own_cgroup_free(struct own_cgroup *g);
bool own_cgroup_is_populated(const struct own_cgroup *g);
const char *own_cgroup_directory(const struct own_cgroup *g);
/* The attached process in whose own group pid is, or NULL. */
struct attached *own_cgroup_owner(struct membership *m, pid_t pid);
