/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/world/membership/bpf-call.h"
#include "util/cleanup.h"
#include "util/realtime.h"

static int call(enum bpf_cmd command, union bpf_attr *attr)
{
        int r = (int) syscall(SYS_bpf, command, attr, sizeof *attr);

        return r < 0 ? -errno : r;
}

static int element(enum bpf_cmd command, int map, const void *key, const void *value)
{
        struct realtime before;
        union bpf_attr attr;
        int r;

        /* The kernel refuses the call if bytes that it does not know are not 0, padding included. */
        memset(&attr, 0, sizeof attr);
        attr.map_fd = (uint32_t) map;
        attr.key = (uint64_t) (uintptr_t) key;
        attr.value = (uint64_t) (uintptr_t) value;
        attr.flags = BPF_ANY;
        before = realtime_begin();
        r = call(command, &attr);
        realtime_end(before);
        return r;
}

int bpf_map_look_up(int map, const void *key, void *ret_value)
{
        return element(BPF_MAP_LOOKUP_ELEM, map, key, ret_value);
}

int bpf_map_update(int map, const void *key, const void *value)
{
        return element(BPF_MAP_UPDATE_ELEM, map, key, value);
}

int bpf_map_delete(int map, const void *key)
{
        return element(BPF_MAP_DELETE_ELEM, map, key, NULL);
}

int bpf_iterate(int link)
{
        union bpf_attr attr;

        memset(&attr, 0, sizeof attr);
        attr.iter_create.link_fd = (uint32_t) link;
        return call(BPF_ITER_CREATE, &attr);
}

int bpf_iterate_process(int program, int pidfd, uint32_t pid)
{
        _cleanup_close_ int link = -1;
        union bpf_iter_link_info info;
        union bpf_attr attr;

        memset(&info, 0, sizeof info);
        if (pidfd >= 0)
                info.task.pid_fd = (uint32_t) pidfd;
        else
                info.task.pid = pid;
        memset(&attr, 0, sizeof attr);
        attr.link_create.prog_fd = (uint32_t) program;
        attr.link_create.attach_type = BPF_TRACE_ITER;
        attr.link_create.iter_info = (uint64_t) (uintptr_t) &info;
        attr.link_create.iter_info_len = sizeof info;
        link = call(BPF_LINK_CREATE, &attr);
        return link < 0 ? link : bpf_iterate(link);
}

ssize_t bpf_iterator_read(int iterator, void *buffer, size_t size)
{
        struct realtime before;
        ssize_t n;

        do {
                before = realtime_begin();
                n = read(iterator, buffer, size);
                if (n < 0)
                        n = -errno;
                realtime_end(before);
        } while (n == -EINTR || n == -EAGAIN);
        return n;
}

int bpf_iterator_run(int iterator)
{
        _cleanup_close_ int fd = iterator;
        char buffer[512];
        ssize_t n;

        if (fd < 0)
                return fd;
        do
                n = bpf_iterator_read(fd, buffer, sizeof buffer);
        while (n > 0);
        return (int) n;
}

int bpf_map_facts(int map, struct bpf_map_facts *ret)
{
        struct bpf_map_info info;
        union bpf_attr attr;
        int r;

        memset(&info, 0, sizeof info);
        memset(&attr, 0, sizeof attr);
        attr.info.bpf_fd = (uint32_t) map;
        attr.info.info_len = sizeof info;
        attr.info.info = (uint64_t) (uintptr_t) &info;
        r = call(BPF_OBJ_GET_INFO_BY_FD, &attr);
        if (r < 0)
                return r;
        *ret = (struct bpf_map_facts){info.type, info.id, info.key_size, info.value_size, info.max_entries};
        return 0;
}
