/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Loads the BPF programs of ctxd.bpf.c, and reads what they write.
 *
 * ctxd may have kept the membership programs (the maps, the hooks, adopt and list) from an earlier probe.
 * Then only the sweeps are loaded, and they use the kept maps.
 *
 * Once all is loaded, no capability is needed any more: an iterator is read through its link, and anybody
 * may make a link of a loaded program that is limited to one thread. */

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "bpf/backend.h"
#include "bpf/look.h"
#include "bpf/syscall.h"
#include "bpf/watch.h"
#include "util/cleanup.h"
#include "util/realtime.h"
#include "proto/membership.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include "bpf/ctxd.skel.h"
#pragma GCC diagnostic pop

struct bpf_backend {
        struct backend backend;
        struct ctxd_bpf *skeleton;
        struct bpf_link *sweep;
        struct bpf_link *links[PROBE_FDS]; /* made by us; NULL where ctxd kept one */
        int fds[PROBE_FDS];                /* all of them; we own these */
};

static const size_t map_value_size[PROBE_FDS] = {
                [PROBE_FD_MEMBERS] = sizeof(struct membership_value),
                [PROBE_FD_SLOTS] = sizeof(struct membership_slot),
                [PROBE_FD_STATS] = sizeof(struct membership_stats),
                [PROBE_FD_REQUESTS] = sizeof(struct membership_value),
                [PROBE_FD_PROCESSES] = sizeof(struct membership_processes),
};

__attribute__((format(printf, 2, 0))) static int quiet(
                enum libbpf_print_level level, const char *format, va_list args)
{
        if (level != LIBBPF_WARN || !getenv("CTXD_DEBUG"))
                return 0;
        return vfprintf(stderr, format, args);
}

static struct bpf_backend *bpf_backend(struct backend *backend)
{
        return (struct bpf_backend *) backend;
}

/* Reads an iterator to its end, into a buffer that grows. Returns the number of bytes. */
static ssize_t iterator_read(int link_fd, char **ret)
{
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *buffer = NULL;
        size_t size = 0, n = 0;

        fd = bpf_iter_create(link_fd);
        if (fd < 0)
                return -errno;
        for (;;) {
                struct realtime before;
                ssize_t k;
                int error;

                if (size - n < 65536) {
                        char *larger = realloc(buffer, size + 262144);

                        if (!larger)
                                return -ENOMEM;
                        buffer = larger;
                        size += 262144;
                }
                /* choose.c has made sure that we may do this. */
                before = realtime_begin();
                k = read(fd, buffer + n, size - n);
                error = k < 0 ? errno : 0;
                realtime_end(before);
                if (error == EAGAIN || error == EINTR)
                        continue;
                if (k < 0)
                        return -error;
                if (k == 0)
                        break;
                n += (size_t) k;
        }
        *ret = TAKE_PTR(buffer);
        return (ssize_t) n;
}

/* The same, limited to one thread. */
static ssize_t iterator_read_thread(struct bpf_program *program, uint32_t tid, char **ret)
{
        union bpf_iter_link_info info = {.task.tid = tid};
        LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof info);
        _cleanup_close_ int link = -1;

        link = bpf_link_create(bpf_program__fd(program), 0, BPF_TRACE_ITER, &opts);
        if (link < 0)
                return -errno;
        return iterator_read(link, ret);
}

static int bpf_sweep(struct backend *backend, const struct watches *watches, sample_func func, void *userdata)
{
        struct bpf_backend *b = bpf_backend(backend);
        _cleanup_free_ char *buffer = NULL;
        /* Leaves the CPU for a moment. The programs work out how long others have slept from the time at
         * which this thread last got a CPU. */
        struct timespec moment = {.tv_nsec = 1};
        ssize_t n;

        nanosleep(&moment, NULL);
        n = iterator_read(bpf_link__fd(b->sweep), &buffer);
        if (n < 0)
                return (int) n;
        for (size_t i = 0; i + sizeof(struct sample) <= (size_t) n; i += sizeof(struct sample))
                func((const struct sample *) (buffer + i), userdata);
        return (int) ((size_t) n / sizeof(struct sample));
}

static int bpf_again(struct backend *backend, const struct sample *sample, struct sample *ret)
{
        struct bpf_backend *b = bpf_backend(backend);
        _cleanup_free_ char *buffer = NULL;
        ssize_t n;

        n = iterator_read_thread(b->skeleton->progs.sweep, sample->tid, &buffer);
        if (n < 0)
                return (int) n;
        if ((size_t) n < sizeof *ret)
                return -ESRCH;
        memcpy(ret, buffer, sizeof *ret);
        return 0;
}

