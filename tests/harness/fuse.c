/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/base.h"
#include "tests/harness/fuse.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define FILE_NODE 2
#define FILE_SIZE 4096

static void answer(int fuse, uint64_t unique, int error, const void *data, size_t size)
{
        char bytes[sizeof(struct fuse_out_header) + FILE_SIZE];
        struct fuse_out_header header = {
                        .len = (uint32_t) (sizeof header + size), .error = error, .unique = unique};

        memcpy(bytes, &header, sizeof header);
        if (size > 0)
                memcpy(bytes + sizeof header, data, size);
        if (write(fuse, bytes, header.len) < 0 && errno != ENOENT)
                _exit(1);
}

static struct fuse_attr attributes(uint64_t node)
{
        return (struct fuse_attr){.ino = node,
                        .mode = node >= FILE_NODE ? S_IFREG | 0666 : S_IFDIR | 0777,
                        .size = node >= FILE_NODE ? FILE_SIZE : 0,
                        .nlink = 1};
}

static volatile sig_atomic_t is_answering;

static void answer_all(int signal_number)
{
        is_answering = 1;
}

/* Closes that were begun. */
static struct {
        uint64_t unique, begin_usec;
} closes[256];
static unsigned n_closes;

static void answer_closes(int fuse, unsigned msec)
{
        for (unsigned i = n_closes; i-- > 0;) {
                bool is_due = msec > 0 && now_monotonic_usec() >= closes[i].begin_usec + msec * 1000;

                if (!is_answering && !is_due)
                        continue;
                answer(fuse, closes[i].unique, 0, NULL, 0);
                closes[i] = closes[--n_closes];
        }
}

/* False: a close may be due first. */
static bool is_asked(int fuse, unsigned msec)
{
        return msec == 0 ||
               poll(&(struct pollfd){.fd = fuse, .events = POLLIN}, 1, n_closes > 0 ? 1 : -1) > 0;
}

static void serve(int fuse, int said, const struct hung_file *h)
{
        bool hangs_in_last_close = h->hangs_in_last_close, was_read = false;
        static char bytes[1 << 17], zeros[FILE_SIZE];
        const struct fuse_in_header *in = (const void *) bytes;

        for (;;) {
                struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096};
                struct fuse_entry_out entry = {};
                struct fuse_attr_out attr;
                struct fuse_open_out open_out = {.fh = 1};
                ssize_t n;

                answer_closes(fuse, h->close_msec);
                if (!is_asked(fuse, h->close_msec))
                        continue;
                n = read(fuse, bytes, sizeof bytes);
                answer_closes(fuse, h->close_msec);
                if (n < 0 && (errno == EINTR || errno == ENOENT))
                        continue;
                if (n < (ssize_t) sizeof *in)
                        _exit(0);
                switch (in->opcode) {
                case FUSE_INIT:
                        init.flags = hangs_in_last_close ? FUSE_WRITEBACK_CACHE : 0;
                        answer(fuse, in->unique, 0, &init, sizeof init);
                        break;
                case FUSE_LOOKUP:
                        entry.nodeid = FILE_NODE + strtoul((const char *) (in + 1), NULL, 10);
                        entry.attr = attributes(entry.nodeid);
                        answer(fuse, in->unique, 0, &entry, sizeof entry);
                        break;
                case FUSE_GETATTR:
                        attr = (struct fuse_attr_out){.attr = attributes(in->nodeid)};
                        answer(fuse, in->unique, 0, &attr, sizeof attr);
                        break;
                case FUSE_OPEN:
                        answer(fuse, in->unique, 0, &open_out, sizeof open_out);
                        break;
                case FUSE_READ:
                        if (!was_read || !h->hangs_in_read) {
                                was_read = true;
                                answer(fuse, in->unique, 0, zeros, sizeof zeros);
                                break;
                        }
                        if (write(said, "", 1) != 1)
                                _exit(1);
                        break;
                case FUSE_FLUSH:
                case FUSE_WRITE:
                        if (in->opcode == FUSE_FLUSH && (hangs_in_last_close || h->hangs_in_read)) {
                                answer(fuse, in->unique, 0, NULL, 0);
                                break;
                        }
                        /* This is what close() waits for. */
                        if (write(said, "", 1) != 1)
                                _exit(1);
                        if (n_closes < ELEMENTSOF(closes)) {
                                closes[n_closes].begin_usec = now_monotonic_usec();
                                closes[n_closes++].unique = in->unique;
                        }
                        answer_closes(fuse, h->close_msec);
                        break;
                case FUSE_RELEASE:
                        answer(fuse, in->unique, 0, NULL, 0);
                        break;
                case FUSE_FORGET:
                case FUSE_BATCH_FORGET:
                case FUSE_INTERRUPT:
                        break;
                default:
                        answer(fuse, in->unique, -ENOSYS, NULL, 0);
                }
        }
}

