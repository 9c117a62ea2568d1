/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a backend of this room offers to the room: the kernel's maps (bpf.c), or pidfds and control groups
 * (direct.c, cgroup.c). Nobody outside the room includes it. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct attached;
struct member_slot;
struct membership;
struct own_cgroup;
struct process;
struct user;

/* A live task that is a member. */
struct member_record {
        struct member_slot *slot;
        uint32_t policy; /* index */
        uint32_t pid, tid, ppid;
        uid_t uids[3]; /* real, effective, saved */
        uint64_t start_nsec, leader_start_nsec;
        uint64_t pending; /* signals that its parent was about to be given when it was born, where that is known */
        const char *comm;
};

/* Other than 0 ends the walk, and is what it returns. */
typedef int (*member_cb)(void *userdata, const struct member_record *record);

struct membership_backend {
        const char *name;
        /* before the first attach to a slot */
        int (*slot_open)(struct membership *m, struct member_slot *slot);
        /* after the last one; false: somebody is still counted */
        bool (*slot_close)(struct membership *m, struct member_slot *slot);
        int (*attach)(struct membership *m, struct member_slot *slot, struct process *p, uint32_t policy,
                        struct user *user);
        /* or NULL */
        struct member_slot *(*look_up)(struct membership *m, struct process *p, uint32_t *ret_policy);
        void (*set_done)(struct membership *m, struct member_slot *slot);
        uint32_t (*live)(struct membership *m, struct member_slot *slot);  /* 0: the last one has left */
        uint32_t (*count)(struct membership *m, struct member_slot *slot); /* how many are to leave */
        /* of the contexts whose slot is_wanted, or of all */
        int (*each)(struct membership *m, bool all, member_cb cb, void *userdata);
};

/* cgroup.c: the control group of an attached process, where it has one of its own; NULL: none */
struct own_cgroup *own_cgroup_new(struct membership *m, struct attached *a, struct process *p);
struct own_cgroup *own_cgroup_free(struct own_cgroup *g);
bool own_cgroup_is_populated(const struct own_cgroup *g);
int own_cgroup_each(const struct own_cgroup *g, int (*cb)(void *userdata, pid_t pid), void *userdata);
/* Whose group pid is in, or NULL. */
struct attached *own_cgroup_owner(struct membership *m, pid_t pid);