static int bpf_evidence(struct backend *backend, const struct sample *sample, struct evidence *ret,
                char *ret_stack, size_t size)
{
        struct bpf_backend *b = bpf_backend(backend);
        _cleanup_free_ char *buffer = NULL;
        ssize_t n;
        size_t text;

        b->skeleton->bss->scratch_place = look_place();
        n = iterator_read_thread(b->skeleton->progs.evidence, sample->tid, &buffer);
        if (n < 0)
                return (int) n;
        if ((size_t) n < sizeof *ret)
                return -ESRCH;
        memcpy(ret, buffer, sizeof *ret);
        text = (size_t) n - sizeof *ret;
        if (text >= size)
                text = size - 1;
        memcpy(ret_stack, buffer + sizeof *ret, text);
        ret_stack[text] = '\0';
        return 0;
}

static int bpf_describe(struct backend *backend, const struct sample *sample, int fd, struct described *ret)
{
        struct bpf_backend *b = bpf_backend(backend);
        _cleanup_free_ char *buffer = NULL;
        ssize_t n;

        b->skeleton->bss->scratch_place = look_place();
        b->skeleton->bss->wanted_fd = (uint32_t) fd;
        n = iterator_read_thread(b->skeleton->progs.describe, sample->tid, &buffer);
        if (n < 0)
                return (int) n;
        if (n == 0)
                return -EBADF;
        if ((size_t) n < sizeof *ret)
                return -EBADMSG;
        memcpy(ret, buffer, sizeof *ret);
        return 0;
}

static bool bpf_maps(struct backend *backend, const struct sample *sample, uint32_t uid)
{
        struct bpf_backend *b = bpf_backend(backend);
        _cleanup_free_ char *buffer = NULL;

        b->skeleton->bss->wanted_uid = uid;
        return iterator_read_thread(b->skeleton->progs.mapping, sample->tid, &buffer) > 0;
}

/* Such threads are few, and they change seldom, so the whole map is written anew. */
static void bpf_entered(struct backend *backend, const struct watches *watches)
{
        struct bpf_backend *b = bpf_backend(backend);
        int map = bpf_map__fd(b->skeleton->maps.entered);
        struct watch *watch, *next;
        uint32_t tid, n = 0;

        while (bpf_map_get_next_key(map, NULL, &tid) == 0)
                if (bpf_map_delete_elem(map, &tid) < 0)
                        break;
        HASH_ITER (hh, watches->by_id, watch, next)
                for (uint32_t i = 0; i < watch->n_entered; i++) {
                        struct entered entered = {
                                        .context_id = watch->context_id,
                                        .pid = watch->entered[i].pid,
                                        .slot = watch->record.slot,
                        };

                        if (watch->entered[i].is_looked_at)
                                n += bpf_map_update_elem(map, &watch->entered[i].tid, &entered, BPF_ANY) == 0;
                }
        b->skeleton->bss->n_entered = n;
}

static void bpf_free(struct backend *backend)
{
        struct bpf_backend *b = bpf_backend(backend);

        for (size_t i = 0; i < PROBE_FDS; i++) {
                bpf_link__destroy(b->links[i]);
                closep(&b->fds[i]);
        }
        bpf_link__destroy(b->sweep);
        ctxd_bpf__destroy(b->skeleton);
        free(b);
}

static const struct backend_ops bpf_ops = {
                .kind = PROBE_BACKEND_BPF,
                .sweep = bpf_sweep,
                .again = bpf_again,
                .evidence = bpf_evidence,
                .describe = bpf_describe,
                .maps = bpf_maps,
                .entered = bpf_entered,
                .free = bpf_free,
};

static struct bpf_map *map_of(struct ctxd_bpf *skeleton, enum probe_fd which)
{
        switch (which) {
        case PROBE_FD_MEMBERS:
                return skeleton->maps.members;
        case PROBE_FD_SLOTS:
                return skeleton->maps.slots;
        case PROBE_FD_EVENTS:
                return skeleton->maps.events;
        case PROBE_FD_STATS:
                return skeleton->maps.stats;
        case PROBE_FD_REQUESTS:
                return skeleton->maps.requests;
        case PROBE_FD_PROCESSES:
                return skeleton->maps.processes;
        default:
                return NULL;
        }
}

static struct bpf_program *program_of(struct ctxd_bpf *skeleton, enum probe_fd which)
{
        switch (which) {
        case PROBE_FD_ADOPT:
        case PROBE_FD_ADOPT_PROGRAM:
                return skeleton->progs.adopt;
        case PROBE_FD_LIST:
        case PROBE_FD_LIST_PROGRAM:
                return skeleton->progs.list;
        case PROBE_FD_FORK:
                return skeleton->progs.on_fork;
        case PROBE_FD_EXIT:
                return skeleton->progs.on_exit;
        default:
                return NULL;
        }
}

static int map_id(int fd, uint32_t *ret_value_size)
{
        struct bpf_map_info info = {};
        uint32_t size = sizeof info;

        if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
                return -errno;
        if (ret_value_size)
                *ret_value_size = info.value_size;
        return (int) info.id;
}