static bool mount_at(int fuse, const char *directory)
{
        char options[128];

        snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
        return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount("hung", directory, "fuse", MS_NOSUID | MS_NODEV, options) == 0;
}

static _Noreturn void use_file(const char *directory, bool many, uid_t uid,
                void (*fn)(int fd, void *userdata), void *userdata, int done)
{
        pid_t parent = getppid();
        char path[128];
        int fd;

        snprintf(path, sizeof path, "%s/file", directory);
        if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
                give_up("setresuid", errno);
        tie_to_parent(parent);
        fd = many ? open(directory, O_PATH) : open(path, O_RDONLY);
        if (fd < 0)
                give_up(path, errno);
        fn(fd, userdata);
        if (write(done, "", 1) != 1)
                give_up("write", errno);
        for (;;)
                pause();
}

bool hung_file_start(struct hung_file *h, uid_t uid, void (*fn)(int fd, void *userdata), void *userdata)
{
        char directory[] = "/tmp/ctxd-hung-XXXXXX", byte;
        int said[2], done[2];
        bool ready;
        int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);

        if (fuse < 0) {
                fprintf(stderr, "SKIP: /dev/fuse: %s\n", strerror(errno));
                return false;
        }
        if (pipe2(said, O_CLOEXEC) < 0 || pipe2(done, O_CLOEXEC) < 0)
                give_up("pipe", errno);
        directory_make(directory);
        h->said = said[0];
        h->server = fork_tied();
        if (h->server == 0) {
                struct sigaction action = {.sa_handler = answer_all};
                pid_t user;

                sigaction(SIGUSR1, &action, NULL); /* which interrupts a read */

                close(said[0]);
                close(done[0]);
                if (!mount_at(fuse, directory)) {
                        fprintf(stderr, "SKIP: mount of a FUSE file system: %s\n", strerror(errno));
                        _exit(77);
                }
                /* This process alone has the file system's end, so both end together. */
                user = fork_tied();
                if (user == 0) {
                        close(fuse);
                        close(said[1]);
                        use_file(directory, h->hangs_in_last_close, uid, fn, userdata, done[1]);
                }
                close(done[1]);
                alarm(5 * WIDE_SEC); /* nobody is to hang for ever, whatever happens to the test */
                serve(fuse, said[1], h);
        }
        close(fuse);
        close(said[1]);
        close(done[1]);
        ready = read(done[0], &byte, 1) == 1;
        close(done[0]);
        rmdir(directory);
        if (!ready) {
                int status;

                if (waitpid(h->server, &status, 0) != h->server || !WIFEXITED(status) ||
                                WEXITSTATUS(status) != 77)
                        give_up("what used the hung file has failed", 0);
                close(h->said);
        }
        return ready;
}

bool hung_file_is_being_closed(struct hung_file *h)
{
        struct pollfd p = {.fd = h->said, .events = POLLIN};
        char byte;

        return poll(&p, 1, WIDE_SEC * 1000) > 0 && read(h->said, &byte, 1) == 1;
}

void hung_file_answers(const struct hung_file *h)
{
        kill(h->server, SIGUSR1);
}

void hung_file_end(struct hung_file *h)
{
        kill(h->server, SIGKILL);
        waitpid(h->server, NULL, 0);
        close(h->said);
}