/* Uses the kept maps instead of new ones, and does not load the programs that the kept links already run. */
static int take_over(struct ctxd_bpf *skeleton, const int *kept)
{
        int r;

        for (enum probe_fd i = 0; i < PROBE_FDS; i++) {
                struct bpf_map *map = map_of(skeleton, i);
                struct bpf_program *program = program_of(skeleton, i);
                uint32_t value_size = 0;

                if (map) {
                        if (map_id(kept[i], &value_size) < 0 || value_size != map_value_size[i])
                                return -EUCLEAN;
                        r = bpf_map__reuse_fd(map, kept[i]);
                } else {
                        r = bpf_program__set_autoload(program, false);
                }
                if (r < 0)
                        return r;
        }
        return bpf_map__set_autocreate(skeleton->maps.missed, false);
}

static int attach(struct bpf_backend *b, const int *kept)
{
        b->sweep = bpf_program__attach_iter(b->skeleton->progs.sweep, NULL);
        if (!b->sweep)
                return -errno;
        for (enum probe_fd i = 0; i < PROBE_FDS; i++) {
                struct bpf_map *map = map_of(b->skeleton, i);
                struct bpf_program *program = program_of(b->skeleton, i);
                int fd;

                if (kept) {
                        fd = kept[i];
                } else if (map) {
                        fd = bpf_map__fd(map);
                } else if (i == PROBE_FD_ADOPT_PROGRAM || i == PROBE_FD_LIST_PROGRAM) {
                        fd = bpf_program__fd(program);
                } else {
                        b->links[i] = bpf_program__attach(program);
                        if (!b->links[i])
                                return -errno;
                        fd = bpf_link__fd(b->links[i]);
                }
                b->fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
                if (b->fds[i] < 0)
                        return -errno;
        }
        return 0;
}

static void explain(int error, char *ret_reason, size_t size)
{
        if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
                snprintf(ret_reason, size,
                                "the kernel does not describe its types (/sys/kernel/btf/vmlinux: %s)",
                                strerror(errno));
        else if (error == -EPERM)
                snprintf(ret_reason, size,
                                "the kernel does not permit BPF programs here (it wants CAP_BPF and "
                                "CAP_PERFMON, and no "
                                "lockdown)");
        else if (error == -EACCES)
                snprintf(ret_reason, size, "this kernel's verifier refuses the BPF programs");
        else if (error == -EUCLEAN)
                snprintf(ret_reason, size, "what was kept are not the maps of this version");
        else
                snprintf(ret_reason, size, "the BPF programs could not be loaded: %s", strerror(-error));
}

int backend_bpf_new(const int *kept, struct backend **ret, char *ret_reason, size_t size)
{
        struct bpf_backend *b;
        int r;

        libbpf_set_print(quiet);
        b = calloc(1, sizeof *b);
        if (!b)
                return -ENOMEM;
        b->backend.ops = &bpf_ops;
        for (size_t i = 0; i < PROBE_FDS; i++)
                b->fds[i] = -1;

        r = -ENOMEM;
        b->skeleton = ctxd_bpf__open();
        if (!b->skeleton) {
                r = errno > 0 ? -errno : -ENOMEM;
                goto fail;
        }
        b->skeleton->rodata->syscall_poll = syscall_number("poll");
        b->skeleton->rodata->syscall_ppoll = syscall_number("ppoll");
        b->skeleton->rodata->syscall_open = syscall_number("open");
        b->skeleton->rodata->syscall_openat = syscall_number("openat");
        b->skeleton->rodata->syscall_connect = syscall_number("connect");
        b->skeleton->rodata->syscall_sendto = syscall_number("sendto");
        if (kept) {
                r = take_over(b->skeleton, kept);
                if (r < 0)
                        goto fail;
        }
        r = ctxd_bpf__load(b->skeleton);
        if (r < 0)
                goto fail;
        r = attach(b, kept);
        if (r < 0)
                goto fail;
        *ret = &b->backend;
        return 0;

fail:
        explain(r, ret_reason, size);
        bpf_free(&b->backend);
        return r;
}

int backend_bpf_fds(struct backend *backend, int ret_fds[PROBE_FDS])
{
        memcpy(ret_fds, bpf_backend(backend)->fds, sizeof(bpf_backend(backend)->fds));
        return 0;
}

bool backend_bpf_has(struct backend *backend, const int *kept)
{
        int ours, theirs;

        if (backend_kind(backend) != PROBE_BACKEND_BPF)
                return false;
        ours = map_id(bpf_backend(backend)->fds[PROBE_FD_MEMBERS], NULL);
        theirs = map_id(kept[PROBE_FD_MEMBERS], NULL);
        return ours > 0 && ours == theirs;
}
